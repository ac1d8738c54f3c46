/** Macro-F1 over seeds with a bootstrap over groups, and paired differences of two arms. */
import { interval95, groupResamples } from '../../src/statistics/bootstrap.ts';
import { confusionMatrix, macroF1 } from '../../src/statistics/classification.ts';
import type { MetricEstimate } from '../../src/statistics/estimate.ts';
import { createRandom } from '../../src/statistics/random.ts';
import type { ProbeSet } from './images.ts';

/** The predictions of one arm for the tested images of a set, one string of digits for each seed. */
export type Predictions = readonly string[];

export interface TestSet {
  readonly truth: Int32Array;
  readonly groups: readonly string[];
  readonly labelNames: readonly string[];
}

const RESAMPLES = 1000;

/** The tested images of a set: those of its test part, or all if it is evaluated in folds. */
export function testedOf({ labels, groups, splits, labelNames }: ProbeSet): TestSet {
  const places = [...labels.keys()].filter((place) => splits === null || splits[place] === 'test');
  return {
    truth: Int32Array.from(places, (place) => labels[place] ?? 0),
    groups: places.map((place) => groups[place] ?? ''),
    labelNames,
  };
}

/** Mean macro-F1 over the seeds. */
export function scoreOf(tested: TestSet, predictions: Predictions): MetricEstimate {
  return estimate(tested, (counts) => meanF1(tested, predictions, counts));
}

/** The first arm's mean minus the second's, both under the same resamples. */
export function differenceOf(tested: TestSet, first: Predictions, second: Predictions): MetricEstimate {
  return estimate(tested, (counts) => meanF1(tested, first, counts) - meanF1(tested, second, counts));
}

function estimate(tested: TestSet, measure: (imageCounts: Int32Array) => number): MetricEstimate {
  const value = measure(new Int32Array(tested.truth.length).fill(1));
  const random = createRandom(1).fork('recipes');
  const values = Array.from(groupResamples(tested.groups, RESAMPLES, random), measure).filter(Number.isFinite);
  return { value, ...interval95(values) };
}

function meanF1({ truth, labelNames }: TestSet, predictions: Predictions, imageCounts: Int32Array): number {
  const scores = predictions.map((digits) =>
    macroF1(
      confusionMatrix(
        { truth, predicted: Int32Array.from(digits, Number), labelCount: labelNames.length },
        imageCounts,
      ),
    ),
  );
  return scores.reduce((sum, score) => sum + score, 0) / scores.length;
}
