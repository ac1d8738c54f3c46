/** What the command says by its exit code; docs/command-line.md explains it. */
export const EXIT = {
  DONE: 0,
  /** The server refused, could not be reached, or has no such thing; the message says what to do. */
  NOT_DONE: 1,
  /** The command was given wrongly; nothing was tried. */
  MISUSED: 2,
  /** Bytes are not what their digest says, on this machine or in the registry. */
  DAMAGE_FOUND: 3,
  /** The command did its work, and the run that it waited for ended as FAILED or CANCELED. */
  RUN_NOT_SUCCEEDED: 4,
  /** Ctrl-C. */
  INTERRUPTED: 130,
} as const;

export type ExitCode = (typeof EXIT)[keyof typeof EXIT];

/** Ends a command with a code of its own and a message that needs no stack. */
export class CommandFailure extends Error {
  readonly exitCode: ExitCode;
  readonly hint: string | undefined;

  constructor(facts: {
    readonly exitCode?: ExitCode;
    readonly message: string;
    readonly hint?: string | null | undefined;
  }) {
    super(facts.message);
    this.name = 'CommandFailure';
    this.exitCode = facts.exitCode ?? EXIT.NOT_DONE;
    this.hint = facts.hint ?? undefined;
  }
}
