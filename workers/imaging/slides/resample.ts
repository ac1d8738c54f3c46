/** Resamples a part of an image to another size, by whole numbers: the same pixels on every processor. Pure. */
import type { Pixels } from '../pixels.ts';

export interface Sampling {
  /** Where the result begins in the source, in its pixels, with fractions. */
  readonly left: number;
  readonly top: number;
  /** Source pixels for one pixel of the result. */
  readonly scaleX: number;
  readonly scaleY: number;
}

/** The source pixels along one axis that make each pixel of the result. */
export interface Weights {
  /** Of each result pixel: its first source pixel. */
  readonly first: Int32Array;
  /** Of each result pixel: `tapCount` weights, none negative, whose sum is 2^15. */
  readonly weights: Int32Array;
  readonly tapCount: number;
}

/**
 * Fills `target`, RGB of the result, with weighted sums: down the columns first, rounded to 1/128 of an 8-bit step,
 * then along the rows.
 */
export type Mix = (source: Pixels, columns: Weights, rows: Weights, target: Buffer) => void;

/**
 * Each pixel of the result is the mean of the source over its own area, with fractions of the pixels at the border of
 * that area; where the result is finer than the source, linear interpolation between the centres of pixels. The area
 * rule keeps means and shifts nothing, for any ratio.
 * @param mix makes the same pixels as `mixInScript`, which is the default.
 * @returns RGB of `width` x `height`.
 */
export function resample(
  source: Pixels,
  { left, top, scaleX, scaleY }: Sampling,
  width: number,
  height: number,
  mix: Mix = mixInScript,
): Pixels {
  const isAsItIs = scaleX === 1 && scaleY === 1 && left === 0 && top === 0;
  // The sums would give the same pixels. The source may be memory that the next region overwrites.
  if (isAsItIs && width === source.width && height === source.height)
    return { data: Buffer.from(source.data), width, height };
  const data = Buffer.allocUnsafe(width * height * 3);
  mix(source, weightsOf(left, scaleX, width, source.width), weightsOf(top, scaleY, height, source.height), data);
  return { data, width, height };
}

const WEIGHT_BITS = 15;
const ONE = 1 << WEIGHT_BITS;
/** Bits that a sum of a column keeps below an 8-bit step, so that the sum of a row stays within 31 bits. */
const FRACTION_BITS = 7;
const COLUMN_SHIFT = WEIGHT_BITS - FRACTION_BITS;
const ROW_SHIFT = WEIGHT_BITS + FRACTION_BITS;

/** `Mix` without native code. */
export function mixInScript({ data, width: sourceWidth }: Pixels, columns: Weights, rows: Weights, target: Buffer) {
  const rowBytes = sourceWidth * 3;
  const sums = new Int32Array(rowBytes);
  for (let row = 0, to = 0; row < rows.first.length; row += 1) {
    sums.fill(1 << (COLUMN_SHIFT - 1));
    for (let tap = 0; tap < rows.tapCount; tap += 1) {
      const weight = rows.weights[row * rows.tapCount + tap] ?? 0;
      if (weight === 0) continue;
      const from = ((rows.first[row] ?? 0) + tap) * rowBytes;
      for (let sample = 0; sample < rowBytes; sample += 1)
        sums[sample] = (sums[sample] ?? 0) + weight * (data[from + sample] ?? 0);
    }
    for (let column = 0; column < columns.first.length; column += 1, to += 3) {
      let [red, green, blue] = [1 << (ROW_SHIFT - 1), 1 << (ROW_SHIFT - 1), 1 << (ROW_SHIFT - 1)];
      for (let tap = 0; tap < columns.tapCount; tap += 1) {
        const weight = columns.weights[column * columns.tapCount + tap] ?? 0;
        const from = ((columns.first[column] ?? 0) + tap) * 3;
        red += weight * ((sums[from] ?? 0) >> COLUMN_SHIFT);
        green += weight * ((sums[from + 1] ?? 0) >> COLUMN_SHIFT);
        blue += weight * ((sums[from + 2] ?? 0) >> COLUMN_SHIFT);
      }
      target[to] = red >> ROW_SHIFT;
      target[to + 1] = green >> ROW_SHIFT;
      target[to + 2] = blue >> ROW_SHIFT;
    }
  }
}

function weightsOf(start: number, scale: number, length: number, sourceLength: number): Weights {
  const tapCount = Math.min(sourceLength, Math.ceil(Math.max(1, scale)) + 1);
  const first = new Int32Array(length);
  const weights = new Int32Array(length * tapCount);
  const covered = new Float64Array(tapCount);
  for (let pixel = 0; pixel < length; pixel += 1) {
    const [from, to] = spanOf(start, scale, pixel);
    const firstTap = Math.min(Math.max(0, Math.floor(from)), sourceLength - tapCount);
    first[pixel] = firstTap;
    let sum = 0;
    for (let tap = 0; tap < tapCount; tap += 1) {
      const left = firstTap + tap;
      sum += covered[tap] = Math.max(0, Math.min(to, left + 1) - Math.max(from, left));
    }
    // Beyond the last pixel there is only the last pixel.
    if (sum === 0) sum = covered[from < firstTap ? 0 : tapCount - 1] = 1;
    // Rounding where each weight ends, and not its length, keeps their sum.
    let [end, roundedEnd] = [0, 0];
    for (let tap = 0; tap < tapCount; tap += 1) {
      end += covered[tap] ?? 0;
      const next = Math.round((end / sum) * ONE);
      weights[pixel * tapCount + tap] = next - roundedEnd;
      roundedEnd = next;
    }
  }
  return { first, weights, tapCount };
}

/** What a pixel covers; at least one source pixel wide, which around a centre is linear interpolation. */
function spanOf(start: number, scale: number, pixel: number): readonly [from: number, to: number] {
  if (scale >= 1) return [start + pixel * scale, start + (pixel + 1) * scale];
  const centre = start + (pixel + 0.5) * scale;
  return [centre - 0.5, centre + 0.5];
}
