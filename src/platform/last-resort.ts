/** What no part of the program has caught: it is logged, and the process continues serving, or ends cleanly. */
import type { Logger } from '../logger.ts';

/** EX_SOFTWARE of sysexits.h: a fault of the program, not of how it was started. */
const EXIT_CRASHED = 70;
/** What a peer does to a connection; nothing of ours is in doubt after it. */
const PEER_FAULTS: ReadonlySet<unknown> = new Set(['ECONNRESET', 'ECONNABORTED', 'EPIPE', 'ETIMEDOUT']);
/** Of a clean end: longer than the worker and the database are given. */
const STOP_MS = 60_000;

/**
 * Takes the process's uncaught exceptions and unhandled rejections from here on. A connection that its peer broke off
 * is logged and nothing else; after any other failure nobody knows what state the program is in, so `stop` is called
 * and the process ends with exit code 70, for its supervisor (scripts/supervise.mjs) to start it again.
 */
export function catchTheUncaught(logger: Logger, stop: () => Promise<void>): void {
  let ending = false;
  process.on('uncaughtException', (error: unknown, origin) => {
    if (isPeerFault(error)) {
      logger.error({ err: error, origin }, 'a connection broke off and nobody listened');
      return;
    }
    logger.fatal({ err: error, origin }, 'an unexpected failure ends the server cleanly');
    if (ending) return;
    ending = true;
    setTimeout(() => process.exit(EXIT_CRASHED), STOP_MS);
    stop().then(
      () => process.exit(EXIT_CRASHED),
      () => process.exit(EXIT_CRASHED),
    );
  });
}

function isPeerFault(error: unknown): boolean {
  return error instanceof Error && 'syscall' in error && 'code' in error && PEER_FAULTS.has(error.code);
}
