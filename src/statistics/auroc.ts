/** Area under the ROC curve, one label against the rest, by ranks: ties count half (Mann and Whitney). */

export interface AurocScores {
  /** `[N]`, 0..K-1. */
  readonly truth: Int32Array;
  /** `[N, K]`: the higher, the more likely. */
  readonly scores: Float64Array;
  readonly labelCount: number;
}

/** Each label's images in ascending order of its score: sorted once, used for every resample. */
export interface RankedScores {
  readonly byLabel: readonly RankedLabel[];
}

interface RankedLabel {
  /** Images. */
  readonly order: Int32Array;
  /** 1 for an image of the label. In the order of the scores, as the next one. */
  readonly isPositive: Uint8Array;
  /** 1 for the last of some images with the same score. */
  readonly endsTie: Uint8Array;
}

/** Sorts once for each label. Throws RangeError for a score that is not a number. */
export function rankScores({ truth, scores, labelCount }: AurocScores): RankedScores {
  if (scores.length !== truth.length * labelCount) {
    throw new RangeError(`Scores must be [${truth.length}, ${labelCount}], not ${scores.length} numbers.`);
  }
  if (scores.some(Number.isNaN)) throw new RangeError('A score is not a number.');
  const byLabel = Array.from({ length: labelCount }, (_, label) => {
    const own = Float64Array.from(truth, (_trueLabel, image) => scores[image * labelCount + label] ?? 0);
    const order = Int32Array.from(truth.keys()).sort((left, right) => (own[left] ?? 0) - (own[right] ?? 0));
    return {
      order,
      isPositive: Uint8Array.from(order, (image) => (truth[image] === label ? 1 : 0)),
      endsTie: Uint8Array.from(order, (image, place) => (own[image] === own[order[place + 1] ?? -1] ? 0 : 1)),
    };
  });
  return { byLabel };
}

/** AUROC of one label against the rest, or null when the sample lacks either side. */
export function labelAuroc(ranked: RankedScores, label: number, imageCounts?: Int32Array): number | null {
  const own = ranked.byLabel[label];
  if (own === undefined) throw new RangeError(`No label ${label}.`);
  const { order, isPositive, endsTie } = own;
  let positivesBelow = 0;
  let negativesBelow = 0;
  let positives = 0;
  let negatives = 0;
  let wonPairs = 0;
  for (let place = 0; place < order.length; place += 1) {
    const count = imageCounts === undefined ? 1 : (imageCounts[order[place] ?? 0] ?? 0);
    if (isPositive[place] === 1) positives += count;
    else negatives += count;
    if (endsTie[place] === 0) continue;
    wonPairs += positives * (negativesBelow + negatives / 2);
    positivesBelow += positives;
    negativesBelow += negatives;
    positives = 0;
    negatives = 0;
  }
  const pairs = positivesBelow * negativesBelow;
  return pairs === 0 ? null : wonPairs / pairs;
}

/** Mean over the labels that have both sides in the sample; null when none has. */
export function macroAuroc(ranked: RankedScores, imageCounts?: Int32Array): number | null {
  const defined = ranked.byLabel
    .map((_, label) => labelAuroc(ranked, label, imageCounts))
    .filter((value) => value !== null);
  return defined.length === 0 ? null : defined.reduce((total, value) => total + value, 0) / defined.length;
}
