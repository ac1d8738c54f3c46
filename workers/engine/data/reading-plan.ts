/** Which images each batch of a reading holds. */
import { basename } from 'node:path';
import { ImageDataError } from './errors.ts';
import { createSampleOrder, type SampledDataset, type SampleOrderOptions } from './sampling.ts';
import type { ShardImage, ShardIndex } from './shards.ts';

/** A sealed dataset version as files on this machine. */
export interface ShardedDataset extends SampledDataset {
  readonly shardPaths: readonly string[];
}

/** One image of a reading. */
export interface ImageRef {
  /** Its place in the cache. */
  readonly id: number;
  /** Index into the shards of the reading. */
  readonly shard: number;
  readonly image: ShardImage;
  readonly datasetIndex: number;
}

/** Images of each batch, in the order of the batch. Iterating throws ImageDataError. */
export type ReadingPlan = Iterator<readonly ImageRef[], void>;

/** An image of an evaluation: `shard` is an index into the shards of the reading. */
export interface EvaluationImage {
  readonly key: string;
  readonly shard: number;
}

/**
 * Endless. @param shards of all datasets, one dataset after another. Throws ImageDataError IMAGE_COUNT_MISMATCH for
 * shards that do not hold the images that the manifest lists.
 */
export function* trainingPlan(
  options: SampleOrderOptions & { readonly datasets: readonly ShardedDataset[] },
  shards: readonly ShardIndex[],
): Generator<readonly ImageRef[], void> {
  const refsByDataset = refsOf(options.datasets, shards);
  const order = createSampleOrder(options);
  for (;;) {
    yield order.next().map(({ datasetIndex, imageIndex }) => {
      const ref = refsByDataset[datasetIndex]?.[imageIndex];
      if (ref === undefined) throw new RangeError(`No image ${imageIndex} in dataset ${datasetIndex}.`);
      return ref;
    });
  }
}

function refsOf(datasets: readonly ShardedDataset[], shards: readonly ShardIndex[]): ImageRef[][] {
  let nextId = 0;
  let nextShard = 0;
  return datasets.map(({ shardPaths, imageCount }, datasetIndex) => {
    const refs = shardPaths.flatMap(() => {
      const shard = nextShard++;
      return (shards[shard]?.images ?? []).map((image) => ({ id: nextId++, shard, image, datasetIndex }));
    });
    if (refs.length !== imageCount) {
      const message = `Dataset ${datasetIndex} should hold ${imageCount} images, and its shards hold ${refs.length}.`;
      throw new ImageDataError('IMAGE_COUNT_MISMATCH', message, { option: `datasets.${datasetIndex}.imageCount` });
    }
    return refs;
  });
}

/** The images in the order given. Throws ImageDataError IMAGE_MISSING. */
export function* evaluationPlan(
  images: readonly EvaluationImage[],
  batchSize: number,
  shards: readonly ShardIndex[],
): Generator<readonly ImageRef[], void> {
  const imagesByShard = shards.map(({ images: held }) => new Map(held.map((image) => [image.key, image])));
  const refs = images.map(({ key, shard }, id) => {
    const shardPath = shards[shard]?.shardPath;
    const image = imagesByShard[shard]?.get(key);
    if (shardPath === undefined || image === undefined) {
      const where = shardPath === undefined ? `shard ${shard}, which is not there` : `shard ${basename(shardPath)}`;
      throw new ImageDataError('IMAGE_MISSING', `Image ${key} of the manifest is not in ${where}.`, { shardPath, key });
    }
    return { id, shard, image, datasetIndex: 0 };
  });
  for (let start = 0; start < refs.length; start += batchSize) yield refs.slice(start, start + batchSize);
}
