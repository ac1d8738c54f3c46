/**
 * What a training and an evaluation do with the manifest of a version before they read its images, on a manifest of any
 * length: its shards are one small real shard again and again.
 */
import { createWriteStream } from 'node:fs';
import { open, stat } from 'node:fs/promises';
import path from 'node:path';
import { pipeline } from 'node:stream/promises';
import {
  createManifestWriter,
  openManifest,
  PERCEPTUAL_HASH_BYTES,
  PIXEL_DIGEST_BYTES,
  walkShard,
} from '../src/formats/manifest/index.ts';
import type { ColumnName, Manifest } from '../src/formats/manifest/index.ts';
import { accessFile } from '../src/formats/random-access.ts';
import { DEFAULT_SHUFFLE } from '../src/protocol/pretraining/shuffle.ts';
import { openTrainingBatches } from '../workers/engine/data/batches.ts';
import { createSampleOrder, type SampleOrderOptions } from '../workers/engine/data/sampling.ts';
import { storedDecoders } from '../workers/imaging/decoder/stored-decoder.ts';
import { openShardSources } from '../workers/tasks/shard-sources.ts';
import { createDigestMatcher, findNearDuplicates } from '../workers/imaging/near-duplicates.ts';
import { createShardWriter } from '../workers/imaging/shard-writer.ts';
import { createTissueImages } from './images.ts';
import { TRAINING } from './plan.ts';
import { groupOf, hashesOf, IMAGES_PER_SHARD, keyOf, rowOf, withFlippedBits } from './synthetic-rows.ts';

/** In the order in which they run. */
export const MANIFEST_PARTS = ['write', 'columns', 'leakage', 'order', 'batch'] as const;
export type ManifestPartName = (typeof MANIFEST_PARTS)[number];

export const MANIFEST_PART_TITLES: Readonly<Record<ManifestPartName, string>> = {
  write: 'write the manifest',
  columns: 'read three columns',
  leakage: 'leakage by hashes',
  order: 'sampling order',
  batch: 'first batch',
};

export interface ManifestPartOptions {
  readonly folder: string;
  /** A multiple of IMAGES_PER_SHARD. */
  readonly imageCount: number;
  /** Images that the leakage looks for: half of them copies, a quarter near duplicates, a quarter neither. */
  readonly testImageCount: number;
  readonly seed: number;
  readonly onProgress: (fraction: number) => void;
}

/** Each throws Error for a wrong result. @returns the bytes that it stored. */
export const MANIFEST_PART_WORK: Readonly<Record<ManifestPartName, (options: ManifestPartOptions) => Promise<number>>> =
  { write, columns, leakage, order, batch };

/** Distinct images of the shard, which repeats them. */
const DISTINCT_IMAGES = 100;
/** Of the random hashes that are neither, a few lie near one of ten million by chance. */
const CHANCE_SHARE_MAX = 0.001;

function shardPathIn(folder: string): string {
  return path.join(folder, 'shard.tar');
}

function manifestPathIn(folder: string): string {
  return path.join(folder, 'manifest.parquet');
}

async function write({ folder, imageCount, seed, onProgress }: ManifestPartOptions): Promise<number> {
  await writeShard(shardPathIn(folder), seed);
  await using shard = await open(shardPathIn(folder));
  const places = await walkShard(accessFile(shard, (await shard.stat()).size), 'the shard');
  const file = await open(manifestPathIn(folder), 'w');
  try {
    const writer = createManifestWriter(async (bytes) => file.appendFile(bytes));
    for (let row = 0; row < imageCount; row += 1) {
      await writer.write(rowOf(row, seed, places));
      if (row % IMAGES_PER_SHARD === 0) onProgress(row / imageCount);
    }
    await writer.finish();
    return (await file.stat()).size;
  } finally {
    await file.close();
  }
}

async function writeShard(shardPath: string, seed: number): Promise<void> {
  const images = createTissueImages(seed);
  const encoded = await Promise.all(Array.from({ length: DISTINCT_IMAGES }, (_, index) => images.encode(index)));
  const toFile = {
    put: async (source: Uint8Array | NodeJS.ReadableStream | AsyncIterable<Uint8Array>) => {
      await pipeline(source instanceof Uint8Array ? [source] : source, createWriteStream(shardPath));
      return { sha256: '', byteSize: 0 };
    },
  };
  const writer = createShardWriter(toFile);
  for (let place = 0; place < IMAGES_PER_SHARD; place += 1)
    await writer.write(keyOf(place), 'jpg', encoded[place % DISTINCT_IMAGES] ?? Buffer.alloc(0), {});
  await writer.finish();
}

async function withManifest<Result>(
  { folder, imageCount }: ManifestPartOptions,
  work: (manifest: Manifest) => Promise<Result>,
): Promise<Result> {
  await using file = await open(manifestPathIn(folder));
  await using shard = await open(shardPathIn(folder));
  const { size: shardBytes } = await shard.stat();
  const shardByteSizes = Array.from({ length: imageCount / IMAGES_PER_SHARD }, () => shardBytes);
  const { size } = await file.stat();
  return await work(await openManifest(accessFile(file, size), { imageCount, shardByteSizes }));
}

const THREE_COLUMNS = ['key', 'label', 'group'] as const satisfies readonly ColumnName[];

async function columns(options: ManifestPartOptions): Promise<number> {
  const { imageCount } = options;
  await withManifest(options, async (manifest) => {
    const { key, label, group } = await manifest.read(THREE_COLUMNS);
    requireEqual(label.values.length, 4, 'labels');
    for (const row of [0, imageCount >> 1, imageCount - 1]) {
      requireEqual(key.at(row), keyOf(row), `as the key of row ${row}`);
      requireEqual(group.at(row), groupOf(row), `as the group of row ${row}`);
    }
  });
  return 0;
}

