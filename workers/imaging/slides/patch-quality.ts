/** Whether a patch of tissue can be used. Pure. */
import type { SlideOptions } from '../../../src/protocol/slide-options.ts';
import { isNearlyBlank } from '../blankness.ts';
import type { Pixels } from '../pixels.ts';
import { isPen } from './pen.ts';

export const PATCH_FLAWS = ['BLANK', 'PEN', 'OUT_OF_FOCUS'] as const;
export type PatchFlaw = (typeof PATCH_FLAWS)[number];

/** The first reason to leave a patch out; null if it is good. */
export function flawOf(patch: Pixels, { penShareMax, sharpnessMin }: SlideOptions): PatchFlaw | null {
  if (isNearlyBlank(patch)) return 'BLANK';
  if (penShareMax < 1 && penShareOf(patch) > penShareMax) return 'PEN';
  return sharpnessMin > 0 && sharpnessOf(patch) < sharpnessMin ? 'OUT_OF_FOCUS' : null;
}

/** 0..1. */
export function penShareOf({ data, width, height }: Pixels): number {
  let count = 0;
  for (let at = 0; at < data.length; at += 3)
    if (isPen(data[at] ?? 0, data[at + 1] ?? 0, data[at + 2] ?? 0)) count += 1;
  return count / (width * height);
}

/**
 * Standard deviation of the Laplacian (4 neighbours) of the luma, in 8-bit steps: how much fine detail there is
 * (Pech-Pacheco et al., ICPR 2000).
 */
export function sharpnessOf({ data, width, height }: Pixels): number {
  const luma = new Float32Array(width * height);
  for (let pixel = 0, at = 0; pixel < luma.length; pixel += 1, at += 3)
    luma[pixel] = 0.299 * (data[at] ?? 0) + 0.587 * (data[at + 1] ?? 0) + 0.114 * (data[at + 2] ?? 0);
  let [count, sum, squares] = [0, 0, 0];
  for (let y = 1; y < height - 1; y += 1)
    for (let x = 1; x < width - 1; x += 1) {
      const at = y * width + x;
      const value =
        (luma[at - 1] ?? 0) +
        (luma[at + 1] ?? 0) +
        (luma[at - width] ?? 0) +
        (luma[at + width] ?? 0) -
        4 * (luma[at] ?? 0);
      count += 1;
      sum += value;
      squares += value * value;
    }
  if (count === 0) return 0;
  const mean = sum / count;
  return Math.sqrt(Math.max(0, squares / count - mean * mean));
}
