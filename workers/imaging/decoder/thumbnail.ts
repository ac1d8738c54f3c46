import sharp from 'sharp';

const THUMBNAIL_SIDE_PX = 128;

/** A WebP of 128 px, the centre square. @param bytes of a stored image. */
export async function makeThumbnail(bytes: Buffer): Promise<Buffer> {
  return sharp(bytes)
    .resize(THUMBNAIL_SIDE_PX, THUMBNAIL_SIDE_PX, { fit: 'cover' })
    .flatten({ background: '#ffffff' })
    .toColourspace('srgb')
    .webp({ quality: 80, effort: 2 })
    .toBuffer();
}
