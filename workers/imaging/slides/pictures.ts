/** The two pictures of a slide by which a person sees whether tissue was found: the whole slide, and its tissue. */
import sharp from 'sharp';
import type { Pixels } from '../pixels.ts';
import type { TissueMask } from './tissue.ts';

export interface SlidePictures {
  /** WebP of the whole slide, its longer side THUMBNAIL_SIDE_PX. */
  readonly thumbnail: Buffer;
  /** PNG with one channel of the same view: 255 for tissue, else 0. */
  readonly mask: Buffer;
}

const THUMBNAIL_SIDE_PX = 512;
/** Of the mask, which is an overlay of a larger view as well: at 8 um a slide of 16 mm is shown pixel by pixel. */
const MASK_SIDE_PX = 2048;

/** Neither is enlarged. @param overview RGB of the whole slide. @param mask of the same size. */
export async function picturesOf({ data, width, height }: Pixels, mask: TissueMask): Promise<SlidePictures> {
  const thumbnail = await sharp(data, { raw: { width, height, channels: 3 } })
    .resize(THUMBNAIL_SIDE_PX, THUMBNAIL_SIDE_PX, { fit: 'inside', withoutEnlargement: true })
    .webp({ quality: 80, effort: 2 })
    .toBuffer();
  const maskPng = await sharp(mask.data, { raw: { width, height, channels: 1 } })
    // Nearest: between 0 and 1 there is nothing.
    .resize(MASK_SIDE_PX, MASK_SIDE_PX, { fit: 'inside', withoutEnlargement: true, kernel: 'nearest' })
    .linear(255, 0)
    .toColourspace('b-w')
    .png({ compressionLevel: 9 })
    .toBuffer();
  return { thumbnail, mask: maskPng };
}
