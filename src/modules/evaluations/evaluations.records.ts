/** Types of evaluations that other modules use. */
import type { EvaluationProtocol } from '../../generated/prisma/enums.ts';
import type {
  ClassReportRecord,
  ConfusionMatrixRecord,
  EvaluationBaselineRecord,
  EvaluationMetricRecord,
  EvaluationOutcome,
  LeakageRecord,
  LearningCurvePointRecord,
} from '../../protocol/evaluation.ts';

export type {
  BaselineKind,
  ClassReportRecord,
  ConfusionMatrixRecord,
  EvaluationBaselineRecord,
  EvaluationMetricRecord,
  LeakageRecord,
  LearningCurvePointRecord,
  PredictionLine,
} from '../../protocol/evaluation.ts';

export type LearningCurveMetricRecord = LearningCurvePointRecord['metrics'][number];

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

/** What an evaluation predicted for the patches of one slide, in the order of the version. */
export interface SlidePredictionsRecord {
  /** Of a classification; empty for a regression. */
  readonly labelNames: readonly string[];
  /** The label whose probability is the score; null for a regression. */
  readonly label: string | null;
  /** `[N]`: the place of the predicted label among the names; null for a patch that was not tested, or a regression. */
  readonly predicted: readonly (number | null)[];
  /** `[N]`: the probability of the label, 0..1, or the predicted number; null for a patch that was not tested. */
  readonly scores: readonly (number | null)[];
}

/** The outcome of the evaluation task, with what the run's config says. */
export interface NewEvaluation extends Omit<EvaluationOutcome, 'kind' | 'predictions' | 'split'> {
  readonly checkpointId: string;
  readonly datasetVersionId: string;
  readonly protocol: EvaluationProtocol;
  readonly runId: string;
  readonly seed: number;
  readonly options: object;
  readonly split: object;
  readonly predictionsSha256: string;
}
