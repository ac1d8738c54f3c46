/** Whether an image looks like an annotation rather than a photograph. Pure. */
import type { Pixels } from './pixels.ts';

/** MASK: a few flat tones. CONSTANT: one tone, as in an empty mask or on empty glass. */
export const FLATNESSES = ['PICTURE', 'MASK', 'CONSTANT'] as const;
export type Flatness = (typeof FLATNESSES)[number];

/** More than the classes of a mask; a photograph has as many colours within its first rows. */
const COLOURS_MAX = 16;
/**
 * A mask has areas of one colour. In a photograph that was reduced to a few colours, few pixels equal their neighbours.
 */
const EQUAL_NEIGHBOURS_MIN = 0.75;
/** Glass has few tones too, but all of them are bright. */
const DARKEST_MAX = 127;
/** A black and white mask after JPEG compression: two tones that are far apart, with few pixels in between. */
const GREY_SPREAD_MAX = 8;
const TONE_WIDTH = 12;
const TONES_APART_MIN = 64;
const BETWEEN_SHARE_MAX = 0.05;
const TONE_SHARE_MIN = 0.005;

/**
 * Classifies an image by all of its pixels. MASK: even areas of at most 16 colours, of which at least one is dark, or
 * two tones of grey that a lossy codec has blurred.
 */
export function flatnessOf({ data, width }: Pixels): Flatness {
  const colours = new Set<number>();
  let darkest = 255;
  for (let offset = 0; offset < data.length && colours.size <= COLOURS_MAX; offset += 3) {
    const [red = 0, green = 0, blue = 0] = [data[offset], data[offset + 1], data[offset + 2]];
    colours.add((red << 16) | (green << 8) | blue);
    darkest = Math.min(darkest, red, green, blue);
  }
  if (colours.size === 1) return 'CONSTANT';
  if (colours.size <= COLOURS_MAX)
    return darkest <= DARKEST_MAX && equalNeighbourShare(data, width) >= EQUAL_NEIGHBOURS_MIN ? 'MASK' : 'PICTURE';
  return hasTwoGreyTones(data) ? 'MASK' : 'PICTURE';
}

/** Share of the pixels that equal the pixel to their right, 0..1. */
function equalNeighbourShare(data: Buffer, width: number): number {
  let pairCount = 0;
  let equalCount = 0;
  for (let pixel = 1; pixel < data.length / 3; pixel += 1) {
    if (pixel % width === 0) continue;
    pairCount += 1;
    const offset = pixel * 3;
    if (data.compare(data, offset - 3, offset, offset, offset + 3) === 0) equalCount += 1;
  }
  return equalCount / Math.max(1, pairCount);
}

function hasTwoGreyTones(data: Buffer): boolean {
  const counts = new Float64Array(256);
  let least = 255;
  let greatest = 0;
  for (let offset = 0; offset < data.length; offset += 3) {
    const [red = 0, green = 0, blue = 0] = [data[offset], data[offset + 1], data[offset + 2]];
    if (Math.max(red, green, blue) - Math.min(red, green, blue) > GREY_SPREAD_MAX) return false;
    counts[green] = (counts[green] ?? 0) + 1;
    least = Math.min(least, green);
    greatest = Math.max(greatest, green);
  }
  if (greatest - least < TONES_APART_MIN) return false;
  const share = (from: number, to: number): number =>
    counts.subarray(from, to).reduce((sum, count) => sum + count, 0) / (data.length / 3);
  const [dark, bright] = [share(0, least + TONE_WIDTH), share(greatest - TONE_WIDTH, 256)];
  return dark >= TONE_SHARE_MIN && bright >= TONE_SHARE_MIN && dark + bright >= 1 - BETWEEN_SHARE_MAX;
}
