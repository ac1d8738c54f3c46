/**
 * Convolution against its definition, and its two gradients against the identity that defines them, for every shape
 * that has its own code path.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import {
  convolutionFilterGradient,
  convolutionInputGradient,
  convolve,
} from '../../workers/engine/kernels/convolution.ts';
import { createRandom } from '../../workers/engine/rng.ts';
import { asRank4, liveTensorCount, readFloats, tf } from '../../workers/engine/tensorflow.ts';
import type { Tensor4D } from '../../workers/engine/tensorflow.ts';

interface Shape {
  readonly what: string;
  readonly count: number;
  readonly sidePx: number;
  readonly inputChannels: number;
  readonly outputChannels: number;
  readonly window: { readonly size: number; readonly stride: number; readonly padding: number };
}

const SHAPES: readonly Shape[] = [
  {
    what: 'a plain 3x3',
    count: 2,
    sidePx: 7,
    inputChannels: 5,
    outputChannels: 6,
    window: { size: 3, stride: 1, padding: 1 },
  },
  {
    what: 'a 3x3 that goes in steps of two',
    count: 2,
    sidePx: 8,
    inputChannels: 5,
    outputChannels: 6,
    window: { size: 3, stride: 2, padding: 1 },
  },
  {
    what: 'a 3x3 in steps of two over an odd side',
    count: 2,
    sidePx: 7,
    inputChannels: 4,
    outputChannels: 3,
    window: { size: 3, stride: 2, padding: 1 },
  },
  {
    what: 'a 3x3 in steps of two over many channels',
    count: 30,
    sidePx: 6,
    inputChannels: 128,
    outputChannels: 4,
    window: { size: 3, stride: 2, padding: 1 },
  },
  {
    what: 'a deep 3x3 over few pixels',
    count: 1,
    sidePx: 2,
    inputChannels: 64,
    outputChannels: 8,
    window: { size: 3, stride: 1, padding: 1 },
  },
  {
    what: 'a deep 3x3 over few pixels, to very many channels',
    count: 1,
    sidePx: 2,
    inputChannels: 16,
    outputChannels: 512,
    window: { size: 3, stride: 1, padding: 1 },
  },
  {
    what: 'a deep 3x3 over few pixels in steps of two, to more channels',
    count: 3,
    sidePx: 4,
    inputChannels: 128,
    outputChannels: 160,
    window: { size: 3, stride: 2, padding: 1 },
  },
  {
    what: 'a deep 3x3 over few pixels in steps of two, in channels that our own ops do not take',
    count: 3,
    sidePx: 4,
    inputChannels: 132,
    outputChannels: 156,
    window: { size: 3, stride: 2, padding: 1 },
  },
  {
    what: 'a deep 3x3 over few pixels, to fewer channels than windows',
    count: 1,
    sidePx: 2,
    inputChannels: 64,
    outputChannels: 3,
    window: { size: 3, stride: 1, padding: 1 },
  },
  {
    what: 'a 3x3 from few to very many channels',
    count: 2,
    sidePx: 5,
    inputChannels: 8,
    outputChannels: 512,
    window: { size: 3, stride: 1, padding: 1 },
  },
  {
    what: 'a wide window without padding',
    count: 2,
    sidePx: 9,
    inputChannels: 3,
    outputChannels: 4,
    window: { size: 5, stride: 1, padding: 0 },
  },
  {
    what: 'the stem',
    count: 1,
    sidePx: 16,
    inputChannels: 3,
    outputChannels: 8,
    window: { size: 7, stride: 2, padding: 3 },
  },
  {
    what: 'one pixel',
    count: 2,
    sidePx: 5,
    inputChannels: 6,
    outputChannels: 7,
    window: { size: 1, stride: 1, padding: 0 },
  },
  {
    what: 'one pixel in steps of two',
    count: 2,
    sidePx: 5,
    inputChannels: 6,
    outputChannels: 7,
    window: { size: 1, stride: 2, padding: 0 },
  },
];

const random = createRandom(31);
const normals = (shape: [number, number, number, number]): Tensor4D =>
  asRank4(
    tf.tensor(
      Float32Array.from({ length: shape.reduce((product, side) => product * side, 1) }, () => random.normal()),
      shape,
    ),
  );

/** Sums of products, pixel by pixel, in float64. */
function byDefinition(images: Tensor4D, filter: Tensor4D, { size, stride, padding }: Shape['window']): Float64Array {
  const [count, height, width, inputChannels] = images.shape;
  const outputChannels = filter.shape[3];
  const [x, w] = [readFloats(images), readFloats(filter)];
  const side = (length: number): number => Math.floor((length + 2 * padding - size) / stride) + 1;
  const result = new Float64Array(count * side(height) * side(width) * outputChannels);
  let place = 0;
  for (let image = 0; image < count; image += 1) {
    for (let top = -padding; top + size <= height + padding; top += stride) {
      for (let left = -padding; left + size <= width + padding; left += stride) {
        for (let output = 0; output < outputChannels; output += 1) {
          let sum = 0;
          for (let row = 0; row < size; row += 1) {
            for (let column = 0; column < size; column += 1) {
              if (top + row < 0 || top + row >= height || left + column < 0 || left + column >= width) continue;
              for (let input = 0; input < inputChannels; input += 1) {
                sum +=
                  (x[((image * height + top + row) * width + left + column) * inputChannels + input] ?? NaN) *
                  (w[((row * size + column) * inputChannels + input) * outputChannels + output] ?? NaN);
              }
            }
          }
          result[place] = sum;
          place += 1;
        }
      }
    }
  }
  return result;
}

