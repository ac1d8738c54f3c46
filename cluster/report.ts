/** The results of a trial on a cluster, and their tables. */
import type { ChaosPromise } from '../chaos/report.ts';
import { markdownTable, writeFigures } from '../test/support/marked-page.ts';

export interface TrialReport {
  readonly startedAt: Date;
  readonly slurm: string;
  readonly machine: string;
  /** Over one, five and fifteen minutes. */
  readonly loadAverage: { readonly before: readonly number[]; readonly after: readonly number[] };
  readonly trainingCount: number;
  readonly evaluationCount: number;
  readonly personCount: number;
  readonly durationSeconds: number;
  /** How long the undisturbed training took through Slurm, from its launch. */
  readonly undisturbedSeconds: number;
  /** What was done, and what became of the run that it met. */
  readonly faults: readonly FaultFelt[];
  /** Faults that were left out, because time ran out or no run was early enough. */
  readonly leftOut: readonly string[];
  /** How many jobs ended in each state, in the words of Slurm. */
  readonly jobEnds: Readonly<Record<string, number>>;
  readonly promises: readonly ChaosPromise[];
}

export interface FaultFelt {
  readonly fault: string;
  /** Such as "PRETRAINING in attempt 1 became QUEUED". */
  readonly felt: string;
}

export function asTable(report: TrialReport): string {
  return [
    ...sentencesOf(report),
    ...report.faults.map(({ fault, felt }) => `  ${fault}: ${felt}`),
    ...report.promises.map(({ promise, held, seen }) => `${held ? 'held  ' : 'BROKEN'}  ${promise}: ${seen}`),
    '',
  ].join('\n');
}

/** Puts the table between the page's markers, and all figures into `cluster.json` beside it. */
export async function writeReport(page: string, command: string, report: TrialReport): Promise<void> {
  await writeFigures(page, 'cluster', asMarkdown(command, report), report);
}

function asMarkdown(command: string, report: TrialReport): string {
  return [
    `\`${command}\`, ${report.startedAt.toISOString().slice(0, 10)} ([all figures](cluster.json)).`,
    ...sentencesOf(report),
    '',
    markdownTable(
      ['fault', 'what became of the run that it met'],
      report.faults.map(({ fault, felt }) => [fault, felt]),
    ),
    '',
    markdownTable(
      ['promise', 'seen', ''],
      report.promises.map(({ promise, held, seen }) => [promise, seen, held ? 'held' : '**broken**']),
    ),
  ].join('\n');
}

function sentencesOf(report: TrialReport): string[] {
  const { trainingCount, evaluationCount, personCount, slurm, leftOut, jobEnds } = report;
  const loads = (of: readonly number[]): string => of.map((load) => load.toFixed(1)).join(' ');
  return [
    `${trainingCount} trainings and ${evaluationCount} evaluations of ${personCount} people through ${slurm} in ${Math.round(report.durationSeconds)} s (an undisturbed training: ${report.undisturbedSeconds.toFixed(1)} s).`,
    `${report.machine}; load average before ${loads(report.loadAverage.before)}, after ${loads(report.loadAverage.after)}.`,
    ...(leftOut.length === 0
      ? []
      : [`Not injected, because time ran out or no run was early enough: ${leftOut.join(', ')}.`]),
    `Jobs ended as: ${Object.entries(jobEnds)
      .map(([state, jobs]) => `${state} ${jobs}`)
      .join(', ')}.`,
  ];
}
