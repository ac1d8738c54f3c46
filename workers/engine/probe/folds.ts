/**
 * Divides images into those that a probe is trained on and those that it is tested on, without ever dividing a group.
 */
import { createRandom, type Random } from '../rng.ts';
import { ProbeError } from './errors.ts';

export interface LabelledImages {
  /** `[N]`, 0..K-1. */
  readonly labels: Int32Array;
  /** `[N]`: patient or slide. An image without a group forms its own group. */
  readonly groups: readonly string[];
  readonly labelNames: readonly string[];
}

/** Number of orders that are tried before a division is reported as impossible. */
const DIVISION_ATTEMPTS = 20;

/**
 * The fold in which each image is tested: `[N]`, 0..foldCount-1. Groups stay whole; subject to that, the labels are
 * spread evenly over the folds (greedy, largest groups first, as scikit-learn's StratifiedGroupKFold). The same seed
 * gives the same folds. Every label occurs in the training part of every fold.
 *
 * Throws ProbeError: BAD_OPTION (foldCount), TOO_FEW_LABELS (fewer than 2 occur), TOO_FEW_IMAGES (fewer than folds),
 * TOO_FEW_GROUPS (fewer than folds, or a label whose images are all of one group).
 */
export function assignFolds(images: LabelledImages, foldCount: number, seed: number): Int32Array {
  checkFoldCount(foldCount);
  const groups = groupsOf(images);
  checkEnough(images, groups, foldCount);
  const random = createRandom(seed).fork('folds');
  for (let attempt = 0; attempt < DIVISION_ATTEMPTS; attempt += 1) {
    const foldOfGroup = divide(groups, foldCount, images.labelNames.length, random.fork(`attempt ${attempt}`));
    const folds = new Int32Array(images.labels.length);
    for (const [index, group] of groups.entries())
      for (const image of group.images) folds[image] = foldOfGroup[index] ?? 0;
    if (isValidAssignment(images, folds, foldCount)) return folds;
  }
  const message = `No division into ${foldCount} folds keeps groups whole and every label in every fold's training part.`;
  throw new ProbeError('TOO_FEW_GROUPS', 'folds', message);
}

/** Folds within a training part. */
export const INNER_FOLD_COUNT = 3;

/** The inner fold of each image of `train`, 0..2, or null if its groups cannot be divided. */
export function assignInnerFolds(
  { labels, groups, labelNames }: LabelledImages,
  train: Int32Array,
  seed: number,
): Int32Array | null {
  const part = {
    labels: train.map((image) => labels[image] ?? 0),
    groups: Array.from(train, (image) => groups[image] ?? ''),
    labelNames,
  };
  try {
    return assignFolds(part, INNER_FOLD_COUNT, seed);
  } catch (error) {
    if (error instanceof ProbeError) return null;
    throw error;
  }
}

/**
 * Folds of groups without labels: `[N]`, 0..foldCount-1, with whole groups and folds of similar size. Throws ProbeError
 * BAD_OPTION, TOO_FEW_IMAGES or TOO_FEW_GROUPS.
 */
export function assignGroupFolds(imageGroups: readonly string[], foldCount: number, seed: number): Int32Array {
  checkFoldCount(foldCount);
  const groups = groupsOf({ labels: new Int32Array(imageGroups.length), groups: imageGroups, labelNames: ['any'] });
  checkEnoughFor(imageGroups.length, groups.length, foldCount);
  const foldOfGroup = divide(groups, foldCount, 1, createRandom(seed).fork('folds'));
  const folds = new Int32Array(imageGroups.length);
  for (const [index, group] of groups.entries())
    for (const image of group.images) folds[image] = foldOfGroup[index] ?? 0;
  return folds;
}

interface Group {
  readonly name: string;
  readonly images: readonly number[];
  /** `[K]`. */
  readonly labelCounts: readonly number[];
}

/** In the order in which they first appear. */
function groupsOf({ labels, groups, labelNames }: LabelledImages): Group[] {
  const imagesByGroup = Map.groupBy(labels.keys(), (image) => groups[image] ?? '');
  return Array.from(imagesByGroup, ([name, images]) => {
    const labelCounts = labelNames.map(() => 0);
    for (const image of images) {
      const label = labels[image] ?? 0;
      labelCounts[label] = (labelCounts[label] ?? 0) + 1;
    }
    return { name, images, labelCounts };
  });
}

