/**
 * The server itself looks for expired leases, so that the runs of dead workers, above all cancelled ones, do not wait
 * until another worker notices.
 */
import { LEASE_SECONDS } from '../../protocol/runs.ts';
import type { HeardWorkers } from './runs.heard.ts';
import type { RunLedger } from './runs.ledger.ts';

export interface Reaper {
  /** Resolves when the last check is over. */
  stop(): Promise<void>;
}

/** Together with the lease, a dead worker is detected within 22 s, and within 7 s while a cancellation waits. */
const POLL_EVERY_MS = 2_000;

export interface ReaperParts {
  readonly ledger: Pick<RunLedger, 'requeueExpired' | 'signOn' | 'signOff'>;
  /** Names this server among those of the registry; a server that is started again has the same name. */
  readonly serverId: string;
  readonly heard: HeardWorkers;
  readonly onReaped: (count: number) => void;
  /** The database did not answer; the next check follows as usual. */
  readonly onError: (error: unknown) => void;
}

/**
 * The first check comes after the length of a lease: nobody could renew while no server ran, and a worker that has kept
 * on working must not lose its run to one that happened to ask first. Other servers wait as long, because this one says
 * from its start that it is there.
 */
export function startReaper({ ledger, serverId, heard, onReaped, onError }: ReaperParts): Reaper {
  let checking: Promise<void> | undefined;
  let pollCount = 0;
  const checkLeases = async (): Promise<void> => {
    try {
      if (pollCount * POLL_EVERY_MS < LEASE_SECONDS * 1000) {
        await ledger.signOn(serverId);
        return;
      }
      const count = await ledger.requeueExpired({ serverId, heard });
      if (count > 0) onReaped(count);
    } catch (error) {
      onError(error);
    }
  };
  const check = (): void => {
    checking ??= checkLeases().finally(() => {
      checking = undefined;
    });
  };
  check();
  const timer = setInterval(() => {
    pollCount += 1;
    check();
  }, POLL_EVERY_MS);
  return {
    stop: async () => {
      clearInterval(timer);
      await checking;
      // Otherwise the others would wait for it.
      await ledger.signOff(serverId).catch(onError);
    },
  };
}
