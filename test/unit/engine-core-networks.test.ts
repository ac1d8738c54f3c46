import { test, describe } from 'node:test';
import assert from 'node:assert/strict';
import { embeddingDimOf, encoderTensorSpecs } from '../../workers/engine/encoders/resnet/architecture.ts';
import {
  ProjectionHead,
  projectionHeadExpectations,
  randomProjectionHead,
} from '../../workers/engine/models/projection-head.ts';
import {
  createEncoder,
  ENCODER_ARCHITECTURES,
  encoderFromWeights,
} from '../../workers/engine/encoders/resnet/network.ts';
import { WeightsMismatchError } from '../../src/formats/tensor-check.ts';
import { randomEncoderWeights } from '../../workers/engine/encoders/resnet/weights.ts';
import type { NamedTensor } from '../../workers/engine/named-tensor.ts';
import { createRandom } from '../../workers/engine/rng.ts';
import { asRank2, asRank4, liveTensorCount, readFloats, scoped, tf } from '../../workers/engine/tensorflow.ts';
import type { Tensor2D, Tensor4D } from '../../workers/engine/tensorflow.ts';

const images = (count: number, side: number): Tensor4D =>
  asRank4(tf.randomUniform([count, side, side, 3], -1, 1, 'float32', 5));
const rows = (count: number, width: number): Tensor2D => asRank2(tf.randomUniform([count, width], -1, 1, 'float32', 6));

/** Throws unless the promised error is thrown; returns it. */
function mismatch(work: () => unknown): WeightsMismatchError {
  try {
    work();
  } catch (error) {
    if (error instanceof WeightsMismatchError) return error;
    throw error;
  }
  throw new assert.AssertionError({ message: 'Expected a WeightsMismatchError.' });
}

/** Drawn only once, because eleven million numbers take a while. */
const WEIGHTS = randomEncoderWeights('RESNET18', createRandom(2));