function checkFoldCount(foldCount: number): void {
  if (!Number.isSafeInteger(foldCount) || foldCount < 2 || foldCount > 100) {
    throw new ProbeError('BAD_OPTION', 'folds', 'folds must be an integer of 2..100.');
  }
}

function checkEnoughFor(imageCount: number, groupCount: number, foldCount: number): void {
  if (imageCount < foldCount) {
    throw new ProbeError(
      'TOO_FEW_IMAGES',
      'folds',
      `${foldCount} folds need at least ${foldCount} images, and there are ${imageCount}.`,
    );
  }
  if (groupCount < foldCount) {
    throw new ProbeError(
      'TOO_FEW_GROUPS',
      'folds',
      `${foldCount} folds need at least ${foldCount} groups, and there are ${groupCount}.`,
    );
  }
}

function checkEnough({ labels, labelNames }: LabelledImages, groups: readonly Group[], foldCount: number): void {
  const occurring = new Set(labels);
  if (occurring.size < 2) {
    throw new ProbeError(
      'TOO_FEW_LABELS',
      'datasetVersionId',
      `A probe needs images of at least 2 labels, and there is ${occurring.size}.`,
    );
  }
  checkEnoughFor(labels.length, groups.length, foldCount);
  for (const label of occurring) {
    const holders = groups.filter((group) => (group.labelCounts[label] ?? 0) > 0);
    if (holders.length < 2) {
      const name = labelNames[label] ?? String(label);
      const message = `All images of label ${name} are of one group, so that it cannot be both learned and tested.`;
      throw new ProbeError('TOO_FEW_GROUPS', 'datasetVersionId', message);
    }
  }
}

/** The fold of each group. */
function divide(groups: readonly Group[], foldCount: number, labelCount: number, random: Random): number[] {
  const labelTotals = Array.from({ length: labelCount }, (_, label) =>
    groups.reduce((sum, group) => sum + (group.labelCounts[label] ?? 0), 0),
  );
  const counts = Array.from({ length: foldCount }, () => labelTotals.map(() => 0));
  const foldOfGroup = groups.map(() => 0);
  // Sorting is stable: groups of equal size stay in their random order.
  const order = random
    .shuffled([...groups.keys()])
    .sort((left, right) => imageCountOf(groups, right) - imageCountOf(groups, left));
  for (const index of order) {
    const labelCounts = groups[index]?.labelCounts ?? [];
    // Adding c to a count x of a label with total T raises the sum of squares by (2xc + c^2) / T^2: the smallest rise
    // is the most even.
    const rise = (held: number, count: number, total: number): number =>
      count === 0 ? 0 : (2 * held * count + count ** 2) / total ** 2;
    const rises = counts.map((fold) =>
      labelCounts.reduce((sum, count, label) => sum + rise(fold[label] ?? 0, count, labelTotals[label] ?? 1), 0),
    );
    const sizes = counts.map((fold) => fold.reduce((sum, count) => sum + count, 0));
    let best = 0;
    for (let fold = 1; fold < foldCount; fold += 1) {
      const gain = (rises[fold] ?? 0) - (rises[best] ?? 0);
      if (gain < -1e-12 || (gain < 1e-12 && (sizes[fold] ?? 0) < (sizes[best] ?? 0))) best = fold;
    }
    foldOfGroup[index] = best;
    const chosen = counts[best];
    if (chosen !== undefined)
      for (const [label, count] of labelCounts.entries()) chosen[label] = (chosen[label] ?? 0) + count;
  }
  return foldOfGroup;
}

function imageCountOf(groups: readonly Group[], index: number): number {
  return groups[index]?.images.length ?? 0;
}

/** True if no fold is empty and no label has all its images in one fold. */
function isValidAssignment({ labels }: LabelledImages, folds: Int32Array, foldCount: number): boolean {
  const foldsByLabel = new Map<number, Set<number>>();
  for (const [image, label] of labels.entries()) {
    const known = foldsByLabel.get(label) ?? new Set();
    foldsByLabel.set(label, known.add(folds[image] ?? 0));
  }
  return new Set(folds).size === foldCount && [...foldsByLabel.values()].every((known) => known.size > 1);
}
