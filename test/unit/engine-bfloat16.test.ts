/** Training in bfloat16: the accuracy of convolutions, and that training is reproducible. */
import { test, describe } from 'node:test';
import assert from 'node:assert/strict';
import { architectureNamed } from '../../src/formats/encoders/index.ts';
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { promisify } from 'node:util';
import { childEnvironment } from '../../src/env.ts';
import { canComputeIn } from '../../workers/engine/kernels/compute-dtype.ts';
import { convolutionInputGradient, convolve } from '../../workers/engine/kernels/convolution.ts';
import { randomEncoderWeights } from '../../workers/engine/encoders/resnet/weights.ts';
import { ENGINE_PROCESS_ENV } from '../../workers/engine/process-env.ts';
import { createRandom } from '../../workers/engine/rng.ts';
import { asRank4, castTo, floatDtypeOf, readFloats, tf } from '../../workers/engine/tensorflow.ts';
import type { FloatDtype, Tensor, Tensor4D } from '../../workers/engine/tensorflow.ts';
import { UnsupportedPrecisionError } from '../../workers/engine/kernels/compute-dtype.ts';
import { createTrainer } from '../../workers/engine/train/trainer.ts';
import type { Trainer } from '../../workers/engine/train/trainer.ts';

const WEIGHTS = randomEncoderWeights('RESNET18', createRandom(12));
/** Half the distance between adjacent numbers with eight significant bits. */
const ROUNDING = 2 ** -9;

/** The norm of the difference relative to the norm of the expected values. */
function relativeDifference(actual: Float32Array, wanted: Float32Array): number {
  let [difference, size] = [0, 0];
  wanted.forEach((value, index) => {
    difference += (value - (actual[index] ?? Number.NaN)) ** 2;
    size += value ** 2;
  });
  return Math.sqrt(difference / size);
}

function trainer(computeDtype: FloatDtype, microBatchSize?: number): Trainer {
  return createTrainer({
    architecture: architectureNamed('RESNET18'),
    method: { name: 'SIMCLR', projectionDim: 16, temperature: 0.5 },
    totalSteps: 20,
    warmupSteps: 0,
    peakLearningRate: 1,
    optimizer: { name: 'LARS', momentum: 0.9, weightDecay: 1e-6 },
    seedRandom: createRandom(11),
    initialWeights: WEIGHTS,
    computeDtype,
    ...(microBatchSize === undefined ? {} : { microBatchSize }),
  });
}

/** Two noisy views each of eight images. */
function views(): Tensor4D {
  return tf.tidy(() => {
    const base = tf.randomUniform([8, 32, 32, 3], -1, 1, 'float32', 5);
    const noisy = (seed: number): tf.Tensor => tf.add(base, tf.randomNormal(base.shape, 0, 0.1, 'float32', seed));
    return asRank4(tf.concat([noisy(1), noisy(2)], 0));
  });
}

async function lossesOf(training: Trainer, stepCount: number): Promise<number[]> {
  const batch = views();
  const losses: number[] = [];
  for (let step = 0; step < stepCount; step += 1) losses.push((await training.step(batch)).loss);
  batch.dispose();
  return losses;
}

function digestOf(training: Trainer): string {
  const hash = createHash('sha256');
  for (const { name, data } of training.saveState())
    hash.update(name).update(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
  return hash.digest('hex');
}

/**
 * This file's tests of training need a processor with the kernels; where they are missing, that is reported instead.
 */
function describeSupported(what: string, tests: () => void): void {
  if (canComputeIn('bfloat16')) describe(what, tests);
  else
    test(`${what}: refused, for this processor has no bfloat16`, () =>
      assert.throws(() => trainer('bfloat16'), UnsupportedPrecisionError));
}

test('a processor without bfloat16 is recognised before training', async () => {
  const asking = `const { canComputeIn } = await import(${JSON.stringify(new URL('../../workers/engine/kernels/compute-dtype.ts', import.meta.url).href)}); console.log(canComputeIn('float32'), canComputeIn('bfloat16'), canComputeIn('bfloat16'));`;
  const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '-e', asking], {
    env: childEnvironment({ ...ENGINE_PROCESS_ENV, ONEDNN_MAX_CPU_ISA: 'AVX2' }),
  });
  assert.equal(stdout.trim(), 'true false false');
});

