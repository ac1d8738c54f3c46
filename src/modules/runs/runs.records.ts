/** Types of runs that other modules use. */
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

/** What an import has learnt of consecutive files: see workers/imaging/import-blocks.ts. */
export interface ImportBlockRecord {
  /** 0 for the first one. */
  readonly position: number;
  readonly sha256: string;
  /** The shard that was sealed after these files; null in a pass that will be repeated. */
  readonly shardSha256: string | null;
  /** Progress of the run after these files, 0..1. */
  readonly progress: number;
}

/** A block whose bytes have just been stored. */
export interface NewImportBlock {
  readonly position: number;
  readonly facts: { readonly sha256: string; readonly byteSize: number };
  readonly shard: { readonly sha256: string; readonly byteSize: number } | null;
  readonly progress: number;
  /** Images up to here, for the event. */
  readonly imageCount: number;
}

/** A training state that can be registered as a checkpoint. */
export interface KeptStateRecord extends TrainingStateRecord {
  readonly runId: string;
  readonly keptAt: Date;
  /** Whether this state has the best probe result of all kept states of the run. */
  readonly isBest: boolean;
}
