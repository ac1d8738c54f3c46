/**
 * Where on a slide there is tissue. Otsu's threshold (IEEE Trans. SMC 9:62, 1979) in two passes on how coloured a pixel
 * is in optical density, at a fixed resolution, so that the result does not depend on the levels of a slide. Pure.
 *
 * Dust, air bubbles, the edge of the coverslip and shadows absorb all colours alike, and stain does not: the spread of
 * optical density over the channels tells them apart where brightness cannot.
 */
import type { Pixels } from '../pixels.ts';
import { isPen } from './pen.ts';

/** The resolution of the overview on which tissue is looked for: 12 px for 100 um. */
export const OVERVIEW_MICRONS_PER_PIXEL = 8;

export interface TissueMask {
  /** 1 for tissue, row by row. */
  readonly data: Uint8Array;
  readonly width: number;
  readonly height: number;
  /** The spread of optical density from which a pixel counts as stained. */
  readonly threshold: number;
  /** Shares of the overview, 0..1. */
  readonly tissueFraction: number;
  readonly penFraction: number;
}

/**
 * Without bounds Otsu's threshold would split the noise of an empty slide, and the tissue of a full one, into two
 * classes. As a spread of optical density: noise of two 8-bit steps on glass stays below 0.02, and pale eosin, such as
 * 236, 208, 224 (RGB) on white glass, has 0.05.
 */
const THRESHOLD_MIN = 0.035;
const THRESHOLD_MAX = 0.1;
/** Optical density 0.9 is the darkest that the histogram tells apart. */
const BIN_COUNT = 256;
const SPREAD_MAX = 0.9;
/** A square of 3 x 3 px: what is thinner than 24 um, such as edges and hairs, is not tissue. */
const OPENING_RADIUS_PX = 1;
/** Smaller specks are debris; smaller holes are lumina and fat, which belong to the tissue. */
const SPECK_AREA_MAX_UM2 = 40_000;
const HOLE_AREA_MAX_UM2 = 40_000;

/** @param overview RGB at OVERVIEW_MICRONS_PER_PIXEL. */
export function findTissue(overview: Pixels): TissueMask {
  const { width, height } = overview;
  const spread = densitySpreadOf(overview);
  const pen = penMaskOf(overview);
  const threshold = twoPassThreshold(spread, pen);
  const stained = new Uint8Array(width * height);
  for (let pixel = 0; pixel < stained.length; pixel += 1)
    stained[pixel] = (spread[pixel] ?? 0) > threshold && pen[pixel] === 0 ? 1 : 0;
  const pixelArea = OVERVIEW_MICRONS_PER_PIXEL ** 2;
  const opened = dilate(erode(stained, width, height, OPENING_RADIUS_PX), width, height, OPENING_RADIUS_PX);
  removeAreas(opened, width, 1, Math.floor(SPECK_AREA_MAX_UM2 / pixelArea));
  removeAreas(opened, width, 0, Math.floor(HOLE_AREA_MAX_UM2 / pixelArea));
  return {
    ...{ data: opened, width, height, threshold },
    tissueFraction: shareOf(opened),
    penFraction: shareOf(pen),
  };
}

/** Largest minus smallest optical density of a pixel's channels, against the glass of this slide. */
function densitySpreadOf(overview: Pixels): Float32Array {
  const densities = glassOf(overview).map((glass) =>
    Float32Array.from({ length: 256 }, (_, value) => Math.max(0, -Math.log10(Math.min(1, (value + 1) / (glass + 1))))),
  );
  const [ofRed = new Float32Array(256), ofGreen = ofRed, ofBlue = ofRed] = densities;
  const { data } = overview;
  const spread = new Float32Array(data.length / 3);
  for (let pixel = 0, at = 0; pixel < spread.length; pixel += 1, at += 3) {
    const red = ofRed[data[at] ?? 0] ?? 0;
    const green = ofGreen[data[at + 1] ?? 0] ?? 0;
    const blue = ofBlue[data[at + 2] ?? 0] ?? 0;
    spread[pixel] = Math.max(red, green, blue) - Math.min(red, green, blue);
  }
  return spread;
}

/** No channel of lit glass is darker. A slide without any glass is taken to have white glass. */
const GLASS_MIN = 190;

/** The most frequent bright value of each channel: the colour of the lamp through glass. */
function glassOf({ data }: Pixels): readonly [red: number, green: number, blue: number] {
  const mostFrequent = (channel: number): number => {
    const counts = new Uint32Array(256);
    for (let at = channel; at < data.length; at += 3) counts[data[at] ?? 0] = (counts[data[at] ?? 0] ?? 0) + 1;
    let best = 255;
    for (let value = 255; value >= GLASS_MIN; value -= 1) if ((counts[value] ?? 0) > (counts[best] ?? 0)) best = value;
    return best;
  };
  return [mostFrequent(0), mostFrequent(1), mostFrequent(2)];
}

/**
 * The first pass separates strong stain from the rest; the second pass, on the rest alone, finds the pale tissue that
 * strong stain elsewhere on the slide would hide.
 */
