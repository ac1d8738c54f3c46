/**
 * Parts of a run: planned by the worker that holds the run, under its lease, and done by any worker, each under a lease
 * of its own. A part ends with its run.
 */
import { DomainError } from '../../errors.ts';
import type { Transact } from '../../platform/db.ts';
import type { StoredBytes } from '../../protocol/artifacts.ts';
import type { PartOutcome, PartState, PlannedPart } from '../../protocol/part-calls.ts';
import { LEASE_SECONDS, type PartLease, type RunLease } from '../../protocol/runs.ts';
import type { RunLedger } from './runs.ledger.ts';
import type { RunRecord } from './runs.records.ts';
import type { ClaimingWorker } from './runs.queue.store.ts';
import type { RunPartStore } from './run-parts.store.ts';
import type { RunStore } from './runs.store.ts';

export interface ClaimedRunPart {
  readonly run: RunRecord;
  readonly lease: PartLease;
  readonly plan: StoredBytes;
}

export interface PartLedger {
  /** Replaces the parts of the run: see RUN_CALLS.planParts. */
  plan(lease: RunLease, parts: readonly PlannedPart[]): Promise<void>;
  /** @throws DomainError NOT_FOUND for a part that was not planned. */
  take(lease: RunLease, number: number): Promise<PartState>;
  /** The next part that the worker may do; undefined if there is none. */
  claim(worker: Omit<ClaimingWorker, 'deviceId'>): Promise<ClaimedRunPart | undefined>;
  /** The digest of the token of the worker that has the part, and the part's epoch; undefined if there is no part. */
  tokenOf(lease: PartLease): Promise<{ readonly tokenDigest: string | null; readonly epoch: number } | undefined>;
  /** The following return false when the lease is lost. */
  renew(lease: PartLease): Promise<boolean>;
  settle(lease: PartLease, outcome: PartOutcome): Promise<boolean>;
  /** @param reason why the worker gets no more parts of this run; null: it may. */
  giveBack(lease: PartLease, reason: string | null): Promise<boolean>;
}

export interface PartLedgerParts {
  readonly ledger: Pick<RunLedger, 'withLease'>;
  readonly runs: Pick<RunStore, 'find'>;
  readonly runParts: RunPartStore;
  readonly transact: Transact;
}

export function createPartLedger({ ledger, runs, runParts, transact }: PartLedgerParts): PartLedger {
  return {
    plan: (lease, parts) => ledger.withLease(lease, (tx) => runParts.plan(tx, lease.runId, parts)),
    take: async (lease, number) => {
      const state = await ledger.withLease(lease, (tx) => runParts.takeForLead(tx, lease.runId, number));
      if (state !== undefined) return state;
      throw new DomainError({
        code: 'NOT_FOUND',
        message: `The run has no part ${number}.`,
        field: 'input.number',
        hint: 'Plan the parts of the run with planParts.',
      });
    },
    claim: (worker) =>
      transact(async (tx) => {
        const taken = await runParts.claimNext(tx, { ...worker, deviceId: null }, LEASE_SECONDS);
        const run = taken === undefined ? undefined : await runs.find(taken.lease.runId, tx);
        return taken === undefined || run === undefined ? undefined : { ...taken, run };
      }),
    tokenOf: (lease) => runParts.tokenOf(lease),
    renew: (lease) => runParts.renew(lease, LEASE_SECONDS),
    settle: (lease, outcome) => transact((tx) => runParts.settle(tx, lease, outcome)),
    giveBack: (lease, reason) => transact((tx) => runParts.giveBack(tx, lease, reason)),
  };
}
