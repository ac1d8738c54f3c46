/** The frozen config of a pretraining run: everything that its result depends on. */
import { z } from 'zod';
import { architectureNamed, describeEncoder, usualPooling } from '../../formats/encoders/index.ts';
import { embeddingLayerOf, encoderArchitectureSchema, type InputContract } from '../checkpoint.ts';
import { augmentationSchema } from './augmentation.ts';
import { formatDuration } from './budget.ts';
import { describeMethod, methodConfigSchema } from './methods/index.ts';
import { optimizerSchema } from './optimizer.ts';
import { RECIPE_NAMES } from './recipe.ts';
import { shuffleSchema } from './shuffle.ts';
import { monitoringConfigFields } from './monitoring.ts';

/** More steps than this must be a typing error: at 100 steps a second, 10 million steps take a day. */
export const MAX_STEPS = 10_000_000;

const precisionSchema = z.enum(['FLOAT32', 'BFLOAT16']);

/** Stochastic depth of a vision transformer: the probability with which an image skips a branch of the last block. */
export const dropPathRateSchema = z.number().min(0, 'must not be negative').max(0.9, 'must be at most 0.9');
/** Each layer's learning rate is this factor times that of the layer after it. */
export const layerDecaySchema = z.number().gt(0, 'must be positive').max(1, 'must be at most 1');

const speedSchema = z.object({
  precision: precisionSchema,
  imageSizePx: z.number().int(),
  imagesPerSecond: z.number(),
});

/** Fields that are decided at every launch. */
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
  encoder: encoderArchitectureSchema,
  /** Runs from before recipes existed used the paper's settings. */
  recipe: z.enum(RECIPE_NAMES).default('PAPER'),
  batchSize: z.number().int(),
  /** Images that go through the encoder at once, by gradient caching; null: the whole batch. Older runs lack it. */
  microBatchSize: z.number().int().nullable().default(null),
  optimizer: optimizerSchema,
  /** Older runs lack the next two. */
  dropPathRate: dropPathRateSchema.default(0),
  layerDecay: layerDecaySchema.default(1),
  learningRate: z.number(),
  method: methodConfigSchema,
  sampling: z.enum(['EVEN', 'PROPORTIONAL']),
  /** Null in runs from before images were read in windows of shards: their order of images is no longer made. */
  shuffle: shuffleSchema.nullable().default(null),
  initialCheckpointId: z.string().nullable(),
  augmentation: augmentationSchema,
  seed: z.number().int(),
  ...monitoringConfigFields,
};

/** Which settings the launch named; the explanation attributes the others to the recipe. */
const namedSchema = z
  .object({
    optimizer: z.boolean(),
    learningRate: z.boolean(),
    imageSizePx: z.boolean(),
    precision: z.boolean(),
    /** True in older configs, so that a plan keeps the crops that were frozen. */
    crop: z.boolean().default(true),
  })
  .default({ optimizer: false, learningRate: true, imageSizePx: true, precision: true, crop: true });

/** The complete frozen config of a pretraining. */
export const pretrainingConfigSchema = z.preprocess(
  withLaterFields,
  z.object({
    ...COMMON,
    /** Side of the encoder's input images. */
    imageSizePx: z.number().int(),
    /** Side of the training views. */
    viewSizePx: z.number().int(),
    /** Side of the decoded square from which views are cut. */
    sourceSizePx: z.number().int(),
    epochs: z.number(),
    steps: z.number().int(),
    warmupSteps: z.number().int(),
    precision: precisionSchema,
    checkpointEverySteps: z.number().int(),
    /** With a budget: the measurements that the steps were planned from. */
    budget: z
      .object({ seconds: z.number(), speeds: z.array(speedSchema) })
      .nullable()
      .default(null),
    /**
     * Earlier totals of steps, replaced when the speed of the device changed, oldest first: the schedule depends on
     * them.
     */
    earlierPlans: z.array(z.object({ untilStep: z.number().int(), totalSteps: z.number().int() })).default([]),
    named: namedSchema,
    explanation: z.array(z.string()).default([]),
  }),
);

export type PretrainingConfig = z.infer<typeof pretrainingConfigSchema>;

/**
 * A pretraining with a budget whose worker has not measured its device yet: fields that depend on the speed may be
 * null.
 */
