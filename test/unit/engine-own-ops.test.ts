/**
 * Our own ops in C++ against their definitions: convolution by tiles and by patches, at borders, in the code paths for
 * few and for many channels; batch norm; any number of threads.
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { describe, test } from 'node:test';
import { promisify } from 'node:util';
import { childEnvironment } from '../../src/env.ts';
import type { Activation, BatchNormState } from '../../workers/engine/kernels/batch-norm.ts';
import { hasOwnBatchNorm, ownBatchNorm, ownBatchNormGradient } from '../../workers/engine/kernels/own-batch-norm.ts';
import {
  hasOwnConvolution,
  hasOwnInputGradient,
  ownConvolution,
  ownFilterGradient,
  ownInputGradient,
  ownNormalisedConvolution,
} from '../../workers/engine/kernels/own-convolution.ts';
import { outputSide } from '../../workers/engine/kernels/padding.ts';
import type { Window } from '../../workers/engine/kernels/padding.ts';
import { createRandom } from '../../workers/engine/rng.ts';
import {
  asRank4,
  castTo,
  intAttr,
  liveTensorCount,
  readFloats,
  runOp,
  scoped,
  tf,
} from '../../workers/engine/tensorflow.ts';
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

/** Shapes that are computed by tiles. */
const TILED: Window = { size: 3, stride: 1, padding: 1 };
const STRIDED: Window = { size: 3, stride: 2, padding: 1 };
const POINT: Window = { size: 1, stride: 1, padding: 0 };

const SHAPES: readonly Shape[] = [
  { what: 'whole tiles', count: 3, height: 8, width: 6, inputChannels: 16, outputChannels: 32, window: TILED },
  {
    what: 'tiles that reach over the lower and the right border',
    count: 2,
    height: 7,
    width: 5,
    inputChannels: 48,
    outputChannels: 16,
    window: TILED,
  },
  { what: 'a tile of one pixel', count: 5, height: 1, width: 1, inputChannels: 32, outputChannels: 16, window: TILED },
  { what: 'tiles of one row', count: 2, height: 1, width: 9, inputChannels: 16, outputChannels: 16, window: TILED },
  {
    what: 'tiles of so many channels that all threads work at one part',
    count: 2,
    height: 3,
    width: 4,
    inputChannels: 512,
    outputChannels: 48,
    window: TILED,
  },
  {
    what: 'tiles of so many channels that they are done in parts',
    count: 65,
    height: 4,
    width: 4,
    inputChannels: 512,
    outputChannels: 16,
    window: TILED,
  },
  {
    what: 'more tiles than the gradient by the filter sums at once',
    count: 9,
    height: 32,
    width: 32,
    inputChannels: 16,
    outputChannels: 16,
    window: TILED,
  },
  {
    what: 'patches in steps of two',
    count: 3,
    height: 8,
    width: 6,
    inputChannels: 32,
    outputChannels: 48,
    window: STRIDED,
  },
  {
    what: 'patches in steps of two over odd sides',
    count: 2,
    height: 9,
    width: 5,
    inputChannels: 16,
    outputChannels: 16,
    window: STRIDED,
  },
  {
    what: 'a patch larger than the image',
    count: 3,
    height: 1,
    width: 2,
    inputChannels: 16,
    outputChannels: 32,
    window: STRIDED,
  },
  {
    what: 'patches of so many channels that sums are taken in parts',
    count: 2,
    height: 6,
    width: 6,
    inputChannels: 112,
    outputChannels: 32,
    window: STRIDED,
  },
  {
    what: 'more patches than the gradient by the filter sums at once',
    count: 5,
    height: 17,
    width: 17,
    inputChannels: 16,
    outputChannels: 16,
    window: STRIDED,
  },
  {
    what: 'the stem: three channels, sums of 147',
    count: 2,
    height: 17,
    width: 14,
    inputChannels: 3,
    outputChannels: 64,
    window: { size: 7, stride: 2, padding: 3 },
  },
  {
    what: 'a window without padding that leaves pixels out',
    count: 2,
    height: 8,
    width: 9,
    inputChannels: 16,
    outputChannels: 16,
    window: { size: 5, stride: 3, padding: 0 },
  },
  {
    what: 'a 3x3 of three channels at stride 1',
    count: 2,
    height: 6,
    width: 7,
    inputChannels: 3,
    outputChannels: 16,
    window: TILED,
  },
  { what: 'pixels', count: 4, height: 7, width: 5, inputChannels: 48, outputChannels: 32, window: POINT },
  {
    what: 'pixels of so many channels that sums are taken in parts',
    count: 2,
    height: 5,
    width: 5,
    inputChannels: 528,
    outputChannels: 272,
    window: POINT,
  },
  {
    what: 'every second pixel',
    count: 3,
    height: 7,
    width: 6,
    inputChannels: 32,
    outputChannels: 64,
    window: { size: 1, stride: 2, padding: 0 },
  },
];

