/** How large a run is, and what it takes of the disk. Pure. */
import { formatByteSize } from '../src/cli/terminal.ts';

/** The stages in the order in which they run; each needs those before it. */
export const STAGES = ['draw', 'import', 'pretrain', 'evaluate'] as const;
export type StageName = (typeof STAGES)[number];

export interface ScaleSize {
  /** Images of the version that the encoder is pretrained on. */
  readonly imageCount: number;
  /** Images of the version that it is evaluated on: half of them are copies of images of the first version. */
  readonly testImageCount: number;
  readonly seed: number;
}

/** Sides of the drawn images: as few pixels as tissue can be recognised in. */
export const IMAGE_SIZE_PX = 64;
export const TRAINING = { steps: 50, batchSize: 64, imageSizePx: 32, encoder: 'RESNET18' } as const;
/** Images of one patient, all labels together. */
export const IMAGES_PER_GROUP = 200;
export const TEST_IMAGES_MAX = 100_000;
/** Numbers of images are multiples of this: one group for each of five folds, with the same number of every label. */
export const IMAGES_STEP = 5 * IMAGES_PER_GROUP;
export const IMAGES_MAX = 10_000_000;

/** A file of 64 px takes one block of 4 kB, its copy in a shard five blocks of a tar file; the rest are its rows. */
const BYTES_PER_IMAGE = 9_000;
/** Embeddings of three encoders, of which the colour statistics are small. */
const BYTES_PER_TEST_IMAGE = 2 * 512 * 4 + 500;
/** PostgreSQL, its write-ahead log, the encoder and the states of its training. */
const BASE_BYTES = 600_000_000;

export interface DiskNeed {
  readonly byteSize: number;
  /** Files and folders. */
  readonly fileCount: number;
}

/** The most that a run of this size needs on the disk at one time. */
export function diskNeedOf({ imageCount, testImageCount }: ScaleSize): DiskNeed {
  const fileCount = imageCount + testImageCount;
  return {
    byteSize: BASE_BYTES + fileCount * BYTES_PER_IMAGE + testImageCount * BYTES_PER_TEST_IMAGE,
    // A folder for each group and label.
    fileCount: Math.ceil(fileCount * (1 + 4 / IMAGES_PER_GROUP)) + 5_000,
  };
}

/** A row of a manifest with hashes that do not compress, and one shard of ten thousand images. */
const BYTES_PER_ROW = 80;
const SHARD_BYTES = 60_000_000;

/** The same for the parts that need only a manifest. */
export function manifestDiskNeedOf({ imageCount }: ScaleSize): DiskNeed {
  return { byteSize: SHARD_BYTES + imageCount * BYTES_PER_ROW, fileCount: 10 };
}

export interface Room {
  readonly freeBytes: number;
  /** Undefined for a file system that counts no files. */
  readonly freeFileCount: number | undefined;
}

/** A sentence that says why a run does not fit below the folder, or undefined if it does. */
export function roomFault(folder: string, need: DiskNeed, { freeBytes, freeFileCount }: Room): string | undefined {
  const advice = 'Take fewer images, or a folder on another disk (--dir).';
  if (freeBytes < need.byteSize)
    return `A run of this size takes ${formatByteSize(need.byteSize)} below ${folder}, and ${formatByteSize(freeBytes)} are free. ${advice}`;
  if (freeFileCount !== undefined && freeFileCount < need.fileCount)
    return `A run of this size makes ${need.fileCount} files below ${folder}, and its file system has room for ${freeFileCount}. ${advice}`;
  return undefined;
}

/** How many of the tested images are copies of images of the first version. */
export function copyCountOf({ testImageCount }: ScaleSize): number {
  return Math.floor(testImageCount / 2);
}
