/** Our own ops of the 3x3 convolution against its definition: tiles that reach over a border, the ways for few and for many channels, any number of threads. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { describe, test } from 'node:test';
import { promisify } from 'node:util';
import { childEnvironment } from '../../src/env.ts';
import { canBeTiled, convolveByTiles, tiledFilterGradient, tiledInputGradient } from '../../workers/engine/kernels/winograd.ts';
import { createRandom } from '../../workers/engine/rng.ts';
import { asRank4, castTo, liveTensorCount, readFloats, runOp, tf } from '../../workers/engine/tensorflow.ts';
import type { Tensor, Tensor4D } from '../../workers/engine/tensorflow.ts';

interface Shape {
  readonly what: string;
  readonly count: number;
  readonly height: number;
  readonly width: number;
  readonly inputChannels: number;
  readonly outputChannels: number;
}

const SHAPES: readonly Shape[] = [
  { what: 'whole tiles', count: 3, height: 8, width: 6, inputChannels: 16, outputChannels: 32 },
  { what: 'tiles that reach over the lower and the right border', count: 2, height: 7, width: 5, inputChannels: 48, outputChannels: 16 },
  { what: 'one pixel', count: 5, height: 1, width: 1, inputChannels: 32, outputChannels: 16 },
  { what: 'one row', count: 2, height: 1, width: 9, inputChannels: 16, outputChannels: 16 },
  { what: 'so many channels that all threads work at one part', count: 2, height: 3, width: 4, inputChannels: 512, outputChannels: 48 },
  { what: 'so many channels and tiles that they are done in parts', count: 65, height: 4, width: 4, inputChannels: 496, outputChannels: 48 },
  { what: 'more tiles than the gradient by the filter sums at once', count: 9, height: 32, width: 32, inputChannels: 16, outputChannels: 16 },
];

const WINDOW = { size: 3, stride: 1, padding: 1 };

function normals(seed: number, shape: readonly [number, number, number, number]): Tensor4D {
  const random = createRandom(seed);
  return asRank4(tf.tensor(Float32Array.from({ length: shape.reduce((product, side) => product * side, 1) }, () => random.normal()), [...shape]));
}

/** Calls `visit` for every product of the convolution: the places of the pixel, of the filter's value and of the result. Innermost are the output channels. */
function eachProduct({ count, height, width, inputChannels, outputChannels }: Shape, visit: (input: number, weight: number, output: number) => void): void {
  for (let image = 0; image < count; image += 1) {
    for (let y = 0; y < height; y += 1) {
      for (let x = 0; x < width; x += 1) {
        for (let tap = 0; tap < 9; tap += 1) {
          const [row, column] = [y + Math.floor(tap / 3) - 1, x + (tap % 3) - 1];
          if (row < 0 || row >= height || column < 0 || column >= width) continue;
          for (let input = 0; input < inputChannels; input += 1) {
            visit(((image * height + row) * width + column) * inputChannels + input, (tap * inputChannels + input) * outputChannels, ((image * height + y) * width + x) * outputChannels);
          }
        }
      }
    }
  }
}

/** The convolution and its two gradients by their definition, in float64. */
function byDefinition(shape: Shape, images: Float32Array, filter: Float32Array, gradient: Float32Array): readonly [Float64Array, Float64Array, Float64Array] {
  const [output, byImages, byFilter] = [new Float64Array(gradient.length), new Float64Array(images.length), new Float64Array(filter.length)];
  eachProduct(shape, (input, weight, result) => {
    const pixel = images[input] ?? Number.NaN;
    let sum = 0;
    for (let channel = 0; channel < shape.outputChannels; channel += 1) {
      const [value, arriving] = [filter[weight + channel] ?? Number.NaN, gradient[result + channel] ?? Number.NaN];
      output[result + channel] = (output[result + channel] ?? Number.NaN) + pixel * value;
      byFilter[weight + channel] = (byFilter[weight + channel] ?? Number.NaN) + pixel * arriving;
      sum += value * arriving;
    }
    byImages[input] = (byImages[input] ?? Number.NaN) + sum;
  });
  return [output, byImages, byFilter];
}

/** No number is off by more than a few roundings of what it is a sum of. */
function assertNear(what: string, found: Float32Array, wanted: Float64Array): void {
  assert.equal(found.length, wanted.length);
  const typical = Math.sqrt(wanted.reduce((sum, value) => sum + value * value, 0) / wanted.length);
  const worst = wanted.reduce((most, value, index) => Math.max(most, Math.abs(value - (found[index] ?? Number.NaN))), 0);
  assert.ok(worst <= 1e-5 * typical, `${what}: off by ${worst / typical} of a typical value`);
}

/** All three ops of one shape. */
function results({ count, height, width, inputChannels, outputChannels }: Shape): { readonly tensors: readonly Tensor[]; readonly found: readonly Float32Array[]; readonly given: readonly [Float32Array, Float32Array, Float32Array] } {
  const images = normals(1, [count, height, width, inputChannels]);
  const filter = normals(2, [3, 3, inputChannels, outputChannels]);
  const gradient = normals(3, [count, height, width, outputChannels]);
  assert.ok(canBeTiled(images, filter.shape, WINDOW), 'every processor that the engine is built for has AVX2');
  const made = [convolveByTiles(images, filter), tiledInputGradient(filter, gradient), tiledFilterGradient(images, gradient)];
  assert.deepEqual(made.map(({ shape }) => shape), [gradient.shape, images.shape, filter.shape]);
  return { tensors: [images, filter, gradient, ...made], found: made.map(readFloats), given: [readFloats(images), readFloats(filter), readFloats(gradient)] };
}