async function leakage(options: ManifestPartOptions): Promise<number> {
  const { imageCount, testImageCount, seed, onProgress } = options;
  const tested = testedHashes(options);
  const digests = createDigestMatcher(tested.pixelDigests);
  const seen = new Uint8Array(imageCount * PERCEPTUAL_HASH_BYTES);
  await withManifest(options, async (manifest) => {
    for await (const { firstRow, columns: block } of manifest.rows(['pixelDigest', 'perceptualHash'])) {
      digests.see(block.pixelDigest);
      seen.set(block.perceptualHash, firstRow * PERCEPTUAL_HASH_BYTES);
    }
  });
  const exactCount = digests.matches().reduce((count, each) => count + each, 0);
  requireEqual(exactCount, tested.copyCount, `copies with seed ${seed}`);
  const others = tested.perceptualHashes.subarray(tested.copyCount * PERCEPTUAL_HASH_BYTES);
  const isNear = await findNearDuplicates(others, seen, {
    throwIfStopped: () => undefined,
    onProgress: async (fraction) => onProgress(fraction),
  });
  const nearCount = isNear.reduce((count, near) => count + near, 0);
  const byChance = nearCount - tested.nearCount;
  if (byChance < 0 || byChance > Math.max(5, CHANCE_SHARE_MAX * testImageCount))
    throw new Error(`Wrong: ${nearCount} near duplicates, and not ${tested.nearCount} or a few more.`);
  return 0;
}

/** First the copies, then near duplicates of three flipped bits, then hashes of other scenes. */
function testedHashes({ imageCount, testImageCount, seed }: ManifestPartOptions) {
  const copyCount = Math.floor(testImageCount / 2);
  const nearCount = Math.floor(testImageCount / 4);
  const pixelDigests = new Uint8Array(testImageCount * PIXEL_DIGEST_BYTES);
  const perceptualHashes = new Uint8Array(testImageCount * PERCEPTUAL_HASH_BYTES);
  for (let place = 0; place < testImageCount; place += 1) {
    const row = Math.floor((place * imageCount) / testImageCount);
    const seen = hashesOf(row, seed);
    const other = hashesOf(row, seed + 1);
    const near = withFlippedBits(seen.perceptualHash, [row, row + 20, row + 40]);
    const isCopy = place < copyCount;
    pixelDigests.set((isCopy ? seen : other).pixelDigest, place * PIXEL_DIGEST_BYTES);
    perceptualHashes.set(
      isCopy ? seen.perceptualHash : place < copyCount + nearCount ? near : other.perceptualHash,
      place * PERCEPTUAL_HASH_BYTES,
    );
  }
  return { pixelDigests, perceptualHashes, copyCount, nearCount };
}

/** Of the first step and of a step in the middle of the tenth epoch, as a training that resumes there asks for it. */
async function order({ imageCount, seed }: ManifestPartOptions): Promise<number> {
  const shardImageCounts = Array.from({ length: imageCount / IMAGES_PER_SHARD }, () => IMAGES_PER_SHARD);
  const { batchSize } = TRAINING;
  const { windowShards, firstWindowShards } = DEFAULT_SHUFFLE;
  const sampling: SampleOrderOptions = {
    ...{ datasets: [{ shardImageCounts }], batchSize, seed, windowShards, firstWindowShards },
    sampling: 'EVEN',
  };
  for (const step of [0, Math.floor((9.5 * imageCount) / batchSize)]) {
    const images = new Set(
      createSampleOrder(sampling)
        .imagesOf(step)
        .map(({ imageIndex }) => imageIndex),
    );
    requireEqual(images.size, batchSize, `different images in step ${step}`);
  }
  return 0;
}

/** As a run starts; but shards are verified once for each shard and machine, which is not a part of this. */
async function batch({ folder, imageCount, seed }: ManifestPartOptions): Promise<number> {
  const { batchSize, imageSizePx } = TRAINING;
  const { windowShards, firstWindowShards } = DEFAULT_SHUFFLE;
  const manifestSha256 = 'manifest';
  const release = (): Promise<void> => Promise.resolve();
  const context = {
    throwIfStopped: () => undefined,
    localFile: async (sha256: string) => ({
      path: sha256 === manifestSha256 ? manifestPathIn(folder) : shardPathIn(folder),
      release,
      [Symbol.asyncDispose]: release,
    }),
  };
  const shard = { sha256: 'shard', byteSize: (await stat(shardPathIn(folder))).size, imageCount: IMAGES_PER_SHARD };
  const shards = Array.from({ length: imageCount / IMAGES_PER_SHARD }, () => shard);
  await using sources = openShardSources(context, { manifestSha256, imageHashesSha256: null, imageCount, shards });
  const batches = openTrainingBatches({
    ...{ sampling: 'EVEN', batchSize, seed, windowShards, firstWindowShards },
    datasets: [{ shards: sources.shards }],
    sourceSizePx: 2 * imageSizePx,
    openDecoder: storedDecoders({ hiddenFolder: folder, scratchFolder: folder }),
  });
  try {
    requireEqual((await batches.next()).imageCount, batchSize, 'images in the first batch');
  } finally {
    await batches.close();
  }
  return 0;
}

function requireEqual<Value>(found: Value, expected: Value, what: string): void {
  if (found !== expected) throw new Error(`Wrong: ${String(found)} ${what}, and not ${String(expected)}.`);
}
