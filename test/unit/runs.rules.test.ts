/** The rules of launching: ranges, defaults of the paper, and what is refused. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { DomainError, type ErrorCode } from '../../src/errors.ts';
import { digestOfInput, parseInput } from '../../src/input.ts';
import { checkImportChoice, importDatasetVersionSchema, titleOfImport } from '../../src/modules/runs/imports.rules.ts';
import {
  checkPretrainingChoice,
  freezePretraining,
  launchPretrainingSchema,
  pretrainingConfigSchema,
  titleOfPretraining,
  type LaunchPretrainingInput,
} from '../../src/modules/runs/runs.rules.ts';
import { DEFAULT_AUGMENTATION } from '../../workers/engine/augment/config.ts';

const VERSION_ID = '0197a000-0000-7000-8000-000000000001';
const OTHER_ID = '0197a000-0000-7000-8000-000000000002';

function input(changes: Record<string, unknown> = {}): Record<string, unknown> {
  return {
    modelSlug: 'tissue',
    datasets: [{ datasetVersionId: VERSION_ID }],
    encoder: 'RESNET18',
    imageSizePx: 224,
    batchSize: 256,
    steps: 1000,
    temperature: 0.5,
    sampling: 'EVEN',
    precision: 'FLOAT32',
    ...changes,
  };
}

const parse = (changes: Record<string, unknown> = {}): LaunchPretrainingInput =>
  parseInput(launchPretrainingSchema, input(changes));
const version = (imageCount: number, id = VERSION_ID) => ({ id, digest: 'd'.repeat(64), imageCount });

function refusal(code: ErrorCode, field: string): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof DomainError, String(error));
    assert.equal(error.code, code);
    assert.equal(error.field, field);
    assert.match(error.message, /\.$/);
    return true;
  };
}

describe('defaults of a pretraining', () => {
  test('learning rate is 0.3 x batchSize / 256, weight decay 1e-6, projection 128', () => {
    const config = freezePretraining(parse({ batchSize: 64 }), [version(1000)], 7);
    assert.equal(config.learningRate, (0.3 * 64) / 256);
    assert.equal(config.weightDecay, 1e-6);
    assert.equal(config.projectionDim, 128);
    assert.equal(config.momentum, 0.9);
  });

  test('epochs become steps of whole batches, and warm-up is ten epochs', () => {
    const config = freezePretraining(parse({ steps: null, epochs: 200, batchSize: 100 }), [version(1050)], 7);
    assert.equal(config.steps, 2000);
    assert.equal(config.warmupSteps, 100);
  });

  test('warm-up takes at most a tenth of a short run', () => {
    assert.equal(freezePretraining(parse({ steps: 50, batchSize: 100 }), [version(10_000)], 7).warmupSteps, 5);
  });

  test('the seed of the input wins over the drawn one', () => {
    assert.equal(freezePretraining(parse({ seed: 3 }), [version(1000)], 7).seed, 3);
    assert.equal(freezePretraining(parse(), [version(1000)], 7).seed, 7);
  });

  test('an augmentation names only what differs from the paper', () => {
    const config = freezePretraining(parse({ augmentation: { blurProbability: 0 } }), [version(1000)], 7);
    assert.equal(config.augmentation.blurProbability, 0);
    assert.equal(config.augmentation.cropScaleMin, 0.08);
    assert.equal(config.augmentation.greyProbability, 0.2);
  });

  test("the server's defaults are the engine's", () => {
    assert.deepEqual(freezePretraining(parse(), [version(1000)], 7).augmentation, DEFAULT_AUGMENTATION);
  });

  const refusedAugmentations: [string, Record<string, unknown>, string][] = [
    ['a number for a switch', { flip: 1 }, 'flip'],
    ['a text for a number', { blurProbability: '0.5' }, 'blurProbability'],
    ['NaN', { greyProbability: Number.NaN }, 'greyProbability'],
    ['a probability above 1', { colourJitterProbability: 1.1 }, 'colourJitterProbability'],
    ['a negative strength', { colourJitterStrength: -0.1 }, 'colourJitterStrength'],
    ['a crop of nothing', { cropScaleMin: 0 }, 'cropScaleMin'],
  ];
  for (const [what, augmentation, field] of refusedAugmentations) {
    test(`an augmentation with ${what} is refused`, () => {
      assert.throws(() => parse({ augmentation }), refusal('BAD_INPUT', `input.augmentation.${field}`));
    });
  }

  test('zero steps are the random control and need no positive epochs', () => {
    assert.equal(freezePretraining(parse({ steps: 0 }), [version(1000)], 7).steps, 0);
  });
});

describe('refused pretrainings', () => {
  const cases: [string, Record<string, unknown>, string][] = [
    ['batchSize 1', { batchSize: 1 }, 'input.batchSize'],
    ['batchSize 0', { batchSize: 0 }, 'input.batchSize'],
    ['batchSize beyond the cap', { batchSize: 8193 }, 'input.batchSize'],
    ['negative temperature', { temperature: -0.5 }, 'input.temperature'],
    ['zero temperature', { temperature: 0 }, 'input.temperature'],
    ['more steps than sense', { steps: 10_000_001 }, 'input.steps'],
    ['negative steps', { steps: -1 }, 'input.steps'],
    ['negative epochs', { steps: null, epochs: -1 }, 'input.epochs'],
    ['an image too small for five halvings', { imageSizePx: 16 }, 'input.imageSizePx'],
    ['an image too large', { imageSizePx: 2048 }, 'input.imageSizePx'],
    ['no dataset', { datasets: [] }, 'input.datasets'],
    ['an invalid id', { datasets: [{ datasetVersionId: 'nonsense' }] }, 'input.datasets.0.datasetVersionId'],
    ['a weight of zero', { datasets: [{ datasetVersionId: VERSION_ID, weight: 0 }] }, 'input.datasets.0.weight'],
    ['a slug with capitals', { modelSlug: 'My Model' }, 'input.modelSlug'],
    ['a learning rate of zero', { learningRate: 0 }, 'input.learningRate'],
    ['a checkpoint every zero steps', { checkpointEverySteps: 0 }, 'input.checkpointEverySteps'],
    ['a negative seed', { seed: -1 }, 'input.seed'],
    ['an unknown augmentation', { augmentation: { rotate: true } }, 'input.augmentation'],
    ['an augmentation out of range', { augmentation: { greyProbability: 2 } }, 'input.augmentation.greyProbability'],
    [
      'crop scales the wrong way round',
      { augmentation: { cropScaleMin: 0.9, cropScaleMax: 0.5 } },
      'input.augmentation.cropScaleMin',
    ],
    ['an empty idempotency key', { idempotencyKey: '' }, 'input.idempotencyKey'],
  ];
  for (const [title, changes, field] of cases) {
    test(title, () => {
      assert.throws(() => parse(changes), refusal('BAD_INPUT', field));
    });
  }

  test('neither epochs nor steps, or both', () => {
    assert.throws(() => checkPretrainingChoice(parse({ steps: null })), refusal('BAD_INPUT', 'input.steps'));
    assert.throws(() => checkPretrainingChoice(parse({ epochs: 3 })), refusal('BAD_INPUT', 'input.steps'));
  });

  test('one version named twice', () => {
    const twice = parse({ datasets: [{ datasetVersionId: VERSION_ID }, { datasetVersionId: VERSION_ID }] });
    assert.throws(() => checkPretrainingChoice(twice), refusal('BAD_INPUT', 'input.datasets.1.datasetVersionId'));
  });

  test('a microBatchSize that does not divide the batch, or is one image', () => {
    assert.throws(
      () => checkPretrainingChoice(parse({ batchSize: 64, microBatchSize: 24 })),
      refusal('BAD_INPUT', 'input.microBatchSize'),
    );
    assert.throws(
      () => checkPretrainingChoice(parse({ batchSize: 64, microBatchSize: 128 })),
      refusal('BAD_INPUT', 'input.microBatchSize'),
    );
    assert.throws(() => parse({ microBatchSize: 1 }), refusal('BAD_INPUT', 'input.microBatchSize'));
    checkPretrainingChoice(parse({ batchSize: 64, microBatchSize: 16 }));
    assert.equal(
      freezePretraining(parse({ batchSize: 64, microBatchSize: 16 }), [version(1000)], 7).microBatchSize,
      16,
    );
    const { microBatchSize, ...older } = freezePretraining(parse(), [version(1000)], 7);
    assert.equal(microBatchSize, null);
    assert.equal(pretrainingConfigSchema.parse(older).microBatchSize, null);
  });

  test('a precision that does not exist, while both that do are frozen as they are', () => {
    assert.throws(() => parse({ precision: 'FLOAT16' }), refusal('BAD_INPUT', 'input.precision'));
    for (const precision of ['FLOAT32', 'BFLOAT16'] as const) {
      checkPretrainingChoice(parse({ precision }));
      assert.equal(freezePretraining(parse({ precision }), [version(1000)], 7).precision, precision);
    }
  });

  test('fewer images than a batch, maxImages counted', () => {
    assert.throws(() => freezePretraining(parse(), [version(255)], 7), refusal('DATASET_TOO_SMALL', 'input.batchSize'));
    const capped = parse({
      datasets: [
        { datasetVersionId: VERSION_ID, maxImages: 100 },
        { datasetVersionId: OTHER_ID, maxImages: 100 },
      ],
    });
    assert.throws(
      () => freezePretraining(capped, [version(5000), version(5000, OTHER_ID)], 7),
      refusal('DATASET_TOO_SMALL', 'input.batchSize'),
    );
  });

  test('epochs that come to more steps than sense', () => {
    assert.throws(
      () => freezePretraining(parse({ steps: null, epochs: 100_000, batchSize: 2 }), [version(1_000_000)], 7),
      refusal('BAD_INPUT', 'input.epochs'),
    );
  });

  test('all faults are reported at once', () => {
    assert.throws(
      () => parse({ batchSize: 0, temperature: -1 }),
      (error: unknown) => error instanceof DomainError && (error.hint ?? '').includes('temperature'),
    );
  });
});

describe('imports', () => {
  const importInput = (changes: Record<string, unknown>) =>
    parseInput(importDatasetVersionSchema, { datasetId: VERSION_ID, path: '/images', layout: 'FLAT', ...changes });

  test('CSV needs its file, and no other layout takes one', () => {
    assert.throws(() => checkImportChoice(importInput({ layout: 'CSV' })), refusal('BAD_INPUT', 'input.labelsCsvPath'));
    assert.throws(
      () => checkImportChoice(importInput({ labelsCsvPath: '/labels.csv' })),
      refusal('BAD_INPUT', 'input.labelsCsvPath'),
    );
    checkImportChoice(importInput({ layout: 'CSV', labelsCsvPath: '/labels.csv' }));
  });

  test('patches are 32 to 4096 px', () => {
    assert.throws(() => importInput({ patchSizePx: 31 }), refusal('BAD_INPUT', 'input.patchSizePx'));
    assert.throws(() => importInput({ patchSizePx: 4097 }), refusal('BAD_INPUT', 'input.patchSizePx'));
  });
});

describe('the title of a run', () => {
  const config = freezePretraining(parse({ encoder: 'RESNET50', steps: 400 }), [version(1000)], 7);

  test('names what is trained on what, and how long', () => {
    assert.equal(titleOfPretraining(config, ['breakhis@2']), 'tissue: resnet50 on breakhis@2, 400 steps');
  });

  test('names three of many versions', () => {
    assert.equal(titleOfPretraining(config, ['a@1', 'b@1', 'c@1']), 'tissue: resnet50 on a@1, b@1, c@1, 400 steps');
    assert.equal(
      titleOfPretraining(config, ['a@1', 'b@1', 'c@1', 'd@1', 'e@3']),
      'tissue: resnet50 on a@1, b@1, c@1 and 2 more, 400 steps',
    );
  });

  test('says that weights are random where nothing is trained', () => {
    assert.equal(titleOfPretraining({ ...config, steps: 0 }, ['a@1']), 'tissue: resnet50, random weights');
  });

  test("names the last part of an import's path, whatever it is called", () => {
    assert.equal(titleOfImport('kolon', '/data/Präparate 2026/Färbung', false), 'kolon from Färbung');
    assert.equal(titleOfImport('kolon', '/data/line\nbreak/', false), 'kolon from line\nbreak');
    assert.equal(titleOfImport('kolon', '/', false), 'kolon from /');
    assert.equal(titleOfImport('kolon', '/data/x', true), 'dry run: kolon from x');
  });
});

describe('digest of an input', () => {
  test('does not depend on the order of keys, and absent equals null', () => {
    assert.equal(digestOfInput({ a: 1, b: { c: [1, 2], d: null } }), digestOfInput({ b: { c: [1, 2] }, a: 1 }));
  });

  test('depends on values and on the order of lists', () => {
    assert.notEqual(digestOfInput({ a: [1, 2] }), digestOfInput({ a: [2, 1] }));
    assert.notEqual(digestOfInput({ a: 1 }), digestOfInput({ a: 2 }));
  });
});
