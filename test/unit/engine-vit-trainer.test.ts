/** SimCLR with a vision transformer: it learns, continues bit for bit, and a batch may go through it in parts. */
import { describe, test } from 'node:test';
import assert from 'node:assert/strict';
import { architectureNamed, describeEncoder, encoderNameOf } from '../../src/formats/encoders/index.ts';
import { VIT } from '../../src/formats/encoders/vit/index.ts';
import { vitSpecificationSchema } from '../../src/formats/encoders/vit/specification.ts';
import { canComputeIn } from '../../workers/engine/kernels/compute-dtype.ts';
import type { NamedTensor } from '../../workers/engine/named-tensor.ts';
import { createRandom } from '../../workers/engine/rng.ts';
import { asRank4, liveTensorCount, tf, type Tensor4D } from '../../workers/engine/tensorflow.ts';
import { createTrainer, type Trainer, type TrainerOptions } from '../../workers/engine/train/trainer.ts';

const IMAGE_COUNT = 8;
const SMALL = vitSpecificationSchema.parse({
  ...architectureNamed('VIT_TI16').specification,
  patchSizePx: 8,
  width: 48,
  depth: 3,
  headCount: 3,
  mlpWidth: 96,
  gridSize: 4,
});
const OPTIONS: TrainerOptions = {
  architecture: { family: 'VIT', specification: SMALL },
  method: { name: 'SIMCLR', projectionDim: 16, temperature: 0.2 },
  totalSteps: 40,
  warmupSteps: 4,
  peakLearningRate: 2e-3,
  optimizer: { name: 'ADAMW', beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 0.1 },
  seedRandom: createRandom(11),
  dropPathRate: 0.3,
};

const trainerWith = (changes: Partial<TrainerOptions> = {}): Trainer => createTrainer({ ...OPTIONS, ...changes });

/** Images that differ in colour and texture, each in two noisy views. */
function views(seed: number): Tensor4D {
  return tf.tidy(() => {
    const base = tf.randomUniform([IMAGE_COUNT, 4, 4, 3], -1, 1, 'float32', 5);
    const large = tf.image.resizeBilinear(asRank4(base), [32, 32]);
    const noisy = (own: number): tf.Tensor => tf.add(large, tf.randomNormal(large.shape, 0, 0.1, 'float32', own));
    return asRank4(tf.concat([noisy(2 * seed + 1), noisy(2 * seed + 2)], 0));
  });
}

async function step(trainer: Trainer, seed: number): Promise<number> {
  const batch = views(seed);
  try {
    return (await trainer.step(batch)).loss;
  } finally {
    batch.dispose();
  }
}

/** The largest difference of float32 numbers of the same name. */
function largestDifference(left: readonly NamedTensor[], right: readonly NamedTensor[]): number {
  const others = new Map(right.map((tensor) => [tensor.name, tensor]));
  let largest = 0;
  for (const { name, dtype, data } of left) {
    const other = others.get(name);
    assert.ok(dtype === 'F32' && other?.dtype === 'F32', name);
    data.forEach((value, index) => (largest = Math.max(largest, Math.abs(value - (other.data[index] ?? Number.NaN)))));
  }
  return largest;
}

/** Names of the tensors that are not the same bit for bit. */
function differing(left: readonly NamedTensor[], right: readonly NamedTensor[]): string[] {
  const bytesOf = ({ data }: NamedTensor): Buffer => Buffer.from(data.buffer, data.byteOffset, data.byteLength);
  const others = new Map(right.map((tensor) => [tensor.name, bytesOf(tensor)]));
  return left.flatMap((tensor) => (others.get(tensor.name)?.equals(bytesOf(tensor)) === true ? [] : [tensor.name]));
}

