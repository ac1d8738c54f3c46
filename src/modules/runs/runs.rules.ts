/** What a run may be asked to do, and which states may follow which. Pure. */
import { z } from 'zod';
import { DomainError, UnreachableCaseError } from '../../errors.ts';
import { idempotencyKeySchema } from '../../input.ts';
import { ACCESS_ROLES, type Viewer } from '../access/index.ts';

export const RUN_STATUSES = ['QUEUED', 'RUNNING', 'CANCELING', 'SUCCEEDED', 'FAILED', 'CANCELED'] as const;
export type RunStatus = (typeof RUN_STATUSES)[number];

export const RUN_KINDS = ['IMPORT', 'PRETRAINING', 'EVALUATION', 'EXPORT'] as const;
export type RunKind = (typeof RUN_KINDS)[number];

/**
 * Runs of one lane go one after another on a worker: a night of training must not keep a small import waiting, nor
 * either of them a download.
 */
export const RUN_LANES: readonly (readonly RunKind[])[] = [['PRETRAINING', 'EVALUATION'], ['IMPORT'], ['EXPORT']];

/** The kinds that wait in the same line as this one. */
export function laneOf(kind: RunKind): readonly RunKind[] {
  return RUN_LANES.find((lane) => lane.includes(kind)) ?? [kind];
}

/** A terminal run never changes again, but for a resumed one, which goes back to QUEUED under a new attempt. */
export function isTerminal(status: RunStatus): boolean {
  switch (status) {
    case 'QUEUED':
    case 'RUNNING':
    case 'CANCELING':
      return false;
    case 'SUCCEEDED':
    case 'FAILED':
    case 'CANCELED':
      return true;
    default:
      throw new UnreachableCaseError(status);
  }
}

/**
 * A run's config as `viewer` may see it. Where files lie on the server is a matter of those who may import: anybody
 * else sees the last part of a path.
 */
export function configShownTo(viewer: Viewer, config: unknown): unknown {
  const mayImport = viewer.kind === 'KEY' && ACCESS_ROLES.indexOf(viewer.role) >= ACCESS_ROLES.indexOf('CONTRIBUTOR');
  return mayImport ? config : withoutFolders(config);
}

function withoutFolders(value: unknown): unknown {
  if (typeof value === 'string') return value.startsWith('/') ? `…/${value.split('/').at(-1) ?? ''}` : value;
  if (Array.isArray(value)) return value.map(withoutFolders);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, withoutFolders(item)]));
}

/**
 * A worker that has not renewed for this long is taken for dead. With the time between two looks it makes less than 30
 * s.
 */
export const LEASE_SECONDS = 20;

/** While somebody waits for a cancel, a worker is given less: a dead one must not keep the run for ten seconds. */
export const CANCELING_LEASE_SECONDS = 5;

/** What went wrong with a run, as far as the next attempt is concerned. */
export interface FailureFacts {
  readonly class: 'USER' | 'DATA' | 'OUT_OF_MEMORY' | 'INFRASTRUCTURE' | 'TIMEOUT' | 'INTERNAL';
  readonly code: string;
}

/** Codes of a class that may get better, of which another attempt would come to the same end all the same. */
const FINAL_CODES: ReadonlySet<string> = new Set([
  'ARTIFACT_CORRUPT',
  'ARTIFACT_NOT_FOUND',
  'ENGINE_MISSING',
  'TIMED_OUT',
]);

/** True where another attempt may come to a better end without anybody's doing. */
export function isRetryable(failure: FailureFacts): boolean {
  switch (failure.class) {
    case 'INFRASTRUCTURE':
    case 'TIMEOUT':
      return !FINAL_CODES.has(failure.code);
    case 'OUT_OF_MEMORY':
    case 'USER':
    case 'DATA':
    case 'INTERNAL':
      return false;
    default:
      throw new UnreachableCaseError(failure.class);
  }
}

/** Codes of what befell an attempt from outside: the run itself may be sound. */
const CODES_FROM_OUTSIDE: ReadonlySet<string> = new Set(['WORKER_SILENT', 'DATABASE_UNREACHABLE']);

/** True where the attempt ended through its own fault, so that another one may well come to the same end. */
export function isOwnDoing(failure: FailureFacts): boolean {
  return !CODES_FROM_OUTSIDE.has(failure.code);
}

