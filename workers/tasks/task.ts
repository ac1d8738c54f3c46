/**
 * What a task is given, and what it gives back. A task loads inputs, calls the engine, and says how to register what
 * came out.
 */
import type { Logger } from '../../src/logger.ts';
import type { ArtifactService } from '../../src/modules/artifacts/index.ts';
import type { DatasetService } from '../../src/modules/datasets/index.ts';
import type { EmbeddingService } from '../../src/modules/embeddings/index.ts';
import type { EvaluationService } from '../../src/modules/evaluations/index.ts';
import type { ExportRegister } from '../../src/modules/exports/index.ts';
import type { ModelService } from '../../src/modules/models/index.ts';
import type {
  ImportReportRecord,
  MetricPoints,
  RunKind,
  RunLease,
  TrainingStateRecord,
} from '../../src/modules/runs/index.ts';
import type { ArtifactStore } from '../../src/platform/artifact-store.ts';
import type { Transaction } from '../../src/platform/db.ts';
import type { StopReason } from '../child-protocol.ts';

/**
 * Why a run should end before its time: somebody cancelled it, the worker is stopping and will continue later, or it
 * took too long.
 */
export type StopRequest = 'NO' | StopReason;

export interface TaskServices {
  readonly datasets: DatasetService;
  readonly models: ModelService;
  readonly embeddings: EmbeddingService;
  readonly evaluations: Pick<EvaluationService, 'register'>;
  readonly exports: ExportRegister;
  readonly artifacts: ArtifactService;
}

export interface TaskContext {
  readonly runId: string;
  readonly lease: RunLease;
  /** 1 for the first; higher where the run continues after something broke or was resumed. */
  readonly attempt: number;
  /**
   * Images that one pass of the network may take since a run ran out of memory; null: what the config says.
   */
  readonly microBatchSize: number | null;
  readonly services: TaskServices;
  readonly artifacts: ArtifactStore;
  readonly logger: Logger;
  /** What must be hidden from a process that parses untrusted files. */
  readonly dataDir: string;
  /** A private temporary folder, removed by the caller. */
  readonly workDir: string;
  stopRequested(): StopRequest;
  /** Throws TaskStopped when a stop was asked for: tasks call it between pieces of work. */
  throwIfStopped(): void;
  /** Shows progress 0..1. Cheap to call often: what comes too soon after the last is joined with the next. */
  progress(fraction: number, message?: string): Promise<void>;
  /** Records the metrics of a step, joined like progress; nothing is lost, `flush` writes what is left. */
  recordMetrics(fraction: number, points: MetricPoints): Promise<void>;
  flush(): Promise<void>;
  /** A transaction that is refused with LEASE_LOST once the run is no longer ours. */
  withLease<Result>(work: (tx: Transaction) => Promise<Result>): Promise<Result>;
  /** Keeps what is needed to continue from a step. */
  keepTrainingState(tx: Transaction, state: TrainingStateRecord): Promise<void>;
  latestTrainingState(): Promise<TrainingStateRecord | undefined>;
  /** The kept state that the run's own probe found best. */
  bestTrainingState(): Promise<TrainingStateRecord | undefined>;
  setEnvironment(environment: object): Promise<void>;
  /** Replaces the run's config by one that the worker has completed, for every later attempt. */
  freezeConfig(config: object): Promise<void>;
  /** Keeps what an import found. */
  setImportReport(report: ImportReportRecord): Promise<void>;
}

export interface TaskResult {
  /** Registers what came out, in the transaction that marks the run SUCCEEDED: both or neither. */
  finish(tx: Transaction): Promise<void>;
  /** One sentence for the last event. */
  readonly message: string;
}

export interface Task {
  readonly kind: RunKind;
  /** @param config the run's frozen config, parsed by the task itself. */
  run(context: TaskContext, config: unknown): Promise<TaskResult>;
}

/**
 * Reads every shard once before parts of it are read: a training must not learn from bytes that have changed. Gives
 * their paths.
 */
export async function verifiedShardPaths(
  context: TaskContext,
  shards: readonly { readonly sha256: string }[],
): Promise<string[]> {
  const paths: string[] = [];
  for (const { sha256 } of shards) {
    context.throwIfStopped();
    await context.services.artifacts.verify(sha256);
    paths.push(context.artifacts.pathOf(sha256));
  }
  return paths;
}

/** Thrown between pieces of work to leave a task cleanly. */
export class TaskStopped extends Error {
  readonly reason: StopReason;
  constructor(reason: StopReason) {
    super(`The run was asked to stop: ${reason}.`);
    this.name = 'TaskStopped';
    this.reason = reason;
  }
}
