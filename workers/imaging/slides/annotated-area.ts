/**
 * How much of each patch lies in the regions of each label. Areas are summed over scan lines: exact across, and by 64
 * lines down a patch, so an edge costs at most 1/128 of a patch. Lines give the union of overlapping polygons, holes
 * and outlines that cross themselves without a clipping library, which takes pairs of polygons one at a time. Pure.
 */
import type { Region } from './annotations.ts';

export interface Rectangle {
  readonly x: number;
  readonly y: number;
}

/** Shares of a patch, 0..1. */
export interface PatchShares {
  readonly byLabel: ReadonlyMap<string, number>;
  /** In no region. */
  readonly outside: number;
}

const LINES_PER_PATCH = 64;
/** Ends of intervals, ascending: from, to, from, to. */
type Intervals = readonly number[];

/** @param size of all patches, in pixels of level 0. */
export function sharesOf(
  regions: readonly Region[],
  patches: readonly Rectangle[],
  size: { readonly width: number; readonly height: number },
): PatchShares[] {
  const bands = bandsOf(regions, size.height);
  const rows = Map.groupBy(patches.keys(), (index) => patches[index]?.y ?? 0);
  const shares = patches.map(() => ({ byLabel: new Map<string, number>(), inside: 0 }));
  const sample = 1 / (LINES_PER_PATCH * size.width);
  for (const [top, indices] of rows) {
    const edges = [
      ...new Set(bandNumbers(top, top + size.height, size.height).flatMap((band) => bands.get(band) ?? [])),
    ];
    if (edges.length === 0) continue;
    for (let line = 0; line < LINES_PER_PATCH; line += 1) {
      const byLabel = intervalsAt(regions, edges, top + ((line + 0.5) * size.height) / LINES_PER_PATCH);
      const all = united([...byLabel.values()]);
      for (const index of indices) {
        const share = shares[index];
        const left = patches[index]?.x ?? 0;
        if (share === undefined) continue;
        share.inside += lengthWithin(all, left, left + size.width) * sample;
        for (const [label, intervals] of byLabel) {
          const length = lengthWithin(intervals, left, left + size.width);
          if (length > 0) share.byLabel.set(label, (share.byLabel.get(label) ?? 0) + length * sample);
        }
      }
    }
  }
  return shares.map(({ byLabel, inside }) => ({ byLabel, outside: Math.max(0, 1 - inside) }));
}

interface Edge {
  /** Index of its region. */
  readonly region: number;
  readonly x1: number;
  readonly y1: number;
  readonly x2: number;
  readonly y2: number;
}

/** Edges by the horizontal bands that they touch, so that a row of patches looks at its own edges alone. */
function bandsOf(regions: readonly Region[], height: number): ReadonlyMap<number, readonly Edge[]> {
  const bands = new Map<number, Edge[]>();
  for (const [region, { rings }] of regions.entries())
    for (const ring of rings)
      for (let at = 0; at < ring.length; at += 2) {
        const next = (at + 2) % ring.length;
        const [x1, y1] = [ring[at] ?? 0, ring[at + 1] ?? 0];
        const [x2, y2] = [ring[next] ?? 0, ring[next + 1] ?? 0];
        if (y1 === y2) continue;
        const edge = { region, x1, y1, x2, y2 };
        for (const band of bandNumbers(Math.min(y1, y2), Math.max(y1, y2), height)) {
          const held = bands.get(band);
          if (held === undefined) bands.set(band, [edge]);
          else held.push(edge);
        }
      }
  return bands;
}

/** A polygon far off the slide must not fill the memory with bands. */
const BAND_MAX = 1_000_000;

function bandNumbers(top: number, bottom: number, height: number): number[] {
  const within = (value: number): number => Math.min(BAND_MAX, Math.max(-1, Math.floor(value / height)));
  const first = within(top);
  return Array.from({ length: within(bottom) - first + 1 }, (_, index) => first + index);
}

