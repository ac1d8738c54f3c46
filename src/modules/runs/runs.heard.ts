/**
 * Whose calls have arrived of late. A lease says when a call of the worker last got through to the database: while the
 * database fails over, and until its dead connections are replaced, the lease of a worker that renews every second
 * lapses like that of a dead one. This process still hears the living one, and renews its lease as soon as it reaches
 * the database itself, so that every server of the registry sees it.
 */
import type { RunLease } from '../../protocol/runs.ts';

export interface HeardWorkers {
  /** A call has arrived, and may wait long until its token is checked. */
  arrived(token: HeardToken): void;
  /** The database knows the token: from now on its calls count as soon as they arrive. */
  accepted(token: HeardToken): void;
  /** The workers of which calls have arrived in so many seconds. */
  within(seconds: number): HeardWorker[];
}

export interface HeardToken {
  readonly lease: RunLease;
  /** sha256, hex. */
  readonly digest: string;
}

export interface HeardWorker {
  readonly runId: string;
  /** Of the token with which it calls: another worker may have the run by now. */
  readonly tokenDigest: string;
  readonly secondsAgo: number;
}

/** Longer than a database is away for; afterwards a token must be accepted again. */
const FORGOTTEN_AFTER_MS = 3_600_000;

/** @param now milliseconds of a monotonic clock. */
export function createHeardWorkers(now: () => number = () => performance.now()): HeardWorkers {
  const lastHeard = new Map<string, { readonly digest: string; readonly atMs: number }>();
  return {
    // A token that nobody has accepted may be made up.
    arrived: ({ lease: { runId }, digest }) => {
      if (lastHeard.get(runId)?.digest === digest) lastHeard.set(runId, { digest, atMs: now() });
    },
    accepted: ({ lease: { runId }, digest }) => {
      const nowMs = now();
      for (const [id, { atMs }] of lastHeard) if (nowMs - atMs > FORGOTTEN_AFTER_MS) lastHeard.delete(id);
      lastHeard.set(runId, { digest, atMs: nowMs });
    },
    within: (seconds) =>
      [...lastHeard].flatMap(([runId, { digest, atMs }]) => {
        const secondsAgo = (now() - atMs) / 1000;
        return secondsAgo < seconds ? [{ runId, tokenDigest: digest, secondsAgo }] : [];
      }),
  };
}
