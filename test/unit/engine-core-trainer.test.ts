import { test, describe } from 'node:test';
import assert from 'node:assert/strict';
import { architectureNamed } from '../../src/formats/encoders/index.ts';
import { WeightsMismatchError } from '../../src/formats/tensor-check.ts';
import { randomEncoderWeights } from '../../workers/engine/encoders/resnet/weights.ts';
import type { NamedTensor } from '../../workers/engine/named-tensor.ts';
import { createRandom } from '../../workers/engine/rng.ts';
import { asRank4, liveTensorCount, tf } from '../../workers/engine/tensorflow.ts';
import type { Tensor4D } from '../../workers/engine/tensorflow.ts';
import { createTrainer, NonFiniteLossError } from '../../workers/engine/train/trainer.ts';
import type { Trainer, TrainerOptions } from '../../workers/engine/train/trainer.ts';

const SIMCLR = { name: 'SIMCLR', projectionDim: 16, temperature: 0.5 } as const;
const OPTIONS = {
  architecture: architectureNamed('RESNET18'),
  method: SIMCLR,
  totalSteps: 20,
  warmupSteps: 2,
  peakLearningRate: 1,
  optimizer: { name: 'LARS', momentum: 0.9, weightDecay: 1e-6 },
} as const;

const ADAMW = { name: 'ADAMW', beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 1e-4 } as const;

/** Drawn only once, because eleven million numbers take a while. */
const WEIGHTS = randomEncoderWeights('RESNET18', createRandom(12));

function trainer(change: Partial<TrainerOptions> = {}): Trainer {
  return createTrainer({ ...OPTIONS, seedRandom: createRandom(11), initialWeights: WEIGHTS, ...change });
}

/** Two noisy views each of four images. */
function views(seed: number): Tensor4D {
  return tf.tidy(() => {
    const base = tf.randomUniform([4, 32, 32, 3], -1, 1, 'float32', seed);
    const noisy = (extra: number): tf.Tensor =>
      tf.add(base, tf.randomNormal(base.shape, 0, 0.1, 'float32', seed + extra));
    return asRank4(tf.concat([noisy(1), noisy(2)], 0));
  });
}

