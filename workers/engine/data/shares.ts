/**
 * How many images of each dataset a batch holds, as a pure function of the step: neither a step nor a running total has
 * to be counted through before a training continues.
 */
import { ImageDataError } from './errors.ts';

/** EVEN gives every dataset the same share of a batch. PROPORTIONAL gives shares by the number of usable images. */
export type SamplingStrategy = 'EVEN' | 'PROPORTIONAL';

export interface SampledDataset {
  /** Images in each shard. */
  readonly shardImageCounts: readonly number[];
  /** Multiplies the dataset's share; default 1. */
  readonly weight?: number | undefined;
  /** Use at most this many of its images: a random choice that is fixed for the run. */
  readonly maxImages?: number | undefined;
}

export interface ShareOptions {
  readonly datasets: readonly SampledDataset[];
  readonly sampling: SamplingStrategy;
  /** Images in a batch. */
  readonly batchSize: number;
}

export interface Share {
  /** Mean number of images in a batch. */
  readonly meanPerBatch: number;
  /** The most images in a batch: the mean, rounded up. */
  readonly maxPerBatch: number;
  /** Images taken in steps 0..step-1. It never decreases with the step. */
  takenBefore(step: number): number;
}

/** Images that a dataset may use in this run. */
export function usableCount(dataset: SampledDataset): number {
  const imageCount = dataset.shardImageCounts.reduce((sum, count) => sum + count, 0);
  return Math.min(imageCount, dataset.maxImages ?? imageCount);
}

/**
 * The mean number of images in a batch from each dataset, `[datasets]`, summing to batchSize. A dataset with fewer
 * images than its share gives all of its images and the others fill the rest, so that no batch holds an image twice
 * (NT-Xent would push it away from itself).
 */
export function batchTargets(options: ShareOptions): number[] {
  const shares = options.datasets.map((dataset) => (dataset.weight ?? 1) * baseShare(dataset, options.sampling));
  const usable = options.datasets.map(usableCount);
  const targets = options.datasets.map(() => 0);
  const open = new Set(targets.keys());
  let left = options.batchSize;
  for (;;) {
    const shareSum = [...open].reduce((sum, index) => sum + (shares[index] ?? 0), 0);
    const perShare = shareSum > 0 ? left / shareSum : 0;
    const full = [...open].filter((index) => perShare * (shares[index] ?? 0) > (usable[index] ?? 0));
    if (full.length === 0) {
      for (const index of open) targets[index] = perShare * (shares[index] ?? 0);
      return targets;
    }
    for (const index of full) {
      targets[index] = usable[index] ?? 0;
      left -= targets[index];
      open.delete(index);
    }
  }
}

function baseShare(dataset: SampledDataset, sampling: SamplingStrategy): number {
  switch (sampling) {
    case 'EVEN':
      return 1;
    case 'PROPORTIONAL':
      return usableCount(dataset);
  }
}

/** Fixed-point numbers with 32 fractional bits: their sums are exact, and a target of 2.99999999999 is 3. */
const ONE = 2 ** 32;

/**
 * Every batch holds the integer part of each dataset's target, or one image more. Which datasets give one more is
 * decided by systematic sampling (Madow 1949): the fractional parts lie end to end on a line, and the points
 * `u, u + 1, u + 2 ...` mark those that give one. `u` runs through van der Corput's sequence over the steps, so that
 * after any number of steps a total differs from its target by less than `2 + log2(steps) * 2 / 3`: the discrepancy of
 * that sequence (Béjian and Faure 1977) at the two ends of a part.
 *
 * @returns one share for each dataset; in every step their images sum to batchSize, and none exceeds its usable images.
 */
export function createShares(options: ShareOptions): Share[] {
  const targets = fixedTargets(options);
  let end = 0;
  return targets.map((target) => {
    const whole = Math.floor(target / ONE);
    const [from, to] = [end, end + (target % ONE)];
    end = to;
    return {
      meanPerBatch: target / ONE,
      maxPerBatch: Math.ceil(target / ONE),
      takenBefore: (step) => step * whole + marksBefore(step, to) - marksBefore(step, from),
    };
  });
}

