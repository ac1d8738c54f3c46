/** Turns the bytes of one file into the images that are stored in a shard, or into the reason why it is refused. */
import { createHash } from 'node:crypto';
import { UnreachableCaseError } from '../../../src/errors.ts';
import { isNearlyBlank } from '../blankness.ts';
import type { ProfileEffect } from '../colour/profile.ts';
import { CUT_PIXELS_MAX, decodeImage, decodingBytesOf, WHOLE_PIXELS_MAX, type DecodedImage } from './decode.ts';
import { encodePng, SCRIPT_PNG_LOOPS, type PngLoops } from './encode-png.ts';
import { flatnessOf, type Flatness } from '../flatness.ts';
import { formatOf, readImageHeader } from '../formats/index.ts';
import type { Finding, ImageFormat, ImageHeader } from '../formats/image-header.ts';
import { jpegWithoutProfile, jpegWithoutStrayBytes, readJpegHeader } from '../formats/jpeg.ts';
import { pngWithoutProfile } from '../formats/png.ts';
import { webpWithoutProfile } from '../formats/webp.ts';
import type { JpegDecoder } from './native-decoder.ts';
import { perceptualHash } from '../perceptual-hash.ts';
import type { Pixels } from '../pixels.ts';

export interface PreparedImage {
  /** As stored: sRGB without a colour profile, so that every reader sees the same. */
  readonly bytes: Buffer;
  readonly extension: 'jpg' | 'png' | 'webp';
  /** sha256 of the decoded pixels, RGB row by row: equal for the same picture in two formats. */
  readonly pixelDigest: Buffer;
  /** 8 bytes: the perceptual hash. */
  readonly perceptualHash: Uint8Array;
  readonly width: number;
  readonly height: number;
  /** Where the patch was cut from; null for a whole image. */
  readonly cutFrom: CutPlace | null;
  /** The file's colour profile, already applied; null where it had none that could be applied. */
  readonly profile: ProfileEffect | null;
  readonly nearlyBlank: boolean;
  /** For a whole image, if it was requested. */
  readonly flatness: Flatness | null;
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
      readonly outcome: 'PREPARED';
      /** Patches left out. */
      readonly blankCount: number;
      /** Findings about a file that is accepted. */
      readonly notes: readonly Finding[];
    };

export interface Preparation {
  /** Side of the patches that the image is cut into; null keeps it whole. */
  readonly patchSizePx: number | null;
  /** Significant bits of a 16-bit file's samples where the file does not state them; null: unknown. */
  readonly sampleBits: number | null;
  /** Whether to classify the image by its flatness. */
  readonly measuresFlatness: boolean;
  /** The memory limit of decoding in bytes: an image that needs more is refused. */
  readonly decodingBytesMax: number;
  /** Waits until the memory that decoding takes, in bytes, is available. Called before a pixel is decoded. */
  readonly reserve: (byteCount: number) => Promise<void>;
  /** Receives each image, in order. */
  readonly emit: (image: PreparedImage) => Promise<void>;
}

/** Native code for what is slow without it; the images are the same. */
export interface PreparationLoops {
  readonly jpegs: JpegDecoder | null;
  readonly png: PngLoops;
}

const SCRIPT_LOOPS: PreparationLoops = { jpegs: null, png: SCRIPT_PNG_LOOPS };

/**
 * Decodes and checks an image, and cuts it if `patchSizePx` is given: into patches that do not overlap, row by row from
 * the top left, without the remainder at the right and bottom and without nearly blank patches. A whole image keeps its
 * bytes if every reader decodes the same pixels from them; others (TIFF, BMP, rotated, transparent, 16-bit, CMYK, not
 * sRGB) become PNG.
 */
