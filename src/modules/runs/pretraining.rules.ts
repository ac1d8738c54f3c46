/**
 * What a pretraining is frozen as. Without a budget everything is decided at the launch; with one, a worker measures
 * its device first and then plans the steps by `planPretraining`. Pure: every default is the recipe's.
 */
import { z } from 'zod';
import { DomainError } from '../../errors.ts';
import { augmentationSchema } from '../../protocol/pretraining/augmentation.ts';
import {
  BUDGET_MAX_SECONDS,
  BUDGET_MIN_SECONDS,
  durationInWords,
  secondsOfDuration,
  stepsWithin,
} from '../../protocol/pretraining/budget.ts';
import { explainPretraining, type MeasuredSpeed, type Precision } from '../../protocol/pretraining/explanation.ts';
import {
  foreignParameter,
  optimizersWith,
  optimizerSchema,
  type OptimizerChoice,
  type OptimizerConfig,
} from '../../protocol/pretraining/optimizer.ts';
import {
  checkpointEveryStepsFor,
  largestLearningRate,
  RECIPE_NAMES,
  RECIPES,
  type Recipe,
} from '../../protocol/pretraining/recipes.ts';
import type { InputContract } from '../models/index.ts';
import { ENCODER_ARCHITECTURES, MAX_STEPS, type LaunchPretrainingInput } from './runs.rules.ts';
import { NOT_WATCHED, watchingConfigFields, type WatchingConfig } from './watching.rules.ts';

const precisionSchema = z.enum(['FLOAT32', 'BFLOAT16']);
const speedSchema = z.object({
  precision: precisionSchema,
  imageSizePx: z.number().int(),
  imagesPerSecond: z.number(),
});

/** Decided at every launch. */
const COMMON = {
  modelSlug: z.string(),
  datasets: z.array(
    z.object({
      datasetVersionId: z.string(),
      digest: z.string(),
      imageCount: z.number().int(),
      maxImages: z.number().int().nullable(),
      weight: z.number(),
    }),
  ),
  encoder: z.enum(ENCODER_ARCHITECTURES),
  /** Runs from before there were recipes are the paper's. */
  recipe: z.enum(RECIPE_NAMES).default('PAPER'),
  batchSize: z.number().int(),
  /**
   * Images that go through the encoder at once, by gradient caching; null: the whole batch. Runs from before this
   * existed have none.
   */
  microBatchSize: z.number().int().nullable().default(null),
  optimizer: optimizerSchema,
  learningRate: z.number(),
  temperature: z.number(),
  projectionDim: z.number().int(),
  sampling: z.enum(['EVEN', 'PROPORTIONAL']),
  initialCheckpointId: z.string().nullable(),
  augmentation: augmentationSchema,
  seed: z.number().int(),
  ...watchingConfigFields,
};

/** What the launch named, so that the rest can be explained as the recipe's. */
const namedSchema = z
  .object({ optimizer: z.boolean(), learningRate: z.boolean(), imageSizePx: z.boolean(), precision: z.boolean() })
  .default({ optimizer: false, learningRate: true, imageSizePx: true, precision: true });

/** A pretraining with everything that its result depends on. */
export const pretrainingConfigSchema = z.preprocess(
  withLaterFields,
  z.object({
    ...COMMON,
    /** Side of the images that the encoder is made for. */
    imageSizePx: z.number().int(),
    /** Side of the views that it learns from. */
    viewSizePx: z.number().int(),
    /** Side of the decoded square from which views are cut. */
    sourceSizePx: z.number().int(),
    epochs: z.number(),
    steps: z.number().int(),
    warmupSteps: z.number().int(),
    precision: precisionSchema,
    checkpointEverySteps: z.number().int(),
    /** With a budget: what the steps were planned from. */
    budget: z
      .object({ seconds: z.number(), speeds: z.array(speedSchema) })
      .nullable()
      .default(null),
    /** Totals of steps that held before the pace of the device changed, oldest first: the schedule depends on them. */
    earlierPlans: z.array(z.object({ untilStep: z.number().int(), totalSteps: z.number().int() })).default([]),
    named: namedSchema,
    explanation: z.array(z.string()).default([]),
  }),
);
export type PretrainingConfig = z.infer<typeof pretrainingConfigSchema>;

