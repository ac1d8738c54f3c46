/**
 * Batches of decoded images, prepared ahead of time: this process reads stored bytes by asynchronous reads and copies
 * pixels, another one decodes. TensorFlow's kernels block this process's event loop, so reads and requests are sent
 * early enough that the decoder always has work meanwhile.
 */
import { setImmediate } from 'node:timers/promises';
import { ImageDataError } from './errors.ts';
import type { ShardSource } from './opened-shard.ts';
import { createPixelCache } from './pixel-cache.ts';
import {
  evaluationPlan,
  trainingPlan,
  type EvaluationImage,
  type ImageRef,
  type ReadingPlan,
  type ShardedDataset,
} from './reading-plan.ts';
import { openShardFiles } from './shard-files.ts';
import type { SamplingStrategy } from './shares.ts';
import type { Interpolation, OpenStoredDecoder, ResizeRule, SquareRule, StoredImage } from './stored-decoder.ts';

export interface DecodedBatch {
  /** uint8 RGB `[count, sizePx, sizePx, 3]`. */
  readonly images: Uint8Array<ArrayBuffer>;
  readonly imageCount: number;
  /** Images from each dataset, in the order of the datasets. */
  readonly sourceCounts: readonly number[];
  /** Images of this batch that had to be decoded; the others came from the cache. */
  readonly decodedCount: number;
}

/** Default size of a training's cache of decoded images. */
const CACHE_BYTE_LIMIT = 1024 ** 3;
/** One batch is in use, one is ready, one is being decoded, and one is being read. */
const BATCHES_AHEAD = 3;

export interface TrainingBatchOptions {
  readonly datasets: readonly ShardedDataset[];
  readonly sampling: SamplingStrategy;
  /** Images in a batch. */
  readonly batchSize: number;
  /** Side of the decoded square; about twice the side of the views keeps the smallest crops sharp. */
  readonly sourceSizePx: number;
  readonly seed: number;
  /** Shards whose images are mixed, see `SampleOrderOptions`. */
  readonly windowShards: number;
  /** See `SampleOrderOptions`. */
  readonly firstWindowShards?: number | null;
  /** The step whose batch the first next() returns; default 0. */
  readonly startStep?: number;
  /** Decoded pixels kept for later epochs; default 1 GiB. */
  readonly cacheByteLimit?: number;
  readonly openDecoder: OpenStoredDecoder;
}

export interface TrainingBatches {
  /** The batch of the next step. Throws ImageDataError. */
  next(): Promise<DecodedBatch>;
  /** Ends the decoder and waits until it is gone. */
  close(): Promise<void>;
}

export interface EvaluationImageOptions {
  readonly shards: readonly ShardSource[];
  /** In the order of the batches, which is that of the manifest where every shard is to be opened once. */
  readonly images: Iterable<EvaluationImage>;
  readonly batchSize: number;
  /** The input contract's size, to which images are resized, always antialiased. */
  readonly imageSizePx: number;
  /** Default SHORT_SIDE_THEN_CENTRE_CROP. */
  readonly resizeRule?: ResizeRule | undefined;
  /** Default BILINEAR. */
  readonly interpolation?: Interpolation | undefined;
  readonly openDecoder: OpenStoredDecoder;
}

export interface EvaluationImages extends AsyncIterable<DecodedBatch> {
  /** The next batch, or null after the last. Throws ImageDataError. */
  next(): Promise<DecodedBatch | null>;
  close(): Promise<void>;
}

/**
 * Endless shuffled batches. The order is a pure function of the seed and the step. Throws ImageDataError BAD_OPTION or
 * TOO_FEW_IMAGES here; next() throws the errors of the shards.
 */
export function openTrainingBatches(options: TrainingBatchOptions): TrainingBatches {
  const {
    datasets,
    sampling,
    batchSize,
    sourceSizePx,
    seed,
    windowShards,
    firstWindowShards = null,
    openDecoder,
  } = options;
  const { startStep = 0, cacheByteLimit = CACHE_BYTE_LIMIT } = options;
  checkSizePx('sourceSizePx', sourceSizePx);
  if (!(cacheByteLimit >= 0)) throw badOption('cacheByteLimit', 'a number of bytes from 0');
  checkStartStep(startStep);
  const reader = openReader({
    sources: datasets.flatMap(({ shards }) => shards),
    plan: trainingPlan({ datasets, sampling, batchSize, seed, windowShards, firstWindowShards, startStep }),
    datasetCount: datasets.length,
    batchSize,
    rule: {
      sizePx: sourceSizePx,
      quality: 'FAST',
      resizeRule: 'SHORT_SIDE_THEN_CENTRE_CROP',
      interpolation: 'BILINEAR',
    },
    cacheByteLimit,
    openDecoder,
  });
  return {
    next: async () => {
      const batch = await reader.next();
      if (batch === null) throw new ImageDataError('READER_DIED', 'A training reading ended, which it never does.');
      return batch;
    },
    close: reader.close,
  };
}

/**
 * Every image once, in the order given; the last batch may be smaller. Throws ImageDataError BAD_OPTION here; next()
 * throws all other errors.
 */
export function openEvaluationImages(options: EvaluationImageOptions): EvaluationImages {
  const { shards, images, batchSize, imageSizePx, openDecoder } = options;
  const { resizeRule = 'SHORT_SIDE_THEN_CENTRE_CROP', interpolation = 'BILINEAR' } = options;
  checkSizePx('imageSizePx', imageSizePx);
  if (!Number.isSafeInteger(batchSize) || batchSize < 1) throw badOption('batchSize', 'a positive integer');
  const reader = openReader({
    sources: shards,
    plan: evaluationPlan(images, batchSize),
    datasetCount: 1,
    batchSize,
    rule: { sizePx: imageSizePx, quality: 'EXACT', resizeRule, interpolation },
    cacheByteLimit: 0,
    openDecoder,
  });
  return {
    ...reader,
    async *[Symbol.asyncIterator]() {
      try {
        for (let batch = await reader.next(); batch !== null; batch = await reader.next()) yield batch;
      } finally {
        await reader.close();
      }
    },
  };
}