/** The inside of each label on a horizontal line. */
function intervalsAt(regions: readonly Region[], edges: readonly Edge[], y: number): ReadonlyMap<string, Intervals> {
  const crossings = new Map<number, number[]>();
  for (const { region, x1, y1, x2, y2 } of edges) {
    // Half open, so that a vertex on the line counts once.
    if (y < Math.min(y1, y2) || y >= Math.max(y1, y2)) continue;
    const x = x1 + ((y - y1) / (y2 - y1)) * (x2 - x1);
    const held = crossings.get(region);
    if (held === undefined) crossings.set(region, [x]);
    else held.push(x);
  }
  const inside = new Map<string, { areas: Intervals[]; holes: Intervals[] }>();
  for (const [index, xs] of crossings) {
    const region = regions[index];
    if (region === undefined) continue;
    const parts = inside.get(region.label) ?? { areas: [], holes: [] };
    inside.set(region.label, parts);
    parts[region.isHole ? 'holes' : 'areas'].push(xs.sort((a, b) => a - b));
  }
  return new Map([...inside].map(([label, { areas, holes }]) => [label, without(united(areas), united(holes))]));
}

function united(parts: readonly Intervals[]): Intervals {
  if (parts.length <= 1) return parts[0] ?? [];
  const spans = parts
    .flatMap((ends) =>
      Array.from({ length: ends.length / 2 }, (_, k) => [ends[2 * k] ?? 0, ends[2 * k + 1] ?? 0] as const),
    )
    .sort(([a], [b]) => a - b);
  const ends: number[] = [];
  for (const [from, to] of spans) {
    const last = ends.at(-1);
    if (last === undefined || from > last) ends.push(from, to);
    else ends[ends.length - 1] = Math.max(last, to);
  }
  return ends;
}

function without(area: Intervals, holes: Intervals): Intervals {
  if (holes.length === 0) return area;
  const ends: number[] = [];
  for (let at = 0; at < area.length; at += 2) {
    let from = area[at] ?? 0;
    const to = area[at + 1] ?? 0;
    for (let hole = 0; hole < holes.length; hole += 2) {
      const [start, end] = [holes[hole] ?? 0, holes[hole + 1] ?? 0];
      if (end <= from || start >= to) continue;
      if (start > from) ends.push(from, start);
      from = Math.max(from, end);
    }
    if (from < to) ends.push(from, to);
  }
  return ends;
}

function lengthWithin(intervals: Intervals, left: number, right: number): number {
  // The first interval that ends behind `left`.
  let [low, high] = [0, intervals.length / 2];
  while (low < high) {
    const middle = Math.floor((low + high) / 2);
    if ((intervals[2 * middle + 1] ?? 0) <= left) low = middle + 1;
    else high = middle;
  }
  let length = 0;
  for (let at = 2 * low; at < intervals.length; at += 2) {
    const from = intervals[at] ?? 0;
    if (from >= right) break;
    length += Math.max(0, Math.min(right, intervals[at + 1] ?? 0) - Math.max(left, from));
  }
  return length;
}

/**
 * Where a ring crosses itself; null if it does not. Edges are taken by their left end, and compared with those that
 * still reach as far: for an outline this is close to the number of vertices.
 */
export function selfCrossingOf(ring: Float64Array): { readonly x: number; readonly y: number } | null {
  const count = ring.length / 2;
  const point = (index: number): readonly [number, number] => [
    ring[2 * (index % count)] ?? 0,
    ring[2 * (index % count) + 1] ?? 0,
  ];
  const edges = Array.from({ length: count }, (_, index) => {
    const [[x1, y1], [x2, y2]] = [point(index), point(index + 1)];
    return { index, x1, y1, x2, y2, left: Math.min(x1, x2), right: Math.max(x1, x2) };
  }).sort((a, b) => a.left - b.left);
  let active: typeof edges = [];
  for (const edge of edges) {
    active = active.filter(({ right }) => right >= edge.left);
    for (const other of active) {
      const apart = Math.abs(edge.index - other.index);
      if (apart === 1 || apart === count - 1) continue;
      const a = side(edge, other.x1, other.y1) * side(edge, other.x2, other.y2);
      const b = side(other, edge.x1, edge.y1) * side(other, edge.x2, edge.y2);
      if (a < 0 && b < 0) return { x: Math.round(edge.x1), y: Math.round(edge.y1) };
    }
    active.push(edge);
  }
  return null;
}

/** On which side of an edge a point lies: above 0, below 0, or 0 on it. */
function side(edge: Omit<Edge, 'region'>, x: number, y: number): number {
  return Math.sign((edge.x2 - edge.x1) * (y - edge.y1) - (edge.y2 - edge.y1) * (x - edge.x1));
}