describe('encoder', () => {
  test("has as many parameters as torchvision's without fc", () => {
    const trained = new Set(['FILTER', 'NORM_SCALE', 'NORM_OFFSET']);
    const counts = ENCODER_ARCHITECTURES.map((architecture) =>
      encoderTensorSpecs(architecture)
        .filter(({ kind }) => trained.has(kind))
        .reduce((sum, { shape }) => sum + shape.reduce((product, side) => product * side, 1), 0),
    );
    // ResNet-18, 34, 50, 101, 152, wide 50-2, wide 101-2.
    assert.deepEqual(counts, [11_176_512, 21_284_672, 23_508_032, 42_500_160, 58_143_808, 66_834_240, 124_837_696]);
    assert.deepEqual(ENCODER_ARCHITECTURES.map(embeddingDimOf), [512, 512, 2048, 2048, 2048, 2048, 2048]);
  });

  test('shapes: any batch size, and any side of at least 32 px', () => {
    const encoder = encoderFromWeights('RESNET18', WEIGHTS);
    for (const [count, side] of [
      [1, 32],
      [3, 45],
    ] as const) {
      const batch = images(count, side);
      const embeddings = encoder.embed(batch);
      assert.deepEqual(embeddings.shape, [count, 512]);
      tf.dispose([batch, embeddings]);
    }
    const tooSmall = images(1, 31);
    assert.throws(() => encoder.embed(tooSmall), RangeError);
    assert.throws(() => encoder.forward(tooSmall), RangeError);
    const grey = asRank4(tf.zeros([1, 32, 32, 1]));
    assert.throws(() => encoder.embed(grey), RangeError);
    tf.dispose([tooSmall, grey]);
    encoder.dispose();
  });

  test('save and load: the same tensors bit for bit, and the same embeddings; a seed draws the same weights', () => {
    const encoder = createEncoder('RESNET18', createRandom(2));
    const weights = encoder.weights();
    const loaded = encoderFromWeights('RESNET18', weights);
    loaded.weights().forEach((tensor, index) => assert.ok(isSame(tensor, weights[index]), tensor.name));
    weights.forEach((tensor, index) => assert.ok(isSame(tensor, WEIGHTS[index]), tensor.name));
    const batch = images(2, 32);
    const [first, second] = [encoder.embed(batch), loaded.embed(batch)];
    assert.deepEqual(readFloats(first), readFloats(second));
    tf.dispose([batch, first, second]);
    encoder.dispose();
    loaded.dispose();
  });

  test('no tensor leaks: embedding, training, an abandoned forward pass, disposal', () => {
    const batch = images(2, 32);
    const before = liveTensorCount();
    const encoder = encoderFromWeights('RESNET18', WEIGHTS);
    const loaded = liveTensorCount();
    encoder.embed(batch).dispose();
    assert.equal(liveTensorCount(), loaded);
    encoder.forward(batch).dispose();
    encoder.forward(batch).dispose();
    encoder.discard();
    assert.equal(liveTensorCount(), loaded);
    const embeddings = encoder.forward(batch);
    encoder.backward(embeddings);
    encoder.commitStatistics();
    embeddings.dispose();
    assert.equal(liveTensorCount(), loaded + encoder.parameters.length);
    encoder.dispose();
    assert.equal(liveTensorCount(), before);
    batch.dispose();
  });

  test('embedding and an abandoned pass change no weights; a committed pass changes all running statistics and nothing else', () => {
    const encoder = encoderFromWeights('RESNET18', WEIGHTS);
    const batch = images(2, 32);
    const before = encoder.weights();
    encoder.embed(batch).dispose();
    encoder.forward(batch).dispose();
    encoder.discard();
    encoder.weights().forEach((tensor, index) => assert.ok(isSame(tensor, before[index]), tensor.name));
    const embeddings = encoder.forward(batch);
    encoder.backward(embeddings);
    encoder.commitStatistics();
    embeddings.dispose();
    encoder.weights().forEach((tensor, index) => {
      const moves = /running_mean|running_var|num_batches_tracked/.test(tensor.name);
      assert.equal(isSame(tensor, before[index]), !moves, tensor.name);
    });
    assert.ok(
      encoder.parameters.every(
        ({ gradient }) => gradient !== undefined && readFloats(gradient).some((value) => value !== 0),
      ),
    );
    encoder.dispose();
    batch.dispose();
  });

  test('weights that do not fit: every fault is named, and no tensor is left on the device', () => {
    const weights = WEIGHTS;
    const before = liveTensorCount();
    const [first, ...others] = weights;
    assert.ok(first !== undefined && first.dtype === 'F32');
    const load = (tensors: readonly NamedTensor[]) => (): void => encoderFromWeights('RESNET18', tensors).dispose();
    assert.deepEqual(mismatch(load(others)).missing, ['conv1.weight']);
    assert.deepEqual(mismatch(load([])).missing.length, 100);
    assert.deepEqual(mismatch(load([...weights, { ...first, name: 'fc.weight' }])).unexpected, ['fc.weight']);
    assert.deepEqual(mismatch(load([...weights, first])).unexpected, ['conv1.weight']);
    assert.equal(mismatch(load([{ ...first, shape: [64, 7, 7, 3] }, ...others])).mismatched.length, 1);
    assert.equal(mismatch(load([{ ...first, data: first.data.slice(1) }, ...others])).mismatched.length, 1);
    const bytes: NamedTensor = {
      name: first.name,
      dtype: 'U8',
      shape: first.shape,
      data: new Uint8Array(first.data.length),
    };
    assert.equal(mismatch(load([bytes, ...others])).mismatched.length, 1);
    const prefixed = mismatch(load(weights.map((tensor) => ({ ...tensor, name: `model.resnet.${tensor.name}` }))));
    assert.deepEqual([prefixed.missing.length, prefixed.unexpected.length], [100, 120]);
    assert.match(prefixed.message, /100 missing .*120 unexpected/);
    assert.throws(() => encoderFromWeights('RESNET34', weights), WeightsMismatchError);
    assert.equal(liveTensorCount(), before);
  });

  test('batch counts may be absent, as in files of old PyTorch versions; they then begin at 0', () => {
    const weights = WEIGHTS.filter(({ name }) => !name.endsWith('num_batches_tracked'));
    const encoder = encoderFromWeights('RESNET18', weights);
    assert.equal(encoder.weights().filter((tensor) => tensor.dtype === 'I64' && tensor.data[0] === 0n).length, 20);
    encoder.dispose();
  });

  test('calls of a pass in the wrong order throw', () => {
    const encoder = encoderFromWeights('RESNET18', WEIGHTS);
    const gradient = rows(2, 512);
    assert.throws(() => encoder.backward(gradient), /backward before forward/);
    assert.throws(() => encoder.commitStatistics(), /no forward pass/);
    gradient.dispose();
    encoder.dispose();
  });
});

