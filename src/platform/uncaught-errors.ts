/** Handles uncaught errors: logs them, and then either continues serving or ends the process cleanly. */
import type { Logger } from '../logger.ts';

/** EX_SOFTWARE of sysexits.h: a fault of the program, not of how it was started. */
const EXIT_CRASHED = 70;
/** Error codes of connections that the peer broke; the state of the program is not affected. */
const PEER_FAULTS: ReadonlySet<unknown> = new Set(['ECONNRESET', 'ECONNABORTED', 'EPIPE', 'ETIMEDOUT']);
/** Time limit of a clean stop: longer than the limits of the worker and the database. */
const STOP_MS = 60_000;

/**
 * Handles the process's uncaught exceptions and unhandled rejections from here on. A connection that the peer broke is
 * only logged. After any other failure the state of the program is unknown, so `stop` is called and the process ends
 * with exit code 70; its supervisor (scripts/supervise.mjs) then starts it again.
 */
export function handleUncaughtErrors(logger: Logger, stop: () => Promise<void>): void {
  let ending = false;
  process.on('uncaughtException', (error: unknown, origin) => {
    if (isPeerFault(error)) {
      logger.error({ err: error, origin }, 'a connection broke, and no listener handled the error');
      return;
    }
    logger.fatal({ err: error, origin }, 'the server stops because of an unexpected failure');
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
