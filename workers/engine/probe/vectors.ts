/** What the probes ask of vectors of one length, in float64. */

export function dot(left: Float64Array, right: Float64Array): number {
  let sum = 0;
  for (let index = 0; index < left.length; index += 1) sum += (left[index] ?? 0) * (right[index] ?? 0);
  return sum;
}

/** Adds scale x other to the target, in place. */
export function addScaled(target: Float64Array, other: Float64Array, scale: number): void {
  for (let index = 0; index < target.length; index += 1) target[index] = (target[index] ?? 0) + scale * (other[index] ?? 0);
}
