/**
 * Measures how well the window of a training mixes a dataset that is sorted by label and, within a label, by patient,
 * as folders of histology are: how alike the images of a batch are, compared with a shuffle of all images. It reads no
 * image, so its figures depend on the seed alone.
 *
 * To run it alone: `node bench/mixing.ts [--json]`. Part of the suite `reading`.
 */
import { createSampleOrder } from '../workers/engine/data/sampling.ts';

export interface Mixing {
  /** Shards in the window; those of the whole dataset for a shuffle of all images. */
  readonly windowShards: number;
  /** Fraction of the pairs of images in a batch that come from the same shard, label or patient. */
  readonly sameShard: number;
  readonly sameLabel: number;
  readonly samePatient: number;
  /** Standard deviation of a label's share of a batch. */
  readonly labelShareStd: number;
}

export interface MixingResult {
  readonly imageCount: number;
  readonly shardCount: number;
  readonly labelCount: number;
  readonly patientCount: number;
  readonly batchSize: number;
  readonly batchCount: number;
  readonly windows: readonly Mixing[];
}

const SHARDS = 1024;
const IMAGES_PER_SHARD = 10_000;
const IMAGES = SHARDS * IMAGES_PER_SHARD;
const LABELS = 9;
const PATIENTS = 900;
const BATCH_SIZE = 256;
const BATCHES = 1500;
const WINDOWS = [4, 16, 32, 64, 128, 256, SHARDS];

export function benchMixing(): MixingResult {
  return {
    imageCount: IMAGES,
    shardCount: SHARDS,
    labelCount: LABELS,
    patientCount: PATIENTS,
    batchSize: BATCH_SIZE,
    batchCount: BATCHES,
    windows: WINDOWS.map(measure),
  };
}

/** Measures batches at equal distances over the first epoch. */
function measure(windowShards: number): Mixing {
  const order = createSampleOrder({
    datasets: [{ shardImageCounts: Array.from({ length: SHARDS }, () => IMAGES_PER_SHARD) }],
    sampling: 'EVEN',
    batchSize: BATCH_SIZE,
    seed: 1,
    windowShards,
  });
  const distance = Math.floor(IMAGES / BATCH_SIZE / BATCHES);
  let [shard, label, patient, squares] = [0, 0, 0, 0];
  for (let batch = 0; batch < BATCHES; batch += 1) {
    const images = order.imagesOf(batch * distance).map(({ imageIndex }) => imageIndex);
    shard += pairCount(partsOf(images, SHARDS));
    patient += pairCount(partsOf(images, PATIENTS));
    const labels = partsOf(images, LABELS);
    label += pairCount(labels);
    squares += labels.reduce((sum, count) => sum + (count / BATCH_SIZE - 1 / LABELS) ** 2, 0);
  }
  const allPairs = (BATCHES * BATCH_SIZE * (BATCH_SIZE - 1)) / 2;
  return {
    windowShards,
    sameShard: rounded(shard / allPairs),
    sameLabel: rounded(label / allPairs),
    samePatient: rounded(patient / allPairs),
    labelShareStd: rounded(Math.sqrt(squares / (BATCHES * LABELS))),
  };
}

/** How many of the images lie in each of `partCount` equal parts of the dataset. */
function partsOf(images: readonly number[], partCount: number): Float64Array {
  const counts = new Float64Array(partCount);
  for (const image of images) {
    const part = Math.floor((image * partCount) / IMAGES);
    counts[part] = (counts[part] ?? 0) + 1;
  }
  return counts;
}

/** The number of pairs of images within the same part. */
function pairCount(counts: Float64Array): number {
  return counts.reduce((sum, count) => sum + (count * (count - 1)) / 2, 0);
}

/** To four decimals. */
function rounded(value: number): number {
  return Math.round(value * 10_000) / 10_000;
}

if (import.meta.main) {
  const result = benchMixing();
  if (process.argv.includes('--json')) console.log(JSON.stringify(result, null, 2));
  else console.table(result.windows);
}
