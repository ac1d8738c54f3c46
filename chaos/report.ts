/** The results of a chaos run, and their tables. */
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { markdownTable, writeMarked } from '../test/support/marked-page.ts';

export interface ChaosPromise {
  readonly promise: string;
  readonly held: boolean;
  /** What was observed, in numbers. */
  readonly seen: string;
}

export interface ChaosReport {
  readonly startedAt: Date;
  readonly machine: {
    readonly cpu: string | undefined;
    readonly cores: number;
    readonly memoryGigabytes: number;
    readonly node: string;
  };
  /** Load averages of the machine over one, five and fifteen minutes. */
  readonly loadAverage: { readonly before: readonly number[]; readonly after: readonly number[] };
  readonly seed: number;
  /** Trainings that were started in addition to the undisturbed one. */
  readonly trainingCount: number;
  readonly durationSeconds: number;
  /** How long the undisturbed training took from its launch. */
  readonly undisturbedSeconds: number;
  /** How often each fault was injected. */
  readonly faults: Readonly<Record<string, number>>;
  /** Faults that could not be injected on this machine or in this time. */
  readonly remarks: readonly string[];
  readonly promises: readonly ChaosPromise[];
}

export function asTable({
  machine,
  loadAverage,
  seed,
  trainingCount,
  durationSeconds,
  undisturbedSeconds,
  faults,
  remarks,
  promises,
}: ChaosReport): string {
  const width = Math.max(...promises.map(({ promise }) => promise.length));
  const described = (loads: readonly number[]): string => loads.map((load) => load.toFixed(1)).join(' ');
  return [
    `${trainingCount} trainings under seed ${seed} in ${Math.round(durationSeconds)} s (an undisturbed one: ${undisturbedSeconds.toFixed(1)} s).`,
    `Faults injected:  ${Object.entries(faults)
      .map(([what, count]) => `${what} ${count}`)
      .join(', ')}.`,
    `${machine.cores} cores of ${machine.cpu ?? 'an unknown CPU'}, ${machine.memoryGigabytes} GB, Node ${machine.node}; load average before ${described(loadAverage.before)}, after ${described(loadAverage.after)}.`,
    ...remarks,
    ...promises.map(({ promise, held, seen }) => `${held ? 'held  ' : 'BROKEN'}  ${promise.padEnd(width)}  ${seen}`),
    '',
  ].join('\n');
}

/** Puts the table between the page's markers, and all figures into `chaos.json` beside it. */
export async function writeReport(page: string, command: string, report: ChaosReport): Promise<void> {
  await writeMarked(page, 'chaos', () => asMarkdown(command, report));
  await writeFile(path.join(path.dirname(page), 'chaos.json'), `${JSON.stringify(report, null, 2)}\n`);
}

function asMarkdown(command: string, report: ChaosReport): string {
  const { startedAt, machine, loadAverage, trainingCount, durationSeconds, undisturbedSeconds } = report;
  const [before = 0] = loadAverage.before;
  const [after = 0] = loadAverage.after;
  const counts = Object.entries(report.faults).map(([what, count]) => `${what} ${count}`);
  return [
    `\`${command}\`, ${startedAt.toISOString().slice(0, 10)}, ${machine.cores} cores of ${machine.cpu ?? 'an unknown CPU'}, ${machine.memoryGigabytes} GB, load average ${before.toFixed(1)} before and ${after.toFixed(1)} after`,
    `([all figures](chaos.json)): ${trainingCount} trainings in ${Math.round(durationSeconds)} s, an undisturbed one in ${undisturbedSeconds.toFixed(1)} s. Faults: ${counts.join(', ')}.`,
    ...report.remarks,
    '',
    markdownTable(
      ['promise', 'seen', ''],
      report.promises.map(({ promise, held, seen }) => [promise, seen, held ? 'held' : '**broken**']),
    ),
  ].join('\n');
}
