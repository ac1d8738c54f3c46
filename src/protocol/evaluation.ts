/** An EVALUATION: a checkpoint and a labelled version in, metrics, baselines, predictions and leakage out. */
import { z } from 'zod';
import { storedBytesSchema } from './artifacts.ts';

export const EVALUATION_PROTOCOLS = ['LINEAR_PROBE', 'KNN', 'FINE_TUNE', 'REGRESSION'] as const;

/** Resamples of the bootstrap over groups that gives the 95 % intervals. */
const bootstrapResamples = z
  .number()
  .int()
  .min(100, 'must be at least 100')
  .max(10_000, 'must be at most 10000')
  .default(1000);

export const curveOptionsSchema = z.strictObject({
  bootstrapResamples,
  /** Label fractions for the learning curve; the protocol is trained again on each, drawn group by group. */
  labelFractions: z.array(z.number().gt(0, 'must be above 0').max(1, 'must be at most 1')).max(10).default([]),
  /** Few-shot: the number of images of each label. */
  shotsPerClass: z.array(z.number().int().min(1, 'must be at least 1').max(10_000)).max(10).default([]),
  /** Number of draws of each fraction or shot count. */
  drawCount: z.number().int().min(1, 'must be at least 1').max(100, 'must be at most 100').default(10),
});

export const fineTuningOptionsSchema = z.strictObject({
  bootstrapResamples,
  maxEpochs: z.number().int().min(1, 'must be at least 1').max(500, 'must be at most 500').default(30),
  batchSize: z.number().int().min(1, 'must be at least 1').max(1024, 'must be at most 1024').default(32),
  /** Learning rate of the encoder; the classifier on top uses ten times this rate. */
  learningRate: z.number().gt(0, 'must be positive').max(10, 'must be at most 10').default(0.003),
  /** Early stopping: epochs without a better validation macro F1 after which the training ends. */
  patienceEpochs: z.number().int().min(1, 'must be at least 1').max(500, 'must be at most 500').default(5),
});

export const regressionOptionsSchema = z.strictObject({ bootstrapResamples });

const frozen = {
  checkpointId: z.string(),
  checkpointSha256: z.string(),
  datasetVersionId: z.string(),
  datasetDigest: z.string(),
  folds: z.number().int(),
  seed: z.number().int(),
  /** Evaluations from before it was fixed drew the random encoder from their own seed. */
  randomEncoderSeed: z.number().int().nullable().default(null),
};

/** The config of an evaluation, frozen at launch. */
export const evaluationConfigSchema = z.discriminatedUnion('protocol', [
  z.object({ ...frozen, protocol: z.literal('LINEAR_PROBE'), options: curveOptionsSchema }),
  z.object({ ...frozen, protocol: z.literal('KNN'), options: curveOptionsSchema }),
  z.object({ ...frozen, protocol: z.literal('FINE_TUNE'), options: fineTuningOptionsSchema }),
  z.object({ ...frozen, protocol: z.literal('REGRESSION'), options: regressionOptionsSchema }),
]);
export type EvaluationConfig = z.infer<typeof evaluationConfigSchema>;

const count = z.number().int().min(0);

export const evaluationMetricSchema = z.object({
  name: z.string(),
  value: z.number(),
  ci95Low: z.number().nullable(),
  ci95High: z.number().nullable(),
});
export type EvaluationMetricRecord = Readonly<z.infer<typeof evaluationMetricSchema>>;

export const BASELINE_KINDS = ['RANDOM_ENCODER', 'COLOUR_STATISTICS', 'MAJORITY_CLASS', 'MEAN_LABEL'] as const;
export type BaselineKind = (typeof BASELINE_KINDS)[number];

