/**
 * The order in which a training goes through one dataset, as a pure function of the place: epoch after epoch, every
 * image once in each. The shards of an epoch are in random order and divided into windows of consecutive shards; the
 * images of a window are in random order. A dataset of one window is shuffled as a whole. The windows of the first
 * epoch may begin small, because its shards may still have to arrive.
 */
import type { Random } from '../rng.ts';
import { createPermutation, type Permutation } from './permutation.ts';
import type { Share } from './shares.ts';

export interface EpochOptions {
  /** Images in each shard. */
  readonly shardImageCounts: readonly number[];
  /** Images that the training uses: a random choice from every shard, in proportion to its images. */
  readonly usableCount: number;
  /** Shards in a window, at least; fewer only where the dataset has fewer. A window has less than twice as many. */
  readonly windowShards: number;
  /** Shards in the first window of the first epoch; see `windowSizes`. Null: as many as in any other. */
  readonly firstWindowShards: number | null;
  readonly share: Share;
  readonly random: Random;
}

/** The shards that a step and the next ones read. */
export interface ShardWindow {
  /** Those that the images of the step come from, in ascending order of first use by the window. */
  readonly current: readonly number[];
  /** Those of the next window that should be opened by now: as large a part as the step has read of its own window. */
  readonly next: readonly number[];
}

export interface DatasetOrder {
  /** The images of a step, as indexes into the dataset: distinct, in no particular order. */
  imagesOf(step: number): number[];
  windowOf(step: number): ShardWindow;
}

/** One dataset as a training uses it. */
interface Usable {
  /** Index of each shard's first image, then the number of images. */
  readonly starts: readonly number[];
  readonly counts: readonly number[];
  /** The index in the dataset of a shard's n-th usable image. */
  imageOf(shard: number, place: number): number;
}

interface Window {
  readonly shards: readonly number[];
  /** Place in the epoch of the window's first image. */
  readonly start: number;
  readonly imageCount: number;
  /** Places within the window at which each shard's images begin before they are shuffled. */
  readonly shardStarts: readonly number[];
  readonly permutation: Permutation;
}

/**
 * Where a batch takes more than half of the images, the order is that of the images that each batch leaves out: only so
 * can a batch hold no image twice while the images take turns.
 */
export function createDatasetOrder(options: EpochOptions): DatasetOrder {
  const { share, usableCount } = options;
  if (2 * share.maxPerBatch - 1 <= usableCount) return createWalk(options, (step) => share.takenBefore(step));
  const leftOut = createWalk(options, (step) => step * usableCount - share.takenBefore(step));
  const usable = usableOf(options);
  const all = usable.counts.flatMap((count, shard) =>
    Array.from({ length: count }, (_, place) => usable.imageOf(shard, place)),
  );
  const shards = [...usable.counts.keys()].filter((shard) => (usable.counts[shard] ?? 0) > 0);
  return {
    imagesOf: (step) => {
      const missing = new Set(leftOut.imagesOf(step));
      return all.filter((image) => !missing.has(image));
    },
    windowOf: () => ({ current: shards, next: [] }),
  };
}

/** @param takenBefore images taken before a step; a step takes at most half of the usable images, rounded up. */
function createWalk(options: EpochOptions, takenBefore: (step: number) => number): DatasetOrder {
  const { usableCount } = options;
  const usable = usableOf(options);
  const epochs = cached((epoch: number) => windowsOf(options, usable, epoch));
  const windowAt = (epoch: number, place: number): { readonly windows: readonly Window[]; readonly index: number } => {
    const windows = epochs(epoch);
    return { windows, index: lastStartingAt(place, windows.length, (index) => windows[index]?.start ?? 0) };
  };
  const shuffledImageAt = (epoch: number, place: number): number => {
    const { windows, index } = windowAt(epoch, place);
    const window = windows[index];
    if (window === undefined) throw new RangeError(`Epoch ${epoch} has no place ${place}.`);
    const inWindow = window.permutation(place - window.start);
    const slot = lastStartingAt(inWindow, window.shards.length, (each) => window.shardStarts[each] ?? 0);
    return usable.imageOf(window.shards[slot] ?? 0, inWindow - (window.shardStarts[slot] ?? 0));
  };
  const swaps = cached((epoch: number) => swapsOf(epoch, usableCount, takenBefore, shuffledImageAt));
  const imageAt = (epoch: number, place: number): number => shuffledImageAt(epoch, swaps(epoch).get(place) ?? place);

  return {
    imagesOf: (step) => {
      const from = takenBefore(step);
      return Array.from({ length: takenBefore(step + 1) - from }, (_, index) =>
        imageAt(Math.floor((from + index) / usableCount), (from + index) % usableCount),
      );
    },
    windowOf: (step) => {
      const from = takenBefore(step);
      const epoch = Math.floor(from / usableCount);
      const { windows, index } = windowAt(epoch, from % usableCount);
      const window = windows[index];
      const following = windows[index + 1] ?? epochs(epoch + 1)[0];
      if (window === undefined || following === undefined) return { current: [], next: [] };
      const done = ((from % usableCount) - window.start) / window.imageCount;
      return { current: window.shards, next: following.shards.slice(0, Math.ceil(done * following.shards.length)) };
    },
  };
}

/**
 * Which images of each shard are used: the shards' parts of `usableCount` follow from rounding their cumulative sizes,
 * with a random phase, so that each image has the same chance.
 */
