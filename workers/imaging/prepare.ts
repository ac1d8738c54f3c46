/** One file's bytes to the images that go into a shard, or the reason why none does. */
import { createHash } from 'node:crypto';
import { UnreachableCaseError } from '../../src/errors.ts';
import { isNearlyBlank } from './blankness.ts';
import { CUT_PIXELS_MAX, decodeImage, encodePng, WHOLE_PIXELS_MAX, type Pixels } from './decode.ts';
import { formatOf, readImageHeader, type ImageFormat } from './image-header.ts';
import type { IssueKind } from './issues.ts';
import { perceptualHash } from './perceptual-hash.ts';

/** The encoder halves an image five times. */
export const IMAGE_SIDE_MIN_PX = 32;

export interface PreparedImage {
  readonly bytes: Buffer;
  readonly extension: 'jpg' | 'png' | 'webp';
  /** Of `bytes`, lower-case hex. */
  readonly sha256: string;
  /** sha256 of the decoded pixels, RGB row by row: equal for the same picture in two formats. */
  readonly pixelDigest: Buffer;
  /** 8 bytes: what the picture looks like. */
  readonly perceptualHash: Uint8Array;
  readonly width: number;
  readonly height: number;
  readonly nearlyBlank: boolean;
}

export type Prepared =
  | { readonly outcome: 'REFUSED'; readonly issue: IssueKind }
  /** `blankCount`: patches left out. */
  | { readonly outcome: 'IMAGES'; readonly images: readonly PreparedImage[]; readonly blankCount: number };

/**
 * Decodes and checks an image, and cuts it where `patchSizePx` is given: patches that do not overlap, row by row from
 * the top left; what remains at the right and below is left out, and so are nearly blank patches. A whole image keeps
 * its bytes where any reader gets the same pixels from them; others (TIFF, BMP, turned, transparent, 16-bit, CMYK)
 * become PNG.
 * @param reserve waits for the room in memory that decoding will take, in bytes.
 */
export async function prepareImage(
  bytes: Buffer,
  patchSizePx: number | null,
  reserve: (byteCount: number) => Promise<void>,
): Promise<Prepared> {
  const format = formatOf(bytes);
  if (format === undefined) return { outcome: 'REFUSED', issue: 'NOT_AN_IMAGE' };
  const header = await readImageHeader(bytes, format);
  if (header === null || header.width < 1 || header.height < 1) return { outcome: 'REFUSED', issue: 'UNREADABLE' };
  const pixelCount = header.width * header.height;
  if (pixelCount > (patchSizePx === null ? WHOLE_PIXELS_MAX : CUT_PIXELS_MAX))
    return { outcome: 'REFUSED', issue: 'TOO_LARGE' };
  const shortSidePx = Math.min(header.width, header.height);
  // The decoder's pixels and their copy for us.
  await reserve(pixelCount * 3 * 2);
  const decoded = await decodeImage(bytes, header);
  if ('issue' in decoded) return { outcome: 'REFUSED', issue: decoded.issue };
  if (shortSidePx < IMAGE_SIDE_MIN_PX) return { outcome: 'REFUSED', issue: 'SMALLER_THAN_MINIMUM' };
  if (patchSizePx !== null && shortSidePx < patchSizePx) return { outcome: 'REFUSED', issue: 'SMALLER_THAN_PATCH' };

  const { pixels } = decoded;
  const isWhole = patchSizePx === null || (pixels.width === patchSizePx && pixels.height === patchSizePx);
  if (!isWhole) return cut(pixels, patchSizePx);
  const nearlyBlank = isNearlyBlank(pixels);
  if (nearlyBlank && patchSizePx !== null) return { outcome: 'IMAGES', images: [], blankCount: 1 };
  const kept = header.plain
    ? { bytes, extension: extensionOf(format) }
    : { bytes: await encodePng(pixels), extension: 'png' as const };
  return { outcome: 'IMAGES', images: [describe(kept.bytes, kept.extension, pixels, nearlyBlank)], blankCount: 0 };
}

async function cut(pixels: Pixels, patchSizePx: number): Promise<Prepared> {
  const images: PreparedImage[] = [];
  let blankCount = 0;
  for (let top = 0; top + patchSizePx <= pixels.height; top += patchSizePx) {
    const patches = rowOfPatches(pixels, top, patchSizePx);
    const full = patches.filter((patch) => !isNearlyBlank(patch));
    blankCount += patches.length - full.length;
    images.push(
      ...(await Promise.all(full.map(async (patch) => describe(await encodePng(patch), 'png', patch, false)))),
    );
  }
  return { outcome: 'IMAGES', images, blankCount };
}

function rowOfPatches(pixels: Pixels, top: number, patchSizePx: number): Pixels[] {
  return Array.from({ length: Math.floor(pixels.width / patchSizePx) }, (_, column) =>
    patchOf(pixels, column * patchSizePx, top, patchSizePx),
  );
}

function patchOf(pixels: Pixels, left: number, top: number, sizePx: number): Pixels {
  const data = Buffer.allocUnsafe(sizePx * sizePx * 3);
  for (let row = 0; row < sizePx; row += 1) {
    const start = ((top + row) * pixels.width + left) * 3;
    pixels.data.copy(data, row * sizePx * 3, start, start + sizePx * 3);
  }
  return { data, width: sizePx, height: sizePx };
}

function describe(
  bytes: Buffer,
  extension: PreparedImage['extension'],
  pixels: Pixels,
  nearlyBlank: boolean,
): PreparedImage {
  return {
    bytes,
    extension,
    sha256: createHash('sha256').update(bytes).digest('hex'),
    pixelDigest: createHash('sha256').update(pixels.data).digest(),
    perceptualHash: perceptualHash(pixels),
    width: pixels.width,
    height: pixels.height,
    nearlyBlank,
  };
}

function extensionOf(format: ImageFormat): PreparedImage['extension'] {
  switch (format) {
    case 'JPEG':
      return 'jpg';
    case 'WEBP':
      return 'webp';
    case 'PNG':
    case 'TIFF':
    case 'BMP':
      return 'png';
    default:
      throw new UnreachableCaseError(format);
  }
}
