/** Validation of the launch of a pretraining: the range of each field, and the rules between fields. Pure. */
import { z } from 'zod';
import { DomainError } from '../../errors.ts';
import { idempotencyKeySchema } from '../../input.ts';
import { augmentationChoiceSchema, augmentationSchema } from '../../protocol/pretraining/augmentation.ts';
import {
  BUDGET_MAX_SECONDS,
  BUDGET_MIN_SECONDS,
  formatDuration,
  secondsOfDuration,
} from '../../protocol/pretraining/budget.ts';
import {
  describeMethod,
  methodConfigOf,
  methodNames,
  type MethodConfig,
} from '../../protocol/pretraining/methods/index.ts';
import {
  inapplicableParameter,
  optimizerChoiceSchema,
  optimizersWith,
  optimizerSchema,
  type OptimizerChoice,
  type OptimizerConfig,
} from '../../protocol/pretraining/optimizer.ts';
import { RECIPE_NAMES, type Recipe } from '../../protocol/pretraining/recipe.ts';
import { isVisionTransformer, largestLearningRate, recipeFor } from '../../protocol/pretraining/recipes.ts';
import { maxDurationSchema, requirementsInputSchema } from './runs.rules.ts';
import { monitoringInputFields } from './monitoring.rules.ts';
import { architectureNamed, describeEncoder } from '../../formats/encoders/index.ts';
import { ENCODER_ARCHITECTURES } from '../../protocol/checkpoint.ts';
import {
  dropPathRateSchema,
  layerDecaySchema,
  MAX_STEPS,
  type PretrainingConfig,
} from '../../protocol/pretraining/config.ts';

const seedSchema = z.number().int().min(0).max(2_147_483_647);

/** PostgreSQL writes ids in lower case. */
const idSchema = z.uuid().toLowerCase();

/**
 * `LaunchPretrainingInput` with its ranges. `steps: 0` registers the freshly initialised encoder:
 * the random control that every comparison needs.
 */
export const launchPretrainingSchema = z.object({
  modelSlug: z
    .string()
    .regex(/^[a-z0-9]+(-[a-z0-9]+)*$/, 'must consist of lower-case words joined by hyphens')
    .max(100),
  datasets: z
    .array(
      z.object({
        datasetVersionId: idSchema,
        maxImages: z.number().int().min(1).nullish(),
        weight: z.number().gt(0).max(1_000_000).nullish(),
      }),
    )
    .min(1, 'must name at least one dataset version')
    .max(1000),
  encoder: z.enum(ENCODER_ARCHITECTURES),
  method: z.enum(methodNames()).default('SIMCLR'),
  methodOptions: z.record(z.string(), z.unknown()).nullish(),
  imageSizePx: z
    .number()
    .int()
    .min(32, 'must be at least 32: the encoder halves it five times')
    .max(1024, 'must be at most 1024')
    .nullish(),
  batchSize: z
    .number()
    .int()
    .min(2, 'must be at least 2: a method compares images')
    .max(8192, 'must be at most 8192')
    .nullish(),
  microBatchSize: z
    .number()
    .int()
    .min(2, 'must be at least 2: batch norm needs more than one image')
    .max(8192, 'must be at most 8192')
    .nullish(),
  epochs: z.number().gt(0, 'must be positive').max(100_000, 'must be at most 100000').nullish(),
  steps: z.number().int().min(0, 'must not be negative').max(MAX_STEPS, `must be at most ${MAX_STEPS}`).nullish(),
  learningRate: z.number().gt(0, 'must be positive').max(1000, 'must be at most 1000').nullish(),
  budget: z.string().max(100).nullish(),
  recipe: z.enum(RECIPE_NAMES).default('DEFAULT'),
  optimizer: optimizerChoiceSchema.nullish(),
  dropPathRate: dropPathRateSchema.nullish(),
  layerDecay: layerDecaySchema.nullish(),
  temperature: z.number().min(0.001, 'must be positive (0.001 to 100)').max(100, 'must be at most 100').nullish(),
  sampling: z.enum(['EVEN', 'PROPORTIONAL']),
  precision: z.enum(['FLOAT32', 'BFLOAT16']).nullish(),
  checkpointEverySteps: z.number().int().min(1, 'must be at least 1').max(MAX_STEPS).nullish(),
  initialCheckpointId: z.string().nullish(),
  augmentation: augmentationChoiceSchema.nullish(),
  seed: seedSchema.nullish(),
  ...monitoringInputFields,
  maxDurationSeconds: maxDurationSchema.nullish(),
  requirements: requirementsInputSchema,
  idempotencyKey: idempotencyKeySchema.nullish(),
});

export type LaunchPretrainingInput = z.infer<typeof launchPretrainingSchema>;

/** Checks the rules that involve several fields. @throws DomainError BAD_INPUT. */
export function checkPretrainingChoice(input: LaunchPretrainingInput): void {
  checkExtent(input);
  checkOptimizer(input);
  checkEncoder(input);
  methodOf(input);
  if (typeof input.microBatchSize === 'number' && typeof input.batchSize === 'number')
    checkMicroBatch(input.microBatchSize, input.batchSize);
  const { cropScaleMin, cropScaleMax } = augmentationOf(recipeFor(input), input);
  if (cropScaleMin > cropScaleMax)
    throw badInput(
      'augmentation.cropScaleMin',
      `cropScaleMin ${cropScaleMin} exceeds cropScaleMax ${cropScaleMax}.`,
      'Give both, the smaller one as cropScaleMin.',
    );
  const ids = input.datasets.map((dataset) => dataset.datasetVersionId);
  const duplicate = ids.findIndex((id, index) => ids.indexOf(id) !== index);
  if (duplicate >= 0)
    throw badInput(
      `datasets.${duplicate}.datasetVersionId`,
      'A dataset version is listed twice.',
      'List it once and set its weight.',
    );
}

