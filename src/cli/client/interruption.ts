/** Ctrl-C while a command waits for something that is not its own to end. */
import { EXIT } from '../exit-codes.ts';
import type { StatusLine } from '../terminal.ts';

/**
 * Until it is disposed of, Ctrl-C ends the program at once, whatever it waits for, and says how things stand.
 * @param line left standing as it was.
 */
export function leaveOnInterrupt(words: () => string, line?: StatusLine): Disposable {
  const leave = (): void => {
    line?.end();
    process.stderr.write(`${words()}\n`);
    process.exit(EXIT.INTERRUPTED);
  };
  process.once('SIGINT', leave);
  return { [Symbol.dispose]: () => void process.off('SIGINT', leave) };
}

/** The same for a run, which does not need us. */
export function leaveRunOnInterrupt(runId: string, line?: StatusLine): Disposable {
  return leaveOnInterrupt(
    () => `The run continues. See it again: paraffin runs logs -f ${runId}\nEnd it: paraffin runs cancel ${runId}`,
    line,
  );
}
