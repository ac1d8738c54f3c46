/**
 * The measured half of `npm run bench:profile`, in a process that is started like a worker's child. Arguments: side of
 * the views in px, batch size, precision, optimizer, encoder. Prints
 * JSON.
 *
 * It takes the trainer's step apart (workers/engine/train/trainer.ts), phase by phase. For each phase and each op it
 * reports the fastest of twenty steps, to exclude other work on the machine. TensorFlow's CPU ops block, so the time of
 * an op is that of its call; on a GPU it is only the time to launch it.
 */
import { z } from 'zod';
import { architectureNamed, describeEncoder, usualPooling } from '../src/formats/encoders/index.ts';
import { createAugmenter } from '../workers/engine/augment/augmenter.ts';
import { DEFAULT_AUGMENTATION, pairOf } from '../workers/engine/augment/config.ts';
import { canComputeIn } from '../workers/engine/kernels/compute-dtype.ts';
import { ntXent } from '../workers/engine/losses/nt-xent.ts';
import { ProjectionHead, randomProjectionHead } from '../workers/engine/models/projection-head.ts';
import { openTrainableEncoder, untrainedWeights } from '../workers/engine/encoders/index.ts';
import { createOptimizer, type OptimizerConfig } from '../workers/engine/optim/index.ts';
import { createRandom } from '../workers/engine/rng.ts';
import { asRank4, engineInfo, observeOps, readFloats, tf } from '../workers/engine/tensorflow.ts';
import { TRAINED_ENCODERS } from './trained-encoders.ts';

const STEPS = 20;
const WARMUP_STEPS = 3;
const PROJECTION_DIM = 128;
const TEMPERATURE = 0.5;
const ADAM = { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 1e-4 };
const OPTIMIZERS: readonly OptimizerConfig[] = [
  { name: 'LARS', momentum: 0.9, weightDecay: 1e-6 },
  { name: 'SGD', momentum: 0.9, nesterov: false, weightDecay: 1e-4 },
  { name: 'ADAM', ...ADAM },
  { name: 'ADAMW', ...ADAM },
];

const [viewSidePx = 64, batchSize = 32] = process.argv.slice(2, 4).map(Number);
const imageSidePx = Math.max(128, viewSidePx);
const computeDtype = process.argv[4] === 'bfloat16' ? 'bfloat16' : 'float32';
const optimizerConfig = OPTIMIZERS.find(({ name }) => name === process.argv[5]);
if (optimizerConfig === undefined) throw new Error('Name the optimizer.');
if (!canComputeIn(computeDtype)) {
  process.stderr.write(`This device cannot compute in ${computeDtype}.\n`);
  process.exit(1);
}

/** The fastest time so far. `place` is the op's index in the step. */
interface Timed {
  readonly phase: string;
  readonly name: string;
  readonly durationMs: number;
}

const random = createRandom(1);
const augmenter = createAugmenter(pairOf({ sizePx: viewSidePx, augmentation: DEFAULT_AUGMENTATION }));
const architecture = architectureNamed(z.enum(TRAINED_ENCODERS).parse(process.argv[6]));
const encoder = openTrainableEncoder(
  architecture,
  untrainedWeights(architecture, random.fork('encoder')),
  usualPooling(describeEncoder(architecture)),
  { computeDtype },
);
const head = new ProjectionHead(
  encoder.embeddingDim,
  PROJECTION_DIM,
  randomProjectionHead(encoder.embeddingDim, PROJECTION_DIM, random.fork('head')),
);
const optimizer = createOptimizer([...encoder.parameters, ...head.parameters], optimizerConfig);
const pixels = Uint8Array.from({ length: batchSize * imageSidePx ** 2 * 3 }, () => random.between(0, 256));

const fastestPhases = new Map<string, number>();
const fastestOps: Timed[] = [];
let fastestStepMs = Number.POSITIVE_INFINITY;
for (let step = 0; step < WARMUP_STEPS + STEPS; step += 1) takeStep(step >= WARMUP_STEPS);
observeOps(undefined);

const ops = summed(fastestOps, ({ name }) => name).sort((left, right) => right.durationMs - left.durationMs);
const phases = summed(fastestOps, ({ phase }) => phase).map(({ name, count, durationMs }) => ({
  name,
  durationMs: rounded(fastestPhases.get(name) ?? Number.NaN),
  opCount: count,
  opsMs: durationMs,
}));
console.log(
  JSON.stringify(
    {
      engine: engineInfo(),
      encoder: process.argv[6],
      viewSidePx,
      batchSize,
      computeDtype,
      optimizer: optimizerConfig.name,
      stepMs: rounded(fastestStepMs),
      phases,
      ops,
    },
    null,
    2,
  ),
);

function takeStep(isMeasured: boolean): void {
  let phaseNow = '';
  let place = 0;
  if (isMeasured) {
    observeOps((name, durationMs) => {
      fastestOps[place] = {
        phase: phaseNow,
        name,
        durationMs: Math.min(durationMs, fastestOps[place]?.durationMs ?? Number.POSITIVE_INFINITY),
      };
      place += 1;
    });
  }
  const phase = <Result>(name: string, work: () => Result): Result => {
    phaseNow = name;
    const startedAt = performance.now();
    const result = work();
    if (isMeasured)
      fastestPhases.set(
        name,
        Math.min(performance.now() - startedAt, fastestPhases.get(name) ?? Number.POSITIVE_INFINITY),
      );
    return result;
  };
  const startedAt = performance.now();
  const views = phase('views', () => {
    const images = asRank4(tf.tensor(pixels, [batchSize, imageSidePx, imageSidePx, 3], 'int32'));
    const made = augmenter.views(images, random);
    images.dispose();
    return made;
  });
  const embeddings = phase('forward', () => encoder.forward(views, () => random));
  const embeddingGradient = phase('head and loss', () => {
    const projections = head.forward(embeddings);
    const { loss, gradient, positiveSimilarity } = ntXent(projections, TEMPERATURE);
    const arriving = head.backward(gradient);
    tf.dispose([projections, loss, gradient, positiveSimilarity]);
    return arriving;
  });
  phase('backward', () => encoder.backward(embeddingGradient));
  phase('optimizer', () => {
    const update = optimizer.prepare();
    update.apply({ stepIndex: 0, learningRate: 1e-3 }, readFloats(update.halfSquaredNorms));
    update.dispose();
    encoder.commitStatistics();
  });
  tf.dispose([views, embeddings, embeddingGradient]);
  if (isMeasured) fastestStepMs = Math.min(fastestStepMs, performance.now() - startedAt);
}

function summed(
  timed: readonly Timed[],
  nameOf: (op: Timed) => string,
): { readonly name: string; readonly count: number; readonly durationMs: number }[] {
  return [...Map.groupBy(timed, nameOf)].map(([name, calls]) => ({
    name,
    count: calls.length,
    durationMs: rounded(calls.reduce((sum, { durationMs }) => sum + durationMs, 0)),
  }));
}

function rounded(milliseconds: number): number {
  return Math.round(milliseconds * 100) / 100;
}
