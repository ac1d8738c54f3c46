/**
 * Paired comparison of two evaluations: each bootstrap resample draws the same groups for both, so that the difficulty
 * of a group cancels out.
 */
import { z } from 'zod';
import { DomainError } from '../../errors.ts';
import {
  CLASSIFICATION_METRICS,
  scorePredictions,
  type PooledPredictions,
} from '../../statistics/classification-score.ts';
import { differencesOf, type MetricEstimate, type Replicates } from '../../statistics/estimate.ts';
import { createRandom } from '../../statistics/random.ts';
import { REGRESSION_METRICS, scoreNumbers, type PooledNumbers } from '../../statistics/regression-score.ts';
import type { MetricComparisonRecord, ReportedEvaluationRecord } from './evaluations.records.ts';

export const PREDICTIONS_MEDIA_TYPE = 'application/jsonl';

// Evaluations made before unknown groups were null have no resampling unit beside the group.
const predictedSchema = z.object({
  key: z.string(),
  group: z.string().nullable(),
  resamplingUnit: z.string().optional(),
});
const classifiedSchema = predictedSchema.extend({
  label: z.string(),
  predicted: z.string(),
  probabilities: z.array(z.number()),
});
const regressedSchema = predictedSchema.extend({ target: z.number(), predicted: z.number() });

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

/**
 * @param first, second evaluations with their stored predictions, JSON lines in UTF-8.
 * @throws DomainError EVALUATIONS_NOT_COMPARABLE for other images, another split or another kind of prediction.
 */
export function comparePredictions(
  first: ReportedEvaluationRecord,
  firstLines: Buffer,
  second: ReportedEvaluationRecord,
  secondLines: Buffer,
): Comparison {
  checkComparable(first, second);
  return first.protocol === 'REGRESSION'
    ? compareNumbers(firstLines, secondLines)
    : compareLabels(first, firstLines, second, secondLines);
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

function compareLabels(
  first: ReportedEvaluationRecord,
  firstLines: Buffer,
  second: ReportedEvaluationRecord,
  secondLines: Buffer,
): Comparison {
  const labelNames = first.confusionMatrix?.labelNames ?? [];
  if (JSON.stringify(labelNames) !== JSON.stringify(second.confusionMatrix?.labelNames ?? []))
    throw notComparable('their labels differ');
  const [left, right] = [firstLines, secondLines].map((lines) => parseLines(lines, classifiedSchema));
  if (left === undefined || right === undefined) throw new Error('Give two evaluations.');
  checkSameImages(left, right);
  const pooled = (lines: typeof left): PooledPredictions => ({
    truth: Int32Array.from(lines, ({ label }) => labelNames.indexOf(label)),
    probabilities: Float64Array.from(lines.flatMap(({ probabilities }) => probabilities)),
    groups: lines.map(unitOf),
    labelNames,
  });
  const resampleCount = resamplesFor(left.length * labelNames.length);
  return comparisonOf(
    CLASSIFICATION_METRICS,
    scorePredictions(pooled(left), resampleCount, createRandom(COMPARISON_SEED)),
    scorePredictions(pooled(right), resampleCount, createRandom(COMPARISON_SEED)),
    left,
    resampleCount,
  );
}

function compareNumbers(firstLines: Buffer, secondLines: Buffer): Comparison {
  const [left, right] = [firstLines, secondLines].map((lines) => parseLines(lines, regressedSchema));
  if (left === undefined || right === undefined) throw new Error('Give two evaluations.');
  checkSameImages(left, right);
  const pooled = (lines: typeof left): PooledNumbers => ({
    truth: Float64Array.from(lines, ({ target }) => target),
    predicted: Float64Array.from(lines, ({ predicted }) => predicted),
    groups: lines.map(unitOf),
  });
  const resampleCount = resamplesFor(left.length);
  return comparisonOf(
    REGRESSION_METRICS,
    scoreNumbers(pooled(left), resampleCount, createRandom(COMPARISON_SEED)),
    scoreNumbers(pooled(right), resampleCount, createRandom(COMPARISON_SEED)),
    left,
    resampleCount,
  );
}

function resamplesFor(cost: number): number {
  return Math.max(RESAMPLES_MIN, Math.min(RESAMPLES, Math.floor(RESAMPLED_IMAGES_MAX / Math.max(1, cost))));
}

type Unit = Pick<z.infer<typeof predictedSchema>, 'group' | 'resamplingUnit'>;

function unitOf({ group, resamplingUnit }: Unit): string {
  return resamplingUnit ?? group ?? '';
}

interface Scored<Name extends string> {
  readonly metrics: Readonly<Record<Name, MetricEstimate>>;
  readonly replicates: Replicates<Name>;
}

function comparisonOf<Name extends string>(
  names: readonly Name[],
  first: Scored<Name>,
  second: Scored<Name>,
  lines: readonly Unit[],
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
    imageCount: lines.length,
    groupCount: new Set(lines.flatMap(({ group }) => group ?? [])).size,
    resampleCount,
  };
}

/** Line by line: the predictions of millions of images do not fit into one string. */
function parseLines<Line>(bytes: Buffer, schema: z.ZodType<Line>): Line[] {
  const lines: Line[] = [];
  for (let start = 0; start < bytes.length;) {
    const found = bytes.indexOf('\n', start);
    const end = found < 0 ? bytes.length : found;
    if (end > start) lines.push(schema.parse(JSON.parse(bytes.toString('utf8', start, end))));
    start = end + 1;
  }
  return lines;
}

function checkSameImages(left: readonly { readonly key: string }[], right: readonly { readonly key: string }[]): void {
  if (left.length !== right.length || left.some(({ key }, index) => key !== right[index]?.key))
    throw notComparable('they tested different images');
}

export function notComparable(why: string): DomainError {
  return new DomainError({
    code: 'EVALUATIONS_NOT_COMPARABLE',
    message: `The two evaluations cannot be compared: ${why}.`,
    field: 'b',
    hint: 'Launch both evaluations on one dataset version with the same folds and seed.',
  });
}
