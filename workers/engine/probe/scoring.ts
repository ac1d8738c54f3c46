/** From predictions to the numbers of an evaluation, with intervals. */
import { macroAuroc, rankScores } from '../metrics/auroc.ts';
import { groupResamples, interval95, type ConfidenceInterval } from '../metrics/bootstrap.ts';
import { accuracy, balancedAccuracy, confusionMatrix, labelReports, macroF1, type LabelReport } from '../metrics/classification.ts';
import type { Random } from '../rng.ts';

export const PROBE_METRICS = ['macroF1', 'balancedAccuracy', 'accuracy', 'macroAuroc'] as const;
export type ProbeMetricName = (typeof PROBE_METRICS)[number];

/** A metric with its 95 % percentile bootstrap interval over groups. */
export interface MetricEstimate extends ConfidenceInterval {
  readonly value: number;
}

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

export interface Score {
  readonly metrics: Readonly<Record<ProbeMetricName, MetricEstimate>>;
  readonly labelReports: readonly (LabelReport & { readonly labelName: string })[];
  /** `[true][predicted]` in the order of labelNames. */
  readonly confusionMatrix: readonly (readonly number[])[];
}

/** The most probable label is the prediction; of equal ones the first. At least two labels must occur in truth. */
export function scorePredictions(pooled: PooledPredictions, bootstrapResamples: number, random: Random): Score {
  const { truth, probabilities, groups, labelNames } = pooled;
  const labelCount = labelNames.length;
  const predictions = { truth, predicted: mostProbable(probabilities, labelCount), labelCount };
  const ranked = rankScores({ truth, scores: probabilities, labelCount });
  const matrix = confusionMatrix(predictions);
  const resampled: Record<ProbeMetricName, number[]> = { macroF1: [], balancedAccuracy: [], accuracy: [], macroAuroc: [] };
  for (const imageCounts of groupResamples(groups, bootstrapResamples, random)) {
    const drawn = confusionMatrix(predictions, imageCounts);
    resampled.macroF1.push(macroF1(drawn, 'LEFT_OUT'));
    resampled.balancedAccuracy.push(balancedAccuracy(drawn));
    resampled.accuracy.push(accuracy(drawn));
    const drawnAuroc = macroAuroc(ranked, imageCounts);
    if (drawnAuroc !== null) resampled.macroAuroc.push(drawnAuroc);
  }
  const estimate = (name: ProbeMetricName, value: number): MetricEstimate =>
    resampled[name].length === 0 ? { value, ci95Low: value, ci95High: value } : { value, ...interval95(resampled[name]) };
  return {
    metrics: {
      macroF1: estimate('macroF1', macroF1(matrix)),
      balancedAccuracy: estimate('balancedAccuracy', balancedAccuracy(matrix)),
      accuracy: estimate('accuracy', accuracy(matrix)),
      macroAuroc: estimate('macroAuroc', macroAuroc(ranked) ?? 0.5),
    },
    labelReports: labelReports(matrix).map((report, label) => ({ labelName: labelNames[label] ?? '', ...report })),
    confusionMatrix: matrix,
  };
}

function mostProbable(probabilities: Float64Array, labelCount: number): Int32Array {
  return Int32Array.from({ length: probabilities.length / labelCount }, (_, image) => {
    const row = probabilities.subarray(image * labelCount, (image + 1) * labelCount);
    return row.indexOf(row.reduce((highest, value) => Math.max(highest, value), -Infinity));
  });
}