/** A pass of fewer images has nothing to normalise a batch by. */
const MICRO_BATCH_MIN = 2;

/**
 * The micro-batch with which a pretraining that ran out of memory is tried again: half of the last one, or
 * the next smaller divisor of the batch. The effective batch stays as it is. Undefined where nothing smaller is left,
 * and for kinds that have no batch.
 */
export function smallerMicroBatch(run: {
  readonly kind: RunKind;
  readonly config: unknown;
  readonly microBatchSize: number | null;
}): number | undefined {
  if (run.kind !== 'PRETRAINING') return undefined;
  const config = pretrainingConfigSchema.parse(run.config);
  const half = Math.floor((run.microBatchSize ?? config.microBatchSize ?? config.batchSize) / 2);
  for (let size = half; size >= MICRO_BATCH_MIN; size -= 1) if (config.batchSize % size === 0) return size;
  return undefined;
}

export const ENCODER_ARCHITECTURES = ['RESNET18', 'RESNET34', 'RESNET50', 'RESNET101'] as const;

/**
 * How the two views are made; paper.md's defaults. Strengths and probabilities are 0..1, scales are shares of the area.
 */
const augmentationSchema = z
  .strictObject({
    cropScaleMin: z.number().gt(0).max(1).default(0.08),
    cropScaleMax: z.number().gt(0).max(1).default(1),
    flip: z.boolean().default(true),
    quarterTurns: z.boolean().default(true),
    colourJitterStrength: z.number().min(0).max(2).default(1),
    colourJitterProbability: z.number().min(0).max(1).default(0.8),
    greyProbability: z.number().min(0).max(1).default(0.2),
    blurProbability: z.number().min(0).max(1).default(0.5),
  })
  .refine((value) => value.cropScaleMin <= value.cropScaleMax, {
    path: ['cropScaleMin'],
    message: 'must not exceed cropScaleMax',
  });

const seedSchema = z.number().int().min(0).max(2_147_483_647);
/** PostgreSQL writes ids in lower case. */
const idSchema = z.uuid().toLowerCase();

/** Up to a year. */
export const maxDurationSchema = z
  .number()
  .int()
  .min(1, 'must be at least 1')
  .max(31_536_000, 'must be at most a year (31536000)');

/** Runs beyond this many steps are a slip of the hand: at 100 steps a second it would take a day for 10 million. */
export const MAX_STEPS = 10_000_000;

/**
 * `LaunchPretrainingInput` with its ranges. `steps: 0` registers the freshly initialised encoder:
 * the random control that every comparison needs.
 */
export const launchPretrainingSchema = z.object({
  modelSlug: z
    .string()
    .regex(/^[a-z0-9]+(-[a-z0-9]+)*$/, 'must be lower-case words joined by hyphens')
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
  imageSizePx: z
    .number()
    .int()
    .min(32, 'must be at least 32: the encoder halves it five times')
    .max(1024, 'must be at most 1024'),
  batchSize: z
    .number()
    .int()
    .min(2, 'must be at least 2: a batch of one has no negatives')
    .max(8192, 'must be at most 8192'),
  microBatchSize: z
    .number()
    .int()
    .min(2, 'must be at least 2: batch norm needs more than one image')
    .max(8192, 'must be at most 8192')
    .nullish(),
  epochs: z.number().gt(0, 'must be positive').max(100_000, 'must be at most 100000').nullish(),
  steps: z.number().int().min(0, 'must not be negative').max(MAX_STEPS, `must be at most ${MAX_STEPS}`).nullish(),
  learningRate: z.number().gt(0, 'must be positive').max(1000, 'must be at most 1000').nullish(),
  temperature: z.number().min(0.001, 'must be positive (0.001 to 100)').max(100, 'must be at most 100'),
  sampling: z.enum(['EVEN', 'PROPORTIONAL']),
  precision: z.enum(['FLOAT32', 'BFLOAT16']),
  checkpointEverySteps: z.number().int().min(1, 'must be at least 1').max(MAX_STEPS).nullish(),
  initialCheckpointId: z.string().nullish(),
  augmentation: augmentationSchema.nullish(),
  seed: seedSchema.nullish(),
  maxDurationSeconds: maxDurationSchema.nullish(),
  idempotencyKey: idempotencyKeySchema.nullish(),
});
export type LaunchPretrainingInput = z.infer<typeof launchPretrainingSchema>;

