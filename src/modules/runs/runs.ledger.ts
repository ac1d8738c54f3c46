/**
 * What workers do with runs. Every write carries a lease and is refused once another worker holds a newer one, so a
 * worker that was thought dead and wakes up again can harm nothing. No viewer here: workers are part of the program.
 */
import { DomainError } from '../../errors.ts';
import type { Transact, Transaction } from '../../platform/db.ts';
import type { RunKind, RunStatus } from '../../generated/prisma/enums.ts';
import type { RunFailureRecord, RunLease, RunRecord, TrainingStateRecord } from './runs.records.ts';
import type { NewRunEvent, RunStore } from './runs.store.ts';

/** A worker that has not renewed for this long is taken for dead. */
export const LEASE_SECONDS = 30;

/**
 * After this many attempts in a row that died and kept nothing, a run is failed rather than queued again. One that
 * keeps a training state now and then may die more often: it gets on all the same.
 */
export const MAX_FRUITLESS_ATTEMPTS = 3;

/** Somebody asked for an end while the work was being finished: then the run is CANCELED, and nothing is registered. */
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

export interface RunLedger {
  /** Takes the oldest waiting run of these kinds, or gives undefined. */
  claim(kinds: readonly RunKind[], workerName: string): Promise<ClaimedRun | undefined>;
  /** Prolongs the lease by LEASE_SECONDS; gives the status (CANCELING asks the worker to end), undefined when it is lost. */
  renew(lease: RunLease): Promise<RunStatus | undefined>;
  /** One transaction that is refused with LEASE_LOST when the lease is no longer ours. */
  withLease<Result>(lease: RunLease, work: (tx: Transaction) => Promise<Result>): Promise<Result>;
  /** Records progress and the metrics of one or several steps, as one event. */
  report(lease: RunLease, report: ProgressReport): Promise<void>;
  /** Engine, device, versions and code revision that carry this attempt. */
  setEnvironment(lease: RunLease, environment: object): Promise<void>;
  /** Keeps what the run needs to go on from this step. The artifact must be recorded already, in the same or an earlier transaction. */
  keepTrainingState(tx: Transaction, lease: RunLease, state: TrainingStateRecord): Promise<void>;
  latestTrainingState(runId: string): Promise<TrainingStateRecord | undefined>;
  /** SUCCEEDED, in the transaction that registers what came out. Throws CancelRequestedError, which undoes it, for a run that is CANCELING. */
  succeed(tx: Transaction, lease: RunLease, message: string): Promise<void>;
  /** FAILED; a run that was being cancelled is CANCELED instead. */
  fail(lease: RunLease, failure: RunFailureRecord): Promise<void>;
  /** CANCELED, after the worker has let go of everything. */
  cancelNow(lease: RunLease): Promise<void>;
  /** Back into the queue, for a worker that stops in good order; a run that was being cancelled is CANCELED instead. */
  release(lease: RunLease, message: string): Promise<void>;
  /** For a process that ended without a word: back into the queue, or FAILED with this failure after MAX_FRUITLESS_ATTEMPTS. */
  retryOrFail(lease: RunLease, failure: RunFailureRecord): Promise<void>;
  /** Queues again (or ends) the runs of workers that have gone silent; gives how many. */
  reapLapsed(): Promise<number>;
}

export interface ProgressReport {
  /** 0..1 */
  readonly progress: number;
  readonly message?: string;
  /** Values of one or several steps; the event shows the last. */
  readonly points?: readonly MetricPoints[];
}

/** The metrics of one step, by name. */
export interface MetricPoints {
  readonly step: number;
  readonly metrics: Readonly<Record<string, number>>;
}