describe('the convolution by tiles', () => {
  for (const shape of SHAPES) {
    test(`${shape.what}: is the sum of products over its window, and so are its gradients`, () => {
      const before = liveTensorCount();
      const { tensors, found, given } = results(shape);
      byDefinition(shape, ...given).forEach((wanted, index) => assertNear(['the convolution', 'the gradient by images', 'the gradient by the filter'][index] ?? '', found[index] ?? new Float32Array(), wanted));
      tf.dispose([...tensors]);
      assert.equal(liveTensorCount(), before);
    });
  }

  test('takes 3x3 windows of stride 1 over float32 alone, in multiples of 16 channels', () => {
    const images = normals(1, [1, 4, 4, 16]);
    const rounded = asRank4(castTo(images, 'bfloat16'));
    assert.ok(canBeTiled(images, [3, 3, 16, 32], WINDOW));
    assert.ok(!canBeTiled(images, [3, 3, 16, 24], WINDOW));
    assert.ok(!canBeTiled(images, [3, 3, 3, 16], WINDOW));
    assert.ok(!canBeTiled(images, [3, 3, 16, 32], { ...WINDOW, stride: 2 }));
    assert.ok(!canBeTiled(images, [3, 3, 16, 32], { ...WINDOW, padding: 0 }));
    assert.ok(!canBeTiled(images, [5, 5, 16, 32], { size: 5, stride: 1, padding: 1 }));
    assert.ok(!canBeTiled(rounded, [3, 3, 16, 32], WINDOW));
    tf.dispose([images, rounded]);
  });

  test('shapes that do not belong together are refused, and the next call is fine', () => {
    const [images, filter] = [normals(1, [2, 4, 4, 16]), normals(2, [3, 3, 16, 32])];
    const wrong: readonly (readonly [string, readonly [number, number, number, number], readonly [number, number, number, number]])[] = [
      ['ParaffinConvolution', [2, 4, 4, 32], [3, 3, 16, 32]],
      ['ParaffinConvolution', [2, 4, 4, 16], [3, 2, 16, 32]],
      ['ParaffinConvolution', [2, 4, 4, 24], [3, 3, 24, 32]],
      ['ParaffinConvolutionInputGradient', [3, 3, 16, 32], [2, 4, 4, 16]],
      ['ParaffinConvolutionFilterGradient', [2, 4, 4, 16], [2, 4, 5, 32]],
      ['ParaffinConvolutionFilterGradient', [2, 4, 4, 16], [3, 4, 4, 32]],
      ['ParaffinConvolutionFilterGradient', [2, 4, 4, 16], [2, 4, 4, 20]],
    ];
    for (const [name, first, second] of wrong) {
      const inputs = [normals(3, first), normals(4, second)];
      assert.throws(() => runOp(name, [], inputs), /multiples of 16/, `${name} of [${first.join()}] and [${second.join()}]`);
      tf.dispose(inputs);
    }
    const vector = tf.ones([16]);
    assert.throws(() => runOp('ParaffinConvolution', [], [vector, filter]), /multiples of 16/);
    const output = convolveByTiles(images, filter);
    assert.deepEqual(output.shape, [2, 4, 4, 32]);
    tf.dispose([images, filter, vector, output]);
  });

  test('no image at all is no work', () => {
    const [images, filter, gradient] = [tf.zeros([0, 4, 4, 16]), normals(2, [3, 3, 16, 32]), tf.zeros([0, 4, 4, 32])];
    const made = [convolveByTiles(asRank4(images), filter), tiledFilterGradient(asRank4(images), asRank4(gradient))];
    assert.deepEqual(made.map(({ shape }) => shape), [[0, 4, 4, 32], [3, 3, 16, 32]]);
    assert.ok(made.every((tensor) => readFloats(tensor).every((value) => value === 0)), 'a sum of nothing is zero');
    tf.dispose([images, filter, gradient, ...made]);
  });

  test('one, two and five threads come to the same digits', async () => {
    const digests = await Promise.all(['1', '2', '5'].map(digestWithThreads));
    assert.match(digests[0] ?? '', /^[0-9a-f]{64}$/);
    assert.deepEqual(new Set(digests).size, 1);
  });
});

/** The digest of the ops' results in a process of its own: how many threads there are is read once. */
async function digestWithThreads(count: string): Promise<string> {
  const { stdout } = await promisify(execFile)(process.execPath, [import.meta.filename, 'digest'], { env: childEnvironment({ TF_NUM_INTRAOP_THREADS: count }) });
  return stdout.trim();
}

if (process.argv[2] === 'digest') {
  const hash = createHash('sha256');
  for (const shape of SHAPES) for (const floats of results(shape).found) hash.update(new Uint8Array(floats.buffer, floats.byteOffset, floats.byteLength));
  process.stdout.write(`${hash.digest('hex')}\n`);
  process.exit(0);
}
