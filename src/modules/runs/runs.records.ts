/** Runs as the rest of the program sees them. */
import type { CheckpointProbeRecord } from '../models/index.ts';
import type { FailureClass, RunKind, RunStatus } from '../../generated/prisma/enums.ts';

export interface RunFailureRecord {
  readonly class: FailureClass;
  readonly code: string;
  readonly message: string;
  readonly hint: string | null;
}

export interface RunRecord {
  readonly id: string;
  readonly kind: RunKind;
  readonly status: RunStatus;
  /** What it makes from what, in one line, with the names at launch. */
  readonly title: string;
  /** Frozen at launch; each kind has a schema for its own. */
  readonly config: unknown;
  readonly attempt: number;
  /** 0..1 */
  readonly progress: number;
  readonly failure: RunFailureRecord | null;
  readonly environment: unknown;
  /** The person who launched it; null for the program's own. */
  readonly launchedBy: string | null;
  /** The device that runs or ran it: the UUID of a GPU, or a CPU slot of a worker. */
  readonly deviceId: string | null;
  /** Images in one pass of the network after the run ran out of memory; null: as in the config. */
  readonly microBatchSize: number | null;
  /** Longest running time, over all attempts; null: no limit. */
  readonly maxDurationSeconds: number | null;
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

/** A worker's right to write to a run: void as soon as another worker holds a higher epoch. */
export interface RunLease {
  readonly runId: string;
  readonly epoch: number;
}

export interface TrainingStateRecord {
  readonly step: number;
  readonly sha256: string;
  /** Result of the run's own probe; null where it was not probed. */
  readonly probe: CheckpointProbeRecord | null;
}

/** A training state that is there to be registered. */
export interface KeptStateRecord extends TrainingStateRecord {
  readonly runId: string;
  readonly keptAt: Date;
  /** Whether no kept state of the run was probed better. */
  readonly isBest: boolean;
}
