/**
 * What must be said beside an interval if the bootstrap could not resample whole patients or slides, because they are
 * unknown for some images. Pure.
 */

/**
 * True if the group of every image is known, so that the bootstrap over groups covers the variance between patients.
 * Null if that was not recorded.
 * @param ungroupedImageCount number of images, trained on or tested on, whose patient or slide is unknown.
 */
export function areGroupsKnown(ungroupedImageCount: number | null): boolean | null {
  return ungroupedImageCount === null ? null : ungroupedImageCount === 0;
}

/** One sentence; null if the group of every image is known. */
export function intervalCaveat(ungroupedImageCount: number | null): string | null {
  switch (areGroupsKnown(ungroupedImageCount)) {
    case true:
      return null;
    case false:
      return `The patient or slide of ${ungroupedImageCount === 1 ? '1 image' : `${ungroupedImageCount} images`} is not known: the intervals are too narrow, and scores may be too high.`;
    case null:
      return 'It is not recorded whether the patients or slides of all images were known: the intervals may be too narrow.';
  }
}