export const unplannedPretrainingSchema = z.preprocess(
  withLaterFields,
  z.object({
    ...COMMON,
    steps: z.null(),
    imageSizePx: z.number().int().nullable(),
    precision: precisionSchema.nullable(),
    checkpointEverySteps: z.number().int().nullable(),
    budget: z.object({ seconds: z.number() }),
    named: namedSchema,
  }),
);

export type UnplannedPretraining = z.infer<typeof unplannedPretrainingSchema>;

/** What a launch freezes: a complete config, or with a budget one that its worker completes. */
export const frozenPretrainingSchema = z.union([unplannedPretrainingSchema, pretrainingConfigSchema]);
export type FrozenPretraining = z.infer<typeof frozenPretrainingSchema>;

/**
 * Fills in the fields that older configs lack. When LARS was the only optimizer and SimCLR the only method, their
 * parameters were top-level fields, and a view had the size of the encoder's input.
 */
function withLaterFields(config: unknown): unknown {
  if (typeof config !== 'object' || config === null) return config;
  const withMethod =
    'method' in config || !('temperature' in config) || !('projectionDim' in config)
      ? config
      : { ...config, method: { name: 'SIMCLR', temperature: config.temperature, projectionDim: config.projectionDim } };
  const sized =
    'viewSizePx' in withMethod || !('imageSizePx' in withMethod)
      ? withMethod
      : { ...withMethod, viewSizePx: withMethod.imageSizePx };
  if ('optimizer' in sized || !('momentum' in sized) || !('weightDecay' in sized)) return sized;
  const { momentum, weightDecay, ...others } = sized;
  return { ...others, optimizer: { name: 'LARS', momentum, weightDecay } };
}

const explainedSchema = z.object({ explanation: z.array(z.string()) });

/** The explanation in a run's config; empty for runs from before explanations existed and for runs not planned yet. */
export function explanationOf(config: unknown): string[] {
  const { data } = explainedSchema.safeParse(config);
  return data?.explanation ?? [];
}

/** The title names only the first few versions. */
const VERSIONS_IN_TITLE = 3;

/** @param versionNames as `slug@version`, in the order of the config. */
export function titleOfPretraining(
  config: PretrainingConfig | UnplannedPretraining,
  versionNames: readonly string[],
): string {
  const { modelSlug, steps, method } = config;
  const encoderName = config.encoder.toLowerCase();
  if (steps === 0) return `${modelSlug}: ${encoderName}, random weights`;
  const named = versionNames.slice(0, VERSIONS_IN_TITLE).join(', ');
  const more = versionNames.length - VERSIONS_IN_TITLE;
  const extent = config.steps === null ? formatDuration(config.budget.seconds) : `${config.steps} steps`;
  const by = method.name === 'SIMCLR' ? '' : ` by ${describeMethod(method.name).title}`;
  return `${modelSlug}: ${encoderName}${by} on ${named}${more > 0 ? ` and ${more} more` : ''}, ${extent}`;
}

/** The input contract of encoders from this pretraining. */
export function inputContractOf({
  imageSizePx,
  encoder,
}: Pick<PretrainingConfig, 'imageSizePx' | 'encoder'>): InputContract {
  const pooling = usualPooling(describeEncoder(architectureNamed(encoder)));
  return {
    imageSizePx,
    // Mean and standard deviation are 0.5, because the views were normalised with these values.
    channelMean: [0.5, 0.5, 0.5],
    channelStd: [0.5, 0.5, 0.5],
    valueRange: [0, 1],
    channelOrder: 'RGB',
    resizeRule: 'SHORT_SIDE_THEN_CENTRE_CROP',
    embeddingLayer: embeddingLayerOf(pooling),
    pooling,
    interpolation: 'BILINEAR',
    weightsDtype: 'FLOAT32',
    micronsPerPixelMin: null,
    micronsPerPixelMax: null,
  };
}

export function stepsPerEpochOf({ datasets, batchSize }: Pick<PretrainingConfig, 'datasets' | 'batchSize'>): number {
  return Math.max(1, Math.floor(imageCountOf(datasets) / batchSize));
}

export function imageCountOf(datasets: PretrainingConfig['datasets']): number {
  return datasets.reduce(
    (sum, dataset) => sum + Math.min(dataset.imageCount, dataset.maxImages ?? dataset.imageCount),
    0,
  );
}
