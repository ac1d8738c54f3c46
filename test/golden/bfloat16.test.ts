/** Computing in bfloat16: what stays float32, and that its numbers are as near to float32's as PyTorch's own. */
import { readFileSync } from 'node:fs';
import { test, describe } from 'node:test';
import assert from 'node:assert/strict';
import { z } from 'zod';
import { architectureNamed } from '../../src/formats/encoders/index.ts';
import { canComputeIn } from '../../workers/engine/kernels/compute-dtype.ts';
import { encoderFromWeights } from '../../workers/engine/encoders/resnet/network.ts';
import type { Encoder } from '../../workers/engine/encoders/resnet/network.ts';
import { createRandom } from '../../workers/engine/rng.ts';
import { asRank2, floatDtypeOf, liveTensorCount, readFloats, tf } from '../../workers/engine/tensorflow.ts';
import type { FloatDtype } from '../../workers/engine/tensorflow.ts';
import { createTrainer } from '../../workers/engine/train/trainer.ts';
import { formulaHead, formulaImages, formulaViews, formulaWeights, noise } from './formula.ts';

/** Half the distance between adjacent numbers with eight significant bits. */
const ROUNDING = 2 ** -9;
const expectedFile = z.object({
  oracle: z.string(),
  count: z.number(),
  sidePx: z.number(),
  embeddings: z.number(),
  gradients: z.record(z.string(), z.number()),
  training: z.object({
    sidePx: z.number(),
    projectionDim: z.number(),
    temperature: z.number(),
    learningRate: z.number(),
    momentum: z.number(),
    float32Losses: z.array(z.number()),
    /** Of several autocast runs, each one's largest relative difference of a loss from float32's. */
    largestDifferences: z.array(z.number()),
  }),
});
const expected = expectedFile.parse(
  JSON.parse(readFileSync(new URL('bfloat16-expected.json', import.meta.url), 'utf8')),
);

/** The length of the difference against the length of what was expected. */
function relativeDifference(actual: Float32Array, wanted: Float32Array): number {
  let [difference, size] = [0, 0];
  wanted.forEach((value, index) => {
    difference += (value - (actual[index] ?? Number.NaN)) ** 2;
    size += value ** 2;
  });
  return Math.sqrt(difference / size);
}

function describeSupported(what: string, tests: () => void): void {
  if (canComputeIn('bfloat16')) {
    describe(what, tests);
    return;
  }
  test(`${what}: the engine refuses, because this processor has no bfloat16`, () => {
    const encoder = encoderFromWeights('RESNET18', formulaWeights('RESNET18'), 'bfloat16');
    assert.throws(() => encoder.forward(formulaImages(expected.count, expected.sidePx, expected.sidePx)));
  });
}

