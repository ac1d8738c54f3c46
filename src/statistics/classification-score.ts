/** Computes the metrics of a classification from predictions, with intervals. */
import { macroAuroc, rankScores } from './auroc.ts';
import { groupResamples } from './bootstrap.ts';
import {
  accuracy,
  balancedAccuracy,
  confusionMatrix,
  labelReports,
  macroF1,
  type LabelReport,
} from './classification.ts';
import { estimatesOf, type MetricEstimate, type Replicates } from './estimate.ts';
import type { Random } from './random.ts';

export const CLASSIFICATION_METRICS = ['macroF1', 'balancedAccuracy', 'accuracy', 'macroAuroc'] as const;
export type ClassificationMetricName = (typeof CLASSIFICATION_METRICS)[number];

/** Out-of-sample predictions, pooled over the parts of a split. */
export interface PooledPredictions {
  /** `[N]`, 0..K-1. */
  readonly truth: Int32Array;
  /** `[N, K]`. */
  readonly probabilities: Float64Array;
  /** `[N]`. */
  readonly groups: readonly string[];
  readonly labelNames: readonly string[];
}

export interface ClassificationScore {
  readonly metrics: Readonly<Record<ClassificationMetricName, MetricEstimate>>;
  readonly labelReports: readonly (LabelReport & { readonly labelName: string })[];
  /** `[true][predicted]` in the order of labelNames. */
  readonly confusionMatrix: readonly (readonly number[])[];
  /** The values of each resample; those of two scores over the same images and random stream are paired. */
  readonly replicates: Replicates<ClassificationMetricName>;
}

/** The most probable label is the prediction; of equal ones the first. At least two labels must occur in truth. */
export function scorePredictions(
  pooled: PooledPredictions,
  bootstrapResamples: number,
  random: Random,
): ClassificationScore {
  const measure = classificationMeasure(pooled);
  const replicates: Record<ClassificationMetricName, number[]> = {
    macroF1: [],
    balancedAccuracy: [],
    accuracy: [],
    macroAuroc: [],
  };
  for (const imageCounts of groupResamples(pooled.groups, bootstrapResamples, random)) {
    const drawn = measure.resample(imageCounts);
    for (const name of CLASSIFICATION_METRICS) replicates[name].push(drawn[name]);
  }
  return {
    metrics: estimatesOf(CLASSIFICATION_METRICS, measure.values, replicates),
    labelReports: labelReports(measure.confusionMatrix).map((report, label) => ({
      labelName: pooled.labelNames[label] ?? '',
      ...report,
    })),
    confusionMatrix: measure.confusionMatrix,
    replicates,
  };
}

type ClassificationValues = Readonly<Record<ClassificationMetricName, number>>;

export interface ClassificationMeasure {
  /** Over every image once: the same as `resample` with counts of 1. */
  readonly values: ClassificationValues;
  readonly confusionMatrix: readonly (readonly number[])[];
  /**
   * Over a resample, by the same formulas, so that the interval matches the metric. A label that the sample lacks is
   * left out of each mean; NaN for an AUROC of a sample with one label.
   */
  resample(imageCounts: Int32Array): ClassificationValues;
}

/** Sorts the scores once for all resamples. */
export function classificationMeasure({ truth, probabilities, labelNames }: PooledPredictions): ClassificationMeasure {
  const labelCount = labelNames.length;
  const predictions = { truth, predicted: mostProbable(probabilities, labelCount), labelCount };
  const ranked = rankScores({ truth, scores: probabilities, labelCount });
  const valuesOf = (matrix: readonly (readonly number[])[], imageCounts?: Int32Array): ClassificationValues => ({
    macroF1: macroF1(matrix),
    balancedAccuracy: balancedAccuracy(matrix),
    accuracy: accuracy(matrix),
    macroAuroc: macroAuroc(ranked, imageCounts) ?? Number.NaN,
  });
  const matrix = confusionMatrix(predictions);
  return {
    values: valuesOf(matrix),
    confusionMatrix: matrix,
    resample: (imageCounts) => valuesOf(confusionMatrix(predictions, imageCounts), imageCounts),
  };
}

/** `[N]`: the column of the largest entry of each row `[K]`, the first of equal ones. */
export function mostProbable(probabilities: Float64Array, labelCount: number): Int32Array {
  const predicted = new Int32Array(probabilities.length / labelCount);
  for (let image = 0; image < predicted.length; image += 1) {
    const start = image * labelCount;
    let best = 0;
    for (let label = 1; label < labelCount; label += 1)
      if ((probabilities[start + label] ?? 0) > (probabilities[start + best] ?? 0)) best = label;
    predicted[image] = best;
  }
  return predicted;
}
