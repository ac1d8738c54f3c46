/** One shard while it is open: where the bytes of its images lie, and their reading. */
import { close, closeSync, fstatSync, readv } from 'node:fs';
import { basename } from 'node:path';
import { promisify } from 'node:util';
import { ImageDataError } from './errors.ts';
import { BLOCK_BYTES, checkImageHeader, openShard, walkShard, type ShardImage } from './shards.ts';

/** A shard of a sealed version, which may have to be fetched or verified first. */
export interface ShardSource {
  readonly imageCount: number;
  /** Called when images of the shard are about to be read, and again if others are read much later. */
  open(): Promise<LocalShard>;
}

/** A shard as a file of this machine whose bytes are verified. */
export interface LocalShard {
  readonly path: string;
  /** Of its images, in the order of the file; null for a version whose manifest has no offsets: then it is walked. */
  readonly places: ImagePlaces | null;
  /** The file is no longer read. */
  release(): Promise<void>;
}

export interface ImagePlaces {
  /** Of each image's first byte, without its tar header. */
  readonly byteOffset: Float64Array;
  readonly byteLength: Uint32Array;
}

/** An image as a reading names it: by its index in the shard, or as the manifest describes it. */
export type NamedImage = number | ManifestPlace;

export interface ManifestPlace {
  readonly key: string;
  /** Absent in versions whose manifest has no offsets. */
  readonly byteOffset?: number | null | undefined;
  readonly byteSize?: number | undefined;
}

/** An image whose bytes are known to lie within the shard. */
export interface PlacedImage {
  readonly byteOffset: number;
  readonly byteSize: number;
  /** Null: unknown until the image is read. */
  readonly key: string | null;
}

export interface OpenedShard {
  /** Throws ImageDataError IMAGE_MISSING, or MANIFEST_INVALID where the image would lie outside the shard. */
  place(image: NamedImage): PlacedImage;
  /**
   * Fills `target`, which has the size of the image.
   * @returns the key of the image as the shard has it; null if it is unknown and too long for a tar header.
   * @throws ImageDataError SHARD_TRUNCATED, MANIFEST_INVALID or IMAGE_MISSING.
   */
  read(image: PlacedImage, target: Uint8Array): Promise<string | null>;
  close(): Promise<void>;
}

const readInto = promisify(readv);
const closeFile = promisify(close);

/**
 * Throws ImageDataError SHARD_UNREADABLE, IMAGE_COUNT_MISMATCH or, for a shard that is walked, what `walkShard` throws;
 * and what the source throws.
 */
export async function openSource(source: ShardSource): Promise<OpenedShard> {
  const local = await source.open();
  try {
    return openLocal(local, source.imageCount);
  } catch (error) {
    await local.release();
    throw error;
  }
}

function openLocal({ path, places, release }: LocalShard, imageCount: number): OpenedShard {
  const file = openShard(path);
  try {
    const images = places === null ? walkedImages(walkShard(file, path)) : listedImages(places);
    if (images.count !== imageCount) {
      const message = `Shard ${basename(path)} should hold ${imageCount} images, and holds ${images.count}.`;
      throw new ImageDataError('IMAGE_COUNT_MISMATCH', message, { shardPath: path });
    }
    const { size: shardBytes } = fstatSync(file);
    return {
      place: (image) => placeIn({ path, shardBytes, images }, image),
      read: (image, target) => readImage(file, path, image, target),
      close: async () => {
        await closeFile(file);
        await release();
      },
    };
  } catch (error) {
    closeSync(file);
    throw error;
  }
}

interface Images {
  readonly count: number;
  find(image: NamedImage): PlacedImage | undefined;
}

function listedImages({ byteOffset, byteLength }: ImagePlaces): Images {
  return {
    count: byteOffset.length,
    find: (image) => {
      const [offset, byteSize] =
        typeof image === 'number' ? [byteOffset[image], byteLength[image]] : [image.byteOffset, image.byteSize];
      if (offset == null || byteSize === undefined) return undefined;
      return { byteOffset: offset, byteSize, key: typeof image === 'number' ? null : image.key };
    },
  };
}

function walkedImages(images: readonly ShardImage[]): Images {
  /** Made when the first image is looked for by its key, which a training never does. */
  let byKey: ReadonlyMap<string, ShardImage> | undefined;
  return {
    count: images.length,
    find: (image) => {
      if (typeof image === 'number') return images[image];
      byKey ??= new Map(images.map((each) => [each.key, each]));
      return byKey.get(image.key);
    },
  };
}

interface PlacesInFile {
  readonly path: string;
  readonly shardBytes: number;
  readonly images: Images;
}

function placeIn({ path, shardBytes, images }: PlacesInFile, image: NamedImage): PlacedImage {
  const placed = images.find(image);
  if (placed === undefined) {
    const key = typeof image === 'number' ? undefined : image.key;
    const message = `Image ${key ?? String(image)} of the manifest is not in shard ${basename(path)}.`;
    throw new ImageDataError('IMAGE_MISSING', message, { shardPath: path, key });
  }
  const { byteOffset, byteSize, key } = placed;
  // Checked before memory is reserved for its bytes.
  const isWithin = byteOffset >= BLOCK_BYTES && byteOffset + byteSize <= shardBytes;
  if (!isWithin) {
    const bytes = `${byteSize} bytes from byte ${byteOffset}`;
    const message = `By the manifest, ${nameOf(placed)} has ${bytes}, and shard ${basename(path)} has ${shardBytes}.`;
    throw new ImageDataError('MANIFEST_INVALID', message, { shardPath: path, key: key ?? undefined });
  }
  return placed;
}

async function readImage(
  file: number,
  shardPath: string,
  image: PlacedImage,
  target: Uint8Array,
): Promise<string | null> {
  const header = Buffer.allocUnsafe(BLOCK_BYTES);
  const byteCount = await readFully(file, [header, target], image.byteOffset - BLOCK_BYTES);
  if (byteCount < BLOCK_BYTES + target.length) {
    const message = `Shard ${basename(shardPath)} ends within ${nameOf(image)}.`;
    throw new ImageDataError('SHARD_TRUNCATED', message, { shardPath, key: image.key ?? undefined });
  }
  return checkImageHeader(header, image, shardPath);
}

/**
 * Reads until the buffers are full or the file ends.
 * @returns the number of bytes read.
 */
async function readFully(file: number, buffers: readonly Uint8Array[], position: number): Promise<number> {
  let pending = [...buffers];
  let filled = 0;
  while (pending.length > 0) {
    const { bytesRead } = await readInto(file, pending, position + filled);
    if (bytesRead === 0) break;
    filled += bytesRead;
    pending = withoutFirst(pending, bytesRead);
  }
  return filled;
}

function withoutFirst(buffers: readonly Uint8Array[], byteCount: number): Uint8Array[] {
  let left = byteCount;
  return buffers.flatMap((buffer) => {
    const skipped = Math.min(left, buffer.length);
    left -= skipped;
    return skipped === buffer.length ? [] : [buffer.subarray(skipped)];
  });
}

function nameOf({ key, byteOffset }: PlacedImage): string {
  return key === null ? `the image at byte ${byteOffset}` : `image ${key}`;
}
