/** The picture of a whole slide on which tissue is looked for. */
import type { Pixels } from '../pixels.ts';
import { levelFor, type SlideGeometry } from './geometry.ts';
import { SlideFault, type OpenedSlide } from './openslide.ts';
import { resample, type Mix } from './resample.ts';
import { OVERVIEW_MICRONS_PER_PIXEL } from './tissue.ts';

/** More would take minutes to decode: a slide without a pyramid. */
const LEVEL_PIXELS_MAX = 2 ** 30;
/** A slide of 20 x 8 cm at 8 um. */
const OVERVIEW_PIXELS_MAX = 250_000_000;
/** Pixels of a level that are in memory at once. */
const BAND_PIXELS = 8_000_000;

/**
 * RGB of the whole slide at OVERVIEW_MICRONS_PER_PIXEL, read band by band from the nearest finer level.
 * @throws SlideFault UNREADABLE for a slide that is too large without a pyramid; REGION_UNREADABLE.
 */
export function readOverview(slide: OpenedSlide, geometry: SlideGeometry, mix: Mix): Pixels {
  const { x: micronsX, y: micronsY } = geometry.micronsPerPixel;
  const index = levelFor(geometry, OVERVIEW_MICRONS_PER_PIXEL);
  const level = geometry.levels[index] ?? { width: 1, height: 1, downsample: 1 };
  const [scaleX, scaleY] = [
    OVERVIEW_MICRONS_PER_PIXEL / (micronsX * level.downsample),
    OVERVIEW_MICRONS_PER_PIXEL / (micronsY * level.downsample),
  ];
  const width = Math.max(1, Math.floor(level.width / scaleX));
  const height = Math.max(1, Math.floor(level.height / scaleY));
  if (level.width * level.height > LEVEL_PIXELS_MAX || width * height > OVERVIEW_PIXELS_MAX)
    throw new SlideFault(
      'UNREADABLE',
      `The coarsest usable level has ${level.width} x ${level.height} px. Convert the slide to a pyramidal TIFF.`,
    );
  const data = Buffer.allocUnsafe(width * height * 3);
  const bandRows = Math.max(1, Math.floor(BAND_PIXELS / level.width / scaleY));
  for (let row = 0; row < height; row += bandRows) {
    const rows = Math.min(bandRows, height - row);
    const first = Math.min(level.height - 1, Math.floor(row * scaleY));
    const last = Math.min(level.height, Math.ceil((row + rows) * scaleY));
    const band = slide.readRegion(index, 0, Math.round(first * level.downsample), level.width, last - first);
    const top = row * scaleY - first;
    resample(band, { left: 0, top, scaleX, scaleY }, width, rows, mix).data.copy(data, row * width * 3);
  }
  return { data, width, height };
}