/** `batchTargets` in units of 2^-32, with exactly the sum that makes a batch. */
function fixedTargets(options: ShareOptions): number[] {
  const targets = batchTargets(options).map((target) => Math.round(target * ONE));
  const rest = options.batchSize * ONE - targets.reduce((sum, target) => sum + target, 0);
  // A few units, which must not make a dataset give more images than it has.
  const taker = options.datasets.findIndex((dataset, index) => {
    const changed = (targets[index] ?? 0) + rest;
    return changed > 0 && changed <= usableCount(dataset) * ONE;
  });
  return targets.map((target, index) => (index === taker ? target + rest : target));
}

/** Marks to the left of `position` (32 fractional bits) in steps 0..steps-1. */
function marksBefore(steps: number, position: number): number {
  return steps * Math.floor(position / ONE) + pointsBelow(position % ONE, steps);
}

/**
 * How many of the first `count` points of van der Corput's sequence lie below `limit` (both in units of 2^-32). The
 * first `count` indexes fall into one block of 2^b for every bit b of `count`; the points of a block have equal
 * distances.
 */
function pointsBelow(limit: number, count: number): number {
  let below = 0;
  let blockStart = 0;
  for (let bit = 31; bit >= 0; bit -= 1) {
    const blockLength = 2 ** bit;
    if (count - blockStart < blockLength) continue;
    const inBlock = Math.ceil((limit - reversed(blockStart)) / (ONE / blockLength));
    below += Math.min(Math.max(inBlock, 0), blockLength);
    blockStart += blockLength;
  }
  return below;
}

/** The 32 bits of an index in reverse: van der Corput's radical inverse in base 2, in units of 2^-32. */
function reversed(index: number): number {
  let word = index;
  word = ((word >>> 1) & 0x55555555) | ((word & 0x55555555) << 1);
  word = ((word >>> 2) & 0x33333333) | ((word & 0x33333333) << 2);
  word = ((word >>> 4) & 0x0f0f0f0f) | ((word & 0x0f0f0f0f) << 4);
  word = ((word >>> 8) & 0x00ff00ff) | ((word & 0x00ff00ff) << 8);
  return ((word >>> 16) | (word << 16)) >>> 0;
}

/** Throws ImageDataError BAD_OPTION, or TOO_FEW_IMAGES where all datasets together hold fewer images than a batch. */
export function checkShareOptions({ datasets, batchSize }: ShareOptions): void {
  const refuse = (option: string, rule: string): never => {
    throw new ImageDataError('BAD_OPTION', `${option} must be ${rule}.`, { option });
  };
  if (!Number.isSafeInteger(batchSize) || batchSize < 1) refuse('batchSize', 'a positive integer');
  if (datasets.length === 0) refuse('datasets', 'at least one');
  for (const [index, { shardImageCounts, weight = 1, maxImages = 1 }] of datasets.entries()) {
    if (shardImageCounts.length === 0 || !shardImageCounts.every((count) => Number.isSafeInteger(count) && count >= 1))
      refuse(`datasets.${index}.shardImageCounts`, 'positive integers, at least one');
    if (!Number.isFinite(weight) || weight <= 0) refuse(`datasets.${index}.weight`, 'a positive number');
    if (!Number.isSafeInteger(maxImages) || maxImages < 1) refuse(`datasets.${index}.maxImages`, 'a positive integer');
  }
  const usable = datasets.reduce((sum, dataset) => sum + usableCount(dataset), 0);
  if (usable < batchSize) {
    const message = `The datasets hold ${usable} usable images, and one batch takes ${batchSize}.`;
    throw new ImageDataError('TOO_FEW_IMAGES', message, { option: 'batchSize' });
  }
}
