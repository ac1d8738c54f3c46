/** Hands waiting runs to workers, and recognises the tokens of claimed runs. */
import { randomBytes } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';
import { DomainError } from '../../errors.ts';
import { createTurns } from '../../in-turn.ts';
import { parseInput } from '../../input.ts';
import type { Queue } from '../../platform/queue.ts';
import { RUN_JOBS } from '../../jobs/index.ts';
import type { HeldLease } from '../../protocol/runs.ts';
import {
  claimSchema,
  heldSchema,
  PROTOCOL_VERSION,
  runQuestionSchema,
  type Claim,
  type ClaimedPart,
  type ClaimedRun,
  type RunQuestionAnswer,
} from '../../protocol/worker-calls.ts';
import type { HeardWorkers, PartLedger, RunLedger, RunRecord } from '../runs/index.ts';
import type { WorkerStore } from './workers.store.ts';
import {
  badToken,
  checkPartToken,
  checkToken,
  digestOfSecret,
  readToken,
  TOKEN_SECRET_BYTES,
  writeToken,
} from './tokens.rules.ts';

export interface ClaimService {
  /**
   * The next run for a place of a worker, or a part of a run if it takes these and no run waits; null if none has come
   * when `waitSeconds` are over.
   * @param gone aborted when the worker no longer waits for the answer.
   * @throws DomainError BAD_INPUT, and WORKER_INCOMPATIBLE for a worker of another version of the protocol.
   */
  claim(input: unknown, gone: AbortSignal): Promise<ClaimedRun | ClaimedPart | null>;
  /** What a one-shot worker asks about its run; null if the run does not exist. */
  run(input: unknown): Promise<RunQuestionAnswer | null>;
  /** Those of the leases that still hold their runs or parts. */
  held(input: unknown): Promise<readonly HeldLease[]>;
  /** Throws UNAUTHENTICATED for anything that is not a valid token, LEASE_LOST for the token of an earlier lease. */
  leaseOfToken(token: string): Promise<HeldLease>;
  /** Answers every waiting claim with null. */
  close(): void;
}

const greetingSchema = claimSchema.pick({ protocolVersion: true, programVersion: true, workerName: true }).loose();

/** A message may reach another server of the registry, and a run that was requeued sends none. */
const LOOK_EVERY_MS = 5_000;

export interface ClaimServiceParts {
  readonly ledger: Pick<RunLedger, 'find' | 'held' | 'tokenOf'>;
  readonly partLedger: Pick<PartLedger, 'tokenOf'>;
  readonly claims: Pick<RunLedger, 'claim' | 'release'>;
  readonly partClaims: Pick<PartLedger, 'claim' | 'giveBack'>;
  readonly heard: HeardWorkers;
  readonly workers: WorkerStore;
  /** The message of a new run wakes the claims that wait. */
  readonly queue: Pick<Queue, 'listen'>;
  readonly programVersion: string;
}

