/** Launching a pretraining: the defaults of each recipe, the steps that a budget allows, and refused input. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { augmentationSchema } from '../../src/protocol/pretraining/augmentation.ts';
import { DomainError, type ErrorCode } from '../../src/errors.ts';
import { parseInput } from '../../src/input.ts';
import {
  checkPretrainingChoice,
  launchPretrainingSchema,
  type LaunchPretrainingInput,
} from '../../src/modules/runs/pretraining-input.rules.ts';
import { freezePretraining } from '../../src/modules/runs/pretraining.rules.ts';
import { smallerMicroBatch } from '../../src/modules/runs/runs.rules.ts';
import { shortNumber } from '../../src/protocol/pretraining/explanation.ts';
import { reserveSeconds } from '../../src/protocol/pretraining/budget.ts';
import { OPTIMIZER_NAMES, OPTIMIZER_PARAMETERS } from '../../src/protocol/pretraining/optimizer.ts';
import { DEFAULT_AUGMENTATION } from '../../workers/engine/augment/config.ts';
import { createOptimizer } from '../../workers/engine/optim/index.ts';
import {
  explanationOf,
  inputContractOf,
  pretrainingConfigSchema,
  titleOfPretraining,
  unplannedPretrainingSchema,
  type PretrainingConfig,
  type UnplannedPretraining,
} from '../../src/protocol/pretraining/config.ts';
import { fasterPrecision, imageSizePxWithin, planPretraining, replanned } from '../../src/protocol/pretraining/plan.ts';

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

/** Leaves everything to the recipe. */
const OPEN = { imageSizePx: null, batchSize: null, temperature: null, precision: null };

/** The config of a launch with steps or epochs. */
function frozen(changes: Record<string, unknown> = {}, imageCount = 1000): PretrainingConfig {
  const config = freezePretraining(parse(changes), [version(imageCount)], 7);
  assert.ok(config.steps !== null);
  return config;
}

/** The config of a launch with a budget that leaves everything else to the recipe. */
function unplanned(changes: Record<string, unknown> = {}, imageCount = 12_881): UnplannedPretraining {
  const wanted = parse({ ...OPEN, steps: null, budget: '1h', ...changes });
  checkPretrainingChoice(wanted);
  const config = freezePretraining(wanted, [version(imageCount)], 7);
  assert.ok(config.steps === null);
  // The config as it is read back from the database.
  return unplannedPretrainingSchema.parse(JSON.parse(JSON.stringify(config)));
}

