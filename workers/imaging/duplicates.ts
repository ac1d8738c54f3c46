/**
 * Which images go into a version: of identical pixels the first image, and of images that are identical under two
 * labels, splits or groups neither.
 */
import { conflictBetween, createConflicts, type Conflicts } from './conflicts.ts';
import type { PackedImage } from './read-file.ts';
import type { IssueSink } from './issues.ts';
import type { SourceImage, SourceList } from './listing.ts';
import { createSeenPixels, pixelsName } from './seen-pixels.ts';

export interface DuplicatesOptions {
  readonly sources: SourceList;
  /** Conflicts that an earlier pass found; their images are in no version. */
  readonly leftOut: Conflicts;
  /** An image under two labels, splits or groups stays under both if true. */
  readonly keepConflicts: boolean;
  readonly issues: IssueSink;
}

export interface Duplicates {
  /** Those found, of which an image may already be in the version: the pass must then be repeated without them. */
  readonly conflicts: Conflicts;
  /**
   * True for an image that goes into the version; for any other one it records the reason. Call in the order of the
   * sources.
   * @param sourcePlace of the image's source, in the list of them.
   */
  isWanted(image: PackedImage, source: SourceImage, sourcePlace: number): boolean;
}

export function createDuplicates({ sources, leftOut, keepConflicts, issues }: DuplicatesOptions): Duplicates {
  const seenPixels = createSeenPixels(sources.length);
  const conflicts = createConflicts();
  return {
    conflicts,
    isWanted: ({ width, pixelDigest, nearlyBlank }, source, sourcePlace) => {
      const known = leftOut.size === 0 ? undefined : leftOut.get(pixelsName(width, pixelDigest));
      if (known !== undefined) {
        const other = known.first.relativePath === source.relativePath ? known.second : known.first;
        issues.add(known.kind, source.relativePath, {
          reason: known.reasonFor(source, other),
          relatedPath: other.relativePath,
        });
        return false;
      }
      const first = sources.at(seenPixels.firstPlace(width, pixelDigest, sourcePlace) ?? sources.length);
      if (first === undefined) return true;
      const relatedPath = first.relativePath;
      if (nearlyBlank) {
        issues.add('BLANK_DUPLICATE', source.relativePath, { relatedPath });
        return true;
      }
      const conflict = conflictBetween(first, source);
      if (conflict === undefined) {
        issues.add('DUPLICATE', source.relativePath, { relatedPath });
        return false;
      }
      if (keepConflicts)
        issues.add(conflict.kind, source.relativePath, { reason: conflict.reasonFor(source, first), relatedPath });
      else conflicts.add(pixelsName(width, pixelDigest), conflict);
      return keepConflicts;
    },
  };
}
