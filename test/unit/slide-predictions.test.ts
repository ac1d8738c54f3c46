/** The predictions of one slide among the stored predictions of an evaluation. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DomainError } from '../../src/errors.ts';
import { predictionsOfSlide } from '../../src/modules/evaluations/slide-predictions.ts';

const LABELS = ['benign', 'tumour'];
const classified = (key: string, tumour: number): object => ({
  ...{ key, group: 'p', resamplingUnit: 'p', label: 'benign' },
  ...{ predicted: tumour > 0.5 ? 'tumour' : 'benign', probabilities: [1 - tumour, tumour] },
});

/** Passes the lines on in pieces of a few bytes, over the same memory. */
const reading =
  (...lines: readonly (object | string)[]) =>
  async (take: (bytes: Uint8Array) => void): Promise<void> => {
    const bytes = Buffer.from(
      lines.map((line) => `${typeof line === 'string' ? line : JSON.stringify(line)}\n`).join(''),
    );
    const memory = new Uint8Array(7);
    for (let start = 0; start < bytes.length; start += memory.length) {
      const piece = bytes.subarray(start, start + memory.length);
      memory.set(piece);
      take(memory.subarray(0, piece.length));
    }
    await Promise.resolve();
  };

test('are found by key, whatever their order, and patches that were not tested have none', async () => {
  const read = reading(classified('00000007', 0.25), classified('00000001', 0.9), classified('00000002', 0.123456));
  const keys = ['00000001', '00000002', '00000003'];
  assert.deepEqual(await predictionsOfSlide(keys, read, LABELS, null), {
    ...{ labelNames: LABELS, label: 'tumour' },
    predicted: [1, 0, null],
    scores: [0.9, 0.1235, null],
  });
  const ofBenign = await predictionsOfSlide(keys, read, LABELS, 'benign');
  assert.deepEqual([ofBenign.label, ofBenign.scores], ['benign', [0.1, 0.8765, null]]);
});

test('of a regression are numbers', async () => {
  const read = reading(
    { key: 'a', group: null, resamplingUnit: 'f', target: 3, predicted: 2.71828 },
    { key: 'c', group: null, resamplingUnit: 'f', target: 3, predicted: 1 },
  );
  assert.deepEqual(await predictionsOfSlide(['a', 'b'], read, null, 'ignored'), {
    ...{ labelNames: [], label: null, predicted: [null, null], scores: [2.718, null] },
  });
});

test('are also found where a line does not begin with its key, or where its key is escaped', async () => {
  const { key: _key, ...rest } = { key: '', ...classified('x', 0.75) };
  const read = reading({ ...rest, key: 'x' }, classified('a"b', 1));
  const { scores } = await predictionsOfSlide(['x', 'a"b'], read, LABELS, null);
  assert.deepEqual(scores, [0.75, 1]);
});

test('of a label that the evaluation does not have are refused before anything is read', async () => {
  const read = async (): Promise<void> => assert.fail('read');
  await assert.rejects(
    predictionsOfSlide([], read, LABELS, 'stroma'),
    (error) =>
      error instanceof DomainError &&
      error.code === 'BAD_INPUT' &&
      error.field === 'label' &&
      error.hint === 'Its labels are "benign", "tumour".',
  );
});

test('that are damaged are an error where they are of the slide', async () => {
  const damaged = '{"key":"00000001","label":"benign"}';
  await assert.rejects(predictionsOfSlide(['00000001'], reading(damaged), LABELS, null), /probabilities/);
  await assert.rejects(predictionsOfSlide(['00000001'], reading('{"key'), LABELS, null), SyntaxError);
});
