/** Paired comparisons of stored predictions, of this version of Paraffin and of earlier ones. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { comparePredictions } from '../../src/modules/evaluations/comparison.ts';
import type { ReportedEvaluationRecord } from '../../src/modules/evaluations/evaluations.records.ts';

const evaluation: ReportedEvaluationRecord = {
  ...{ id: 'id', checkpointId: 'checkpoint', datasetVersionId: 'version', protocol: 'REGRESSION', runId: 'run' },
  ...{ seed: 1, predictionsSha256: null, ungroupedImageCount: null, createdAt: new Date(0), options: {} },
  ...{ split: { digest: 'folds' }, confusionMatrix: null, perClass: [], baselines: [], learningCurve: [] },
  ...{ leakage: null, metrics: [] },
};

/** Six images of three files. */
const IMAGES = ['a', 'a', 'b', 'b', 'c', 'c'].map((file, place) => ({ key: `${place}`, file, target: place }));

function linesOf(groupOf: (file: string) => object, error: number): Buffer {
  const lines = IMAGES.map(
    ({ key, file, target }) =>
      `${JSON.stringify({ key, ...groupOf(file), target, predicted: target + error * (target - 2) })}\n`,
  );
  return Buffer.from(lines.join(''));
}

function compare(first: (file: string) => object, second: (file: string) => object) {
  return comparePredictions(evaluation, linesOf(first, 0.1), evaluation, linesOf(second, 0.3));
}

test('an image whose group is unknown is resampled with its file, and is not counted as a group', () => {
  const onePatient = compare(
    () => ({ group: 'patient', resamplingUnit: 'patient' }),
    () => ({ group: 'patient', resamplingUnit: 'patient' }),
  );
  const unknown = compare(
    (file) => ({ group: null, resamplingUnit: file }),
    (file) => ({ group: null, resamplingUnit: file }),
  );
  assert.deepEqual([onePatient.groupCount, unknown.groupCount], [1, 0]);
  // Every resample of one patient is the whole, and resamples of three files differ in their errors.
  const widthOf = ({ metrics }: typeof unknown): number => {
    const error = metrics.find(({ name }) => name === 'meanAbsoluteError');
    return error === undefined ? NaN : error.ci95High - error.ci95Low;
  };
  assert.ok(Math.abs(widthOf(onePatient)) < 1e-12);
  assert.ok(widthOf(unknown) > 0.01);
});

test('predictions of an earlier version, whose group is the file, are paired with those of this one', () => {
  const earlier = (file: string): object => ({ group: file });
  const paired = compare(earlier, (file) => ({ group: null, resamplingUnit: file }));
  assert.deepEqual(paired.metrics, compare(earlier, earlier).metrics);
});
