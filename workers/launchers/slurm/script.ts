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
export function sbatchArguments(job: Job, { logFolder, warnSeconds }: SlurmTemplate): string[] {
  return [
    '--parsable',
    '--no-requeue',
    `--job-name=${job.name}`,
    `--comment=paraffin run ${job.runId}`,
    `--signal=B:USR1@${warnSeconds}`,
    '--open-mode=append',
    `--output=${logFolder}/${job.name}.log`,
    `--error=${logFolder}/${job.name}.log`,
  ];
}