describeSupported(`an encoder that computes in bfloat16, beside ${expected.oracle}'s autocast`, () => {
  /** Embeddings and gradients of one training pass of the oracle's images. */
  function pass(encoder: Encoder): { embeddings: Float32Array; gradients: Map<string, Float32Array> } {
    const batch = formulaImages(expected.count, expected.sidePx, expected.sidePx);
    const embeddings = encoder.forward(batch);
    const direction = asRank2(tf.tensor(noise('embedding gradient', embeddings.size), embeddings.shape, 'float32'));
    encoder.backward(direction);
    const result = {
      embeddings: readFloats(embeddings),
      gradients: new Map(
        encoder.parameters.map(({ name, gradient }) => [
          name,
          gradient === undefined ? new Float32Array() : readFloats(gradient),
        ]),
      ),
    };
    encoder.commitStatistics();
    tf.dispose([batch, embeddings, direction]);
    return result;
  }

  test('keeps weights, gradients and statistics in float32, near those of float32, and leaves no tensor', () => {
    const before = liveTensorCount();
    const [fine, rough] = [
      encoderFromWeights('RESNET18', formulaWeights('RESNET18')),
      encoderFromWeights('RESNET18', formulaWeights('RESNET18'), 'bfloat16'),
    ];
    const [wanted, actual] = [pass(fine), pass(rough)];
    for (const { value, gradient } of rough.parameters) {
      assert.equal(floatDtypeOf(value), 'float32');
      assert.ok(gradient !== undefined && floatDtypeOf(gradient) === 'float32');
    }
    const differences = [...wanted.gradients].map(([name, gradient]) => ({
      name,
      difference: relativeDifference(actual.gradients.get(name) ?? new Float32Array(), gradient),
      peers: expected.gradients[name] ?? 0,
    }));
    const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;
    // Roundings of some forty layers in a row: what matters is that ours are no more than the peer's.
    const embeddingDifference = relativeDifference(actual.embeddings, wanted.embeddings);
    assert.ok(
      embeddingDifference < 1.2 * expected.embeddings,
      `embeddings differ by ${embeddingDifference}, the peer's by ${expected.embeddings}`,
    );
    const [ours, peers] = [
      mean(differences.map(({ difference }) => difference)),
      mean(differences.map((each) => each.peers)),
    ];
    assert.ok(ours < 1.2 * peers, `gradients differ by ${ours} on average, the peer's by ${peers}`);
    const worst = differences.reduce((most, other) =>
      other.difference / other.peers > most.difference / most.peers ? other : most,
    );
    assert.ok(
      worst.difference < 2 * worst.peers,
      `the gradient of ${worst.name} differs by ${worst.difference}, the peer's by ${worst.peers}`,
    );
    assert.ok(worst.difference > ROUNDING, 'it was not computed in bfloat16');
    const fineWeights = fine.weights();
    rough.weights().forEach((tensor, index) => {
      const other = fineWeights[index];
      if (tensor.name.includes('running_') && tensor.dtype === 'F32' && other?.dtype === 'F32') {
        assert.ok(relativeDifference(tensor.data, other.data) < 0.01, tensor.name);
      }
    });
    fine.dispose();
    rough.dispose();
    assert.equal(liveTensorCount(), before);
  });

  // Compared with autocast instead of a fixed bound, because training amplifies rounding errors: after the first step
  // of eight images the gradients differ by 40 % in either library.
  test("trains SimCLR with losses as near to float32's as autocast's are", async () => {
    const { training, count } = expected;
    const lossesIn = async (computeDtype: FloatDtype): Promise<number[]> => {
      const trainer = createTrainer({
        architecture: architectureNamed('RESNET18'),
        method: { name: 'SIMCLR', projectionDim: training.projectionDim, temperature: training.temperature },
        // So long that the learning rate stays as it is.
        totalSteps: 10_000_000,
        warmupSteps: 0,
        peakLearningRate: training.learningRate,
        optimizer: { name: 'LARS', momentum: training.momentum, weightDecay: 0 },
        seedRandom: createRandom(1),
        initialWeights: formulaWeights('RESNET18'),
        computeDtype,
      });
      const head = new Map(formulaHead(512, training.projectionDim).map((tensor) => [tensor.name, tensor]));
      trainer.restoreState(trainer.saveState().map((tensor) => head.get(tensor.name) ?? tensor));
      const views = formulaViews(0, count, training.sidePx, training.sidePx);
      const losses: number[] = [];
      while (losses.length < training.float32Losses.length) losses.push((await trainer.step(views)).loss);
      views.dispose();
      trainer.dispose();
      return losses;
    };
    const largestDifference = (losses: readonly number[], wanted: readonly number[]): number =>
      Math.max(...wanted.map((loss, step) => Math.abs((losses[step] ?? Number.NaN) - loss) / loss));
    const [fine, rough] = [await lossesIn('float32'), await lossesIn('bfloat16')];
    const peers = Math.max(...training.largestDifferences);
    assert.ok(largestDifference(fine, training.float32Losses) < 0.1 * peers, `float32: ${fine.join(' ')}`);
    const difference = largestDifference(rough, fine);
    assert.ok(difference > 0 && difference < 1.5 * peers, `losses differ by ${difference}, the peer's by ${peers}`);
  });
});
