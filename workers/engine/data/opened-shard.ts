/** One shard while it is open: where the bytes of its images lie, and their reading. */
import { open, type FileHandle } from 'node:fs/promises';
import { basename } from 'node:path';
import { TAR_BLOCK_BYTES } from '../../../src/formats/tar-header.ts';
import { ImageDataError } from './errors.ts';
import { checkImageHeader, type PlacedImage } from './image-header.ts';

/** A shard of a sealed version, which may have to be fetched or verified first. */
export interface ShardSource {
  readonly imageCount: number;
  /** Called when images of the shard are about to be read, and again if others are read much later. */
  open(): Promise<LocalShard>;
}

/** A shard as a file of this machine whose bytes are verified. */
export interface LocalShard {
  readonly path: string;
  /** Of its images, in the order of the manifest. */
  readonly places: ImagePlaces;
  /** The file is no longer read. */
  release(): Promise<void>;
}

export interface ImagePlaces {
  /** Of each image's first byte, without its tar header. */
  readonly byteOffset: Float64Array;
  readonly byteLength: Uint32Array;
}

export interface OpenedShard {
  /**
   * @param index of the image in the shard. @param key null: not known.
   * @throws ImageDataError IMAGE_MISSING, or MANIFEST_INVALID where the image would lie outside the shard.
   */
  place(index: number, key: string | null): PlacedImage;
  /**
   * Fills `target`, which has the size of the image.
   * @returns the key of the image; null if it is not known and too long for a tar header.
   * @throws ImageDataError SHARD_TRUNCATED, MANIFEST_INVALID or IMAGE_MISSING.
   */
  read(image: PlacedImage, target: Uint8Array): Promise<string | null>;
  close(): Promise<void>;
}

/** Throws ImageDataError SHARD_UNREADABLE or IMAGE_COUNT_MISMATCH, and what the source throws. */
export async function openSource({ imageCount, open: openLocal }: ShardSource): Promise<OpenedShard> {
  const { path, places, release } = await openLocal();
  const close = async (file?: FileHandle): Promise<void> => {
    await file?.close();
    await release();
  };
  let file: FileHandle | undefined;
  try {
    if (places.byteOffset.length !== imageCount) {
      const message = `Shard ${basename(path)} should hold ${imageCount} images, and the manifest lists ${places.byteOffset.length}.`;
      throw new ImageDataError('IMAGE_COUNT_MISMATCH', message, { shardPath: path });
    }
    const opened = await openFile(path);
    file = opened;
    const { size: shardBytes } = await opened.stat();
    return {
      place: (index, key) => placeIn({ path, shardBytes, places }, index, key),
      read: (image, target) => readImage(opened, path, image, target),
      close: () => close(opened),
    };
  } catch (error) {
    await close(file);
    throw error;
  }
}

async function openFile(path: string): Promise<FileHandle> {
  try {
    return await open(path, 'r');
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    const message = `Shard ${basename(path)} cannot be opened: ${why}`;
    throw new ImageDataError('SHARD_UNREADABLE', message, { shardPath: path }, { cause });
  }
}

interface PlacesInFile {
  readonly path: string;
  readonly shardBytes: number;
  readonly places: ImagePlaces;
}

function placeIn({ path, shardBytes, places }: PlacesInFile, index: number, key: string | null): PlacedImage {
  const [byteOffset, byteSize] = [places.byteOffset[index], places.byteLength[index]];
  if (byteOffset === undefined || byteSize === undefined) {
    const message = `The manifest has no image ${key ?? index} in shard ${basename(path)}.`;
    throw new ImageDataError('IMAGE_MISSING', message, { shardPath: path, key: key ?? undefined });
  }
  const placed = { byteOffset, byteSize, key };
  // Checked before memory is reserved for its bytes.
  const isWithin = byteOffset >= TAR_BLOCK_BYTES && byteOffset + byteSize <= shardBytes;
  if (!isWithin) {
    const bytes = `${byteSize} bytes from byte ${byteOffset}`;
    const message = `By the manifest, ${nameOf(placed)} has ${bytes}, and shard ${basename(path)} has ${shardBytes}.`;
    throw new ImageDataError('MANIFEST_INVALID', message, { shardPath: path, key: key ?? undefined });
  }
  return placed;
}

async function readImage(
  file: FileHandle,
  shardPath: string,
  image: PlacedImage,
  target: Uint8Array,
): Promise<string | null> {
  const header = Buffer.allocUnsafe(TAR_BLOCK_BYTES);
  const byteCount = await readFully(file, [header, target], image.byteOffset - TAR_BLOCK_BYTES);
  if (byteCount < TAR_BLOCK_BYTES + target.length) {
    const message = `Shard ${basename(shardPath)} ends within ${nameOf(image)}.`;
    throw new ImageDataError('SHARD_TRUNCATED', message, { shardPath, key: image.key ?? undefined });
  }
  return checkImageHeader(header, image, shardPath);
}

/**
 * Reads until the buffers are full or the file ends.
 * @returns the number of bytes read.
 */
async function readFully(file: FileHandle, buffers: readonly Uint8Array[], position: number): Promise<number> {
  let pending = [...buffers];
  let filled = 0;
  while (pending.length > 0) {
    const { bytesRead } = await file.readv(pending, position + filled);
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
