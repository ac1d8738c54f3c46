/** A run with a budget on a device whose speed changes still ends within its budget. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { watchPace } from '../../workers/tasks/pretraining-budget.ts';
import { planPretraining } from '../../src/protocol/pretraining/plan.ts';
import { unplannedPretrainingSchema, type PretrainingConfig } from '../../src/protocol/pretraining/config.ts';

const BUDGET_SECONDS = 1000;
const PLANNED_SECONDS_PER_STEP = 1;

function planned(): PretrainingConfig {
  const unplanned = unplannedPretrainingSchema.parse({
    modelSlug: 'tissue',
    datasets: [{ datasetVersionId: 'v', digest: 'd', imageCount: 320, maxImages: null, weight: 1 }],
    encoder: 'RESNET18',
    recipe: 'DEFAULT',
    batchSize: 32,
    optimizer: { name: 'SGD', momentum: 0.9, nesterov: false, weightDecay: 0 },
    learningRate: 0.01,
    temperature: 0.2,
    projectionDim: 128,
    sampling: 'EVEN',
    initialCheckpointId: null,
    augmentation: {
      cropScaleMin: 0.2,
      cropScaleMax: 1,
      flip: true,
      quarterTurns: true,
      colourJitterStrength: 0.5,
      colourJitterProbability: 0.8,
      greyProbability: 0.2,
      blurProbability: 0.5,
      stainJitterStrength: 0,
      stainJitterProbability: 1,
    },
    seed: 1,
    steps: null,
    imageSizePx: 64,
    precision: 'FLOAT32',
    checkpointEverySteps: null,
    budget: { seconds: BUDGET_SECONDS },
  });
  const imagesPerSecond = unplanned.batchSize / PLANNED_SECONDS_PER_STEP;
  return planPretraining(unplanned, [{ precision: 'FLOAT32', imageSizePx: 64, imagesPerSecond }], 20);
}

/** Trains with a simulated clock. @param secondsOf how long each step takes. */
function trained(
  secondsOf: (step: number) => number,
  firstStep = 0,
): { readonly config: PretrainingConfig; readonly seconds: number; readonly steps: number } {
  let config = planned();
  let seconds = 20;
  const pace = watchPace(config, firstStep, () => seconds);
  let step = firstStep;
  while (step < config.steps) {
    seconds += secondsOf(step);
    step += 1;
    config = pace?.afterStep(config, step) ?? config;
  }
  return { config, seconds, steps: step };
}

describe('the pace of a run with a budget', () => {
  test('equal to the measured one does not change the plan', () => {
    const { config, seconds } = trained(() => PLANNED_SECONDS_PER_STEP);
    assert.deepEqual(config.earlierPlans, []);
    assert.ok(seconds <= BUDGET_SECONDS);
  });

  for (const [what, secondsOf] of [
    ['half as fast from the beginning', () => 2],
    ['five times slower after a while', (step: number) => (step < 300 ? 1 : 5)],
    ['twice as fast', () => 0.5],
    ['up and down', (step: number) => (step % 100 < 50 ? 0.7 : 1.6)],
  ] as const)
    test(`${what} changes the total, and the run ends in its budget and uses most of it`, () => {
      const { config, seconds, steps } = trained(secondsOf);
      assert.ok(config.earlierPlans.length > 0);
      assert.ok(seconds <= BUDGET_SECONDS && seconds > 0.9 * BUDGET_SECONDS, `${seconds} s`);
      assert.equal(config.steps, steps);
      assert.equal(config.explanation.length, planned().explanation.length + config.earlierPlans.length);
    });

  test('of the first step, which loads kernels and allocates memory, changes nothing', () => {
    const { config, seconds } = trained((step) => (step === 0 ? 30 : PLANNED_SECONDS_PER_STEP * 0.97));
    assert.deepEqual(config.earlierPlans, []);
    assert.ok(seconds <= BUDGET_SECONDS);
  });

  test('so slow that the budget ends during the warm-up ends the run there', () => {
    const { config, seconds, steps } = trained(() => 60);
    assert.equal(config.steps, steps);
    assert.ok(config.warmupSteps <= config.steps);
    assert.deepEqual(config.earlierPlans, []);
    assert.ok(seconds <= BUDGET_SECONDS + 60, `${seconds} s`);
  });

  test('of a continued attempt is compared with the rest of the budget', () => {
    const half = Math.floor(planned().steps / 2);
    const { config, seconds } = trained(() => PLANNED_SECONDS_PER_STEP, half);
    assert.deepEqual(config.earlierPlans, []);
    assert.ok(seconds < BUDGET_SECONDS / 2 + 40);
  });

  test('is not monitored without a budget', () => {
    assert.equal(
      watchPace({ ...planned(), budget: null }, 0, () => 0),
      undefined,
    );
  });
});