/** The same protocol trained on fewer labels. Either labelFraction or shotsPerClass is given. */
const learningCurvePointSchema = z.object({
  labelFraction: z.number().nullable(),
  shotsPerClass: z.number().int().nullable(),
  drawCount: count,
  /** Mean over draws and parts of the split. */
  trainImageCount: z.number().min(0),
  metrics: z
    .array(
      evaluationMetricSchema.extend({
        /** Standard deviation over the draws. */
        drawDeviation: z.number(),
      }),
    )
    .readonly(),
});
export type LearningCurvePointRecord = Readonly<z.infer<typeof learningCurvePointSchema>>;

const baselineSchema = z.object({
  kind: z.enum(BASELINE_KINDS),
  metrics: z.array(evaluationMetricSchema).readonly(),
  /** Result minus baseline, paired; the interval is that of the difference. Empty in older evaluations. */
  differences: z.array(evaluationMetricSchema).readonly(),
  learningCurve: z.array(learningCurvePointSchema).readonly(),
});
export type EvaluationBaselineRecord = Readonly<z.infer<typeof baselineSchema>>;

const confusionMatrixSchema = z.object({
  labelNames: z.array(z.string()).readonly(),
  /** counts[true][predicted] */
  counts: z.array(z.array(count).readonly()).readonly(),
});
export type ConfusionMatrixRecord = Readonly<z.infer<typeof confusionMatrixSchema>>;

const classReportSchema = z.object({
  label: z.string(),
  precision: z.number(),
  recall: z.number(),
  f1Score: z.number(),
  support: count,
});
export type ClassReportRecord = Readonly<z.infer<typeof classReportSchema>>;

/** The overlap of the tested images with the checkpoint's pretraining data. */
const leakageSchema = z.object({
  /** False if one of its ancestors was imported: the true overlap may then be larger. */
  isComplete: z.boolean(),
  /** True if a training used only a part of a version: not all of its images may then have been seen. */
  isUpperBound: z.boolean(),
  testImageCount: count,
  /** Number of images with identical pixels; null if one of the versions was sealed before images were hashed. */
  exactImageCount: count.nullable(),
  /** Number of near-duplicates: recompressed, resized, mirrored or rotated copies. */
  nearDuplicateImageCount: count.nullable(),
  testGroupCount: count,
  sharedGroupCount: count,
  /** Slug of the tested dataset, if a version of it was in the pretraining. */
  sharedDatasets: z.array(z.string()).readonly(),
  /** Slugs of collections that both datasets were cut from. */
  sharedCollections: z.array(z.string()).readonly(),
  unhashedVersionCount: count,
});
export type LeakageRecord = Readonly<z.infer<typeof leakageSchema>>;

/** Everything else of the evaluation follows from the run's config. */
export const evaluationOutcomeSchema = z.strictObject({
  kind: z.literal('EVALUATION'),
  /** Details of the division into parts, by protocol. */
  split: z.record(z.string(), z.unknown()),
  metrics: z.array(evaluationMetricSchema).min(1).readonly(),
  confusionMatrix: confusionMatrixSchema.nullable(),
  perClass: z.array(classReportSchema).readonly(),
  baselines: z.array(baselineSchema).readonly(),
  learningCurve: z.array(learningCurvePointSchema).readonly(),
  leakage: leakageSchema.nullable(),
  /** One JSON text a line for each tested image. */
  predictions: storedBytesSchema,
  /** Number of images, trained on or tested on, whose group is unknown. */
  ungroupedImageCount: count,
});
export type EvaluationOutcome = Readonly<z.infer<typeof evaluationOutcomeSchema>>;

interface PredictedImage {
  readonly key: string;
  /** Patient or slide; null if unknown. */
  readonly group: string | null;
  /** What a bootstrap resample draws whole: the group, or the source file of an image whose group is unknown. */
  readonly resamplingUnit: string;
}

/** The prediction for one tested image of a classification or a regression. */
export type PredictionLine =
  | (PredictedImage & {
      readonly label: string;
      readonly predicted: string;
      readonly probabilities: readonly number[];
    })
  | (PredictedImage & { readonly target: number; readonly predicted: number });