/** How an image becomes the input of an encoder that this pretraining made. */
export function inputContractOf({ imageSizePx }: Pick<PretrainingConfig, 'imageSizePx'>): InputContract {
  return {
    imageSizePx,
    // Mean and standard deviation 0.5: what the views were normalised with.
    channelMean: [0.5, 0.5, 0.5],
    channelStd: [0.5, 0.5, 0.5],
    valueRange: [0, 1],
    channelOrder: 'RGB',
    resizeRule: 'SHORT_SIDE_THEN_CENTRE_CROP',
    embeddingLayer: 'avgpool',
    micronsPerPixelMin: null,
    micronsPerPixelMax: null,
  };
}

/** A pretraining with a budget whose worker has not measured its device yet: what the speed decides may be null. */
export const unplannedPretrainingSchema = z.object({
  ...COMMON,
  steps: z.null(),
  imageSizePx: z.number().int().nullable(),
  precision: precisionSchema.nullable(),
  checkpointEverySteps: z.number().int().nullable(),
  budget: z.object({ seconds: z.number() }),
  named: namedSchema,
});
export type UnplannedPretraining = z.infer<typeof unplannedPretrainingSchema>;

/**
 * What configs from before lack: the parameters of LARS stood beside the others while it was the only optimizer, and a
 * view was as large as the image that the encoder is made for.
 */
function withLaterFields(config: unknown): unknown {
  if (typeof config !== 'object' || config === null) return config;
  const sized =
    'viewSizePx' in config || !('imageSizePx' in config) ? config : { ...config, viewSizePx: config.imageSizePx };
  if ('optimizer' in sized || !('momentum' in sized) || !('weightDecay' in sized)) return sized;
  const { momentum, weightDecay, ...others } = sized;
  return { ...others, optimizer: { name: 'LARS', momentum, weightDecay } };
}

const explainedSchema = z.object({ explanation: z.array(z.string()) });

/** Of a run as it stands in the database; none for one from before there were explanations, or one still unplanned. */
export function explanationOf(config: unknown): string[] {
  const { data } = explainedSchema.safeParse(config);
  return data?.explanation ?? [];
}

/** Of more versions the first ones are named. */
const VERSIONS_IN_TITLE = 3;

/** @param versionNames as `slug@version`, in the order of the config. */
export function titleOfPretraining(
  config: PretrainingConfig | UnplannedPretraining,
  versionNames: readonly string[],
): string {
  const { modelSlug, steps } = config;
  const encoderName = config.encoder.toLowerCase();
  if (steps === 0) return `${modelSlug}: ${encoderName}, random weights`;
  const named = versionNames.slice(0, VERSIONS_IN_TITLE).join(', ');
  const more = versionNames.length - VERSIONS_IN_TITLE;
  const extent = config.steps === null ? durationInWords(config.budget.seconds) : `${config.steps} steps`;
  return `${modelSlug}: ${encoderName} on ${named}${more > 0 ? ` and ${more} more` : ''}, ${extent}`;
}

/** The versions that a pretraining names, as the datasets module knows them. */
export interface VersionFacts {
  readonly id: string;
  readonly digest: string;
  readonly imageCount: number;
}

/** Rules that one field alone cannot state. @throws DomainError BAD_INPUT. */
export function checkPretrainingChoice(input: LaunchPretrainingInput): void {
  checkExtent(input);
  checkOptimizer(input);
  if (typeof input.microBatchSize === 'number' && typeof input.batchSize === 'number')
    checkMicroBatch(input.microBatchSize, input.batchSize);
  const { cropScaleMin, cropScaleMax } = augmentationOf(RECIPES[input.recipe], input);
  if (cropScaleMin > cropScaleMax)
    throw badInput(
      'augmentation.cropScaleMin',
      `cropScaleMin ${cropScaleMin} exceeds cropScaleMax ${cropScaleMax}.`,
      'Name both, the smaller one as cropScaleMin.',
    );
  const ids = input.datasets.map((dataset) => dataset.datasetVersionId);
  const doubled = ids.findIndex((id, index) => ids.indexOf(id) !== index);
  if (doubled >= 0)
    throw badInput(
      `datasets.${doubled}.datasetVersionId`,
      'A dataset version is named twice.',
      'Name it once and set its weight.',
    );
}

