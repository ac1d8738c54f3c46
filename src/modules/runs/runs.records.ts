/** Types of runs that other modules use. */
import type { TrainingStateRecord } from '../../protocol/checkpoint.ts';
import type { RunRequirements } from '../../protocol/requirements.ts';
import type { RunFailureRecord, RunKind, RunStatus } from '../../protocol/runs.ts';

export interface RunRecord {
  readonly id: string;
  readonly kind: RunKind;
  readonly status: RunStatus;
  /** A one-line title: the inputs and the output, with their names at launch. */
  readonly title: string;
  /** Frozen at launch; each kind has its own schema. */
  readonly config: unknown;
  readonly attempt: number;
  /** 0..1 */
  readonly progress: number;
  readonly failure: RunFailureRecord | null;
  readonly environment: unknown;
  /** The person who launched it; null for runs that the program launched itself. */
  readonly launchedBy: string | null;
  /** The device that runs or ran it: the UUID of a GPU, or a CPU slot of a worker. */
  readonly deviceId: string | null;
  /** Images in one pass of the network, reduced after the run ran out of memory; null means as in the config. */
  readonly microBatchSize: number | null;
  /** Longest running time, over all attempts; null: no limit. */
  readonly maxDurationSeconds: number | null;
  /** What its worker must have. */
  readonly requirements: RunRequirements;
  /** Workers that took it and cannot compute in its precision, whatever they say of themselves. */
  readonly excludedWorkers: readonly string[];
  /** Running time so far, over all attempts. */
  readonly busySeconds: number;
  readonly inputDigest: string | null;
  readonly queuedAt: Date;
  readonly startedAt: Date | null;
  readonly finishedAt: Date | null;
}

export interface RunEventRecord {
  readonly sequence: number;
  readonly at: Date;
  /** QUEUED, STARTED, PROGRESS, METRICS, CHECKPOINT, CANCELING, SUCCEEDED, FAILED, CANCELED, REQUEUED. */
  readonly kind: RunEventKind;
  readonly status: RunStatus | null;
  readonly progress: number | null;
  readonly message: string | null;
  readonly metrics: unknown;
}

export const RUN_EVENT_KINDS = [
  'QUEUED',
  'STARTED',
  'PROGRESS',
  'METRICS',
  'CHECKPOINT',
  'CANCELING',
  'SUCCEEDED',
  'FAILED',
  'CANCELED',
  'REQUEUED',
] as const;
export type RunEventKind = (typeof RUN_EVENT_KINDS)[number];

export interface MetricPointRecord {
  readonly step: number;
  readonly value: number;
  readonly recordedAt: Date;
}

export interface MetricSeriesRecord {
  readonly name: string;
  readonly unit: string | null;
  readonly points: readonly MetricPointRecord[];
}

/** A training state that can be registered as a checkpoint. */
export interface KeptStateRecord extends TrainingStateRecord {
  readonly runId: string;
  readonly keptAt: Date;
  /** Whether this state has the best probe result of all kept states of the run. */
  readonly isBest: boolean;
}