describe('projection head', () => {
  const create = (): ProjectionHead => new ProjectionHead(6, 4, randomProjectionHead(6, 4, createRandom(7)));

  test('shapes, and its gradients by central differences', () => {
    const tensors = randomProjectionHead(6, 4, createRandom(7));
    const embeddings = rows(3, 6);
    const direction = rows(3, 4);
    const score = (some: readonly NamedTensor[], input: Tensor2D): number => {
      const head = new ProjectionHead(6, 4, some);
      const projections = head.forward(input);
      assert.deepEqual(projections.shape, [3, 4]);
      const value = readFloats(projections).reduce(
        (sum, at, index) => sum + at * (readFloats(direction)[index] ?? 0),
        0,
      );
      projections.dispose();
      head.dispose();
      return value;
    };
    const head = new ProjectionHead(6, 4, tensors);
    head.forward(embeddings).dispose();
    const inputGradient = head.backward(direction);
    const h = 1e-2;
    const close = (actual: number | undefined, plus: number, minus: number): void => {
      // The loss is piecewise linear in each number: the difference is exact unless a ReLU changes its sign within h,
      // which does not happen for this seed.
      assert.ok(Math.abs((actual ?? Number.NaN) - (plus - minus) / (2 * h)) < 2e-3);
    };
    tensors.forEach((tensor, which) => {
      assert.ok(tensor.dtype === 'F32');
      const gradient = head.parameters[which]?.gradient;
      assert.ok(gradient !== undefined);
      const values = readFloats(gradient);
      const moved = (by: number): NamedTensor[] =>
        tensors.map((other, index) =>
          index === which && other.dtype === 'F32'
            ? { ...other, data: other.data.map((value, at) => (at === 1 ? value + by : value)) }
            : other,
        );
      close(values[1], score(moved(h), embeddings), score(moved(-h), embeddings));
    });
    const shifted = (by: number): Tensor2D =>
      asRank2(
        scoped(() =>
          tf.add(
            embeddings,
            tf.tensor2d([
              [by, 0, 0, 0, 0, 0],
              [0, 0, 0, 0, 0, 0],
              [0, 0, 0, 0, 0, 0],
            ]),
          ),
        ),
      );
    close(readFloats(inputGradient)[0], score(tensors, shifted(h)), score(tensors, shifted(-h)));
    head.dispose();
  });

  test('save and load; a pass changes no weights', () => {
    const head = create();
    const weights = head.weights();
    const embeddings = rows(2, 6);
    const projections = head.forward(embeddings);
    head.backward(projections).dispose();
    assert.deepEqual(head.weights(), weights);
    const loaded = new ProjectionHead(6, 4, weights);
    assert.deepEqual(loaded.weights(), weights);
    const again = loaded.forward(embeddings);
    assert.deepEqual(readFloats(again), readFloats(projections));
    tf.dispose([embeddings, projections, again]);
    head.dispose();
    loaded.dispose();
    assert.equal(mismatch(() => new ProjectionHead(6, 4, weights.slice(1))).missing[0], 'fc.1.weight');
    assert.deepEqual(
      projectionHeadExpectations(6, 4).map(({ name }) => name),
      ['fc.1.weight', 'fc.1.bias', 'fc.3.weight', 'fc.3.bias'],
    );
  });

  test('no tensor leaks', () => {
    const embeddings = rows(2, 6);
    const before = liveTensorCount();
    const head = create();
    const projections = head.forward(embeddings);
    head.backward(projections).dispose();
    head.forward(embeddings).dispose();
    projections.dispose();
    head.dispose();
    assert.equal(liveTensorCount(), before);
    embeddings.dispose();
  });
});

function isSame(left: NamedTensor, right: NamedTensor | undefined): boolean {
  return (
    right !== undefined &&
    left.name === right.name &&
    left.data.length === right.data.length &&
    left.data.every((value, index) => value === right.data[index])
  );
}
