/** What may be evaluated. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { DomainError, type ErrorCode } from '../../src/errors.ts';
import {
  checkEvaluable,
  launchEvaluationSchema,
  type LabelledVersionFacts,
  type LaunchEvaluationInput,
  ungroupedImageCountOf,
} from '../../src/modules/evaluations/evaluations.rules.ts';
import { areGroupsKnown, intervalCaveat } from '../../src/statistics/interval-caveat.rules.ts';
import { overlapOf } from '../../src/modules/evaluations/leakage.rules.ts';
import { optionsOf, type EvaluationProtocolName } from '../../src/modules/evaluations/options.rules.ts';
import { parseInput } from '../../src/input.ts';
import type { LeakageRecord } from '../../src/protocol/evaluation.ts';

const input = (changes: object = {}): LaunchEvaluationInput =>
  parseInput(launchEvaluationSchema, {
    checkpointId: 'c',
    datasetVersionId: 'v',
    protocol: 'LINEAR_PROBE',
    folds: 5,
    ...changes,
  });
const version = (changes: Partial<LabelledVersionFacts> = {}): LabelledVersionFacts => ({
  labelNames: ['gland', 'tumour'],
  imageCount: 100,
  groupCount: 20,
  ungroupedImageCount: 0,
  hasSplit: false,
  ...changes,
});

function refusal(code: ErrorCode, field: string, words: RegExp = /\.$/): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof DomainError, String(error));
    assert.deepEqual([error.code, error.field], [code, field]);
    assert.match(error.message, words);
    return true;
  };
}

describe('images whose group is unknown', () => {
  const labelled = (count: number, ungroupedImageCount: number | null) => ({
    ...{ imageCount: 100, ungroupedImageCount },
    labelCounts: [{ label: 'gland', count }],
  });

  test('are counted by the evaluation, whatever is known of its version', () => {
    assert.equal(ungroupedImageCountOf({ ungroupedImageCount: 3 }, labelled(40, 100)), 3);
    assert.equal(ungroupedImageCountOf({ ungroupedImageCount: 0 }, labelled(40, null)), 0);
  });

  test('follow from the version of an older evaluation if all of its images, or none, lack a group or a label', () => {
    const older = { ungroupedImageCount: null };
    assert.equal(ungroupedImageCountOf(older, labelled(40, 0)), 0);
    assert.equal(ungroupedImageCountOf(older, labelled(40, 100)), 40);
    assert.equal(ungroupedImageCountOf(older, labelled(100, 7)), 7);
    assert.equal(ungroupedImageCountOf(older, labelled(40, 7)), null);
    assert.equal(ungroupedImageCountOf(older, labelled(40, null)), null);
    assert.equal(ungroupedImageCountOf(older, labelled(100, null)), null);
  });

  test('make intervals too narrow, or perhaps too narrow if they were not counted', () => {
    assert.deepEqual([0, 1, 7, null].map(areGroupsKnown), [true, false, false, null]);
    assert.equal(intervalCaveat(0), null);
    assert.match(
      intervalCaveat(1) ?? '',
      /^The patient or slide of 1 image is not known: the intervals are too narrow/,
    );
    assert.match(intervalCaveat(7) ?? '', /^The patient or slide of 7 images is not known/);
    assert.match(intervalCaveat(null) ?? '', /not recorded .* may be too narrow/);
  });
});

describe('evaluable', () => {
  test('two labels, and as many images and groups as folds', () => {
    checkEvaluable(input(), version());
    checkEvaluable(input(), version({ imageCount: 5, groupCount: 5 }));
  });

  test('a version whose groups are unknown: its files are divided', () => {
    checkEvaluable(input(), version({ groupCount: 0, ungroupedImageCount: 100 }));
  });

  test('a version that has its own split needs no folds', () => {
    checkEvaluable(input({ folds: 100 }), version({ hasSplit: true, imageCount: 4, groupCount: 2 }));
  });
});

describe('refused', () => {
  test('a regression on labels that are not numbers', () => {
    checkEvaluable(input({ protocol: 'REGRESSION' }), version({ labelNames: ['0.5', '-1e3', '7'] }));
    for (const word of ['high', '', ' ', 'NaN', 'Infinity']) {
      assert.throws(
        () => checkEvaluable(input({ protocol: 'REGRESSION' }), version({ labelNames: ['0.5', word] })),
        refusal('LABELS_NOT_NUMERIC', 'input.datasetVersionId'),
      );
    }
  });

  test('no label, and a single label, which is named', () => {
    assert.throws(
      () => checkEvaluable(input(), version({ labelNames: [] })),
      refusal('TOO_FEW_LABELS', 'input.datasetVersionId', /no labels/),
    );
    assert.throws(
      () => checkEvaluable(input(), version({ labelNames: ['tumour'] })),
      refusal('TOO_FEW_LABELS', 'input.datasetVersionId', /"tumour"/),
    );
    assert.throws(
      () => checkEvaluable(input(), version({ labelNames: ['tumour'], hasSplit: true })),
      refusal('TOO_FEW_LABELS', 'input.datasetVersionId'),
    );
  });

  test('fewer images than folds, fewer groups than folds', () => {
    assert.throws(
      () => checkEvaluable(input(), version({ imageCount: 4, groupCount: 4 })),
      refusal('TOO_FEW_IMAGES', 'input.folds', /4 images, fewer than 5 folds/),
    );
    assert.throws(
      () => checkEvaluable(input(), version({ groupCount: 4 })),
      refusal('TOO_FEW_GROUPS', 'input.folds', /4 groups, fewer than 5 folds/),
    );
  });

  const cases: readonly (readonly [object, string])[] = [
    [{ folds: 1 }, 'input.folds'],
    [{ folds: 101 }, 'input.folds'],
    [{ folds: 2.5 }, 'input.folds'],
    [{ seed: -1 }, 'input.seed'],
    [{ protocol: 'GUESS' }, 'input.protocol'],
    [{ idempotencyKey: '' }, 'input.idempotencyKey'],
    [{ idempotencyKey: 'a\0b' }, 'input.idempotencyKey'],
  ];
  for (const [changes, field] of cases) {
    test(`BAD_INPUT for ${JSON.stringify(changes)}`, () => {
      assert.throws(() => input(changes), refusal('BAD_INPUT', field));
    });
  }
});

describe('options', () => {
  test('get the defaults of their protocol', () => {
    const curve = { bootstrapResamples: 1000, labelFractions: [], shotsPerClass: [], drawCount: 10 };
    assert.deepEqual(optionsOf('LINEAR_PROBE', undefined), curve);
    assert.deepEqual(optionsOf('KNN', null), curve);
    assert.deepEqual(optionsOf('FINE_TUNE', { maxEpochs: 3 }), {
      bootstrapResamples: 1000,
      maxEpochs: 3,
      batchSize: 32,
      learningRate: 0.003,
      patienceEpochs: 5,
    });
    assert.deepEqual(optionsOf('REGRESSION', {}), { bootstrapResamples: 1000 });
  });

  const cases: readonly (readonly [EvaluationProtocolName, unknown, string])[] = [
    ['LINEAR_PROBE', { bootstrapResamples: 99 }, 'input.options.bootstrapResamples'],
    ['REGRESSION', { bootstrapResamples: 10_001 }, 'input.options.bootstrapResamples'],
    ['LINEAR_PROBE', { c: 1 }, 'input.options'],
    ['LINEAR_PROBE', 'fast', 'input.options'],
    ['LINEAR_PROBE', { labelFractions: [0] }, 'input.options.labelFractions.0'],
    ['KNN', { shotsPerClass: [1, 0] }, 'input.options.shotsPerClass.1'],
    ['KNN', { drawCount: 101 }, 'input.options.drawCount'],
    ['KNN', { learningRate: 1 }, 'input.options'],
    ['FINE_TUNE', { learningRate: 0 }, 'input.options.learningRate'],
    ['FINE_TUNE', { labelFractions: [0.5] }, 'input.options'],
    ['REGRESSION', { drawCount: 3 }, 'input.options'],
  ];
  for (const [protocol, options, field] of cases) {
    test(`of ${protocol}: BAD_INPUT for ${JSON.stringify(options)}`, () =>
      assert.throws(() => optionsOf(protocol, options), refusal('BAD_INPUT', field)));
  }
});

describe('an overlap with the pretraining', () => {
  const clean: LeakageRecord = {
    isComplete: true,
    isUpperBound: false,
    testImageCount: 9,
    exactImageCount: 0,
    nearDuplicateImageCount: 0,
    testGroupCount: 3,
    sharedGroupCount: 0,
    sharedDatasets: [],
    sharedCollections: [],
    unhashedVersionCount: 0,
  };
  const cases: readonly (readonly [string, Partial<LeakageRecord>, boolean | null])[] = [
    ['no image, group, dataset or collection in common', {}, false],
    ['an image', { exactImageCount: 1 }, true],
    ['a like image', { nearDuplicateImageCount: 1 }, true],
    ['a patient', { sharedGroupCount: 1 }, true],
    ['the dataset', { sharedDatasets: ['bach'] }, true],
    ['a parent collection', { sharedCollections: ['tcga'] }, true],
    ['an image, whatever else is not known', { exactImageCount: 1, isComplete: false }, true],
    ['nothing that is known, but an ancestor is not', { isComplete: false }, null],
    [
      'nothing that is known, but images were not hashed',
      { exactImageCount: null, nearDuplicateImageCount: null, unhashedVersionCount: 1 },
      null,
    ],
  ];
  for (const [what, changes, expected] of cases)
    test(what, () => assert.equal(overlapOf({ ...clean, ...changes }), expected));
});
