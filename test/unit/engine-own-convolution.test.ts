/** Our own ops of the convolution against its definition: by tiles and by patches, over borders, the ways for few and for many channels, any number of threads. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { describe, test } from 'node:test';
import { promisify } from 'node:util';
import { childEnvironment } from '../../src/env.ts';
import { hasOwnConvolution, hasOwnInputGradient, ownConvolution, ownFilterGradient, ownInputGradient } from '../../workers/engine/kernels/own-convolution.ts';
import { outputSide } from '../../workers/engine/kernels/padding.ts';
import type { Window } from '../../workers/engine/kernels/padding.ts';
import { createRandom } from '../../workers/engine/rng.ts';
import { asRank4, castTo, intAttr, liveTensorCount, readFloats, runOp, tf } from '../../workers/engine/tensorflow.ts';
import type { OpAttr, Tensor, Tensor4D } from '../../workers/engine/tensorflow.ts';

interface Shape {
  readonly what: string;
  readonly count: number;
  readonly height: number;
  readonly width: number;
  readonly inputChannels: number;
  readonly outputChannels: number;
  readonly window: Window;
}

/** What goes by tiles. */
const TILED: Window = { size: 3, stride: 1, padding: 1 };
const STRIDED: Window = { size: 3, stride: 2, padding: 1 };
const POINT: Window = { size: 1, stride: 1, padding: 0 };

const SHAPES: readonly Shape[] = [
  { what: 'whole tiles', count: 3, height: 8, width: 6, inputChannels: 16, outputChannels: 32, window: TILED },
  { what: 'tiles that reach over the lower and the right border', count: 2, height: 7, width: 5, inputChannels: 48, outputChannels: 16, window: TILED },
  { what: 'a tile of one pixel', count: 5, height: 1, width: 1, inputChannels: 32, outputChannels: 16, window: TILED },
  { what: 'tiles of one row', count: 2, height: 1, width: 9, inputChannels: 16, outputChannels: 16, window: TILED },
  { what: 'tiles of so many channels that all threads work at one part', count: 2, height: 3, width: 4, inputChannels: 512, outputChannels: 48, window: TILED },
  { what: 'tiles of so many channels that they are done in parts', count: 65, height: 4, width: 4, inputChannels: 496, outputChannels: 48, window: TILED },
  { what: 'more tiles than the gradient by the filter sums at once', count: 9, height: 32, width: 32, inputChannels: 16, outputChannels: 16, window: TILED },
  { what: 'patches in steps of two', count: 3, height: 8, width: 6, inputChannels: 32, outputChannels: 48, window: STRIDED },
  { what: 'patches in steps of two over odd sides', count: 2, height: 9, width: 5, inputChannels: 16, outputChannels: 16, window: STRIDED },
  { what: 'a patch larger than the image', count: 3, height: 1, width: 2, inputChannels: 16, outputChannels: 32, window: STRIDED },
  { what: 'patches of so many channels that sums are taken in parts', count: 2, height: 6, width: 6, inputChannels: 112, outputChannels: 32, window: STRIDED },
  { what: 'more patches than the gradient by the filter sums at once', count: 5, height: 17, width: 17, inputChannels: 16, outputChannels: 16, window: STRIDED },
  { what: 'the stem: three channels, sums of 147', count: 2, height: 17, width: 14, inputChannels: 3, outputChannels: 64, window: { size: 7, stride: 2, padding: 3 } },
  { what: 'a window without padding that leaves pixels out', count: 2, height: 8, width: 9, inputChannels: 16, outputChannels: 16, window: { size: 5, stride: 3, padding: 0 } },
  { what: 'a 3x3 of three channels at stride 1', count: 2, height: 6, width: 7, inputChannels: 3, outputChannels: 16, window: TILED },
  { what: 'pixels', count: 4, height: 7, width: 5, inputChannels: 48, outputChannels: 32, window: POINT },
  { what: 'pixels of so many channels that sums are taken in parts', count: 2, height: 5, width: 5, inputChannels: 528, outputChannels: 272, window: POINT },
  { what: 'every second pixel', count: 3, height: 7, width: 6, inputChannels: 32, outputChannels: 64, window: { size: 1, stride: 2, padding: 0 } },
];

