/**
 * Paired comparison of two evaluations: each bootstrap resample draws the same groups for both, so that the difficulty
 * of a group cancels out.
 */
import { z } from 'zod';
import { DomainError } from '../../errors.ts';
import { CLASSIFICATION_METRICS, scorePredictions } from '../../statistics/classification-score.ts';
import { differencesOf, type MetricEstimate, type Replicates } from '../../statistics/estimate.ts';
import { createRandom } from '../../statistics/random.ts';
import { REGRESSION_METRICS, scoreNumbers } from '../../statistics/regression-score.ts';
import type { MetricComparisonRecord, ReportedEvaluationRecord } from './evaluations.records.ts';
import { createPredictionReader, type PredictionColumns } from './prediction-columns.ts';

export const PREDICTIONS_MEDIA_TYPE = 'application/jsonl';

/** The seed is fixed, so that a repeated comparison gives the same numbers. */
const COMPARISON_SEED = 1;
const RESAMPLES = 2000;
const RESAMPLES_MIN = 200;
/** Each resample reads every image; the limit keeps a comparison at about a second. */
const RESAMPLED_IMAGES_MAX = 20_000_000;

export interface Comparison {
  readonly metrics: readonly MetricComparisonRecord[];
  readonly imageCount: number;
  readonly groupCount: number;
  readonly resampleCount: number;
}

/** Passes on the stored predictions of an evaluation, JSON lines in UTF-8, chunk by chunk. */
export type ReadPredictions = (take: (bytes: Uint8Array) => void) => Promise<void>;

/**
 * @param first, second evaluations, each with its stored predictions.
 * @throws DomainError EVALUATIONS_NOT_COMPARABLE for other images, another split or another kind of prediction, and
 * what the readings throw.
 */
export async function comparePredictions(
  first: ReportedEvaluationRecord,
  readFirst: ReadPredictions,
  second: ReportedEvaluationRecord,
  readSecond: ReadPredictions,
): Promise<Comparison> {
  checkComparable(first, second);
  const labelNames = first.protocol === 'REGRESSION' ? null : (first.confusionMatrix?.labelNames ?? []);
  if (labelNames !== null && JSON.stringify(labelNames) !== JSON.stringify(second.confusionMatrix?.labelNames ?? []))
    throw notComparable('their labels differ');
  const left = await columnsOf(readFirst, labelNames);
  const right = await columnsOf(readSecond, labelNames);
  if (left.imageCount !== right.imageCount || left.keysDigest !== right.keysDigest)
    throw notComparable('they tested different images');
  return labelNames === null ? compareNumbers(left, right) : compareLabels(left, right, labelNames);
}

async function columnsOf(read: ReadPredictions, labelNames: readonly string[] | null): Promise<PredictionColumns> {
  const reader = createPredictionReader(labelNames);
  await read(reader.take);
  return reader.finish();
}

/** @throws DomainError EVALUATIONS_NOT_COMPARABLE if the records alone show it. */
export function checkComparable(first: ReportedEvaluationRecord, second: ReportedEvaluationRecord): void {
  if ((first.protocol === 'REGRESSION') !== (second.protocol === 'REGRESSION'))
    throw notComparable('one predicts labels, the other numbers');
  if (first.datasetVersionId !== second.datasetVersionId) throw notComparable('they are on different dataset versions');
  if (digestOf(first) !== digestOf(second)) throw notComparable('their folds differ');
}

function digestOf({ split }: ReportedEvaluationRecord): string {
  return z.object({ digest: z.string() }).parse(split).digest;
}

function compareLabels(left: PredictionColumns, right: PredictionColumns, labelNames: readonly string[]): Comparison {
  const resampleCount = resamplesFor(left.imageCount * labelNames.length);
  const scored = ({ truth, predicted, units }: PredictionColumns) =>
    scorePredictions(
      { truth: Int32Array.from(truth), probabilities: predicted, groups: units, labelNames },
      resampleCount,
      createRandom(COMPARISON_SEED),
    );
  return comparisonOf(CLASSIFICATION_METRICS, scored(left), scored(right), left, resampleCount);
}

function compareNumbers(left: PredictionColumns, right: PredictionColumns): Comparison {
  const resampleCount = resamplesFor(left.imageCount);
  const scored = ({ truth, predicted, units }: PredictionColumns) =>
    scoreNumbers({ truth, predicted, groups: units }, resampleCount, createRandom(COMPARISON_SEED));
  return comparisonOf(REGRESSION_METRICS, scored(left), scored(right), left, resampleCount);
}

function resamplesFor(cost: number): number {
  return Math.max(RESAMPLES_MIN, Math.min(RESAMPLES, Math.floor(RESAMPLED_IMAGES_MAX / Math.max(1, cost))));
}

interface Scored<Name extends string> {
  readonly metrics: Readonly<Record<Name, MetricEstimate>>;
  readonly replicates: Replicates<Name>;
}

function comparisonOf<Name extends string>(
  names: readonly Name[],
  first: Scored<Name>,
  second: Scored<Name>,
  { imageCount, groupCount }: PredictionColumns,
  resampleCount: number,
): Comparison {
  const differences = differencesOf(names, first, second);
  return {
    metrics: names.map((name) => {
      const { value, ci95Low, ci95High } = differences[name];
      return {
        name,
        first: first.metrics[name].value,
        second: second.metrics[name].value,
        difference: value,
        ci95Low,
        ci95High,
      };
    }),
    ...{ imageCount, groupCount, resampleCount },
  };
}

export function notComparable(why: string): DomainError {
  return new DomainError({
    code: 'EVALUATIONS_NOT_COMPARABLE',
    message: `The two evaluations cannot be compared: ${why}.`,
    field: 'b',
    hint: 'Launch both evaluations on one dataset version with the same folds and seed.',
  });
}
