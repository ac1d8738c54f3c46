/** Decides a pretraining at its launch. Pure: every default is the recipe's. */
import { DomainError } from '../../errors.ts';
import {
  imageCountOf,
  MAX_STEPS,
  stepsPerEpochOf,
  type PretrainingConfig,
  type UnplannedPretraining,
} from '../../protocol/pretraining/config.ts';
import { NOT_MONITORED, type MonitoringConfig } from '../../protocol/pretraining/monitoring.ts';
import { planned } from '../../protocol/pretraining/plan.ts';
import { recipeFor } from '../../protocol/pretraining/recipes.ts';
import { DEFAULT_SHUFFLE } from '../../protocol/pretraining/shuffle.ts';
import {
  augmentationOf,
  badInput,
  checkMicroBatch,
  methodOf,
  optimizerOf,
  secondsOfBudget,
  type LaunchPretrainingInput,
} from './pretraining-input.rules.ts';

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
  const recipe = recipeFor(input);
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
    dropPathRate: input.dropPathRate ?? 0,
    layerDecay: input.layerDecay ?? 1,
    learningRate: input.learningRate ?? recipe.learningRate(optimizer.name, batchSize),
    method: methodOf(input),
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
