/** Decodes encoded image bytes to a square of pixels. */
import sharp from 'sharp';
import type { SquareRule } from '../../engine/data/stored-decoder.ts';

/**
 * A patch is at most a few thousand pixels wide; an image that claims more is an attack or a whole slide, and neither
 * belongs in a shard.
 */
export const IMAGE_PIXELS_MAX = 64 * 1024 * 1024;

/**
 * The image as a square of `sizePx`: RGB, uint8, `[sizePx, sizePx, 3]`. Transparent parts become white, the colour of
 * an empty slide. Throws Error for bytes that are truncated, not an image, or of too many pixels.
 */
export async function decodeSquare(
  bytes: Buffer,
  { sizePx, quality, resizeRule, interpolation }: SquareRule,
): Promise<Uint8Array> {
  const image = sharp(bytes, {
    limitInputPixels: IMAGE_PIXELS_MAX,
    sequentialRead: true,
    failOn: 'warning',
    pages: 1,
  })
    .resize(sizePx, sizePx, {
      fit: resizeRule === 'STRETCH' ? 'fill' : 'cover',
      position: 'centre',
      // Catmull-Rom for BICUBIC, as in Pillow.
      kernel: interpolation === 'BICUBIC' ? 'cubic' : 'linear',
      fastShrinkOnLoad: quality === 'FAST',
    })
    .flatten({ background: '#ffffff' })
    .toColourspace('srgb');
  const { data, info } = await image.raw({ depth: 'uchar' }).toBuffer({ resolveWithObject: true });
  if (info.channels !== 3) throw new Error(`it decodes to ${info.channels} channels`);
  return data;
}
