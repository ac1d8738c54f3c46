/** Runs: imports, pretrainings, evaluations and exports, from launch to end. */
import type { Database } from '../../platform/db.ts';
import { createRunLedger, type RunLedger } from './runs.ledger.ts';
import { createRunService, type RunService, type RunServiceParts } from './runs.service.ts';
import { createImportBlockStore } from './import-blocks.store.ts';
import { createImportReportStore } from './imports.store.ts';
import { createPartLedger as partLedgerOf, type PartLedger } from './run-parts.ledger.ts';
import { createRunPartStore } from './run-parts.store.ts';
import { createRunQueueStore } from './runs.queue.store.ts';
import { serverStore } from './runs.servers.store.ts';
import { createRunStore } from './runs.store.ts';
import { createRunTelemetryStore } from './runs.telemetry.store.ts';
import {
  createTrainingStateService,
  type TrainingStateService,
  type TrainingStateServiceParts,
} from './training-states.service.ts';
import { createTrainingStateStore } from './training-states.store.ts';

export type { TrainingStateService } from './training-states.service.ts';

export {
  CancelRequestedError,
  MAX_ATTEMPTS_WITHOUT_PROGRESS,
  MAX_FRUITLESS_ATTEMPTS,
  type ClaimedRun,
  type Renewal,
  type RunLedger,
} from './runs.ledger.ts';
export type {
  MetricPointRecord,
  MetricSeriesRecord,
  RunEventRecord,
  KeptStateRecord,
  RunRecord,
} from './runs.records.ts';
export {
  CANCELING_LEASE_SECONDS,
  leaseLost,
  maxDurationSchema,
  METRIC_POINTS_DEFAULT,
  requirementsInputSchema,
  requirementsOf,
} from './runs.rules.ts';
export { compactTelemetry, runsWithMissingEvents } from './runs.compaction.store.ts';
export { dropBlocksOfEndedImports } from './import-blocks.store.ts';
export { dropSupersededStates, oldestActiveStart } from './runs.housekeeping.store.ts';
export type { RunLaunch, RunService } from './runs.service.ts';
export type { ClaimedRunPart, PartLedger } from './run-parts.ledger.ts';
export type { RunFilter } from './runs.store.ts';
export { RUN_EVENTS_CHANNEL } from './runs.telemetry.store.ts';
export { startReaper, type Reaper } from './runs.reaper.ts';
export { createHeardWorkers, type HeardWorkers } from './runs.heard.ts';
export { createRunLoaders, type RunLoaders } from './runs.loaders.ts';

/** The module's interface for the server. */
export function createRuns(
  db: Database,
  parts: Omit<RunServiceParts, 'store' | 'queueStore' | 'telemetry'>,
): RunService {
  return createRunService({
    ...parts,
    store: createRunStore(db),
    queueStore: createRunQueueStore(db),
    telemetry: createRunTelemetryStore(db),
  });
}

export function createTrainingStates(
  db: Database,
  parts: Omit<TrainingStateServiceParts, 'runs' | 'trainingStates'>,
): TrainingStateService {
  return createTrainingStateService({
    ...parts,
    runs: createRunStore(db),
    trainingStates: createTrainingStateStore(db),
  });
}

/** The module's interface for workers. */
export function createLedger(db: Database, transact: RunServiceParts['transact']): RunLedger {
  return createRunLedger({
    runs: createRunStore(db),
    queue: createRunQueueStore(db),
    servers: serverStore,
    telemetry: createRunTelemetryStore(db),
    trainingStates: createTrainingStateStore(db),
    importReports: createImportReportStore(db),
    importBlocks: createImportBlockStore(db),
    runParts: createRunPartStore(db),
    transact,
  });
}

/** The parts of runs, for workers. */
export function createPartLedger(
  db: Database,
  parts: { readonly transact: RunServiceParts['transact']; readonly ledger: RunLedger },
): PartLedger {
  return partLedgerOf({ ...parts, runs: createRunStore(db), runParts: createRunPartStore(db) });
}
