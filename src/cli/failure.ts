/** What a command that failed says of it, and its exit code. */
import { CommanderError } from '@commander-js/extra-typings';
import { CommandFailure, EXIT } from './exit-codes.ts';

/** Names of errors that were written for the person who meets them. */
const WRITTEN_FOR_PEOPLE: ReadonlySet<string> = new Set(['DomainError', 'EngineLibraryError', 'EnvironmentError']);

/** SQLSTATEs and system errors that say how PostgreSQL cannot be reached, not that the program is at fault. */
const DATABASE_FAILURES: Readonly<Record<string, string>> = {
  '28P01': 'PostgreSQL refuses the password in PARAFFIN_DATABASE_URL.',
  '28000': 'PostgreSQL refuses the user in PARAFFIN_DATABASE_URL.',
  '3D000': 'The database in PARAFFIN_DATABASE_URL does not exist: make it first.',
  '53300': 'PostgreSQL has no connection left: raise its max_connections, or end other clients.',
};

export function exitCodeOf(error: unknown): number {
  if (error instanceof CommandFailure) return error.exitCode;
  // commander has said what was wrong already, or shown the help that was asked for.
  if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.DONE : EXIT.MISUSED;
  return EXIT.NOT_DONE;
}

/** A person's mistake or misfortune has a hint, and needs no stack; what nobody expected shows where it came from. */
export function failureInWords(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  if (error instanceof CommandFailure || WRITTEN_FOR_PEOPLE.has(error.name)) {
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
