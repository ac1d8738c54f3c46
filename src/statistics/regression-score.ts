/** Computes the metrics of a regression from predictions, with intervals. */
import { groupResamples } from './bootstrap.ts';
import { estimatesOf, type MetricEstimate, type Replicates } from './estimate.ts';
import type { Random } from './random.ts';

/** meanAbsoluteError: L1, in the unit of the labels. */
export const REGRESSION_METRICS = ['meanAbsoluteError', 'spearmanCorrelation', 'rSquared'] as const;
export type RegressionMetricName = (typeof REGRESSION_METRICS)[number];

/** Out-of-sample predictions, pooled over the parts of a split. */
export interface PooledNumbers {
  /** `[N]`. */
  readonly truth: Float64Array;
  /** `[N]`. */
  readonly predicted: Float64Array;
  /** `[N]`. */
  readonly groups: readonly string[];
}

export interface RegressionScore {
  readonly metrics: Readonly<Record<RegressionMetricName, MetricEstimate>>;
  readonly replicates: Replicates<RegressionMetricName>;
}

export function scoreNumbers(pooled: PooledNumbers, bootstrapResamples: number, random: Random): RegressionScore {
  const replicates: Record<RegressionMetricName, number[]> = {
    meanAbsoluteError: [],
    spearmanCorrelation: [],
    rSquared: [],
  };
  for (const imageCounts of groupResamples(pooled.groups, bootstrapResamples, random)) {
    replicates.meanAbsoluteError.push(meanAbsoluteError(pooled, imageCounts));
    replicates.spearmanCorrelation.push(spearmanCorrelation(pooled, imageCounts));
    replicates.rSquared.push(rSquared(pooled, imageCounts));
  }
  const values = {
    meanAbsoluteError: meanAbsoluteError(pooled),
    spearmanCorrelation: zeroIfUndefined(spearmanCorrelation(pooled)),
    rSquared: zeroIfUndefined(rSquared(pooled)),
  };
  return { metrics: estimatesOf(REGRESSION_METRICS, values, replicates), replicates };
}

type Numbers = Pick<PooledNumbers, 'truth' | 'predicted'>;

/** Mean of |predicted - true|. `imageCounts` as everywhere: how often each image occurs in the sample; absent, once. */
export function meanAbsoluteError({ truth, predicted }: Numbers, imageCounts?: Int32Array): number {
  return weightedMean(
    truth.map((value, image) => Math.abs((predicted[image] ?? 0) - value)),
    imageCounts,
  );
}

/**
 * 1 - sum of squared errors / sum of squared distances from the sample's mean; NaN where all true numbers are equal.
 */
export function rSquared({ truth, predicted }: Numbers, imageCounts?: Int32Array): number {
  const mean = weightedMean(truth, imageCounts);
  const totalVariance = weightedMean(
    truth.map((value) => (value - mean) ** 2),
    imageCounts,
  );
  const error = weightedMean(
    truth.map((value, image) => ((predicted[image] ?? 0) - value) ** 2),
    imageCounts,
  );
  return totalVariance === 0 ? Number.NaN : 1 - error / totalVariance;
}

/** Pearson's correlation of ranks, ties at their mean rank; NaN where either side is constant. */
export function spearmanCorrelation({ truth, predicted }: Numbers, imageCounts?: Int32Array): number {
  const left = ranksOf(truth, imageCounts);
  const right = ranksOf(predicted, imageCounts);
  const leftMean = weightedMean(left, imageCounts);
  const rightMean = weightedMean(right, imageCounts);
  const covariance = weightedMean(
    left.map((rank, image) => (rank - leftMean) * ((right[image] ?? 0) - rightMean)),
    imageCounts,
  );
  const leftVariance = weightedMean(
    left.map((rank) => (rank - leftMean) ** 2),
    imageCounts,
  );
  const rightVariance = weightedMean(
    right.map((rank) => (rank - rightMean) ** 2),
    imageCounts,
  );
  const scale = Math.sqrt(leftVariance * rightVariance);
  return scale === 0 ? Number.NaN : covariance / scale;
}

/** `[N]`: mean rank of each value in the sample, from 1. */
function ranksOf(values: Float64Array, imageCounts: Int32Array | undefined): Float64Array {
  const order = Int32Array.from(values.keys()).sort((left, right) => (values[left] ?? 0) - (values[right] ?? 0));
  const ranks = new Float64Array(values.length);
  let before = 0;
  for (let start = 0; start < order.length;) {
    const tied = values[order[start] ?? 0];
    let end = start;
    let count = 0;
    for (; end < order.length && values[order[end] ?? 0] === tied; end += 1)
      count += countOf(imageCounts, order[end] ?? 0);
    for (let place = start; place < end; place += 1) ranks[order[place] ?? 0] = before + (count + 1) / 2;
    before += count;
    start = end;
  }
  return ranks;
}

function weightedMean(values: Float64Array, imageCounts: Int32Array | undefined): number {
  let sum = 0;
  let count = 0;
  for (const [image, value] of values.entries()) {
    const times = countOf(imageCounts, image);
    sum += value * times;
    count += times;
  }
  return count === 0 ? Number.NaN : sum / count;
}

function countOf(imageCounts: Int32Array | undefined, image: number): number {
  return imageCounts === undefined ? 1 : (imageCounts[image] ?? 0);
}

function zeroIfUndefined(value: number): number {
  return Number.isNaN(value) ? 0 : value;
}
