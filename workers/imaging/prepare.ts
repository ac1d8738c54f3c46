/** Turns the bytes of one file into the images that go into a shard, or into the reason why it is refused. */
import { createHash } from 'node:crypto';
import { UnreachableCaseError } from '../../src/errors.ts';
import { isNearlyBlank } from './blankness.ts';
import type { ProfileEffect } from './colour/profile.ts';
import {
  CUT_PIXELS_MAX,
  decodeImage,
  decodingBytesOf,
  encodePng,
  WHOLE_PIXELS_MAX,
  type DecodedImage,
} from './decode.ts';
import { formatOf, readImageHeader } from './formats/index.ts';
import type { Finding, ImageFormat, ImageHeader } from './formats/image-header.ts';
import { jpegWithoutProfile, jpegWithoutStrayBytes, readJpegHeader } from './formats/jpeg.ts';
import { pngWithoutProfile } from './formats/png.ts';
import { webpWithoutProfile } from './formats/webp.ts';
import { perceptualHash } from './perceptual-hash.ts';
import type { Pixels } from './pixels.ts';

export interface PreparedImage {
  /** As stored: sRGB without a colour profile, so that every reader sees the same. */
  readonly bytes: Buffer;
  readonly extension: 'jpg' | 'png' | 'webp';
  /** Of `bytes`, lower-case hex. */
  readonly sha256: string;
  /** sha256 of the decoded pixels, RGB row by row: equal for the same picture in two formats. */
  readonly pixelDigest: Buffer;
  /** 8 bytes: the perceptual hash. */
  readonly perceptualHash: Uint8Array;
  readonly width: number;
  readonly height: number;
  /** Where it was cut from; null for a whole image. */
  readonly cutFrom: CutPlace | null;
  /** The file's colour profile, already applied; null where it had none that could be applied. */
  readonly profile: ProfileEffect | null;
  readonly nearlyBlank: boolean;
}

/** The top left corner of a patch in the upright source, and the source's size, in pixels. */
export interface CutPlace {
  readonly x: number;
  readonly y: number;
  readonly sourceWidth: number;
  readonly sourceHeight: number;
}

export type Prepared =
  | { readonly outcome: 'REFUSED'; readonly finding: Finding }
  | {
      readonly outcome: 'IMAGES';
      readonly images: readonly PreparedImage[];
      /** Patches left out. */
      readonly blankCount: number;
      /** Findings about a file that is accepted. */
      readonly notes: readonly Finding[];
    };

/**
 * Decodes and checks an image, and cuts it where `patchSizePx` is given: patches that do not overlap, row by row from
 * the top left; the remainder at the right and at the bottom and nearly blank patches are left out. A whole image keeps
 * its bytes where every reader decodes the same pixels from them; others (TIFF, BMP, rotated, transparent, 16-bit,
 * CMYK, not sRGB) become PNG.
 * @param reserve waits until this many bytes of memory are free for decoding.
 * @param sampleBits significant bits of a 16-bit file's samples where the file does not state them; null: unknown.
 */
export async function prepareImage(
  bytes: Buffer,
  patchSizePx: number | null,
  reserve: (byteCount: number) => Promise<void>,
  sampleBits: number | null = null,
): Promise<Prepared> {
  const format = formatOf(bytes);
  if (format === undefined) return refused({ issue: 'NOT_AN_IMAGE' });
  const read = readImageHeader(bytes, format);
  if (read === null) return refused({ issue: 'UNREADABLE', reason: `The header of the ${format} does not parse.` });
  if ('issue' in read) return refused(read);
  const { bytes: soundBytes, header } = withoutStrayBytes(bytes, withSampleBits(read, sampleBits));
  if (header.width < 1 || header.height < 1)
    return refused({ issue: 'UNREADABLE', reason: `The header states ${header.width} x ${header.height} px.` });
  const pixelLimit = patchSizePx === null ? WHOLE_PIXELS_MAX : CUT_PIXELS_MAX;
  if (header.width * header.height > pixelLimit) return refused(tooLarge(header, pixelLimit));
  await reserve(decodingBytesOf(header));
  const decoded = await decodeImage(soundBytes, header);
  if ('issue' in decoded) return refused(decoded);
  if (patchSizePx !== null && Math.min(header.width, header.height) < patchSizePx)
    return refused({ issue: 'SMALLER_THAN_PATCH' });

  const { pixels, profile } = decoded;
  const notes = [...header.notes, ...decoded.notes];
  const isWhole = patchSizePx === null || (pixels.width === patchSizePx && pixels.height === patchSizePx);
  if (!isWhole) return { ...(await cut(pixels, patchSizePx, profile)), notes };
  const nearlyBlank = isNearlyBlank(pixels);
  if (nearlyBlank && patchSizePx !== null) return { outcome: 'IMAGES', images: [], blankCount: 1, notes };
  const kept = await storedBytesOf(decoded, header);
  const image = describe(kept.bytes, kept.extension, pixels, { cutFrom: null, profile, nearlyBlank });
  return { outcome: 'IMAGES', images: [image], blankCount: 0, notes };
}

