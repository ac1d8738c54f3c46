/** Batching of evaluations within one request. */
import DataLoader from 'dataloader';
import type { Database } from '../../platform/db.ts';
import type { EvaluationRecord } from './evaluations.records.ts';
import { createEvaluationStore } from './evaluations.store.ts';

export type EvaluationLoaders = ReturnType<typeof createEvaluationLoaders>;

export function createEvaluationLoaders(db: Database) {
  const store = createEvaluationStore(db);
  return {
    byRun: new DataLoader<string, EvaluationRecord | null>(async (runIds) => {
      const found = new Map((await store.findByRuns(runIds)).map((evaluation) => [evaluation.runId, evaluation]));
      return runIds.map((id) => found.get(id) ?? null);
    }),
  };
}
