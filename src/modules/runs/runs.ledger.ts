/**
 * The operations of workers on runs. Every write carries a lease and is refused once another worker holds a newer one,
 * so that a worker that was presumed dead and resumes cannot corrupt the run. There is no viewer, because workers are
 * part of the program.
 */
import { DomainError } from '../../errors.ts';
import type { Transact, Transaction } from '../../platform/db.ts';
import type { RunKind, RunStatus } from '../../generated/prisma/enums.ts';
import type { ImportBlockRecord, ImportReportRecord, NewImportBlock } from '../../protocol/import.ts';
import type { HeardWorkers } from './runs.heard.ts';
import type { RunRecord } from './runs.records.ts';
import { CANCELING_LEASE_SECONDS, isOwnFault, isRetryable, leaseLost, smallerMicroBatch } from './runs.rules.ts';
import type { ImportBlockStore } from './import-blocks.store.ts';
import type { ImportReportStore } from './imports.store.ts';
import type { RunPartStore } from './run-parts.store.ts';
import type { LeaseSeconds, RunQueueStore } from './runs.queue.store.ts';
import type { ServerStore } from './runs.servers.store.ts';
import type { RunStore } from './runs.store.ts';
import type { NewRunEvent, RunTelemetryStore } from './runs.telemetry.store.ts';
import type { TrainingStateStore } from './training-states.store.ts';
import {
  LEASE_SECONDS,
  type HeldLease,
  type ProgressReport,
  type RunFailureRecord,
  type RunLease,
} from '../../protocol/runs.ts';
import type { TrainingStateRecord } from '../../protocol/checkpoint.ts';
import { NO_CAPABILITIES, type WorkerCapabilities } from '../../protocol/requirements.ts';

/**
 * After this many attempts in a row that ended through their own fault and kept nothing, a run is failed rather than
 * queued again. A run that keeps training states may fail more often, because it makes progress.
 */
export const MAX_FRUITLESS_ATTEMPTS = 3;

/**
 * The same limit for attempts that ended for any reason: the death of a worker or of the database is not the run's
 * fault, but a run that crashes its machine each time must end.
 */
export const MAX_ATTEMPTS_WITHOUT_PROGRESS = 20;

/** A lease that ends before the look after the next one. */
const ENDING_WITHIN_SECONDS = 4;
/** Workers renew every second: a database that takes longer than this to answer may have let leases expire. */
const SLOW_ANSWER_MS = (LEASE_SECONDS * 1000) / 4;

/** The run was cancelled while it finished: it becomes CANCELED, and nothing is registered. */
export class CancelRequestedError extends Error {
  constructor() {
    super('The run was cancelled while it finished.');
    this.name = 'CancelRequestedError';
  }
}

export interface ClaimedRun {
  readonly run: RunRecord;
  readonly lease: RunLease;
}

export interface ChosenClaim {
  /** Only this run; null: any. */
  readonly runId?: string | null;
  /** sha256 of the token by which the worker proves that it holds the run. */
  readonly tokenDigest?: string | null;
  /** What the place of the worker has; default: nothing that a run can ask for. */
  readonly capabilities?: WorkerCapabilities;
}