function refused(finding: Finding): Prepared {
  return { outcome: 'REFUSED', finding };
}

function tooLarge({ width, height }: ImageHeader, pixelLimit: number): Finding {
  return {
    issue: 'TOO_LARGE',
    reason: `${width} x ${height} px; at most ${pixelLimit} pixels are read. Cut it into smaller files, or import it with patchSizePx.`,
  };
}

function withSampleBits(header: ImageHeader, sampleBits: number | null): ImageHeader {
  const { samples } = header;
  if (sampleBits === null || samples.depth !== 'UINT16' || samples.white !== null) return header;
  return { ...header, samples: { ...samples, white: 2 ** sampleBits - 1 } };
}

/** Every viewer skips stray bytes between the segments of a JPEG; libraries are stricter. */
function withoutStrayBytes(
  bytes: Buffer,
  header: ImageHeader,
): { readonly bytes: Buffer; readonly header: ImageHeader } {
  const strayRanges = header.jpeg?.strayRanges ?? [];
  if (strayRanges.length === 0) return { bytes, header };
  const sound = jpegWithoutStrayBytes(bytes, strayRanges);
  const again = readJpegHeader(sound);
  if (again === null || 'issue' in again) return { bytes, header };
  const reason = 'Stray bytes stood between the segments of the JPEG; it is stored without them.';
  return { bytes: sound, header: { ...again, notes: [...again.notes, { issue: 'REPAIRED', reason }] } };
}

/** The file itself where every reader decodes `pixels` from it, without its colour profile; otherwise a PNG. */
async function storedBytesOf(
  { bytes, pixels, profile }: DecodedImage,
  { isPlain, hasProfile, format }: ImageHeader,
): Promise<Pick<PreparedImage, 'bytes' | 'extension'>> {
  if (!isPlain || profile?.changesPixels === true) return { bytes: await encodePng(pixels), extension: 'png' };
  return { bytes: hasProfile ? withoutProfile(bytes, format) : bytes, extension: extensionOf(format) };
}

async function cut(
  pixels: Pixels,
  patchSizePx: number,
  profile: ProfileEffect | null,
): Promise<{ outcome: 'IMAGES'; images: PreparedImage[]; blankCount: number }> {
  const images: PreparedImage[] = [];
  let blankCount = 0;
  const { width: sourceWidth, height: sourceHeight } = pixels;
  for (let y = 0; y + patchSizePx <= sourceHeight; y += patchSizePx) {
    const row = Array.from({ length: Math.floor(sourceWidth / patchSizePx) }, (_, column) => {
      const x = column * patchSizePx;
      return { patch: patchOf(pixels, x, y, patchSizePx), cutFrom: { x, y, sourceWidth, sourceHeight } };
    });
    const full = row.filter(({ patch }) => !isNearlyBlank(patch));
    blankCount += row.length - full.length;
    images.push(
      ...(await Promise.all(
        full.map(async ({ patch, cutFrom }) =>
          describe(await encodePng(patch), 'png', patch, { cutFrom, profile, nearlyBlank: false }),
        ),
      )),
    );
  }
  return { outcome: 'IMAGES', images, blankCount };
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
  facts: Pick<PreparedImage, 'cutFrom' | 'profile' | 'nearlyBlank'>,
): PreparedImage {
  return {
    ...{ bytes, extension, ...facts },
    sha256: createHash('sha256').update(bytes).digest('hex'),
    pixelDigest: createHash('sha256').update(pixels.data).digest(),
    perceptualHash: perceptualHash(pixels),
    width: pixels.width,
    height: pixels.height,
  };
}

function withoutProfile(bytes: Buffer, format: ImageFormat): Buffer {
  switch (format) {
    case 'JPEG':
      return jpegWithoutProfile(bytes);
    case 'WEBP':
      return webpWithoutProfile(bytes);
    case 'PNG':
      return pngWithoutProfile(bytes);
    case 'TIFF':
    case 'BMP':
      return bytes;
    default:
      throw new UnreachableCaseError(format);
  }
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
