/** Evaluations as the rest of the program sees them. */
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

/** The same protocol learned from fewer labels. One of labelFraction and shotsPerClass is given. */
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
  /** Result minus baseline, paired: the interval is of the difference. Empty in older evaluations. */
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

/** How much of what was tested the checkpoint had seen in its pretraining. */
export interface LeakageRecord {
  /** False where one of its ancestors came from elsewhere: then there may be more. */
  readonly isComplete: boolean;
  /** True where a training used only a part of a version: then its images may not all have been seen. */
  readonly isUpperBound: boolean;
  readonly testImageCount: number;
  /** The same pixels; null where a version that takes part was sealed before images were hashed. */
  readonly exactImageCount: number | null;
  /** Not the same pixels but the same picture: recompressed, resized, mirrored, turned. */
  readonly nearDuplicateImageCount: number | null;
  readonly testGroupCount: number;
  readonly sharedGroupCount: number;
  /** Slug of the tested dataset, where a version of it was in the pretraining. */
  readonly sharedDatasets: readonly string[];
  /** Slugs of collections from which both are cut. */
  readonly sharedCollections: readonly string[];
  readonly unhashedVersionCount: number;
}

/** An evaluation as a leaderboard of hundreds mentions it. */
export interface MentionedEvaluationRecord {
  readonly id: string;
  readonly checkpointId: string;
}

/** Which checkpoint was tried, on what and how; what came out is read where it is asked for. */
export interface EvaluationRecord extends MentionedEvaluationRecord {
  readonly datasetVersionId: string;
  readonly protocol: EvaluationProtocol;
  readonly runId: string;
  readonly seed: number;
  readonly predictionsSha256: string | null;
  readonly createdAt: Date;
}

/** How it was done and where it went wrong: far longer than all else, and read only where somebody looks. */
export interface EvaluationReportRecord {
  readonly options: unknown;
  readonly split: unknown;
  readonly confusionMatrix: ConfusionMatrixRecord | null;
  readonly perClass: readonly ClassReportRecord[];
  readonly baselines: readonly EvaluationBaselineRecord[];
  readonly learningCurve: readonly LearningCurvePointRecord[];
  readonly leakage: LeakageRecord | null;
}

/** All of it. */
export interface ReportedEvaluationRecord extends EvaluationRecord, EvaluationReportRecord {
  readonly metrics: readonly EvaluationMetricRecord[];
}

/** What the API's Evaluation is made of. */
export type EvaluationSource = MentionedEvaluationRecord | EvaluationRecord;

/** What a leaderboard ranks. */
export interface EntrantRecord {
  readonly evaluation: MentionedEvaluationRecord;
  /** What it is ranked by. */
  readonly metric: EvaluationMetricRecord;
  readonly leakage: LeakageRecord | null;
}

export interface LeaderboardRowRecord {
  readonly rank: number;
  readonly evaluation: MentionedEvaluationRecord;
  readonly metric: EvaluationMetricRecord;
  /** Null where it is not known what the checkpoint has seen. */
  readonly overlapsPretraining: boolean | null;
}

/** One tested image: of a classification, or of a regression. */
export type PredictionLine =
  | {
      readonly key: string;
      readonly group: string;
      readonly label: string;
      readonly predicted: string;
      readonly probabilities: readonly number[];
    }
  | { readonly key: string; readonly group: string; readonly target: number; readonly predicted: number };

export interface MetricComparisonRecord {
  readonly name: string;
  readonly first: number;
  readonly second: number;
  /** first - second. */
  readonly difference: number;
  readonly ci95Low: number;
  readonly ci95High: number;
}

/** Two evaluations over the same folds of the same images, group by group. */
export interface EvaluationComparisonRecord {
  readonly first: EvaluationRecord;
  readonly second: EvaluationRecord;
  readonly metrics: readonly MetricComparisonRecord[];
  readonly imageCount: number;
  readonly groupCount: number;
  readonly resampleCount: number;
}

/** What the evaluation task hands over. */
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
}
