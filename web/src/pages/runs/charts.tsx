/** The charts of one run, or of two over each other. */
import { SeriesChart, type Series } from '../../ui/series.tsx';
import type { RunDetail } from './queries.ts';

/** The series that show how a pretraining goes. */
const CHARTS = [
  { name: 'loss', title: 'Loss', meaning: "The method's own, mean over the batch: lower is better." },
  { name: 'learningRate', title: 'Learning rate', meaning: 'Warm-up, then cosine decay.' },
  { name: 'imagesPerSecond', title: 'Images per second', meaning: 'Mean over the last ten steps.' },
  {
    name: 'positiveSimilarity',
    title: 'Positive similarity',
    meaning: 'Cosine similarity of two views of one image; 1 means the same direction.',
  },
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
  {
    name: 'matchingCorrelation',
    title: 'Matching correlation',
    meaning: 'Barlow Twins: correlation of the two views in each dimension; should rise to 1.',
  },
  {
    name: 'redundancy',
    title: 'Redundancy',
    meaning: 'Barlow Twins: correlation of different dimensions; near 1, all say the same (collapse).',
    levels: [{ value: 1, label: 'collapsed' }],
  },
  { name: 'invariance', title: 'Invariance', meaning: 'VICReg: mean squared difference of the two views.' },
  {
    name: 'varianceHinge',
    title: 'Variance hinge',
    meaning: 'VICReg: how far the standard deviations of the dimensions fall short of 1.',
    levels: [{ value: 1, label: 'collapsed' }],
  },
  {
    name: 'covariance',
    title: 'Covariance',
    meaning: 'VICReg: squared covariances of different dimensions, over their number; should fall.',
  },
] as const;

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
      {CHARTS.map(({ name, title, meaning, ...rest }) => {
        const series = runs.flatMap(({ series: known }, index) => {
          const found = known.get(name);
          return found === undefined ? [] : [{ ...found, label: labelOf(index, name) }];
        });
        return series.length === 0 ? null : (
          <SeriesChart
            key={name}
            title={title}
            meaning={meaning}
            series={series}
            {...('levels' in rest ? { levels: rest.levels } : {})}
          />
        );
      })}
    </div>
  );
}
