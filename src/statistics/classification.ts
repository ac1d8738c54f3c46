/**
 * Metrics of a classification, by the formulas that scikit-learn uses. Every function takes `imageCounts`: how often
 * each image occurs in the sample, so that a bootstrap resample is the same predictions under other counts. Absent,
 * every image occurs once.
 */

/** A classifier's predictions for N images of K labels. */
export interface Predictions {
  /** `[N]`, 0..K-1. */
  readonly truth: Int32Array;
  /** `[N]`, 0..K-1. */
  readonly predicted: Int32Array;
  /** K. */
  readonly labelCount: number;
}

export interface LabelReport {
  /** Correct predictions among the images predicted as this label; 0 if there is none. */
  readonly precision: number;
  /** Correct predictions among the images that truly have this label; 0 if there is none. */
  readonly recall: number;
  /** 2PR / (P + R); 0 when both are 0. */
  readonly f1: number;
  /** Number of images that truly have the label. */
  readonly support: number;
}

/** Counts `[true][predicted]`, K by K. */
export function confusionMatrix(predictions: Predictions, imageCounts?: Int32Array): number[][] {
  const { truth, predicted, labelCount } = predictions;
  const flat = new Float64Array(labelCount * labelCount);
  // By index: iterators take several times as long over a million images, and a bootstrap counts them a thousand times.
  for (let image = 0; image < truth.length; image += 1) {
    const cell = (truth[image] ?? 0) * labelCount + (predicted[image] ?? 0);
    flat[cell] = (flat[cell] ?? 0) + (imageCounts === undefined ? 1 : (imageCounts[image] ?? 0));
  }
  return Array.from({ length: labelCount }, (_, row) => [...flat.subarray(row * labelCount, (row + 1) * labelCount)]);
}

/** One report for each label, in order. */
export function labelReports(matrix: readonly (readonly number[])[]): LabelReport[] {
  return matrix.map((row, label) => {
    const right = row[label] ?? 0;
    const support = sum(row);
    const predictedCount = sum(matrix.map((otherRow) => otherRow[label] ?? 0));
    return {
      precision: ratio(right, predictedCount),
      recall: ratio(right, support),
      f1: ratio(2 * right, support + predictedCount),
      support,
    };
  });
}

/** Fraction of correct predictions; 0 for an empty matrix. */
export function accuracy(matrix: readonly (readonly number[])[]): number {
  return ratio(sum(matrix.map((row, label) => row[label] ?? 0)), sum(matrix.map(sum)));
}

/** Mean recall over the labels that truly occur; 0 when none does. */
export function balancedAccuracy(matrix: readonly (readonly number[])[]): number {
  return mean(
    labelReports(matrix)
      .filter((report) => report.support > 0)
      .map((report) => report.recall),
  );
}

/**
 * Mean F1 over the labels that occur in truth or prediction, as scikit-learn's `f1_score(average='macro')`; 0 when none
 * does. A label that occurs in neither has no F1: counting it as 0 would lower the score of a resample or test split
 * that merely lacks the label.
 */
export function macroF1(matrix: readonly (readonly number[])[]): number {
  const occurring = labelReports(matrix).filter(
    (report, label) => report.support > 0 || matrix.some((row) => (row[label] ?? 0) > 0),
  );
  return mean(occurring.map((report) => report.f1));
}

function ratio(part: number, whole: number): number {
  return whole === 0 ? 0 : part / whole;
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}

function mean(values: readonly number[]): number {
  return ratio(sum(values), values.length);
}
