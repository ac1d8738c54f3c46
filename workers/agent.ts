/**
 * The agent claims queued runs, starts one child process for each, renews its lease while the child is busy, and makes
 * sure that every run ends in a state that says what happened, even if the child dies.
 */
import { mkdir, readdir, rm } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { DomainError, type ErrorCode } from '../src/errors.ts';
import type { Logger } from '../src/logger.ts';
import type { ArtifactStore } from '../src/platform/artifact-store/index.ts';
import { programVersion } from '../src/platform/program-version.ts';
import { whyNotHere, type WorkerCapabilities } from '../src/protocol/requirements.ts';
import {
  LEASE_SECONDS,
  leaseName,
  leaseNamed,
  RUN_LANES,
  type HeldLease,
  type RunFailureRecord,
  type RunKind,
  type RunStatus,
} from '../src/protocol/runs.ts';
import { PROTOCOL_VERSION, type Claim, type ClaimedPart, type ClaimedRun } from '../src/protocol/worker-calls.ts';
import { startChild, type Child, type ChildSettings } from './child-process.ts';
import type { StopReason } from './child-protocol.ts';
import { cpuFacts, type Device, type Devices } from './devices.ts';
import { failureOfEnd, STUCK, TIMED_OUT_RUN } from './failure.ts';
import { oomKillCount } from './oom-kills.ts';
import { createPartRegistry, createRunRegistry, type WorkerRegistry } from './registry/http.ts';
import { isRegistryFault, untilRegistryAnswers } from './registry/patience.ts';

export interface AgentParts {
  readonly registry: WorkerRegistry;
  /** The store of the registry, if this machine shares its disk; unfinished files of killed children are removed. */
  readonly store: Pick<ArtifactStore, 'upkeep'> | undefined;
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
  /** What the person who runs the worker says of it. */
  readonly offer: Pick<WorkerCapabilities, 'longestSeconds' | 'labels'>;
  /** A child that makes no progress for this long is killed. */
  readonly stuckAfterMs: number;
  /** The registry does not accept this worker: its key, or its version of the protocol. */
  readonly onRefused: (error: DomainError) => void;
}

/** How the only run of a one-shot worker ended. */
export type CarriedRun = { readonly isTaken: true; readonly status: RunStatus } | NotTaken;

interface NotTaken {
  readonly isTaken: false;
  /** For a person. */
  readonly reason: string;
}

export interface Agent {
  /** Takes runs as they come. */
  start(): Promise<void>;
  /** Takes this run and no other. @returns when its attempt is over. */
  carry(runId: string): Promise<CarriedRun>;
  /** Asks running children to save their state and end, then resolves. Unfinished runs return to the queue. */
  drain(): Promise<void>;
}

/** The lease lasts LEASE_SECONDS; renewing it this often also shows a cancellation within a second. */
const RENEW_EVERY_MS = 1_000;
/** Half a lease: one renewal may be lost in the silence of a network, and the next comes in time. */
const RENEWAL_TIMEOUT_MS = (LEASE_SECONDS * 1000) / 2;
/** How long the registry may hold a claim open until a run comes. */
const CLAIM_WAIT_SECONDS = 20;
/** Before the next claim after one that failed, or on a device without room. */
const RETRY_CLAIM_MS = 5_000;
/** Before the next claim while the registry is away. */
const RECONNECT_MS = 1_000;
/** How often to look for files of runs whose worker has died: their lease ends some time after they did. */
const CLEAN_EVERY_MS = 5_000;
/** Refusals that the next claim would meet as well. */
const REFUSALS: ReadonlySet<ErrorCode> = new Set(['UNAUTHENTICATED', 'FORBIDDEN', 'WORKER_INCOMPATIBLE']);
/** For the outcome of a child that died; afterwards the lease has long expired, and the registry requeues the run. */
const SETTLE_PATIENCE_MS = 180_000;
/** How long a one-shot worker waits for a registry that is away. */
const QUESTION_PATIENCE_MS = 180_000;
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