function normals(seed: number, shape: readonly [number, number, number, number]): Tensor4D {
  const random = createRandom(seed);
  return asRank4(
    tf.tensor(
      Float32Array.from({ length: shape.reduce((product, side) => product * side, 1) }, () => random.normal()),
      [...shape],
    ),
  );
}

function outputShape({ count, height, width, outputChannels, window }: Shape): [number, number, number, number] {
  return [count, outputSide(window, height), outputSide(window, width), outputChannels];
}

/**
 * Calls `visit` for every product of the convolution: the indexes of the pixel, of the filter's value and of the
 * result. The innermost loop is over output channels.
 */
function eachProduct(shape: Shape, visit: (input: number, weight: number, output: number) => void): void {
  const {
    height,
    width,
    inputChannels,
    outputChannels,
    window: { size, stride, padding },
  } = shape;
  const [count, outputHeight, outputWidth] = outputShape(shape);
  for (let place = 0; place < count * outputHeight * outputWidth; place += 1) {
    const image = Math.floor(place / (outputHeight * outputWidth));
    const top = (Math.floor(place / outputWidth) % outputHeight) * stride - padding;
    const left = (place % outputWidth) * stride - padding;
    for (let tap = 0; tap < size * size; tap += 1) {
      const [row, column] = [top + Math.floor(tap / size), left + (tap % size)];
      if (row < 0 || row >= height || column < 0 || column >= width) continue;
      for (let input = 0; input < inputChannels; input += 1) {
        visit(
          ((image * height + row) * width + column) * inputChannels + input,
          (tap * inputChannels + input) * outputChannels,
          place * outputChannels,
        );
      }
    }
  }
}

