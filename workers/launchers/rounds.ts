/**
 * One round of a launcher: ask the registry what is open, look at the scheduler, tell what changed, place what waits.
 * Whatever ends this process, the next one continues from the rows of the registry and the jobs of the scheduler.
 */
import { UnreachableCaseError } from '../../src/errors.ts';
import type { Logger } from '../../src/logger.ts';
import type { Launcher } from './launcher.ts';
import {
  decide,
  NOTHING_REMEMBERED,
  PATIENCE,
  type Memory,
  type Patience,
  type Placement,
  type Report,
} from './reconcile.ts';
import type { PlacementRegistry } from './registry.ts';

export interface RoundParts {
  readonly registry: PlacementRegistry;
  readonly launcher: Launcher;
  readonly logger: Logger;
  /** Jobs that may be open at the same time. */
  readonly jobsMax: number;
  readonly patience?: Patience;
  /** A monotonic clock. */
  readonly nowMs?: () => number;
}

export interface Rounds {
  /** @throws RegistryError while the registry cannot be reached. */
  next(): Promise<void>;
}

/** How long a job that the scheduler refused waits for the next attempt: somebody has to change something. */
const REFUSED_PAUSE_MS = 60_000;
/** A position in the queue alone is told this often: each report is an entry of the audit log. */
const POSITION_EVERY_MS = 60_000;

export function createRounds(parts: RoundParts): Rounds {
  const { registry, launcher, logger, jobsMax, patience = PATIENCE, nowMs = () => performance.now() } = parts;
  let memories = new Map<string, Memory>();
  const refusedAtMs = new Map<string, number>();
  const positionToldAtMs = new Map<string, number>();

  /** @returns false while the scheduler does not answer. */
  const submit = async (placement: Placement): Promise<boolean> => {
    const refusedMs = refusedAtMs.get(placement.id);
    if (refusedMs !== undefined && nowMs() - refusedMs < REFUSED_PAUSE_MS) return true;
    // Told before the scheduler is asked: a crash in between leaves a trace, and a second launcher stops here.
    const facts = { id: placement.id, externalId: null, schedulerState: null, reason: null, position: null };
    if ((await registry.report([{ ...facts, state: 'SUBMITTING' }])).length === 0) return true;
    const submission = await launcher.submit(placement);
    logger.info({ runId: placement.runId, job: placement.name, ...submission }, 'submission');
    switch (submission.kind) {
      case 'SUBMITTED':
        await registry.report([{ ...facts, state: 'WAITING', externalId: submission.externalId }]);
        refusedAtMs.delete(placement.id);
        return true;
      case 'REFUSED':
        refusedAtMs.set(placement.id, nowMs());
        await registry.report([{ ...facts, state: 'PLANNED', reason: submission.reason }]);
        return true;
      case 'LOST':
        // Stays SUBMITTING: the next looks search for its name.
        return false;
      default:
        throw new UnreachableCaseError(submission);
    }
  };

  /** False for a report whose only news is a position, if one was told a short while ago. */
  const isWorthTelling = (placement: Placement, report: Report): boolean => {
    const isPositionAlone =
      placement.position !== report.position &&
      placement.state === report.state &&
      placement.reason === report.reason &&
      placement.schedulerState === report.schedulerState &&
      placement.externalId === report.externalId;
    if (isPositionAlone && nowMs() - (positionToldAtMs.get(report.id) ?? -Infinity) < POSITION_EVERY_MS) return false;
    if (placement.position !== report.position) positionToldAtMs.set(report.id, nowMs());
    return true;
  };

  /** @returns the placements to submit; undefined while the scheduler does not answer. */
  const lookAfter = async (open: readonly Placement[]): Promise<readonly Placement[] | undefined> => {
    const asked = open.filter(({ state }) => state !== 'PLANNED');
    const look = asked.length === 0 ? noJobs : await launcher.look(asked.map(({ name }) => name));
    if (look.kind === 'UNANSWERED') {
      // Nothing is concluded, and nothing is submitted to a scheduler that does not answer.
      logger.warn({ reason: look.reason }, 'the scheduler did not answer');
      return undefined;
    }
    const decisions = open.map((placement) => ({
      placement,
      decision: decide(
        placement,
        look.jobs.get(placement.name) ?? [],
        memories.get(placement.id) ?? NOTHING_REMEMBERED,
        nowMs(),
        patience,
      ),
    }));
    memories = new Map(decisions.map(({ placement, decision }) => [placement.id, decision.memory]));
    const reports = decisions.flatMap(({ placement, decision: { report } }) =>
      report !== undefined && isWorthTelling(placement, report) ? [report] : [],
    );
    if (reports.length > 0) await registry.report(reports);
    for (const { placement, decision } of decisions) {
      for (const externalId of decision.cancel) {
        logger.info(
          { job: placement.name, externalId, use: placement.use },
          'a job that is of no more use is cancelled',
        );
        await launcher.cancel(placement.name, externalId);
      }
    }
    return decisions.flatMap(({ placement, decision }) => (decision.submit ? [placement] : []));
  };

  return {
    next: async () => {
      const { open, waitingRunIds } = await registry.work(jobsMax);
      const planned = await lookAfter(open);
      if (planned === undefined) return;
      const runIds = waitingRunIds.slice(0, Math.max(0, jobsMax - open.length));
      const placed = runIds.length === 0 ? [] : await registry.place(runIds);
      for (const placement of [...planned, ...placed]) if (!(await submit(placement))) break;
      const openIds = new Set([...open, ...placed].map(({ id }) => id));
      for (const known of [refusedAtMs, positionToldAtMs])
        for (const id of known.keys()) if (!openIds.has(id)) known.delete(id);
    },
  };
}

const noJobs = { kind: 'ANSWERED', jobs: new Map() } as const;
