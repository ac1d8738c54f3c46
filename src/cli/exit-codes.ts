import { ONE_SHOT_EXIT } from '../protocol/one-shot.ts';

/** The exit codes of the command; docs/command-line.md explains them. */
export const EXIT = {
  DONE: 0,
  /** The server refused, was unreachable, or does not have the object; the message says what to do. */
  NOT_DONE: 1,
  /** The command line was invalid; nothing was executed. */
  INVALID_ARGUMENTS: 2,
  /** Bytes do not match their digest, on this machine or in the registry. */
  DAMAGE_FOUND: 3,
  /** The command did its work, and the run that it waited for ended as FAILED or CANCELED. */
  RUN_NOT_SUCCEEDED: ONE_SHOT_EXIT.RUN_NOT_SUCCEEDED,
  /** A one-shot worker stopped early, and its run is queued again. */
  RUN_REQUEUED: ONE_SHOT_EXIT.REQUEUED,
  /** A one-shot worker did not take its run. */
  RUN_NOT_TAKEN: ONE_SHOT_EXIT.NOT_TAKEN,
  /** Ctrl-C. */
  INTERRUPTED: 130,
} as const;

export type ExitCode = (typeof EXIT)[keyof typeof EXIT];

/** Ends a command with a specific exit code and a message without a stack. */
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
