/** The results of a chaos run, and their tables. */
import { markdownTable, writeFigures } from '../test/support/marked-page.ts';
import { measuredBy, type Measured } from '../test/support/measured.ts';

export interface ChaosPromise {
  readonly promise: string;
  readonly held: boolean;
  /** What was observed, in numbers. */
  readonly seen: string;
}

export interface ChaosReport extends Measured {
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
    `${machine.cores} cores of ${machine.cpu}, ${machine.memoryGigabytes} GB, Node ${machine.node}; load average before ${described(loadAverage.before)}, after ${described(loadAverage.after)}.`,
    ...remarks,
    ...promises.map(({ promise, held, seen }) => `${held ? 'held  ' : 'BROKEN'}  ${promise.padEnd(width)}  ${seen}`),
    '',
  ].join('\n');
}

/** Puts the table between the page's markers, and all figures into `chaos.json` beside it. */
export async function writeReport(page: string, command: string, report: ChaosReport): Promise<void> {
  await writeFigures(page, 'chaos', asMarkdown(command, report), report);
}

function asMarkdown(command: string, report: ChaosReport): string {
  const { trainingCount, durationSeconds, undisturbedSeconds } = report;
  const counts = Object.entries(report.faults).map(([what, count]) => `${what} ${count}`);
  return [
    measuredBy(command, report),
    `([all figures](chaos.json)): ${trainingCount} trainings in ${Math.round(durationSeconds)} s, an undisturbed one in ${undisturbedSeconds.toFixed(1)} s. Faults: ${counts.join(', ')}.`,
    ...report.remarks,
    '',
    markdownTable(
      ['promise', 'seen', ''],
      report.promises.map(({ promise, held, seen }) => [promise, seen, held ? 'held' : '**broken**']),
    ),
  ].join('\n');
}
