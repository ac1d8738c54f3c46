/**
 * The agent claims queued runs, starts one child process for each, renews its lease while the child is busy, and makes
 * sure that every run ends in a state that says what happened, even if the child dies.
 */
import { mkdir, readdir, rm } from 'node:fs/promises';
import path from 'node:path';
import { DomainError } from '../src/errors.ts';
import type { Logger } from '../src/logger.ts';
import { RUN_JOBS } from '../src/jobs/index.ts';
import { type ClaimedRun, type RunLedger, type RunRecord } from '../src/modules/runs/index.ts';
import type { ArtifactStore } from '../src/platform/artifact-store/index.ts';
import type { Queue } from '../src/platform/queue.ts';
import { startChild, type Child, type ChildSettings } from './child-process.ts';
import type { StopReason } from './child-protocol.ts';
import type { Device, Devices } from './devices.ts';
import { untilDatabaseAnswers } from './database-patience.ts';
import { failureOfEnd, STUCK, TIMED_OUT_RUN } from './failure.ts';
import { folderOf, leaseOf } from './lease-folder.ts';
import { oomKillCount } from './oom-kills.ts';
import { LEASE_SECONDS, RUN_LANES, type RunFailureRecord, type RunKind, type RunLease, type RunStatus } from '../src/protocol/runs.ts';

export interface AgentParts {
  readonly ledger: RunLedger;
  readonly store: ArtifactStore;
  readonly logger: Logger;
  readonly workerName: string;
  /** Each run gets a private folder below it. */
  readonly workDir: string;
  readonly child: Omit<ChildSettings, 'workDir'>;
  /** False while TensorFlow is missing: then only imports are claimed. */
  readonly engineReady: () => boolean;
  /** The kinds of runs that it takes. */
  readonly kinds: readonly RunKind[];
  /** The devices on which trainings and evaluations are placed. */
  readonly devices: Devices;
  /** A child that makes no progress for this long is killed. */
  readonly stuckAfterMs: number;
}

/** How the only run of a one-shot worker ended. */
export type CarriedRun =
  | { readonly isTaken: true; readonly status: RunStatus }
  /** One sentence. */
  | { readonly isTaken: false; readonly reason: string };

export interface Agent {
  /** Takes runs as they come. */
  start(queue: Pick<Queue, 'listen'>): Promise<void>;
  /** Takes this run and no other. @returns when its attempt is over. */
  carry(runId: string): Promise<CarriedRun>;
  /** Asks running children to save their state and end, then resolves. Unfinished runs return to the queue. */
  drain(): Promise<void>;
}

/** The lease lasts LEASE_SECONDS; renewing it this often also shows a cancellation within a second. */
const RENEW_EVERY_MS = 1_000;
/** How often to poll for runs that were queued without a notification, and for runs of workers that died. */
const POLL_EVERY_MS = 5_000;
/**
 * A child that has not stopped this long after it was asked to is killed, so that a cancellation takes less than ten
 * seconds if little would be lost.
 */
const STOP_GRACE_MS = 5_000;
/** If more work than this is unsaved, a cancelled run saves its state first. */
const UNSAVED_MS = 10_000;
/** Enough for the end of the step and for writing the state; after that even a cancelled run loses its progress. */
const SAVE_GRACE_MS = 120_000;
/** A training writes its state before it ends: it gets longer if no user waits for a cancellation. */
const DRAIN_GRACE_MS = 20_000;

/** A place for one run at a time. */
interface Slot {
  readonly kinds: readonly RunKind[];
  /** Null for a run that is short, or small enough to run beside the others. */
  readonly device?: Device;
}

