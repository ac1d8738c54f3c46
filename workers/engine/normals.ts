/** Normally distributed numbers for new weights. */
import type { Random } from './rng.ts';

/**
 * Independent normal numbers by the Box-Muller method. Both numbers of each pair are used, because millions are drawn
 * and the logarithms dominate the cost.
 */
export function normals(length: number, deviation: number, stream: Random): Float32Array<ArrayBuffer> {
  const values = new Float32Array(length);
  for (let index = 0; index < length; index += 2) {
    const radius = deviation * Math.sqrt(-2 * Math.log(1 - stream.uniform()));
    const angle = 2 * Math.PI * stream.uniform();
    values[index] = radius * Math.cos(angle);
    // For an odd length, the last write is past the typed array's end and is ignored.
    values[index + 1] = radius * Math.sin(angle);
  }
  return values;
}
