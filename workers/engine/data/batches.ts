/** Batches of decoded images, prepared ahead of time by a separate thread. */
import { Worker } from 'node:worker_threads';
import type { DecodedBatch, DecodeReply, DecodeRequest, Reading, ShardedDataset } from './decode-protocol.ts';
import type { ResizeRule } from './decode.ts';
import { ImageDataError } from './errors.ts';
import { createSampleOrder, type SamplingStrategy } from './sampling.ts';

export type { DecodedBatch, ShardedDataset } from './decode-protocol.ts';

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
}

export interface TrainingBatches {
  /** The batch of the next step. Throws ImageDataError. */
  next(): Promise<DecodedBatch>;
  /** Ends the thread and waits until it is gone. */
  close(): Promise<void>;
}

export interface EvaluationImageOptions {
  readonly shardPaths: readonly string[];
  /** Images in manifest order, which is the order of the batches. `shard` is an index into shardPaths. */
  readonly images: readonly { readonly key: string; readonly shard: number }[];
  readonly batchSize: number;
  /** The input contract's size; images are resized to it by an antialiased bilinear filter. */
  readonly imageSizePx: number;
  /** Default SHORT_SIDE_THEN_CENTRE_CROP. */
  readonly resizeRule?: ResizeRule | undefined;
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
  const { datasets, sampling, batchSize, sourceSizePx, seed } = options;
  const { startStep = 0, cacheByteLimit = CACHE_BYTE_LIMIT } = options;
  checkSizePx('sourceSizePx', sourceSizePx);
  if (!(cacheByteLimit >= 0)) throw badOption('cacheByteLimit', 'a number of bytes from 0');
  checkStartStep(startStep);
  // This one is created only for its checks, so that a wrong option is refused before a thread starts.
  createSampleOrder({ datasets: datasets.map(withoutOrder), sampling, batchSize, seed, startStep: 0 });
  const reader = openReader({
    kind: 'TRAINING',
    datasets,
    sampling,
    batchSize,
    sourceSizePx,
    seed,
    startStep,
    cacheByteLimit,
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
  const { shardPaths, images, batchSize, imageSizePx, resizeRule } = options;
  checkSizePx('imageSizePx', imageSizePx);
  if (!Number.isSafeInteger(batchSize) || batchSize < 1) throw badOption('batchSize', 'a positive integer');
  const reader = openReader({ kind: 'EVALUATION', shardPaths, images, batchSize, imageSizePx, resizeRule });
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

type Outcome = { readonly batch: DecodedBatch | null } | { readonly error: ImageDataError };

function openReader(reading: Reading): Reader {
  const worker = new Worker(new URL('./decode.worker.ts', import.meta.url), { workerData: { reading } });
  const ask = (request: DecodeRequest): void => {
    worker.postMessage(request);
  };
  const ready: DecodedBatch[] = [];
  const waiting: ((outcome: Outcome) => void)[] = [];
  /** How the reading ended; every later next() gives the same result. */
  let ended: Outcome | null = null;

  const end = (outcome: Outcome): void => {
    ended ??= outcome;
    for (const resolve of waiting.splice(0)) resolve(ended);
  };
  worker.on('message', (reply: DecodeReply) => {
    switch (reply.kind) {
      case 'BATCH': {
        // The thread may still have been making a batch when it was asked to close.
        if (ended !== null) break;
        const resolve = waiting.shift();
        if (resolve === undefined) ready.push(reply.batch);
        else resolve({ batch: reply.batch });
        break;
      }
      case 'END':
        end({ batch: null });
        break;
      case 'FAILED':
        end({ error: new ImageDataError(reply.code, reply.message, reply.place) });
        break;
    }
  });
  worker.on('error', (error) => {
    end({
      error: new ImageDataError(
        'READER_DIED',
        `The decoding thread died: ${error instanceof Error ? error.message : String(error)}`,
      ),
    });
  });
  const exited = new Promise<void>((resolve) => {
    worker.on('exit', () => {
      end({ error: new ImageDataError('READER_DIED', 'The decoding thread has ended.') });
      resolve();
    });
  });
  for (let count = 0; count < BATCHES_AHEAD; count += 1) ask({ kind: 'CREDIT' });

  return {
    next: async () => {
      const batch = ready.shift();
      if (batch !== undefined) {
        ask({ kind: 'CREDIT' });
        return batch;
      }
      const outcome = ended ?? (await new Promise<Outcome>((resolve) => waiting.push(resolve)));
      if ('error' in outcome) throw outcome.error;
      if (outcome.batch !== null) ask({ kind: 'CREDIT' });
      return outcome.batch;
    },
    close: async () => {
      ready.length = 0;
      end({ error: new ImageDataError('READER_CLOSED', 'This reading has been closed.') });
      ask({ kind: 'CLOSE' });
      await exited;
    },
  };
}

function withoutOrder({
  imageCount,
  weight,
  maxImages,
}: ShardedDataset): Pick<ShardedDataset, 'imageCount' | 'weight' | 'maxImages'> {
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
