/** Properties of every recipe, independent of its numbers: values are bounded, monotonic and fit the data. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { architectureNamed, describeEncoder } from '../../src/formats/encoders/index.ts';
import { OPTIMIZER_NAMES, optimizerSchema } from '../../src/protocol/pretraining/optimizer.ts';
import { augmentationSchema } from '../../src/protocol/pretraining/augmentation.ts';
import { replannedSteps, reserveSeconds, stepsWithin } from '../../src/protocol/pretraining/budget.ts';
import { describeMethod, methodNames } from '../../src/protocol/pretraining/methods/index.ts';
import { RECIPE_NAMES } from '../../src/protocol/pretraining/recipe.ts';
import { largestLearningRate, recipeFor } from '../../src/protocol/pretraining/recipes.ts';

const BATCH_SIZES = [2, 8, 16, 64, 128, 256, 1024, 8192];
const isSorted = (values: readonly number[]): boolean =>
  values.every((value, index) => index === 0 || value >= (values[index - 1] ?? Number.NaN));

const DEFAULT = recipeFor({ recipe: 'DEFAULT', encoder: 'RESNET18', method: 'SIMCLR' });
const CASES = RECIPE_NAMES.flatMap((recipe) =>
  (['RESNET50', 'VIT_S16'] as const).flatMap((encoder) =>
    methodNames().flatMap((method) =>
      describeMethod(method).recipes.includes(recipe) ? [{ recipe, encoder, method }] : [],
    ),
  ),
);

for (const wanted of CASES) {
  const recipe = recipeFor(wanted);
  describe(`the recipe ${wanted.recipe} for ${wanted.encoder} by ${wanted.method}`, () => {
    test('has a learning rate for every optimizer that rises with the batch size and stays within a stable range', () => {
      for (const optimizer of OPTIMIZER_NAMES) {
        const rates = BATCH_SIZES.map((batchSize) => recipe.learningRate(optimizer, batchSize));
        assert.ok(isSorted(rates), `${optimizer}: ${rates.join(' ')}`);
        assert.ok(
          rates.every((rate) => rate > 0 && rate <= largestLearningRate(optimizer)),
          `${optimizer}: ${rates.join(' ')}`,
        );
      }
    });

    test('has parameters for every optimizer, and an augmentation that a launch accepts', () => {
      for (const optimizer of OPTIMIZER_NAMES)
        assert.deepEqual(optimizerSchema.parse(recipe.optimizer(optimizer)), recipe.optimizer(optimizer));
      for (const imageSizePx of [undefined, 32, 64, 224]) {
        const { cropScaleMin, cropScaleMax } = augmentationSchema.parse(recipe.augmentation(imageSizePx));
        assert.ok(cropScaleMin <= cropScaleMax);
      }
    });

    test('warms up over some of the steps, and never over most of them', () => {
      const totals = [1, 10, 100, 1000, 100_000];
      const warmups = totals.map((steps) => recipe.warmupSteps({ steps, stepsPerEpoch: 100 }));
      assert.ok(isSorted(warmups));
      assert.ok(warmups.every((warmup, index) => Number.isInteger(warmup) && warmup <= (totals[index] ?? 0) / 2));
      assert.equal(recipe.warmupSteps({ steps: 0, stepsPerEpoch: 1 }), 0);
    });

    test('shows no larger views to a run that sees its images less often', () => {
      const sizes = [undefined, 0, 1, 50, 500, 5000, 50_000].map((epochs) => recipe.imageSizePx(epochs));
      assert.ok(isSorted(sizes));
      assert.ok(sizes.every((sizePx) => sizePx >= 32 && sizePx <= 1024));
    });
  });
}

test('DEFAULT learns at the scale that its encoder is used at: a usual crop, as large as a view, is magnified as the image is', () => {
  for (const imageSizePx of [32, 63, 64, 65, 96, 128, 224, 1024]) {
    const { cropScaleMin, cropScaleMax } = DEFAULT.augmentation(imageSizePx);
    const cropSidePx = imageSizePx * Math.sqrt((cropScaleMin + cropScaleMax) / 2);
    const magnification = DEFAULT.viewSizePx(imageSizePx) / cropSidePx;
    assert.ok(magnification > 0.75 && magnification < 1.33, `${imageSizePx} px: ${magnification}`);
    assert.ok(DEFAULT.sourceSizePx(imageSizePx) >= imageSizePx);
  }
  assert.deepEqual(DEFAULT.augmentation(undefined), DEFAULT.augmentation(64));
});

test('a vision transformer gets views of whole patches, a decay of its own and a longer warm-up', () => {
  const vit = recipeFor({ recipe: 'DEFAULT', encoder: 'VIT_S16', method: 'SIMCLR' });
  const { imageSizeFault } = describeEncoder(architectureNamed('VIT_S16'));
  for (const epochs of [undefined, 0, 500, 1000, 5000]) {
    const sizePx = vit.imageSizePx(epochs);
    assert.equal(imageSizeFault(vit.viewSizePx(sizePx)), undefined, `${sizePx} px`);
  }
  // MoCo v3, appendix A, and DINO, section 3.2.
  assert.deepEqual(vit.optimizer('ADAMW'), { ...DEFAULT.optimizer('ADAMW'), weightDecay: 0.1 });
  assert.equal(vit.learningRate('ADAMW', 1024), 0.002);
  assert.equal(vit.warmupSteps({ steps: 300, stepsPerEpoch: 1 }), 30);
  // Chen et al. 2020 for every encoder.
  assert.equal(
    recipeFor({ recipe: 'PAPER', encoder: 'VIT_S16', method: 'SIMCLR' }),
    recipeFor({ recipe: 'PAPER', encoder: 'RESNET18', method: 'SIMCLR' }),
  );
});

test('DEFAULT takes smaller batches where there are few images, and never more images than there are', () => {
  const counts = [2, 3, 16, 17, 100, 511, 512, 5000, 1_000_000];
  const sizes = counts.map((imageCount) => DEFAULT.batchSize(imageCount));
  assert.ok(isSorted(sizes), sizes.join(' '));
  counts.forEach((imageCount, index) => assert.ok((sizes[index] ?? Number.NaN) <= imageCount));
  assert.ok(sizes.every((size) => size >= 2));
});

describe('a budget of time', () => {
  test('keeps a reserve that is never most of it', () => {
    for (const seconds of [10, 60, 3600, 86_400]) {
      const reserve = reserveSeconds(seconds);
      assert.ok(reserve > 0 && reserve <= seconds / 4, `${seconds}: ${reserve}`);
    }
  });

  test('leaves no step once it is over', () => {
    assert.equal(stepsWithin({ budgetSeconds: 60, elapsedSeconds: 60 }, 0.1), 0);
    assert.equal(stepsWithin({ budgetSeconds: 60, elapsedSeconds: 1000 }, 0.1), 0);
  });

  test('is planned again only when the run would miss its end', () => {
    const clock = { budgetSeconds: 3600, elapsedSeconds: 1800 };
    const fitting = stepsWithin(clock, 1);
    assert.equal(replannedSteps({ steps: 1000 + fitting, stepsDone: 1000 }, clock, 1), undefined);
    assert.equal(replannedSteps({ steps: 1010 + fitting, stepsDone: 1000 }, clock, 1), undefined);
    const slower = replannedSteps({ steps: 1000 + fitting, stepsDone: 1000 }, clock, 2);
    assert.equal(slower, 1000 + Math.floor((3600 - reserveSeconds(3600) - 1800) / 2));
    const faster = replannedSteps({ steps: 1000 + fitting, stepsDone: 1000 }, clock, 0.5);
    assert.ok((faster ?? 0) > 1000 + fitting);
    assert.equal(replannedSteps({ steps: 5000, stepsDone: 700 }, { budgetSeconds: 60, elapsedSeconds: 70 }, 1), 700);
  });
});
