/** Restricts the labels that a probe is trained on to a fraction, or to a few images of each label. */
import type { Random } from '../rng.ts';
import type { LabelledImages } from './folds.ts';

/**
 * FRACTION: this fraction of each label's images, in (0, 1], at least one image. SHOTS: this many images of each label,
 * or all if there are fewer.
 */
export type LabelBudget =
  { readonly kind: 'FRACTION'; readonly fraction: number } | { readonly kind: 'SHOTS'; readonly shotsPerClass: number };

/**
 * The images of `train` whose labels are known under the budget, ascending. A fraction is drawn group by group in
 * random order, as slides are labelled one after another: the images of each group are taken until their labels have
 * reached the fraction. Shots are drawn image by image.
 */
export function drawLabels(
  budget: LabelBudget,
  { labels, groups }: LabelledImages,
  train: Int32Array,
  random: Random,
): Int32Array {
  const counts = new Map<number, number>();
  for (const image of train) counts.set(labels[image] ?? 0, (counts.get(labels[image] ?? 0) ?? 0) + 1);
  const left = new Map(Array.from(counts, ([label, count]) => [label, targetOf(budget, count)]));
  const chosen: number[] = [];
  for (const image of orderOf(budget, groups, train, random)) {
    const label = labels[image] ?? 0;
    const open = left.get(label) ?? 0;
    if (open === 0) continue;
    left.set(label, open - 1);
    chosen.push(image);
  }
  return Int32Array.from(chosen).sort();
}

function targetOf(budget: LabelBudget, imageCount: number): number {
  switch (budget.kind) {
    case 'FRACTION':
      return Math.max(1, Math.round(budget.fraction * imageCount));
    case 'SHOTS':
      return Math.min(imageCount, budget.shotsPerClass);
  }
}

function orderOf(budget: LabelBudget, groups: readonly string[], train: Int32Array, random: Random): readonly number[] {
  switch (budget.kind) {
    case 'FRACTION': {
      const byGroup = Map.groupBy(train, (image) => groups[image] ?? '');
      return random.shuffled([...byGroup.values()]).flatMap((images) => random.shuffled(images));
    }
    case 'SHOTS':
      return random.shuffled([...train]);
  }
}
