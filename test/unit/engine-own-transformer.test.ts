/**
 * The layers of transformers by our own ops: products so large that they are summed in parts, in both precisions,
 * against their definitions; wrong shapes, NaN, and any number of threads.
 * `native-fuzz.test.ts` compares the same kernels with their definitions on random shapes, and the golden tests of
 * vision transformers compare the gradients of whole networks with PyTorch's in float64.
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { describe, test } from 'node:test';
import { promisify } from 'node:util';
import { childEnvironment } from '../../src/env.ts';
import {
  attention,
  attentionByTensorflow,
  attentionGradient,
  disposeAttention,
} from '../../workers/engine/kernels/attention.ts';
import { geluByTensorflow, geluGradientByTensorflow } from '../../workers/engine/kernels/gelu.ts';
import { layerNormByTensorflow, layerNormGradientByTensorflow } from '../../workers/engine/kernels/layer-norm.ts';
import { linearByTensorflow, linearGradientByTensorflow } from '../../workers/engine/kernels/linear.ts';
import {
  hasOwnLinear,
  hasOwnTransformerOps,
  ownAttention,
  ownAttentionGradient,
  ownGelu,
  ownGeluGradient,
  ownLayerNorm,
  ownLayerNormGradient,
  ownLinear,
  ownLinearGradient,
} from '../../workers/engine/kernels/own-transformer.ts';
import { createRandom } from '../../workers/engine/rng.ts';
import {
  asRank2,
  castTo,
  liveTensorCount,
  readFloats,
  scoped,
  tf,
  type FloatDtype,
  type Tensor,
  type Tensor2D,
} from '../../workers/engine/tensorflow.ts';

function normals(seed: number, rows: number, columns: number): Tensor2D {
  const random = createRandom(seed);
  return tf.tensor2d(
    Float32Array.from({ length: rows * columns }, () => random.normal()),
    [rows, columns],
  );
}

function vector(seed: number, length: number): Tensor {
  return scoped(() => tf.reshape(normals(seed, 1, length), [length]));
}

const entry = (values: ArrayLike<number>, place: number): number => values[place] ?? Number.NaN;

/**
 * No number differs by more than `tolerance` of the root mean square: a float32 sum of 3000 terms, one after another,
 * has a standard error of 2e-6 of it.
 */
function assertNear(what: string, found: Float32Array, wanted: ArrayLike<number>, tolerance = 2e-5): void {
  assert.equal(found.length, wanted.length);
  const numbers = Array.from(wanted);
  const typical = Math.sqrt(numbers.reduce((sum, value) => sum + value * value, 0) / numbers.length);
  const worst = numbers.reduce((most, value, place) => {
    const difference = Math.abs(value - entry(found, place));
    return Number.isNaN(difference) ? Number.POSITIVE_INFINITY : Math.max(most, difference);
  }, 0);
  assert.ok(worst <= tolerance * typical, `${what}: differs by ${worst / typical} of a typical value`);
}

/** left `[R, K]` times right `[C, K]` transposed, in float64. */
function productByDefinition(left: Float32Array, right: Float32Array, depth: number): Float64Array {
  const [rows, columns] = [left.length / depth, right.length / depth];
  const product = new Float64Array(rows * columns);
  for (let row = 0; row < rows; row += 1)
    for (let column = 0; column < columns; column += 1) {
      let sum = 0;
      for (let place = 0; place < depth; place += 1)
        sum += entry(left, row * depth + place) * entry(right, column * depth + place);
      product[row * columns + column] = sum;
    }
  return product;
}

/** The numbers as the dtype holds them. */
function rounded(tensor: Tensor, dtype: FloatDtype): Float32Array {
  const back = scoped(() => castTo(castTo(tensor, dtype), 'float32'));
  const values = readFloats(back);
  back.dispose();
  return values;
}

function transposed(values: Float32Array, columns: number): Float32Array {
  const rows = values.length / columns;
  return values.map((_, place) => entry(values, (place % rows) * columns + Math.floor(place / rows)));
}

/** Rows, inputs and outputs: the gradient of the weight sums over so many rows that it is taken in parts. */
const LINEAR = { rows: 1100, inputs: 3000, outputs: 6 };
const PRECISIONS = ['float32', 'bfloat16'] as const;

test('every processor that the engine is built for has these ops', () => {
  assert.ok(hasOwnTransformerOps());
  assert.ok(hasOwnLinear('float32'));
});

