/**
 * Percentile bootstrap over groups (Efron 1979; whole groups are drawn, since images of one slide are not independent).
 */
import type { Random } from './random.ts';

export interface ConfidenceInterval {
  readonly ci95Low: number;
  readonly ci95High: number;
}

/**
 * Draws as many groups as there are, with replacement, `resampleCount` times, and yields how often each image occurs in
 * the sample: `[N]`, the same array every time.
 */
export function* groupResamples(
  groups: readonly string[],
  resampleCount: number,
  random: Random,
): Generator<Int32Array, void> {
  const groupIndexes = new Map<string, number>();
  const groupOf = Int32Array.from(groups, (group) => {
    const index = groupIndexes.get(group) ?? groupIndexes.size;
    groupIndexes.set(group, index);
    return index;
  });
  const drawnCounts = new Int32Array(groupIndexes.size);
  const imageCounts = new Int32Array(groups.length);
  for (let resample = 0; resample < resampleCount; resample += 1) {
    drawnCounts.fill(0);
    for (let draw = 0; draw < drawnCounts.length; draw += 1) {
      const group = random.integer(drawnCounts.length);
      drawnCounts[group] = (drawnCounts[group] ?? 0) + 1;
    }
    for (let image = 0; image < groupOf.length; image += 1) imageCounts[image] = drawnCounts[groupOf[image] ?? 0] ?? 0;
    yield imageCounts;
  }
}

/** The 2.5th and 97.5th percentiles. Throws RangeError for no values. */
export function interval95(values: readonly number[]): ConfidenceInterval {
  const sorted = Float64Array.from(values).sort();
  return { ci95Low: percentile(sorted, 0.025), ci95High: percentile(sorted, 0.975) };
}

/** Between the two nearest of ascending values, linearly (numpy's default). `fraction` is 0..1. */
export function percentile(sorted: Float64Array, fraction: number): number {
  const position = (sorted.length - 1) * fraction;
  const low = sorted[Math.floor(position)];
  const high = sorted[Math.ceil(position)];
  if (low === undefined || high === undefined) throw new RangeError('A percentile needs at least one value.');
  return low + (high - low) * (position - Math.floor(position));
}
