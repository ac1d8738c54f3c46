/** The charts of one run, or of two over each other. */
import { SeriesChart, type Level, type Series } from '../../ui/series.tsx';
import type { RunDetail } from './queries.ts';

interface Chart {
  readonly name: string;
  readonly title: string;
  readonly meaning: string;
  readonly levels?: readonly Level[];
}

/** The series that show how a pretraining goes, whatever its method. */
const CHARTS: readonly Chart[] = [
  { name: 'loss', title: 'Loss', meaning: "The method's own, mean over the batch: lower is better." },
  { name: 'learningRate', title: 'Learning rate', meaning: 'Warm-up, then cosine decay.' },
  { name: 'imagesPerSecond', title: 'Images per second', meaning: 'Mean over the last ten steps.' },
  {
    name: 'embeddingStd',
    title: 'Collapse indicator',
    meaning: 'Standard deviation of the embeddings: near 0, all images have the same embedding (collapse).',
    levels: [{ value: 0, label: 'collapsed' }],
  },
  {
    name: 'effectiveRank',
    title: 'Effective rank',
    meaning: 'Dimensions in which the embeddings vary: near 1, they lie on a line (dimensional collapse).',
    levels: [{ value: 1, label: 'a line' }],
  },
];

/** What the methods of the runs watch, each series once. */
function methodCharts(runs: readonly WatchedRun[]): Chart[] {
  const byName = new Map(runs.flatMap(({ run }) => run.watchedSeries).map((series) => [series.name, series]));
  return [...byName.values()].map(({ level, ...words }) => ({ ...words, levels: level === null ? [] : [level] }));
}

/** The run's own probe, with the baselines that it has to beat. */
const PROBE_CHARTS = [
  {
    name: 'probeRidgeMacroF1',
    title: 'Probe, linear',
    meaning: 'Macro F1 of a ridge regression on labelled images: higher is better.',
    levels: { probeRandomRidgeMacroF1: 'random encoder', probeColourRidgeMacroF1: 'colour statistics' },
  },
  {
    name: 'probeKnnMacroF1',
    title: 'Probe, nearest neighbours',
    meaning: 'Macro F1 of kNN on the same images.',
    levels: { probeRandomKnnMacroF1: 'random encoder', probeColourKnnMacroF1: 'colour statistics' },
  },
] as const;

export interface WatchedRun {
  readonly run: RunDetail;
  readonly series: ReadonlyMap<string, Series>;
}

export function Charts({ runs }: { readonly runs: readonly WatchedRun[] }) {
  if (runs.every(({ series }) => series.size === 0)) return null;
  const labelOf = (index: number, name: string): string =>
    runs.length === 1 ? name : index === 0 ? 'first' : 'second';
  return (
    <div className="columns">
      {PROBE_CHARTS.map(({ name, title, meaning, levels }) => {
        const series = runs.flatMap(({ series: known }, index) => {
          const found = known.get(name);
          return found === undefined ? [] : [{ ...found, label: labelOf(index, 'this encoder') }];
        });
        // Two runs have different baselines, so only the curves are drawn.
        const lines =
          runs.length > 1
            ? []
            : Object.entries(levels).flatMap(([line, label]) => {
                const value = runs[0]?.series.get(line)?.values[0];
                return value === undefined ? [] : [{ value, label }];
              });
        return series.length === 0 ? null : (
          <SeriesChart key={name} title={title} meaning={meaning} series={series} levels={lines} />
        );
      })}
      {[...CHARTS, ...methodCharts(runs)].map(({ name, title, meaning, levels = [] }) => {
        const series = runs.flatMap(({ series: known }, index) => {
          const found = known.get(name);
          return found === undefined ? [] : [{ ...found, label: labelOf(index, name) }];
        });
        return series.length === 0 ? null : (
          <SeriesChart key={name} title={title} meaning={meaning} series={series} levels={levels} />
        );
      })}
    </div>
  );
}
