/** Evaluations as the rest of the program sees them. */
import type { EvaluationProtocol } from '../../generated/prisma/enums.ts';

export interface EvaluationMetricRecord {
  readonly name: string;
  readonly value: number;
  readonly ci95Low: number | null;
  readonly ci95High: number | null;
}

export type BaselineKind = 'RANDOM_ENCODER' | 'COLOUR_STATISTICS';

export interface EvaluationBaselineRecord {
  readonly kind: BaselineKind;
  readonly metrics: readonly EvaluationMetricRecord[];
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

export interface EvaluationRecord {
  readonly id: string;
  readonly checkpointId: string;
  readonly datasetVersionId: string;
  readonly protocol: EvaluationProtocol;
  readonly runId: string;
  readonly seed: number;
  readonly split: unknown;
  readonly metrics: readonly EvaluationMetricRecord[];
  readonly confusionMatrix: ConfusionMatrixRecord | null;
  readonly perClass: readonly ClassReportRecord[];
  readonly baselines: readonly EvaluationBaselineRecord[];
  readonly createdAt: Date;
}

export interface LeaderboardRowRecord {
  readonly rank: number;
  readonly evaluation: EvaluationRecord;
  readonly metric: EvaluationMetricRecord;
  /** True where the checkpoint was pretrained on this very version or another one of the same dataset. */
  /** Null where it is not known what the checkpoint has seen. */
  readonly overlapsPretraining: boolean | null;
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
  readonly confusionMatrix: ConfusionMatrixRecord;
  readonly perClass: readonly ClassReportRecord[];
  readonly baselines: readonly EvaluationBaselineRecord[];
}
