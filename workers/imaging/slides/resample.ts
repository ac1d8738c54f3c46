/** Resamples a part of an image to another size. Pure. */
import type { Pixels } from '../pixels.ts';

export interface Sampling {
  /** Where the result begins in the source, in its pixels, with fractions. */
  readonly left: number;
  readonly top: number;
  /** Source pixels for one pixel of the result. */
  readonly scaleX: number;
  readonly scaleY: number;
}

/**
 * Each pixel of the result is the mean of the source over its own area, with fractions of the pixels at the border of
 * that area; where the result is finer than the source, linear interpolation between the centres of pixels. The area
 * rule keeps means exactly and shifts nothing, for any ratio.
 * @returns RGB of `width` x `height`.
 */
export function resample(source: Pixels, sampling: Sampling, width: number, height: number): Pixels {
  const columns = weightsOf(sampling.left, sampling.scaleX, width, source.width);
  const rows = weightsOf(sampling.top, sampling.scaleY, height, source.height);
  const narrow = new Float32Array(source.height * width * 3);
  for (let row = 0; row < source.height; row += 1) {
    for (let column = 0; column < width; column += 1) {
      const first = columns.first[column] ?? 0;
      let [red, green, blue] = [0, 0, 0];
      for (let tap = 0; tap < columns.tapCount; tap += 1) {
        const weight = columns.weights[column * columns.tapCount + tap] ?? 0;
        if (weight === 0) continue;
        const from = (row * source.width + first + tap) * 3;
        red += weight * (source.data[from] ?? 0);
        green += weight * (source.data[from + 1] ?? 0);
        blue += weight * (source.data[from + 2] ?? 0);
      }
      const to = (row * width + column) * 3;
      narrow[to] = red;
      narrow[to + 1] = green;
      narrow[to + 2] = blue;
    }
  }
  const data = Buffer.allocUnsafe(width * height * 3);
  const sums = new Float32Array(width * 3);
  for (let row = 0; row < height; row += 1) {
    sums.fill(0);
    for (let tap = 0; tap < rows.tapCount; tap += 1) {
      const weight = rows.weights[row * rows.tapCount + tap] ?? 0;
      if (weight === 0) continue;
      const from = ((rows.first[row] ?? 0) + tap) * width * 3;
      for (let sample = 0; sample < sums.length; sample += 1)
        sums[sample] = (sums[sample] ?? 0) + weight * (narrow[from + sample] ?? 0);
    }
    const to = row * width * 3;
    for (let sample = 0; sample < sums.length; sample += 1)
      data[to + sample] = Math.min(255, Math.max(0, Math.round(sums[sample] ?? 0)));
  }
  return { data, width, height };
}

interface Weights {
  /** Of each result pixel: its first source pixel, and `tapCount` weights that sum to 1. */
  readonly first: Int32Array;
  readonly weights: Float64Array;
  readonly tapCount: number;
}

function weightsOf(start: number, scale: number, length: number, sourceLength: number): Weights {
  const tapCount = Math.min(sourceLength, Math.ceil(Math.max(1, scale)) + 1);
  const first = new Int32Array(length);
  const weights = new Float64Array(length * tapCount);
  for (let pixel = 0; pixel < length; pixel += 1) {
    const [from, to] = spanOf(start, scale, pixel);
    const firstTap = Math.min(Math.max(0, Math.floor(from)), sourceLength - tapCount);
    first[pixel] = firstTap;
    let sum = 0;
    for (let tap = 0; tap < tapCount; tap += 1) {
      const left = firstTap + tap;
      const covered = Math.max(0, Math.min(to, left + 1) - Math.max(from, left));
      weights[pixel * tapCount + tap] = covered;
      sum += covered;
    }
    // Beyond the last pixel there is only the last pixel.
    if (sum === 0) weights[pixel * tapCount + (from < firstTap ? 0 : tapCount - 1)] = sum = 1;
    for (let tap = 0; tap < tapCount; tap += 1)
      weights[pixel * tapCount + tap] = (weights[pixel * tapCount + tap] ?? 0) / sum;
  }
  return { first, weights, tapCount };
}

/** What a pixel covers; at least one source pixel wide, which around a centre is linear interpolation. */
function spanOf(start: number, scale: number, pixel: number): readonly [from: number, to: number] {
  if (scale >= 1) return [start + pixel * scale, start + (pixel + 1) * scale];
  const centre = start + (pixel + 0.5) * scale;
  return [centre - 0.5, centre + 0.5];
}