describeSupported('bfloat16 on the device', () => {
  test('a cast to bfloat16 and back rounds to eight significant bits, to the nearest with ties to even', () => {
    const numbers = tf.tensor1d([1, 1 + 2 ** -8, 1 + 3 * 2 ** -8, 1 + 2 ** -8 + 2 ** -16, -3.140625, 1e30, 0]);
    const rounded = castTo(numbers, 'bfloat16');
    const back = castTo(rounded, 'float32');
    assert.deepEqual(
      [floatDtypeOf(numbers), floatDtypeOf(rounded), floatDtypeOf(back)],
      ['float32', 'bfloat16', 'float32'],
    );
    const [one, tie, upperTie, aboveTie, pi, large, zero] = readFloats(back);
    assert.deepEqual([one, tie, upperTie, aboveTie, pi, zero], [1, 1, 1 + 2 ** -6, 1 + 2 ** -7, -3.140625, 0]);
    assert.ok(Math.abs((large ?? Number.NaN) / 1e30 - 1) < ROUNDING);
    tf.dispose([numbers, rounded, back]);
  });

  for (const [name, run] of [
    ['a convolution', (x: Tensor4D, w: Tensor) => convolve(x, w, { size: 3, stride: 1, padding: 1 })],
    [
      'its gradient by images',
      (x: Tensor4D, w: Tensor) => convolutionInputGradient(x.shape, w, x, { size: 3, stride: 1, padding: 1 }),
    ],
  ] as const) {
    test(`${name} of numbers that bfloat16 holds exactly differs from float32's by rounding alone`, () => {
      // A case with enough channels for products over patches, and one with few enough for the convolution op.
      for (const [sidePx, channels] of [
        [2, 64],
        [8, 16],
        [8, 3],
      ] as const) {
        const difference = tf.tidy(() => {
          const exact = (tensor: Tensor): Tensor => castTo(castTo(tensor, 'bfloat16'), 'float32');
          const x = exact(tf.randomNormal([2, sidePx, sidePx, channels], 0, 1, 'float32', 1));
          const w = exact(tf.randomNormal([3, 3, channels, channels], 0, 1, 'float32', 2));
          const rough = castTo(run(asRank4(castTo(x, 'bfloat16')), castTo(w, 'bfloat16')), 'float32');
          return relativeDifference(readFloats(rough), readFloats(run(asRank4(x), w)));
        });
        // Two rounding errors, because the products over patches are rounded before they are summed.
        assert.ok(difference > 0 && difference < 2 * ROUNDING, `${sidePx} px, ${channels} channels: ${difference}`);
      }
    });
  }
});

describeSupported('SimCLR in bfloat16', () => {
  for (const [computeDtype, microBatchSize] of [
    ['float32', undefined],
    ['float32', 4],
    ['bfloat16', undefined],
    ['bfloat16', 4],
  ] as const) {
    test(`gives the same result twice, bit for bit: ${computeDtype}, ${microBatchSize === undefined ? 'whole batches' : `micro-batches of ${microBatchSize}`}`, async () => {
      const digests: string[] = [];
      for (let attempt = 0; attempt < 2; attempt += 1) {
        const training = trainer(computeDtype, microBatchSize);
        await lossesOf(training, 3);
        digests.push(digestOf(training));
        training.dispose();
      }
      assert.equal(digests[0], digests[1]);
    });
  }

  test('a state continues in the same precision, bit for bit', async () => {
    const [uninterrupted, resumed] = [trainer('bfloat16'), trainer('bfloat16')];
    await lossesOf(uninterrupted, 1);
    resumed.restoreState(uninterrupted.saveState());
    assert.deepEqual(await lossesOf(resumed, 2), await lossesOf(uninterrupted, 2));
    assert.equal(digestOf(resumed), digestOf(uninterrupted));
    uninterrupted.dispose();
    resumed.dispose();
  });
});
