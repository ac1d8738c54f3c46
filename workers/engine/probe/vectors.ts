/** Vector operations of the probes, in float64. */

export function dot(left: Float64Array, right: Float64Array): number {
  return dotBetween(left, 0, right, 0, left.length);
}

/**
 * The dot product of `length` entries, from an offset in each vector. It uses four sums, because each addition to a
 * single sum would wait for the one before.
 */
export function dotBetween(
  left: Float64Array,
  leftStart: number,
  right: Float64Array,
  rightStart: number,
  length: number,
): number {
  let first = 0;
  let second = 0;
  let third = 0;
  let fourth = 0;
  let index = 0;
  for (; index + 3 < length; index += 4) {
    first += (left[leftStart + index] ?? 0) * (right[rightStart + index] ?? 0);
    second += (left[leftStart + index + 1] ?? 0) * (right[rightStart + index + 1] ?? 0);
    third += (left[leftStart + index + 2] ?? 0) * (right[rightStart + index + 2] ?? 0);
    fourth += (left[leftStart + index + 3] ?? 0) * (right[rightStart + index + 3] ?? 0);
  }
  for (; index < length; index += 1) first += (left[leftStart + index] ?? 0) * (right[rightStart + index] ?? 0);
  return first + second + (third + fourth);
}

/** Adds scale x other to the target, in place. */
export function addScaled(target: Float64Array, other: Float64Array, scale: number): void {
  for (let index = 0; index < target.length; index += 1)
    target[index] = (target[index] ?? 0) + scale * (other[index] ?? 0);
}

/** Adds scale x `count` entries of `from` to as many of `target`, in place. */
export function addTimes(
  target: Float64Array,
  targetStart: number,
  from: Float64Array,
  fromStart: number,
  count: number,
  scale: number,
): void {
  for (let index = 0; index < count; index += 1)
    target[targetStart + index] = (target[targetStart + index] ?? 0) + scale * (from[fromStart + index] ?? 0);
}