export async function createClaimService({
  ledger,
  partLedger,
  claims,
  partClaims,
  heard,
  workers,
  queue,
  programVersion,
}: ClaimServiceParts): Promise<ClaimService> {
  let closed = false;
  /** Ends the pause of each waiting claim, in the order in which they came. */
  const waiting = new Set<() => void>();
  const wakeAll = (): void => {
    for (const wake of waiting) wake();
  };
  for (const job of Object.values(RUN_JOBS)) await queue.listen(job, async () => wakeAll());

  /** Claims are tried one after another: many waiting workers must not all ask the database for one new run at once. */
  const inTurn = createTurns();

  const claimNow = async (claim: Claim): Promise<ClaimedRun | ClaimedPart | null> => {
    const { kinds, workerName, deviceId, runId, capabilities, takesParts = false } = claim;
    const secret = randomBytes(TOKEN_SECRET_BYTES).toString('base64url');
    const tokenDigest = digestOfSecret(secret);
    const claimed = await claims.claim(kinds, workerName, deviceId, { runId, tokenDigest, capabilities });
    if (claimed !== undefined)
      return { run: shownRun(claimed.run), lease: claimed.lease, token: writeToken(claimed.lease, secret) };
    if (!takesParts || runId !== null || !kinds.includes('IMPORT')) return null;
    const part = await partClaims.claim({ name: workerName, tokenDigest, capabilities });
    if (part === undefined) return null;
    return { run: shownRun(part.run), lease: part.lease, plan: part.plan, token: writeToken(part.lease, secret) };
  };

  /** Until a new run is announced, the time is over, or the worker is gone. */
  const wakened = async (ms: number, gone: AbortSignal): Promise<void> => {
    const woken = new AbortController();
    const wake = (): void => woken.abort();
    waiting.add(wake);
    try {
      await pause(ms, undefined, { signal: AbortSignal.any([woken.signal, gone]) });
    } catch (error) {
      if (!woken.signal.aborted && !gone.aborted) throw error;
    } finally {
      waiting.delete(wake);
    }
  };

  /** Checked before the rest, which another version may send in another form. */
  const requireCompatible = (input: unknown): void => {
    const { data } = greetingSchema.safeParse(input);
    if (data === undefined || data.protocolVersion === PROTOCOL_VERSION) return;
    throw new DomainError({
      code: 'WORKER_INCOMPATIBLE',
      message: `The worker "${data.workerName}" (Paraffin ${data.programVersion}) speaks version ${data.protocolVersion} of the worker protocol, and this registry (Paraffin ${programVersion}) speaks version ${PROTOCOL_VERSION}.`,
      field: 'input.protocolVersion',
      hint: `Install Paraffin ${programVersion} on the worker.`,
    });
  };

  return {
    claim: async (input, gone) => {
      requireCompatible(input);
      const claim = parseInput(claimSchema, input);
      await workers.see(claim);
      const endMs = performance.now() + claim.waitSeconds * 1000;
      for (;;) {
        if (closed || gone.aborted) return null;
        const claimed = await inTurn(async () => (gone.aborted ? null : claimNow(claim)));
        if (claimed !== null && gone.aborted) {
          // Nobody would renew its lease.
          if ('part' in claimed.lease) await partClaims.giveBack(claimed.lease, null);
          else await claims.release(claimed.lease, 'The worker went away before it began.');
          return null;
        }
        const leftMs = endMs - performance.now();
        if (claimed !== null || leftMs <= 0) return claimed;
        await wakened(Math.min(leftMs, LOOK_EVERY_MS), gone);
      }
    },
    run: async (input) => {
      const run = await ledger.find(parseInput(runQuestionSchema, input).runId);
      if (run === undefined) return null;
      const { kind, status, requirements, maxDurationSeconds, excludedWorkers } = run;
      return { kind, status, requirements, maxDurationSeconds, excludedWorkers };
    },
    held: (input) => ledger.held(parseInput(heldSchema, input).leases),
    leaseOfToken: async (text) => {
      const token = readToken(text);
      if (token === undefined) throw badToken('This is not the token of a run.');
      const { lease, secret } = token;
      if ('part' in lease) {
        checkPartToken(lease.partEpoch, secret, await partLedger.tokenOf(lease));
        return lease;
      }
      const heardToken = { lease, digest: digestOfSecret(secret) };
      heard.arrived(heardToken);
      checkToken(lease.epoch, secret, await ledger.tokenOf(lease.runId));
      heard.accepted(heardToken);
      return lease;
    },
    close: () => {
      closed = true;
      wakeAll();
    },
  };
}

/** What a worker is told of its run. */
function shownRun(run: RunRecord): ClaimedRun['run'] {
  const { id, kind, config, attempt, microBatchSize, maxDurationSeconds, busySeconds } = run;
  return { id, kind, config, attempt, microBatchSize, maxDurationSeconds, busySeconds };
}
