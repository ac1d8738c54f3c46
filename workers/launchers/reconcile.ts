/**
 * Decides what to do about one placement, from what the registry knows and what the scheduler says. Pure.
 *
 * What a worker tells the registry outranks what the scheduler says of its job. A job that the scheduler does not know
 * is neither a success nor a failure: schedulers forget ended jobs, and their accounting lags.
 */
import type { PlacementState, PlacementUse } from '../../src/protocol/placements.ts';
import type { Job, JobSight } from './launcher.ts';

/** As in the API. */
export interface Placement extends Job {
  readonly id: string;
  readonly externalId: string | null;
  readonly state: PlacementState;
  readonly schedulerState: string | null;
  readonly reason: string | null;
  readonly position: number | null;
  readonly use: PlacementUse;
}

export interface Report {
  readonly id: string;
  readonly state: PlacementState;
  readonly externalId: string | null;
  readonly schedulerState: string | null;
  readonly reason: string | null;
  readonly position: number | null;
}

/** What earlier looks of this process found, for one placement. */
export interface Memory {
  /** Looks in a row that did not find the job. */
  readonly missCount: number;
  /** When the first of them was; undefined while the job is found. */
  readonly missedSinceMs: number | undefined;
  /** Since when the job runs although the registry has no more use for it. */
  readonly uselessSinceMs: number | undefined;
}

export const NOTHING_REMEMBERED: Memory = { missCount: 0, missedSinceMs: undefined, uselessSinceMs: undefined };

export interface Patience {
  /** Looks in a row that must miss a job before it counts as gone. */
  readonly misses: number;
  /** How long they must span. */
  readonly missedForMs: number;
  /** How long a worker whose run is over may take to end. */
  readonly uselessForMs: number;
}

/** An accounting daemon lags by seconds; a worker that ends writes its last files. */
export const PATIENCE: Patience = { misses: 3, missedForMs: 60_000, uselessForMs: 60_000 };

export interface Decision {
  /** Undefined: there is nothing new to tell. */
  readonly report: Report | undefined;
  readonly submit: boolean;
  /** Ids of jobs to cancel. */
  readonly cancel: readonly string[];
  readonly memory: Memory;
}

/** @param jobs the jobs with the name of the placement, in any order. */
export function decide(
  placement: Placement,
  jobs: readonly JobSight[],
  memory: Memory,
  nowMs: number,
  patience: Patience = PATIENCE,
): Decision {
  const [job, ...doubles] = jobs.toSorted(byRelevance);
  if (job === undefined) return decideWithoutJob(placement, memory, nowMs, patience);
  // A submission whose answer was lost and that was made again: the registry lets only one worker have the run. Of
  // several jobs that run, each may be the one whose worker has it, and the other workers end by themselves.
  const isKept = (phase: JobSight['phase']): boolean =>
    phase === 'ENDED' || (phase === 'RUNNING' && placement.use === 'CARRIED');
  const surplus = doubles.flatMap(({ phase, externalId }) => (isKept(phase) ? [] : [externalId]));
  if (job.phase === 'ENDED')
    return {
      ...KEEP,
      // The lease of the worker ends first: until then it may still report.
      report: placement.use === 'CARRIED' ? undefined : changed(placement, reportOf(placement, 'ENDED', job)),
      cancel: surplus,
    };
  const isUseless = placement.use === 'OVER';
  const uselessSinceMs = isUseless ? (memory.uselessSinceMs ?? nowMs) : undefined;
  const isCanceled =
    uselessSinceMs !== undefined && (job.phase === 'WAITING' || nowMs - uselessSinceMs >= patience.uselessForMs);
  return {
    ...KEEP,
    report: changed(placement, reportOf(placement, job.phase, job)),
    cancel: isCanceled ? [job.externalId, ...surplus] : surplus,
    memory: { ...NOTHING_REMEMBERED, uselessSinceMs },
  };
}

function decideWithoutJob(placement: Placement, memory: Memory, nowMs: number, patience: Patience): Decision {
  const nothing = { schedulerState: null, reason: null, position: null };
  const reportAs = (state: PlacementState, facts: Partial<Report> = {}): Report => ({
    id: placement.id,
    state,
    externalId: placement.externalId,
    ...nothing,
    ...facts,
  });
  // Its state says that the scheduler was never asked.
  if (placement.state === 'PLANNED')
    return placement.use === 'NEEDED'
      ? { ...KEEP, submit: true }
      : { ...KEEP, report: reportAs('ENDED', { schedulerState: 'NOT_SUBMITTED' }) };
  const missCount = memory.missCount + 1;
  const missedSinceMs = memory.missedSinceMs ?? nowMs;
  const isGone = missCount >= patience.misses && nowMs - missedSinceMs >= patience.missedForMs;
  const remembering: Decision = { ...KEEP, memory: { missCount, missedSinceMs, uselessSinceMs: undefined } };
  if (placement.state === 'SUBMITTING') {
    if (!isGone) return remembering;
    return placement.use === 'NEEDED'
      ? { ...KEEP, report: reportAs('PLANNED', { reason: 'the answer to the last submission was lost' }) }
      : { ...KEEP, report: reportAs('ENDED', { schedulerState: 'NOT_SUBMITTED' }) };
  }
  // The worker renews its lease, so the job lives, whatever the scheduler knows.
  if (placement.use === 'CARRIED') return remembering;
  if (isGone || (placement.use === 'OVER' && missCount >= patience.misses))
    return { ...KEEP, report: reportAs('ENDED', { schedulerState: 'VANISHED' }) };
  return { ...remembering, report: changed(placement, reportAs('UNKNOWN')) };
}

const KEEP: Decision = { report: undefined, submit: false, cancel: [], memory: NOTHING_REMEMBERED };

const PHASES = ['RUNNING', 'WAITING', 'ENDED'] as const;

/** A job that runs before one that waits before one that ended; of equal ones the latest. */
function byRelevance(one: JobSight, other: JobSight): number {
  return (
    PHASES.indexOf(one.phase) - PHASES.indexOf(other.phase) ||
    other.externalId.localeCompare(one.externalId, 'en', { numeric: true })
  );
}

function reportOf(placement: Placement, state: PlacementState, job: JobSight): Report {
  const { externalId, schedulerState, reason, position } = job;
  return { id: placement.id, state, externalId, schedulerState, reason, position };
}

function changed(placement: Placement, report: Report): Report | undefined {
  const { state, externalId, schedulerState, reason, position } = placement;
  return state === report.state &&
    externalId === report.externalId &&
    schedulerState === report.schedulerState &&
    reason === report.reason &&
    position === report.position
    ? undefined
    : report;
}
