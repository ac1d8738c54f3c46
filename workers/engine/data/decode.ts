/** Decodes encoded image bytes to a square of pixels. */
import sharp from 'sharp';
import { ImageDataError } from './errors.ts';

/**
 * A patch is at most a few thousand pixels wide; an image that claims more is an attack or a whole slide, and neither
 * belongs in a shard.
 */
export const IMAGE_PIXELS_MAX = 64 * 1024 * 1024;

/**
 * FAST may let the JPEG decoder shrink as far as it can while it decodes (views are cropped and blurred anyway). EXACT
 * resizes by an antialiased bilinear filter, as the input contract says, and lets the decoder shrink only images of at
 * least four times the target size (256 px for 64), so that a factor of at least two is left for that filter. An image
 * that already has the target size is not resized.
 */
export type DecodeQuality = 'FAST' | 'EXACT';

/**
 * SHORT_SIDE_THEN_CENTRE_CROP resizes the short side to the target size and crops the centre square. STRETCH resizes
 * both sides to it.
 */
export type ResizeRule = 'SHORT_SIDE_THEN_CENTRE_CROP' | 'STRETCH';

/**
 * The image as a square of `sizePx`: RGB, uint8, `[sizePx, sizePx, 3]`. Transparent parts become white, the colour of
 * an empty slide. Throws ImageDataError IMAGE_UNREADABLE naming the key (truncated, not an image, too many pixels).
 */
export async function decodeSquare(
  bytes: Buffer,
  sizePx: number,
  quality: DecodeQuality,
  key: string,
  resizeRule: ResizeRule = 'SHORT_SIDE_THEN_CENTRE_CROP',
): Promise<Uint8Array> {
  try {
    const image = sharp(bytes, {
      limitInputPixels: IMAGE_PIXELS_MAX,
      sequentialRead: true,
      failOn: 'warning',
      pages: 1,
    })
      .resize(sizePx, sizePx, {
        fit: resizeRule === 'STRETCH' ? 'fill' : 'cover',
        position: 'centre',
        kernel: 'linear',
        fastShrinkOnLoad: quality === 'FAST',
      })
      .flatten({ background: '#ffffff' })
      .toColourspace('srgb');
    const { data, info } = await image.raw({ depth: 'uchar' }).toBuffer({ resolveWithObject: true });
    if (info.channels !== 3) throw new Error(`it decodes to ${info.channels} channels`);
    return data;
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new ImageDataError('IMAGE_UNREADABLE', `Image ${key} cannot be decoded: ${why}`, { key });
  }
}