export function createRunLedger(store: RunStore, transact: Transact): RunLedger {
  const withLease: RunLedger['withLease'] = (lease, work) =>
    transact(async (tx) => {
      if (!(await store.lockLeased(tx, lease))) {
        throw new DomainError({ code: 'LEASE_LOST', message: 'This run is no longer held by this worker.', hint: 'Another worker took it over, or it has ended.' });
      }
      return work(tx);
    });

  const end = async (tx: Transaction, runId: string, status: 'SUCCEEDED' | 'FAILED' | 'CANCELED', failure: RunFailureRecord | null, message: string): Promise<void> => {
    await store.setStatus(tx, runId, status, failure);
    await store.appendEvent(tx, runId, { kind: status, status, message, ...(status === 'SUCCEEDED' ? { progress: 1 } : {}) });
  };

  const failOrCancel = async (tx: Transaction, run: RunRecord, failure: RunFailureRecord): Promise<void> => {
    if (run.status === 'CANCELING') await end(tx, run.id, 'CANCELED', null, `Cancelled; it was about to fail: ${failure.message}`);
    else await end(tx, run.id, 'FAILED', failure, failure.message);
  };

  const retry = async (tx: Transaction, run: RunRecord, failure: RunFailureRecord): Promise<void> => {
    if (run.status === 'RUNNING' && (await store.countFruitlessAttempts(tx, run.id)) >= MAX_FRUITLESS_ATTEMPTS) await end(tx, run.id, 'FAILED', failure, failure.message);
    else await requeueOrCancel(tx, run, `${failure.message} The run goes on from what it last kept.`);
  };

  /** As `withLease`, with the run as it is under the lock. */
  const withLeasedRun = (lease: RunLease, work: (tx: Transaction, run: RunRecord) => Promise<void>): Promise<void> =>
    withLease(lease, async (tx) => {
      const run = await store.find(lease.runId, tx);
      if (run !== undefined) await work(tx, run);
    });

  const requeueOrCancel = async (tx: Transaction, run: RunRecord, message: string): Promise<void> => {
    if (run.status === 'CANCELING') {
      await end(tx, run.id, 'CANCELED', null, 'Cancelled.');
      return;
    }
    await store.setStatus(tx, run.id, 'QUEUED', null);
    await store.appendEvent(tx, run.id, { kind: 'REQUEUED', status: 'QUEUED', message });
  };

  return {
    withLease,
    claim: (kinds, workerName) =>
      transact(async (tx) => {
        const claimed = await store.claimNext(tx, kinds, workerName, LEASE_SECONDS);
        if (claimed !== undefined) await store.appendEvent(tx, claimed.run.id, { kind: 'STARTED', status: 'RUNNING', message: `Attempt ${claimed.run.attempt} on ${workerName}.` });
        return claimed;
      }),
    renew: (lease) => store.renewLease(lease, LEASE_SECONDS),
    report: (lease, report) =>
      withLease(lease, async (tx) => {
        await store.setProgress(tx, lease.runId, report.progress);
        await store.addMetrics(tx, lease.runId, report.points ?? []);
        await store.appendEvent(tx, lease.runId, eventOf(report));
      }),
    setEnvironment: (lease, environment) => withLease(lease, (tx) => store.setEnvironment(tx, lease.runId, environment)),
    keepTrainingState: async (tx, lease, state) => {
      await store.addTrainingState(tx, lease.runId, state);
      await store.appendEvent(tx, lease.runId, { kind: 'CHECKPOINT', message: `Kept everything needed to go on from step ${state.step}.` });
    },
    latestTrainingState: (runId) => store.latestTrainingState(runId),
    succeed: async (tx, lease, message) => {
      const run = await store.lock(tx, lease.runId);
      if (run?.status === 'CANCELING') throw new CancelRequestedError();
      await end(tx, lease.runId, 'SUCCEEDED', null, message);
    },
    fail: (lease, failure) => withLeasedRun(lease, (tx, run) => failOrCancel(tx, run, failure)),
    cancelNow: (lease) => withLease(lease, (tx) => end(tx, lease.runId, 'CANCELED', null, 'Cancelled.')),
    release: (lease, message) => withLeasedRun(lease, (tx, run) => requeueOrCancel(tx, run, message)),
    retryOrFail: (lease, failure) => withLeasedRun(lease, (tx, run) => retry(tx, run, failure)),
    reapLapsed: () =>
      transact(async (tx) => {
        const lapsed = await store.lockLapsed(tx);
        for (const run of lapsed) await retry(tx, run, SILENT_WORKER);
        return lapsed.length;
      }),
  };
}

const SILENT_WORKER: RunFailureRecord = {
  class: 'INFRASTRUCTURE', code: 'CHILD_DIED', message: 'The worker went silent.', hint: 'Look into the worker log, then call resumeRun.',
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
