/** Retries work while the database restarts or fails over, so that a run keeps what it holds in memory. */
import { setTimeout as wait } from 'node:timers/promises';
import { isDatabaseFault } from '../src/platform/database-fault.ts';

/** Longer than a failover takes; afterwards the run is requeued. */
const RETRY_FOR_MS = 180_000;
const RETRY_INTERVAL_MS = 1_000;

/**
 * Retries `work` while the database does not answer. `work` must be idempotent, because an attempt whose answer was
 * lost may have been committed.
 * @param onWait called before each retry.
 * @throws what `work` throws: at once if the database is not the cause, otherwise after three minutes.
 */
export async function untilDatabaseAnswers<Result>(work: () => Promise<Result>, onWait: () => void): Promise<Result> {
  const endMs = performance.now() + RETRY_FOR_MS;
  for (;;) {
    try {
      return await work();
    } catch (error) {
      if (!isDatabaseFault(error) || performance.now() > endMs) throw error;
      onWait();
      await wait(RETRY_INTERVAL_MS);
    }
  }
}
