/** What may be evaluated. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { DomainError, type ErrorCode } from '../../src/errors.ts';
import { checkEvaluable, launchEvaluationSchema, type LabelledVersionFacts, type LaunchEvaluationInput } from '../../src/modules/evaluations/evaluations.rules.ts';
import { parseInput } from '../../src/input.ts';

const input = (changes: object = {}): LaunchEvaluationInput =>
  parseInput(launchEvaluationSchema, { checkpointId: 'c', datasetVersionId: 'v', protocol: 'LINEAR_PROBE', folds: 5, ...changes });
const version = (changes: Partial<LabelledVersionFacts> = {}): LabelledVersionFacts => ({ labelNames: ['gland', 'tumour'], imageCount: 100, groupCount: 20, hasSplit: false, ...changes });

function refusal(code: ErrorCode, field: string, words: RegExp = /\.$/): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof DomainError, String(error));
    assert.deepEqual([error.code, error.field], [code, field]);
    assert.match(error.message, words);
    return true;
  };
}

describe('evaluable', () => {
  test('two labels, and as many images and groups as folds', () => {
    checkEvaluable(input(), version());
    checkEvaluable(input(), version({ imageCount: 5, groupCount: 5 }));
  });

  test('a version that brings its own split needs no folds', () => {
    checkEvaluable(input({ folds: 100 }), version({ hasSplit: true, imageCount: 4, groupCount: 2 }));
  });
});

describe('refused', () => {
  test('protocols of later', () => {
    for (const protocol of ['KNN', 'FINE_TUNE', 'REGRESSION']) assert.throws(() => checkEvaluable(input({ protocol }), version()), refusal('NOT_AVAILABLE', 'input.protocol', new RegExp(protocol)));
  });

  test('no label, and one label, by its name', () => {
    assert.throws(() => checkEvaluable(input(), version({ labelNames: [] })), refusal('TOO_FEW_LABELS', 'input.datasetVersionId', /no labels/));
    assert.throws(() => checkEvaluable(input(), version({ labelNames: ['tumour'] })), refusal('TOO_FEW_LABELS', 'input.datasetVersionId', /"tumour"/));
    assert.throws(() => checkEvaluable(input(), version({ labelNames: ['tumour'], hasSplit: true })), refusal('TOO_FEW_LABELS', 'input.datasetVersionId'));
  });

  test('fewer images than folds, fewer groups than folds', () => {
    assert.throws(() => checkEvaluable(input(), version({ imageCount: 4, groupCount: 4 })), refusal('TOO_FEW_IMAGES', 'input.folds', /4 images, fewer than 5 folds/));
    assert.throws(() => checkEvaluable(input(), version({ groupCount: 4 })), refusal('TOO_FEW_GROUPS', 'input.folds', /4 groups, fewer than 5 folds/));
  });

  const cases: readonly (readonly [object, string])[] = [
    [{ folds: 1 }, 'input.folds'], [{ folds: 101 }, 'input.folds'], [{ folds: 2.5 }, 'input.folds'], [{ seed: -1 }, 'input.seed'], [{ protocol: 'GUESS' }, 'input.protocol'],
    [{ options: { bootstrapResamples: 99 } }, 'input.options.bootstrapResamples'], [{ options: { bootstrapResamples: 10_001 } }, 'input.options.bootstrapResamples'],
    [{ options: { c: 1 } }, 'input.options'], [{ options: 'fast' }, 'input.options'], [{ idempotencyKey: '' }, 'input.idempotencyKey'], [{ idempotencyKey: 'a\0b' }, 'input.idempotencyKey'],
  ];
  for (const [changes, field] of cases) {
    test(`BAD_INPUT for ${JSON.stringify(changes)}`, () => {
      assert.throws(() => input(changes), refusal('BAD_INPUT', field));
    });
  }
});
