/** Types of placements that other modules and the API use. */
import type { PlacementState, RunStatus } from '../../generated/prisma/enums.ts';

/** A job of an external scheduler that starts a worker for one attempt of a run. */
export interface PlacementRecord {
  readonly id: string;
  readonly runId: string;
  /** The attempt that its worker is to carry. */
  readonly attempt: number;
  /** 1 for the first placement of the run. */
  readonly number: number;
  readonly launcher: string;
  /** Name of the job; the names of its workers begin with it. */
  readonly name: string;
  /** Id of the job at its scheduler; null while it is not known. */
  readonly externalId: string | null;
  readonly state: PlacementState;
  /** The state in the words of the scheduler, such as NODE_FAIL. */
  readonly schedulerState: string | null;
  readonly reason: string | null;
  /** Place among the waiting jobs of its partition, from 1. */
  readonly position: number | null;
  readonly createdAt: Date;
  readonly submittedAt: Date | null;
  readonly startedAt: Date | null;
  readonly endedAt: Date | null;
  /** What the registry knows of the run, whatever the scheduler says. */
  readonly run: PlacedRunFacts;
}

export interface PlacedRunFacts {
  readonly status: RunStatus;
  readonly attempt: number;
  readonly workerName: string | null;
}
