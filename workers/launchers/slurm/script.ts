/** The batch script of a job and the arguments of sbatch. Pure. */
import type { Job } from '../launcher.ts';
import { quoted } from './shell.ts';

export interface SlurmTemplate {
  /** Lines of the site: `#SBATCH` directives first, then commands such as `module load`. */
  readonly text: string;
  /** The `paraffin` command on the nodes, word by word. */
  readonly paraffin: readonly string[];
  /** Settings of the worker, in a file that only its owner may read, seen by the nodes. */
  readonly settingsFile: string;
  /** Folder of the logs of jobs, seen by the nodes. */
  readonly logFolder: string;
  /** How long before its time limit a job is warned; its worker then keeps its state and ends. */
  readonly warnSeconds: number;
}

/** Directives that are ours: another value would break what the launcher relies on. */
const OURS = [
  'job-name',
  'comment',
  'requeue',
  'no-requeue',
  'signal',
  'open-mode',
  'output',
  'error',
  'parsable',
  'array',
];
const OURS_SHORT = ['J', 'o', 'e', 'a'];

/** @returns one sentence for each fault of a site's template; empty if there is none. */
export function faultsOfTemplate(text: string): string[] {
  const lines = text.split('\n').map((line) => line.trim());
  const firstCommand = lines.findIndex((line) => line !== '' && !line.startsWith('#'));
  return lines.flatMap((line, index) => {
    const [, option = ''] = /^#SBATCH\s+(\S+)/.exec(line) ?? [];
    if (!line.startsWith('#SBATCH')) return [];
    const name = option.startsWith('--') ? option.slice(2).split('=', 1).join('') : option.slice(1, 2);
    const where = `line ${index + 1} of the template, "${line}",`;
    if (option === '') return [`${where} names no option.`];
    if ((option.startsWith('--') ? OURS : OURS_SHORT).includes(name))
      return [`${where} sets an option that the launcher sets itself.`];
    if (firstCommand !== -1 && index > firstCommand)
      return [`${where} follows a command, and sbatch reads no directive after the first one.`];
    return [];
  });
}

/** What a person may write in a template and what the launcher needs; the job's own facts are in its arguments. */
export function scriptOf(job: Job, { text, paraffin, settingsFile }: SlurmTemplate): string {
  const lines = text.split('\n');
  const [shebang, body] = lines[0]?.startsWith('#!') ? [lines[0], lines.slice(1)] : ['#!/bin/bash', lines];
  const worker = [...paraffin, 'worker', '--once', '--run', job.runId, '--settings', settingsFile];
  return [
    shebang,
    ...body,
    // The name tells the registry which job carries the run.
    `export PARAFFIN_WORKER_NAME=${quoted(job.name)}@"$(hostname)"`,
    // In place of the shell, so that the warning of the time limit reaches the worker.
    `exec ${worker.map(quoted).join(' ')}`,
    '',
  ].join('\n');
}

/**
 * Options on the command line, which outrank directives. Slurm never requeues: the registry does, with epochs that
 * fence a worker that was presumed dead.
 */
export function sbatchArguments(job: Job, template: SlurmTemplate): string[] {
  const { logFolder, warnSeconds } = template;
  return [
    '--parsable',
    '--no-requeue',
    `--job-name=${job.name}`,
    `--comment=paraffin run ${job.runId}`,
    `--signal=B:USR1@${warnSeconds}`,
    '--open-mode=append',
    `--output=${logFolder}/${job.name}.log`,
    `--error=${logFolder}/${job.name}.log`,
    ...requirementArguments(job, template),
  ];
}

/** Loading the engine and reading the run, before and after the work that the run's own limit counts. */
const OVERHEAD_SECONDS = 180;

/**
 * What the run requires, in place of the template's. A template that counts memory per processor or per GPU, or that
 * asks for GPUs in its own words, says more than a requirement does and keeps its word.
 */
function requirementArguments(
  { requirements: { device, memoryMiB }, secondsLeft }: Job,
  { text, warnSeconds }: SlurmTemplate,
): string[] {
  const given = directivesOf(text);
  const has = (...names: readonly string[]): boolean => names.some((name) => given.has(name));
  const wantedMinutes =
    secondsLeft === null ? undefined : Math.ceil((secondsLeft + warnSeconds + OVERHEAD_SECONDS) / 60);
  const siteMinutes = minutesOf(given.get('time') ?? given.get('t') ?? '');
  return [
    ...(memoryMiB === null || has('mem-per-cpu', 'mem-per-gpu') ? [] : [`--mem=${memoryMiB}M`]),
    ...(device !== 'GPU' || has('gres', 'gpus', 'G', 'gpus-per-node', 'gpus-per-task') ? [] : ['--gres=gpu:1']),
    // A longer run is warned at the site's limit, keeps its state, and continues in the next job.
    ...(wantedMinutes === undefined || (siteMinutes !== undefined && siteMinutes <= wantedMinutes)
      ? []
      : [`--time=${wantedMinutes}`]),
  ];
}

/** The directives of a template by name, such as `mem` or `t`. */
function directivesOf(text: string): ReadonlyMap<string, string> {
  return new Map(
    text.split('\n').flatMap((line): (readonly [string, string])[] => {
      const [, name, value = ''] = /^\s*#SBATCH\s+(?:--([\w-]+)(?:[=\s]\s*(\S+))?|-\w)/.exec(line) ?? [];
      if (name !== undefined) return [[name, value]];
      const [, letter, rest = ''] = /^\s*#SBATCH\s+-(\w)\s*(\S*)/.exec(line) ?? [];
      return letter === undefined ? [] : [[letter, rest]];
    }),
  );
}

/**
 * A time limit in the forms of sbatch(1): `M`, `M:S`, `H:M:S`, `D-H`, `D-H:M`, `D-H:M:S`.
 * @returns undefined for anything else, such as UNLIMITED.
 */
function minutesOf(time: string): number | undefined {
  const [, days, rest = ''] = /^(?:(\d+)-)?(\d+(?::\d+){0,2})$/.exec(time) ?? [];
  if (rest === '') return undefined;
  const numbers = rest.split(':').map(Number);
  const [first = 0, second = 0, third = 0] = numbers;
  if (days !== undefined) return (Number(days) * 24 + first) * 60 + second + third / 60;
  return numbers.length === 3 ? first * 60 + second + third / 60 : first + second / 60;
}
