/**
 * Chooses the images of each step's batch as a pure function of (seed, step), so that a resumed run sees the same
 * images as an uninterrupted one. Each dataset goes through random orders of its own images, every image once before
 * any is repeated; the shares of the datasets in a batch follow the sampling strategy as closely as whole numbers
 * allow.
 */
import { createRandom, type Random } from '../rng.ts';
import { ImageDataError } from './errors.ts';

/** EVEN gives every dataset the same share of a batch. PROPORTIONAL gives shares by the number of usable images. */
export type SamplingStrategy = 'EVEN' | 'PROPORTIONAL';

export interface SampledDataset {
  readonly imageCount: number;
  /** Multiplies the dataset's share; default 1. */
  readonly weight?: number | undefined;
  /** Use at most this many of its images: a random choice that is fixed for the run. */
  readonly maxImages?: number | undefined;
}

export interface SampleOrderOptions {
  readonly datasets: readonly SampledDataset[];
  readonly sampling: SamplingStrategy;
  /** Images in a batch. */
  readonly batchSize: number;
  readonly seed: number;
  /** The first step that next() returns. */
  readonly startStep: number;
}

export interface ImageChoice {
  readonly datasetIndex: number;
  /** 0..imageCount-1 of that dataset. */
  readonly imageIndex: number;
}

export interface SampleOrder {
  /** The images of the next step: `batchSize` distinct images in random order. */
  next(): ImageChoice[];
}

/**
 * Starts at `startStep`; the steps before it are counted through, which takes about a second for 50 million images.
 * Throws ImageDataError BAD_OPTION, or TOO_FEW_IMAGES where all datasets together hold fewer images than a batch.
 */
export function createSampleOrder(options: SampleOrderOptions): SampleOrder {
  checkOptions(options);
  const { datasets, batchSize } = options;
  const root = createRandom(options.seed).fork('sampling');
  const walks = datasets.map((dataset, index) =>
    createWalk(dataset.imageCount, usableCount(dataset), root.fork(`dataset ${index}`)),
  );
  const targets = batchTargets(options);
  const takenCounts = datasets.map(() => 0);
  let step = 0;

  const takeStep = (): Uint32Array[] => {
    const counts = stepCounts(targets, takenCounts, datasets.map(usableCount), step, batchSize);
    step += 1;
    return walks.map((walk, index) => {
      const count = counts[index] ?? 0;
      takenCounts[index] = (takenCounts[index] ?? 0) + count;
      return walk.take(count);
    });
  };
  while (step < options.startStep) takeStep();
  return {
    next: () => {
      const order = root.fork(`step ${step}`);
      const choices = takeStep().flatMap((images, datasetIndex) =>
        Array.from(images, (imageIndex) => ({ datasetIndex, imageIndex })),
      );
      return order.shuffled(choices);
    },
  };
}

/** Images that a dataset may use in this run. */
export function usableCount(dataset: SampledDataset): number {
  return Math.min(dataset.imageCount, dataset.maxImages ?? dataset.imageCount);
}

/**
 * The mean number of images in a batch from each dataset, `[datasets]`, summing to batchSize. A dataset with fewer
 * images than its share gives all of its images and the others fill the rest, so that no batch holds an image twice
 * (NT-Xent would push it away from itself).
 */
