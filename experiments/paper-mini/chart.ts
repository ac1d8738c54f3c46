/** Draws values with their intervals as a self-contained SVG, without an external font, script or style. */

export interface ChartPoint {
  readonly value: number;
  readonly low: number;
  readonly high: number;
}

export interface ChartSeries {
  readonly name: string;
  /** One for each position on the horizontal axis; null if there is none. */
  readonly points: readonly (ChartPoint | null)[];
}

export interface Chart {
  readonly title: string;
  readonly valueLabel: string;
  readonly places: readonly string[];
  readonly series: readonly ChartSeries[];
  /** The points of a series are joined by a line. */
  readonly joined: boolean;
}

const WIDTH = 860;
const HEIGHT = 440;
const LEFT = 70;
const RIGHT = 20;
const TOP = 50;
const BOTTOM = 110;
/** Colours that people with colour vision deficiencies can distinguish (Okabe and Ito 2008). */
const COLOURS = ['#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#56b4e9'];

/** The vertical axis goes from 0 to 1. */
export function drawChart({ title, valueLabel, places, series, joined }: Chart): string {
  const step = (WIDTH - LEFT - RIGHT) / places.length;
  const y = (value: number): number => TOP + (HEIGHT - TOP - BOTTOM) * (1 - value);
  const parts: string[] = [];
  for (const tick of [0, 0.2, 0.4, 0.6, 0.8, 1]) {
    parts.push(
      `<line x1="${LEFT}" y1="${y(tick)}" x2="${WIDTH - RIGHT}" y2="${y(tick)}" stroke="#ddd"/>`,
      label(LEFT - 8, y(tick) + 4, tick.toFixed(1), 'end'),
    );
  }
  for (const [place, name] of places.entries())
    parts.push(label(LEFT + (place + 0.5) * step, HEIGHT - BOTTOM + 20, name, 'middle'));
  for (const [index, { name, points }] of series.entries()) {
    const colour = COLOURS[index % COLOURS.length] ?? '#000';
    const x = (place: number): number =>
      LEFT + (place + 0.5) * step + (index - (series.length - 1) / 2) * Math.min(16, step / (series.length + 1));
    const drawn = points.flatMap((point, place) => (point === null ? [] : [{ ...point, x: x(place) }]));
    if (joined)
      parts.push(
        `<polyline fill="none" stroke="${colour}" stroke-width="2" points="${drawn.map((point) => `${point.x.toFixed(1)},${y(point.value).toFixed(1)}`).join(' ')}"/>`,
      );
    for (const point of drawn) {
      parts.push(
        `<line x1="${point.x.toFixed(1)}" y1="${y(point.low).toFixed(1)}" x2="${point.x.toFixed(1)}" y2="${y(point.high).toFixed(1)}" stroke="${colour}" stroke-width="1.5"/>`,
      );
      parts.push(`<circle cx="${point.x.toFixed(1)}" cy="${y(point.value).toFixed(1)}" r="4" fill="${colour}"/>`);
    }
    const column = index % 2;
    const top = HEIGHT - BOTTOM + 48 + Math.floor(index / 2) * 20;
    parts.push(
      `<circle cx="${LEFT + column * 380}" cy="${top - 4}" r="5" fill="${colour}"/>`,
      label(LEFT + column * 380 + 12, top, name, 'start'),
    );
  }
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" width="${WIDTH}" height="${HEIGHT}" font-family="DejaVu Sans, Arial, sans-serif" font-size="13">`,
    `<rect width="${WIDTH}" height="${HEIGHT}" fill="#fff"/>`,
    `<text x="${LEFT}" y="26" font-size="16" font-weight="bold">${escapeXml(title)}</text>`,
    `<text x="16" y="${(TOP + HEIGHT - BOTTOM) / 2}" text-anchor="middle" transform="rotate(-90 16 ${(TOP + HEIGHT - BOTTOM) / 2})">${escapeXml(valueLabel)}</text>`,
    ...parts,
    '</svg>',
    '',
  ].join('\n');
}

function label(x: number, y: number, text: string, anchor: 'start' | 'middle' | 'end'): string {
  return `<text x="${x.toFixed(1)}" y="${y.toFixed(1)}" text-anchor="${anchor}">${escapeXml(text)}</text>`;
}

function escapeXml(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;');
}
