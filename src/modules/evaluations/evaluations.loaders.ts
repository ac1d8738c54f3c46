/** Batching of evaluations within one request. */
import DataLoader from 'dataloader';
import type { Database } from '../../platform/db.ts';
import type { EvaluationRecord, EvaluationReportRecord, EvaluationSource } from './evaluations.records.ts';
import { createEvaluationStore } from './evaluations.store.ts';
import type { EvaluationMetricRecord } from '../../protocol/evaluation.ts';

export type EvaluationLoaders = ReturnType<typeof createEvaluationLoaders>;

export function createEvaluationLoaders(db: Database) {
  const store = createEvaluationStore(db);
  const byId = new DataLoader<string, EvaluationRecord>(async (ids) =>
    inOrder(ids, new Map((await store.findMany(ids)).map((evaluation) => [evaluation.id, evaluation]))),
  );
  return {
    /** Reads the fields that a mention leaves out. */
    whole: async (evaluation: EvaluationSource): Promise<EvaluationRecord> =>
      'runId' in evaluation ? evaluation : byId.load(evaluation.id),
    byRun: new DataLoader<string, EvaluationRecord | null>(async (runIds) => {
      const found = new Map((await store.findByRuns(runIds)).map((evaluation) => [evaluation.runId, evaluation]));
      return runIds.map((id) => found.get(id) ?? null);
    }),
    metrics: new DataLoader<string, readonly EvaluationMetricRecord[]>(async (ids) => {
      const found = await store.metrics(ids);
      return ids.map((id) => found.get(id) ?? []);
    }),
    /** By evaluation id; evaluations without a value are missing. */
    report: new DataLoader<string, EvaluationReportRecord>(async (ids) => inOrder(ids, await store.reports(ids))),
  };
}

function inOrder<Found>(ids: readonly string[], found: ReadonlyMap<string, Found>): (Found | Error)[] {
  return ids.map((id) => found.get(id) ?? new Error(`Evaluation ${id} is missing although another row refers to it.`));
}