const speed = (imagesPerSecond: number, imageSizePx = 64, precision: 'FLOAT32' | 'BFLOAT16' = 'FLOAT32') => ({
  imagesPerSecond,
  imageSizePx,
  precision,
});

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
  test('PAPER gives the config of every run before recipes were introduced', () => {
    const config = frozen({ recipe: 'PAPER', batchSize: 64 });
    assert.equal(config.learningRate, (0.3 * 64) / 256);
    assert.deepEqual(config.optimizer, { name: 'LARS', momentum: 0.9, weightDecay: 1e-6 });
    assert.deepEqual(config.method, { name: 'SIMCLR', temperature: 0.5, projectionDim: 128, decoupled: false });
    assert.deepEqual(config.augmentation, DEFAULT_AUGMENTATION);
    const left = frozen({ ...OPEN, recipe: 'PAPER' });
    assert.deepEqual(
      [left.imageSizePx, left.sourceSizePx, left.batchSize, left.method, left.precision],
      [224, 256, 256, config.method, 'FLOAT32'],
    );
  });

  test('a run from before recipes were introduced is read as PAPER with LARS', () => {
    const { recipe, optimizer, method, viewSizePx, earlierPlans, budget, named, explanation, ...older } = frozen({
      recipe: 'PAPER',
    });
    assert.ok(optimizer.name === 'LARS' && recipe === 'PAPER');
    const { name, ...parameters } = optimizer;
    const read = pretrainingConfigSchema.parse({ ...older, ...parameters, temperature: 0.5, projectionDim: 128 });
    assert.deepEqual(read.method, method);
    assert.deepEqual(
      [read.recipe, read.optimizer, read.viewSizePx, read.earlierPlans, read.budget, read.explanation],
      ['PAPER', { name, ...parameters }, viewSizePx, earlierPlans, budget, []],
    );
    assert.equal(viewSizePx, older.imageSizePx);
    assert.ok(explanation.length > 0 && named.imageSizePx);
  });

  test('values that are not given come from the recipe, by optimizer and batch size', () => {
    const config = frozen({ ...OPEN, steps: 2000 }, 20_000);
    const paper = frozen({ ...OPEN, steps: 2000, recipe: 'PAPER' }, 20_000);
    assert.notEqual(config.optimizer.name, paper.optimizer.name);
    assert.ok(config.augmentation.cropScaleMin > paper.augmentation.cropScaleMin);
    for (const name of OPTIMIZER_NAMES) {
      const named = frozen({ optimizer: { name } });
      assert.equal(named.optimizer.name, name);
      // The engine accepts it unchanged.
      createOptimizer([], named.optimizer).dispose();
      for (const parameter of OPTIMIZER_PARAMETERS[name]) assert.ok(parameter in named.optimizer, parameter);
    }
    assert.deepEqual(frozen({ optimizer: { name: 'SGD', nesterov: true, weightDecay: 0.01 } }).optimizer, {
      name: 'SGD',
      momentum: 0.9,
      nesterov: true,
      weightDecay: 0.01,
    });
  });

  test('epochs become steps of whole batches, and warm-up is ten epochs', () => {
    const config = frozen({ recipe: 'PAPER', steps: null, epochs: 200, batchSize: 100 }, 1050);
    assert.equal(config.steps, 2000);
    assert.equal(config.warmupSteps, 100);
  });

  test('warm-up takes at most a tenth of a short run', () => {
    assert.equal(frozen({ recipe: 'PAPER', steps: 50, batchSize: 100 }, 10_000).warmupSteps, 5);
  });

  test('the seed of the input wins over the drawn one', () => {
    assert.equal(frozen({ seed: 3 }).seed, 3);
    assert.equal(frozen().seed, 7);
  });

  test('stains are not jittered by default, nor by runs from before they could be', () => {
    for (const recipe of ['DEFAULT', 'PAPER'] as const) {
      const { augmentation } = frozen({ recipe });
      assert.equal(augmentation.stainJitterStrength, 0);
      const { stainJitterStrength: _, stainJitterProbability: __, ...older } = augmentation;
      assert.deepEqual(augmentationSchema.parse(older), augmentation);
    }
  });

  test('an augmentation gives only the values that differ from the recipe', () => {
    const config = frozen({ recipe: 'PAPER', augmentation: { blurProbability: 0 } });
    assert.equal(config.augmentation.blurProbability, 0);
    assert.equal(config.augmentation.cropScaleMin, 0.08);
    assert.equal(config.augmentation.greyProbability, 0.2);
  });

  const refusedAugmentations: [string, Record<string, unknown>, string][] = [
    ['a number for a switch', { flip: 1 }, 'flip'],
    ['a text for a number', { blurProbability: '0.5' }, 'blurProbability'],
    ['NaN', { greyProbability: Number.NaN }, 'greyProbability'],
    ['a probability above 1', { colourJitterProbability: 1.1 }, 'colourJitterProbability'],
    ['a negative strength', { colourJitterStrength: -0.1 }, 'colourJitterStrength'],
    ['a stain jitter above 1', { stainJitterStrength: 1.1 }, 'stainJitterStrength'],
    ['a crop of nothing', { cropScaleMin: 0 }, 'cropScaleMin'],
  ];
  for (const [what, augmentation, field] of refusedAugmentations) {
    test(`an augmentation with ${what} is refused`, () => {
      assert.throws(() => parse({ augmentation }), refusal('BAD_INPUT', `input.augmentation.${field}`));
    });
  }

  test('zero steps are the random control, with zero epochs', () => {
    assert.equal(frozen({ steps: 0 }).steps, 0);
  });
});

