/**
 * Decides a pretraining. Without a budget everything is decided at the launch; with one, a worker measures its device
 * first and then plans the steps by `planPretraining`. Pure: every default is the recipe's.
 */
import { DomainError } from '../../errors.ts';
import { formatDuration, stepsWithin } from '../../protocol/pretraining/budget.ts';
import {
  explainPretraining,
  shortNumber,
  type MeasuredSpeed,
  type Precision,
} from '../../protocol/pretraining/explanation.ts';
import { checkpointEveryStepsFor, RECIPES } from '../../protocol/pretraining/recipes.ts';
import { DEFAULT_SHUFFLE } from '../../protocol/pretraining/shuffle.ts';
import {
  imageCountOf,
  MAX_STEPS,
  stepsPerEpochOf,
  type PretrainingConfig,
  type UnplannedPretraining,
} from './pretraining-config.rules.ts';
import {
  augmentationOf,
  badInput,
  checkMicroBatch,
  optimizerOf,
  secondsOfBudget,
  type LaunchPretrainingInput,
} from './pretraining-input.rules.ts';
import { NOT_MONITORED, type MonitoringConfig } from './monitoring.rules.ts';

/** The facts of a version that a pretraining uses, from the datasets module. */
export interface VersionFacts {
  readonly id: string;
  readonly digest: string;
  readonly imageCount: number;
}

/**
 * Fills in every default and freezes the pretraining; with a budget, everything that does not depend on the speed of
 * the device.
 * @param drawnSeed the seed to use if the input has none.
 * @param monitoring the settings of the probe and of the states to register.
 * @throws DomainError BAD_INPUT, DATASET_VERSION_NOT_FOUND or DATASET_TOO_SMALL.
 */
export function freezePretraining(
  input: LaunchPretrainingInput,
  versions: readonly VersionFacts[],
  drawnSeed: number,
  monitoring: MonitoringConfig = NOT_MONITORED,
): PretrainingConfig | UnplannedPretraining {
  const recipe = RECIPES[input.recipe];
  const datasets = frozenDatasets(input, versions);
  const imageCount = imageCountOf(datasets);
  const batchSize = input.batchSize ?? recipe.batchSize(imageCount);
  if (imageCount < batchSize)
    throw new DomainError({
      code: 'DATASET_TOO_SMALL',
      message: `The datasets contain ${imageCount} images, fewer than a batch of ${batchSize}.`,
      field: 'input.batchSize',
      hint: `Use a batchSize of at most ${imageCount}, or add datasets.`,
    });
  if (typeof input.microBatchSize === 'number') checkMicroBatch(input.microBatchSize, batchSize);
  const optimizer = optimizerOf(recipe, input.optimizer);
  const common = {
    modelSlug: input.modelSlug,
    datasets,
    encoder: input.encoder,
    recipe: input.recipe,
    batchSize,
    microBatchSize: input.microBatchSize ?? null,
    optimizer,
    learningRate: input.learningRate ?? recipe.learningRate(optimizer.name, batchSize),
    temperature: input.temperature ?? recipe.temperature,
    projectionDim: recipe.projectionDim,
    sampling: input.sampling,
    shuffle: DEFAULT_SHUFFLE,
    initialCheckpointId: input.initialCheckpointId ?? null,
    augmentation: augmentationOf(recipe, input),
    seed: input.seed ?? drawnSeed,
    ...monitoring,
    named: {
      optimizer: input.optimizer != null,
      learningRate: input.learningRate != null,
      imageSizePx: input.imageSizePx != null,
      crop: input.augmentation?.cropScaleMin != null || input.augmentation?.cropScaleMax != null,
      precision: input.precision != null,
    },
  };
  if (input.budget != null)
    return {
      ...common,
      steps: null,
      imageSizePx: input.imageSizePx ?? null,
      precision: input.precision ?? null,
      checkpointEverySteps: input.checkpointEverySteps ?? null,
      budget: { seconds: secondsOfBudget(input.budget) },
    };
  const steps = input.steps ?? Math.max(1, Math.round((input.epochs ?? 0) * stepsPerEpochOf(common)));
  if (steps > MAX_STEPS)
    throw badInput(
      'epochs',
      `${input.epochs} epochs are ${steps} steps, more than ${MAX_STEPS}.`,
      'Use fewer epochs or a larger batchSize.',
    );
  return planned(common, {
    steps,
    imageSizePx: input.imageSizePx ?? recipe.imageSizePx(undefined),
    precision: input.precision ?? 'FLOAT32',
    checkpointEverySteps: input.checkpointEverySteps ?? null,
    budget: null,
  });
}

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
function planned(common: CommonConfig, { checkpointEverySteps, ...plan }: Plan): PretrainingConfig {
  const stepsPerEpoch = stepsPerEpochOf(common);
  const recipe = RECIPES[common.recipe];
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
  return unplanned.imageSizePx ?? RECIPES[unplanned.recipe].imageSizePx(epochsAt64Px);
}

/** The size at which a worker measures first. */
export function firstImageSizePx(unplanned: UnplannedPretraining): number {
  return unplanned.imageSizePx ?? RECIPES[unplanned.recipe].imageSizePx(undefined);
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

function frozenDatasets(
  input: LaunchPretrainingInput,
  versions: readonly VersionFacts[],
): PretrainingConfig['datasets'] {
  return input.datasets.map((wanted, index) => {
    const version = versions.find((candidate) => candidate.id === wanted.datasetVersionId);
    if (version === undefined)
      throw new DomainError({
        code: 'DATASET_VERSION_NOT_FOUND',
        message: 'The dataset version does not exist.',
        field: `input.datasets.${index}.datasetVersionId`,
      });
    return {
      datasetVersionId: version.id,
      digest: version.digest,
      imageCount: version.imageCount,
      maxImages: wanted.maxImages ?? null,
      weight: wanted.weight ?? 1,
    };
  });
}