/** What the agent says of a run or part while its child works on it. */
interface Holding {
  /** @param seconds since it was claimed. @throws DomainError LEASE_LOST. */
  renew(seconds: number): Promise<'HELD' | 'CANCELING' | 'TIMED_OUT'>;
  /** Says what became of it, for a child that died. */
  settle(failure: RunFailureRecord): Promise<void>;
}

export function createAgent(parts: AgentParts): Agent {
  const { registry, logger } = parts;
  const executing = new Set<Promise<unknown>>();
  const children = new Set<Child>();
  /** Aborted when the worker drains. */
  const draining = new AbortController();

  const removeWorkOf = async (lease: HeldLease): Promise<void> => {
    await rm(path.join(parts.workDir, leaseName(lease)), { recursive: true, force: true });
    await parts.store?.upkeep.removeUnfinished(leaseName(lease));
  };

  /** Removes files of killed agents. Several agents may share the folders, so files of a held lease are kept. */
  const removeOrphanedWork = async (): Promise<void> => {
    const names = new Set([
      ...(await readdir(parts.workDir).catch(() => [])),
      ...((await parts.store?.upkeep.unfinishedWriters()) ?? []),
    ]);
    const leases = [...names].flatMap((name) => leaseNamed(name) ?? []);
    if (leases.length === 0) return;
    const held = new Set((await registry.held(leases)).map(leaseName));
    await Promise.all(leases.filter((lease) => !held.has(leaseName(lease))).map(removeWorkOf));
  };

  let cleaner: NodeJS.Timeout | undefined;
  const clean = (): void => {
    removeOrphanedWork().catch((error: unknown) => logger.warn({ error }, 'old work could not be removed'));
  };

  const ask = <Answer>(question: () => Promise<Answer>): Promise<Answer> =>
    untilRegistryAnswers(question, {
      onWait: (error) => logger.warn({ error }, 'the worker waits for the registry'),
      limitMs: QUESTION_PATIENCE_MS,
      stopping: draining.signal,
    });
  const statusOf = (runId: string) => ask(() => registry.run(runId));

  const freeDevice = async (): Promise<Device | undefined> => {
    for (const device of await parts.devices.list()) if (await parts.devices.hasRoom(device)) return device;
    return undefined;
  };

  const capabilitiesOf = (device: Device | undefined): WorkerCapabilities => ({
    ...(device?.facts ?? cpuFacts()),
    ...parts.offer,
  });

  const claimFor = ({ kinds, device }: Slot, chosen: Pick<Claim, 'runId' | 'waitSeconds'>) => ({
    protocolVersion: PROTOCOL_VERSION,
    programVersion: programVersion(),
    workerName: parts.workerName,
    kinds: [...kinds],
    deviceId: device?.id ?? null,
    capabilities: capabilitiesOf(device),
    ...chosen,
  });

  /** Waits for the next run, or part of one, for a place. @returns undefined if there is none yet. */
  const nextWork = async (slot: Slot): Promise<ClaimedRun | ClaimedPart | undefined> => {
    if (!slot.kinds.includes('IMPORT') && !parts.engineReady()) return afterPause();
    if (slot.device !== undefined && !(await parts.devices.hasRoom(slot.device))) {
      logger.debug({ device: slot.device.id }, 'the device has too little free memory');
      return afterPause();
    }
    const claim = claimFor(slot, { runId: null, waitSeconds: CLAIM_WAIT_SECONDS });
    return registry.claimAny(claim, draining.signal);
  };

  /** Ends at once when the worker drains. */
  const afterPause = (pauseMs = RETRY_CLAIM_MS): Promise<undefined> =>
    pause(pauseMs, undefined, { signal: draining.signal }).catch(() => undefined);

  /** Serves a place, one run after another, until the worker drains. */
  const serve = async (slot: Slot): Promise<void> => {
    while (!draining.signal.aborted) {
      try {
        const claimed = await nextWork(slot);
        if (claimed !== undefined) await execute(claimed, slot);
      } catch (error) {
        if (draining.signal.aborted) return;
        if (error instanceof DomainError && REFUSALS.has(error.code)) {
          parts.onRefused(error);
          return;
        }
        if (isRegistryFault(error)) logger.warn({ error }, 'the worker waits for the registry');
        else logger.error({ error }, 'no run could be claimed or executed');
        await afterPause(isRegistryFault(error) ? RECONNECT_MS : RETRY_CLAIM_MS);
      }
    }
  };

  /** Takes part in the draining of the worker. */
  const track = async <Result>(work: Promise<Result>): Promise<Result> => {
    executing.add(work);
    try {
      return await work;
    } finally {
      executing.delete(work);
    }
  };

  const execute = async (claimed: ClaimedRun | ClaimedPart, slot: Slot): Promise<void> => {
    const { run, lease } = claimed;
    const holding = 'plan' in claimed ? holdPart(claimed) : holdRun(claimed);
    const runLogger = logger.child({ ...lease, kind: run.kind, attempt: run.attempt, device: slot.device?.id });
    runLogger.info('run started');
    // Files that an earlier attempt left here: only the current holder of the run may work on it. If the registry is
    // away, the next run removes them, and this one waits in its child.
    await removeOrphanedWork().catch((error: unknown) => runLogger.warn({ error }, 'old work could not be removed'));
    const workDir = path.join(parts.workDir, leaseName(lease));
    await mkdir(workDir, { recursive: true });
    const oomKillsBefore = await oomKillCount();
    const child = startChild({ ...parts.child, workDir }, claimed, slot.device, runLogger);
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
    const claimedAtMs = performance.now();
    let isRenewing = false;
    const renew = async (): Promise<void> => {
      switch (await holding.renew((performance.now() - claimedAtMs) / 1000)) {
        case 'HELD':
          return;
        case 'CANCELING':
          cancel();
          return;
        case 'TIMED_OUT':
          verdict ??= TIMED_OUT_RUN;
          askToStop('TIMEOUT', DRAIN_GRACE_MS);
      }
    };
    const renewal = setInterval(() => {
      if (draining.signal.aborted) askToStop('DRAIN', DRAIN_GRACE_MS);
      if (child.silentForMs() > parts.stuckAfterMs && verdict === undefined) {
        verdict = STUCK;
        child.kill();
      }
      // While the registry does not answer, it is not asked again.
      if (isRenewing) return;
      isRenewing = true;
      renew()
        .catch((error: unknown) => {
          // Another worker holds the run, or the child has settled it and is about to exit.
          if (isLost(error)) child.killAfterDelay();
          else runLogger.warn({ error }, 'the lease could not be renewed');
        })
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
        await untilRegistryAnswers(() => holding.settle(verdict ?? failureOfEnd({ ...end, kernelWasOutOfMemory })), {
          onWait: () => runLogger.warn('the outcome of the run waits for the registry'),
          limitMs: SETTLE_PATIENCE_MS,
          stopping: draining.signal,
        }).catch((error: unknown) => {
          // Otherwise another worker has taken the run over or settled it.
          if (!isLost(error)) throw error;
        });
      }
    } finally {
      clearInterval(renewal);
      clearTimeout(stopTimer);
      children.delete(child);
      await removeWorkOf(lease);
    }
  };

  const holdRun = ({ run, token }: ClaimedRun): Holding => {
    const ownRun = createRunRegistry({ url: parts.child.url, token }, run.id, { timeoutMs: RENEWAL_TIMEOUT_MS });
    return {
      renew: async (seconds) => {
        const { status, busySeconds } = await ownRun.renew({ busySeconds: run.busySeconds + seconds });
        if (status === 'CANCELING') return 'CANCELING';
        return run.maxDurationSeconds !== null && busySeconds > run.maxDurationSeconds ? 'TIMED_OUT' : 'HELD';
      },
      settle: async (failure) => {
        const { status } = await ownRun.renew({ busySeconds: 0 });
        if (status === 'CANCELING') await ownRun.cancel({});
        else if (draining.signal.aborted)
          await ownRun.release({ message: 'The worker stopped; the run continues at its next start.' });
        else await ownRun.fail({ failure });
      },
    };
  };

  /** A part whose run was cancelled is lost with its run. */
  const holdPart = ({ lease, token }: ClaimedPart): Holding => {
    const ownPart = createPartRegistry({ url: parts.child.url, token }, lease, { timeoutMs: RENEWAL_TIMEOUT_MS });
    return {
      renew: async () => {
        await ownPart.renew({});
        return 'HELD';
      },
      settle: async ({ message }) =>
        void (await ownPart.giveBack({ reason: draining.signal.aborted ? null : message })),
    };
  };

  /** Claims this run. @returns it, or why it could not be taken. */
  const take = async (runId: string): Promise<{ claimed: ClaimedRun; slot: Slot } | NotTaken> => {
    const found = await statusOf(runId);
    if (found === undefined) return notTaken(`The run ${runId} does not exist.`);
    if (found.kind !== 'IMPORT' && !parts.engineReady())
      return notTaken('The TensorFlow engine is not installed on this machine.');
    const device = needsDevice([found.kind]) ? await freeDevice() : undefined;
    if (device === undefined && needsDevice([found.kind]))
      return notTaken('No device of this machine has enough free memory.');
    if (draining.signal.aborted) return notTaken('The worker was stopped before it took the run.');
    const slot: Slot = { kinds: [found.kind], ...(device === undefined ? {} : { device }) };
    const obstacle = whyNotHere(found, parts.workerName, capabilitiesOf(device));
    if (obstacle !== null) return notTaken(`The run ${obstacle}.`);
    const claimed = await ask(() => registry.claim(claimFor(slot, { runId, waitSeconds: 0 }), draining.signal));
    return claimed === undefined ? notTaken(whyNotClaimed((await statusOf(runId))?.status)) : { claimed, slot };
  };

  return {
    start: async () => {
      await mkdir(parts.workDir, { recursive: true });
      await parts.store?.upkeep.removeAbandoned();
      cleaner = setInterval(clean, CLEAN_EVERY_MS);
      clean();
      const devices = await parts.devices.list();
      const slots = RUN_LANES.flatMap((lane): readonly Slot[] => {
        const kinds = lane.filter((kind) => parts.kinds.includes(kind));
        if (kinds.length === 0) return [];
        return needsDevice(kinds) ? devices.map((device) => ({ kinds, device })) : [{ kinds }];
      });
      for (const slot of slots) void track(serve(slot));
      logger.info({ leaseSeconds: LEASE_SECONDS, devices: devices.map(({ id }) => id) }, 'the worker waits for runs');
    },
    carry: async (runId) => {
      await mkdir(parts.workDir, { recursive: true });
      const taken = await take(runId).catch((error: unknown) => {
        // The key, the version of the protocol, or a registry that stays away.
        if (error instanceof DomainError) return notTaken(`${error.message} ${error.hint ?? ''}`.trim());
        throw error;
      });
      if ('isTaken' in taken) return taken;
      await track(execute(taken.claimed, taken.slot));
      return { isTaken: true, status: (await statusOf(runId))?.status ?? 'CANCELED' };
    },
    drain: async () => {
      draining.abort();
      clearInterval(cleaner);
      for (const child of children) child.askToStop('DRAIN');
      const killer = setTimeout(() => {
        for (const child of children) child.kill();
      }, DRAIN_GRACE_MS);
      await Promise.allSettled(executing);
      clearTimeout(killer);
    },
  };
}

/** The registry says that this worker has the run no more. */
function isLost(error: unknown): boolean {
  return error instanceof DomainError && error.code === 'LEASE_LOST';
}

const DEVICE_KINDS: readonly RunKind[] = ['PRETRAINING', 'EVALUATION', 'EMBEDDING'];

/** These share the devices; imports and exports are small enough to run beside them. */
function needsDevice(kinds: readonly RunKind[]): boolean {
  return DEVICE_KINDS.some((kind) => kinds.includes(kind));
}

function notTaken(reason: string): NotTaken {
  return { isTaken: false, reason };
}

function whyNotClaimed(status: RunStatus | undefined): string {
  if (status === undefined) return 'The run does not exist any more.';
  return status === 'QUEUED'
    ? 'The device already has a run.'
    : `The run is ${status}${status === 'RUNNING' || status === 'CANCELING' ? ': another worker holds it' : ''}.`;
}