describe('SimCLR trainer', () => {
  test('learns: the loss falls, positive pairs get closer, the number of tensors stays constant, and every trained tensor changes', async () => {
    const before = liveTensorCount();
    const training = trainer();
    const startWeights = training.saveState();
    const batch = views(100);
    const losses: number[] = [];
    let tensors = 0;
    for (let step = 0; step < 8; step += 1) {
      const metrics = await training.step(batch);
      losses.push(metrics.loss);
      assert.ok(
        metrics.learningRate > 0 &&
          metrics.embeddingStd > 0 &&
          Math.abs(metrics.series['positiveSimilarity'] ?? 2) <= 1.000001,
      );
      if (step === 0) tensors = liveTensorCount();
      assert.equal(liveTensorCount(), tensors);
    }
    assert.equal(training.stepIndex, 8);
    assert.ok((losses.at(-1) ?? Number.NaN) < (losses[0] ?? Number.NaN) - 0.1, losses.join(' '));
    training
      .saveState()
      .forEach((tensor, index) => assert.ok(!sameData(tensor, startWeights[index]), `${tensor.name} did not move`));
    training.dispose();
    batch.dispose();
    assert.equal(liveTensorCount(), before);
  });

  test('a restored trainer continues bit for bit', async () => {
    const [through, resumed] = [trainer(), trainer({ seedRandom: createRandom(99) })];
    const batches = [views(1), views(2), views(3)];
    const [first, ...rest] = batches;
    assert.ok(first !== undefined);
    await through.step(first);
    resumed.restoreState(through.saveState());
    assert.equal(resumed.stepIndex, 1);
    for (const batch of rest) assert.deepEqual(await resumed.step(batch), await through.step(batch));
    const [left, right] = [resumed.saveState(), through.saveState()];
    left.forEach((tensor, index) => assert.ok(sameData(tensor, right[index]), tensor.name));
    tf.dispose(batches);
    through.dispose();
    resumed.dispose();
  });

  test('a trainer whose plan has changed continues bit for bit like one that was created with the new plan', async () => {
    const batch = views(1);
    const [through, resumed] = [
      trainer({ warmupSteps: 1, optimizer: ADAMW }),
      trainer({
        warmupSteps: 1,
        optimizer: ADAMW,
        totalSteps: 5,
        earlierPlans: [{ untilStep: 2, totalSteps: 20 }],
        seedRandom: createRandom(99),
      }),
    ];
    await through.step(batch);
    resumed.restoreState(through.saveState());
    // Steps before and after the change.
    assert.deepEqual(await resumed.step(batch), await through.step(batch));
    through.replan(5);
    assert.deepEqual(await resumed.step(batch), await through.step(batch));
    const [left, right] = [resumed.saveState(), through.saveState()];
    left.forEach((tensor, index) => assert.ok(sameData(tensor, right[index]), tensor.name));
    assert.throws(() => through.replan(2), RangeError);
    batch.dispose();
    through.dispose();
    resumed.dispose();
  });

  test('a step with a value that is not finite is refused before anything changes', async () => {
    const training = trainer();
    const before = training.saveState();
    const tensors = liveTensorCount();
    // A ReLU may turn NaN into 0, so that only the gradients show it.
    const bad = asRank4(tf.fill([4, 32, 32, 3], Number.NaN));
    await assert.rejects(training.step(bad), (error) => error instanceof NonFiniteLossError && error.stepIndex === 0);
    bad.dispose();
    assert.equal(liveTensorCount(), tensors);
    assert.equal(training.stepIndex, 0);
    training.saveState().forEach((tensor, index) => assert.ok(sameData(tensor, before[index]), tensor.name));
    const good = views(5);
    assert.ok(Number.isFinite((await training.step(good)).loss));
    good.dispose();
    training.dispose();
  });

  test('views that cannot be pairs, and a step after the last', async () => {
    const training = trainer({ totalSteps: 1, warmupSteps: 0 });
    const tensors = liveTensorCount();
    for (const shape of [
      [2, 32, 32, 3],
      [5, 32, 32, 3],
      [4, 32, 32, 1],
      [4, 16, 16, 3],
    ] as const) {
      const wrong = asRank4(tf.zeros([...shape]));
      await assert.rejects(training.step(wrong), RangeError);
      wrong.dispose();
    }
    assert.equal(liveTensorCount(), tensors);
    const batch = views(7);
    await training.step(batch);
    await assert.rejects(training.step(batch), RangeError);
    batch.dispose();
    training.dispose();
  });

  test('begins from given weights, or from new ones drawn from its seed', () => {
    const training = trainer();
    training.encoderWeights().forEach((tensor, index) => assert.ok(sameData(tensor, WEIGHTS[index]), tensor.name));
    const beyond = training
      .saveState()
      .map(({ name }) => name)
      .slice(WEIGHTS.length, WEIGHTS.length + 5);
    assert.deepEqual(beyond, ['fc.1.weight', 'fc.1.bias', 'fc.3.weight', 'fc.3.bias', 'optimizer.conv1.weight']);
    training.dispose();
    const fresh = createTrainer({ ...OPTIONS, seedRandom: createRandom(11) });
    const wanted = randomEncoderWeights('RESNET18', createRandom(11).fork('encoder'));
    fresh.encoderWeights().forEach((tensor, index) => assert.ok(sameData(tensor, wanted[index]), tensor.name));
    fresh.dispose();
  });

  test('a state that does not fit is refused as a whole', () => {
    const training = trainer();
    const state = training.saveState();
    const refused = (tensors: readonly NamedTensor[]): void =>
      assert.throws(() => training.restoreState(tensors), WeightsMismatchError);
    refused(state.slice(1));
    refused(state.slice(0, -1));
    refused(state.filter(({ name }) => name !== 'optimizer.fc.3.bias'));
    refused([...state, { name: 'optimizer.unknown', dtype: 'F32', shape: [1], data: new Float32Array(1) }]);
    refused(training.encoderWeights());
    const narrow = trainer({ method: { ...SIMCLR, projectionDim: 8 } });
    refused(narrow.saveState());
    training.saveState().forEach((tensor, index) => assert.ok(sameData(tensor, state[index]), tensor.name));
    narrow.dispose();
    training.dispose();
  });

  test('options out of range', () => {
    const before = liveTensorCount();
    const bad: readonly Partial<TrainerOptions>[] = [
      ...[{ temperature: 0 }, { temperature: -1 }, { temperature: Number.NaN }].map((wrong) => ({
        method: { ...SIMCLR, ...wrong },
      })),
      { method: { ...SIMCLR, projectionDim: 0 } },
      { method: { ...SIMCLR, projectionDim: 1.5 } },
      { optimizer: { name: 'LARS', momentum: 1, weightDecay: 0 } },
      { optimizer: { name: 'LARS', momentum: 0.9, weightDecay: -1 } },
      { optimizer: { name: 'SGD', momentum: -0.1, nesterov: false, weightDecay: 0 } },
      { optimizer: { name: 'SGD', momentum: 0, nesterov: true, weightDecay: 0 } },
      { optimizer: { name: 'SGD', momentum: 0.9, nesterov: false, weightDecay: Number.NaN } },
      { optimizer: { ...ADAMW, name: 'ADAM', beta1: 1 } },
      { optimizer: { ...ADAMW, beta2: Number.NaN } },
      { optimizer: { ...ADAMW, epsilon: 0 } },
      { optimizer: { ...ADAMW, weightDecay: Number.POSITIVE_INFINITY } },
      { totalSteps: 0 },
      { warmupSteps: 21 },
      { peakLearningRate: 0 },
    ];
    for (const change of bad) assert.throws(() => trainer(change), RangeError);
    assert.throws(() => trainer({ initialWeights: [] }), WeightsMismatchError);
    assert.equal(liveTensorCount(), before);
  });
});

function sameData(left: NamedTensor, right: NamedTensor | undefined): boolean {
  return (
    right !== undefined &&
    left.name === right.name &&
    left.data.length === right.data.length &&
    left.data.every((value, index) => Object.is(value, right.data[index]))
  );
}
