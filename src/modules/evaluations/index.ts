/** Evaluations: the measured performance of a checkpoint on a dataset version. */
import type { Database } from '../../platform/db.ts';
import { createEvaluationService, type EvaluationService, type EvaluationServiceParts } from './evaluations.service.ts';
import { createEvaluationStore } from './evaluations.store.ts';

export { createEvaluationLoaders, type EvaluationLoaders } from './evaluations.loaders.ts';
export { PREDICTIONS_MEDIA_TYPE } from './comparison.ts';
export type {
  EvaluationComparisonRecord,
  EvaluationRecord,
  LeaderboardRowRecord,
  NewEvaluation,
  ReportedEvaluationRecord,
  SlidePredictionsRecord,
} from './evaluations.records.ts';
export { ungroupedImageCountOf } from './evaluations.rules.ts';
export { unbeatenBaselines } from './verdict.rules.ts';
export type { EvaluationService } from './evaluations.service.ts';
export type { EvaluationFilter } from './evaluations.store.ts';

/** The module's interface for the server. */
export function createEvaluations(db: Database, parts: Omit<EvaluationServiceParts, 'store'>): EvaluationService {
  return createEvaluationService({ ...parts, store: createEvaluationStore(db) });
}

/** The module's interface for workers, which covers their only write. */
export function createEvaluationRegister(db: Database): Pick<EvaluationService, 'register'> {
  const store = createEvaluationStore(db);
  return { register: (tx, evaluation) => store.create(tx, evaluation) };
}
