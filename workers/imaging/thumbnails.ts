/** Chooses the thumbnails of a version's page, spread over its labels. */
import type { StoredBytes } from '../../src/platform/artifact-store/index.ts';
import type { SourceImage } from './listing.ts';

export const THUMBNAILS_MAX = 24;

export interface StoredThumbnail extends StoredBytes {
  readonly label: string | null;
}

export interface ThumbnailPicker {
  /**
   * True if this image, the `ordinal`-th of its label's source files, should become a thumbnail. Call in order, once
   * for each file that can be shown.
   */
  wants(label: string | null, ordinal: number): boolean;
}

/**
 * Each label gets its share of the thumbnails, evenly spaced over its files; if a chosen file cannot be shown, the next
 * one that can replaces it.
 */
export function createThumbnailPicker(sources: Iterable<SourceImage>): ThumbnailPicker {
  const countOf = new Map<string | null, number>();
  for (const { label } of sources) countOf.set(label, (countOf.get(label) ?? 0) + 1);
  const labels = [...countOf.keys()];
  const named = labels.filter((label) => label !== null);
  const labelsShown = evenlySpaced(named.length === 0 ? labels : named, THUMBNAILS_MAX);
  const share = Math.max(1, Math.floor(THUMBNAILS_MAX / Math.max(1, labelsShown.length)));
  const due = new Map(labelsShown.map((label) => [label, spacedOrdinals(countOf.get(label) ?? 0, share)]));
  return {
    wants: (label, ordinal) => {
      const [next] = due.get(label) ?? [];
      if (next === undefined || ordinal < next) return false;
      due.get(label)?.shift();
      return true;
    },
  };
}

function spacedOrdinals(count: number, wanted: number): number[] {
  const taken = Math.min(count, wanted);
  return Array.from({ length: taken }, (_, index) => Math.floor((index * count) / taken));
}

function evenlySpaced<Item>(items: readonly Item[], wanted: number): Item[] {
  return spacedOrdinals(items.length, wanted).flatMap((index) => items.slice(index, index + 1));
}