function checkExtent({ epochs, steps, budget }: LaunchPretrainingInput): void {
  const given = [epochs, steps, budget].filter((value) => value != null).length;
  if (given !== 1)
    throw badInput(
      budget != null ? 'budget' : 'steps',
      'Give exactly one of budget, epochs and steps.',
      'budget is a time such as 1h, epochs counts passes over the images, steps counts batches.',
    );
  if (budget != null) secondsOfBudget(budget);
}

/** @throws DomainError BAD_INPUT. */
function secondsOfBudget(budget: string): number {
  const seconds = secondsOfDuration(budget);
  if (seconds === undefined)
    throw badInput(
      'budget',
      `"${budget}" is not a duration.`,
      'Write 90s, 45m, 1h, 1h30m or 2d; a number alone is seconds.',
    );
  if (seconds < BUDGET_MIN_SECONDS || seconds > BUDGET_MAX_SECONDS)
    throw badInput(
      'budget',
      `budget must be ${BUDGET_MIN_SECONDS} seconds to a year, not ${durationInWords(seconds)}.`,
      'An hour is a good first budget.',
    );
  return seconds;
}

function checkOptimizer({ optimizer, learningRate, recipe }: LaunchPretrainingInput): void {
  const name = optimizer?.name ?? RECIPES[recipe].optimizerName;
  const foreign = optimizer == null ? undefined : foreignParameter(optimizer);
  if (foreign !== undefined)
    throw badInput(
      `optimizer.${foreign}`,
      `${foreign} is a parameter of ${optimizersWith(foreign).join(', ')}, not of ${name}.`,
      'Leave it out, or name another optimizer.',
    );
  if (optimizer?.nesterov === true && optimizer.momentum === 0)
    throw badInput('optimizer.nesterov', 'nesterov needs a momentum above 0.', 'Set momentum, such as 0.9.');
  const largest = largestLearningRate(name);
  if (learningRate != null && learningRate > largest)
    throw badInput(
      'learningRate',
      `A learningRate of ${learningRate} is far above what ${name} can learn with (at most ${largest}).`,
      `Leave it out, or name the optimizer that it is meant for${name === 'LARS' ? '' : ' (optimizer LARS, or recipe PAPER)'}.`,
    );
}

function checkMicroBatch(microBatchSize: number, batchSize: number): void {
  if (batchSize % microBatchSize !== 0)
    throw badInput(
      'microBatchSize',
      `microBatchSize ${microBatchSize} does not divide batchSize ${batchSize}.`,
      'Take a divisor of batchSize, such as a half or a quarter of it.',
    );
}

function badInput(field: string, message: string, hint: string): DomainError {
  return new DomainError({ code: 'BAD_INPUT', message, field: `input.${field}`, hint });
}

/**
 * Fills in every default and freezes the pretraining; with a budget, everything that does not depend on the speed of
 * the device.
 * @param drawnSeed used where the input has none.
 * @param watching the probe and the states that are registered.
 * @throws DomainError BAD_INPUT, DATASET_VERSION_NOT_FOUND or DATASET_TOO_SMALL.
 */
