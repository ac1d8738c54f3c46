/** Whether an image shows tissue. */
import type { Pixels } from './pixels.ts';

/** Samples taken of an image of any size. */
const SAMPLES = 4096;
/** Glass is bright and without colour. A stain this pale occurs only where there is hardly any tissue. */
const GLASS_BRIGHTNESS_MIN = 200;
const GLASS_COLOUR_SPREAD_MAX = 25;
/** Padding that scanners add. */
const BLACK_MAX = 24;
/**
 * Fat and mucus cover 4 % and more of a patch; empty glass with dust up to 1.5 % (patches of Kather 2016 and
 * NCT-CRC-HE).
 */
export const TISSUE_SHARE_MIN = 0.03;
/** Standard deviation of the luma, in 8-bit steps. Real tissue has more than 6 even when it is out of focus. */
export const LUMA_DEVIATION_MIN = 3;

/**
 * True if less than 3 % of the pixels are neither glass (every channel at least 200, and channels at most 25 apart) nor
 * black padding, or if the image has one tone (luma deviation below 3). Examines about 4,096 pixels on a grid. Pen
 * strokes count as content, because a colour rule that excluded every marker would also exclude green and blue stains:
 * a thin line on glass is blank, a broad stroke is not.
 */
export function isNearlyBlank({ data, width, height }: Pixels): boolean {
  const stepPx = Math.max(1, Math.floor(Math.sqrt((width * height) / SAMPLES)));
  let count = 0;
  let tissueCount = 0;
  let sum = 0;
  let squares = 0;
  for (let y = stepPx >> 1; y < height; y += stepPx) {
    for (let x = stepPx >> 1; x < width; x += stepPx) {
      const offset = (y * width + x) * 3;
      const red = data[offset] ?? 0;
      const green = data[offset + 1] ?? 0;
      const blue = data[offset + 2] ?? 0;
      const brightest = Math.max(red, green, blue);
      const darkest = Math.min(red, green, blue);
      const isGlass = darkest >= GLASS_BRIGHTNESS_MIN && brightest - darkest <= GLASS_COLOUR_SPREAD_MAX;
      if (!isGlass && brightest >= BLACK_MAX) tissueCount += 1;
      const luma = 0.299 * red + 0.587 * green + 0.114 * blue;
      sum += luma;
      squares += luma * luma;
      count += 1;
    }
  }
  const mean = sum / count;
  const deviation = Math.sqrt(Math.max(0, squares / count - mean * mean));
  return tissueCount / count < TISSUE_SHARE_MIN || deviation < LUMA_DEVIATION_MIN;
}