/** A pretraining as it is frozen at launch: everything that the result depends on. */
export const pretrainingConfigSchema = z.object({
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
  imageSizePx: z.number().int(),
  /** Side of the decoded square from which views are cut. */
  sourceSizePx: z.number().int(),
  batchSize: z.number().int(),
  /**
   * Images that go through the encoder at once, by gradient caching; null: the whole batch. Runs from before this
   * existed have none.
   */
  microBatchSize: z.number().int().nullable().default(null),
  epochs: z.number(),
  steps: z.number().int(),
  warmupSteps: z.number().int(),
  learningRate: z.number(),
  temperature: z.number(),
  weightDecay: z.number(),
  momentum: z.number(),
  projectionDim: z.number().int(),
  sampling: z.enum(['EVEN', 'PROPORTIONAL']),
  precision: z.enum(['FLOAT32', 'BFLOAT16']),
  checkpointEverySteps: z.number().int(),
  initialCheckpointId: z.string().nullable(),
  augmentation: augmentationSchema,
  seed: z.number().int(),
});
export type PretrainingConfig = z.infer<typeof pretrainingConfigSchema>;

/** Of more versions the first ones are named. */
const VERSIONS_IN_TITLE = 3;

/** @param versionNames as `slug@version`, in the order of the config. */
export function titleOfPretraining(
  { modelSlug, encoder, steps }: PretrainingConfig,
  versionNames: readonly string[],
): string {
  const encoderName = encoder.toLowerCase();
  if (steps === 0) return `${modelSlug}: ${encoderName}, random weights`;
  const named = versionNames.slice(0, VERSIONS_IN_TITLE).join(', ');
  const more = versionNames.length - VERSIONS_IN_TITLE;
  return `${modelSlug}: ${encoderName} on ${named}${more > 0 ? ` and ${more} more` : ''}, ${steps} steps`;
}

/** The versions that a pretraining names, as the datasets module knows them. */
export interface VersionFacts {
  readonly id: string;
  readonly digest: string;
  readonly imageCount: number;
}

/**
 * Fills in every default and freezes the pretraining.
 *
 * Defaults follow SimCLR (Chen et al. 2020): learning rate 0.3 x batchSize / 256, ten epochs of warm-up (at most a
 * tenth of a short run), weight decay 1e-6, projection of 128.
 * @param drawnSeed used where the input has none.
 * @throws DomainError BAD_INPUT or DATASET_TOO_SMALL.
 */
export function freezePretraining(
  input: LaunchPretrainingInput,
  versions: readonly VersionFacts[],
  drawnSeed: number,
): PretrainingConfig {
  const datasets = input.datasets.map((wanted, index) => {
    const version = versions.find((candidate) => candidate.id === wanted.datasetVersionId);
    if (version === undefined)
      throw new DomainError({
        code: 'DATASET_VERSION_NOT_FOUND',
        message: 'No such dataset version.',
        field: `input.datasets.${index}.datasetVersionId`,
      });
    const maxImages = wanted.maxImages ?? null;
    return {
      datasetVersionId: version.id,
      digest: version.digest,
      imageCount: version.imageCount,
      maxImages,
      weight: wanted.weight ?? 1,
    };
  });
  const usedImages = datasets.reduce(
    (sum, dataset) => sum + Math.min(dataset.imageCount, dataset.maxImages ?? dataset.imageCount),
    0,
  );
  if (usedImages < input.batchSize) {
    throw new DomainError({
      code: 'DATASET_TOO_SMALL',
      message: `The datasets hold ${usedImages} images, fewer than a batch of ${input.batchSize}.`,
      field: 'input.batchSize',
      hint: `Take a batchSize of at most ${usedImages}, or add datasets.`,
    });
  }
  const stepsPerEpoch = Math.max(1, Math.floor(usedImages / input.batchSize));
  const steps = input.steps ?? Math.max(1, Math.round((input.epochs ?? 0) * stepsPerEpoch));
  if (steps > MAX_STEPS) {
    throw new DomainError({
      code: 'BAD_INPUT',
      message: `${input.epochs} epochs are ${steps} steps, more than ${MAX_STEPS}.`,
      field: 'input.epochs',
      hint: 'Take fewer epochs or a larger batchSize.',
    });
  }
  return {
    modelSlug: input.modelSlug,
    datasets,
    encoder: input.encoder,
    imageSizePx: input.imageSizePx,
    sourceSizePx: sourceSizePxFor(input.imageSizePx),
    batchSize: input.batchSize,
    microBatchSize: input.microBatchSize ?? null,
    epochs: steps / stepsPerEpoch,
    steps,
    warmupSteps: Math.min(10 * stepsPerEpoch, Math.floor(steps / 10)),
    learningRate: input.learningRate ?? (0.3 * input.batchSize) / 256,
    temperature: input.temperature,
    weightDecay: 1e-6,
    momentum: 0.9,
    projectionDim: 128,
    sampling: input.sampling,
    precision: input.precision,
    checkpointEverySteps: input.checkpointEverySteps ?? Math.max(1, Math.min(1000, stepsPerEpoch * 10)),
    initialCheckpointId: input.initialCheckpointId ?? null,
    augmentation: input.augmentation ?? augmentationSchema.parse({}),
    seed: input.seed ?? drawnSeed,
  };
}