describe('our own linear layer', () => {
  for (const dtype of PRECISIONS) {
    test(`${dtype}: the sum of products, its offset, and its gradients`, () => {
      if (!hasOwnLinear(dtype)) {
        assert.throws(() => ownLinear(tf.ones([1, 1]), tf.ones([1, 1]), undefined, dtype), /no bfloat16/);
        return;
      }
      const before = liveTensorCount();
      const { rows, inputs, outputs } = LINEAR;
      const [input, weight, arriving] = [
        normals(1, rows, inputs),
        normals(2, outputs, inputs),
        normals(3, rows, outputs),
      ];
      const bias = vector(4, outputs);
      const output = ownLinear(input, weight, bias, dtype);
      const plain = ownLinear(input, weight, undefined, dtype);
      const gradients = ownLinearGradient(input, weight, arriving, dtype);
      const [x, w, g] = [input, weight, arriving].map((tensor) => rounded(tensor, dtype));
      const [byInput, byWeight, byBias] = gradients.map(readFloats);
      assert.ok(x && w && g && byInput && byWeight && byBias);
      const product = productByDefinition(x, w, inputs);
      const offsets = readFloats(bias);
      assertNear('without an offset', readFloats(plain), product);
      assertNear(
        'with an offset',
        readFloats(output),
        product.map((value, place) => value + entry(offsets, place % outputs)),
      );
      assertNear('by the input', byInput, productByDefinition(g, transposed(w, inputs), outputs));
      assertNear('by the weight', byWeight, productByDefinition(transposed(g, outputs), transposed(x, inputs), rows));
      // The gradient of the offset is a sum of float32 numbers in every precision.
      const exact = readFloats(arriving);
      const sums = new Float64Array(outputs);
      exact.forEach((value, place) => (sums[place % outputs] = entry(sums, place % outputs) + value));
      assertNear('by the offset', byBias, sums);
      tf.dispose([input, weight, arriving, bias, output, plain, ...gradients]);
      assert.equal(liveTensorCount(), before);
    });
  }

  test('a NaN or an infinity reaches the results that depend on it, in both precisions', () => {
    for (const dtype of PRECISIONS.filter(hasOwnLinear))
      for (const broken of [Number.NaN, Number.POSITIVE_INFINITY]) {
        const input = tf.tensor2d([1, 2, 3, broken, 5, 6], [2, 3]);
        const weight = tf.tensor2d([1, 1, 1, 2, 1, 1], [2, 3]);
        const output = ownLinear(input, weight, undefined, dtype);
        const values = [...readFloats(output)];
        assert.deepEqual(values, [6, 7, broken, broken], dtype);
        tf.dispose([input, weight, output]);
      }
  });

  test('wrong shapes are refused, and no rows give no rows and gradients of zero', () => {
    const [input, weight, none] = [normals(1, 4, 6), normals(2, 5, 6), tf.zeros([0, 6])];
    for (const wrong of [normals(3, 5, 7), tf.zeros([5, 6, 1]), tf.zeros([6])])
      assert.throws(() => ownLinear(input, wrong, undefined, 'float32'), /the weight \[O, I\]/);
    assert.throws(() => ownLinear(input, weight, vector(4, 6), 'float32'), /the offset \[O\]/);
    assert.throws(() => ownLinearGradient(input, weight, normals(3, 4, 6), 'float32'), /the output \[R, O\]/);
    assert.throws(() => ownLinearGradient(input, weight, normals(3, 3, 5), 'float32'), /the output \[R, O\]/);
    const output = ownLinear(none, weight, undefined, 'float32');
    assert.deepEqual(output.shape, [0, 5]);
    const gradients = ownLinearGradient(none, weight, tf.zeros([0, 5]), 'float32');
    assert.deepEqual(
      gradients.map(({ shape }) => shape),
      [[0, 6], [5, 6], [5]],
    );
    assert.ok(gradients.every((gradient) => readFloats(gradient).every((value) => value === 0)));
  });
});