function twoPassThreshold(spread: Float32Array, pen: Uint8Array): number {
  const counts = new Float64Array(BIN_COUNT);
  for (let pixel = 0; pixel < spread.length; pixel += 1) {
    if (pen[pixel] === 1) continue;
    const bin = Math.min(BIN_COUNT - 1, Math.floor(((spread[pixel] ?? 0) / SPREAD_MAX) * BIN_COUNT));
    counts[bin] = (counts[bin] ?? 0) + 1;
  }
  const first = otsu(counts, BIN_COUNT);
  const second = otsu(counts, first);
  return Math.min(THRESHOLD_MAX, Math.max(THRESHOLD_MIN, (second / BIN_COUNT) * SPREAD_MAX));
}

/** The bin that separates the two classes of the first `binCount` bins with the greatest variance between them. */
export function otsu(counts: Float64Array, binCount: number): number {
  let [total, sum] = [0, 0];
  for (let bin = 0; bin < binCount; bin += 1) {
    total += counts[bin] ?? 0;
    sum += bin * (counts[bin] ?? 0);
  }
  let [below, sumBelow, best, bestVariance] = [0, 0, 0, -1];
  for (let bin = 0; bin < binCount; bin += 1) {
    below += counts[bin] ?? 0;
    sumBelow += bin * (counts[bin] ?? 0);
    const above = total - below;
    if (below === 0) continue;
    if (above === 0) break;
    const difference = sumBelow / below - (sum - sumBelow) / above;
    const variance = below * above * difference * difference;
    if (variance > bestVariance) [best, bestVariance] = [bin + 1, variance];
  }
  return best;
}

/** Ink that is recognised, and the pixels around it, where it is thin. */
function penMaskOf({ data, width, height }: Pixels): Uint8Array {
  const pen = new Uint8Array(width * height);
  for (let pixel = 0, at = 0; pixel < pen.length; pixel += 1, at += 3)
    pen[pixel] = isPen(data[at] ?? 0, data[at + 1] ?? 0, data[at + 2] ?? 0) ? 1 : 0;
  // Single pixels of such a colour are dust or noise, and not a stroke.
  return dilate(erode(pen, width, height, 1), width, height, 3);
}

function erode(mask: Uint8Array, width: number, height: number, radiusPx: number): Uint8Array {
  return extreme(mask, width, height, radiusPx, 0);
}

function dilate(mask: Uint8Array, width: number, height: number, radiusPx: number): Uint8Array {
  return extreme(mask, width, height, radiusPx, 1);
}

/** A pixel gets `value` if any pixel of the square around it has it. Outside of the overview nothing counts. */
function extreme(mask: Uint8Array, width: number, height: number, radiusPx: number, value: 0 | 1): Uint8Array {
  const other = 1 - value;
  const across = new Uint8Array(mask.length).fill(other);
  for (let y = 0; y < height; y += 1)
    for (let x = 0; x < width; x += 1) {
      const [from, to] = [Math.max(0, x - radiusPx), Math.min(width - 1, x + radiusPx)];
      for (let near = from; near <= to; near += 1)
        if (mask[y * width + near] === value) {
          across[y * width + x] = value;
          break;
        }
    }
  const result = new Uint8Array(mask.length).fill(other);
  for (let y = 0; y < height; y += 1)
    for (let x = 0; x < width; x += 1) {
      const [from, to] = [Math.max(0, y - radiusPx), Math.min(height - 1, y + radiusPx)];
      for (let near = from; near <= to; near += 1)
        if (across[near * width + x] === value) {
          result[y * width + x] = value;
          break;
        }
    }
  return result;
}

/**
 * Turns connected areas (4 neighbours) of `value` that have at most `areaMax` pixels into the other value. A search
 * ends as soon as its area is too large, because a list of all pixels of an empty slide would fill the heap.
 */
function removeAreas(mask: Uint8Array, width: number, value: 0 | 1, areaMax: number): void {
  const [FOUND, LARGE] = [1, 2];
  const states = new Uint8Array(mask.length);
  let area: number[] = [];
  let belongsToLarge = false;
  const visit = (pixel: number): void => {
    if (mask[pixel] !== value) return;
    if (states[pixel] === LARGE) belongsToLarge = true;
    if (states[pixel] !== 0) return;
    states[pixel] = FOUND;
    area.push(pixel);
  };
  for (let start = 0; start < mask.length; start += 1) {
    if (mask[start] !== value || states[start] !== 0) continue;
    area = [];
    belongsToLarge = false;
    visit(start);
    for (let next = 0; next < area.length && area.length <= areaMax && !belongsToLarge; next += 1) {
      const pixel = area[next] ?? 0;
      const x = pixel % width;
      if (x > 0) visit(pixel - 1);
      if (x < width - 1) visit(pixel + 1);
      visit(pixel - width);
      visit(pixel + width);
    }
    if (belongsToLarge || area.length > areaMax) for (const pixel of area) states[pixel] = LARGE;
    else for (const pixel of area) mask[pixel] = 1 - value;
  }
}

function shareOf(mask: Uint8Array): number {
  return mask.reduce((sum, value) => sum + value, 0) / Math.max(1, mask.length);
}
