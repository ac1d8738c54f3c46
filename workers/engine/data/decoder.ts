/**
 * Makes the batches of one reading, one after another: finds bytes in shards, decodes them, and remembers pixels within
 * a byte limit.
 */
import { basename } from 'node:path';
import { decodeSquare, type DecodeQuality, type ResizeRule } from './decode.ts';
import type { DecodedBatch, EvaluationReading, Reading, ShardedDataset, TrainingReading } from './decode-protocol.ts';
import { ImageDataError } from './errors.ts';
import { createSampleOrder } from './sampling.ts';
import { createShardReader, indexShard, type ShardImage } from './shards.ts';

/** Number of decodes that run at once in libuv's thread pool; more would only hold memory. */
const DECODES_AT_ONCE = 8;

export interface Decoder {
  /** The next batch, or null after the last (a training has no last). Throws ImageDataError. */
  next(): Promise<DecodedBatch | null>;
  close(): void;
}

/** One image of a reading: `id` is its place in the cache. */
interface ImageRef {
  readonly id: number;
  readonly shardPath: string;
  readonly image: ShardImage;
  readonly datasetIndex: number;
}

/**
 * Indexes the shards. Throws ImageDataError for shards that are damaged or do not hold the images that the manifest
 * lists.
 */
export function createDecoder(reading: Reading): Decoder {
  switch (reading.kind) {
    case 'TRAINING':
      return decoderOf(
        trainingPlan(reading),
        reading.datasets.length,
        reading.sourceSizePx,
        { quality: 'FAST' },
        reading.cacheByteLimit,
      );
    case 'EVALUATION':
      return decoderOf(
        evaluationPlan(reading),
        1,
        reading.imageSizePx,
        { quality: 'EXACT', resizeRule: reading.resizeRule },
        0,
      );
  }
}

function decoderOf(
  plan: Iterator<readonly ImageRef[]>,
  datasetCount: number,
  sizePx: number,
  { quality, resizeRule }: { readonly quality: DecodeQuality; readonly resizeRule?: ResizeRule | undefined },
  cacheByteLimit: number,
): Decoder {
  const reader = createShardReader();
  const cache = createPixelCache(cacheByteLimit);
  const imageBytes = sizePx * sizePx * 3;
  const decodeInto = async (target: Uint8Array, ref: ImageRef): Promise<void> => {
    const pixels = await decodeSquare(
      reader.read(ref.shardPath, ref.image),
      sizePx,
      quality,
      ref.image.key,
      resizeRule,
    );
    target.set(pixels);
    cache.keep(ref.id, pixels);
  };
  return {
    next: async () => {
      const planned = plan.next();
      if (planned.done === true) return null;
      const refs = planned.value;
      const images = new Uint8Array(refs.length * imageBytes);
      const sourceCounts = Array.from({ length: datasetCount }, () => 0);
      const toDecode: (() => Promise<void>)[] = [];
      for (const [index, ref] of refs.entries()) {
        sourceCounts[ref.datasetIndex] = (sourceCounts[ref.datasetIndex] ?? 0) + 1;
        const target = images.subarray(index * imageBytes, (index + 1) * imageBytes);
        const cached = cache.get(ref.id);
        if (cached === undefined) toDecode.push(() => decodeInto(target, ref));
        else target.set(cached);
      }
      await runBounded(toDecode, DECODES_AT_ONCE);
      return { images, keys: refs.map((ref) => ref.image.key), sourceCounts, decodedCount: toDecode.length };
    },
    close: () => {
      reader.close();
      cache.clear();
    },
  };
}

function* trainingPlan(reading: TrainingReading): Generator<readonly ImageRef[], void> {
  const refsByDataset = indexDatasets(reading.datasets);
  const order = createSampleOrder(reading);
  for (;;) {
    yield order.next().map(({ datasetIndex, imageIndex }) => {
      const ref = refsByDataset[datasetIndex]?.[imageIndex];
      if (ref === undefined) throw new RangeError(`No image ${imageIndex} in dataset ${datasetIndex}.`);
      return ref;
    });
  }
}

function indexDatasets(datasets: readonly ShardedDataset[]): ImageRef[][] {
  let nextId = 0;
  return datasets.map((dataset, datasetIndex) => {
    const refs = dataset.shardPaths.flatMap((shardPath) =>
      indexShard(shardPath).images.map((image) => ({ id: nextId++, shardPath, image, datasetIndex })),
    );
    if (refs.length !== dataset.imageCount) {
      const message = `Dataset ${datasetIndex} should hold ${dataset.imageCount} images, and its shards hold ${refs.length}.`;
      throw new ImageDataError('IMAGE_COUNT_MISMATCH', message, { option: `datasets.${datasetIndex}.imageCount` });
    }
    return refs;
  });
}

function* evaluationPlan(reading: EvaluationReading): Generator<readonly ImageRef[], void> {
  const imagesByShard = reading.shardPaths.map(
    (shardPath) => new Map(indexShard(shardPath).images.map((image) => [image.key, image])),
  );
  const refs = reading.images.map(({ key, shard }, id) => {
    const shardPath = reading.shardPaths[shard];
    const image = imagesByShard[shard]?.get(key);
    if (shardPath === undefined || image === undefined) {
      const where = shardPath === undefined ? `shard ${shard}, which is not there` : `shard ${basename(shardPath)}`;
      throw new ImageDataError('IMAGE_MISSING', `Image ${key} of the manifest is not in ${where}.`, { shardPath, key });
    }
    return { id, shardPath, image, datasetIndex: 0 };
  });
  for (let start = 0; start < refs.length; start += reading.batchSize)
    yield refs.slice(start, start + reading.batchSize);
}

interface PixelCache {
  get(id: number): Uint8Array | undefined;
  keep(id: number, pixels: Uint8Array): void;
  clear(): void;
}

/**
 * Keeps the first images until it is full and never evicts. An epoch visits every image once, so evicting the oldest
 * image would always evict the one that is needed next, whereas this cache serves the same fraction of every epoch.
 */
function createPixelCache(byteLimit: number): PixelCache {
  const kept = new Map<number, Uint8Array>();
  let byteCount = 0;
  return {
    get: (id) => kept.get(id),
    keep: (id, pixels) => {
      if (byteCount + pixels.byteLength > byteLimit) return;
      kept.set(id, pixels);
      byteCount += pixels.byteLength;
    },
    clear: () => {
      kept.clear();
    },
  };
}

/**
 * Runs all tasks, `limit` at a time. After a failure no further task starts, and it rejects once the started ones have
 * ended.
 */
async function runBounded(tasks: readonly (() => Promise<void>)[], limit: number): Promise<void> {
  const waiting = tasks.values();
  const failures: unknown[] = [];
  const lane = async (): Promise<void> => {
    for (const task of waiting) {
      if (failures.length > 0) return;
      try {
        await task();
      } catch (error) {
        failures.push(error);
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(limit, tasks.length) }, lane));
  if (failures.length > 0) throw failures[0];
}
