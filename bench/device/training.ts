/** The SimCLR training that the programs of the device bench take their steps from. */
import { architectureNamed } from '../../src/formats/encoders/index.ts';
import { createRandom } from '../../workers/engine/rng.ts';
import { asRank4, tf, type Tensor4D } from '../../workers/engine/tensorflow.ts';
import { createTrainer, type Trainer } from '../../workers/engine/train/trainer.ts';
import type { TrainingArguments } from './training-arguments.ts';

/** SGD with momentum, whose velocity after the first step is the gradient. */
export function openTrainer({ encoder, precision }: TrainingArguments, totalSteps: number): Trainer {
  return createTrainer({
    architecture: architectureNamed(encoder),
    method: { name: 'SIMCLR', projectionDim: 128, temperature: 0.5 },
    ...{ totalSteps, warmupSteps: 0, peakLearningRate: 0.01 },
    optimizer: { name: 'SGD', momentum: 0.9, nesterov: false, weightDecay: 0 },
    seedRandom: createRandom(1),
    computeDtype: precision,
  });
}

/**
 * Two noisy views of each image, [2N, S, S, 3], the same for every device. Each image has colours, stripes and a
 * direction of its own: from images of pure noise an encoder makes nearly equal embeddings, whose gradient is mostly
 * rounding.
 * @param nudge above 0: each value is moved by one unit in the last place, up or down as this seed draws it.
 */
export function drawnViews({ imageCount, viewSidePx }: TrainingArguments, nudge = 0): Tensor4D {
  const random = createRandom(7);
  const direction = createRandom(nudge);
  const channels = Array.from({ length: 3 * imageCount }, () => ({
    mean: random.between(-0.5, 0.5),
    waves: [random.between(-16, 16), random.between(-16, 16)] as const,
    phase: random.between(0, 2 * Math.PI),
  }));
  const size = imageCount * viewSidePx ** 2 * 3;
  const values = Float32Array.from({ length: 2 * size }, (_, index) => {
    const pixel = Math.floor((index % size) / 3);
    const [x, y] = [pixel % viewSidePx, Math.floor(pixel / viewSidePx) % viewSidePx];
    const channel = channels[3 * Math.floor(pixel / viewSidePx ** 2) + (index % 3)];
    if (channel === undefined) throw new RangeError(`The index ${index} lies behind the last value.`);
    const { mean, waves, phase } = channel;
    const stripes = 0.4 * Math.sin((2 * Math.PI * (waves[0] * x + waves[1] * y)) / viewSidePx + phase);
    const value = Math.fround(mean + stripes + 0.1 * random.normal());
    return nudge === 0 ? value : value * (1 + (direction.uniform() < 0.5 ? -1 : 1) * 2 ** -23);
  });
  return asRank4(tf.tensor(values, [2 * imageCount, viewSidePx, viewSidePx, 3]));
}
