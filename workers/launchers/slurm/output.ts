/** Reads what Slurm's commands print. Pure; tested with the output of a real Slurm. */
import type { JobSight, Submission } from '../launcher.ts';
import { phaseOf } from './states.ts';

/** For `squeue --format`. No field can contain the separator, except the name, which is ours. */
export const SQUEUE_FORMAT = '%i|%j|%T|%r|%N';
/** For `sacct --format`, with `--parsable2`. */
export const SACCT_FORMAT = 'JobID,JobName,State,ExitCode,NodeList';
/** For the order of the queue. */
export const SQUEUE_ORDER_FORMAT = '%i|%P';

export type SightsByName = ReadonlyMap<string, readonly JobSight[]>;

/** @param names other jobs are left out: an id is used again after 67 million jobs, our names are not. */
export function readSqueue(output: string, names: ReadonlySet<string>): SightsByName {
  return byName(
    rowsOf(output).flatMap(([externalId = '', name = '', state = '', reason = '', nodes = '']) => {
      if (!names.has(name) || state === '') return [];
      // The job exists, also in a state that a newer Slurm has: one that runs is left alone for the longest time.
      const known = phaseOf(state) ?? { phase: 'RUNNING', name: state };
      const where = nodes === '' || nodes === '(null)' ? null : nodes;
      const why = reason === '' || reason === 'None' ? null : spoken(reason, externalId);
      return [
        {
          name,
          sight: {
            externalId,
            phase: known.phase,
            schedulerState: known.name,
            reason: known.phase === 'RUNNING' ? where : why,
            position: null,
          },
        },
      ];
    }),
  );
}

/** Jobs that ended; one that sacct believes to be alive is for squeue to tell. */
export function readSacct(output: string, names: ReadonlySet<string>): SightsByName {
  return byName(
    rowsOf(output).flatMap(([externalId = '', name = '', state = '', exitCode = '', nodes = '']) => {
      const known = phaseOf(state);
      if (!names.has(name) || known?.phase !== 'ENDED') return [];
      const reason = [exitCodeIn(exitCode), nodes === '' || nodes === 'None assigned' ? null : `on ${nodes}`]
        .filter((part) => part !== null)
        .join(' ');
      return [
        {
          name,
          sight: {
            externalId,
            phase: known.phase,
            schedulerState: known.name,
            reason: reason === '' ? null : reason,
            position: null,
          },
        },
      ];
    }),
  );
}

/** @returns the place of each waiting job within its partition, from 1, by its id. */
export function readPositions(output: string): ReadonlyMap<string, number> {
  const countByPartition = new Map<string, number>();
  return new Map(
    rowsOf(output).map(([externalId = '', partition = '']) => {
      const position = (countByPartition.get(partition) ?? 0) + 1;
      countByPartition.set(partition, position);
      return [externalId, position];
    }),
  );
}

/** @param stdout of `sbatch --parsable`: `id` or `id;cluster`. */
export function readSbatch(stdout: string): Submission {
  const [, externalId] = /^(\d+)(?:;\S+)?$/m.exec(stdout.trim()) ?? [];
  return externalId === undefined
    ? { kind: 'LOST', reason: 'sbatch did not print the id of the job' }
    : { kind: 'SUBMITTED', externalId };
}

/** The sentence with which a command of Slurm refused, without its own name before it. */
export function complaintOf(stderr: string): string {
  const lines = stderr
    .split('\n')
    .map((line) => line.trim().replace(/^\w+(: error| error)?: /, ''))
    .filter((line) => line !== '' && !line.startsWith('Try "'));
  return [...new Set(lines)].join('; ').slice(0, 400) || 'no reason was given';
}

/**
 * Whether the controller refused, so that there is no job. A complaint about the way to the controller says nothing: it
 * may have taken the job before its answer was lost.
 */
export function isRefusal(stderr: string): boolean {
  return !/unable to contact|connect failure|connection refused|timed? ?out|not responding|try again|temporarily|Socket timed out|Zero Bytes|Protocol authentication|DNS SRV|slurmdbd|could not resolve|Permission denied \(|munge/i.test(
    stderr,
  );
}

/** True if this cluster keeps no accounts, so that sacct can never answer. */
export function isWithoutAccounting(stderr: string): boolean {
  return /accounting storage is disabled|accounting_storage\/none/i.test(stderr);
}

/** Reasons for which a person has to do something, with what she can do. */
function spoken(reason: string, externalId: string): string {
  if (/^(JobHeld|job_?held|Held|launch_failed_requeued_held)/i.test(reason))
    return `${reason} (held; "scontrol release ${externalId}" lets it go)`;
  return reason;
}

/** `1:0` is an exit code, `0:9` a signal; `0:0` says nothing. */
function exitCodeIn(text: string): string | null {
  const [, code = '0', signal = '0'] = /^(\d+):(\d+)$/.exec(text) ?? [];
  if (signal !== '0') return `signal ${signal}`;
  return code === '0' ? null : `exit code ${code}`;
}

function rowsOf(output: string): string[][] {
  return output
    .split('\n')
    .filter((line) => line.includes('|'))
    .map((line) => line.split('|').map((cell) => cell.trim()));
}

function byName(found: readonly { readonly name: string; readonly sight: JobSight }[]): SightsByName {
  const groups = Map.groupBy(found, ({ name }) => name);
  return new Map([...groups].map(([name, each]) => [name, each.map(({ sight }) => sight)]));
}
