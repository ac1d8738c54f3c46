/** Types of evaluations that other modules use. */
import type { EvaluationProtocol } from '../../generated/prisma/enums.ts';

export interface EvaluationMetricRecord {
  readonly name: string;
  readonly value: number;
  readonly ci95Low: number | null;
  readonly ci95High: number | null;
}

export const BASELINE_KINDS = ['RANDOM_ENCODER', 'COLOUR_STATISTICS', 'MAJORITY_CLASS', 'MEAN_LABEL'] as const;
export type BaselineKind = (typeof BASELINE_KINDS)[number];

export interface LearningCurveMetricRecord extends EvaluationMetricRecord {
  /** Standard deviation over the draws. */
  readonly drawDeviation: number;
}

/** The same protocol trained on fewer labels. Either labelFraction or shotsPerClass is given. */
export interface LearningCurvePointRecord {
  readonly labelFraction: number | null;
  readonly shotsPerClass: number | null;
  readonly drawCount: number;
  /** Mean over draws and parts of the split. */
  readonly trainImageCount: number;
  readonly metrics: readonly LearningCurveMetricRecord[];
}

export interface EvaluationBaselineRecord {
  readonly kind: BaselineKind;
  readonly metrics: readonly EvaluationMetricRecord[];
  /** Result minus baseline, paired; the interval is that of the difference. Empty in older evaluations. */
  readonly differences: readonly EvaluationMetricRecord[];
  readonly learningCurve: readonly LearningCurvePointRecord[];
}

export interface ConfusionMatrixRecord {
  readonly labelNames: readonly string[];
  /** counts[true][predicted] */
  readonly counts: readonly (readonly number[])[];
}

export interface ClassReportRecord {
  readonly label: string;
  readonly precision: number;
  readonly recall: number;
  readonly f1Score: number;
  readonly support: number;
}

/** The overlap of the tested images with the checkpoint's pretraining data. */
export interface LeakageRecord {
  /** False if one of its ancestors was imported: the true overlap may then be larger. */
  readonly isComplete: boolean;
  /** True if a training used only a part of a version: not all of its images may then have been seen. */
  readonly isUpperBound: boolean;
  readonly testImageCount: number;
  /** Number of images with identical pixels; null if one of the versions was sealed before images were hashed. */
  readonly exactImageCount: number | null;
  /** Number of near-duplicates: recompressed, resized, mirrored or rotated copies. */
  readonly nearDuplicateImageCount: number | null;
  readonly testGroupCount: number;
  readonly sharedGroupCount: number;
  /** Slug of the tested dataset, if a version of it was in the pretraining. */
  readonly sharedDatasets: readonly string[];
  /** Slugs of collections that both datasets were cut from. */
  readonly sharedCollections: readonly string[];
  readonly unhashedVersionCount: number;
}

/** The short form of an evaluation, for leaderboards with hundreds of rows. */
export interface MentionedEvaluationRecord {
  readonly id: string;
  readonly checkpointId: string;
}

/** The checkpoint, the data and the protocol. The results are read only when requested. */
export interface EvaluationRecord extends MentionedEvaluationRecord {
  readonly datasetVersionId: string;
  readonly protocol: EvaluationProtocol;
  readonly runId: string;
  readonly seed: number;
  readonly predictionsSha256: string | null;
  /** Number of images, trained on or tested on, whose group is unknown; null in older evaluations. */
  readonly ungroupedImageCount: number | null;
  readonly createdAt: Date;
}

/** Details of the fit and of the errors. This is by far the largest part, and is read only when requested. */
export interface EvaluationReportRecord {
  readonly options: unknown;
  readonly split: unknown;
  readonly confusionMatrix: ConfusionMatrixRecord | null;
  readonly perClass: readonly ClassReportRecord[];
  readonly baselines: readonly EvaluationBaselineRecord[];
  readonly learningCurve: readonly LearningCurvePointRecord[];
  readonly leakage: LeakageRecord | null;
}

/** A complete evaluation. */
export interface ReportedEvaluationRecord extends EvaluationRecord, EvaluationReportRecord {
  readonly metrics: readonly EvaluationMetricRecord[];
}

/** The source type of the API's Evaluation. */
export type EvaluationSource = MentionedEvaluationRecord | EvaluationRecord;

/** An entry of a leaderboard before ranking. */
export interface CandidateRecord {
  readonly evaluation: MentionedEvaluationRecord;
  /** The value of the ranked metric. */
  readonly metric: EvaluationMetricRecord;
  readonly leakage: LeakageRecord | null;
}

export interface LeaderboardRowRecord {
  readonly rank: number;
  readonly evaluation: MentionedEvaluationRecord;
  readonly metric: EvaluationMetricRecord;
  /** Null if the checkpoint's training data is unknown. */
  readonly overlapsPretraining: boolean | null;
}

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

export interface MetricComparisonRecord {
  readonly name: string;
  readonly first: number;
  readonly second: number;
  /** first - second. */
  readonly difference: number;
  readonly ci95Low: number;
  readonly ci95High: number;
}

/** The paired comparison of two evaluations over the same folds of the same images. */
export interface EvaluationComparisonRecord {
  readonly first: EvaluationRecord;
  readonly second: EvaluationRecord;
  readonly metrics: readonly MetricComparisonRecord[];
  readonly imageCount: number;
  /** Number of known groups; in comparisons of older evaluations, files whose group is unknown count too. */
  readonly groupCount: number;
  /** Number of images, trained on or tested on, whose group is unknown; null if that is not recorded. */
  readonly ungroupedImageCount: number | null;
  readonly resampleCount: number;
}

/** The outcome of the evaluation task. */
export interface NewEvaluation {
  readonly checkpointId: string;
  readonly datasetVersionId: string;
  readonly protocol: EvaluationProtocol;
  readonly runId: string;
  readonly seed: number;
  readonly options: object;
  readonly split: object;
  readonly metrics: readonly EvaluationMetricRecord[];
  readonly confusionMatrix: ConfusionMatrixRecord | null;
  readonly perClass: readonly ClassReportRecord[];
  readonly baselines: readonly EvaluationBaselineRecord[];
  readonly learningCurve: readonly LearningCurvePointRecord[];
  readonly leakage: LeakageRecord | null;
  readonly predictionsSha256: string;
  readonly ungroupedImageCount: number;
}
