/** Chooses the thumbnails of a version's page, spread over its labels, and stores them. */
import { buffer } from 'node:stream/consumers';
import type { ArtifactStore, StoredBytes } from '../../src/platform/artifact-store/index.ts';
import type { ImageDecoders } from './decoder/image-decoders.ts';
import type { SourceImage } from './listing.ts';
import type { ShardPlace, StoredShard } from './shard-writer.ts';

export const THUMBNAILS_MAX = 24;

export interface StoredThumbnail extends StoredBytes {
  readonly label: string | null;
}

/** An image of the version that becomes a thumbnail. */
export interface PickedImage {
  readonly place: ShardPlace;
  readonly byteLength: number;
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

interface ThumbnailMakers {
  readonly artifacts: Pick<ArtifactStore, 'open' | 'put'>;
  readonly decoders: Pick<ImageDecoders, 'thumbnail'>;
}

/** The images are read back from the shards, so that neither memory nor the disk holds them until the end. */
export async function storeThumbnails(
  { artifacts, decoders }: ThumbnailMakers,
  picked: readonly PickedImage[],
  shards: readonly StoredShard[],
): Promise<StoredThumbnail[]> {
  const thumbnails: StoredThumbnail[] = [];
  for (const { place, byteLength, label } of picked) {
    const { byteOffset: first } = place;
    const range = { first, last: first + byteLength - 1 };
    const bytes = await buffer(await artifacts.open(shards[place.shard]?.sha256 ?? '', range));
    thumbnails.push({ ...(await artifacts.put(await decoders.thumbnail(bytes))), label });
  }
  return thumbnails;
}

function spacedOrdinals(count: number, wanted: number): number[] {
  const taken = Math.min(count, wanted);
  return Array.from({ length: taken }, (_, index) => Math.floor((index * count) / taken));
}

function evenlySpaced<Item>(items: readonly Item[], wanted: number): Item[] {
  return spacedOrdinals(items.length, wanted).flatMap((index) => items.slice(index, index + 1));
}