export interface RunLedger {
  /**
   * Claims the next queued run of these kinds that the worker can take; undefined if there is none.
   * @param deviceId the device that will run it; a device gets one run at a time.
   */
  claim(
    kinds: readonly RunKind[],
    workerName: string,
    deviceId?: string | null,
    chosen?: ChosenClaim,
  ): Promise<ClaimedRun | undefined>;
  find(runId: string): Promise<RunRecord | undefined>;
  /** The digest of the token of the worker that holds or last held the run, and the run's epoch. */
  tokenOf(runId: string): Promise<{ readonly tokenDigest: string | null; readonly epoch: number } | undefined>;
  /**
   * Renews the lease for LEASE_SECONDS, or for a shorter time if the run is CANCELING. The answer tells the worker to
   * stop.
   * @param busySeconds running time over all attempts, as the worker counts it; less than is known changes nothing.
   * @returns undefined when the lease is lost.
   */
  renew(lease: RunLease, busySeconds?: number): Promise<Renewal | undefined>;
  /** Runs one transaction; it is refused with LEASE_LOST if another worker holds the lease. */
  withLease<Result>(lease: RunLease, work: (tx: Transaction) => Promise<Result>): Promise<Result>;
  /** As `withLease`, and passes the run, read under the lock. */
  withLeasedRun(lease: RunLease, work: (tx: Transaction, run: RunRecord) => Promise<void>): Promise<void>;
  /**
   * Records progress and the metrics of one or several steps, as one event. A report with a number is accepted once.
   * @throws DomainError REPORT_OUT_OF_ORDER if the report before it has not arrived.
   */
  report(lease: RunLease, report: ProgressReport & { readonly sequence?: number }): Promise<void>;
  /** Replaces the config with values that only the worker can decide; every later attempt uses it. */
  freezeConfig(lease: RunLease, config: object): Promise<void>;
  /** Records engine, device, versions and code revision of this attempt. */
  setEnvironment(lease: RunLease, environment: object): Promise<void>;
  /** Stores the report of an import before the run ends, also if the import is then refused. */
  setImportReport(lease: RunLease, report: ImportReportRecord): Promise<void>;
  /**
   * Registers a block of an import and its bytes, so that the next attempt continues behind it. Blocks are dropped when
   * the run ends.
   */
  keepImportBlock(lease: RunLease, block: NewImportBlock): Promise<void>;
  /** The blocks that earlier attempts of a run have kept, in the order of their positions. */
  importBlocks(runId: string): Promise<ImportBlockRecord[]>;
  /**
   * Stores the training state that the run needs to continue from this step. The artifact must be recorded already, in
   * the same or an earlier transaction.
   */
  keepTrainingState(tx: Transaction, lease: RunLease, state: TrainingStateRecord): Promise<void>;
  /** The leases among these that still hold their runs or parts; an expired one counts until another is given. */
  held(leases: readonly HeldLease[]): Promise<HeldLease[]>;
  latestTrainingState(runId: string): Promise<TrainingStateRecord | undefined>;
  /** The kept state that the run's own probe found best. */
  bestTrainingState(runId: string): Promise<TrainingStateRecord | undefined>;
  /**
   * Sets the run to SUCCEEDED in the transaction that registers its outcome. Throws CancelRequestedError, which rolls
   * the transaction back, for a run that is CANCELING.
   */
  succeed(tx: Transaction, lease: RunLease, message: string): Promise<void>;
  /**
   * Called after a failed attempt. A run that may succeed on another attempt is requeued (after out-of-memory with a
   * smaller micro-batch, after PRECISION_UNSUPPORTED without this worker), unless MAX_FRUITLESS_ATTEMPTS attempts
   * failed through their own fault and kept no state; any other run becomes FAILED. A run that was being cancelled is
   * CANCELED instead.
   */
  fail(lease: RunLease, failure: RunFailureRecord): Promise<void>;
  /** Sets the run to CANCELED after the worker has freed its resources. */
  cancelNow(lease: RunLease): Promise<void>;
  /** Requeues the run of a worker that stops cleanly; a run that was being cancelled becomes CANCELED instead. */
  release(lease: RunLease, message: string): Promise<void>;
  /**
   * Requeues (or ends) the runs of workers whose leases have expired, but not of those whose calls still arrive here,
   * or may arrive at another server.
   * @param server that looks; without it nobody else is known to.
   * @returns how many.
   */
  requeueExpired(server?: LookingServer): Promise<number>;
  /** The server is there, and workers may be speaking to it. */
  signOn(serverId: string): Promise<void>;
  /** The server hears nobody any more. */
  signOff(serverId: string): Promise<void>;
  /**
   * Requeues every active run of a restored database: the workers that hold them work for the original one. @returns
   * how many.
   */
  requeueAll(message: string): Promise<number>;
}

