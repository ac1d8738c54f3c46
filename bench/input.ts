/**
 * Measures how fast the input pipeline delivers images decoded from shards (first epoch), images from its cache (later
 * epochs), and the views made from them. It draws its own images with as much detail as tissue, so that the decoders
 * have realistic work.
 *
 *   node bench/input.ts [--json]
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createAugmenter } from '../workers/engine/augment/augmenter.ts';
import { DEFAULT_AUGMENTATION, pairOf } from '../workers/engine/augment/config.ts';
import { openTrainingBatches } from '../workers/engine/data/batches.ts';
import { createRandom } from '../workers/engine/rng.ts';
import { asRank4, tf } from '../workers/engine/tensorflow.ts';
import { storedDecoders } from '../workers/imaging/decoder/stored-decoder.ts';
import { sourceOf } from '../test/support/shards.ts';
import { writeShard } from './drawn-shard.ts';

export interface InputBenchOptions {
  /** Images of each kind; default 512. */
  readonly imageCount?: number;
  /** Measured rounds of the views; default 3. */
  readonly rounds?: number;
}

export interface InputBenchCase {
  readonly name: string;
  readonly imageSizePx: number;
  readonly format: 'png' | 'jpeg';
  /** Side of the decoded square. */
  readonly sourceSizePx: number;
  /** Side of the views. */
  readonly viewSizePx: number;
  readonly meanImageBytes: number;
  readonly decodedImagesPerSecond: number;
  readonly decodedMegabytesPerSecond: number;
  readonly cachedImagesPerSecond: number;
  readonly viewsPerSecond: number;
}

export interface InputBenchResult {
  readonly cases: readonly InputBenchCase[];
}

const CASES = [
  { name: '256 px PNG for views of 64 px', imageSizePx: 256, format: 'png', sourceSizePx: 128, viewSizePx: 64 },
  { name: '224 px JPEG for views of 64 px', imageSizePx: 224, format: 'jpeg', sourceSizePx: 128, viewSizePx: 64 },
  { name: '224 px JPEG for views of 224 px', imageSizePx: 224, format: 'jpeg', sourceSizePx: 224, viewSizePx: 224 },
] as const;

const BATCH_SIZE = 32;

/** Measures every case in turn, in a temporary folder that it removes. */
export async function benchInput(options: InputBenchOptions = {}): Promise<InputBenchResult> {
  const folder = await mkdtemp(join(tmpdir(), 'paraffin-bench-input-'));
  try {
    const cases: InputBenchCase[] = [];
    for (const wanted of CASES)
      cases.push(await measure(wanted, folder, options.imageCount ?? 512, options.rounds ?? 3));
    return { cases };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function measure(
  wanted: (typeof CASES)[number],
  folder: string,
  imageCount: number,
  rounds: number,
): Promise<InputBenchCase> {
  const shardPath = join(folder, `${wanted.imageSizePx}-${wanted.format}.tar`);
  const byteSize = await writeShard(shardPath, wanted, imageCount);
  const stepsPerEpoch = imageCount / BATCH_SIZE;
  const reading = openTrainingBatches({
    datasets: [{ shards: [await sourceOf(shardPath)] }],
    sampling: 'EVEN',
    windowShards: 64,
    batchSize: BATCH_SIZE,
    sourceSizePx: wanted.sourceSizePx,
    seed: 1,
    openDecoder: storedDecoders({ hiddenFolder: folder, scratchFolder: folder }),
  });
  try {
    // The first batches include the start of the decoder, and during the last batches of the epoch the pipeline already
    // reads later ones from its cache, so neither is counted.
    let batch = await reading.next();
    let decodedCount = 0;
    const decodingStartMs = performance.now();
    for (let step = 3; step < stepsPerEpoch; step += 1) {
      batch = await reading.next();
      decodedCount += batch.decodedCount;
    }
    const decodedSeconds = secondsSince(decodingStartMs);
    for (let step = 0; step < 4; step += 1) batch = await reading.next();
    const cachedStartMs = performance.now();
    for (let step = 0; step < stepsPerEpoch * 2; step += 1) batch = await reading.next();
    const cachedSeconds = secondsSince(cachedStartMs);
    return {
      ...wanted,
      meanImageBytes: Math.round(byteSize / imageCount),
      decodedImagesPerSecond: Math.round(decodedCount / decodedSeconds),
      decodedMegabytesPerSecond: Math.round((decodedCount / decodedSeconds) * (byteSize / imageCount / 1e5)) / 10,
      cachedImagesPerSecond: Math.round((imageCount * 2) / cachedSeconds),
      viewsPerSecond: Math.round(measureViews(batch.images, wanted.sourceSizePx, wanted.viewSizePx, rounds)),
    };
  } finally {
    await reading.close();
  }
}

/** The median over rounds, including the transfer to the device. */
function measureViews(pixels: Uint8Array, sourceSizePx: number, viewSizePx: number, rounds: number): number {
  const augmenter = createAugmenter(pairOf({ sizePx: viewSizePx, augmentation: DEFAULT_AUGMENTATION }));
  const random = createRandom(1);
  const speeds = Array.from({ length: rounds + 1 }, () => {
    const startMs = performance.now();
    tf.tidy(() => {
      const images = asRank4(tf.tensor(pixels, [BATCH_SIZE, sourceSizePx, sourceSizePx, 3], 'int32'));
      augmenter.views(images, random).dataSync();
    });
    return (2 * BATCH_SIZE) / secondsSince(startMs);
  });
  const sorted = speeds.slice(1).sort((left, right) => left - right);
  return sorted[Math.floor(sorted.length / 2)] ?? 0;
}

function secondsSince(startMs: number): number {
  return (performance.now() - startMs) / 1000;
}

if (import.meta.main) {
  const result = await benchInput();
  if (process.argv.includes('--json')) console.log(JSON.stringify(result, null, 2));
  else console.table(result.cases.map(({ format: _, imageSizePx: _size, ...shown }) => shown));
}