function innerProduct(left: Tensor4D, right: Tensor4D): number {
  const [first, second] = [readFloats(left), readFloats(right)];
  return first.reduce((sum, value, index) => sum + value * (second[index] ?? NaN), 0);
}

for (const { what, count, sidePx, inputChannels, outputChannels, window } of SHAPES) {
  describe(what, () => {
    const images = normals([count, sidePx, sidePx, inputChannels]);
    const filter = normals([window.size, window.size, inputChannels, outputChannels]);

    test('is the sum of products over its window', () => {
      const result = convolve(images, filter, window);
      const wanted = byDefinition(images, filter, window);
      const found = readFloats(result);
      assert.equal(found.length, wanted.length);
      for (const [index, value] of wanted.entries())
        assert.ok(Math.abs(value - (found[index] ?? NaN)) < 1e-3, `${index}: ${found[index]}, not ${value}`);
      result.dispose();
    });

    // The convolution is linear in images and in filter: <convolve(images, filter), g> = <images, gradient by images of
    // g> = <filter, gradient by filter of g>.
    test('has the gradients of its definition', () => {
      const before = liveTensorCount();
      for (let draw = 0; draw < 3; draw += 1) {
        const other = normals([count, sidePx, sidePx, inputChannels]);
        const otherFilter = normals([window.size, window.size, inputChannels, outputChannels]);
        const output = convolve(other, filter, window);
        const outputOfOther = convolve(images, otherFilter, window);
        const gradient = normals(output.shape);
        const byImages = convolutionInputGradient(images.shape, filter, gradient, window);
        const byFilter = convolutionFilterGradient(images, filter.shape, gradient, window);
        assert.deepEqual([byImages.shape, byFilter.shape], [images.shape, filter.shape]);
        const size = Math.sqrt(innerProduct(output, output) * innerProduct(gradient, gradient));
        assert.ok(Math.abs(innerProduct(output, gradient) - innerProduct(other, byImages)) < 1e-5 * size);
        assert.ok(
          Math.abs(innerProduct(outputOfOther, gradient) - innerProduct(otherFilter, byFilter)) <
            1e-5 * Math.sqrt(innerProduct(outputOfOther, outputOfOther) * innerProduct(gradient, gradient)),
        );
        tf.dispose([other, otherFilter, output, outputOfOther, gradient, byImages, byFilter]);
      }
      assert.equal(liveTensorCount(), before);
    });
  });
}
