/** Batching of runs within one request. */
import DataLoader from 'dataloader';
import type { Database } from '../../platform/db.ts';
import type { KeptStateRecord, RunRecord } from './runs.records.ts';
import { createImportReportStore } from './imports.store.ts';
import { createRunQueueStore } from './runs.queue.store.ts';
import { createRunStore } from './runs.store.ts';
import { createRunTelemetryStore } from './runs.telemetry.store.ts';
import { createTrainingStateStore } from './training-states.store.ts';
import type { ImportReportRecord } from '../../protocol/import.ts';

export type RunLoaders = ReturnType<typeof createRunLoaders>;

export function createRunLoaders(db: Database) {
  const runs = createRunStore(db);
  const queue = createRunQueueStore(db);
  const telemetry = createRunTelemetryStore(db);
  const trainingStates = createTrainingStateStore(db);
  const importReports = createImportReportStore(db);
  const byId = new DataLoader<string, RunRecord | null>(async (ids) => {
    const found = new Map((await runs.findMany(ids)).map((run) => [run.id, run]));
    return ids.map((id) => found.get(id) ?? null);
  });
  return {
    byId,
    /** Queue positions of queued runs. */
    queuePosition: new DataLoader<string, number | null>(async (ids) => {
      const found = await queue.queuePositions(ids);
      return ids.map((id) => found.get(id) ?? null);
    }),
    /** Sequence of the latest event; 0 if there is none. */
    eventCount: new DataLoader<string, number>(async (ids) => {
      const found = await telemetry.lastSequences(ids);
      return ids.map((id) => found.get(id) ?? 0);
    }),
    /** Reports of imports that have read their files. */
    importReport: new DataLoader<string, ImportReportRecord | null>(async (ids) => {
      const found = await importReports.reportsOf(ids);
      return ids.map((id) => found.get(id) ?? null);
    }),
    /** The kept training states of a run, by step. */
    keptStates: new DataLoader<string, readonly KeptStateRecord[]>(async (ids) => {
      const found = Map.groupBy(await trainingStates.keptStates(ids), (state) => state.runId);
      return ids.map((id) => found.get(id) ?? []);
    }),
    /** For ids from foreign keys. */
    existing: async (id: string): Promise<RunRecord> => {
      const run = await byId.load(id);
      if (run === null) throw new Error(`Run ${id} is missing although another row refers to it.`);
      return run;
    },
  };
}