export function createAgent(parts: AgentParts): Agent {
  const { ledger, logger } = parts;
  const executing = new Map<Slot, Promise<void>>();
  const children = new Set<Child>();
  let draining = false;
  let slots: readonly Slot[] = [];
  let ticker: NodeJS.Timeout | undefined;

  const removeWorkOf = async (lease: RunLease): Promise<void> => {
    await rm(path.join(parts.workDir, folderOf(lease)), { recursive: true, force: true });
    await parts.store.upkeep.removeUnfinished(folderOf(lease));
  };

  /** Removes files of killed agents. Several agents may share the folders, so files of a held lease are kept. */
  const removeOrphanedWork = async (): Promise<void> => {
    const names = new Set([
      ...(await readdir(parts.workDir).catch(() => [])),
      ...(await parts.store.upkeep.unfinishedWriters()),
    ]);
    const leases = [...names].flatMap((name) => leaseOf(name) ?? []);
    if (leases.length === 0) return;
    const held = new Set((await ledger.held(leases)).map(folderOf));
    await Promise.all(leases.filter((lease) => !held.has(folderOf(lease))).map(removeWorkOf));
  };

  const poll = async (): Promise<void> => {
    const expired = await ledger.requeueExpired();
    if (expired > 0) logger.warn({ expired }, 'runs with expired leases were requeued');
    await removeOrphanedWork();
    // Not awaited: a slot is busy as long as its run, and the next poll serves the other slots.
    for (const slot of slots) void fill(slot);
  };

  let isPolling = false;
  let pollAgain = false;
  /**
   * One poll at a time. All requests during a poll lead to one more poll, because the run that they announce may have
   * come after the current poll passed it.
   */
  const pollSoon = (): void => {
    if (isPolling) {
      pollAgain = true;
      return;
    }
    isPolling = true;
    poll()
      .catch((error: unknown) => logger.error({ error }, 'polling for runs failed'))
      .finally(() => {
        isPolling = false;
        if (!pollAgain || draining) return;
        pollAgain = false;
        pollSoon();
      });
  };

  const freeDevice = async (): Promise<Device | undefined> => {
    for (const device of await parts.devices.list()) if (await parts.devices.hasRoom(device)) return device;
    return undefined;
  };

  const fill = async (slot: Slot): Promise<void> => {
    if (draining || executing.has(slot)) return;
    if (!slot.kinds.includes('IMPORT') && !parts.engineReady()) return;
    // Taken before the first await, so that two simultaneous polls do not both fill the slot.
    const turn = (async () => {
      if (slot.device !== undefined && !(await parts.devices.hasRoom(slot.device))) {
        logger.debug({ device: slot.device.id }, 'the device has too little free memory');
        return false;
      }
      const claimed = await ledger.claim(slot.kinds, parts.workerName, slot.device?.id);
      if (claimed === undefined) return false;
      await execute(claimed, slot);
      return true;
    })();
    const done = turn.then(
      () => undefined,
      (error: unknown) => logger.error({ error }, 'a run could not be executed'),
    );
    executing.set(slot, done);
    await done;
    executing.delete(slot);
    if (await turn.catch(() => false)) await fill(slot);
  };

  const execute = async ({ run, lease }: ClaimedRun, slot: Slot): Promise<void> => {
    const runLogger = logger.child({ runId: run.id, kind: run.kind, attempt: run.attempt, device: slot.device?.id });
    runLogger.info('run started');
    // Files that an earlier attempt left here: only the current holder of the run may work on it. If the database is
    // unreachable, a later poll removes them, and the run waits in its child.
    await removeOrphanedWork().catch((error: unknown) => runLogger.warn({ error }, 'old work could not be removed'));
    const workDir = path.join(parts.workDir, folderOf(lease));
    await mkdir(workDir, { recursive: true });
    const oomKillsBefore = await oomKillCount();
    const child = startChild({ ...parts.child, workDir }, run, lease, slot.device?.env ?? {}, runLogger);
    children.add(child);
    /** The reason why the agent ended the child, if that is the run's failure. */
    let verdict: RunFailureRecord | undefined;
    let stopTimer: NodeJS.Timeout | undefined;
    const askToStop = (reason: StopReason, graceMs: number): void => {
      if (stopTimer !== undefined) return;
      child.askToStop(reason);
      stopTimer = setTimeout(() => child.kill(), graceMs);
    };
    const cancel = (): void => {
      // A child that loads TensorFlow receives no messages for seconds, and on a busy machine for longer than a
      // cancellation may take.
      if (child.hasBegun())
        askToStop('CANCEL', (child.unsavedForMs() ?? 0) > UNSAVED_MS ? SAVE_GRACE_MS : STOP_GRACE_MS);
      else child.kill();
    };
    const stopwatch = createStopwatch();
    let isRenewing = false;
    const renew = async (): Promise<void> => {
      const renewal = await ledger.renew(lease, stopwatch.lapSeconds());
      // Another worker holds the run, or the child has settled it and is about to exit.
      if (renewal === undefined) child.killAfterDelay();
      else if (renewal.status === 'CANCELING') cancel();
      else if (run.maxDurationSeconds !== null && renewal.busySeconds > run.maxDurationSeconds) {
        verdict ??= TIMED_OUT_RUN;
        askToStop('TIMEOUT', DRAIN_GRACE_MS);
      }
    };
    const renewal = setInterval(() => {
      if (draining) askToStop('DRAIN', DRAIN_GRACE_MS);
      if (child.silentForMs() > parts.stuckAfterMs && verdict === undefined) {
        verdict = STUCK;
        child.kill();
      }
      // While the database does not answer, it is not asked again.
      if (isRenewing) return;
      isRenewing = true;
      renew()
        .catch((error: unknown) => runLogger.warn({ error }, 'the lease could not be renewed'))
        .finally(() => {
          isRenewing = false;
        });
    }, RENEW_EVERY_MS);
    try {
      const end = await child.ended;
      runLogger.info({ end: { ...end, stderrTail: undefined } }, 'run ended');
      if (!end.settled) {
        const kernelWasOutOfMemory =
          oomKillsBefore === undefined ? undefined : (await oomKillCount()) !== oomKillsBefore;
        runLogger.warn({ signal: end.signal, code: end.code, stderrTail: end.stderrTail }, 'the child died');
        await untilDatabaseAnswers(
          () => settleForChild(lease, verdict ?? failureOfEnd({ ...end, kernelWasOutOfMemory })),
          () => runLogger.warn('the outcome of the run waits for the database'),
        ).catch((error: unknown) => {
          // Otherwise another worker has taken the run over or settled it.
          if (!(error instanceof DomainError && error.code === 'LEASE_LOST')) throw error;
        });
      }
    } finally {
      clearInterval(renewal);
      clearTimeout(stopTimer);
      children.delete(child);
      await removeWorkOf(lease);
    }
  };

  const settleForChild = async (lease: RunLease, failure: RunFailureRecord): Promise<void> => {
    const renewal = await ledger.renew(lease);
    if (renewal === undefined) return;
    if (renewal.status === 'CANCELING') await ledger.cancelNow(lease);
    else if (draining) await ledger.release(lease, 'The worker stopped; the run continues at its next start.');
    else await ledger.fail(lease, failure);
  };

  return {
    start: async (queue) => {
      await mkdir(parts.workDir, { recursive: true });
      await parts.store.upkeep.removeAbandoned();
      const devices = await parts.devices.list();
      slots = RUN_LANES.flatMap((lane): readonly Slot[] => {
        const kinds = lane.filter((kind) => parts.kinds.includes(kind));
        if (kinds.length === 0) return [];
        return needsDevice(kinds) ? devices.map((device) => ({ kinds, device })) : [{ kinds }];
      });
      for (const job of Object.values(RUN_JOBS)) {
        await queue.listen(job, async () => {
          // The message only wakes the agent; the row of the run says what to do.
          pollSoon();
        });
      }
      ticker = setInterval(pollSoon, POLL_EVERY_MS);
      pollSoon();
      logger.info({ leaseSeconds: LEASE_SECONDS, devices: devices.map(({ id }) => id) }, 'the worker waits for runs');
    },
    carry: async (runId) => {
      await mkdir(parts.workDir, { recursive: true });
      const found = await ledger.find(runId);
      if (found === undefined) return notTaken(`The run ${runId} does not exist.`);
      if (found.kind !== 'IMPORT' && !parts.engineReady())
        return notTaken('The TensorFlow engine is not installed on this machine.');
      const device = needsDevice([found.kind]) ? await freeDevice() : undefined;
      if (device === undefined && needsDevice([found.kind]))
        return notTaken('No device of this machine has enough free memory.');
      if (draining) return notTaken('The worker was stopped before it took the run.');
      const claimed = await ledger.claimRun(runId, parts.workerName, device?.id);
      if (claimed === undefined) return notTaken(whyNotClaimed(await ledger.find(runId)));
      const slot: Slot = { kinds: [found.kind], ...(device === undefined ? {} : { device }) };
      const done = execute(claimed, slot);
      executing.set(slot, done);
      await done;
      return { isTaken: true, status: (await ledger.find(runId))?.status ?? 'CANCELED' };
    },
    drain: async () => {
      draining = true;
      clearInterval(ticker);
      for (const child of children) child.askToStop('DRAIN');
      const killer = setTimeout(() => {
        for (const child of children) child.kill();
      }, DRAIN_GRACE_MS);
      await Promise.all(executing.values());
      clearTimeout(killer);
    },
  };
}

/** Trainings and evaluations share the devices; imports and exports are small enough to run beside them. */
function needsDevice(kinds: readonly RunKind[]): boolean {
  return kinds.includes('PRETRAINING') || kinds.includes('EVALUATION');
}

function notTaken(reason: string): CarriedRun {
  return { isTaken: false, reason };
}

function whyNotClaimed(run: RunRecord | undefined): string {
  if (run === undefined) return 'The run does not exist any more.';
  return run.status === 'QUEUED'
    ? 'The device already has a run.'
    : `The run is ${run.status}${run.status === 'RUNNING' || run.status === 'CANCELING' ? ': another worker holds it' : ''}.`;
}

/** Measures time by the monotonic clock. */
function createStopwatch() {
  let lastMs = performance.now();
  return {
    /** Seconds since the last call, or since the start. */
    lapSeconds: (): number => {
      const nowMs = performance.now();
      const seconds = (nowMs - lastMs) / 1000;
      lastMs = nowMs;
      return seconds;
    },
  };
}
