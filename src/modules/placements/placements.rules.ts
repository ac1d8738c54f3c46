/** Which runs are placed, what their jobs are called, and what a placement means for its run. Pure. */
import { z } from 'zod';
import { UnreachableCaseError } from '../../errors.ts';
import {
  PLACEMENT_STATES,
  PLACEMENTS_AT_ONCE_MAX,
  type PlacementState,
  type PlacementUse,
} from '../../protocol/placements.ts';
import { workerLabelsSchema } from '../../protocol/requirements.ts';
import { RUN_KINDS } from '../../protocol/runs.ts';
import type { PlacementRecord } from './placements.records.ts';

/** A job's name is the same for everyone who computes it, so that a job whose id was lost is found again. */
export function nameOfPlacement(runId: string, number: number): string {
  return `paraffin-${runId}-${number}`;
}

/** The name of a job's worker: the job, and the machine on which it started. */
export function isWorkerOf(placementName: string, workerName: string | null): boolean {
  return workerName === placementName || workerName?.startsWith(`${placementName}@`) === true;
}

/** What the worker tells the registry outranks what the scheduler says of the job. */
export function useOf({ name, attempt, run }: Pick<PlacementRecord, 'name' | 'attempt' | 'run'>): PlacementUse {
  switch (run.status) {
    case 'QUEUED':
      return run.attempt < attempt ? 'NEEDED' : 'OVER';
    case 'RUNNING':
    case 'CANCELING':
      return isWorkerOf(name, run.workerName) ? 'CARRIED' : 'OVER';
    case 'SUCCEEDED':
    case 'FAILED':
    case 'CANCELED':
      return 'OVER';
    default:
      throw new UnreachableCaseError(run.status);
  }
}

/** One line such as "waiting in slurm: Priority, position 14". */
export function sentenceOf(placement: Omit<PlacementRecord, 'run'>): string {
  const { state, launcher, reason, position, externalId, schedulerState } = placement;
  const job = externalId === null ? '' : ` as job ${externalId}`;
  const because = (text: string | null): string => (text === null || text === '' ? '' : `: ${text}`);
  switch (state) {
    case 'PLANNED':
      return reason === null ? `about to be submitted to ${launcher}` : `not yet submitted to ${launcher}: ${reason}`;
    case 'SUBMITTING':
      return `being submitted to ${launcher}${because(reason)}`;
    case 'WAITING':
      return `waiting in ${launcher}${because([reason, position === null ? null : `position ${position}`].filter((part) => part !== null).join(', '))}`;
    case 'RUNNING':
      return `running in ${launcher}${job}${because(reason)}`;
    case 'UNKNOWN':
      return `${launcher} does not know job ${externalId ?? placement.name} at the moment${because(reason)}`;
    case 'ENDED':
      return `ended in ${launcher}${job}${because([schedulerState, reason].filter((part) => part !== null).join(', '))}`;
    default:
      throw new UnreachableCaseError(state);
  }
}

/** The first pause after a job that ended before its worker took the run; it doubles with each further one. */
const FIRST_PAUSE_MS = 15_000;
const LONGEST_PAUSE_MS = 600_000;

/** What schedulers call ends that are not the fault of the job: Slurm's states, and the reasons of Kubernetes' pods. */
const ENDS_FROM_OUTSIDE: ReadonlySet<string> = new Set([
  ...['NODE_FAIL', 'PREEMPTED', 'BOOT_FAIL', 'REVOKED'],
  ...['PreemptionByScheduler', 'EvictionByEvictionAPI', 'DeletionByTaintManager', 'DeletionByPodGC'],
  ...['TerminationByKubelet', 'NodeLost', 'NodeShutdown', 'Shutdown', 'Terminated', 'Preempting'],
]);

/**
 * When the next job for a run may be placed, so that a worker that cannot start on the cluster is not started a
 * thousand times. The pause grows with the number of jobs in a row that ended before any worker took the attempt.
 * @param earlier the run's placements, the newest first.
 * @returns undefined: at once.
 */
export function nextPlacementAt(
  earlier: readonly Pick<PlacementRecord, 'attempt' | 'endedAt' | 'schedulerState'>[],
  attemptsSoFar: number,
): Date | undefined {
  const [newest] = earlier;
  let fruitless = 0;
  for (const { attempt, schedulerState } of earlier) {
    if (attempt <= attemptsSoFar) break;
    if (!ENDS_FROM_OUTSIDE.has(schedulerState ?? '')) fruitless += 1;
  }
  if (fruitless === 0 || newest?.endedAt == null) return undefined;
  return new Date(newest.endedAt.getTime() + Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** (fruitless - 1)));
}

const launcherName = z
  .string()
  .regex(/^[a-z0-9][a-z0-9-]{0,39}$/, 'must be up to 40 lower-case letters, digits and hyphens, such as slurm-gpu');
const shortText = z.string().max(500, 'must be at most 500 characters').nullish();

export const placementWorkSchema = z.object({
  launcher: launcherName,
  kinds: z.array(z.enum(RUN_KINDS)).min(1, 'must name at least one kind of run'),
  limit: z.number().int().min(0).max(PLACEMENTS_AT_ONCE_MAX, `must be 0 to ${PLACEMENTS_AT_ONCE_MAX}`),
  labels: workerLabelsSchema.nullish(),
});

export const placeRunsSchema = z.object({
  launcher: launcherName,
  runIds: z
    .array(z.uuid('must be the id of a run'))
    .max(PLACEMENTS_AT_ONCE_MAX, `must be at most ${PLACEMENTS_AT_ONCE_MAX} runs`),
});

export const reportPlacementsSchema = z.object({
  launcher: launcherName,
  reports: z
    .array(
      z.object({
        id: z.uuid('must be the id of a placement'),
        state: z.enum(PLACEMENT_STATES),
        externalId: shortText,
        schedulerState: shortText,
        reason: shortText,
        position: z.number().int().min(1).nullish(),
      }),
    )
    .max(PLACEMENTS_AT_ONCE_MAX, `must be at most ${PLACEMENTS_AT_ONCE_MAX} reports`),
});

export type PlacementReport = z.infer<typeof reportPlacementsSchema>['reports'][number];

/**
 * Whether a report may change a placement. What has ended stays so, and only a planned placement becomes SUBMITTING: of
 * two launchers with one name only one submits the job.
 */
export function mayBecome(state: PlacementState, next: PlacementState): boolean {
  if (state === 'ENDED') return false;
  return next !== 'SUBMITTING' || state === 'PLANNED';
}
