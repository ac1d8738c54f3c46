/** Reads a tile for a viewer, from the nearest finer level of the slide. */
import sharp from 'sharp';
import { TILE_SIZE_PX, type TilePlace } from '../../../src/protocol/slide-tiles.ts';
import { sourceRegionOf, type SlideLevel } from './geometry.ts';
import { SlideFault, type OpenedSlide } from './openslide.ts';
import { resample, type Mix } from './resample.ts';

/** Pixels of a level that one tile may need. Without a pyramid it would be all of the slide, which takes seconds. */
const SOURCE_PIXELS_MAX = 50_000_000;
const JPEG_QUALITY = 80;

/**
 * JPEG of the tile, smaller than TILE_SIZE_PX at the right and bottom edges of the slide.
 * @param slide whose microns per pixel need not be known: the levels alone say how much of level 0 a pixel covers.
 * @throws SlideFault UNREADABLE, REGION_UNREADABLE.
 */
export async function readTile(
  { slide, levels, mix }: { readonly slide: OpenedSlide; readonly levels: readonly SlideLevel[]; readonly mix: Mix },
  { downsample, column, row }: TilePlace,
): Promise<Buffer> {
  const { width: slideWidth = 0, height: slideHeight = 0 } = levels[0] ?? {};
  const lengthOf = (slideLength: number, index: number): number =>
    Math.max(1, Math.min(TILE_SIZE_PX, Math.ceil(slideLength / downsample) - index * TILE_SIZE_PX));
  const [width, height] = [lengthOf(slideWidth, column), lengthOf(slideHeight, row)];
  const side = TILE_SIZE_PX * downsample;
  // In units of a pixel of level 0 instead of microns.
  const geometry = { levels, micronsPerPixel: { x: 1, y: 1 } };
  const patch = { micronsPerPixel: downsample, patchSizePx: TILE_SIZE_PX };
  const region = sourceRegionOf(geometry, patch, column * side, row * side);
  if (region.width * region.height > SOURCE_PIXELS_MAX)
    throw new SlideFault('UNREADABLE', 'It has no level that is coarse enough. Convert the slide to a pyramidal TIFF.');
  const source = slide.readRegion(region.level, region.x, region.y, region.width, region.height);
  const { data } = resample(source, region, width, height, mix);
  return sharp(data, { raw: { width, height, channels: 3 } })
    .jpeg({ quality: JPEG_QUALITY })
    .toBuffer();
}