export function batchTargets(options: Pick<SampleOrderOptions, 'datasets' | 'sampling' | 'batchSize'>): number[] {
  const shares = options.datasets.map((dataset) => (dataset.weight ?? 1) * baseShare(dataset, options.sampling));
  const targets = options.datasets.map(() => 0);
  const open = new Set(targets.keys());
  let left = options.batchSize;
  for (;;) {
    const shareSum = [...open].reduce((sum, index) => sum + (shares[index] ?? 0), 0);
    const perShare = shareSum > 0 ? left / shareSum : 0;
    const full = [...open].filter((index) => perShare * (shares[index] ?? 0) > usableCountAt(options.datasets, index));
    if (full.length === 0) {
      for (const index of open) targets[index] = perShare * (shares[index] ?? 0);
      return targets;
    }
    for (const index of full) {
      const usable = usableCountAt(options.datasets, index);
      targets[index] = usable;
      left -= usable;
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

function usableCountAt(datasets: readonly SampledDataset[], index: number): number {
  const dataset = datasets[index];
  return dataset === undefined ? 0 : usableCount(dataset);
}

/** Whole numbers of images for one step that keep every dataset's running total close to its target. */
function stepCounts(
  targets: readonly number[],
  taken: readonly number[],
  usable: readonly number[],
  step: number,
  batchSize: number,
): number[] {
  const due = targets.map((target, index) => target * (step + 1) - (taken[index] ?? 0));
  // Sums of shares carry rounding errors of about 1e-12: without the small term, 2.9999999 would be floored to 2.
  const counts = due.map((value, index) => Math.min(Math.max(0, Math.floor(value + 1e-6)), usable[index] ?? 0));
  let total = counts.reduce((sum, count) => sum + count, 0);
  const rest = (index: number): number => (due[index] ?? 0) - (counts[index] ?? 0);
  while (total !== batchSize) {
    const direction = total < batchSize ? 1 : -1;
    let chosen = -1;
    for (const [index, count] of counts.entries()) {
      const room = direction > 0 ? count < (usable[index] ?? 0) && (targets[index] ?? 0) > 0 : count > 0;
      if (room && (chosen < 0 || direction * rest(index) > direction * rest(chosen))) chosen = index;
    }
    counts[chosen] = (counts[chosen] ?? 0) + direction;
    total += direction;
  }
  return counts;
}

interface Walk {
  take(count: number): Uint32Array;
}

/**
 * Goes through random orders of 0..imageCount-1 (of a fixed random choice of `usable` of them), without repeats within
 * one take.
 */
function createWalk(imageCount: number, usable: number, random: Random): Walk {
  const chosen = shuffle(
    Uint32Array.from({ length: imageCount }, (_, index) => index),
    random.fork('choice'),
  ).slice(0, usable);
  let cycle = 0;
  let position = 0;
  let order = shuffle(chosen.slice(), random.fork('cycle 0'));
  return {
    take: (count) => {
      const taken = new Uint32Array(count);
      const tail = order.subarray(position, Math.min(position + count, usable));
      taken.set(tail);
      position += tail.length;
      if (tail.length === count) return taken;
      cycle += 1;
      const fresh = shuffle(chosen.slice(), random.fork(`cycle ${cycle}`));
      // Images that this take has already used go to the end of the new order.
      const used = new Set(tail);
      order = Uint32Array.from([
        ...fresh.filter((image) => !used.has(image)),
        ...fresh.filter((image) => used.has(image)),
      ]);
      position = count - tail.length;
      taken.set(order.subarray(0, position), tail.length);
      return taken;
    },
  };
}

/** Fisher-Yates shuffle, in place. */
function shuffle(order: Uint32Array<ArrayBuffer>, random: Random): Uint32Array<ArrayBuffer> {
  for (let last = order.length - 1; last > 0; last -= 1) {
    const other = random.integer(last + 1);
    const kept = order[last] ?? 0;
    order[last] = order[other] ?? 0;
    order[other] = kept;
  }
  return order;
}

function checkOptions(options: SampleOrderOptions): void {
  const refuse = (option: string, rule: string): never => {
    throw new ImageDataError('BAD_OPTION', `${option} must be ${rule}.`, { option });
  };
  if (!Number.isSafeInteger(options.batchSize) || options.batchSize < 1) refuse('batchSize', 'a positive integer');
  if (!Number.isSafeInteger(options.startStep) || options.startStep < 0) refuse('startStep', 'an integer from 0');
  if (!Number.isSafeInteger(options.seed)) refuse('seed', 'an integer');
  if (options.datasets.length === 0) refuse('datasets', 'at least one');
  for (const [index, { imageCount, weight = 1, maxImages = 1 }] of options.datasets.entries()) {
    if (!Number.isSafeInteger(imageCount) || imageCount < 1)
      refuse(`datasets.${index}.imageCount`, 'a positive integer');
    if (!Number.isFinite(weight) || weight <= 0) refuse(`datasets.${index}.weight`, 'a positive number');
    if (!Number.isSafeInteger(maxImages) || maxImages < 1) refuse(`datasets.${index}.maxImages`, 'a positive integer');
  }
  const usable = options.datasets.reduce((sum, dataset) => sum + usableCount(dataset), 0);
  if (usable < options.batchSize) {
    const message = `The datasets hold ${usable} usable images, and one batch takes ${options.batchSize}.`;
    throw new ImageDataError('TOO_FEW_IMAGES', message, { option: 'batchSize' });
  }
}
