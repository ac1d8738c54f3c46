/**
 * Batches of decoded images, prepared ahead of time by another process. This process only sends requests of a few
 * kilobytes and copies pixels. TensorFlow's kernels block its event loop, so requests are sent early enough that the
 * decoder always has work meanwhile.
 */
import { ImageDataError } from './errors.ts';
import { createPixelCache } from './pixel-cache.ts';
import {
  evaluationPlan,
  trainingPlan,
  type EvaluationImage,
  type ReadingPlan,
  type ShardedDataset,
} from './reading-plan.ts';
import { createSampleOrder, type SampledDataset, type SamplingStrategy } from './sampling.ts';
import { openShards, type ShardIndex } from './shards.ts';
import type { OpenStoredDecoder, ResizeRule, SquareRule, StoredDecoder, StoredImage } from './stored-decoder.ts';

export interface DecodedBatch {
  /** uint8 RGB `[count, sizePx, sizePx, 3]`. */
  readonly images: Uint8Array<ArrayBuffer>;
  /** One key for each image. */
  readonly keys: readonly string[];
  /** Images from each dataset, in the order of the datasets. */
  readonly sourceCounts: readonly number[];
  /** Images of this batch that had to be decoded; the others came from the cache. */
  readonly decodedCount: number;
}

/** Default size of a training's cache of decoded images. */
const CACHE_BYTE_LIMIT = 1024 ** 3;
/** One batch is in use, one is ready, and one is being made. */
const BATCHES_AHEAD = 2;

