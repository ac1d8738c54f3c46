/** Whether a patch of tissue can be used. Pure. */
import type { SlideOptions } from '../../../src/protocol/slide-options.ts';
import { isNearlyBlank } from '../blankness.ts';
import type { Pixels } from '../pixels.ts';
import { isPen } from './pen.ts';

export const PATCH_FLAWS = ['BLANK', 'PEN', 'OUT_OF_FOCUS'] as const;
export type PatchFlaw = (typeof PATCH_FLAWS)[number];

/** What flaws are found by, as whole numbers. */
export interface PatchMeasures {
  /** Pixels that look like ink. */
  readonly penCount: number;
  /**
   * Sum, and sum of squares, of the Laplacian (4 neighbours) of all pixels but those of the border: of luma in 1/256 of
   * an 8-bit step, 77 red + 150 green + 29 blue.
   */
  readonly laplacianSum: number;
  readonly laplacianSquares: number;
}

export type MeasurePatch = (patch: Pixels) => PatchMeasures;

const LUMA_STEPS = 256;

/**
 * The first reason to leave a patch out; null if it is good.
 * @param measure finds the same as `measureInScript`, which is the default.
 */
export function flawOf(
  patch: Pixels,
  { penShareMax, sharpnessMin }: SlideOptions,
  measure: MeasurePatch = measureInScript,
): PatchFlaw | null {
  if (isNearlyBlank(patch)) return 'BLANK';
  const measures = measure(patch);
  if (measures.penCount / (patch.width * patch.height) > penShareMax) return 'PEN';
  return sharpnessMin > 0 && sharpnessOf(measures, patch) < sharpnessMin ? 'OUT_OF_FOCUS' : null;
}

/**
 * Standard deviation of the Laplacian of the luma, in 8-bit steps: how much fine detail there is (Pech-Pacheco et al.,
 * ICPR 2000).
 */
function sharpnessOf({ laplacianSum, laplacianSquares }: PatchMeasures, { width, height }: Pixels): number {
  const count = Math.max(0, width - 2) * Math.max(0, height - 2);
  if (count === 0) return 0;
  const mean = laplacianSum / count;
  return Math.sqrt(Math.max(0, laplacianSquares / count - mean * mean)) / LUMA_STEPS;
}

/** `MeasurePatch` without native code. */
export function measureInScript({ data, width, height }: Pixels): PatchMeasures {
  const luma = new Int32Array(width * height);
  let penCount = 0;
  for (let pixel = 0, at = 0; pixel < luma.length; pixel += 1, at += 3) {
    const [red, green, blue] = [data[at] ?? 0, data[at + 1] ?? 0, data[at + 2] ?? 0];
    luma[pixel] = 77 * red + 150 * green + 29 * blue;
    if (isPen(red, green, blue)) penCount += 1;
  }
  let [laplacianSum, laplacianSquares] = [0, 0];
  for (let y = 1; y < height - 1; y += 1)
    for (let x = 1; x < width - 1; x += 1) {
      const at = y * width + x;
      const around = (luma[at - 1] ?? 0) + (luma[at + 1] ?? 0) + (luma[at - width] ?? 0) + (luma[at + width] ?? 0);
      const value = around - 4 * (luma[at] ?? 0);
      laplacianSum += value;
      laplacianSquares += value * value;
    }
  return { penCount, laplacianSum, laplacianSquares };
}
