/** A database that restarts or fails over is waited for by the work, which loses nothing meanwhile. */
import { setTimeout as wait } from 'node:timers/promises';
import { isDatabaseFault } from '../src/platform/database-fault.ts';

/** Longer than a failover takes; after that the run goes back to the queue. */
const PATIENCE_MS = 180_000;
const TRY_EVERY_MS = 1_000;

/**
 * Does `work` again for as long as the database does not answer. It may have been done before the answer was lost, so
 * that doing it twice must come to the same. @param onWait called before each new attempt.
 * @throws what `work` throws: at once where it is not the database's fault.
 */
export async function untilDatabaseAnswers<Result>(work: () => Promise<Result>, onWait: () => void): Promise<Result> {
  const endMs = performance.now() + PATIENCE_MS;
  for (;;) {
    try {
      return await work();
    } catch (error) {
      if (!isDatabaseFault(error) || performance.now() > endMs) throw error;
      onWait();
      await wait(TRY_EVERY_MS);
    }
  }
}
