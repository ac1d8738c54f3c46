/** What counts as having been seen. Pure. */
import type { LeakageRecord } from './evaluations.records.ts';

/**
 * True where anything tested is known to be of the pretraining; null where nothing is known to be, but not everything
 * is known.
 */
export function overlapOf(leakage: LeakageRecord): boolean | null {
  const { exactImageCount, nearDuplicateImageCount, sharedGroupCount, sharedDatasets, sharedCollections, isComplete } =
    leakage;
  const found =
    (exactImageCount ?? 0) +
    (nearDuplicateImageCount ?? 0) +
    sharedGroupCount +
    sharedDatasets.length +
    sharedCollections.length;
  if (found > 0) return true;
  return isComplete && exactImageCount !== null ? false : null;
}
