/**
 * What a cluster has to offer, so that runs can be placed on it: submit, look, cancel and check. A launcher holds no
 * state of its own: the registry knows which jobs were planned, and the scheduler knows what became of them.
 */
import { NO_REQUIREMENTS, type RunRequirements } from '../../src/protocol/requirements.ts';

/** A job to be submitted: it starts a one-shot worker for one run. */
export interface Job {
  /** The same for everyone who computes it, and never used twice. */
  readonly name: string;
  readonly runId: string;
  /** What the job must have for its worker to take the run. */
  readonly requirements: RunRequirements;
  /** How much longer the run may take; null: no limit. */
  readonly secondsLeft: number | null;
}

/** For the check of a scheduler, which submits nothing. */
export const CHECK_JOB: Job = {
  name: 'paraffin-check',
  runId: '00000000-0000-0000-0000-000000000000',
  requirements: NO_REQUIREMENTS,
  secondsLeft: null,
};

/** What the scheduler says of a job that it knows. */
export interface JobSight {
  readonly externalId: string;
  readonly phase: 'WAITING' | 'RUNNING' | 'ENDED';
  /** The state in the words of the scheduler. */
  readonly schedulerState: string;
  /** Why it waits, where it runs or how it ended; null where the scheduler says nothing. */
  readonly reason: string | null;
  /** Place among the waiting jobs of its partition, from 1; null where it is not known. */
  readonly position: number | null;
}

/** UNANSWERED: the scheduler could not be asked, so that nothing is known of any job. */
export type Look =
  | { readonly kind: 'ANSWERED'; readonly jobs: ReadonlyMap<string, readonly JobSight[]> }
  | { readonly kind: 'UNANSWERED'; readonly reason: string };

export type Submission =
  | { readonly kind: 'SUBMITTED'; readonly externalId: string }
  /** The scheduler answered that it does not take the job. */
  | { readonly kind: 'REFUSED'; readonly reason: string }
  /** No answer came: the job may exist. */
  | { readonly kind: 'LOST'; readonly reason: string };

export interface Launcher {
  /** Asks the scheduler whether it would take a job. @returns one sentence for each obstacle. */
  check(): Promise<readonly string[]>;
  submit(job: Job): Promise<Submission>;
  /** The jobs of these names; a name may have none or, after a lost answer, several. */
  look(names: readonly string[]): Promise<Look>;
  /** Cancels this job; one that has ended or is unknown stays so. */
  cancel(name: string, externalId: string): Promise<void>;
}

/** Options, or a cluster, with which no job can be placed; its message says what to do. */
export class LauncherFault extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'LauncherFault';
  }
}
