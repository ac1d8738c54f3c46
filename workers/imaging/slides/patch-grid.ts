/** Which patches of a slide are taken: those of a regular grid with enough tissue, at most so many, evenly. Pure. */
import { createHash } from 'node:crypto';
import type { SlideOptions } from '../../../src/protocol/slide-options.ts';
import { level0SizeOf, type SlideGeometry } from './geometry.ts';
import { OVERVIEW_MICRONS_PER_PIXEL, type TissueMask } from './tissue.ts';

/** A patch by its top left corner in pixels of level 0. */
export interface PatchPlace {
  readonly x: number;
  readonly y: number;
  /** Share of the patch that is tissue, 0..1. */
  readonly tissueFraction: number;
}

/** All patches of the grid with enough tissue, row by row from the top left. A patch lies wholly on the slide. */
export function patchesOn(
  geometry: SlideGeometry,
  mask: TissueMask,
  patchSizePx: number,
  { micronsPerPixel, overlapPx, tissueShareMin }: SlideOptions,
): PatchPlace[] {
  const { width: slideWidth = 0, height: slideHeight = 0 } = geometry.levels[0] ?? {};
  const size = level0SizeOf(geometry, { micronsPerPixel, patchSizePx });
  const step = level0SizeOf(geometry, { micronsPerPixel, patchSizePx: patchSizePx - overlapPx });
  const tissueIn = tissueCounter(mask);
  const [toMaskX, toMaskY] = [
    geometry.micronsPerPixel.x / OVERVIEW_MICRONS_PER_PIXEL,
    geometry.micronsPerPixel.y / OVERVIEW_MICRONS_PER_PIXEL,
  ];
  const places: PatchPlace[] = [];
  for (let row = 0; row * step.height + size.height <= slideHeight; row += 1) {
    for (let column = 0; column * step.width + size.width <= slideWidth; column += 1) {
      const [x, y] = [Math.floor(column * step.width), Math.floor(row * step.height)];
      const [right, bottom] = [(x + size.width) * toMaskX, (y + size.height) * toMaskY];
      const tissueFraction = tissueIn(x * toMaskX, y * toMaskY, right, bottom);
      if (tissueFraction > 0 && tissueFraction >= tissueShareMin) places.push({ x, y, tissueFraction });
    }
  }
  return places;
}

/** Answers how much of a rectangle is tissue in constant time, by a table of sums. */
function tissueCounter({ data, width, height }: TissueMask) {
  const stride = width + 1;
  const sums = new Uint32Array(stride * (height + 1));
  for (let y = 0; y < height; y += 1) {
    let row = 0;
    for (let x = 0; x < width; x += 1) {
      row += data[y * width + x] ?? 0;
      sums[(y + 1) * stride + x + 1] = (sums[y * stride + x + 1] ?? 0) + row;
    }
  }
  const clamped = (value: number, most: number): number => Math.min(most, Math.max(0, value));
  return (left: number, top: number, right: number, bottom: number): number => {
    const x0 = clamped(Math.floor(left + 0.5), width - 1);
    const y0 = clamped(Math.floor(top + 0.5), height - 1);
    const x1 = clamped(Math.max(x0 + 1, Math.floor(right + 0.5)), width);
    const y1 = clamped(Math.max(y0 + 1, Math.floor(bottom + 0.5)), height);
    const at = (x: number, y: number): number => sums[y * stride + x] ?? 0;
    return (at(x1, y1) - at(x0, y1) - at(x1, y0) + at(x0, y0)) / ((x1 - x0) * (y1 - y0));
  };
}

/**
 * At most `most` of the places, spread evenly over them: every n-th along a Hilbert curve, on which neighbours stay
 * neighbours, from a start that the seed and the slide's name give. The same names and seed give the same patches.
 * @returns in the order of `places`.
 */
export function drawEvenly(
  places: readonly PatchPlace[],
  most: number | null,
  seed: number,
  slide: string,
): readonly PatchPlace[] {
  if (most === null || places.length <= most) return places;
  const farthest = places.reduce((far, { x, y }) => Math.max(far, x, y), 1);
  const order = Math.ceil(Math.log2(farthest + 1));
  const along = places
    .map((place, index) => ({ index, distance: hilbertDistance(place.x, place.y, order) }))
    .sort((a, b) => a.distance - b.distance);
  const start = createHash('sha256').update(`${seed}\0${slide}`).digest().readUInt32BE(0) / 2 ** 32;
  const drawn = Array.from({ length: most }, (_, turn) => along[Math.floor(((turn + start) * along.length) / most)]);
  return drawn
    .flatMap((each) => (each === undefined ? [] : [each.index]))
    .sort((a, b) => a - b)
    .flatMap((index) => places[index] ?? []);
}

/** Cells of the grid along each side of a block. */
const BLOCK_CELLS = 8;

/**
 * The places block by block of 8 x 8 cells of the grid, and row by row within each. Neighbours share tiles of the
 * slide: a block shares those along its border with other blocks, and a row of the grid would share all of its length.
 * @param step from one patch of the grid to the next, in pixels of level 0.
 */
export function inBlocks(
  places: readonly PatchPlace[],
  step: { readonly width: number; readonly height: number },
): readonly PatchPlace[] {
  const blockOf = (px: number, stepPx: number): number => Math.floor((px + 1) / (stepPx * BLOCK_CELLS));
  return places
    .map((place, index) => ({
      ...{ place, index },
      row: blockOf(place.y, step.height),
      column: blockOf(place.x, step.width),
    }))
    .sort((a, b) => a.row - b.row || a.column - b.column || a.index - b.index)
    .map(({ place }) => place);
}

/** The length of Hilbert's curve of this order from its start to the cell (Hilbert, Math. Ann. 38:459, 1891). */
function hilbertDistance(cellX: number, cellY: number, order: number): number {
  let [x, y, distance] = [cellX, cellY, 0];
  for (let side = 2 ** (order - 1); side >= 1; side /= 2) {
    const [right, down] = [Math.floor(x / side) % 2, Math.floor(y / side) % 2];
    distance += side * side * ((3 * right) ^ down);
    [x, y] = [x % side, y % side];
    if (down === 0) {
      if (right === 1) [x, y] = [side - 1 - x, side - 1 - y];
      [x, y] = [y, x];
    }
  }
  return distance;
}