export function freezePretraining(
  input: LaunchPretrainingInput,
  versions: readonly VersionFacts[],
  drawnSeed: number,
  watching: WatchingConfig = NOT_WATCHED,
): PretrainingConfig | UnplannedPretraining {
  const recipe = RECIPES[input.recipe];
  const datasets = frozenDatasets(input, versions);
  const imageCount = imageCountOf(datasets);
  const batchSize = input.batchSize ?? recipe.batchSize(imageCount);
  if (imageCount < batchSize)
    throw new DomainError({
      code: 'DATASET_TOO_SMALL',
      message: `The datasets hold ${imageCount} images, fewer than a batch of ${batchSize}.`,
      field: 'input.batchSize',
      hint: `Take a batchSize of at most ${imageCount}, or add datasets.`,
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
    initialCheckpointId: input.initialCheckpointId ?? null,
    augmentation: augmentationOf(recipe, input),
    seed: input.seed ?? drawnSeed,
    ...watching,
    named: {
      optimizer: input.optimizer != null,
      learningRate: input.learningRate != null,
      imageSizePx: input.imageSizePx != null,
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
      'Take fewer epochs or a larger batchSize.',
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

/** What follows from the steps and the size of the images. */
function planned(common: CommonConfig, { checkpointEverySteps, ...plan }: Plan): PretrainingConfig {
  const stepsPerEpoch = stepsPerEpochOf(common);
  const recipe = RECIPES[common.recipe];
  const config = {
    ...common,
    ...plan,
    viewSizePx: recipe.viewSizePx(plan.imageSizePx),
    sourceSizePx: recipe.sourceSizePx(plan.imageSizePx),
    epochs: plan.steps / stepsPerEpoch,
    warmupSteps: recipe.warmupSteps({ steps: plan.steps, stepsPerEpoch }),
    checkpointEverySteps: checkpointEverySteps ?? checkpointEveryStepsFor(stepsPerEpoch),
    earlierPlans: [],
  };
  return { ...config, explanation: explainPretraining({ ...config, imageCount: imageCountOf(common.datasets) }) };
}

/** bfloat16 rounds more coarsely: it has to be faster by at least so much to be chosen. */
const BFLOAT16_GAIN_MIN = 1.1;

/** The precision that a budget is spent in, from how fast each was that the device can train in. */
export function fasterPrecision(speeds: readonly MeasuredSpeed[]): Precision {
  const speedIn = (precision: Precision): number =>
    speeds.find((speed) => speed.precision === precision)?.imagesPerSecond ?? 0;
  return speedIn('BFLOAT16') > BFLOAT16_GAIN_MIN * speedIn('FLOAT32') ? 'BFLOAT16' : 'FLOAT32';
}

/** The size of the images that a budget is spent on, from the speed at 64 px. */
export function imageSizePxWithin(unplanned: UnplannedPretraining, imagesPerSecondAt64Px: number): number {
  const epochsAt64Px = (imagesPerSecondAt64Px * unplanned.budget.seconds) / imageCountOf(unplanned.datasets);
  return unplanned.imageSizePx ?? RECIPES[unplanned.recipe].imageSizePx(epochsAt64Px);
}

/** The size at which a worker measures first. */
export function firstImageSizePx(unplanned: UnplannedPretraining): number {
  return unplanned.imageSizePx ?? RECIPES[unplanned.recipe].imageSizePx(undefined);
}

/**
 * Decides what the speed of the device decides.
 * @param speeds as they were measured; the last one is of the precision and size that the run will have.
 * @param elapsedSeconds of the budget.
 * @throws DomainError BUDGET_TOO_SMALL where the images would not be seen once.
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
  const smaller = fits.imageSizePx > 32 ? ', or take a smaller imageSizePx' : '';
  return new DomainError({
    code: 'BUDGET_TOO_SMALL',
    message: `${durationInWords(budget.seconds)} at ${fits.imagesPerSecond.toPrecision(3)} images/s are ${seenCount.toLocaleString('en')} images, less than one epoch of ${imageCount.toLocaleString('en')}.`,
    field: 'input.budget',
    hint: `Give at least ${minutes}m${fewer}${smaller}.`,
  });
}

/**
 * The run with another total of steps from `stepsDone` on; the schedule goes through what is left of it in those. One
 * that ends in its warm-up never came to the rest of its schedule.
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

function stepsPerEpochOf({ datasets, batchSize }: Pick<PretrainingConfig, 'datasets' | 'batchSize'>): number {
  return Math.max(1, Math.floor(imageCountOf(datasets) / batchSize));
}

function imageCountOf(datasets: PretrainingConfig['datasets']): number {
  return datasets.reduce(
    (sum, dataset) => sum + Math.min(dataset.imageCount, dataset.maxImages ?? dataset.imageCount),
    0,
  );
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
        message: 'No such dataset version.',
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

function augmentationOf(
  recipe: Recipe,
  { augmentation, imageSizePx }: LaunchPretrainingInput,
): PretrainingConfig['augmentation'] {
  return augmentationSchema.parse({
    ...recipe.augmentation(imageSizePx ?? undefined),
    ...present(augmentation ?? {}),
  });
}

/** The named parameters over the recipe's. */
function optimizerOf(recipe: Recipe, choice: OptimizerChoice | null | undefined): OptimizerConfig {
  const defaults = recipe.optimizer(choice?.name ?? recipe.optimizerName);
  return optimizerSchema.parse({ ...defaults, ...present(choice ?? {}) });
}

function present(choice: object): object {
  return Object.fromEntries(Object.entries(choice).filter(([, value]) => value != null));
}
