/** What launchers and the registry say of a placement: a job of a scheduler that is to carry a run. */

/**
 * PLANNED: to be submitted. SUBMITTING: the scheduler was asked, and its answer is not known. UNKNOWN: the scheduler
 * does not know the job.
 */
export const PLACEMENT_STATES = ['PLANNED', 'SUBMITTING', 'WAITING', 'RUNNING', 'UNKNOWN', 'ENDED'] as const;
export type PlacementState = (typeof PLACEMENT_STATES)[number];

/**
 * What the registry itself knows of a placement's run. NEEDED: the run waits for the job's worker. CARRIED: a worker of
 * the job holds the run. OVER: neither, so the job is of no more use.
 */
export const PLACEMENT_USES = ['NEEDED', 'CARRIED', 'OVER'] as const;
export type PlacementUse = (typeof PLACEMENT_USES)[number];

/** At most so many runs, placements or reports are in one request of a launcher. */
export const PLACEMENTS_AT_ONCE_MAX = 1_000;
