/** Values with their 95 % intervals on one axis, baselines as lines across. */
import { score } from './format.ts';
import { Tag } from './parts.tsx';

export interface Interval {
  readonly value: number;
  readonly low: number | null;
  readonly high: number | null;
}

/** What is known of the patients or slides over which the intervals were resampled. */
export interface GroupKnowledge {
  readonly groupsKnown: boolean | null;
  /** Null if all of them are known. */
  readonly intervalCaveat: string | null;
}

export interface Axis {
  readonly min: number;
  readonly max: number;
}

const WIDTH = 240;
const HEIGHT = 22;
const PAD = 8;

/** An axis from one tenth to another that contains all intervals. */
export function axisOf(intervals: readonly Interval[]): Axis {
  const lows = intervals.map((each) => each.low ?? each.value);
  const highs = intervals.map((each) => each.high ?? each.value);
  const min = Math.max(0, Math.floor(Math.min(1, ...lows) * 10) / 10);
  const max = Math.max(min + 0.1, Math.min(1, Math.ceil(Math.max(0, ...highs) * 10) / 10));
  return { min, max };
}

export function IntervalPicture({
  interval,
  axis,
  baselines,
  groups,
}: {
  readonly interval: Interval;
  readonly axis: Axis;
  readonly baselines: readonly { readonly name: string; readonly value: number }[];
  readonly groups: GroupKnowledge;
}) {
  const x = (value: number): number => PAD + ((value - axis.min) / (axis.max - axis.min)) * (WIDTH - 2 * PAD);
  const description = `${score(interval.value)}${interval.low === null || interval.high === null ? '' : `, 95 % interval ${score(interval.low)} to ${score(interval.high)}${groups.groupsKnown === true ? '' : `, ${narrownessOf(groups)}`}`}${baselines.map((each) => `; ${each.name} ${score(each.value)}`).join('')}`;
  return (
    <svg
      viewBox={`0 0 ${WIDTH} ${HEIGHT}`}
      width={WIDTH}
      height={HEIGHT}
      role="img"
      aria-label={description}
      style={{ maxWidth: '100%' }}
    >
      <title>{description}</title>
      <line x1={x(axis.min)} x2={x(axis.max)} y1={HEIGHT / 2} y2={HEIGHT / 2} stroke="var(--line)" />
      {baselines.map((each, index) => (
        <line
          key={each.name}
          x1={x(each.value)}
          x2={x(each.value)}
          y1={2}
          y2={HEIGHT - 2}
          stroke="var(--warn)"
          strokeWidth={1.5}
          strokeDasharray={index === 0 ? '' : '3 2'}
        />
      ))}
      {interval.low !== null && interval.high !== null && (
        <line
          x1={x(interval.low)}
          x2={x(interval.high)}
          y1={HEIGHT / 2}
          y2={HEIGHT / 2}
          stroke="var(--accent)"
          strokeWidth={3}
          strokeLinecap={groups.groupsKnown === true ? 'round' : 'butt'}
          strokeDasharray={groups.groupsKnown === true ? '' : '4 2'}
        />
      )}
      <circle
        cx={x(interval.value)}
        cy={HEIGHT / 2}
        r={4.5}
        fill="var(--accent)"
        stroke="var(--sheet)"
        strokeWidth={1.5}
      />
    </svg>
  );
}

function narrownessOf({ groupsKnown }: GroupKnowledge): string {
  return groupsKnown === false ? 'too narrow' : 'may be too narrow';
}

/** Marks intervals that are, or may be, too narrow because patients or slides are unknown. */
export function IntervalMark({ groups }: { readonly groups: GroupKnowledge }) {
  if (groups.intervalCaveat === null) return null;
  return (
    <Tag tone="warn" title={groups.intervalCaveat}>
      {narrownessOf(groups)}
    </Tag>
  );
}

/** @param caveats of the results that are drawn; repeated ones are shown once. */
export function AxisNote({
  axis,
  hasBaselines,
  caveats,
}: {
  readonly axis: Axis;
  readonly hasBaselines: boolean;
  readonly caveats: readonly (string | null)[];
}) {
  const uniqueCaveats = [...new Set(caveats.flatMap((caveat) => caveat ?? []))];
  return (
    <p className="soft small">
      Axis from {axis.min.toFixed(1)} to {axis.max.toFixed(1)}. Dot: value; bar: 95 % interval of the bootstrap over
      groups{uniqueCaveats.length === 0 ? '' : ', dashed where it is too narrow'}
      {hasBaselines ? '; vertical lines: a random encoder (solid) and colour statistics (dashed)' : ''}.{' '}
      {uniqueCaveats.join(' ')}
    </p>
  );
}
