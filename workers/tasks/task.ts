/**
 * The input and the result of a task. A task loads inputs, calls the engine, and returns how to register its results.
 */
import type { Logger } from '../../src/logger.ts';
import type { ArtifactService } from '../../src/modules/artifacts/index.ts';
import type { DatasetService } from '../../src/modules/datasets/index.ts';
import type { EmbeddingService } from '../../src/modules/embeddings/index.ts';
import type { EvaluationService } from '../../src/modules/evaluations/index.ts';
import type { ExportRegister } from '../../src/modules/exports/index.ts';
import type { ModelService } from '../../src/modules/models/index.ts';
import type {
  ImportBlockRecord,
  ImportReportRecord,
  MetricPoints,
  NewImportBlock,
  RunKind,
  RunLease,
  TrainingStateRecord,
} from '../../src/modules/runs/index.ts';
import type { ArtifactStore, LocalFile } from '../../src/platform/artifact-store/index.ts';
import type { Transaction } from '../../src/platform/db.ts';
import type { StopReason } from '../child-protocol.ts';

/**
 * Why a run should end early: a user cancelled it, the worker is stopping and will continue it later, or it took too
 * long.
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
  /** 1 for the first attempt; higher if the run continues after a failure or was resumed. */
  readonly attempt: number;
  /** Images per pass of the network after the run ran out of memory; null: the value of the config. */
  readonly microBatchSize: number | null;
  readonly services: TaskServices;
  readonly artifacts: ArtifactStore;
  /**
   * The artifact as a verified local file, for a reader that seeks. It stays until it is released, at the latest at the
   * end of the run's process. Calls for the same artifact share the work.
   * @throws DomainError ARTIFACT_NOT_FOUND or ARTIFACT_CORRUPT; the damage is then reported.
   */
  localFile(sha256: string): Promise<LocalFile>;
  readonly logger: Logger;
  /** Paths that must be hidden from a process that parses untrusted files. */
  readonly dataDir: string;
  /** A private temporary folder, removed by the caller. */
  readonly workDir: string;
  stopRequested(): StopRequest;
  /** Throws TaskStopped if a stop was requested; tasks call it between pieces of work. */
  throwIfStopped(): void;
  /**
   * Reports progress 0..1. It is cheap to call often: a report that follows the last one too soon is joined with the
   * next.
   */
  progress(fraction: number, message?: string): Promise<void>;
  /** Records the metrics of a step, joined like progress. No metric is lost: `flush` writes those that are left. */
  recordMetrics(fraction: number, points: MetricPoints): Promise<void>;
  flush(): Promise<void>;
  /** Runs a transaction, which is refused with LEASE_LOST once this worker no longer holds the run. */
  withLease<Result>(work: (tx: Transaction) => Promise<Result>): Promise<Result>;
  /** Saves the state that is needed to continue from a step. */
  keepTrainingState(tx: Transaction, state: TrainingStateRecord): Promise<void>;
  latestTrainingState(): Promise<TrainingStateRecord | undefined>;
  /** The saved state with the best result of the run's own probe. */
  bestTrainingState(): Promise<TrainingStateRecord | undefined>;
  setEnvironment(environment: object): Promise<void>;
  /** Replaces the run's config by one that the worker has completed, for every later attempt. */
  freezeConfig(config: object): Promise<void>;
  /** Stores the findings of an import. */
  setImportReport(report: ImportReportRecord): Promise<void>;
  /** Registers a block of an import that was just stored, from which the next attempt continues. */
  keepImportBlock(block: NewImportBlock): Promise<void>;
  /** The blocks of earlier attempts, in the order of their positions. */
  importBlocks(): Promise<ImportBlockRecord[]>;
}

export interface TaskResult {
  /** Registers the results in the transaction that marks the run SUCCEEDED, so that both happen or neither. */
  finish(tx: Transaction): Promise<void>;
  /** One sentence for the last event. */
  readonly message: string;
}

export interface Task {
  readonly kind: RunKind;
  /** @param config the run's frozen config, parsed by the task itself. */
  run(context: TaskContext, config: unknown): Promise<TaskResult>;
}

/** Thrown between pieces of work to end a task cleanly. */
export class TaskStopped extends Error {
  readonly reason: StopReason;
  constructor(reason: StopReason) {
    super(`The run was asked to stop: ${reason}.`);
    this.name = 'TaskStopped';
    this.reason = reason;
  }
}
