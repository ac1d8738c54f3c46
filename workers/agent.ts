/**
 * The agent: takes waiting runs, starts one child process for each, keeps its lease while the child is busy, and sees to
 * it that every run ends in a state that says what happened, whatever becomes of the child.
 */
import { mkdir, readdir, rm } from 'node:fs/promises';
import path from 'node:path';
import type { Logger } from '../src/logger.ts';
import { RUN_JOBS } from '../src/jobs/index.ts';
import { LEASE_SECONDS, RUN_LANES, type ClaimedRun, type RunKind, type RunLease, type RunLedger } from '../src/modules/runs/index.ts';
import { removeAbandonedWrites } from '../src/platform/artifact-store.ts';
import type { Queue } from '../src/platform/queue.ts';
import { failureOfEnd } from './failure.ts';
import { oomKillCount } from './oom-kills.ts';
import { startChild, type Child, type ChildEnd, type ChildSettings } from './child-process.ts';

export interface AgentParts {
  readonly ledger: RunLedger;
  readonly queue: Queue;
  readonly logger: Logger;
  readonly workerName: string;
  /** Below it each run gets a private folder. */
  readonly workDir: string;
  readonly child: Omit<ChildSettings, 'workDir'>;
  /** False while TensorFlow is missing: then only imports are taken. */
  readonly engineReady: () => boolean;
}

export interface Agent {
  start(): Promise<void>;
  /** Lets running children keep their state and go, then resolves. Runs that did not finish wait in the queue. */
  drain(): Promise<void>;
}

/** The lease lasts LEASE_SECONDS; renewing this often also tells us of a cancel within two seconds. */
const RENEW_EVERY_MS = 2_000;
/** Runs queued while nobody listened, and runs of workers that died, are found by looking. */
const LOOK_EVERY_MS = 5_000;
/** A child that was asked to stop and has not by then is killed, so that a cancel takes less than ten seconds. */
const STOP_GRACE_MS = 8_000;
/** A training writes its state before it goes: give it longer when nobody is waiting for a cancel. */
const DRAIN_GRACE_MS = 20_000;

export function createAgent(parts: AgentParts): Agent {
  const { ledger, logger } = parts;
  const carrying = new Map<readonly RunKind[], Promise<void>>();
  const children = new Set<Child>();
  let draining = false;
  let ticker: NodeJS.Timeout | undefined;

  const look = async (): Promise<void> => {
    const lapsed = await ledger.reapLapsed();
    if (lapsed > 0) logger.warn({ lapsed }, 'runs of silent workers were taken back');
    await Promise.all(RUN_LANES.map(fill));
  };

  const fill = async (lane: readonly RunKind[]): Promise<void> => {
    if (draining || carrying.has(lane)) return;
    if (!lane.includes('IMPORT') && !parts.engineReady()) return;
    // Taken before the first await, so that two looks at once do not both fill the lane.
    const turn = (async () => {
      const claimed = await ledger.claim(lane, parts.workerName);
      if (claimed === undefined) return false;
      await carry(claimed);
      return true;
    })();
    const done = turn.then(
      () => undefined,
      (error: unknown) => logger.error({ error }, 'a run could not be carried'),
    );
    carrying.set(lane, done);
    await done;
    carrying.delete(lane);
    if (await turn.catch(() => false)) await fill(lane);
  };

  const carry = async ({ run, lease }: ClaimedRun): Promise<void> => {
    const runLogger = logger.child({ runId: run.id, kind: run.kind, attempt: run.attempt });
    runLogger.info('run started');
    await removeEarlierWork(parts.workDir, run.id);
    const workDir = path.join(parts.workDir, `${run.id}-${lease.epoch}`);
    await mkdir(workDir, { recursive: true });
    const oomKillsBefore = await oomKillCount();
    const child = startChild({ ...parts.child, workDir }, run, lease, runLogger);
    children.add(child);
    let stopTimer: NodeJS.Timeout | undefined;
    const askToStop = (reason: 'CANCEL' | 'DRAIN', graceMs: number): void => {
      if (stopTimer !== undefined) return;
      child.askToStop(reason);
      stopTimer = setTimeout(() => child.kill(), graceMs);
    };
    const renewal = setInterval(() => {
      ledger.renew(lease).then(
        (renewal) => {
          if (renewal?.status === 'CANCELING') askToStop('CANCEL', STOP_GRACE_MS);
          // Somebody else holds the run, or the child has settled it and is on its way out.
          if (renewal === undefined) child.killSoon();
        },
        (error: unknown) => runLogger.warn({ error }, 'the lease could not be renewed'),
      );
      if (draining) askToStop('DRAIN', DRAIN_GRACE_MS);
    }, RENEW_EVERY_MS);
    try {
      const end = await child.ended;
      runLogger.info({ end: { ...end, lastWords: undefined } }, 'run ended');
      if (!end.settled) await settleForChild(lease, end, oomKillsBefore, runLogger);
    } finally {
      clearInterval(renewal);
      clearTimeout(stopTimer);
      children.delete(child);
      await rm(workDir, { recursive: true, force: true });
    }
  };

  const settleForChild = async (lease: RunLease, end: ChildEnd, oomKillsBefore: number | undefined, runLogger: Logger): Promise<void> => {
    const renewal = await ledger.renew(lease);
    if (renewal === undefined) return;
    runLogger.warn({ signal: end.signal, code: end.code, lastWords: end.lastWords }, 'the child died');
    await removeAbandonedWrites(parts.child.artifactsDir);
    if (renewal.status === 'CANCELING') await ledger.cancelNow(lease);
    else if (draining) await ledger.release(lease, 'The worker stopped; the run goes on at its next start.');
    else await ledger.fail(lease, failureOfEnd({ ...end, kernelWasOutOfMemory: oomKillsBefore === undefined ? undefined : (await oomKillCount()) !== oomKillsBefore }));
  };

  return {
    start: async () => {
      await mkdir(parts.workDir, { recursive: true });
      await removeAbandonedWrites(parts.child.artifactsDir);
      for (const job of Object.values(RUN_JOBS)) {
        await parts.queue.listen(job, async () => {
          // The message only wakes us; the row says what there is to do.
          look().catch((error: unknown) => logger.error({ error }, 'looking for runs failed'));
        });
      }
      ticker = setInterval(() => {
        look().catch((error: unknown) => logger.error({ error }, 'looking for runs failed'));
      }, LOOK_EVERY_MS);
      look().catch((error: unknown) => logger.error({ error }, 'looking for runs failed'));
      logger.info({ leaseSeconds: LEASE_SECONDS }, 'the worker waits for runs');
    },
    drain: async () => {
      draining = true;
      clearInterval(ticker);
      for (const child of children) child.askToStop('DRAIN');
      const killer = setTimeout(() => {
        for (const child of children) child.kill();
      }, DRAIN_GRACE_MS);
      await Promise.all(carrying.values());
      clearTimeout(killer);
    },
  };
}

/** What an agent that was killed left of this run: whoever holds the run now is the only one who may work on it. */
async function removeEarlierWork(folder: string, runId: string): Promise<void> {
  const names = (await readdir(folder)).filter((name) => name.startsWith(`${runId}-`));
  await Promise.all(names.map((name) => rm(path.join(folder, name), { recursive: true, force: true })));
}
