/** Handles Ctrl-C while a command waits for work that it does not own. */
import { EXIT } from '../exit-codes.ts';
import type { StatusLine } from '../terminal.ts';

/**
 * Until this handler is disposed, Ctrl-C ends the program at once and prints the state of the work.
 * @param line the progress line, whose last text stays visible.
 */
export function exitOnInterrupt(words: () => string, line?: StatusLine): Disposable {
  const leave = (): void => {
    line?.end();
    process.stderr.write(`${words()}\n`);
    process.exit(EXIT.INTERRUPTED);
  };
  process.once('SIGINT', leave);
  return { [Symbol.dispose]: () => void process.off('SIGINT', leave) };
}

/** The same for a run, which continues without this command. */
export function detachOnInterrupt(runId: string, line?: StatusLine): Disposable {
  return exitOnInterrupt(
    () =>
      `The run continues. Follow it again: paraffin runs logs -f ${runId}\nCancel it: paraffin runs cancel ${runId}`,
    line,
  );
}
