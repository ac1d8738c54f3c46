/** Waits while the registry restarts or the network is gone, so that a run keeps what it holds in memory. */
import { setTimeout as wait } from 'node:timers/promises';
import { DomainError, type ErrorCode } from '../../src/errors.ts';

const RETRY_INTERVAL_MS = 1_000;
/** For a registry that answers slowly while its worker stops. */
const STOPPING_PATIENCE_MS = 5_000;

/** Answers of a registry that cannot do its work at the moment. */
const PASSING: ReadonlySet<ErrorCode> = new Set([
  'DATABASE_UNREACHABLE',
  'OVERLOADED',
  'RATE_LIMITED',
  'REGISTRY_UNREACHABLE',
]);

/** True for a registry that did not answer, or said that it cannot at the moment. */
export function isRegistryFault(error: unknown): boolean {
  return error instanceof DomainError && PASSING.has(error.code);
}

export interface Patience {
  /** Called before each retry with the reason for it. */
  readonly onWait?: (reason: unknown) => void;
  /** Default: no limit, because only the registry can say that the run is lost. */
  readonly limitMs?: number;
  /** Aborted when the worker stops: from then on the limit is five seconds, because a person waits for it. */
  readonly stopping?: AbortSignal;
}

/**
 * Repeats `work` while the registry does not answer. `work` must be idempotent, because a request whose answer was lost
 * may have been carried out.
 * @throws what `work` throws: at once if the registry answered, otherwise after the limit.
 */
export async function untilRegistryAnswers<Result>(
  work: () => Promise<Result>,
  { onWait, limitMs = Infinity, stopping }: Patience = {},
): Promise<Result> {
  let endMs = performance.now() + limitMs;
  for (;;) {
    try {
      return await work();
    } catch (error) {
      if (stopping?.aborted === true) endMs = Math.min(endMs, performance.now() + STOPPING_PATIENCE_MS);
      if (!isRegistryFault(error) || performance.now() > endMs) throw error;
      await beforeRetry(error, onWait);
    }
  }
}

/** The pause before each retry. */
export async function beforeRetry(reason: unknown, onWait: Patience['onWait']): Promise<void> {
  onWait?.(reason);
  await wait(RETRY_INTERVAL_MS);
}
