/** A canvas of two stains: it stores the amount of each bound stain, and light is absorbed by the Beer-Lambert law. */

/** Uniform 0..1. */
export type Draw = () => number;

/** A small generator for pictures (mulberry32): the same seed draws the same tissue. */
export function createDraw(seed: number): Draw {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let word = Math.imul(state ^ (state >>> 15), state | 1);
    word ^= word + Math.imul(word ^ (word >>> 7), word | 61);
    return ((word ^ (word >>> 14)) >>> 0) / 4_294_967_296;
  };
}

export function between(draw: Draw, low: number, high: number): number {
  return low + (high - low) * draw();
}

/** Smooth noise 0..1 over the plane, with a detail of one unit. */
export type Noise = (x: number, y: number) => number;

export function createNoise(draw: Draw): Noise {
  const lattice = Float32Array.from({ length: 4096 }, draw);
  const at = (x: number, y: number): number => lattice[((Math.imul(x, 73) + Math.imul(y, 1597)) & 4095) >>> 0] ?? 0;
  return (x, y) => {
    const left = Math.floor(x);
    const top = Math.floor(y);
    const u = smooth(x - left);
    const v = smooth(y - top);
    const upper = at(left, top) * (1 - u) + at(left + 1, top) * u;
    const lower = at(left, top + 1) * (1 - u) + at(left + 1, top + 1) * u;
    return upper * (1 - v) + lower * v;
  };
}

function smooth(t: number): number {
  return t * t * (3 - 2 * t);
}

export interface Canvas {
  readonly sizePx: number;
  /** Stain bound at each pixel, `[sizePx, sizePx]`. */
  readonly haematoxylin: Float32Array;
  readonly eosin: Float32Array;
}

export function createCanvas(sizePx: number): Canvas {
  return { sizePx, haematoxylin: new Float32Array(sizePx * sizePx), eosin: new Float32Array(sizePx * sizePx) };
}

export interface Blob {
  readonly x: number;
  readonly y: number;
  /** Half axes in pixels; the longer lies along `angle` (radians). */
  readonly longPx: number;
  readonly shortPx: number;
  readonly angle: number;
  /** 0 = an ellipse; 0.3 = a ragged outline. */
  readonly raggedness: number;
  readonly phase: number;
}

/**
 * Visits the pixels of a blob. `depth` is 1 at the centre and 0 at the outline; `cover` falls from 1 to 0 over the last
 * pixel, so that edges are soft.
 */
export function fillBlob(
  canvas: Canvas,
  blob: Blob,
  paint: (index: number, depth: number, cover: number, x: number, y: number) => void,
): void {
  const { sizePx } = canvas;
  const reach = blob.longPx * (1 + blob.raggedness) + 2;
  const cos = Math.cos(blob.angle);
  const sin = Math.sin(blob.angle);
  for (let y = Math.max(0, Math.floor(blob.y - reach)); y < Math.min(sizePx, blob.y + reach); y += 1) {
    for (let x = Math.max(0, Math.floor(blob.x - reach)); x < Math.min(sizePx, blob.x + reach); x += 1) {
      const along = ((x - blob.x) * cos + (y - blob.y) * sin) / blob.longPx;
      const across = ((y - blob.y) * cos - (x - blob.x) * sin) / blob.shortPx;
      let radius = Math.hypot(along, across);
      if (blob.raggedness > 0) {
        const theta = Math.atan2(across, along);
        radius /=
          1 + blob.raggedness * (0.6 * Math.sin(2 * theta + blob.phase) + 0.4 * Math.sin(5 * theta + 2 * blob.phase));
      }
      const cover = Math.min(1, (1 - radius) * blob.shortPx + 0.5);
      if (cover > 0) paint(y * sizePx + x, Math.max(0, 1 - radius), cover, x, y);
    }
  }
}

/** The staining of one laboratory on one scanner: absorption of red, green, blue per unit of each stain. */
export interface Stain {
  readonly haematoxylin: readonly [number, number, number];
  readonly eosin: readonly [number, number, number];
  /** Mean amount of each stain over an image. */
  readonly haematoxylinMean: number;
  readonly eosinMean: number;
  /** 0..255, of empty glass. */
  readonly glass: number;
}

/** Ruifrok and Johnston's vectors with random variation, as between laboratories. */
export function drawStain(draw: Draw): Stain {
  const perturbed = (value: number): number => value * between(draw, 0.88, 1.12);
  return {
    haematoxylin: [perturbed(0.65), perturbed(0.7), perturbed(0.29)],
    eosin: [perturbed(0.07), perturbed(0.99), perturbed(0.25)],
    haematoxylinMean: between(draw, 0.3, 0.42),
    eosinMean: between(draw, 0.34, 0.46),
    glass: between(draw, 238, 248),
  };
}

/**
 * The picture, RGB uint8 `[sizePx, sizePx, 3]`. Stain amounts are drawn towards the laboratory's means, so that the
 * mean colour of an image contains little information about its content.
 */
export function renderTissue(canvas: Canvas, stain: Stain, draw: Draw): Buffer {
  const strength = (amounts: Float32Array, target: number): number => {
    const mean = amounts.reduce((sum, amount) => sum + amount, 0) / amounts.length;
    return Math.min(1.5, Math.max(0.62, target / Math.max(mean, 1e-3))) * between(draw, 0.93, 1.07);
  };
  const haematoxylinStrength = strength(canvas.haematoxylin, stain.haematoxylinMean);
  const eosinStrength = strength(canvas.eosin, stain.eosinMean);
  const grain = createNoise(draw);
  const pixels = Buffer.alloc(canvas.haematoxylin.length * 3);
  for (let index = 0; index < canvas.haematoxylin.length; index += 1) {
    const haematoxylin = (canvas.haematoxylin[index] ?? 0) * haematoxylinStrength;
    const eosin = (canvas.eosin[index] ?? 0) * eosinStrength;
    const noise = (grain((index % canvas.sizePx) * 0.9, Math.floor(index / canvas.sizePx) * 0.9) - 0.5) * 9;
    for (const channel of [0, 1, 2] as const) {
      const light = Math.exp(-(stain.haematoxylin[channel] * haematoxylin + stain.eosin[channel] * eosin));
      pixels[index * 3 + channel] = Math.min(255, Math.max(0, Math.round(stain.glass * light + noise)));
    }
  }
  return pixels;
}
