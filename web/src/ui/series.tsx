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
  /** A level to compare with, e.g. where an encoder has collapsed. */
  readonly level?: { readonly value: number; readonly label: string };
}

const HEIGHT_PX = 190;
const COLOURS = ['--series-1', '--series-2'] as const;

export function SeriesChart({ title, meaning, series, level }: SeriesChartProps) {
  const host = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot>(undefined);
  const labels = series.map((each) => each.label).join('\n');
  const data = alignedData(series, level?.value);
  const latest = useRef(data);
  latest.current = data;

  useEffect(() => {
    const element = host.current;
    if (element === null) return undefined;
    const draw = (): void => {
      plot.current?.destroy();
      plot.current = new uPlot(optionsFor(element, labels.split('\n'), level?.label), latest.current, element);
    };
    draw();
    const observer = new ResizeObserver(() => plot.current?.setSize({ width: element.clientWidth, height: HEIGHT_PX }));
    observer.observe(element);
    // Colours are read when drawn: a change of theme, here or of the machine, draws again.
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
  }, [labels, level?.label]);

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
        </span>
      </figcaption>
      <div className="canvas" ref={host} aria-hidden="true" />
    </figure>
  );
}

/** The picture in words. */
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

function alignedData(series: readonly Series[], level: number | undefined): uPlot.AlignedData {
  const tables = series.map((each): uPlot.AlignedData => [[...each.steps], [...each.values]]);
  const joined =
    tables.length === 1 && tables[0] !== undefined
      ? tables[0]
      : tables.length === 0
        ? ([[]] satisfies uPlot.AlignedData)
        : uPlot.join(tables);
  return level === undefined ? joined : [joined[0], ...joined.slice(1), Array.from(joined[0], () => level)];
}

function optionsFor(element: HTMLElement, labels: readonly string[], levelLabel: string | undefined): uPlot.Options {
  const colour = (name: string): string => resolve(element, name);
  const grid = { stroke: colour('--line'), width: 1 };
  const axis = { stroke: colour('--ink-soft'), grid, ticks: grid, font: '11px system-ui, sans-serif' };
  return {
    width: element.clientWidth,
    height: HEIGHT_PX,
    legend: { show: labels.length > 1 || levelLabel !== undefined, live: false },
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
      ...(levelLabel === undefined
        ? []
        : [{ label: levelLabel, stroke: colour('--warn'), width: 1, dash: [5, 4], points: { show: false } }]),
    ],
  };
}

/** A colour of the style sheet as a canvas takes it, for the theme of now. */
function resolve(element: HTMLElement, name: string): string {
  const probe = document.createElement('span');
  probe.style.color = `var(${name})`;
  element.append(probe);
  const { color } = getComputedStyle(probe);
  probe.remove();
  return color;
}