describe('the other layers', () => {
  test('layer norm passes NaN on in its row alone, and refuses wrong shapes', () => {
    const rows = scoped(() => asRank2(tf.concat([normals(1, 1, 12), tf.fill([1, 12], Number.NaN), normals(2, 2, 12)])));
    const [scale, offset] = [vector(3, 12), vector(4, 12)];
    const made = ownLayerNorm(rows, scale, offset, 1e-6);
    const [output, mean, inverseStd] = made;
    assert.ok(output && mean && inverseStd);
    assert.deepEqual(
      [mean.shape, inverseStd.shape],
      [
        [4, 1],
        [4, 1],
      ],
    );
    const perRow = Array.from({ length: 4 }, (_, row) => readFloats(output).subarray(12 * row, 12 * row + 12));
    assert.deepEqual(
      perRow.map((values) => values.every(Number.isNaN)),
      [false, true, false, false],
    );
    assert.deepEqual(
      perRow.map((values) => values.some(Number.isNaN)),
      [false, true, false, false],
    );
    assert.throws(() => ownLayerNorm(rows, vector(3, 11), offset, 1e-6), /must be \[R, W\]/);
    assert.throws(() => ownLayerNormGradient(rows, scale, vector(5, 4), inverseStd, rows), /\[R, 1\]/);
    assert.throws(() => ownLayerNormGradient(rows, scale, mean, inverseStd, normals(1, 3, 12)), /must be \[R, W\]/);
    tf.dispose([rows, scale, offset, ...made]);
  });

  test('layer norm of values far from zero keeps their digits', () => {
    const rows = scoped(() => asRank2(tf.add(normals(1, 3, 50), 1000)));
    const made = ownLayerNorm(rows, tf.ones([50]), tf.zeros([50]), 1e-6);
    const values = Float64Array.from(readFloats(rows));
    const wanted = values.map((value, place) => {
      const row = values.subarray(Math.floor(place / 50) * 50, Math.floor(place / 50) * 50 + 50);
      const mean = row.reduce((sum, each) => sum + each, 0) / 50;
      const variance = row.reduce((sum, each) => sum + (each - mean) ** 2, 0) / 50;
      return (value - mean) / Math.sqrt(variance + 1e-6);
    });
    const [output] = made;
    assert.ok(output);
    // The mean of about 1000 is rounded to float32, by up to 6e-5.
    assertNear('the output', readFloats(output), wanted, 1e-4);
  });

  test('GELU at its limits: zero on the left, the identity on the right, NaN as NaN', () => {
    const x = tf.tensor2d([-1e30, -40, -0, 0, 40, 1e30, Number.NaN], [1, 7]);
    const [output, gradient] = [ownGelu(x), ownGeluGradient(x, asRank2(tf.ones([1, 7])))];
    const found = [...readFloats(output)].map((value) => (Math.abs(value) < 1e-30 ? 0 : value));
    assert.deepEqual(found, [0, 0, 0, 0, 40, Math.fround(1e30), Number.NaN]);
    assert.deepEqual(
      [...readFloats(gradient)].map((value) => (Math.abs(value) < 1e-30 ? 0 : value)),
      [0, 0, 0.5, 0.5, 1, 1, Number.NaN],
    );
    assert.throws(() => ownGeluGradient(x, normals(1, 7, 1)), /must be \[R, W\]/);
    tf.dispose([x, output, gradient]);
  });

  test('attention of large products does not overflow, and NaN stays in its image', () => {
    const shape = { tokenCount: 5, headCount: 2 };
    const large = scoped(() => asRank2(tf.mul(normals(1, 10, 24), 1e4)));
    const made = ownAttention(large, shape);
    assert.ok(made.every((tensor) => readFloats(tensor).every(Number.isFinite)));
    const broken = scoped(() => asRank2(tf.concat([tf.fill([5, 24], Number.NaN), normals(2, 5, 24)])));
    const [output, statistics] = ownAttention(broken, shape);
    assert.ok(output && statistics);
    const values = readFloats(output);
    assert.ok(values.subarray(0, 40).every(Number.isNaN) && values.subarray(40).every(Number.isFinite));
    const gradient = readFloats(ownAttentionGradient(broken, statistics, normals(3, 10, 8), shape));
    assert.ok(gradient.subarray(0, 120).every(Number.isNaN) && gradient.subarray(120).every(Number.isFinite));
  });

  test('attention refuses wrong shapes', () => {
    const qkv = normals(1, 10, 24);
    for (const shape of [
      { tokenCount: 3, headCount: 2 },
      { tokenCount: 5, headCount: 3 },
      { tokenCount: 0, headCount: 2 },
      { tokenCount: 5, headCount: 0 },
    ])
      assert.throws(() => ownAttention(qkv, shape), /must be \[N \* tokens/);
    const shape = { tokenCount: 5, headCount: 2 };
    const [, statistics] = ownAttention(qkv, shape);
    assert.ok(statistics);
    assert.throws(() => ownAttentionGradient(qkv, statistics, normals(2, 10, 24), shape), /the output \[N/);
    assert.throws(() => ownAttentionGradient(qkv, qkv, normals(2, 10, 8), shape), /statistics \[N/);
  });

  test('one, two and five threads give identical results', async () => {
    const digests = await Promise.all(['1', '2', '5'].map(digestWithThreads));
    assert.match(digests[0] ?? '', /^[0-9a-f]{64}$/);
    assert.equal(new Set(digests).size, 1);
  });
});

/** A GPU, or a CPU without AVX2, computes the layers by these; here they run on the CPU. */
describe("TensorFlow's ops, which other devices use", () => {
  const same = (what: string, ours: readonly Tensor[], others: readonly Tensor[]): void => {
    assert.deepEqual(
      ours.map(({ shape }) => shape),
      others.map(({ shape }) => shape),
    );
    ours.forEach((tensor, place) =>
      assertNear(`${what}, ${place}`, readFloats(tensor), readFloats(others[place] ?? tensor)),
    );
    tf.dispose([...ours, ...others]);
  };

  test('give the numbers of ours', () => {
    const before = liveTensorCount();
    const [x, arriving, weight] = [normals(1, 14, 24), normals(2, 14, 24), normals(3, 24, 24)];
    const [scale, offset] = [vector(4, 24), vector(5, 24)];
    const state = { weight, bias: offset, computeDtype: 'float32' } as const;
    const gradients = linearGradientByTensorflow(x, state, arriving);
    same('linear', [ownLinear(x, weight, offset, 'float32')], [linearByTensorflow(x, state)]);
    same('the gradient of linear', ownLinearGradient(x, weight, arriving, 'float32'), [
      gradients.input,
      gradients.weight,
      gradients.bias,
    ]);
    const norm = layerNormByTensorflow(x, { scale, offset, epsilon: 1e-6 });
    const own = layerNormGradientByTensorflow(x, scale, norm, arriving);
    same('the gradient of layer norm', ownLayerNormGradient(x, scale, norm.mean, norm.inverseStd, arriving), [
      own.rows,
      own.scale,
      own.offset,
    ]);
    same('layer norm', ownLayerNorm(x, scale, offset, 1e-6), [norm.output, norm.mean, norm.inverseStd]);
    same('GELU', [ownGelu(x)], [geluByTensorflow(x)]);
    same('the gradient of GELU', [ownGeluGradient(x, arriving)], [geluGradientByTensorflow(x, arriving)]);
    const shape = { imageCount: 2, tokenCount: 7, headCount: 2 };
    const [ours, others] = [attention(x, shape), attentionByTensorflow(x, shape)];
    const part = scoped(() => asRank2(tf.slice(arriving, [0, 0], [14, 8])));
    same('the gradient of attention', [attentionGradient(ours.trace, part)], [attentionGradient(others.trace, part)]);
    same('attention', [ours.output], [others.output]);
    disposeAttention(ours.trace);
    disposeAttention(others.trace);
    tf.dispose([x, arriving, weight, scale, offset, part]);
    assert.equal(liveTensorCount(), before, 'tensors were left behind');
  });
});

/** The digest of the ops' results in a separate process, because the number of threads is read only once. */
async function digestWithThreads(count: string): Promise<string> {
  const { stdout } = await promisify(execFile)(process.execPath, [import.meta.filename, 'digest'], {
    env: childEnvironment({ TF_NUM_INTRAOP_THREADS: count }),
  });
  return stdout.trim();
}

if (process.argv[2] === 'digest') {
  const hash = createHash('sha256');
  const [tokens, weight] = [normals(1, 3 * 70, 48), normals(2, 144, 48)];
  const [scale, offset, bias] = [vector(3, 48), vector(4, 48), vector(5, 144)];
  const norm = ownLayerNorm(tokens, scale, offset, 1e-6);
  const [normalised = tokens, mean = tokens, inverseStd = tokens] = norm;
  const shape = { tokenCount: 70, headCount: 3 };
  const linears = PRECISIONS.filter(hasOwnLinear).flatMap((dtype) => {
    const qkv = ownLinear(normalised, weight, bias, dtype);
    const [output = qkv, statistics = qkv] = ownAttention(qkv, shape);
    const gradient = ownAttentionGradient(qkv, statistics, asRank2(output), shape);
    return [qkv, output, gradient, ...ownLinearGradient(normalised, weight, gradient, dtype)];
  });
  const [first = tokens] = linears;
  for (const tensor of [
    ...norm,
    ...linears,
    ...ownLayerNormGradient(tokens, scale, mean, inverseStd, normalised),
    ownGelu(asRank2(first)),
    ownGeluGradient(asRank2(first), asRank2(first)),
  ]) {
    const floats = readFloats(tensor);
    hash.update(new Uint8Array(floats.buffer, floats.byteOffset, floats.byteLength));
  }
  process.stdout.write(`${hash.digest('hex')}\n`);
  process.exit(0);
}