describe('SimCLR with a vision transformer', () => {
  test('tells its images apart after a few steps, and leaves no tensors behind', async () => {
    const before = liveTensorCount();
    const trainer = trainerWith();
    const losses: number[] = [];
    for (let index = 0; index < 40; index += 1) losses.push(await step(trainer, index));
    trainer.dispose();
    assert.equal(liveTensorCount(), before);
    const [first = Number.NaN, last = Number.NaN] = [losses[0], losses.at(-1)];
    assert.ok(last < first / 2, `${first} to ${last}`);
  });

  test('continues from a saved state to the same bits, stochastic depth included', async () => {
    const whole = trainerWith();
    for (let index = 0; index < 3; index += 1) await step(whole, index);
    const begun = trainerWith();
    for (let index = 0; index < 2; index += 1) await step(begun, index);
    const state = begun.saveState();
    begun.dispose();
    const continued = trainerWith({ seedRandom: createRandom(11) });
    continued.restoreState(state);
    await step(continued, 2);
    assert.deepEqual(differing(continued.saveState(), whole.saveState()), []);
    whole.dispose();
    continued.dispose();
  });

  test('takes the same step in parts, because an image skips the same branches', async () => {
    const [whole, parts, otherSeed] = [
      trainerWith(),
      trainerWith({ microBatchSize: 2 }),
      trainerWith({ seedRandom: createRandom(12), initialWeights: trainerWith().encoderWeights() }),
    ];
    const losses = [await step(whole, 0), await step(parts, 0), await step(otherSeed, 0)];
    const [first = Number.NaN, second = Number.NaN] = losses;
    assert.ok(Math.abs(first - second) < 1e-5, losses.join(' '));
    // AdamW's first step is as long for a small gradient as for a large one; its sign is what rounding can change.
    assert.ok(largestDifference(momentsOf(whole), momentsOf(parts)) < 1e-6);
    assert.ok(Math.abs(first - (losses[2] ?? Number.NaN)) > 1e-4, 'another seed skips other branches');
    for (const trainer of [whole, parts, otherSeed]) trainer.dispose();
  });

  test('takes nearly the same step in bfloat16', async () => {
    if (!canComputeIn('bfloat16')) {
      assert.throws(() => trainerWith({ computeDtype: 'bfloat16' }), /cannot compute in bfloat16/);
      return;
    }
    const [exact, rough] = [trainerWith(), trainerWith({ computeDtype: 'bfloat16' })];
    const losses = [await step(exact, 0), await step(rough, 0)];
    const [first = Number.NaN, second = Number.NaN] = losses;
    assert.ok(first !== second && Math.abs(first - second) < 0.02 * first, losses.join(' '));
    exact.dispose();
    rough.dispose();
  });

  test('learns more slowly in the first layers with layer-wise decay', async () => {
    const [plain, decayed] = [trainerWith({ dropPathRate: 0 }), trainerWith({ dropPathRate: 0, layerDecay: 0.5 })];
    const begin = plain.encoderWeights();
    await step(plain, 0);
    await step(decayed, 0);
    const moved = (trainer: Trainer, name: string): number =>
      largestDifference(
        trainer.encoderWeights().filter((tensor) => tensor.name === name),
        begin,
      );
    // AdamW's first step has the length of the learning rate, whatever the gradient.
    const ratios = ['norm.bias', 'blocks.2.attn.proj.bias', 'blocks.0.mlp.fc1.bias', 'patch_embed.proj.bias'].map(
      (name) => moved(decayed, name) / moved(plain, name),
    );
    [1, 0.5, 0.125, 0.0625].forEach((wanted, index) =>
      assert.ok(Math.abs((ratios[index] ?? Number.NaN) / wanted - 1) < 1e-3, ratios.join(' ')),
    );
    plain.dispose();
    decayed.dispose();
  });
});

/** The first moments of a trainer's optimizer, which after one step are a tenth of the gradients. */
function momentsOf(trainer: Trainer): NamedTensor[] {
  return trainer.saveState().filter(({ name }) => name.startsWith('optimizer.firstMoment.'));
}

describe('the named vision transformers', () => {
  test("have timm's numbers of parameters", () => {
    // timm 1.0: sum(p.numel() for p in create_model('vit_*_patch16_224', num_classes=0).parameters())
    const counts = { VIT_TI16: 5_524_416, VIT_S16: 21_665_664, VIT_B16: 85_798_656 } as const;
    for (const name of ['VIT_TI16', 'VIT_S16', 'VIT_B16'] as const) {
      const description = describeEncoder(architectureNamed(name));
      const count = description.tensors.reduce(
        (sum, { shape }) => sum + shape.reduce((product, side) => product * side, 1),
        0,
      );
      assert.equal(count, counts[name]);
      assert.equal(description.name, name);
      assert.equal(encoderNameOf(description), name);
      // A file of timm's is the same network, so that a training may start from it.
      const tensors = description.tensors.map((tensor) => ({ ...tensor, dtype: 'F32' }));
      const { description: inFile } = VIT.names.recognise(tensors, 'TIMM', {});
      assert.ok(inFile !== undefined);
      assert.equal(encoderNameOf(inFile), name);
    }
  });

  test('are not another network of the same size', () => {
    const { family, specification } = architectureNamed('VIT_S16');
    const other = describeEncoder({ family, specification: { ...specification, headCount: 12 } });
    assert.deepEqual([other.name, encoderNameOf(other)], ['VIT_S16', 'OTHER']);
  });
});
