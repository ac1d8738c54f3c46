/**
 * Plans a pretraining: without a budget at the launch; with one, a worker measures its device first and then plans the
 * steps by `planPretraining`. Pure: every default is the recipe's.
 */
import { DomainError } from '../../errors.ts';
import { formatDuration, stepsWithin } from './budget.ts';
import {
  imageCountOf,
  MAX_STEPS,
  stepsPerEpochOf,
  type PretrainingConfig,
  type UnplannedPretraining,
} from './config.ts';
import { explainPretraining, shortNumber, type MeasuredSpeed, type Precision } from './explanation.ts';
import { checkpointEveryStepsFor, recipeFor } from './recipes.ts';

type CommonConfig = Omit<
  UnplannedPretraining,
  'steps' | 'imageSizePx' | 'precision' | 'checkpointEverySteps' | 'budget'
>;

interface Plan {
  readonly steps: number;
  readonly imageSizePx: number;
  readonly precision: Precision;
  /** Null: by rule. */
  readonly checkpointEverySteps: number | null;
  readonly budget: PretrainingConfig['budget'];
}

/** Completes a config with the values that follow from the steps and the size of the images. */
export function planned(common: CommonConfig, { checkpointEverySteps, ...plan }: Plan): PretrainingConfig {
  const stepsPerEpoch = stepsPerEpochOf(common);
  const recipe = recipeFor(common);
  const { cropScaleMin, cropScaleMax } = recipe.augmentation(plan.imageSizePx);
  const config = {
    ...common,
    ...plan,
    // The image size may have been chosen only now, and the recipe's crops depend on it.
    augmentation: common.named.crop ? common.augmentation : { ...common.augmentation, cropScaleMin, cropScaleMax },
    viewSizePx: recipe.viewSizePx(plan.imageSizePx),
    sourceSizePx: recipe.sourceSizePx(plan.imageSizePx),
    epochs: plan.steps / stepsPerEpoch,
    warmupSteps: recipe.warmupSteps({ steps: plan.steps, stepsPerEpoch }),
    checkpointEverySteps: checkpointEverySteps ?? checkpointEveryStepsFor(stepsPerEpoch),
    earlierPlans: [],
  };
  return { ...config, explanation: explainPretraining({ ...config, imageCount: imageCountOf(common.datasets) }) };
}

/** bfloat16 rounds more coarsely, so it must be faster by at least this factor to be chosen. */
const BFLOAT16_GAIN_MIN = 1.1;

/** Chooses the precision for a budget from the measured speed of each precision that the device supports. */
export function fasterPrecision(speeds: readonly MeasuredSpeed[]): Precision {
  const speedIn = (precision: Precision): number =>
    speeds.find((speed) => speed.precision === precision)?.imagesPerSecond ?? 0;
  return speedIn('BFLOAT16') > BFLOAT16_GAIN_MIN * speedIn('FLOAT32') ? 'BFLOAT16' : 'FLOAT32';
}

/** Chooses the image size for a budget from the speed at 64 px. */
export function imageSizePxWithin(unplanned: UnplannedPretraining, imagesPerSecondAt64Px: number): number {
  const epochsAt64Px = (imagesPerSecondAt64Px * unplanned.budget.seconds) / imageCountOf(unplanned.datasets);
  return unplanned.imageSizePx ?? recipeFor(unplanned).imageSizePx(epochsAt64Px);
}

/** The size at which a worker measures first. */
export function firstImageSizePx(unplanned: UnplannedPretraining): number {
  return unplanned.imageSizePx ?? recipeFor(unplanned).imageSizePx(undefined);
}

/**
 * Plans what depends on the speed of the device.
 * @param speeds the measurements; the last one is of the precision and size that the run will have.
 * @param elapsedSeconds the part of the budget that has already been used.
 * @throws DomainError BUDGET_TOO_SMALL if there is not enough time to see every image once.
 */
export function planPretraining(
  { budget, checkpointEverySteps, ...common }: UnplannedPretraining,
  speeds: readonly MeasuredSpeed[],
  elapsedSeconds: number,
): PretrainingConfig {
  const speed = speeds.at(-1);
  if (speed === undefined) throw new RangeError('A budget cannot be planned without a measured speed.');
  const { imageSizePx, precision, imagesPerSecond } = speed;
  const steps = Math.min(
    MAX_STEPS,
    stepsWithin({ budgetSeconds: budget.seconds, elapsedSeconds }, common.batchSize / imagesPerSecond),
  );
  if (steps < stepsPerEpochOf(common))
    throw budgetTooSmall({ ...common, budget }, { steps, imageSizePx, imagesPerSecond });
  return planned(common, {
    steps,
    imageSizePx,
    precision,
    checkpointEverySteps,
    budget: { seconds: budget.seconds, speeds: [...speeds] },
  });
}

function budgetTooSmall(
  { budget, datasets, batchSize }: Pick<UnplannedPretraining, 'budget' | 'datasets' | 'batchSize'>,
  fits: { readonly steps: number; readonly imageSizePx: number; readonly imagesPerSecond: number },
): DomainError {
  const [imageCount, seenCount] = [imageCountOf(datasets), fits.steps * batchSize];
  const minutes = Math.ceil(((imageCount / fits.imagesPerSecond) * (4 / 3)) / 60) + 1;
  const fewer =
    seenCount < 2 * batchSize ? '' : `, or use at most ${seenCount.toLocaleString('en')} images (maxImages)`;
  const smaller = fits.imageSizePx > 32 ? ', or use a smaller imageSizePx' : '';
  return new DomainError({
    code: 'BUDGET_TOO_SMALL',
    message: `${formatDuration(budget.seconds)} at ${shortNumber(fits.imagesPerSecond)} images/s are ${seenCount.toLocaleString('en')} images, less than one epoch of ${imageCount.toLocaleString('en')}.`,
    field: 'input.budget',
    hint: `Give at least ${minutes}m${fewer}${smaller}.`,
  });
}

/**
 * The config with another total of steps from `stepsDone` on; the rest of the schedule is stretched or compressed to
 * the remaining steps. A run that ends in its warm-up never reaches the rest of its schedule.
 */
export function replanned(config: PretrainingConfig, stepsDone: number, steps: number): PretrainingConfig {
  return {
    ...config,
    steps,
    epochs: steps / stepsPerEpochOf(config),
    warmupSteps: Math.min(config.warmupSteps, steps),
    earlierPlans:
      stepsDone < config.warmupSteps
        ? config.earlierPlans
        : [...config.earlierPlans, { untilStep: stepsDone, totalSteps: config.steps }],
    explanation: [
      ...config.explanation,
      `After step ${stepsDone.toLocaleString('en')} the total became ${steps.toLocaleString('en')} instead of ${config.steps.toLocaleString('en')}, because the device had become ${steps < config.steps ? 'slower' : 'faster'} than measured.`,
    ],
  };
}
