/** A shard of synthetic images with as much detail as tissue, so that decoders have realistic work. */
import { once } from 'node:events';
import { createWriteStream } from 'node:fs';
import sharp from 'sharp';
import { pack } from 'tar-stream';
import { createRandom, type Random } from '../workers/engine/rng.ts';

export interface DrawnImages {
  /** Side of the stored square. */
  readonly imageSizePx: number;
  readonly format: 'png' | 'jpeg';
}

/** Writes `imageCount` images, named from `image-0` on. Returns the total bytes of all images. */
export async function writeShard(
  path: string,
  { imageSizePx, format }: DrawnImages,
  imageCount: number,
): Promise<number> {
  const random = createRandom(imageSizePx);
  // Sixteen different images are enough, because the pipeline does not detect repetition.
  const images = await Promise.all(Array.from({ length: 16 }, () => drawTissue(imageSizePx, format, random)));
  const archive = pack();
  const file = createWriteStream(path);
  archive.pipe(file);
  let byteSize = 0;
  for (let index = 0; index < imageCount; index += 1) {
    const bytes = images[index % images.length] ?? Buffer.alloc(0);
    byteSize += bytes.length;
    archive.entry({ name: `image-${index}.${format === 'jpeg' ? 'jpg' : 'png'}` }, bytes);
    archive.entry({ name: `image-${index}.json` }, '{}');
  }
  archive.finalize();
  await once(file, 'close');
  return byteSize;
}

/** Pink ground with dark blobs under fine noise: compresses about as H&E does. */
async function drawTissue(sizePx: number, format: 'png' | 'jpeg', random: Random): Promise<Buffer> {
  const blobs = Array.from({ length: 40 }, () => ({
    x: random.between(0, sizePx),
    y: random.between(0, sizePx),
    radius: random.between(3, 9),
  }));
  const bytes = Buffer.alloc(sizePx * sizePx * 3);
  for (let pixel = 0; pixel < sizePx * sizePx; pixel += 1) {
    const x = pixel % sizePx;
    const y = Math.floor(pixel / sizePx);
    const inside = blobs.some((blob) => (x - blob.x) ** 2 + (y - blob.y) ** 2 < blob.radius ** 2);
    const [red, green, blue] = inside ? [95, 55, 140] : [225, 160 + 20 * Math.sin(x / 9 + y / 14), 200];
    for (const [channel, level] of [red, green, blue].entries())
      bytes[pixel * 3 + channel] = Math.max(0, Math.min(255, level + 9 * random.normal()));
  }
  const image = sharp(bytes, { raw: { width: sizePx, height: sizePx, channels: 3 } });
  return format === 'jpeg' ? image.jpeg({ quality: 90 }).toBuffer() : image.png().toBuffer();
}
