/** The `paraffin` command: runs what was asked for and says by its exit code how that went. */
import { CommanderError } from '@commander-js/extra-typings';
import { programVersion } from '../platform/program-version.ts';
import { CommandFailure, EXIT } from './exit-codes.ts';
import { createProgram } from './program.ts';

function exitCodeOf(error: unknown): number {
  if (error instanceof CommandFailure) return error.exitCode;
  // commander has said what was wrong already, or shown the help that was asked for.
  if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.DONE : EXIT.MISUSED;
  return EXIT.NOT_DONE;
}

/** A person's mistake or misfortune has a hint, and needs no stack; what nobody expected shows where it came from. */
function explain(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const hint = 'hint' in error && typeof error.hint === 'string' ? `\n${error.hint}` : '';
  const isExpected =
    error instanceof CommandFailure || ['DomainError', 'EngineLibraryError', 'EnvironmentError'].includes(error.name);
  return isExpected ? error.message + hint : (error.stack ?? error.message);
}

// A reader such as `head` that has enough is not an error.
process.stdout.on('error', (error) => {
  process.exit('code' in error && error.code === 'EPIPE' ? EXIT.DONE : EXIT.NOT_DONE);
});

try {
  await createProgram(programVersion()).parseAsync();
} catch (error) {
  if (!(error instanceof CommanderError)) process.stderr.write(`${explain(error)}\n`);
  process.exitCode = exitCodeOf(error);
}
