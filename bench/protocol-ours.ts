/**
 * A training that reports its steps to a registry, and the same training that reports nothing, in turn and in one
 * process, for bench/protocol.ts: prints one JSON line.
 *
 * Arguments: URL of the registry, id of the run, rounds, steps of a round. The token of the run is in BENCH_RUN_TOKEN.
 */
import { architectureNamed } from '../src/formats/encoders/index.ts';
import { createAugmenter } from '../workers/engine/augment/augmenter.ts';
import { DEFAULT_AUGMENTATION, pairOf } from '../workers/engine/augment/config.ts';
import { createRandom } from '../workers/engine/rng.ts';
import { asRank4, tf } from '../workers/engine/tensorflow.ts';
import { createTrainer } from '../workers/engine/train/trainer.ts';
import { createProgressReporter } from '../workers/progress-reporter.ts';
import { createRunRegistry } from '../workers/registry/http.ts';
import type { ProtocolRound, SteppedHalf } from './protocol.ts';

const WARMUP_STEPS = 4;
const IMAGE_COUNT = 16;
const VIEW_SIDE_PX = 64;
const [url = '', runId = ''] = process.argv.slice(2, 4);
const [roundCount = 5, stepCount = 10] = process.argv.slice(4, 6).map(Number);

// As in the process of a run.
const registry = createRunRegistry({ url, token: process.env['BENCH_RUN_TOKEN'] ?? '' }, runId, { patience: {} });
const reporter = createProgressReporter(async (report) => void (await registry.report(report)));
const totalSteps = WARMUP_STEPS + 2 * roundCount * stepCount;
const random = createRandom(1);
const augmenter = createAugmenter(pairOf({ sizePx: VIEW_SIDE_PX, augmentation: DEFAULT_AUGMENTATION }));
const trainer = createTrainer({
  architecture: architectureNamed('RESNET18'),
  method: { name: 'SIMCLR', projectionDim: 128, temperature: 0.5 },
  ...{ totalSteps, warmupSteps: 0 },
  ...{ peakLearningRate: 0.3, optimizer: { name: 'LARS', momentum: 0.9, weightDecay: 1e-6 } },
  ...{ seedRandom: random.fork('weights'), computeDtype: 'float32' },
});
const pixels = Uint8Array.from({ length: IMAGE_COUNT * (2 * VIEW_SIDE_PX) ** 2 * 3 }, () => random.between(0, 256));

let step = 0;
async function takeStep(isReported: boolean, inCalls: (ms: number) => void): Promise<void> {
  const images = asRank4(tf.tensor(pixels, [IMAGE_COUNT, 2 * VIEW_SIDE_PX, 2 * VIEW_SIDE_PX, 3], 'int32'));
  const views = augmenter.views(images, random);
  const { series, ...metrics } = await trainer.step(views);
  tf.dispose([images, views]);
  step += 1;
  if (!isReported) return;
  const startedMs = performance.now();
  await reporter.recordMetrics(step / totalSteps, { step, metrics: { ...metrics, ...series, imagesPerSecond: 1 } });
  inCalls(performance.now() - startedMs);
}

async function half(isReported: boolean): Promise<SteppedHalf> {
  const cpuBefore = process.cpuUsage();
  const durationsMs: number[] = [];
  let inCallsMs = 0;
  for (let index = 0; index < stepCount; index += 1) {
    const startedMs = performance.now();
    await takeStep(isReported, (ms) => (inCallsMs += ms));
    durationsMs.push(performance.now() - startedMs);
  }
  // What is still on its way belongs to the half that began it.
  if (isReported) await reporter.flush();
  const { user, system } = process.cpuUsage(cpuBefore);
  return { durationsMs, inCallsMs, cpuMs: (user + system) / 1000 };
}

for (let index = 0; index < WARMUP_STEPS; index += 1) await takeStep(false, () => undefined);
const rounds: ProtocolRound[] = [];
for (let round = 0; round < roundCount; round += 1) {
  // Each half is first in every other round.
  const first = await half(round % 2 === 0);
  const second = await half(round % 2 === 1);
  rounds.push(round % 2 === 0 ? { reported: first, silent: second } : { reported: second, silent: first });
}
console.log(JSON.stringify({ rounds }));
process.exit(0);
