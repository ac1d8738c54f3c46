/**
 * Places runs in Slurm by its command line: sbatch, squeue, sacct and scancel, on this machine or behind ssh.
 *
 * Jobs are found by their names, which are never used twice, and not by ids, which are. squeue knows the living and,
 * for MinJobAge (300 s by default), the ended ones; sacct knows those that squeue has forgotten. A command that fails
 * says nothing of any job.
 */
import { CHECK_JOB, type JobSight, type Launcher, type Look, type Submission } from '../launcher.ts';
import {
  complaintOf,
  isRefusal,
  isWithoutAccounting,
  readPositions,
  readSacct,
  readSbatch,
  readSqueue,
  SACCT_FORMAT,
  SQUEUE_FORMAT,
  SQUEUE_ORDER_FORMAT,
} from './output.ts';
import { faultsOfTemplate, sbatchArguments, scriptOf, type SlurmTemplate } from './script.ts';
import type { Output, Shell } from './shell.ts';

export interface SlurmParts {
  readonly shell: Shell;
  readonly template: SlurmTemplate;
}

/** Names on one command line: well below the limit of the kernel. */
const NAMES_AT_ONCE = 200;

export function createSlurm({ shell, template }: SlurmParts): Launcher {
  const check = async (): Promise<readonly string[]> => {
    const faults = faultsOfTemplate(template.text);
    if (faults.length > 0) return faults;
    const tried = await shell.run(['sbatch', ...sbatchArguments(CHECK_JOB, template), '--test-only'], {
      input: scriptOf(CHECK_JOB, template),
    });
    if (tried.exitCode === 0) return [];
    const complaint = complaintOf(tried.stderr);
    return [
      isRefused(tried)
        ? `sbatch --test-only refuses the template: ${complaint}.`
        : `Slurm does not answer sbatch --test-only: ${complaint}.`,
    ];
  };

  const squeue = async (names: readonly string[]): Promise<Look> => {
    const answer = await shell.run([
      'squeue',
      '--noheader',
      '--states=all',
      `--name=${names.join(',')}`,
      `--format=${SQUEUE_FORMAT}`,
    ]);
    return answer.exitCode === 0
      ? { kind: 'ANSWERED', jobs: readSqueue(answer.stdout, new Set(names)) }
      : unanswered('squeue', answer);
  };

  /** @returns nothing where the cluster keeps no accounts. */
  const sacct = async (names: readonly string[]): Promise<Look> => {
    const answer = await shell.run([
      'sacct',
      '--noheader',
      '--parsable2',
      '--allocations',
      '--duplicates',
      // Without a start it tells only of today.
      '--starttime=now-60days',
      `--name=${names.join(',')}`,
      `--format=${SACCT_FORMAT}`,
    ]);
    if (answer.exitCode === 0) return { kind: 'ANSWERED', jobs: readSacct(answer.stdout, new Set(names)) };
    if (answer.exitCode !== null && isWithoutAccounting(answer.stderr)) return { kind: 'ANSWERED', jobs: new Map() };
    return unanswered('sacct', answer);
  };

  /** The order in which waiting jobs are considered, as far as this account may see it; empty where it is not known. */
  const positions = async (): Promise<ReadonlyMap<string, number>> => {
    const answer = await shell.run([
      'squeue',
      '--noheader',
      '--states=PENDING',
      '--sort=-p,i',
      `--format=${SQUEUE_ORDER_FORMAT}`,
    ]);
    return answer.exitCode === 0 ? readPositions(answer.stdout) : new Map();
  };

  const lookAtSome = async (names: readonly string[]): Promise<Look> => {
    const living = await squeue(names);
    if (living.kind === 'UNANSWERED') return living;
    const missing = names.filter((name) => !living.jobs.has(name));
    if (missing.length === 0) return living;
    const accounted = await sacct(missing);
    if (accounted.kind === 'UNANSWERED') return accounted;
    return { kind: 'ANSWERED', jobs: new Map([...living.jobs, ...accounted.jobs]) };
  };

  return {
    check,
    submit: async (job): Promise<Submission> => {
      const answer = await shell.run(['sbatch', ...sbatchArguments(job, template)], { input: scriptOf(job, template) });
      if (answer.exitCode === 0) return readSbatch(answer.stdout);
      // A controller that hangs may have taken the job before it failed to answer.
      return { kind: isRefused(answer) ? 'REFUSED' : 'LOST', reason: complaintOf(answer.stderr) };
    },
    look: async (names) => {
      const jobs = new Map<string, readonly JobSight[]>();
      for (let start = 0; start < names.length; start += NAMES_AT_ONCE) {
        const some = await lookAtSome(names.slice(start, start + NAMES_AT_ONCE));
        if (some.kind === 'UNANSWERED') return some;
        for (const [name, sights] of some.jobs) jobs.set(name, sights);
      }
      const isAnyWaiting = [...jobs.values()].flat().some(({ phase }) => phase === 'WAITING');
      if (!isAnyWaiting) return { kind: 'ANSWERED', jobs };
      const places = await positions();
      const placed = [...jobs].map(
        ([name, sights]) =>
          [name, sights.map((sight) => ({ ...sight, position: places.get(sight.externalId) ?? null }))] as const,
      );
      return { kind: 'ANSWERED', jobs: new Map(placed) };
    },
    cancel: async (name, externalId) => {
      // By both: the id alone may be that of somebody else's job by now.
      await shell.run(['scancel', `--name=${name}`, externalId]);
    },
  };
}

function isRefused({ exitCode, stderr }: Output): boolean {
  return exitCode !== null && isRefusal(stderr);
}

function unanswered(command: string, { stderr }: Output): Look {
  return { kind: 'UNANSWERED', reason: `${command}: ${complaintOf(stderr)}` };
}