export interface TrainingBatchOptions {
  readonly datasets: readonly ShardedDataset[];
  readonly sampling: SamplingStrategy;
  /** Images in a batch. */
  readonly batchSize: number;
  /** Side of the decoded square; about twice the side of the views keeps the smallest crops sharp. */
  readonly sourceSizePx: number;
  readonly seed: number;
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
  readonly shardPaths: readonly string[];
  /** Images in manifest order, which is the order of the batches. `shard` is an index into shardPaths. */
  readonly images: readonly EvaluationImage[];
  readonly batchSize: number;
  /** The input contract's size; images are resized to it by an antialiased bilinear filter. */
  readonly imageSizePx: number;
  /** Default SHORT_SIDE_THEN_CENTRE_CROP. */
  readonly resizeRule?: ResizeRule | undefined;
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
  const { datasets, sampling, batchSize, sourceSizePx, seed, openDecoder } = options;
  const { startStep = 0, cacheByteLimit = CACHE_BYTE_LIMIT } = options;
  checkSizePx('sourceSizePx', sourceSizePx);
  if (!(cacheByteLimit >= 0)) throw badOption('cacheByteLimit', 'a number of bytes from 0');
  checkStartStep(startStep);
  // This one is created only for its checks, so that a wrong option is refused before a process starts.
  createSampleOrder({ datasets: datasets.map(sampledDatasetOf), sampling, batchSize, seed, startStep: 0 });
  const reader = openReader({
    shardPaths: datasets.flatMap(({ shardPaths }) => shardPaths),
    planOf: (shards) => trainingPlan({ datasets, sampling, batchSize, seed, startStep }, shards),
    datasetCount: datasets.length,
    batchSize,
    rule: { sizePx: sourceSizePx, quality: 'FAST', resizeRule: 'SHORT_SIDE_THEN_CENTRE_CROP' },
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
  const { shardPaths, images, batchSize, imageSizePx, openDecoder } = options;
  const { resizeRule = 'SHORT_SIDE_THEN_CENTRE_CROP' } = options;
  checkSizePx('imageSizePx', imageSizePx);
  if (!Number.isSafeInteger(batchSize) || batchSize < 1) throw badOption('batchSize', 'a positive integer');
  const reader = openReader({
    shardPaths,
    planOf: (shards) => evaluationPlan(images, batchSize, shards),
    datasetCount: 1,
    batchSize,
    rule: { sizePx: imageSizePx, quality: 'EXACT', resizeRule },
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
  readonly shardPaths: readonly string[];
  readonly planOf: (shards: readonly ShardIndex[]) => ReadingPlan;
  readonly datasetCount: number;
  readonly batchSize: number;
  readonly rule: SquareRule;
  readonly cacheByteLimit: number;
  readonly openDecoder: OpenStoredDecoder;
}

function openReader({ rule, datasetCount, ...reading }: Reading): Reader {
  const imageBytes = rule.sizePx * rule.sizePx * 3;
  const cache = createPixelCache(reading.cacheByteLimit, imageBytes);
  /** Prefetched batches, pending or ready, in order. */
  const prefetched: Promise<DecodedBatch | null>[] = [];
  let lastBatch: Promise<unknown> = Promise.resolve();
  let lastNext: Promise<unknown> = Promise.resolve();
  let failure: ImageDataError | null = null;
  let closing: Promise<void> | null = null;

  /** Sends the request for the next batch to the decoder before it returns. */
  const requestBatch = async (plan: ReadingPlan, decoder: StoredDecoder): Promise<DecodedBatch | null> => {
    const previous = lastBatch;
    const planned = plan.next();
    if (planned.done === true) return null;
    const refs = planned.value;
    const images = new Uint8Array(refs.length * imageBytes);
    const sourceCounts = Array.from({ length: datasetCount }, () => 0);
    const cached: { readonly id: number; readonly place: number }[] = [];
    const missing: StoredImage[] = [];
    for (const [place, { id, shard, image, datasetIndex }] of refs.entries()) {
      sourceCounts[datasetIndex] = (sourceCounts[datasetIndex] ?? 0) + 1;
      if (cache.has(id)) {
        cached.push({ id, place });
        continue;
      }
      cache.take(id);
      missing.push({ ...image, shard, place });
    }
    await decoder.decode(missing, images);
    // Pixels that the cache counts as present may still be decoding with the previous batch.
    await previous;
    for (const { place } of missing)
      cache.fill(refs[place]?.id ?? -1, images.subarray(place * imageBytes, (place + 1) * imageBytes));
    for (const { id, place } of cached) images.set(cache.get(id), place * imageBytes);
    return { images, keys: refs.map(({ image }) => image.key), sourceCounts, decodedCount: missing.length };
  };

  const open = async () => {
    const shards = openShards(reading.shardPaths);
    const opening = reading.openDecoder({
      ...rule,
      shardFiles: shards.files,
      batchSize: reading.batchSize,
      batchesAtOnce: BATCHES_AHEAD + 1,
    });
    const close = async (): Promise<void> => {
      await opening.then((decoder) => decoder.close()).catch(() => undefined);
      shards.close();
    };
    try {
      const [index, decoder] = await Promise.all([shards.index(), opening]);
      const plan = reading.planOf(index);
      const fill = (): void => {
        while (prefetched.length < BATCHES_AHEAD && closing === null) {
          const batch = requestBatch(plan, decoder);
          lastBatch = batch;
          // The caller that awaits this batch receives the failure.
          batch.catch(() => undefined);
          prefetched.push(batch);
        }
      };
      fill();
      return { close, fill };
    } catch (error) {
      await close();
      throw error;
    }
  };
  const opened = open();
  opened.catch(() => undefined);

  const takeNext = async (): Promise<DecodedBatch | null> => {
    if (failure !== null) throw failure;
    try {
      const { fill } = await opened;
      if (closing !== null) throw closedError();
      const batch = prefetched.shift();
      // Refilled before the wait, so that the decoder has work while the caller computes.
      fill();
      return (await batch) ?? null;
    } catch (error) {
      failure = closing === null ? failureOf(error) : closedError();
      throw failure;
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
        await opened.then(
          ({ close }) => close(),
          () => undefined,
        );
        await Promise.allSettled(prefetched.splice(0));
        cache.clear();
        failure = closedError();
      })();
      return closing;
    },
  };
}

function closedError(): ImageDataError {
  return new ImageDataError('READER_CLOSED', 'This reading has been closed.');
}

function failureOf(error: unknown): ImageDataError {
  if (error instanceof ImageDataError) return error;
  const why = error instanceof Error ? (error.stack ?? error.message) : String(error);
  return new ImageDataError('READER_DIED', `The images cannot be read: ${why}`);
}

function sampledDatasetOf({ imageCount, weight, maxImages }: ShardedDataset): SampledDataset {
  return { imageCount, weight, maxImages };
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
