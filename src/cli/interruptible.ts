/** Work of the command line that Ctrl-C and similar signals end cleanly: unfinished files are removed. */
import { CommandFailure, EXIT } from './exit-codes.ts';

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
/** npm and the launcher may forward the same Ctrl-C a second time. */
const SAME_SIGNAL_MS = 1_000;

/**
 * @param work must clean up and end soon after the signal is aborted. A second signal, at least a second later, ends
 * the program at once.
 * @throws CommandFailure INTERRUPTED for interrupted work, and the errors of `work`.
 */
export async function interruptible<Result>(work: (signal: AbortSignal) => Promise<Result>): Promise<Result> {
  const controller = new AbortController();
  let firstMs: number | undefined;
  const interrupt = (): void => {
    if (firstMs === undefined) {
      firstMs = performance.now();
      controller.abort();
    } else if (performance.now() - firstMs > SAME_SIGNAL_MS) {
      process.exit(EXIT.INTERRUPTED);
    }
  };
  for (const signal of SIGNALS) process.on(signal, interrupt);
  try {
    return await work(controller.signal);
  } catch (error) {
    if (!controller.signal.aborted) throw error;
    throw new CommandFailure({ exitCode: EXIT.INTERRUPTED, message: 'Interrupted; all temporary files were removed.' });
  } finally {
    for (const signal of SIGNALS) process.off(signal, interrupt);
  }
}
