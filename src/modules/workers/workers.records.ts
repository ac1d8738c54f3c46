/** Types of workers that other modules use. */
import type { WorkerCapabilities } from '../../protocol/requirements.ts';
import type { RunKind } from '../../protocol/runs.ts';

export interface WorkerRecord {
  readonly name: string;
  /** Version of its program. */
  readonly programVersion: string;
  /** The kinds of runs that it has asked for. */
  readonly kinds: readonly RunKind[];
  readonly deviceIds: readonly string[];
  /** What its places take and have; none for a worker that only carries a run that it was given. */
  readonly places: readonly WorkerPlace[];
  readonly isDraining: boolean;
  readonly firstSeenAt: Date;
  /** When it last asked for a run, or renewed the lease of one. */
  readonly lastHeardAt: Date;
  /** The runs that it holds. */
  readonly runIds: readonly string[];
}

/** Where a worker runs one run at a time. */
export interface WorkerPlace {
  readonly kinds: readonly RunKind[];
  readonly capabilities: WorkerCapabilities;
}