interface Reader {
  next(): Promise<DecodedBatch | null>;
  close(): Promise<void>;
}

interface Reading {
  readonly sources: readonly ShardSource[];
  readonly plan: ReadingPlan;
  readonly datasetCount: number;
  readonly batchSize: number;
  readonly rule: SquareRule;
  readonly cacheByteLimit: number;
  readonly openDecoder: OpenStoredDecoder;
}

function openReader({ plan, rule, datasetCount, ...reading }: Reading): Reader {
  const imageBytes = rule.sizePx * rule.sizePx * 3;
  const cache = createPixelCache(reading.cacheByteLimit, imageBytes);
  const shards = openShardFiles(reading.sources);
  const opening = reading.openDecoder({ ...rule, batchSize: reading.batchSize, batchesAtOnce: BATCHES_AHEAD + 1 });
  // The batches that wait for it receive the failure.
  opening.catch(() => undefined);
  /** Prefetched batches, pending or ready, in order. */
  const prefetched: Promise<DecodedBatch | null>[] = [];
  let lastBatch: Promise<unknown> = Promise.resolve();
  let lastNext: Promise<unknown> = Promise.resolve();
  /** What the first failed call of `next` has thrown; later ones throw it too. */
  let failure: { readonly error: unknown } | null = null;
  let closing: Promise<void> | null = null;

  const storedImageOf = async ({ shard, indexInShard, key }: ImageRef, place: number): Promise<StoredImage> => {
    const placed = await shards.use(shard, (opened) => opened.place(indexInShard, key));
    return {
      byteSize: placed.byteSize,
      place,
      read: async (target) => {
        const found = await shards.use(shard, (opened) => opened.read(placed, target));
        return found ?? `at byte ${placed.byteOffset} of shard ${shard}`;
      },
    };
  };

  /** The next batch: its bytes are read and its pixels decoded while earlier batches are in use. */
  const requestBatch = async (): Promise<DecodedBatch | null> => {
    const previous = lastBatch;
    const planned = plan.next();
    if (planned.done === true) return null;
    const { refs, shardsAhead } = planned.value;
    const images = new Uint8Array(refs.length * imageBytes);
    const sourceCounts = Array.from({ length: datasetCount }, () => 0);
    const cached: { readonly id: number; readonly place: number }[] = [];
    const missing: { readonly ref: ImageRef; readonly place: number }[] = [];
    for (const [place, ref] of refs.entries()) {
      sourceCounts[ref.datasetIndex] = (sourceCounts[ref.datasetIndex] ?? 0) + 1;
      if (cache.has(ref.id)) {
        cached.push({ id: ref.id, place });
        continue;
      }
      cache.take(ref.id);
      missing.push({ ref, place });
    }
    const located = Promise.all(missing.map(({ ref, place }) => storedImageOf(ref, place)));
    // After the requests of this batch, which are more urgent.
    shards.openAhead(shardsAhead);
    const [decoder, stored] = await Promise.all([opening, located]);
    await decoder.decode(stored, images);
    // Pixels that the cache counts as present may still be decoding with the previous batch.
    await previous;
    for (const { ref, place } of missing)
      cache.fill(ref.id, images.subarray(place * imageBytes, (place + 1) * imageBytes));
    for (const { id, place } of cached) images.set(cache.get(id), place * imageBytes);
    return { images, imageCount: refs.length, sourceCounts, decodedCount: missing.length };
  };

  const fill = (): void => {
    while (prefetched.length < BATCHES_AHEAD && closing === null) {
      const batch = requestBatch();
      lastBatch = batch;
      // The caller that awaits this batch receives the failure.
      batch.catch(() => undefined);
      prefetched.push(batch);
    }
  };
  fill();

  const takeNext = async (): Promise<DecodedBatch | null> => {
    if (failure !== null) throw failure.error;
    try {
      // A caller that computes without pause would never let the bytes that were read reach the decoder.
      await setImmediate();
      if (closing !== null) throw closedError();
      const batch = prefetched.shift();
      // Refilled before the wait, so that there is work while the caller computes.
      fill();
      return (await batch) ?? null;
    } catch (error) {
      failure = { error: closing === null ? error : closedError() };
      throw failure.error;
    }
  };

  return {
    next: () => {
      const batch = lastNext.then(takeNext);
      lastNext = batch.catch(() => undefined);
      return batch;
    },
    close: () => {
      closing ??= (async () => {
        await opening.then((decoder) => decoder.close()).catch(() => undefined);
        await shards.close();
        await Promise.allSettled(prefetched.splice(0));
        cache.clear();
        failure = { error: closedError() };
      })();
      return closing;
    },
  };
}

function closedError(): ImageDataError {
  return new ImageDataError('READER_CLOSED', 'This reading has been closed.');
}

function checkSizePx(option: string, sizePx: number): void {
  if (!Number.isSafeInteger(sizePx) || sizePx < 8 || sizePx > 4096) throw badOption(option, 'an integer of 8..4096 px');
}

function checkStartStep(startStep: number): void {
  if (!Number.isSafeInteger(startStep) || startStep < 0) throw badOption('startStep', 'an integer from 0');
}

function badOption(option: string, rule: string): ImageDataError {
  return new ImageDataError('BAD_OPTION', `${option} must be ${rule}.`, { option });
}