/** The convolution and its two gradients by their definition, in float64. */
function byDefinition(
  shape: Shape,
  images: Float32Array,
  filter: Float32Array,
  gradient: Float32Array,
): readonly [Float64Array, Float64Array, Float64Array] {
  const [output, byImages, byFilter] = [
    new Float64Array(gradient.length),
    new Float64Array(images.length),
    new Float64Array(filter.length),
  ];
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

/** No number differs by more than a few rounding errors of the terms of its sum. */
function assertNear(what: string, found: Float32Array, wanted: Float64Array, tolerance = 1e-5): void {
  assert.equal(found.length, wanted.length);
  const typical = Math.sqrt(wanted.reduce((sum, value) => sum + value * value, 0) / wanted.length);
  const worst = wanted.reduce(
    (most, value, index) => Math.max(most, Math.abs(value - (found[index] ?? Number.NaN))),
    0,
  );
  assert.ok(worst <= tolerance * typical, `${what}: off by ${worst / typical} of a typical value`);
}

/** Scale, offset and running statistics for each channel; no variance is near zero. */
function normStateOf(channels: number): BatchNormState {
  const vector = (seed: number): Tensor => scoped(() => tf.reshape(normals(seed, [1, 1, 1, channels]), [channels]));
  return {
    scale: vector(7),
    offset: vector(8),
    runningMean: vector(9),
    runningVariance: scoped(() => tf.add(tf.square(vector(10)), 0.5)),
  };
}

/** Batch norm of a convolution by running statistics, plus the addend, in float64. */
function normalisedByDefinition(output: Float64Array, state: BatchNormState, addend?: Float32Array): Float64Array {
  const [scale, offset, mean, variance] = [state.scale, state.offset, state.runningMean, state.runningVariance].map(
    readFloats,
  );
  assert.ok(scale && offset && mean && variance);
  return output.map((value, place) => {
    const channel = place % scale.length;
    const deviation = Math.sqrt((variance[channel] ?? Number.NaN) + EPSILON);
    const normalised = ((value - (mean[channel] ?? Number.NaN)) / deviation) * (scale[channel] ?? Number.NaN);
    return normalised + (offset[channel] ?? Number.NaN) + (addend === undefined ? 0 : (addend[place] ?? Number.NaN));
  });
}

interface Results {
  readonly tensors: readonly Tensor[];
  /**
   * Computed by the ops: the convolution, the gradient with respect to the filter and, if the ops have it, that with
   * respect to the images.
   */
  readonly found: readonly Float32Array[];
  readonly state: BatchNormState;
  /** The convolution with its batch norm; and the same plus `gradient`, as the shortcut, and rectified. */
  readonly normalised: readonly [Float32Array, Float32Array];
  readonly images: Float32Array;
  readonly filter: Float32Array;
  readonly gradient: Float32Array;
}

/** Tests all ops with one shape. */
function results(shape: Shape): Results {
  const { count, height, width, inputChannels, outputChannels, window } = shape;
  const images = normals(1, [count, height, width, inputChannels]);
  const filter = normals(2, [window.size, window.size, inputChannels, outputChannels]);
  const gradient = normals(3, outputShape(shape));
  assert.ok(hasOwnConvolution(images, filter.shape), 'every processor that the engine is built for has AVX2');
  const made = [ownConvolution(images, filter, window), ownFilterGradient(images, gradient, window)];
  if (hasOwnInputGradient(gradient, filter.shape)) made.push(ownInputGradient(images.shape, filter, gradient, window));
  assert.deepEqual(
    made.map((tensor) => tensor.shape),
    [gradient.shape, filter.shape, images.shape].slice(0, made.length),
  );
  const state = normStateOf(outputChannels);
  const normalised = ownNormalisedConvolution(images, filter, window, state, 'NONE');
  const rectifiedSum = ownNormalisedConvolution(images, filter, window, state, 'RELU', gradient);
  return {
    tensors: [images, filter, gradient, ...made, ...Object.values(state), normalised, rectifiedSum],
    found: made.map(readFloats),
    state,
    normalised: [readFloats(normalised), readFloats(rectifiedSum)],
    images: readFloats(images),
    filter: readFloats(filter),
    gradient: readFloats(gradient),
  };
}

describe('our own convolution', () => {
  for (const shape of SHAPES) {
    test(`${shape.what}: the sum of products over its window, its gradients, and its batch norm at inference`, () => {
      const before = liveTensorCount();
      const { tensors, found, state, normalised, images, filter, gradient } = results(shape);
      assert.equal(found.length, shape.inputChannels === 3 ? 2 : 3);
      const [output, byImages, byFilter] = byDefinition(shape, images, filter, gradient);
      [output, byFilter, byImages]
        .slice(0, found.length)
        .forEach((wanted, index) =>
          assertNear(
            ['the convolution', 'the gradient by the filter', 'the gradient by images'][index] ?? '',
            found[index] ?? new Float32Array(),
            wanted,
          ),
        );
      // Some channels are scaled by three times the typical scale, and their rounding errors too.
      assertNear('normalised', normalised[0], normalisedByDefinition(output, state), 3e-5);
      const sum = normalisedByDefinition(output, state, gradient).map((value) => Math.max(0, value));
      assertNear('the rectified sum with the shortcut', normalised[1], sum, 3e-5);
      tf.dispose([...tensors]);
      assert.equal(liveTensorCount(), before);
    });
  }

  test('normalised: statistics of other channels and an addend of another shape are refused, and NaN is passed on', () => {
    const [images, filter, state] = [normals(1, [2, 4, 4, 16]), normals(2, [3, 3, 16, 32]), normStateOf(32)];
    const [short, addend, flat] = [tf.ones([16]), normals(3, [2, 4, 5, 32]), normals(4, [1, 1, 1, 32])];
    for (const wrong of [{ scale: short }, { offset: short }, { runningMean: flat }, { runningVariance: short }])
      assert.throws(
        () => ownNormalisedConvolution(images, filter, TILED, { ...state, ...wrong }, 'NONE'),
        /must be \[O\]/,
      );
    assert.throws(() => ownNormalisedConvolution(images, filter, TILED, state, 'NONE', addend), /the output's shape/);
    assert.throws(() => ownNormalisedConvolution(addend, filter, TILED, state, 'NONE'), /a multiple of 16/);
    for (const window of [TILED, STRIDED]) {
      const broken = asRank4(tf.fill([1, 4, 4, 16], Number.NaN));
      const output = ownNormalisedConvolution(broken, filter, window, state, 'RELU');
      assert.ok(readFloats(output).every(Number.isNaN), 'the ReLU would hide it behind a zero');
      tf.dispose([broken, output]);
    }
    tf.dispose([images, filter, short, addend, flat, ...Object.values(state)]);
  });

  test('accepts only float32, and only output channels in multiples of 16; for the input gradient also input channels in such multiples', () => {
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

  test('shapes that do not match are refused, and the next call works', () => {
    const [images, filter] = [normals(1, [2, 4, 4, 16]), normals(2, [3, 3, 16, 32])];
    const settings = (values: Readonly<Record<string, number>>): OpAttr[] =>
      Object.entries({ stride: 1, padding: 1, ...values }).map(([name, value]) => intAttr(name, value));
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
      assert.throws(
        () => runOp(name, attrs, inputs),
        /a multiple of 16/,
        `${name} of [${first.join()}] and [${second.join()}]`,
      );
      tf.dispose(inputs);
    }
    const vector = tf.ones([16]);
    assert.throws(() => runOp('ParaffinConvolution', settings({}), [vector, filter]), /a multiple of 16/);
    const output = ownConvolution(images, filter, TILED);
    assert.deepEqual(output.shape, [2, 4, 4, 32]);
    tf.dispose([images, filter, vector, output]);
  });

  test('an empty batch gives an empty result and a gradient of zero', () => {
    for (const window of [TILED, STRIDED]) {
      const [images, filter, gradient] = [
        tf.zeros([0, 4, 4, 16]),
        normals(2, [3, 3, 16, 32]),
        tf.zeros([0, outputSide(window, 4), outputSide(window, 4), 32]),
      ];
      const made = [
        ownConvolution(asRank4(images), filter, window),
        ownFilterGradient(asRank4(images), asRank4(gradient), window),
      ];
      assert.deepEqual(
        made.map(({ shape }) => shape),
        [gradient.shape, filter.shape],
      );
      assert.ok(made.every((tensor) => readFloats(tensor).every((value) => value === 0)));
      tf.dispose([images, filter, gradient, ...made]);
    }
  });
});

interface NormShape {
  readonly what: string;
  readonly shape: readonly [number, number, number, number];
  readonly activation: Activation;
}

const NORM_SHAPES: readonly NormShape[] = [
  { what: 'few rows', shape: [3, 2, 2, 8], activation: 'NONE' },
  { what: 'few rows, rectified', shape: [2, 3, 1, 24], activation: 'RELU' },
  { what: 'one row', shape: [1, 1, 1, 16], activation: 'RELU' },
  { what: 'rows that several threads share', shape: [4, 40, 41, 16], activation: 'RELU' },
  { what: 'rows that several threads share, many channels', shape: [9, 3, 3, 1024], activation: 'NONE' },
];

/** The values are far from zero, where sums of squares lose digits. */
const NORM_OFFSET = 30;
const EPSILON = 1e-5;
const MOMENTUM = 0.1;

interface NormInputs {
  readonly images: Tensor4D;
  readonly gradient: Tensor4D;
  readonly state: BatchNormState;
}

function normInputs({ shape }: NormShape): NormInputs {
  const [, , , channels] = shape;
  const images = scoped(() => asRank4(tf.add(normals(5, shape), NORM_OFFSET)));
  return { images, gradient: normals(6, shape), state: normStateOf(channels) };
}

/**
 * Batch norm by its definition, in float64; returns the output with the mean and the (biased) variance of each channel.
 */
function normByDefinition(
  images: Float64Array,
  scale: Float32Array,
  offset: Float32Array,
  activation: Activation,
): { readonly output: Float64Array; readonly mean: Float64Array; readonly variance: Float64Array } {
  const channels = scale.length;
  const rows = images.length / channels;
  const [mean, variance] = [new Float64Array(channels), new Float64Array(channels)];
  images.forEach((value, place) => (mean[place % channels] = (mean[place % channels] ?? 0) + value / rows));
  images.forEach(
    (value, place) =>
      (variance[place % channels] =
        (variance[place % channels] ?? 0) + (value - (mean[place % channels] ?? 0)) ** 2 / rows),
  );
  const output = images.map((value, place) => {
    const channel = place % channels;
    const normalised =
      ((scale[channel] ?? Number.NaN) * (value - (mean[channel] ?? 0))) /
        Math.sqrt((variance[channel] ?? 0) + EPSILON) +
      (offset[channel] ?? Number.NaN);
    return activation === 'RELU' ? Math.max(0, normalised) : normalised;
  });
  return { output, mean, variance };
}

const innerProduct = (left: ArrayLike<number>, right: ArrayLike<number>): number =>
  Array.from(left).reduce((sum, value, place) => sum + value * (right[place] ?? Number.NaN), 0);

describe('our own batch norm', () => {
  for (const normShape of NORM_SHAPES) {
    const { what, activation, shape } = normShape;
    test(`${what}: the output, the statistics, and the running ones after it`, () => {
      const { images, gradient, state } = normInputs(normShape);
      assert.ok(hasOwnBatchNorm(images));
      const made = ownBatchNorm(images, state, activation);
      const [output, nextMean, nextVariance, mean, variance] = made.map(readFloats);
      const [scale, offset, runningMean, runningVariance] = [
        state.scale,
        state.offset,
        state.runningMean,
        state.runningVariance,
      ].map(readFloats);
      assert.ok(
        output && nextMean && nextVariance && mean && variance && scale && offset && runningMean && runningVariance,
      );
      const wanted = normByDefinition(Float64Array.from(readFloats(images)), scale, offset, activation);
      const rows = images.size / shape[3];
      // The mean of about 30 is rounded to float32 (a part in 10^7), which limits the accuracy of deviations of about
      // 1.
      assertNear('the output', output, wanted.output, 1e-4);
      assertNear('the mean', mean, wanted.mean, 1e-6);
      if (rows > 1) assertNear('the variance', variance, wanted.variance, 1e-5);
      assertNear(
        'the running mean',
        nextMean,
        wanted.mean.map((value, channel) => (1 - MOMENTUM) * (runningMean[channel] ?? Number.NaN) + MOMENTUM * value),
        1e-5,
      );
      assertNear(
        'the running variance',
        nextVariance,
        wanted.variance.map(
          (value, channel) =>
            (1 - MOMENTUM) * (runningVariance[channel] ?? Number.NaN) +
            (MOMENTUM * value * rows) / Math.max(1, rows - 1),
        ),
        1e-5,
      );
      tf.dispose([images, gradient, ...Object.values(state), ...made]);
    });

    // Finite differences of the definition equal the gradient except where a step crosses the kink of a ReLU. Therefore
    // the step is small and the ReLU mask is that of our own output.
    test(`${what}: the gradients are those of the definition, by differences`, () => {
      const before = liveTensorCount();
      const { images, gradient, state } = normInputs(normShape);
      const forward = ownBatchNorm(images, state, activation);
      const [output, , , mean, variance] = forward;
      assert.ok(output && mean && variance);
      const made = ownBatchNormGradient(images, output, state.scale, mean, variance, gradient, activation);
      const [byImages, byScale, byOffset] = made.map(readFloats);
      assert.ok(byImages && byScale && byOffset);
      const [scale, offset, pixels] = [
        readFloats(state.scale),
        readFloats(state.offset),
        Float64Array.from(readFloats(images)),
      ];
      const passed = readFloats(output);
      const arriving = readFloats(gradient).map((value, place) =>
        activation === 'RELU' && (passed[place] ?? 0) <= 0 ? 0 : value,
      );
      const random = createRandom(11);
      const [towards, scaleTowards, offsetTowards] = [pixels, scale, offset].map((values) =>
        Float64Array.from(values, () => random.normal()),
      );
      assert.ok(towards && scaleTowards && offsetTowards);
      const loss = (at: number): number => {
        const moved = normByDefinition(
          pixels.map((value, place) => value + at * (towards[place] ?? 0)),
          scale.map((value, channel) => value + at * (scaleTowards[channel] ?? 0)),
          offset.map((value, channel) => value + at * (offsetTowards[channel] ?? 0)),
          'NONE',
        );
        return innerProduct(arriving, moved.output);
      };
      const step = 2 ** -12;
      const wanted = (loss(step) - loss(-step)) / (2 * step);
      const found =
        innerProduct(byImages, towards) + innerProduct(byScale, scaleTowards) + innerProduct(byOffset, offsetTowards);
      const size =
        Math.sqrt(innerProduct(byImages, byImages) * innerProduct(towards, towards)) +
        Math.sqrt(innerProduct(byScale, byScale) * scale.length) +
        Math.sqrt(innerProduct(byOffset, byOffset) * offset.length);
      assert.ok(Math.abs(found - wanted) < 2e-4 * size, `${found}, by differences ${wanted}, of ${size}`);
      tf.dispose([images, gradient, ...Object.values(state), ...forward, ...made]);
      assert.equal(liveTensorCount(), before);
    });
  }

  test('NaN is passed on, through the ReLU too', () => {
    const { images, gradient, state } = normInputs({ what: '', shape: [2, 2, 2, 8], activation: 'RELU' });
    const broken = tf.concat([
      asRank4(tf.fill([1, 2, 2, 8], Number.NaN)),
      tf.slice(images, [0, 0, 0, 0], [1, 2, 2, 8]),
    ]);
    const made = ownBatchNorm(asRank4(broken), state, 'RELU');
    // The statistics must be NaN too: a finite running variance would hide the fault in the checkpoint.
    for (const tensor of made) assert.ok(readFloats(tensor).every(Number.isNaN));
    tf.dispose([images, gradient, broken, ...Object.values(state), ...made]);
  });

  test('accepts only float32, channels in multiples of 8, and matching shapes', () => {
    const { images, gradient, state } = normInputs({ what: '', shape: [2, 2, 2, 16], activation: 'NONE' });
    const rounded = asRank4(castTo(images, 'bfloat16'));
    assert.ok(!hasOwnBatchNorm(rounded));
    assert.ok(!hasOwnBatchNorm(asRank4(tf.zeros([1, 2, 2, 12]))));
    assert.ok(!hasOwnBatchNorm(asRank4(tf.zeros([0, 2, 2, 16]))));
    const [short, other] = [tf.zeros([8]), tf.zeros([2, 2, 1, 16])];
    assert.throws(() => ownBatchNorm(images, { ...state, offset: short }, 'NONE'), /must be \[N, H, W, C\]/);
    assert.throws(
      () => ownBatchNormGradient(images, images, state.scale, state.offset, short, gradient, 'NONE'),
      /must be \[N, H, W, C\]/,
    );
    assert.throws(
      () => ownBatchNormGradient(images, other, state.scale, state.offset, state.offset, gradient, 'RELU'),
      /must be \[N, H, W, C\]/,
    );
    tf.dispose([images, gradient, rounded, short, other, ...Object.values(state)]);
  });
});

describe('all of our ops', () => {
  test('one, two and five threads give identical results', async () => {
    const digests = await Promise.all(['1', '2', '5'].map(digestWithThreads));
    assert.match(digests[0] ?? '', /^[0-9a-f]{64}$/);
    assert.equal(new Set(digests).size, 1);
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
  const add = (floats: Float32Array): void =>
    void hash.update(new Uint8Array(floats.buffer, floats.byteOffset, floats.byteLength));
  for (const shape of SHAPES) {
    const { found, normalised } = results(shape);
    [...found, ...normalised].forEach(add);
  }
  for (const shape of NORM_SHAPES) {
    const { images, gradient, state } = normInputs(shape);
    const forward = ownBatchNorm(images, state, shape.activation);
    const [output = images, , , mean = state.offset, variance = state.offset] = forward;
    [...forward, ...ownBatchNormGradient(images, output, state.scale, mean, variance, gradient, shape.activation)]
      .map(readFloats)
      .forEach(add);
  }
  process.stdout.write(`${hash.digest('hex')}\n`);
  process.exit(0);
}
