/** The `paraffin` command: runs the requested command and sets the exit code. */
import { CommanderError } from '@commander-js/extra-typings';
import { programVersion } from '../platform/program-version.ts';
import { EXIT } from './exit-codes.ts';
import { exitCodeOf, failureInWords } from './failure.ts';
import { createProgram } from './program.ts';
import { printable } from './terminal.ts';

// A reader such as `head` that has enough is not an error.
process.stdout.on('error', (error) => {
  process.exit('code' in error && error.code === 'EPIPE' ? EXIT.DONE : EXIT.NOT_DONE);
});

try {
  await createProgram(programVersion()).parseAsync();
} catch (error) {
  if (!(error instanceof CommanderError)) process.stderr.write(`${printable(failureInWords(error))}\n`);
  process.exitCode = exitCodeOf(error);
}
