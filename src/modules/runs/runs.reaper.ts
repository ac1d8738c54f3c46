/**
 * The server's own eye on silent workers: a run must not wait for another worker to be noticed, least of all one that
 * is being cancelled.
 */
import type { RunLedger } from './runs.ledger.ts';

export interface Reaper {
  /** Resolves when the last look is over. */
  stop(): Promise<void>;
}

/** With the lease itself: 22 s at most until a dead worker is noticed, 7 s while a cancel waits. */
const LOOK_EVERY_MS = 2_000;

export interface ReaperParts {
  readonly ledger: Pick<RunLedger, 'reapLapsed'>;
  readonly onReaped: (count: number) => void;
  /** The database did not answer; the next look comes all the same. */
  readonly onError: (error: unknown) => void;
}

export function startReaper({ ledger, onReaped, onError }: ReaperParts): Reaper {
  let looking: Promise<void> | undefined;
  const look = async (): Promise<void> => {
    try {
      const count = await ledger.reapLapsed();
      if (count > 0) onReaped(count);
    } catch (error) {
      onError(error);
    }
  };
  const timer = setInterval(() => {
    looking ??= look().finally(() => {
      looking = undefined;
    });
  }, LOOK_EVERY_MS);
  return {
    stop: async () => {
      clearInterval(timer);
      await looking;
    },
  };
}
