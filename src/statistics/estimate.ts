/** A value with its interval, and the difference of two values. */
import { interval95, type ConfidenceInterval } from './bootstrap.ts';

/** A metric with its 95 % percentile bootstrap interval over groups. */
export interface MetricEstimate extends ConfidenceInterval {
  readonly value: number;
}

/** The value of each metric in each resample, in the order of the resamples; NaN if undefined. */
export type Replicates<Name extends string> = Readonly<Record<Name, readonly number[]>>;

/** An estimate for each metric; without resamples an interval is its value. */
export function estimatesOf<Name extends string>(
  names: readonly Name[],
  values: Readonly<Record<Name, number>>,
  replicates: Replicates<Name>,
): Record<Name, MetricEstimate> {
  const estimates: Partial<Record<Name, MetricEstimate>> = {};
  for (const name of names) estimates[name] = estimateOf(values[name], replicates[name]);
  return complete(names, estimates);
}

/**
 * first - second, metric by metric, with the interval of the difference: both used the same resamples, so that the
 * difficulty of a group cancels out.
 */
export function differencesOf<Name extends string>(
  names: readonly Name[],
  first: { readonly metrics: Readonly<Record<Name, MetricEstimate>>; readonly replicates: Replicates<Name> },
  second: { readonly metrics: Readonly<Record<Name, MetricEstimate>>; readonly replicates: Replicates<Name> },
): Record<Name, MetricEstimate> {
  const differences: Partial<Record<Name, MetricEstimate>> = {};
  for (const name of names) {
    const others = second.replicates[name];
    differences[name] = estimateOf(
      first.metrics[name].value - second.metrics[name].value,
      first.replicates[name].map((value, resample) => value - (others[resample] ?? Number.NaN)),
    );
  }
  return complete(names, differences);
}

function estimateOf(value: number, replicates: readonly number[]): MetricEstimate {
  const defined = replicates.filter((replicate) => !Number.isNaN(replicate));
  return defined.length === 0 ? { value, ci95Low: value, ci95High: value } : { value, ...interval95(defined) };
}

function complete<Name extends string>(
  names: readonly Name[],
  estimates: Partial<Record<Name, MetricEstimate>>,
): Record<Name, MetricEstimate> {
  const isComplete = (candidate: Partial<Record<Name, MetricEstimate>>): candidate is Record<Name, MetricEstimate> =>
    names.every((name) => candidate[name] !== undefined);
  if (!isComplete(estimates)) throw new Error('A metric is missing.');
  return estimates;
}