/**
 * Twice the view, so that a small crop still holds detail, but no more than a usual patch of 256 px unless the view
 * itself is larger: decoding more than the views can show is time lost.
 */
function sourceSizePxFor(imageSizePx: number): number {
  return Math.min(2 * imageSizePx, Math.max(imageSizePx, 256));
}

/** Rules that one field alone cannot state. */
export function checkPretrainingChoice(input: LaunchPretrainingInput): void {
  const given = [input.epochs, input.steps].filter((value) => value !== null && value !== undefined).length;
  if (given !== 1) {
    throw new DomainError({
      code: 'BAD_INPUT',
      message: 'Give exactly one of epochs and steps.',
      field: 'input.steps',
      hint: 'epochs counts passes over the images, steps counts batches.',
    });
  }
  if (typeof input.microBatchSize === 'number' && input.batchSize % input.microBatchSize !== 0) {
    throw new DomainError({
      code: 'BAD_INPUT',
      message: `microBatchSize ${input.microBatchSize} does not divide batchSize ${input.batchSize}.`,
      field: 'input.microBatchSize',
      hint: 'Take a divisor of batchSize, such as a half or a quarter of it.',
    });
  }
  const ids = input.datasets.map((dataset) => dataset.datasetVersionId);
  const doubled = ids.findIndex((id, index) => ids.indexOf(id) !== index);
  if (doubled >= 0) {
    throw new DomainError({
      code: 'BAD_INPUT',
      message: 'A dataset version is named twice.',
      field: `input.datasets.${doubled}.datasetVersionId`,
      hint: 'Name it once and set its weight.',
    });
  }
}

/** Which part of a series is wanted, and how finely. */
export interface MetricWindow {
  /** First and last step that count, both included. */
  readonly fromStep: number;
  readonly toStep: number;
  /** A series of more points is thinned to at most this many, of which the extremes stay. */
  readonly maxPoints: number;
}
export type Nullish<Facts> = { readonly [Key in keyof Facts]?: Facts[Key] | null | undefined };

/** As many as a plot is wide. */
export const METRIC_POINTS_DEFAULT = 1000;
const STEP_LAST = 2_147_483_647;

/** @throws DomainError BAD_INPUT for a number out of range. */
export function metricWindowOf({ fromStep, toStep, maxPoints }: Nullish<MetricWindow>): MetricWindow {
  const inRange = (field: string, value: number, least: number, most: number): number => {
    if (value >= least && value <= most) return value;
    throw new DomainError({
      code: 'BAD_INPUT',
      message: `${field} must be ${least} to ${most}, not ${value}.`,
      field,
      hint: 'Narrow fromStep and toStep to see a part of a series point by point.',
    });
  };
  return {
    fromStep: inRange('fromStep', fromStep ?? 0, 0, STEP_LAST),
    toStep: inRange('toStep', toStep ?? STEP_LAST, 0, STEP_LAST),
    maxPoints: inRange('maxPoints', maxPoints ?? METRIC_POINTS_DEFAULT, 10, 100_000),
  };
}
