/**
 * The server itself looks for expired leases, so that the runs of dead workers, above all cancelled ones, do not wait
 * until another worker notices.
 */
import type { RunLedger } from './runs.ledger.ts';

export interface Reaper {
  /** Resolves when the last check is over. */
  stop(): Promise<void>;
}

/** Together with the lease, a dead worker is detected within 22 s, and within 7 s while a cancellation waits. */
const POLL_EVERY_MS = 2_000;

export interface ReaperParts {
  readonly ledger: Pick<RunLedger, 'requeueExpired'>;
  readonly onReaped: (count: number) => void;
  /** The database did not answer; the next check follows as usual. */
  readonly onError: (error: unknown) => void;
}

export function startReaper({ ledger, onReaped, onError }: ReaperParts): Reaper {
  let checking: Promise<void> | undefined;
  const checkLeases = async (): Promise<void> => {
    try {
      const count = await ledger.requeueExpired();
      if (count > 0) onReaped(count);
    } catch (error) {
      onError(error);
    }
  };
  const timer = setInterval(() => {
    checking ??= checkLeases().finally(() => {
      checking = undefined;
    });
  }, POLL_EVERY_MS);
  return {
    stop: async () => {
      clearInterval(timer);
      await checking;
    },
  };
}
