/**
 * The stored bytes of images on their way to a sandboxed decoder, which must not have the shards open: a fixed number
 * of slots, each an unlinked file that holds the images of one request. The number of slots bounds the memory.
 */
import { ftruncateSync, writeSync } from 'node:fs';
import type { FileHandle } from 'node:fs/promises';
import { openUnlinked } from '../../../src/platform/unlinked-file.ts';
import type { StoredImage } from '../../engine/data/stored-decoder.ts';
import { openMemoryFile } from './memory-file.ts';

/** A hundred patches of 30 kB. */
export const SLOT_BYTES = 4 * 1024 * 1024;
const SLOT_COUNT = 8;

/** An image whose bytes are in a slot. */
export interface StagedImage {
  /** Index into the files. */
  readonly slot: number;
  readonly byteOffset: number;
  readonly byteSize: number;
  readonly image: StoredImage;
}

export interface EncodedSlots {
  /** Descriptors that the decoder inherits, in the order of the slots. */
  readonly files: readonly number[];
  /**
   * Waits for a slot and reads the images into it. The slot is in use until `work` has ended.
   * @param images of at most SLOT_BYTES together, or a single one.
   * @throws what the images' `read` and `work` throw.
   */
  stage(images: readonly StoredImage[], work: (staged: readonly StagedImage[]) => Promise<void>): Promise<void>;
  close(): Promise<void>;
}

interface Slot {
  readonly index: number;
  readonly file: FileHandle;
  /**
   * Where its images are read, kept for the next ones: megabytes of new memory for every request would keep the garbage
   * collector busier than the reading.
   */
  staging: Buffer | null;
}

/** @param scratchFolder the folder of what does not fit into memory: single images above SLOT_BYTES, at any rate. */
export async function openEncodedSlots(scratchFolder: string): Promise<EncodedSlots> {
  const files: FileHandle[] = [];
  const close = async (): Promise<void> => {
    await Promise.all(files.map((file) => file.close()));
  };
  try {
    while (files.length < SLOT_COUNT) files.push(await openMemoryFile(scratchFolder, SLOT_BYTES));
    files.push(await openUnlinked(scratchFolder));
  } catch (error) {
    await close();
    throw error;
  }
  const slots = files.map((file, index): Slot => ({ index, file, staging: null }));
  const common = createPool(slots.slice(0, SLOT_COUNT));
  const large = createPool(slots.slice(SLOT_COUNT));
  return {
    files: files.map(({ fd }) => fd),
    stage: async (images, work) => {
      const byteSize = images.reduce((sum, image) => sum + image.byteSize, 0);
      await (byteSize <= SLOT_BYTES ? common : large).lend(async (slot) => {
        const staged = await fillSlot(slot, images, byteSize);
        await work(staged);
        if (byteSize > SLOT_BYTES) ftruncateSync(slot.file.fd, 0);
      });
    },
    close,
  };
}

/** Parts of a batch that `stage` takes. */
export function partsOf(images: readonly StoredImage[], imagesMax: number): StoredImage[][] {
  const parts: StoredImage[][] = [];
  let byteSize = Infinity;
  for (const image of images) {
    byteSize += image.byteSize;
    const last = parts.at(-1);
    if (last !== undefined && last.length < imagesMax && byteSize <= SLOT_BYTES) last.push(image);
    else {
      parts.push([image]);
      ({ byteSize } = image);
    }
  }
  return parts;
}

/** Memory for the images of one request; that of a single large image is not kept. */
function stagingOf(slot: Slot, byteSize: number): Buffer {
  if (byteSize > SLOT_BYTES) return Buffer.allocUnsafeSlow(byteSize);
  slot.staging ??= Buffer.allocUnsafeSlow(SLOT_BYTES);
  return slot.staging;
}

async function fillSlot(slot: Slot, images: readonly StoredImage[], byteSize: number) {
  const { index, file } = slot;
  const bytes = stagingOf(slot, byteSize);
  let end = 0;
  const staged = images.map((image): StagedImage => {
    end += image.byteSize;
    return { slot: index, byteOffset: end - image.byteSize, byteSize: image.byteSize, image };
  });
  // All at once: the reads wait for the disk together, in the threads of libuv.
  await Promise.all(
    images.map((image, which) => {
      const start = staged[which]?.byteOffset ?? 0;
      return image.read(bytes.subarray(start, start + image.byteSize));
    }),
  );
  // Synchronous, as a copy in memory: another turn of the event loop may be a training step away.
  for (let written = 0; written < byteSize;) written += writeSync(file.fd, bytes, written, byteSize - written, written);
  return staged;
}

interface Pool<Item> {
  /** Calls wait for an item in their order. */
  lend(use: (item: Item) => Promise<void>): Promise<void>;
}

function createPool<Item>(items: readonly Item[]): Pool<Item> {
  const free = [...items];
  const waiting: ((item: Item) => void)[] = [];
  return {
    lend: async (use) => {
      const item = free.pop() ?? (await new Promise<Item>((resolve) => waiting.push(resolve)));
      try {
        await use(item);
      } finally {
        const next = waiting.shift();
        if (next === undefined) free.push(item);
        else next(item);
      }
    },
  };
}
