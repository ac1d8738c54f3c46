/** Which images each batch of a reading holds, and which shards it will need. */
import type { ShardSource } from './opened-shard.ts';
import { createSampleOrder, type SampleOrderOptions } from './sampling.ts';
import type { SampledDataset } from './shares.ts';

/** A sealed dataset version as a training reads it. */
export interface ShardedDataset extends Omit<SampledDataset, 'shardImageCounts'> {
  readonly shards: readonly ShardSource[];
}

/** One image of a reading. */
export interface ImageRef {
  /** Its place in the cache. */
  readonly id: number;
  /** Index into the shards of the reading. */
  readonly shard: number;
  readonly indexInShard: number;
  /** Null in a training, which does not read keys from the manifest. */
  readonly key: string | null;
  readonly datasetIndex: number;
}

export interface PlannedBatch {
  /** In the order of the batch. */
  readonly refs: readonly ImageRef[];
  /** Shards that should be open by now, in the order in which they will be needed. */
  readonly shardsAhead: readonly number[];
}

export type ReadingPlan = Iterator<PlannedBatch, void>;

/** An image of an evaluation. */
export interface EvaluationImage {
  readonly key: string;
  /** Index into the shards of the reading. */
  readonly shard: number;
  /** Among the images of that shard, in the order of the manifest. */
  readonly indexInShard: number;
}

export interface TrainingPlanOptions extends Omit<SampleOrderOptions, 'datasets'> {
  readonly datasets: readonly ShardedDataset[];
  /** The step of the first batch. */
  readonly startStep: number;
}

/**
 * Endless. Its shards are those of all datasets, one dataset after another. Throws what `createSampleOrder` throws
 * before it returns.
 */
export function trainingPlan(options: TrainingPlanOptions): ReadingPlan {
  const order = createSampleOrder({ ...options, datasets: options.datasets.map(sampledDatasetOf) });
  const locators = locatorsOf(options.datasets);
  return (function* batches() {
    for (let step = options.startStep; ; step += 1)
      yield {
        refs: order.imagesOf(step).flatMap(({ datasetIndex, imageIndex }): ImageRef[] => {
          const locator = locators[datasetIndex];
          return locator === undefined ? [] : [{ ...locator.refOf(imageIndex), datasetIndex }];
        }),
        shardsAhead: order
          .shardsAhead(step)
          .map(({ datasetIndex, shardIndex }) => (locators[datasetIndex]?.firstShard ?? 0) + shardIndex),
      };
  })();
}

function sampledDatasetOf({ shards, weight, maxImages }: ShardedDataset): SampledDataset {
  return { shardImageCounts: shards.map(({ imageCount }) => imageCount), weight, maxImages };
}

interface Locator {
  /** Index of the dataset's first shard among those of the reading. */
  readonly firstShard: number;
  refOf(imageIndex: number): Omit<ImageRef, 'datasetIndex'>;
}

function locatorsOf(datasets: readonly ShardedDataset[]): Locator[] {
  let nextImage = 0;
  let nextShard = 0;
  return datasets.map(({ shards }) => {
    const [firstImage, firstShard] = [nextImage, nextShard];
    const starts = shards.map(({ imageCount }) => {
      nextImage += imageCount;
      return nextImage - imageCount - firstImage;
    });
    nextShard += shards.length;
    return {
      firstShard,
      refOf: (imageIndex) => {
        let [low, high] = [0, starts.length];
        while (high - low > 1) {
          const middle = (low + high) >>> 1;
          if ((starts[middle] ?? 0) <= imageIndex) low = middle;
          else high = middle;
        }
        return {
          id: firstImage + imageIndex,
          shard: firstShard + low,
          indexInShard: imageIndex - (starts[low] ?? 0),
          key: null,
        };
      },
    };
  });
}

/** The images in the order given; the last batch may be smaller. */
export function* evaluationPlan(images: Iterable<EvaluationImage>, batchSize: number): Generator<PlannedBatch, void> {
  const batchOf = (refs: readonly ImageRef[]): PlannedBatch => ({
    refs,
    shardsAhead: [...new Set(refs.map(({ shard }) => shard))],
  });
  let refs: ImageRef[] = [];
  let id = 0;
  for (const { shard, indexInShard, key } of images) {
    refs.push({ id, shard, indexInShard, key, datasetIndex: 0 });
    id += 1;
    if (refs.length < batchSize) continue;
    yield batchOf(refs);
    refs = [];
  }
  if (refs.length > 0) yield batchOf(refs);
}
