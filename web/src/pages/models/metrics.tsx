/** Metrics of evaluations beside their baselines. */
import { score, words } from '../../ui/format.ts';
import {
  AxisNote,
  axisOf,
  IntervalMark,
  IntervalPicture,
  type GroupKnowledge,
  type Interval,
} from '../../ui/intervals.tsx';
import type { Baseline, Metric } from '../leaderboard/queries.ts';

export function intervalOf(metric: Metric): Interval {
  return { value: metric.value, low: metric.ci95Low, high: metric.ci95High };
}

/** Baselines of one metric, random encoder first. */
export function baselinesFor(
  name: string,
  baselines: readonly Baseline[],
): { readonly name: string; readonly value: number }[] {
  return [...baselines]
    .sort((a, b) => (a.kind < b.kind ? 1 : -1))
    .flatMap(({ kind, metrics }) =>
      metrics.filter((metric) => metric.name === name).map((metric) => ({ name: words(kind), value: metric.value })),
    );
}

export function MetricTable({
  metrics,
  baselines,
  groups,
}: {
  readonly metrics: readonly Metric[];
  readonly baselines: readonly Baseline[];
  readonly groups: GroupKnowledge;
}) {
  const axis = axisOf([...metrics, ...baselines.flatMap((each) => each.metrics)].map(intervalOf));
  return (
    <div className="scroll" tabIndex={0} role="region" aria-label="Metrics">
      <table>
        <thead>
          <tr>
            <th scope="col">Metric</th>
            <th scope="col" className="number">
              Value
            </th>
            <th scope="col">
              95 % interval <IntervalMark groups={groups} />
            </th>
            {baselines.map((each) => (
              <th key={each.kind} scope="col" className="number">
                {words(each.kind)}
              </th>
            ))}
            <th scope="col">Picture</th>
          </tr>
        </thead>
        <tbody>
          {metrics.map((metric) => (
            <tr key={metric.name}>
              <th scope="row">{metric.name}</th>
              <td className="number">
                <strong>{score(metric.value)}</strong>
              </td>
              <td>
                {metric.ci95Low === null || metric.ci95High === null
                  ? ''
                  : `${score(metric.ci95Low)} – ${score(metric.ci95High)}`}
              </td>
              {baselines.map(({ kind, metrics: known, differences }) => {
                const found = known.find((each) => each.name === metric.name);
                const difference = differences?.find((each) => each.name === metric.name);
                return (
                  <td key={kind} className="number">
                    {found === undefined ? '' : score(found.value)}
                    {difference !== undefined && <Difference difference={difference} />}
                  </td>
                );
              })}
              <td>
                <IntervalPicture
                  interval={intervalOf(metric)}
                  axis={axis}
                  baselines={baselinesFor(metric.name, baselines)}
                  groups={groups}
                />
              </td>
            </tr>
          ))}
        </tbody>
      </table>
      <AxisNote axis={axis} hasBaselines={baselines.length > 0} caveats={[groups.intervalCaveat]} />
    </div>
  );
}

/** Result minus baseline: its interval shows whether one beats the other, which the two separate intervals do not. */
function Difference({ difference: { value, ci95Low, ci95High } }: { readonly difference: Metric }) {
  const signed = (number: number): string => `${number < 0 ? '−' : '+'}${score(Math.abs(number))}`;
  return (
    <div className="soft small" title="Result minus baseline, with its 95 % interval">
      {signed(value)}
      {ci95Low !== null && ci95High !== null && ` [${signed(ci95Low)}, ${signed(ci95High)}]`}
    </div>
  );
}
