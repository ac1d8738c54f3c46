/** The measured parts of runs of several sizes as tables, and how each part grows with the number of images. */
import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { z } from 'zod';
import { formatByteSize, table } from '../src/cli/terminal.ts';
import { writeMarked } from '../test/support/marked-page.ts';
import type { PeakBytes, ProcessKind } from './usage.ts';
import { partSchema, sizeSchema } from './record.ts';
import type { MeasuredPart } from './stages.ts';

const runSchema = z.object({
  startedAt: z.string(),
  machine: z.object({ cpu: z.string(), cores: z.number(), memoryGigabytes: z.number(), node: z.string() }),
  /** Of the last minute, before and after. */
  loadAverage: z.object({ before: z.number(), after: z.number() }),
  /** The command that made it. */
  command: z.string(),
  /** Only the parts that need no images. */
  isManifestOnly: z.boolean(),
  size: sizeSchema,
  parts: z.array(partSchema),
});
export type ScaleReport = Readonly<z.infer<typeof runSchema>>;

const HEAD = [
  'part',
  'images',
  'time, s',
  'processor, s',
  'images/s',
  'server, MB',
  'worker, MB',
  'run, MB',
  'decoder, MB',
  'stored',
];

/** A part this short does not go through its images one by one. */
const RATED_FROM_MS = 100;

export function asText({ parts, machine, loadAverage }: ScaleReport): string {
  return [
    table(HEAD, parts.map(cellsOf)),
    '',
    `Peak resident memory of the largest process of each kind. ${machine.cores} cores of ${machine.cpu}, ${machine.memoryGigabytes} GB, Node ${machine.node}; load average before ${loadAverage.before.toFixed(1)}, after ${loadAverage.after.toFixed(1)}.`,
    '',
  ].join('\n');
}

function cellsOf({ name, imageCount, durationMs, processorMs, peakBytes, storedBytes }: MeasuredPart): string[] {
  const megabytes = (kind: ProcessKind): string =>
    peakBytes[kind] === undefined ? '' : String(Math.round(peakBytes[kind] / 1e6));
  const seconds = durationMs / 1000;
  return [
    name,
    String(imageCount),
    seconds.toFixed(1),
    (processorMs / 1000).toFixed(1),
    durationMs < RATED_FROM_MS ? '' : String(Math.round(imageCount / seconds)),
    ...(['SERVER', 'WORKER', 'RUN', 'DECODER'] as const).map(megabytes),
    storedBytes < 0 ? `−${formatByteSize(-storedBytes)}` : formatByteSize(storedBytes),
  ];
}

export interface Growth {
  readonly name: string;
  /** `k` of `time ~ images^k`: 0 does not grow, 1 grows in proportion. */
  readonly timeExponent: number;
  /** The same of the processor time, which depends less on what else the machine does. */
  readonly processorExponent: number;
  /** The same of the peak memory of the process that does the work; null if none was measured. */
  readonly memoryExponent: number | null;
  readonly fromImageCount: number;
  readonly toImageCount: number;
}

/**
 * Growth of every part that was measured with at least two numbers of images: the slope of the least squares line
 * through the logarithms.
 */
export function growthOf(runs: readonly Pick<ScaleReport, 'parts'>[]): Growth[] {
  const names = [...new Set(runs.flatMap(({ parts }) => parts.map(({ name }) => name)))];
  return names.flatMap((name) => {
    const parts = runs.flatMap((run) => run.parts.filter((part) => part.name === name));
    const counts = parts.map(({ imageCount }) => imageCount);
    const [from, to] = [Math.min(...counts), Math.max(...counts)];
    if (from === to) return [];
    const points = (valueOf: (part: MeasuredPart) => number | undefined): (readonly [number, number])[] =>
      parts.flatMap((part) => {
        const value = valueOf(part);
        return value === undefined || value <= 0 ? [] : [[part.imageCount, value] as const];
      });
    const memory = points(({ peakBytes }) => workingPeakOf(peakBytes));
    return [
      {
        name,
        timeExponent: logSlope(points(({ durationMs }) => durationMs)),
        processorExponent: logSlope(points(({ processorMs }) => processorMs)),
        memoryExponent: memory.length < 2 ? null : logSlope(memory),
        ...{ fromImageCount: from, toImageCount: to },
      },
    ];
  });
}

function workingPeakOf({ RUN, SERVER }: PeakBytes): number | undefined {
  return RUN ?? SERVER;
}

/** The slope of the least squares line through `(ln x, ln y)`. */
function logSlope(points: readonly (readonly [number, number])[]): number {
  const logs = points.map(([x, y]) => [Math.log(x), Math.log(y)] as const);
  const mean = (place: 0 | 1): number => logs.reduce((sum, point) => sum + point[place], 0) / logs.length;
  const [meanX, meanY] = [mean(0), mean(1)];
  const covariance = logs.reduce((sum, [x, y]) => sum + (x - meanX) * (y - meanY), 0);
  const variance = logs.reduce((sum, [x]) => sum + (x - meanX) ** 2, 0);
  return covariance / variance;
}

/**
 * Adds the run to `scale.json` beside the page, in place of one of the same size, and writes the tables of all of them
 * between the page's markers.
 * @throws Error if the page does not have both markers.
 */
export async function writeReport(page: string, report: ScaleReport): Promise<void> {
  const figures = path.join(path.dirname(page), 'scale.json');
  const kept = await readFile(figures, 'utf8').then(
    (json) => z.array(runSchema).parse(JSON.parse(json)),
    () => [],
  );
  const runs = [...kept.filter((run) => !isSameRun(run, report)), report].sort(
    (a, b) => Number(a.isManifestOnly) - Number(b.isManifestOnly) || a.size.imageCount - b.size.imageCount,
  );
  await writeMarked(page, 'scale', () => asMarkdown(runs));
  await writeFile(figures, `${JSON.stringify(runs, null, 2)}\n`);
}

function isSameRun(a: ScaleReport, b: ScaleReport): boolean {
  return a.isManifestOnly === b.isManifestOnly && a.size.imageCount === b.size.imageCount;
}

function asMarkdown(runs: readonly ScaleReport[]): string {
  const row = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;
  const tables = runs.flatMap(({ command, startedAt, machine, loadAverage, parts }) => [
    `\`${command}\`, ${startedAt.slice(0, 10)}, ${machine.cores} cores of ${machine.cpu}, ${machine.memoryGigabytes} GB, load average ${loadAverage.before.toFixed(1)} before and ${loadAverage.after.toFixed(1)} after:`,
    '',
    row(HEAD),
    row(HEAD.map((_, column) => (column === 0 ? '---' : '---:'))),
    ...parts.map((part) => row(cellsOf(part))),
    '',
  ]);
  const growth = growthOf(runs);
  if (growth.length === 0) return tables.join('\n');
  return [
    ...tables,
    'Growth: *k* of cost ~ images^*k*, from the smallest to the largest number of images; 1 is in proportion, 0 does not grow.',
    '',
    '| part | from | to | time | processor time | peak memory of its process |',
    '| --- | ---: | ---: | ---: | ---: | ---: |',
    ...growth.map(({ name, fromImageCount, toImageCount, timeExponent, processorExponent, memoryExponent }) =>
      row([
        name,
        String(fromImageCount),
        String(toImageCount),
        timeExponent.toFixed(2),
        processorExponent.toFixed(2),
        memoryExponent?.toFixed(2) ?? '',
      ]),
    ),
    '',
  ].join('\n');
}
