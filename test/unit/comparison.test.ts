/** Paired comparisons of stored predictions, of this version of Paraffin and of earlier ones. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { comparePredictions, type ReadPredictions } from '../../src/modules/evaluations/comparison.ts';
import type { ReportedEvaluationRecord } from '../../src/modules/evaluations/evaluations.records.ts';

const evaluation: ReportedEvaluationRecord = {
  ...{ id: 'id', checkpointId: 'checkpoint', datasetVersionId: 'version', protocol: 'REGRESSION', runId: 'run' },
  ...{ seed: 1, predictionsSha256: null, ungroupedImageCount: null, createdAt: new Date(0), options: {} },
  ...{ split: { digest: 'folds' }, confusionMatrix: null, perClass: [], baselines: [], learningCurve: [] },
  ...{ leakage: null, metrics: [] },
};

/** Six images of three files. */
const IMAGES = ['a', 'a', 'b', 'b', 'ç', 'ç'].map((file, place) => ({ key: `é${place}`, file, target: place }));

function linesOf(groupOf: (file: string) => object, error: number): Buffer {
  const lines = IMAGES.map(
    ({ key, file, target }) =>
      `${JSON.stringify({ key, ...groupOf(file), target, predicted: target + error * (target - 2) })}\n`,
  );
  return Buffer.from(lines.join(''));
}

/** In chunks that divide lines, and characters of several bytes. */
function readingOf(lines: Buffer): ReadPredictions {
  return async (take) => {
    for (let start = 0; start < lines.length; start += 7) take(lines.subarray(start, start + 7));
  };
}

function compare(first: (file: string) => object, second: (file: string) => object) {
  return comparePredictions(evaluation, readingOf(linesOf(first, 0.1)), evaluation, readingOf(linesOf(second, 0.3)));
}

test('an image whose group is unknown is resampled with its file, and is not counted as a group', async () => {
  const onePatient = await compare(
    () => ({ group: 'patient', resamplingUnit: 'patient' }),
    () => ({ group: 'patient', resamplingUnit: 'patient' }),
  );
  const unknown = await compare(
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

test('predictions of an earlier version, whose group is the file, are paired with those of this one', async () => {
  const earlier = (file: string): object => ({ group: file });
  const paired = await compare(earlier, (file) => ({ group: null, resamplingUnit: file }));
  assert.deepEqual(paired.metrics, (await compare(earlier, earlier)).metrics);
});

test('the same number of other images, or the same images in another order, is refused', async () => {
  const grouped = (file: string): object => ({ group: file });
  const lines = linesOf(grouped, 0.1);
  const text = lines.toString('utf8');
  for (const other of [text.replace('é5', 'é6'), text.replace('é5', 'x').replace('é4', 'é5').replace('x', 'é4')])
    await assert.rejects(
      comparePredictions(evaluation, readingOf(lines), evaluation, readingOf(Buffer.from(other))),
      /they tested different images/,
    );
});

test('classifications are compared by their probabilities, and a last line may lack its newline', async () => {
  const classification: ReportedEvaluationRecord = {
    ...{ ...evaluation, protocol: 'LINEAR_PROBE' },
    confusionMatrix: { labelNames: ['no', 'yes'], counts: [] },
  };
  /** Of six images, three of each label, the first `wrongCount` are predicted wrongly. */
  const predictions = (wrongCount: number): Buffer =>
    Buffer.from(
      IMAGES.map(({ key, file }, place) => {
        const label = place % 2;
        const yes = (label === 1) === place >= wrongCount ? 0.9 : 0.1;
        const [name, predicted] = [label, Math.round(yes)].map((each) => ['no', 'yes'][each]);
        return JSON.stringify({ key, group: file, label: name, predicted, probabilities: [1 - yes, yes] });
      }).join('\n'),
    );
  const compared = await comparePredictions(
    ...([classification, readingOf(predictions(1)), classification, readingOf(predictions(3))] as const),
  );
  const accuracy = compared.metrics.find(({ name }) => name === 'accuracy');
  assert.deepEqual([compared.imageCount, compared.groupCount], [6, 3]);
  assert.ok(Math.abs((accuracy?.first ?? NaN) - 5 / 6) < 1e-12 && Math.abs((accuracy?.second ?? NaN) - 1 / 2) < 1e-12);
  await assert.rejects(
    comparePredictions(
      classification,
      readingOf(predictions(1)),
      classification,
      readingOf(linesOf(() => ({ group: 'a' }), 1)),
    ),
    /probabilities/,
  );
});

test('of damaged predictions the reading says so, not the line that cannot be read', async () => {
  const lines = linesOf((file) => ({ group: file }), 0.1);
  const damaged: ReadPredictions = async (take) => {
    await readingOf(Buffer.from(lines.toString('utf8').replace('"target"', '"t@rget"').replace('{', '[')))(take);
    throw new Error('The digest is wrong.');
  };
  await assert.rejects(comparePredictions(evaluation, readingOf(lines), evaluation, damaged), /The digest is wrong/);
});

test('chunks may lie in one buffer that the reading uses again', async () => {
  const grouped = (file: string): object => ({ group: file });
  const lines = linesOf(grouped, 0.1);
  const reused: ReadPredictions = async (take) => {
    const buffer = Buffer.alloc(7);
    for (let start = 0; start < lines.length; start += buffer.length)
      take(buffer.subarray(0, lines.copy(buffer, 0, start, start + buffer.length)));
  };
  const { metrics } = await comparePredictions(evaluation, reused, evaluation, readingOf(linesOf(grouped, 0.3)));
  assert.deepEqual(metrics, (await compare(grouped, grouped)).metrics);
});
