/** The learning curve: the metric against the number of training labels, beside the baselines. */
import { score, short, words } from '../../ui/format.ts';
import { axisOf, IntervalMark, type GroupKnowledge } from '../../ui/intervals.tsx';
import type { EvaluationDetail } from '../leaderboard/queries.ts';

const WIDTH = 560;
const HEIGHT = 220;
const PAD = { left: 40, right: 12, top: 12, bottom: 32 } as const;
const STROKES = ['var(--series-1)', 'var(--series-2)', 'var(--warn)', 'var(--line-strong)'] as const;

type Point = EvaluationDetail['learningCurve'][number];

interface Line {
  readonly name: string;
  readonly points: readonly { readonly x: number; readonly label: string; readonly metric: Point['metrics'][number] }[];
}

/** Shows nothing where the evaluation has no learning curve. */
export function LearningCurve({
  learningCurve,
  baselines = [],
  groups,
}: {
  readonly learningCurve: readonly Point[];
  readonly baselines?: readonly Pick<EvaluationDetail['baselines'][number], 'kind' | 'learningCurve'>[];
  readonly groups: GroupKnowledge;
}) {
  const [metricName] = learningCurve[0]?.metrics.map(({ name }) => name) ?? [];
  if (metricName === undefined) return null;
  const lines: readonly Line[] = [
    { name: 'encoder', points: pointsOf(learningCurve, metricName) },
    ...baselines.map((baseline) => ({
      name: words(baseline.kind),
      points: pointsOf(baseline.learningCurve, metricName),
    })),
  ].filter(({ points }) => points.length > 0);
  return (
    <>
      <p className="soft">
        {metricName} over the number of images that were learned from: mean over draws, with 95 % intervals.{' '}
        <IntervalMark groups={groups} />
      </p>
      <div className="scroll" tabIndex={0} role="region" aria-label="Learning curve">
        <Picture lines={lines} metricName={metricName} />
        <table>
          <thead>
            <tr>
              <th scope="col">Labels</th>
              {lines.map(({ name }, index) => (
                <th key={name} scope="col" className="number">
                  <span style={{ color: STROKES[index % STROKES.length] }} aria-hidden>
                    ●
                  </span>{' '}
                  {name}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {lines[0]?.points.map(({ label, x }) => (
              <tr key={label}>
                <th scope="row">
                  {label} <span className="soft small">{short(x)} images</span>
                </th>
                {lines.map(({ name, points }) => {
                  const metric = points.find((point) => point.label === label)?.metric;
                  return (
                    <td key={name} className="number">
                      {metric === undefined ? '' : score(metric.value)}
                      {metric?.ci95Low == null || metric.ci95High === null ? null : (
                        <span className="soft small">
                          {' '}
                          {score(metric.ci95Low)} – {score(metric.ci95High)}
                        </span>
                      )}
                    </td>
                  );
                })}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </>
  );
}

function pointsOf(curve: readonly Point[], metricName: string): Line['points'] {
  return curve
    .flatMap(({ labelFraction, shotsPerClass, trainImageCount, metrics }) => {
      const metric = metrics.find(({ name }) => name === metricName);
      const label =
        labelFraction === null ? `${shotsPerClass ?? 0} per class` : `${short(100 * labelFraction)} % of the labels`;
      return metric === undefined ? [] : [{ x: trainImageCount, label, metric }];
    })
    .sort((a, b) => a.x - b.x);
}

/** The x axis is logarithmic: 10 more labels matter among 20 and hardly among 2,000. */
function Picture({ lines, metricName }: { readonly lines: readonly Line[]; readonly metricName: string }) {
  const all = lines.flatMap(({ points }) => points);
  const axis = axisOf(all.map(({ metric }) => ({ value: metric.value, low: metric.ci95Low, high: metric.ci95High })));
  const logs = all.map(({ x }) => Math.log(Math.max(1, x)));
  const [first, last] = [Math.min(...logs), Math.max(...logs)];
  const across = (x: number): number => {
    const share = last === first ? 0.5 : (Math.log(Math.max(1, x)) - first) / (last - first);
    return PAD.left + share * (WIDTH - PAD.left - PAD.right);
  };
  const up = (value: number): number =>
    HEIGHT - PAD.bottom - ((value - axis.min) / (axis.max - axis.min)) * (HEIGHT - PAD.top - PAD.bottom);
  const descriptions = lines.map(
    ({ name, points }) => `${name} ${points.map(({ metric }) => score(metric.value)).join(', ')}`,
  );
  return (
    <svg
      viewBox={`0 0 ${WIDTH} ${HEIGHT}`}
      width={WIDTH}
      height={HEIGHT}
      role="img"
      aria-label={`${metricName} over labels: ${descriptions.join('; ')}`}
      style={{ maxWidth: '100%' }}
    >
      {[axis.min, axis.max].map((value) => (
        <g key={value}>
          <line x1={PAD.left} x2={WIDTH - PAD.right} y1={up(value)} y2={up(value)} stroke="var(--line)" />
          <text x={PAD.left - 6} y={up(value) + 4} textAnchor="end" fontSize="11" fill="currentColor">
            {score(value)}
          </text>
        </g>
      ))}
      {lines[0]?.points.map(({ x, label }) => (
        <text key={label} x={across(x)} y={HEIGHT - 10} textAnchor="middle" fontSize="11" fill="currentColor">
          {short(x)}
        </text>
      ))}
      {lines.map(({ name, points }, index) => {
        const stroke = STROKES[index % STROKES.length];
        return (
          <g key={name} stroke={stroke} fill={stroke}>
            <title>{name}</title>
            <polyline
              fill="none"
              strokeWidth={index === 0 ? 2 : 1.25}
              strokeDasharray={index === 0 ? '' : '4 3'}
              points={points.map(({ x, metric }) => `${across(x)},${up(metric.value)}`).join(' ')}
            />
            {points.map(({ x, label, metric }) => (
              <g key={label}>
                {metric.ci95Low !== null && metric.ci95High !== null && (
                  <line x1={across(x)} x2={across(x)} y1={up(metric.ci95Low)} y2={up(metric.ci95High)} />
                )}
                <circle cx={across(x)} cy={up(metric.value)} r={index === 0 ? 3 : 2} />
              </g>
            ))}
          </g>
        );
      })}
    </svg>
  );
}