describe('refused pretrainings', () => {
  const cases: [string, Record<string, unknown>, string][] = [
    ['batchSize 1', { batchSize: 1 }, 'input.batchSize'],
    ['batchSize 0', { batchSize: 0 }, 'input.batchSize'],
    ['batchSize beyond the cap', { batchSize: 8193 }, 'input.batchSize'],
    ['negative temperature', { temperature: -0.5 }, 'input.temperature'],
    ['zero temperature', { temperature: 0 }, 'input.temperature'],
    ['too many steps', { steps: 10_000_001 }, 'input.steps'],
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
    ['an empty idempotency key', { idempotencyKey: '' }, 'input.idempotencyKey'],
  ];
  for (const [title, changes, field] of cases) {
    test(title, () => {
      assert.throws(() => parse(changes), refusal('BAD_INPUT', field));
    });
  }

  const contradictions: [string, Record<string, unknown>, string][] = [
    ['neither budget nor epochs nor steps', { steps: null }, 'input.steps'],
    ['epochs and steps', { epochs: 3 }, 'input.steps'],
    ['a budget and steps', { budget: '1h' }, 'input.budget'],
    ['a budget and epochs', { budget: '1h', steps: null, epochs: 3 }, 'input.budget'],
    ['a budget in no known unit', { budget: '1 fortnight', steps: null }, 'input.budget'],
    ['a budget of nothing', { budget: '', steps: null }, 'input.budget'],
    ['a negative budget', { budget: '-1h', steps: null }, 'input.budget'],
    ['a budget of units in disorder', { budget: '5m1h', steps: null }, 'input.budget'],
    ['a budget of five seconds', { budget: '5s', steps: null }, 'input.budget'],
    ['a budget beyond a year', { budget: '366d', steps: null }, 'input.budget'],
    ['a parameter of SGD for ADAMW', { optimizer: { name: 'ADAMW', momentum: 0.9 } }, 'input.optimizer.momentum'],
    ['a parameter of ADAM for LARS', { optimizer: { name: 'LARS', beta1: 0.9 } }, 'input.optimizer.beta1'],
    ['nesterov for LARS', { optimizer: { name: 'LARS', nesterov: false } }, 'input.optimizer.nesterov'],
    ['an epsilon for SGD', { optimizer: { name: 'SGD', epsilon: 1e-8 } }, 'input.optimizer.epsilon'],
    [
      'nesterov without momentum',
      { optimizer: { name: 'SGD', momentum: 0, nesterov: true } },
      'input.optimizer.nesterov',
    ],
    ['a learning rate of LARS for AdamW', { learningRate: 0.6 }, 'input.learningRate'],
    [
      'a smallest crop scale above the largest',
      { augmentation: { cropScaleMin: 0.9, cropScaleMax: 0.5 } },
      'input.augmentation.cropScaleMin',
    ],
    [
      "a largest crop below the recipe's smallest",
      { augmentation: { cropScaleMax: 0.01 } },
      'input.augmentation.cropScaleMin',
    ],
  ];
  for (const [what, changes, field] of contradictions) {
    test(what, () => {
      assert.throws(() => checkPretrainingChoice(parse(changes)), refusal('BAD_INPUT', field));
    });
  }

  test('a parameter of another optimizer is refused, naming that optimizer', () => {
    assert.throws(
      () => checkPretrainingChoice(parse({ optimizer: { name: 'ADAMW', momentum: 0.9 } })),
      /momentum is a parameter of LARS, SGD, not of ADAMW\./,
    );
  });

  for (const [what, optimizer] of [
    ['an unknown optimizer', { name: 'RMSPROP' }],
    ['a momentum of 1', { name: 'SGD', momentum: 1 }],
    ['a beta of 1', { name: 'ADAM', beta2: 1 }],
    ['an epsilon of 0', { name: 'ADAM', epsilon: 0 }],
    ['a negative weight decay', { name: 'LARS', weightDecay: -1 }],
    ['an unknown parameter', { name: 'SGD', dampening: 0.1 }],
    ['no name', { momentum: 0.9 }],
  ] as const) {
    test(`an optimizer with ${what}`, () => {
      assert.throws(
        () => parse({ optimizer }),
        (error: unknown) => error instanceof DomainError && (error.field ?? '').startsWith('input.optimizer'),
      );
    });
  }

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
    assert.throws(() => frozen({ ...OPEN, microBatchSize: 24 }), refusal('BAD_INPUT', 'input.microBatchSize'));
    checkPretrainingChoice(parse({ batchSize: 64, microBatchSize: 16 }));
    assert.equal(frozen({ batchSize: 64, microBatchSize: 16 }).microBatchSize, 16);
    const { microBatchSize, ...older } = frozen();
    assert.equal(microBatchSize, null);
    assert.equal(pretrainingConfigSchema.parse(older).microBatchSize, null);
  });

  test('an unknown precision; both known ones are frozen as given', () => {
    assert.throws(() => parse({ precision: 'FLOAT16' }), refusal('BAD_INPUT', 'input.precision'));
    for (const precision of ['FLOAT32', 'BFLOAT16'] as const) {
      checkPretrainingChoice(parse({ precision }));
      assert.equal(frozen({ precision }).precision, precision);
    }
  });

  test('fewer images than a batch, after maxImages', () => {
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

  test('epochs that amount to too many steps', () => {
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

describe('a budget', () => {
  for (const [text, seconds] of [
    ['3600', 3600],
    ['90s', 90],
    ['45m', 2700],
    ['45min', 2700],
    ['1h', 3600],
    [' 1 H 30 M ', 5400],
    ['0.5h', 1800],
    ['2d', 172_800],
    ['1d2h3m4s', 93_784],
  ] as const) {
    test(`of "${text}" is ${seconds} seconds`, () => {
      assert.equal(unplanned({ budget: text }).budget.seconds, seconds);
    });
  }

  test('gives as many whole steps as fit at the measured speed, with a reserve', () => {
    const open = unplanned();
    const config = planPretraining(open, [speed(180)], 20);
    const secondsPerStep = config.batchSize / 180;
    const left = 3600 - 20 - reserveSeconds(3600);
    assert.ok(config.steps * secondsPerStep <= left && (config.steps + 1) * secondsPerStep > left);
    assert.equal(config.epochs, config.steps / Math.floor(12_881 / config.batchSize));
    assert.deepEqual(config.budget, { seconds: 3600, speeds: [speed(180)] });
    assert.deepEqual(pretrainingConfigSchema.parse(JSON.parse(JSON.stringify(config))), config);
  });

  test('never gives fewer steps for a faster device or a larger budget', () => {
    let last = 0;
    for (const imagesPerSecond of [20, 60, 180, 600]) {
      const { steps } = planPretraining(unplanned(), [speed(imagesPerSecond)], 10);
      assert.ok(steps > last);
      last = steps;
    }
    const [short, long] = ['1h', '2h'].map((budget) => planPretraining(unplanned({ budget }), [speed(60)], 10).steps);
    assert.ok((long ?? 0) > (short ?? Number.NaN));
  });

  test('keeps the values that the launch names', () => {
    const open = unplanned({
      imageSizePx: 96,
      batchSize: 32,
      precision: 'BFLOAT16',
      learningRate: 0.002,
      checkpointEverySteps: 5,
      optimizer: { name: 'ADAM' },
    });
    assert.equal(imageSizePxWithin(open, 1e6), 96);
    const config = planPretraining(open, [speed(100, 96, 'BFLOAT16')], 10);
    assert.deepEqual(
      [config.imageSizePx, config.batchSize, config.precision, config.learningRate, config.checkpointEverySteps],
      [96, 32, 'BFLOAT16', 0.002, 5],
    );
    assert.equal(config.optimizer.name, 'ADAM');
  });

  test('takes the crops of the image size that it chooses, unless the launch names them', () => {
    const cropsAt = (imageSizePx: number, augmentation: object | null) => {
      const { cropScaleMin, cropScaleMax } = planPretraining(
        unplanned({ augmentation }),
        [speed(300, imageSizePx)],
        10,
      ).augmentation;
      return [cropScaleMin, cropScaleMax];
    };
    // A view of 32 px shows a ninth of an image of 96 px at the image's scale, and a quarter of one of 64 px.
    assert.deepEqual(cropsAt(96, null), [0.044, 0.178]);
    assert.deepEqual(cropsAt(64, null), [0.1, 0.4]);
    assert.deepEqual(cropsAt(96, { blurProbability: 0 }), [0.044, 0.178]);
    assert.deepEqual(cropsAt(96, { cropScaleMin: 0.3, cropScaleMax: 0.9 }), [0.3, 0.9]);
    const olderConfig = unplanned();
    const { crop, ...named } = olderConfig.named;
    assert.equal(crop, false);
    const older = unplannedPretrainingSchema.parse({ ...olderConfig, named });
    assert.deepEqual(planPretraining(older, [speed(300, 96)], 10).augmentation, olderConfig.augmentation);
  });

  test('is spent in bfloat16 where that is clearly faster, and on larger views where a device is fast enough', () => {
    assert.equal(fasterPrecision([speed(100)]), 'FLOAT32');
    assert.equal(fasterPrecision([speed(100), speed(101, 64, 'BFLOAT16')]), 'FLOAT32');
    assert.equal(fasterPrecision([speed(100), speed(160, 64, 'BFLOAT16')]), 'BFLOAT16');
    const sizes = [10, 100, 1e3, 1e4, 1e5, 1e6].map((imagesPerSecond) =>
      imageSizePxWithin(unplanned(), imagesPerSecond),
    );
    assert.deepEqual(
      sizes,
      sizes.toSorted((left, right) => left - right),
    );
    assert.ok((sizes[0] ?? 0) < (sizes.at(-1) ?? 0));
  });

  test('speeds are shown without an exponent', () => {
    assert.deepEqual([0.12345, 60, 1234.5, 999_999].map(shortNumber), ['0.123', '60', '1230', '1000000']);
  });

  test('too small for one epoch is refused, and the hint says what would fit', () => {
    const open = unplanned({ budget: '1m' });
    assert.throws(
      () => planPretraining(open, [speed(60)], 5),
      (error: unknown) => {
        assert.ok(error instanceof DomainError);
        assert.deepEqual([error.code, error.field], ['BUDGET_TOO_SMALL', 'input.budget']);
        assert.match(error.message, /^1 minute at 60 images\/s are [\d,]+ images, less than one epoch of 12,881\.$/);
        const minutes = /at least (\d+)m/.exec(error.hint ?? '')?.[1];
        const images = Number(/at most ([\d,]+) images/.exec(error.hint ?? '')?.[1]?.replaceAll(',', ''));
        // The value that the hint names is accepted.
        planPretraining(unplanned({ budget: `${minutes}m` }), [speed(60)], 5);
        planPretraining(unplanned({ budget: '1m' }, images), [speed(60)], 5);
        return true;
      },
    );
  });

  test('is explained in sentences, and so is a run without one', () => {
    const open = unplanned();
    assert.deepEqual(explanationOf(open), []);
    const text = explanationOf(planPretraining(open, [speed(112), speed(180, 64, 'BFLOAT16')], 20)).join(' ');
    for (const part of [
      /^1 hour at 180 images\/s: [\d,]+ steps of 128 images at 64 px by views of 32 px, [\d.]+ epochs of 12,881 images/,
      /bfloat16, because float32 trained 112 images\/s here and bfloat16 180\./,
      /AdamW at a peak learning rate of 0\.001 \(the optimizer of the recipe DEFAULT, the rate of the recipe DEFAULT/,
    ])
      assert.match(text, part);
    assert.match(explanationOf(frozen({ learningRate: 0.01 })).join(' '), /the rate as given/);
    assert.deepEqual(explanationOf(frozen({ steps: 0 })), []);
  });

  test('continues with another total of steps when the device changes its pace, and says so', () => {
    const config = planPretraining(unplanned(), [speed(180)], 20);
    const shorter = replanned(config, 1000, 3000);
    assert.deepEqual(shorter.earlierPlans, [{ untilStep: 1000, totalSteps: config.steps }]);
    assert.equal(shorter.epochs, 3000 / Math.floor(12_881 / config.batchSize));
    assert.match(shorter.explanation.at(-1) ?? '', /After step 1,000 the total became 3,000 .* slower than measured\./);
    assert.match(replanned(shorter, 1500, 3500).explanation.at(-1) ?? '', /faster/);
  });

  test('can be retried with a smaller micro-batch before it is planned', () => {
    const open = unplanned({ batchSize: 64 });
    assert.equal(smallerMicroBatch({ kind: 'PRETRAINING', config: open, microBatchSize: null }), 32);
  });
});

describe('the title of a pretraining', () => {
  const config = frozen({ encoder: 'RESNET50', steps: 400 });

  test('names the encoder, the versions and the steps', () => {
    assert.equal(titleOfPretraining(config, ['breakhis@2']), 'tissue: resnet50 on breakhis@2, 400 steps');
  });

  test('names three of many versions', () => {
    assert.equal(titleOfPretraining(config, ['a@1', 'b@1', 'c@1']), 'tissue: resnet50 on a@1, b@1, c@1, 400 steps');
    assert.equal(
      titleOfPretraining(config, ['a@1', 'b@1', 'c@1', 'd@1', 'e@3']),
      'tissue: resnet50 on a@1, b@1, c@1 and 2 more, 400 steps',
    );
  });

  test('says that the weights are random if nothing is trained', () => {
    assert.equal(titleOfPretraining({ ...config, steps: 0 }, ['a@1']), 'tissue: resnet50, random weights');
  });

  test('says how long a run with a budget may take', () => {
    assert.equal(
      titleOfPretraining(unplanned({ budget: '1h30m' }), ['a@1']),
      'tissue: resnet18 on a@1, 1 hour 30 minutes',
    );
  });
});

describe('a vision transformer', () => {
  const vit = { ...OPEN, encoder: 'VIT_S16' };

  test('is frozen with the settings of its recipe and an input contract of its class token', () => {
    const config = frozen({ ...vit, imageSizePx: 96, dropPathRate: 0.1, layerDecay: 0.75 });
    assert.deepEqual(
      [config.encoder, config.dropPathRate, config.layerDecay, config.viewSizePx, config.optimizer.weightDecay],
      ['VIT_S16', 0.1, 0.75, 96, 0.1],
    );
    const { pooling, embeddingLayer } = inputContractOf(config);
    assert.deepEqual([pooling, embeddingLayer], ['CLS', 'norm']);
  });

  test('has neither stochastic depth nor layer-wise decay by default, as runs from before they existed', () => {
    const { dropPathRate, layerDecay, ...earlier } = frozen(vit);
    assert.deepEqual([dropPathRate, layerDecay], [0, 1]);
    assert.deepEqual(pretrainingConfigSchema.parse(earlier), { ...earlier, dropPathRate, layerDecay });
  });

  test('refuses images that are not whole patches, and what a ResNet does not have', () => {
    const check = (changes: Record<string, unknown>) => (): void => checkPretrainingChoice(parse(changes));
    assert.throws(check({ ...vit, imageSizePx: 100 }), refusal('BAD_INPUT', 'input.imageSizePx'));
    assert.throws(check({ dropPathRate: 0.1 }), refusal('BAD_INPUT', 'input.dropPathRate'));
    assert.throws(check({ layerDecay: 0.9 }), refusal('BAD_INPUT', 'input.layerDecay'));
    check({ dropPathRate: 0, layerDecay: 1 })();
    assert.throws(() => parse({ ...vit, dropPathRate: 0.95 }), refusal('BAD_INPUT', 'input.dropPathRate'));
    assert.throws(() => parse({ ...vit, layerDecay: 0 }), refusal('BAD_INPUT', 'input.layerDecay'));
  });
});
