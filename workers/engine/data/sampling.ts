/**
 * Chooses the images of each step's batch as a pure function of (seed, step), so that a resumed run sees the same
 * images as an uninterrupted one, at once and without counting through the steps before. Shares decide how many images
 * of each dataset a batch holds, epochs decide which.
 */
import { createRandom } from '../rng.ts';
import { ImageDataError } from './errors.ts';
import { createDatasetOrder } from './epochs.ts';
import { checkShareOptions, createShares, usableCount, type ShareOptions } from './shares.ts';

export interface SampleOrderOptions extends ShareOptions {
  readonly seed: number;
  /**
   * Shards whose images are mixed: those of a window of all datasets together, divided among them by their shares of a
   * batch. Two images of a batch then come from the same shard with a probability of at most 1 / windowShards more than
   * in a shuffle of all images.
   */
  readonly windowShards: number;
  /** Likewise for the first window of the first epoch, after which the windows grow; default: as any other. */
  readonly firstWindowShards?: number | null;
}

export interface ImageChoice {
  readonly datasetIndex: number;
  /** 0..imageCount-1 of that dataset. */
  readonly imageIndex: number;
}

export interface ShardChoice {
  readonly datasetIndex: number;
  readonly shardIndex: number;
}

export interface SampleOrder {
  /** The images of a step: `batchSize` distinct images in random order. */
  imagesOf(step: number): ImageChoice[];
  /** Shards that should be open by this step for those after it, in the order in which they will be needed. */
  shardsAhead(step: number): ShardChoice[];
}

/** Images of a dataset with a small share of the batch come from this many shards at least. */
const DATASET_WINDOW_SHARDS_MIN = 4;

/**
 * Throws ImageDataError BAD_OPTION, or TOO_FEW_IMAGES where all datasets together hold fewer images than a batch. Takes
 * time and memory for the shards of the datasets, not for their images.
 */
export function createSampleOrder(options: SampleOrderOptions): SampleOrder {
  checkShareOptions(options);
  checkInteger('seed', options.seed, Number.MIN_SAFE_INTEGER);
  checkInteger('windowShards', options.windowShards, 1);
  const { datasets, batchSize, windowShards, firstWindowShards = null } = options;
  if (firstWindowShards !== null) checkInteger('firstWindowShards', firstWindowShards, 1);
  const root = createRandom(options.seed).fork('sampling');
  const shares = createShares(options);
  const orders = datasets.flatMap((dataset, index) => {
    const share = shares[index];
    if (share === undefined) return [];
    const partOf = (shardCount: number): number =>
      Math.min(
        shardCount,
        Math.max(DATASET_WINDOW_SHARDS_MIN, Math.ceil((shardCount * share.meanPerBatch) / batchSize)),
      );
    return createDatasetOrder({
      shardImageCounts: dataset.shardImageCounts,
      usableCount: usableCount(dataset),
      windowShards: partOf(windowShards),
      firstWindowShards: firstWindowShards === null ? null : partOf(firstWindowShards),
      share,
      random: root.fork(`dataset ${index}`),
    });
  });
  return {
    imagesOf: (step) => {
      checkInteger('step', step, 0);
      return root
        .fork(`step ${step}`)
        .shuffled(
          orders.flatMap((order, datasetIndex) =>
            order.imagesOf(step).map((imageIndex) => ({ datasetIndex, imageIndex })),
          ),
        );
    },
    shardsAhead: (step) => {
      const windows = orders.map((order) => order.windowOf(step));
      const choicesOf = (part: 'current' | 'next'): ShardChoice[] =>
        windows.flatMap((window, datasetIndex) => window[part].map((shardIndex) => ({ datasetIndex, shardIndex })));
      return [...choicesOf('current'), ...choicesOf('next')];
    },
  };
}

function checkInteger(option: string, value: number, min: number): void {
  if (Number.isSafeInteger(value) && value >= min) return;
  const rule = min === Number.MIN_SAFE_INTEGER ? 'an integer' : `an integer from ${min}`;
  throw new ImageDataError('BAD_OPTION', `${option} must be ${rule}.`, { option });
}
