/** The message and exit code of a failed command. */
import { CommanderError } from '@commander-js/extra-typings';
import { CommandFailure, EXIT } from './exit-codes.ts';

/** Names of errors whose messages are written for users. */
const USER_FACING_ERRORS: ReadonlySet<string> = new Set(['DomainError', 'EngineLibraryError', 'EnvironmentError']);

/** SQLSTATEs and system errors that mean that PostgreSQL is unreachable, not that the program has a bug. */
const DATABASE_FAILURES: Readonly<Record<string, string>> = {
  '28P01': 'PostgreSQL refuses the password in PARAFFIN_DATABASE_URL.',
  '28000': 'PostgreSQL refuses the user in PARAFFIN_DATABASE_URL.',
  '3D000': 'The database in PARAFFIN_DATABASE_URL does not exist. Create it first.',
  '53300': 'PostgreSQL has no free connection. Raise its max_connections, or stop other clients.',
};

export function exitCodeOf(error: unknown): number {
  if (error instanceof CommandFailure) return error.exitCode;
  // commander has already printed the error or the requested help.
  if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.DONE : EXIT.INVALID_ARGUMENTS;
  return EXIT.NOT_DONE;
}

/** An expected failure has a hint and needs no stack; an unexpected one is shown with its stack. */
export function failureInWords(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  if (error instanceof CommandFailure || USER_FACING_ERRORS.has(error.name)) {
    const hint = 'hint' in error && typeof error.hint === 'string' ? `\n${error.hint}` : '';
    return error.message + hint;
  }
  for (let each: unknown = error; each instanceof Error; each = each.cause) {
    const code = 'code' in each ? String(each.code) : '';
    const database = DATABASE_FAILURES[code];
    if (database !== undefined) return `${database}\n${each.message}`;
    // The operating system's own words: "ENOENT: no such file or directory, open 'models/encoder.pt'".
    if (/^E[A-Z]+$/.test(code) && 'syscall' in each) return each.message;
  }
  return error.stack ?? error.message;
}
