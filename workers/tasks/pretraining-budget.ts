/**
 * A pretraining with a budget of time. Before it trains, the speed of the device is measured over a few real steps, and
 * the resulting plan is frozen on the run, so that a later attempt uses the same plan. During the training its pace is
 * monitored: if the plan would miss the end of the budget, the total number of steps is changed, and frozen too.
 */
import { measuringSecondsMax, replannedSteps, reserveSeconds } from '../../src/protocol/pretraining/budget.ts';
import type { MeasuredSpeed, Precision } from '../../src/protocol/pretraining/explanation.ts';
import { recipeFor } from '../../src/protocol/pretraining/recipes.ts';
import { canComputeIn } from '../engine/kernels/compute-dtype.ts';
import type { NamedTensor } from '../engine/named-tensor.ts';
import { makeTrainer, openTrainingSteps } from './pretraining-steps.ts';
import type { TaskContext } from './task.ts';
import {
  fasterPrecision,
  firstImageSizePx,
  imageSizePxWithin,
  planPretraining,
  replanned,
} from '../../src/protocol/pretraining/plan.ts';
import type { PretrainingConfig, UnplannedPretraining } from '../../src/protocol/pretraining/config.ts';

/** Seconds since the task began, by the monotonic clock. */
export type ElapsedSeconds = () => number;

/** What every measured training has in common. */
interface Measuring {
  readonly context: TaskContext;
  readonly unplanned: UnplannedPretraining;
  readonly microBatchSize: number | null;
  readonly initialWeights: readonly NamedTensor[] | undefined;
}

/**
 * Measures the device, plans the run and freezes the plan on it.
 * @throws DomainError BUDGET_TOO_SMALL.
 */
export async function planWithinBudget(measuring: Measuring, elapsed: ElapsedSeconds): Promise<PretrainingConfig> {
  const { context, unplanned } = measuring;
  const firstSizePx = firstImageSizePx(unplanned);
  const tried: MeasuredSpeed[] = [];
  for (const precision of precisionsOf(unplanned)) tried.push(await measureSpeed(measuring, precision, firstSizePx));
  const precision = fasterPrecision(tried);
  const best = tried.find((speed) => speed.precision === precision) ?? tried[0];
  if (best === undefined) throw new Error('No precision was measured.');
  const sizePx = imageSizePxWithin(unplanned, best.imagesPerSecond);
  const speeds =
    sizePx === firstSizePx
      ? [...tried.filter((speed) => speed !== best), best]
      : [...tried, await measureSpeed(measuring, best.precision, sizePx)];
  const config = planPretraining(unplanned, speeds, elapsed());
  await context.registry.freezeConfig({ config });
  await context.progress(0, config.explanation.join(' '));
  return config;
}

function precisionsOf({ precision }: UnplannedPretraining): readonly Precision[] {
  if (precision !== null) return [precision];
  return canComputeIn('bfloat16') ? ['FLOAT32', 'BFLOAT16'] : ['FLOAT32'];
}

const MEASURED_STEPS = 5;

/** This is a separate training that is discarded afterwards; the run's own training starts at its first step. */
async function measureSpeed(
  { context, unplanned, microBatchSize, initialWeights }: Measuring,
  precision: Precision,
  imageSizePx: number,
): Promise<MeasuredSpeed> {
  await context.progress(
    0,
    `Measuring how fast this device trains at ${imageSizePx} px in ${precision.toLowerCase()}.`,
  );
  const recipe = recipeFor(unplanned);
  const config: PretrainingConfig = {
    ...unplanned,
    imageSizePx,
    viewSizePx: recipe.viewSizePx(imageSizePx),
    sourceSizePx: recipe.sourceSizePx(imageSizePx),
    precision,
    // These steps stay within the warm-up: a few steps at almost no learning rate do not diverge.
    steps: 1_000_000,
    warmupSteps: 1_000_000,
    epochs: 0,
    checkpointEverySteps: 1,
    budget: null,
    earlierPlans: [],
    explanation: [],
  };
  const trainer = makeTrainer(config, microBatchSize, initialWeights);
  try {
    const steps = await openTrainingSteps(context, config, trainer);
    try {
      // The first step includes the one-off costs of kernels and memory.
      await steps.take();
      const startedMs = performance.now();
      const secondsMax = measuringSecondsMax(unplanned.budget.seconds);
      let [count, seconds] = [0, 0];
      while (count < MEASURED_STEPS && seconds < secondsMax) {
        context.throwIfStopped();
        await steps.take();
        count += 1;
        seconds = (performance.now() - startedMs) / 1000;
      }
      return { precision, imageSizePx, imagesPerSecond: (count * config.batchSize) / seconds };
    } finally {
      await steps.close();
    }
  } finally {
    trainer.dispose();
  }
}

/** The pace is checked after this fraction of the budget or of the steps. */
const CHECK_SHARE = 0.05;

export interface Pace {
  /**
   * Called after each step.
   * @returns the run with another total number of steps if its pace requires one; undefined while the plan holds.
   */
  afterStep(config: PretrainingConfig, stepsDone: number): PretrainingConfig | undefined;
}

/**
 * @param firstStep the step at which this attempt continues. Saved steps count as their share of the budget, so that
 * the time that a dead worker lost is granted again.
 */
export function watchPace(config: PretrainingConfig, firstStep: number, elapsed: ElapsedSeconds): Pace | undefined {
  if (config.budget === null) return undefined;
  const budgetSeconds = config.budget.seconds;
  const spentSeconds = (firstStep / config.steps) * (budgetSeconds - reserveSeconds(budgetSeconds));
  let last = { step: firstStep, seconds: elapsed() };
  return {
    afterStep: (now, stepsDone) => {
      const seconds = elapsed();
      if (stepsDone === firstStep + 1) {
        // The first step of an attempt includes the one-off costs of kernels and memory, and is not a measure of the
        // pace.
        last = { step: stepsDone, seconds };
        return undefined;
      }
      const isDue =
        stepsDone - last.step >= CHECK_SHARE * now.steps || seconds - last.seconds >= CHECK_SHARE * budgetSeconds;
      if (!isDue || stepsDone >= now.steps) return undefined;
      const secondsPerStep = (seconds - last.seconds) / (stepsDone - last.step);
      last = { step: stepsDone, seconds };
      const clock = { budgetSeconds, elapsedSeconds: spentSeconds + seconds };
      const total = replannedSteps({ steps: now.steps, stepsDone }, clock, secondsPerStep);
      // The warm-up is never changed; a run whose time is over ends at its current step.
      if (total === undefined || (stepsDone < now.warmupSteps && total > stepsDone)) return undefined;
      return replanned(now, stepsDone, total);
    },
  };
}