function checkExtent({ epochs, steps, budget }: LaunchPretrainingInput): void {
  const extentCount = [epochs, steps, budget].filter((value) => value != null).length;
  if (extentCount !== 1)
    throw badInput(
      budget != null ? 'budget' : 'steps',
      'Give exactly one of budget, epochs and steps.',
      'budget is a time such as 1h, epochs counts passes over the images, steps counts batches.',
    );
  if (budget != null) secondsOfBudget(budget);
}

/** @throws DomainError BAD_INPUT. */
export function secondsOfBudget(budget: string): number {
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
      `budget must be ${BUDGET_MIN_SECONDS} seconds to a year, not ${formatDuration(seconds)}.`,
      'An hour is a good first budget.',
    );
  return seconds;
}

/** The API's default, which cannot be told from a launch that leaves `temperature` out; null asks for the recipe's. */
const TEMPERATURE_LEFT_OUT = 0.5;

/** The settings of the launch's method. @throws DomainError BAD_INPUT. */
export function methodOf({
  method,
  methodOptions,
  temperature = TEMPERATURE_LEFT_OUT,
  recipe,
}: LaunchPretrainingInput): MethodConfig {
  const { title, recipes, help, hasTemperature } = describeMethod(method);
  if (!recipes.includes(recipe))
    throw badInput(
      'recipe',
      `The recipe ${recipe} has no values for ${title}.`,
      `Use the recipe ${recipes.join(' or ')}, or method SIMCLR.`,
    );
  if (!hasTemperature && temperature !== null && temperature !== TEMPERATURE_LEFT_OUT)
    throw badInput('temperature', `The loss of ${title} has no temperature.`, 'Leave it out, or set it to null.');
  try {
    return methodConfigOf(method, recipe, methodOptions ?? {}, temperature);
  } catch (error) {
    if (!(error instanceof z.ZodError)) throw error;
    const [issue] = error.issues;
    const path = ['methodOptions', ...(issue?.path ?? [])].join('.');
    throw badInput(path, `${title}: ${issue?.message ?? 'a wrong option'}.`, `Its options are: ${help}.`);
  }
}

function checkOptimizer(input: LaunchPretrainingInput): void {
  const { optimizer, learningRate } = input;
  const name = optimizer?.name ?? recipeFor(input).optimizerName;
  const inapplicable = optimizer == null ? undefined : inapplicableParameter(optimizer);
  if (inapplicable !== undefined)
    throw badInput(
      `optimizer.${inapplicable}`,
      `${inapplicable} is a parameter of ${optimizersWith(inapplicable).join(', ')}, not of ${name}.`,
      'Leave it out, or name another optimizer.',
    );
  if (optimizer?.nesterov === true && optimizer.momentum === 0)
    throw badInput('optimizer.nesterov', 'nesterov needs a momentum above 0.', 'Set momentum, such as 0.9.');
  const largest = largestLearningRate(name);
  if (learningRate != null && learningRate > largest)
    throw badInput(
      'learningRate',
      `A learningRate of ${learningRate} is far above what ${name} can learn with (at most ${largest}).`,
      `Leave it out, or choose an optimizer for which it is intended${name === 'LARS' ? '' : ' (optimizer LARS, or recipe PAPER)'}.`,
    );
}

function checkEncoder({ encoder, imageSizePx, dropPathRate, layerDecay }: LaunchPretrainingInput): void {
  const fault =
    imageSizePx == null ? undefined : describeEncoder(architectureNamed(encoder)).imageSizeFault(imageSizePx);
  if (fault !== undefined) throw badInput('imageSizePx', fault, 'Use a multiple of 16, such as 96 or 224.');
  if (isVisionTransformer(encoder)) return;
  for (const [field, value] of [
    ['dropPathRate', dropPathRate ?? 0],
    ['layerDecay', (layerDecay ?? 1) - 1],
  ] as const)
    if (value !== 0)
      throw badInput(field, `${field} is for vision transformers, and ${encoder} is a ResNet.`, 'Leave it out.');
}

export function checkMicroBatch(microBatchSize: number, batchSize: number): void {
  if (batchSize % microBatchSize !== 0)
    throw badInput(
      'microBatchSize',
      `microBatchSize ${microBatchSize} does not divide batchSize ${batchSize}.`,
      'Use a divisor of batchSize, such as a half or a quarter of it.',
    );
}

export function augmentationOf(
  recipe: Recipe,
  { augmentation, imageSizePx }: LaunchPretrainingInput,
): PretrainingConfig['augmentation'] {
  return augmentationSchema.parse({
    ...recipe.augmentation(imageSizePx ?? undefined),
    ...present(augmentation ?? {}),
  });
}

/** The recipe's parameters, overridden by the named ones. */
export function optimizerOf(recipe: Recipe, choice: OptimizerChoice | null | undefined): OptimizerConfig {
  const defaults = recipe.optimizer(choice?.name ?? recipe.optimizerName);
  return optimizerSchema.parse({ ...defaults, ...present(choice ?? {}) });
}

function present(choice: object): object {
  return Object.fromEntries(Object.entries(choice).filter(([, value]) => value != null));
}

export function badInput(field: string, message: string, hint: string): DomainError {
  return new DomainError({ code: 'BAD_INPUT', message, field: `input.${field}`, hint });
}