export async function prepareImage(
  bytes: Buffer,
  { patchSizePx, sampleBits, measuresFlatness, decodingBytesMax, reserve, emit }: Preparation,
  { jpegs, png }: PreparationLoops = SCRIPT_LOOPS,
): Promise<Prepared> {
  const format = formatOf(bytes);
  if (format === undefined) return refused({ issue: 'NOT_AN_IMAGE' });
  const read = readImageHeader(bytes, format);
  if (read === null) return refused({ issue: 'UNREADABLE', reason: `The header of the ${format} does not parse.` });
  if ('issue' in read) return refused(read);
  const { bytes: usableBytes, header } = withoutStrayBytes(bytes, withSampleBits(read, sampleBits));
  if (header.width < 1 || header.height < 1)
    return refused({ issue: 'UNREADABLE', reason: `The header states ${header.width} x ${header.height} px.` });
  const pixelLimit = patchSizePx === null ? WHOLE_PIXELS_MAX : CUT_PIXELS_MAX;
  if (header.width * header.height > pixelLimit) return refused(tooLarge(header, pixelLimit));
  const decodingBytes = decodingBytesOf(header, { fileBytes: bytes.length, patchSizePx });
  if (decodingBytes > decodingBytesMax) return refused(tooMuchMemory(header, decodingBytes, decodingBytesMax));
  await reserve(decodingBytes);
  const decoded = await decodeImage(usableBytes, header, jpegs);
  if ('issue' in decoded) return refused(decoded);
  if (patchSizePx !== null && Math.min(header.width, header.height) < patchSizePx)
    return refused({ issue: 'SMALLER_THAN_PATCH' });

  const { pixels, profile } = decoded;
  const notes = [...header.notes, ...decoded.notes];
  const isWhole = patchSizePx === null || (pixels.width === patchSizePx && pixels.height === patchSizePx);
  if (!isWhole)
    return { outcome: 'PREPARED', blankCount: await cut(pixels, patchSizePx, { profile, png, emit }), notes };
  const nearlyBlank = isNearlyBlank(pixels);
  if (nearlyBlank && patchSizePx !== null) return { outcome: 'PREPARED', blankCount: 1, notes };
  const kept = storedBytesOf(decoded, header, png);
  const flatness = measuresFlatness ? flatnessOf(pixels) : null;
  await emit(describe(kept.bytes, kept.extension, pixels, { cutFrom: null, profile, nearlyBlank, flatness }));
  return { outcome: 'PREPARED', blankCount: 0, notes };
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

function tooMuchMemory({ width, height }: ImageHeader, byteCount: number, limit: number): Finding {
  const megabytes = (bytes: number): number => Math.ceil(bytes / 1024 ** 2);
  return {
    issue: 'TOO_LARGE',
    reason: `${width} x ${height} px of its kind take ${megabytes(byteCount)} MiB of memory to decode; an import has ${megabytes(limit)} MiB. Cut it into smaller files.`,
  };
}

/** Every viewer skips stray bytes between the segments of a JPEG; some libraries do not. */
function withoutStrayBytes(
  bytes: Buffer,
  header: ImageHeader,
): { readonly bytes: Buffer; readonly header: ImageHeader } {
  const strayRanges = header.jpeg?.strayRanges ?? [];
  if (strayRanges.length === 0) return { bytes, header };
  const sound = jpegWithoutStrayBytes(bytes, strayRanges);
  const again = readJpegHeader(sound);
  if (again === null || 'issue' in again) return { bytes, header };
  const reason = 'The JPEG had stray bytes between its segments; it is stored without them.';
  return { bytes: sound, header: { ...again, notes: [...again.notes, { issue: 'REPAIRED', reason }] } };
}

/** The file itself, without its colour profile, if every reader decodes `pixels` from it; otherwise a PNG. */
function storedBytesOf(
  { bytes, pixels, profile }: DecodedImage,
  { isPlain, hasProfile, format }: ImageHeader,
  png: PngLoops,
): Pick<PreparedImage, 'bytes' | 'extension'> {
  if (!isPlain || profile?.changesPixels === true) return { bytes: encodePng(pixels, png), extension: 'png' };
  return { bytes: hasProfile ? withoutProfile(bytes, format) : bytes, extension: extensionOf(format) };
}

/** @returns how many patches were nearly blank. */
async function cut(
  pixels: Pixels,
  patchSizePx: number,
  {
    profile,
    png,
    emit,
  }: { readonly profile: ProfileEffect | null; readonly png: PngLoops; readonly emit: Preparation['emit'] },
): Promise<number> {
  let blankCount = 0;
  const { width: sourceWidth, height: sourceHeight } = pixels;
  for (let y = 0; y + patchSizePx <= sourceHeight; y += patchSizePx) {
    const row = Array.from({ length: Math.floor(sourceWidth / patchSizePx) }, (_, column) => {
      const x = column * patchSizePx;
      return { patch: patchOf(pixels, x, y, patchSizePx), cutFrom: { x, y, sourceWidth, sourceHeight } };
    });
    const full = row.filter(({ patch }) => !isNearlyBlank(patch));
    blankCount += row.length - full.length;
    for (const { patch, cutFrom } of full) {
      const bytes = encodePng(patch, png);
      await emit(describe(bytes, 'png', patch, { cutFrom, profile, nearlyBlank: false, flatness: null }));
    }
  }
  return blankCount;
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
  facts: Pick<PreparedImage, 'cutFrom' | 'profile' | 'nearlyBlank' | 'flatness'>,
): PreparedImage {
  return {
    ...{ bytes, extension, ...facts },
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