function usableOf({ shardImageCounts, usableCount, random }: EpochOptions): Usable {
  const starts = cumulative(shardImageCounts);
  const total = starts.at(-1) ?? 0;
  if (usableCount === total)
    return { starts, counts: shardImageCounts, imageOf: (shard, place) => (starts[shard] ?? 0) + place };
  const phase = random.fork('phase').uniform();
  const usedBefore = (shard: number): number => Math.floor(((starts[shard] ?? 0) / total) * usableCount + phase);
  const choices = new Map<number, Permutation>();
  const choiceOf = (shard: number): Permutation => {
    const known = choices.get(shard);
    if (known !== undefined) return known;
    const choice = createPermutation(shardImageCounts[shard] ?? 1, random.fork(`choice of shard ${shard}`));
    choices.set(shard, choice);
    return choice;
  };
  return {
    starts,
    counts: shardImageCounts.map((_, shard) => usedBefore(shard + 1) - usedBefore(shard)),
    imageOf: (shard, place) => (starts[shard] ?? 0) + choiceOf(shard)(place),
  };
}

/**
 * How many shards each window of an epoch holds.
 * @param firstWindowShards if given, windows of so many shards, twice as many and so on come first, for as long as they
 * are smaller than the others and leave at least as many shards as the next one would take.
 */
function windowSizes(shardCount: number, windowShards: number, firstWindowShards: number | null): number[] {
  const sizes: number[] = [];
  let left = shardCount;
  for (let size = firstWindowShards ?? windowShards; size < windowShards && left >= 3 * size; size *= 2) {
    sizes.push(size);
    left -= size;
  }
  const windowCount = Math.max(1, Math.floor(left / windowShards));
  const endOf = (index: number): number => Math.floor((index * left) / windowCount);
  return [...sizes, ...Array.from({ length: windowCount }, (_, index) => endOf(index + 1) - endOf(index))];
}

function windowsOf(
  { windowShards, firstWindowShards, random }: EpochOptions,
  { counts }: Usable,
  epoch: number,
): Window[] {
  const own = random.fork(`epoch ${epoch}`);
  const shards = own.shuffled([...counts.keys()].filter((shard) => (counts[shard] ?? 0) > 0));
  const sizes = windowSizes(shards.length, windowShards, epoch === 0 ? firstWindowShards : null);
  let start = 0;
  return sizes.map((size, index): Window => {
    const held = shards.splice(0, size);
    const shardStarts = cumulative(held.map((shard) => counts[shard] ?? 0));
    const imageCount = shardStarts.at(-1) ?? 0;
    const permutation = createPermutation(imageCount, own.fork(`window ${index}`));
    start += imageCount;
    return { shards: held, start: start - imageCount, imageCount, shardStarts, permutation };
  });
}

/**
 * Places of an epoch that change places with another, so that the batch that ends one epoch and begins the next holds
 * no image twice: each image of the new epoch's first part that the batch already has moves behind that part. The last
 * part of an epoch is never touched, so that an epoch depends on the one before it only, not on all.
 */
function swapsOf(
  epoch: number,
  usableCount: number,
  takenBefore: (step: number) => number,
  imageAt: (epoch: number, place: number) => number,
): Map<number, number> {
  const swaps = new Map<number, number>();
  if (epoch === 0) return swaps;
  const boundary = epoch * usableCount;
  const step = lastStepBefore(boundary, takenBefore);
  const headCount = takenBefore(step + 1) - boundary;
  if (headCount <= 0) return swaps;
  const tail = new Set(
    Array.from({ length: boundary - takenBefore(step) }, (_, index) => imageAt(epoch - 1, usableCount - 1 - index)),
  );
  let free = headCount;
  for (let place = 0; place < headCount; place += 1) {
    if (!tail.has(imageAt(epoch, place))) continue;
    while (tail.has(imageAt(epoch, free))) free += 1;
    swaps.set(place, free).set(free, place);
    free += 1;
  }
  return swaps;
}

/** The last step before which fewer than `count` images were taken. */
function lastStepBefore(count: number, takenBefore: (step: number) => number): number {
  let [low, high] = [0, 1];
  while (takenBefore(high) < count) high *= 2;
  while (high - low > 1) {
    const middle = Math.floor((low + high) / 2);
    if (takenBefore(middle) < count) low = middle;
    else high = middle;
  }
  return low;
}

/** The index of the last item that starts at or before `place`; items start in ascending order, the first at 0. */
function lastStartingAt(place: number, count: number, startOf: (index: number) => number): number {
  let [low, high] = [0, count];
  while (high - low > 1) {
    const middle = Math.floor((low + high) / 2);
    if (startOf(middle) <= place) low = middle;
    else high = middle;
  }
  return low;
}

/** Sums of the first 0, 1 ... all counts. */
function cumulative(counts: readonly number[]): number[] {
  let sum = 0;
  return [0, ...counts.map((count) => (sum += count))];
}

/** Keeps the last few results: a batch touches two epochs, and the step after it the second of them. */
function cached<Result>(make: (epoch: number) => Result): (epoch: number) => Result {
  const results = new Map<number, Result>();
  return (epoch) => {
    const known = results.get(epoch);
    if (known !== undefined) return known;
    const result = make(epoch);
    results.set(epoch, result);
    const [oldest] = results.keys();
    if (results.size > 3 && oldest !== undefined) results.delete(oldest);
    return result;
  };
}
