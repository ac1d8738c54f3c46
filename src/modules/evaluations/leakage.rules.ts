/** Rules of leakage: when a tested image counts as seen in pretraining. Pure. */
import type { LeakageRecord } from '../../protocol/evaluation.ts';

/**
 * True if any tested data is known to be in the pretraining data; null if none is, but the pretraining data is not
 * fully known.
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
