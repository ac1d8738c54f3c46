/**
 * One measurement of our whole SimCLR step, for bench/training.ts: prints one JSON line, which contains `unsupported`
 * if this device has no kernels for the precision.
 *
 * Arguments: architecture, side of the views in px, side of the images in px, images, steps, float32 or bfloat16.
 */
import { z } from 'zod';
import { architectureNamed } from '../src/formats/encoders/index.ts';
import { createAugmenter } from '../workers/engine/augment/augmenter.ts';
import { DEFAULT_AUGMENTATION, pairOf } from '../workers/engine/augment/config.ts';
import { createRandom } from '../workers/engine/rng.ts';
import { asRank4, engineInfo, tf } from '../workers/engine/tensorflow.ts';
import { UnsupportedPrecisionError } from '../workers/engine/kernels/compute-dtype.ts';
import { createTrainer, type Trainer } from '../workers/engine/train/trainer.ts';
import { TRAINED_ENCODERS } from './trained-encoders.ts';

const WARMUP_STEPS = 2;
const architecture = z.enum(TRAINED_ENCODERS).parse(process.argv[2]);
const [viewSidePx = 64, imageSidePx = 128, imageCount = 32, stepCount = 10] = process.argv.slice(3, 7).map(Number);
const computeDtype = process.argv[7] === 'bfloat16' ? 'bfloat16' : 'float32';

const random = createRandom(1);
const augmenter = createAugmenter(pairOf({ sizePx: viewSidePx, augmentation: DEFAULT_AUGMENTATION }));
const totalSteps = WARMUP_STEPS + stepCount;
const trainer = makeTrainer();
const pixels = Uint8Array.from({ length: imageCount * imageSidePx ** 2 * 3 }, () => random.between(0, 256));

const durationsMs: number[] = [];
const viewsMs: number[] = [];
const cpuMs: number[] = [];
for (let step = 0; step < totalSteps; step += 1) {
  const startedAt = performance.now();
  const cpuBefore = process.cpuUsage();
  const images = asRank4(tf.tensor(pixels, [imageCount, imageSidePx, imageSidePx, 3], 'int32'));
  const views = augmenter.views(images, random);
  const madeAt = performance.now();
  await trainer.step(views);
  tf.dispose([images, views]);
  if (step < WARMUP_STEPS) continue;
  const { user, system } = process.cpuUsage(cpuBefore);
  cpuMs.push((user + system) / 1000);
  durationsMs.push(performance.now() - startedAt);
  viewsMs.push(madeAt - startedAt);
}
const peakRssMb = process.resourceUsage().maxRSS / 1024;
console.log(
  JSON.stringify({
    durationsMs,
    viewsMs,
    cpuMs,
    peakRssMb,
    library: `${engineInfo().library} ${engineInfo().version}`,
    device: engineInfo().device,
  }),
);

function makeTrainer(): Trainer {
  try {
    return createTrainer({
      architecture: architectureNamed(architecture),
      method: { name: 'SIMCLR', projectionDim: 128, temperature: 0.5 },
      totalSteps,
      warmupSteps: 0,
      peakLearningRate: architecture === 'VIT_S16' ? 1e-4 : 0.3,
      optimizer:
        architecture === 'VIT_S16'
          ? { name: 'ADAMW', beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 0.1 }
          : { name: 'LARS', momentum: 0.9, weightDecay: 1e-6 },
      seedRandom: random.fork('weights'),
      computeDtype,
    });
  } catch (error) {
    if (!(error instanceof UnsupportedPrecisionError)) throw error;
    console.log(JSON.stringify({ unsupported: error.message }));
    process.exit(0);
  }
}
