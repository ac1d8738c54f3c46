/**
 * What a protocol chooses within a training part: it fits every candidate on two thirds of the groups, predicts the
 * other third, and compares the candidates by the macro F1 of all predictions, the metric that leaderboards rank by.
 *
 * Cross-entropy is not suitable for this choice. If most images of a label come from one slide, every fit is
 * confidently wrong about some held-out slide. The penalty with the lowest cross-entropy is then the one that predicts
 * only the label frequencies, even if others classify well.
 */
import { confusionMatrix, macroF1 } from '../../../src/statistics/classification.ts';
import { mostProbable } from '../../../src/statistics/classification-score.ts';
import { assignInnerFolds, INNER_FOLD_COUNT, type LabelledImages } from './folds.ts';

/** Images of a training part: those that are fitted and those, of other groups, that are predicted. */
export interface InnerPart {
  readonly fitted: Int32Array;
  readonly heldOut: Int32Array;
}

/** Images of a label that are never left out, so that a rare label keeps its weight in the macro F1. */
const CHOICE_IMAGES_OF_LABEL_MIN = 100;

/**
 * About `maxImages` of the images of `train`, ascending, or all if there are no more: for a choice among candidates
 * whose cost grows with the images. Each label keeps its share, and at least 100 images or all that it has; within a
 * label, every group keeps its share. The same images are chosen each time.
 */
export function choiceImages({ labels, groups }: LabelledImages, train: Int32Array, maxImages: number): Int32Array {
  if (train.length <= maxImages) return train;
  const byLabel = new Map<number, { readonly image: number; readonly group: string }[]>();
  for (const image of train) {
    const label = labels[image] ?? 0;
    const known = byLabel.get(label) ?? [];
    known.push({ image, group: groups[image] ?? '' });
    byLabel.set(label, known);
  }
  const chosen = [...byLabel.values()].flatMap((images) => {
    const share = Math.round((images.length * maxImages) / train.length);
    const count = Math.min(images.length, Math.max(share, CHOICE_IMAGES_OF_LABEL_MIN));
    const inGroups = images.toSorted((a, b) => (a.group < b.group ? -1 : a.group > b.group ? 1 : a.image - b.image));
    return Array.from(
      { length: count },
      (_, index) => inGroups[Math.floor(((index + 0.5) * images.length) / count)]?.image ?? 0,
    );
  });
  return Int32Array.from(chosen).sort();
}

/** Three parts, each image held out in one of them; null if the groups of `train` cannot be divided. */
export function innerParts(images: LabelledImages, train: Int32Array, seed: number): InnerPart[] | null {
  const folds = assignInnerFolds(images, train, seed);
  if (folds === null) return null;
  return Array.from({ length: INNER_FOLD_COUNT }, (_, fold) => ({
    fitted: train.filter((_image, row) => folds[row] !== fold),
    heldOut: train.filter((_image, row) => folds[row] === fold),
  }));
}

export interface InnerScore {
  readonly macroF1: number;
  /** Mean over the images, in nats. */
  readonly crossEntropy: number;
}

/**
 * One score for each candidate, over the predictions of all parts together. `predict` returns `[heldOut, K]` scores for
 * each candidate, in the same order for every part; the label with the highest score is predicted. `onProgress` is
 * called with the fraction of the whole fit that is done.
 */
export async function innerScores(
  parts: readonly InnerPart[],
  { labels, labelNames }: LabelledImages,
  predict: (part: InnerPart) => readonly (Float32Array | Float64Array)[],
  onProgress: (done: number) => Promise<void>,
): Promise<InnerScore[]> {
  const truth = Int32Array.from(parts.flatMap(({ heldOut }) => Array.from(heldOut, (image) => labels[image] ?? 0)));
  const predictions: (readonly (Float32Array | Float64Array)[])[] = [];
  for (const [index, part] of parts.entries()) {
    predictions.push(predict(part));
    await onProgress((index + 1) / (parts.length + 1));
  }
  return (predictions[0] ?? []).map((_, candidate) => {
    const pooled = new Float64Array(truth.length * labelNames.length);
    let end = 0;
    for (const part of predictions) {
      const scores = part[candidate] ?? new Float64Array(0);
      pooled.set(scores, end);
      end += scores.length;
    }
    return innerScore(truth, pooled, labelNames.length);
  });
}

/** `truth` is `[N]`, `probabilities` `[N, K]`. */
export function innerScore(truth: Int32Array, probabilities: Float64Array, labelCount: number): InnerScore {
  const predicted = mostProbable(probabilities, labelCount);
  return {
    macroF1: macroF1(confusionMatrix({ truth, predicted, labelCount })),
    crossEntropy:
      truth.reduce(
        (sum, label, row) => sum - Math.log(Math.max(probabilities[row * labelCount + label] ?? 0, 1e-12)),
        0,
      ) / truth.length,
  };
}

/** Whether a candidate is better than another: by macro F1, and if that is equal, by cross-entropy. */
export function isBetter(score: InnerScore, than: InnerScore): boolean {
  return score.macroF1 === than.macroF1 ? score.crossEntropy < than.crossEntropy : score.macroF1 > than.macroF1;
}
