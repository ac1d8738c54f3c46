/** Live series over steps, drawn by uPlot. */
import { useEffect, useRef } from 'react';
import uPlot from 'uplot';
import 'uplot/dist/uPlot.min.css';
import { short } from './format.ts';

export interface Series {
  readonly label: string;
  readonly steps: readonly number[];
  readonly values: readonly number[];
}

export interface SeriesChartProps {
  readonly title: string;
  /** One sentence on how to read it. */
  readonly meaning: string;
  readonly series: readonly Series[];
  /** Levels to compare with, e.g. where an encoder has collapsed; at most three. */
  readonly levels?: readonly Level[];
}

export interface Level {
  readonly value: number;
  readonly label: string;
}

const HEIGHT_PX = 190;
const COLOURS = ['--series-1', '--series-2'] as const;

const LEVEL_COLOURS = ['--warn', '--ink-soft', '--series-2'] as const;
const NO_LEVELS: readonly Level[] = [];

export function SeriesChart({ title, meaning, series, levels = NO_LEVELS }: SeriesChartProps) {
  const host = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot>(undefined);
  const labels = series.map((each) => each.label).join('\n');
  const levelLabels = levels.map((level) => level.label).join('\n');
  const data = alignedData(series, levels);
  const latest = useRef(data);
  latest.current = data;

  useEffect(() => {
    const element = host.current;
    if (element === null) return undefined;
    const draw = (): void => {
      plot.current?.destroy();
      const named = levelLabels === '' ? [] : levelLabels.split('\n');
      plot.current = new uPlot(optionsFor(element, labels.split('\n'), named), latest.current, element);
    };
    draw();
    const observer = new ResizeObserver(() => plot.current?.setSize({ width: element.clientWidth, height: HEIGHT_PX }));
    observer.observe(element);
    // Colours are read when the chart is drawn, so a change of the theme, by the user or the system, redraws it.
    const themes = new MutationObserver(draw);
    themes.observe(document.documentElement, { attributeFilter: ['data-theme'] });
    const machine = matchMedia('(prefers-color-scheme: dark)');
    machine.addEventListener('change', draw);
    return () => {
      observer.disconnect();
      themes.disconnect();
      machine.removeEventListener('change', draw);
      plot.current?.destroy();
      plot.current = undefined;
    };
  }, [labels, levelLabels]);

  const size = series.reduce((sum, each) => sum + each.values.length, 0);
  useEffect(() => plot.current?.setData(latest.current), [size]);

  return (
    <figure className="sheet chart">
      <figcaption>
        <h3>{title}</h3>
        <span className="soft small">
          {meaning}{' '}
          {series.map((each) => (
            <SeriesEnds key={each.label} of={each} isAlone={series.length === 1} />
          ))}
          {levels.map((level) => (
            <span key={level.label}>
              {level.label}: <strong>{short(level.value)}</strong>{' '}
            </span>
          ))}
        </span>
      </figcaption>
      <div className="canvas" ref={host} aria-hidden="true" />
    </figure>
  );
}

/** A text description of the chart. */
function SeriesEnds({ of: { label, values }, isAlone }: { readonly of: Series; readonly isAlone: boolean }) {
  const first = values[0];
  const last = values.at(-1);
  if (first === undefined || last === undefined) return <span>No value yet. </span>;
  return (
    <span>
      {isAlone ? '' : `${label}: `}
      <strong>
        {short(first)} → {short(last)}
      </strong>{' '}
    </span>
  );
}

function alignedData(series: readonly Series[], levels: readonly Level[]): uPlot.AlignedData {
  const tables = series.map((each): uPlot.AlignedData => [[...each.steps], [...each.values]]);
  const joined =
    tables.length === 1 && tables[0] !== undefined
      ? tables[0]
      : tables.length === 0
        ? ([[]] satisfies uPlot.AlignedData)
        : uPlot.join(tables);
  return [joined[0], ...joined.slice(1), ...levels.map(({ value }) => Array.from(joined[0], () => value))];
}

function optionsFor(element: HTMLElement, labels: readonly string[], levelLabels: readonly string[]): uPlot.Options {
  const colour = (name: string): string => resolve(element, name);
  const grid = { stroke: colour('--line'), width: 1 };
  const axis = { stroke: colour('--ink-soft'), grid, ticks: grid, font: '11px system-ui, sans-serif' };
  return {
    width: element.clientWidth,
    height: HEIGHT_PX,
    legend: { show: labels.length + levelLabels.length > 1, live: false },
    cursor: { drag: { x: true, y: false } },
    scales: { x: { time: false } },
    axes: [
      { ...axis, size: 28 },
      { ...axis, size: 56, values: (_plot, splits) => splits.map((value) => short(value)) },
    ],
    series: [
      { label: 'step' },
      ...labels.map((label, index) => ({
        label,
        stroke: colour(COLOURS[index % COLOURS.length] ?? '--accent'),
        width: 1.5,
        spanGaps: true,
      })),
      ...levelLabels.map((label, index) => ({
        label,
        stroke: colour(LEVEL_COLOURS[index % LEVEL_COLOURS.length] ?? '--warn'),
        width: 1,
        dash: [5, 4],
        points: { show: false },
      })),
    ],
  };
}

/** A colour of the style sheet in a form for canvas, for the current theme. */
function resolve(element: HTMLElement, name: string): string {
  const probe = document.createElement('span');
  probe.style.color = `var(${name})`;
  element.append(probe);
  const { color } = getComputedStyle(probe);
  probe.remove();
  return color;
}
