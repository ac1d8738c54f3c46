/**
 * The input and the result of a task: a function from a config and the inputs that it names to an outcome. Only the
 * registry registers anything.
 */
import type { Logger } from '../../src/logger.ts';
import type { LocalFile } from '../../src/platform/artifact-store/index.ts';
import type { StoredBytes } from '../../src/protocol/artifacts.ts';
import type { TrainingStateRecord } from '../../src/protocol/checkpoint.ts';
import type { RunOutcome } from '../../src/protocol/outcome.ts';
import type { RunRegistry } from '../../src/protocol/run-calls.ts';
import type { MetricPoints, RunKind } from '../../src/protocol/runs.ts';
import type { StopReason } from '../child-protocol.ts';
import type { WorkerArtifacts } from '../registry/artifacts.ts';

/**
 * Why a run should end early: a user cancelled it, the worker is stopping and will continue it later, or it took too
 * long.
 */
export type StopRequest = 'NO' | StopReason;

/** The calls that tasks make themselves; those that end the run or report on it are made by the run's process. */
export type TaskRegistry = Omit<
  RunRegistry,
  'report' | 'keepTrainingState' | 'reportDamage' | 'succeed' | 'fail' | 'cancel' | 'release'
>;

export interface TaskContext {
  readonly runId: string;
  /** 1 for the first attempt; higher if the run continues after a failure or was resumed. */
  readonly attempt: number;
  /** Images per pass of the network after the run ran out of memory; null: the value of the config. */
  readonly microBatchSize: number | null;
  readonly registry: TaskRegistry;
  readonly artifacts: WorkerArtifacts;
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
  /** Keeps the state that is needed to continue from a step; its artifact was stored before. */
  keepTrainingState(state: TrainingStateRecord, stored: StoredBytes): Promise<void>;
}

export interface TaskResult {
  /** The registry registers it in the transaction that marks the run SUCCEEDED, so that both happen or neither. */
  readonly outcome: RunOutcome;
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