/** A server that looks for expired leases every two seconds. */
export interface LookingServer {
  readonly serverId: string;
  readonly heard: Pick<HeardWorkers, 'within'>;
}

export interface Renewal {
  readonly status: RunStatus;
  /** Running time over all attempts since the launch or the last resume. */
  readonly busySeconds: number;
}

export interface RunLedgerParts {
  readonly runs: RunStore;
  readonly queue: RunQueueStore;
  readonly servers: ServerStore;
  readonly telemetry: RunTelemetryStore;
  readonly trainingStates: TrainingStateStore;
  readonly importReports: ImportReportStore;
  readonly importBlocks: ImportBlockStore;
  readonly runParts: Pick<RunPartStore, 'heldLeases'>;
  readonly transact: Transact;
}

export function createRunLedger(parts: RunLedgerParts): RunLedger {
  const { runs, queue, servers, telemetry, trainingStates, importReports, importBlocks, runParts, transact } = parts;
  /** For a worker that is back after a time in which it could not be heard. */
  const retake = async (tx: Transaction, lease: RunLease): Promise<boolean> => {
    if (!(await queue.retakeLease(tx, lease, LEASE_SECONDS)) || !(await queue.lockLeased(tx, lease))) return false;
    await telemetry.appendEvent(tx, lease.runId, {
      kind: 'PROGRESS',
      status: 'RUNNING',
      message: 'The worker is heard again, and its attempt goes on.',
    });
    return true;
  };
  const withLease: RunLedger['withLease'] = (lease, work) =>
    transact(async (tx) => {
      if (!(await queue.lockLeased(tx, lease)) && !(await retake(tx, lease))) throw leaseLost();
      return work(tx);
    });

  /** When the database last failed to answer in time, on a monotonic clock. */
  let databaseFailedAtMs = Number.NEGATIVE_INFINITY;
  const end = async (
    tx: Transaction,
    runId: string,
    status: 'SUCCEEDED' | 'FAILED' | 'CANCELED',
    failure: RunFailureRecord | null,
    message: string,
  ): Promise<void> => {
    await queue.dropToken(tx, runId);
    // The event is written first, because changing the status ends the lease.
    await telemetry.appendEvent(tx, runId, {
      kind: status,
      status,
      message,
      ...(status === 'SUCCEEDED' ? { progress: 1 } : {}),
    });
    await runs.setStatus(tx, runId, status, failure);
  };

  /** After the worker's own word it has no right to the run any more; one that is only silent may take it up again. */
  const requeueOrFailByWorker = async (tx: Transaction, run: RunRecord, failure: RunFailureRecord): Promise<void> => {
    await queue.dropToken(tx, run.id);
    await requeueOrFail(tx, run, failure);
  };

  const requeueOrFail = async (tx: Transaction, run: RunRecord, failure: RunFailureRecord): Promise<void> => {
    if (run.status === 'CANCELING') {
      await end(tx, run.id, 'CANCELED', null, `Cancelled; it was about to fail: ${failure.message}`);
      return;
    }
    const microBatchSize = failure.class === 'OUT_OF_MEMORY' ? smallerMicroBatch(run) : undefined;
    if (microBatchSize !== undefined) {
      await runs.setMicroBatchSize(tx, run.id, microBatchSize);
      await requeue(
        tx,
        run.id,
        `${failure.message} The run continues with ${microBatchSize} images at a time, in batches as large as before.`,
      );
    } else if (failure.code === 'PRECISION_UNSUPPORTED' && (await hasAttemptsLeft(tx, run.id))) {
      // Found by the engine, whatever the worker said of itself: another one may be able to.
      await runs.excludeWithoutBfloat16(tx, run.id);
      await requeue(tx, run.id, `${failure.message} The run waits for a worker that can.`);
    } else if (isRetryable(failure) && (await mayRetry(tx, run.id, failure))) {
      await requeue(tx, run.id, `${failure.message} The run continues from its last kept state.`);
    } else {
      await end(tx, run.id, 'FAILED', failure, failure.message);
    }
  };

  const mayRetry = async (tx: Transaction, runId: string, failure: RunFailureRecord): Promise<boolean> => {
    if (isOwnFault(failure) && (await queue.addFruitlessAttempt(tx, runId)) >= MAX_FRUITLESS_ATTEMPTS) return false;
    return hasAttemptsLeft(tx, runId);
  };

  const hasAttemptsLeft = async (tx: Transaction, runId: string): Promise<boolean> =>
    (await queue.countAttemptsWithoutProgress(tx, runId)) < MAX_ATTEMPTS_WITHOUT_PROGRESS;

  const requeue = async (tx: Transaction, runId: string, message: string): Promise<void> => {
    await telemetry.appendEvent(tx, runId, { kind: 'REQUEUED', status: 'QUEUED', message });
    await runs.setStatus(tx, runId, 'QUEUED', null);
  };

  const withLeasedRun: RunLedger['withLeasedRun'] = (lease, work) =>
    withLease(lease, async (tx) => {
      const run = await runs.find(lease.runId, tx);
      if (run !== undefined) await work(tx, run);
    });

  const requeueOrCancel = async (tx: Transaction, run: RunRecord, message: string): Promise<void> => {
    await queue.dropToken(tx, run.id);
    if (run.status === 'CANCELING') {
      await end(tx, run.id, 'CANCELED', null, 'Cancelled.');
      return;
    }
    await requeue(tx, run.id, message);
  };

  return {
    withLease,
    withLeasedRun,
    claim: (
      kinds,
      workerName,
      deviceId = null,
      { runId = null, tokenDigest = null, capabilities = NO_CAPABILITIES } = {},
    ) =>
      transact(async (tx) => {
        const worker = { name: workerName, deviceId, tokenDigest, capabilities };
        const claimed = await queue.claimNext(tx, { kinds, runId }, worker, LEASE_SECONDS);
        if (claimed !== undefined)
          await telemetry.appendEvent(tx, claimed.run.id, {
            kind: 'STARTED',
            status: 'RUNNING',
            message: `Attempt ${claimed.run.attempt} on ${workerName}.`,
          });
        return claimed;
      }),
    find: (runId) => runs.find(runId),
    tokenOf: (runId) => queue.tokenOf(runId),
    renew: async (lease, busySeconds = 0) => {
      const renewed = (): Promise<Renewal | undefined> => queue.renewLease(lease, LEASES, busySeconds);
      return (await renewed()) ?? ((await transact((tx) => retake(tx, lease))) ? renewed() : undefined);
    },
    report: (lease, { sequence, ...report }) =>
      withLease(lease, async (tx) => {
        if (sequence !== undefined) {
          const last = await queue.countReport(tx, lease.runId, sequence);
          if (sequence <= last) return;
          if (sequence > last + 1)
            throw new DomainError({
              code: 'REPORT_OUT_OF_ORDER',
              message: `Report ${sequence} came before report ${last + 1}.`,
              field: 'input.sequence',
              hint: 'Send the reports of an attempt one after another, numbered from 1.',
            });
        }
        await runs.setProgress(tx, lease.runId, report.progress);
        await telemetry.addMetrics(tx, lease.runId, report.points ?? []);
        await telemetry.appendEvent(tx, lease.runId, eventOf(report));
      }),
    freezeConfig: (lease, config) => withLease(lease, (tx) => runs.setConfig(tx, lease.runId, config)),
    setEnvironment: (lease, environment) => withLease(lease, (tx) => runs.setEnvironment(tx, lease.runId, environment)),
    setImportReport: (lease, report) => withLease(lease, (tx) => importReports.setReport(tx, lease.runId, report)),
    keepImportBlock: (lease, block) =>
      withLease(lease, async (tx) => {
        await importBlocks.addBlock(tx, lease.runId, block);
        await telemetry.appendEvent(tx, lease.runId, {
          kind: 'CHECKPOINT',
          message: `Kept everything needed to continue after ${block.imageCount} images.`,
        });
      }),
    importBlocks: (runId) => importBlocks.blocks(runId),
    keepTrainingState: async (tx, lease, state) => {
      await trainingStates.addTrainingState(tx, lease.runId, state);
      await telemetry.appendEvent(tx, lease.runId, {
        kind: 'CHECKPOINT',
        message: `Kept everything needed to continue from step ${state.step}.`,
      });
    },
    held: async (leases) => [
      ...(await queue.heldLeases(leases.filter((lease) => 'epoch' in lease))),
      ...(await runParts.heldLeases(leases.filter((lease) => 'part' in lease))),
    ],
    latestTrainingState: (runId) => trainingStates.latestTrainingState(runId),
    bestTrainingState: (runId) => trainingStates.bestTrainingState(runId),
    succeed: async (tx, lease, message) => {
      const run = await runs.lock(tx, lease.runId);
      if (run?.status === 'CANCELING') throw new CancelRequestedError();
      await end(tx, lease.runId, 'SUCCEEDED', null, message);
    },
    fail: (lease, failure) => withLeasedRun(lease, (tx, run) => requeueOrFailByWorker(tx, run, failure)),
    cancelNow: (lease) => withLease(lease, (tx) => end(tx, lease.runId, 'CANCELED', null, 'Cancelled.')),
    release: (lease, message) => withLeasedRun(lease, (tx, run) => requeueOrCancel(tx, run, message)),
    requeueExpired: async (server) => {
      const startedMs = performance.now();
      // No worker could renew its lease while the database was unreachable: workers get the length of one lease to do
      // so.
      const isTooEarly = startedMs - databaseFailedAtMs < LEASE_SECONDS * 1000;
      if (isTooEarly && server === undefined) return 0;
      try {
        return await transact(async (tx) => {
          if (server !== undefined) {
            const { serverId, heard } = server;
            await servers.announce(tx, serverId);
            await queue.renewHeard(tx, heard.within(LEASE_SECONDS), LEASES, ENDING_WITHIN_SECONDS);
            if (await servers.mayAnotherHear(tx, serverId)) return 0;
          }
          if (isTooEarly) return 0;
          const expired = await queue.lockExpired(tx, LEASE_SECONDS);
          // The database hung during this check, and workers could not renew their leases meanwhile either.
          if (performance.now() - startedMs > SLOW_ANSWER_MS) {
            databaseFailedAtMs = performance.now();
            return 0;
          }
          for (const run of expired) await requeueOrFail(tx, run, SILENT_WORKER);
          return expired.length;
        });
      } catch (error) {
        databaseFailedAtMs = performance.now();
        throw error;
      }
    },
    signOn: (serverId) => transact((tx) => servers.announce(tx, serverId)),
    signOff: (serverId) => transact((tx) => servers.leave(tx, serverId)),
    requeueAll: (message) =>
      transact(async (tx) => {
        await servers.forgetAll(tx);
        const underWay = await queue.lockActive(tx);
        for (const run of underWay) await requeueOrCancel(tx, run, message);
        return underWay.length;
      }),
  };
}

const LEASES: LeaseSeconds = { running: LEASE_SECONDS, canceling: CANCELING_LEASE_SECONDS };

const SILENT_WORKER: RunFailureRecord = {
  class: 'INFRASTRUCTURE',
  code: 'WORKER_SILENT',
  message: 'The worker stopped renewing its lease.',
  hint: 'See the worker log, then call resumeRun.',
};

function eventOf(report: ProgressReport): NewRunEvent {
  const last = report.points?.at(-1);
  return {
    kind: last === undefined ? 'PROGRESS' : 'METRICS',
    status: 'RUNNING',
    progress: report.progress,
    ...(report.message === undefined ? {} : { message: report.message }),
    ...(last === undefined ? {} : { metrics: { step: last.step, ...last.metrics } }),
  };
}