function normals(seed: number, shape: readonly [number, number, number, number]): Tensor4D {
  const random = createRandom(seed);
  return asRank4(tf.tensor(Float32Array.from({ length: shape.reduce((product, side) => product * side, 1) }, () => random.normal()), [...shape]));
}

function outputShape({ count, height, width, outputChannels, window }: Shape): [number, number, number, number] {
  return [count, outputSide(window, height), outputSide(window, width), outputChannels];
}

/** Calls `visit` for every product of the convolution: the places of the pixel, of the filter's value and of the result. Innermost are the output channels. */
function eachProduct(shape: Shape, visit: (input: number, weight: number, output: number) => void): void {
  const { height, width, inputChannels, outputChannels, window: { size, stride, padding } } = shape;
  const [count, outputHeight, outputWidth] = outputShape(shape);
  for (let place = 0; place < count * outputHeight * outputWidth; place += 1) {
    const image = Math.floor(place / (outputHeight * outputWidth));
    const top = (Math.floor(place / outputWidth) % outputHeight) * stride - padding;
    const left = (place % outputWidth) * stride - padding;
    for (let tap = 0; tap < size * size; tap += 1) {
      const [row, column] = [top + Math.floor(tap / size), left + (tap % size)];
      if (row < 0 || row >= height || column < 0 || column >= width) continue;
      for (let input = 0; input < inputChannels; input += 1) {
        visit(((image * height + row) * width + column) * inputChannels + input, (tap * inputChannels + input) * outputChannels, place * outputChannels);
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

interface Results {
  readonly tensors: readonly Tensor[];
  /** By the ops: the convolution, the gradient by the filter and, where there is one, that by the images. */
  readonly found: readonly Float32Array[];
  readonly images: Float32Array;
  readonly filter: Float32Array;
  readonly gradient: Float32Array;
}

/** All ops of one shape. */
function results(shape: Shape): Results {
  const { count, height, width, inputChannels, outputChannels, window } = shape;
  const images = normals(1, [count, height, width, inputChannels]);
  const filter = normals(2, [window.size, window.size, inputChannels, outputChannels]);
  const gradient = normals(3, outputShape(shape));
  assert.ok(hasOwnConvolution(images, filter.shape), 'every processor that the engine is built for has AVX2');
  const made = [ownConvolution(images, filter, window), ownFilterGradient(images, gradient, window)];
  if (hasOwnInputGradient(gradient, filter.shape)) made.push(ownInputGradient(images.shape, filter, gradient, window));
  assert.deepEqual(made.map((tensor) => tensor.shape), [gradient.shape, filter.shape, images.shape].slice(0, made.length));
  return { tensors: [images, filter, gradient, ...made], found: made.map(readFloats), images: readFloats(images), filter: readFloats(filter), gradient: readFloats(gradient) };
}

describe('our own convolution', () => {
  for (const shape of SHAPES) {
    test(`${shape.what}: the sum of products over its window, and so are its gradients`, () => {
      const before = liveTensorCount();
      const { tensors, found, images, filter, gradient } = results(shape);
      assert.equal(found.length, shape.inputChannels === 3 ? 2 : 3);
      const [output, byImages, byFilter] = byDefinition(shape, images, filter, gradient);
      [output, byFilter, byImages].slice(0, found.length).forEach((wanted, index) => assertNear(['the convolution', 'the gradient by the filter', 'the gradient by images'][index] ?? '', found[index] ?? new Float32Array(), wanted));
      tf.dispose([...tensors]);
      assert.equal(liveTensorCount(), before);
    });
  }

  test('takes float32 alone, and output channels in multiples of 16; for the gradient by images input channels too', () => {
    const images = normals(1, [1, 4, 4, 16]);
    const rounded = asRank4(castTo(images, 'bfloat16'));
    assert.ok(hasOwnConvolution(images, [3, 3, 16, 32]));
    assert.ok(hasOwnConvolution(images, [7, 7, 3, 64]));
    assert.ok(!hasOwnConvolution(images, [3, 3, 16, 24]));
    assert.ok(!hasOwnConvolution(rounded, [3, 3, 16, 32]));
    assert.ok(hasOwnInputGradient(images, [3, 3, 32, 16]));
    assert.ok(!hasOwnInputGradient(images, [3, 3, 3, 16]));
    tf.dispose([images, rounded]);
  });

  test('shapes that do not belong together are refused, and the next call is fine', () => {
    const [images, filter] = [normals(1, [2, 4, 4, 16]), normals(2, [3, 3, 16, 32])];
    const settings = (values: Readonly<Record<string, number>>): OpAttr[] => Object.entries({ stride: 1, padding: 1, ...values }).map(([name, value]) => intAttr(name, value));
    type Sides = readonly [number, number, number, number];
    const wrong: readonly (readonly [string, OpAttr[], Sides, Sides])[] = [
      ['ParaffinConvolution', settings({}), [2, 4, 4, 32], [3, 3, 16, 32]],
      ['ParaffinConvolution', settings({}), [2, 4, 4, 16], [3, 2, 16, 32]],
      ['ParaffinConvolution', settings({}), [2, 4, 4, 16], [3, 3, 16, 24]],
      ['ParaffinConvolution', settings({ stride: 0 }), [2, 4, 4, 16], [3, 3, 16, 32]],
      ['ParaffinConvolution', settings({ padding: -1 }), [2, 4, 4, 16], [3, 3, 16, 32]],
      ['ParaffinConvolution', settings({ padding: 0 }), [2, 2, 4, 16], [3, 3, 16, 32]],
      ['ParaffinConvolutionInputGradient', settings({ height: 4, width: 4 }), [3, 3, 16, 32], [2, 4, 4, 16]],
      ['ParaffinConvolutionInputGradient', settings({ height: 4, width: 5 }), [3, 3, 16, 32], [2, 4, 4, 32]],
      ['ParaffinConvolutionInputGradient', settings({ height: 4, width: 4 }), [3, 3, 3, 32], [2, 4, 4, 32]],
      ['ParaffinConvolutionFilterGradient', settings({ side: 3 }), [2, 4, 4, 16], [2, 4, 5, 32]],
      ['ParaffinConvolutionFilterGradient', settings({ side: 3 }), [2, 4, 4, 16], [3, 4, 4, 32]],
      ['ParaffinConvolutionFilterGradient', settings({ side: 3 }), [2, 4, 4, 16], [2, 4, 4, 20]],
      ['ParaffinConvolutionFilterGradient', settings({ side: 0 }), [2, 4, 4, 16], [2, 6, 6, 32]],
    ];
    for (const [name, attrs, first, second] of wrong) {
      const inputs = [normals(3, first), normals(4, second)];
      assert.throws(() => runOp(name, attrs, inputs), /a multiple of 16/, `${name} of [${first.join()}] and [${second.join()}]`);
      tf.dispose(inputs);
    }
    const vector = tf.ones([16]);
    assert.throws(() => runOp('ParaffinConvolution', settings({}), [vector, filter]), /a multiple of 16/);
    const output = ownConvolution(images, filter, TILED);
    assert.deepEqual(output.shape, [2, 4, 4, 32]);
    tf.dispose([images, filter, vector, output]);
  });

  test('no image at all is no work, and a gradient of zero', () => {
    for (const window of [TILED, STRIDED]) {
      const [images, filter, gradient] = [tf.zeros([0, 4, 4, 16]), normals(2, [3, 3, 16, 32]), tf.zeros([0, outputSide(window, 4), outputSide(window, 4), 32])];
      const made = [ownConvolution(asRank4(images), filter, window), ownFilterGradient(asRank4(images), asRank4(gradient), window)];
      assert.deepEqual(made.map(({ shape }) => shape), [gradient.shape, filter.shape]);
      assert.ok(made.every((tensor) => readFloats(tensor).every((value) => value === 0)));
      tf.dispose([images, filter, gradient, ...made]);
    }
  });

  test('one, two and five threads come to the same digits', async () => {
    const digests = await Promise.all(['1', '2', '5'].map(digestWithThreads));
    assert.match(digests[0] ?? '', /^[0-9a-f]{64}$/);
    assert.equal(new Set(digests).size, 1);
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
