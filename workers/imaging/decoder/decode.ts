/** Decodes an accepted file to 8-bit sRGB pixels, completely or not at all. */
import sharp, { type Sharp } from 'sharp';
import { UnreachableCaseError } from '../../../src/errors.ts';
import { convert, effectOf, profileFault, type ProfileEffect } from '../colour/profile.ts';
import { rgbOf, rgbOfCmyk, type Samples } from '../colour/samples.ts';
import { bmpBytesNeeded, decodeBmp, readBmpHeader } from '../formats/bmp.ts';
import type { Finding, ImageHeader, SampleLayout } from '../formats/image-header.ts';
import { endsEarly } from '../formats/index.ts';
import { repairedJpeg } from '../formats/jpeg.ts';
import type { Pixels } from '../pixels.ts';
import { IMAGE_PIXELS_MAX } from './decode-square.ts';
import type { JpegDecoder } from './native-decoder.ts';

/** A whole image must be small enough for the shard reader. */
export const WHOLE_PIXELS_MAX = IMAGE_PIXELS_MAX;
/**
 * An image that is cut into patches may be larger, because only its patches are kept: 16,384 x 16,384 px, 768 MiB when
 * decoded.
 */
export const CUT_PIXELS_MAX = 256 * 1024 * 1024;

export interface DecodedImage {
  readonly pixels: Pixels;
  /** Null if the file has no profile that can be applied. */
  readonly profile: ProfileEffect | null;
  /** The file in a form that every reader accepts: the original bytes, or a repaired copy of a JPEG. */
  readonly bytes: Buffer;
  /** Notes on an image that is imported nonetheless. */
  readonly notes: readonly Finding[];
}

const SAMPLE_BYTES = { UINT8: 1, UINT16: 2, FLOAT: 4 } as const;
/** Grey is stored as three channels. */
const COLOUR_CHANNELS = { GREY: 3, RGB: 3, CMYK: 4 } as const;
const PIXEL_BYTES = 3;

/**
 * The maximum memory in bytes that an image takes until it is stored: in the decoder, and in the import where it waits
 * for its turn. The file counts only if it is itself stored.
 */
export function decodingBytesOf(
  header: ImageHeader,
  { fileBytes, patchSizePx }: { readonly fileBytes: number; readonly patchSizePx: number | null },
): number {
  const { width, height, samples, isPlain, isUpright, hasProfile } = header;
  const channelCount = COLOUR_CHANNELS[samples.colour] + samples.extraCount;
  const sampleBytes = channelCount * SAMPLE_BYTES[samples.depth];
  const decoding = decoderBytesPerPixel(header, channelCount) + (isUpright ? 1 : 2) * sampleBytes;
  const isPixels = samples.depth === 'UINT8' && samples.colour !== 'CMYK' && samples.extraCount === 0;
  // The profile is applied to a copy, and the pixels are read from that. The garbage collector may not have freed
  // either while they are encoded.
  const converted =
    sampleBytes + (isPixels ? 0 : PIXEL_BYTES) + (hasProfile ? COLOUR_CHANNELS[samples.colour] + PIXEL_BYTES : 0);
  const keepsFile = patchSizePx === null && isPlain;
  // A whole image is encoded at once, and is in both processes while it is sent; patches are sent one row at a time.
  const stored = keepsFile ? 0 : patchSizePx === null ? 2 * PIXEL_BYTES : PIXEL_BYTES;
  return width * height * Math.max(decoding, converted + stored) + (keepsFile ? fileBytes : 0);
}

/** What libvips and its codecs hold beside the samples that they return, measured and rounded up. */
function decoderBytesPerPixel({ format, samples, jpeg }: ImageHeader, channelCount: number): number {
  switch (format) {
    case 'JPEG':
      // The coefficients of all scans are collected before the first row.
      return jpeg?.hasOneScan === true ? 0 : 2 * channelCount;
    case 'WEBP':
      return 8;
    // Interlaced, or stored as one strip: the whole image is held once more.
    case 'PNG':
    case 'TIFF':
      return channelCount * SAMPLE_BYTES[samples.depth];
    case 'BMP':
      return 0;
    default:
      throw new UnreachableCaseError(format);
  }
}

/**
 * Decodes every pixel: turned upright, composited over white (the colour of empty slide), and with 16-bit,
 * floating-point, grey and CMYK samples converted to 8-bit sRGB by the rules of colour/samples.ts and
 * colour/profile.ts. A decoder's warning is an error, because a stored image must always decode without one. The caller
 * has checked the size in the header.
 * @param bytes the file that `header` describes.
 * @param jpegs is tried first, if there is one. Its pixels are valid until the next image is decoded.
 */
export async function decodeImage(
  bytes: Buffer,
  header: ImageHeader,
  jpegs: JpegDecoder | null = null,
): Promise<DecodedImage | Finding> {
  if (header.format === 'BMP') return decodeBitmap(bytes, header);
  if (header.format === 'JPEG' && header.isPlain && !header.hasProfile) {
    const pixels = jpegs?.pixelsOf(bytes, header.width, header.height) ?? null;
    if (pixels !== null) return { pixels, profile: null, bytes, notes: [] };
  }
  const decoded = await decodeBytes(bytes, header);
  if (!('issue' in decoded) || header.jpeg === undefined) return decoded;
  const repaired = repairedJpeg(bytes, header.jpeg);
  if (repaired === null) return decoded;
  const again = await decodeBytes(repaired.bytes, header);
  if ('issue' in again) return decoded;
  return { ...again, notes: [...again.notes, { issue: 'REPAIRED', reason: repaired.reason }] };
}

async function decodeBytes(bytes: Buffer, header: ImageHeader): Promise<DecodedImage | Finding> {
  try {
    const image = sharp(bytes, {
      limitInputPixels: CUT_PIXELS_MAX,
      sequentialRead: true,
      failOn: 'warning',
      // sharp converts 16-bit images with a profile to Display P3, and CMYK without one through the profile of a press.
      ignoreIcc: true,
      ...imageIndexOf(header),
    });
    if (!header.isPlain || header.hasProfile)
      return await withColour(bytes, await samplesOf(image.autoOrient(), header.samples), header);
    const { data, info } = await raw(image.toColourspace('srgb'), 'uchar');
    if (info.channelCount !== 3) return { issue: 'UNREADABLE' };
    return { pixels: { ...info, data }, profile: null, bytes, notes: [] };
  } catch {
    // The decoder's warnings are kept for the whole process, so one may concern another image that is decoded at the
    // same time.
    const reason = `Damaged: the ${header.format} does not decode without an error. Copy or download it again.`;
    return endsEarly(bytes, header.format) ? { issue: 'TRUNCATED' } : { issue: 'UNREADABLE', reason };
  }
}

async function withColour(bytes: Buffer, samples: Samples, header: ImageHeader): Promise<DecodedImage | Finding> {
  const layout = header.samples;
  const profile = header.hasProfile ? await profileOf(bytes, header) : null;
  const fault = profile === null ? null : profileFault(profile, layout.colour);
  const reason = `Its colours are imported as they are, as sRGB: ${fault ?? ''}.`;
  const profileNotes: readonly Finding[] = fault === null ? [] : [{ issue: 'PROFILE_NOT_APPLIED', reason }];
  const usable = fault === null ? profile : null;
  const effect = usable === null ? null : await effectOf(usable, layout.colour);
  if (usable !== null && layout.colour === 'CMYK')
    return { pixels: await convert(inksOf(samples), usable, 'CMYK'), profile: effect, bytes, notes: profileNotes };
  const rgb = layout.colour === 'CMYK' ? { pixels: rgbOfCmyk(samples), notes: [] } : rgbOf(samples, layout);
  if ('issue' in rgb) return rgb;
  const { pixels } = rgb;
  const notes = [...profileNotes, ...rgb.notes];
  if (usable === null || layout.colour === 'CMYK' || effect?.changesPixels !== true)
    return { pixels, profile: effect, bytes, notes };
  const source = layout.colour === 'GREY' ? { ...pixels, data: firstChannelOf(pixels.data) } : pixels;
  return { pixels: await convert(source, usable, layout.colour), profile: effect, bytes, notes };
}

/** The index of the image within the file. */
function imageIndexOf({ format, page, subIfd }: ImageHeader) {
  return { pages: 1, ...(format === 'TIFF' ? { page } : {}), ...(subIfd === null ? {} : { subifd: subIfd }) };
}

/** Empty if the file announces a profile that its reader cannot apply. */
async function profileOf(bytes: Buffer, header: ImageHeader): Promise<Buffer> {
  const { icc } = await sharp(bytes, { limitInputPixels: false, ...imageIndexOf(header) }).metadata();
  return icc ?? Buffer.alloc(0);
}

/** The numbers that the file holds: each colour space is requested by its own name, so that nothing converts it. */
async function samplesOf(image: Sharp, { colour, depth }: SampleLayout): Promise<Samples> {
  const inks = colour === 'CMYK' ? image.pipelineColourspace('cmyk').toColourspace('cmyk') : undefined;
  switch (depth) {
    case 'UINT8': {
      const { data, info } = await raw(inks ?? image.toColourspace('srgb'), 'uchar');
      return { ...info, data };
    }
    case 'UINT16': {
      const { data, info } = await raw(image.toColourspace('rgb16'), 'ushort');
      return { ...info, data: new Uint16Array(alignedBytes(data)) };
    }
    case 'FLOAT': {
      const { data, info } = await raw(image.toColourspace(colour === 'GREY' ? 'b-w' : 'scrgb'), 'float');
      return { ...info, data: new Float32Array(alignedBytes(data)) };
    }
    default:
      throw new UnreachableCaseError(depth);
  }
}

async function raw(image: Sharp, depth: 'uchar' | 'ushort' | 'float') {
  const { data, info } = await image.raw({ depth }).toBuffer({ resolveWithObject: true });
  return { data, info: { width: info.width, height: info.height, channelCount: info.channels } };
}

/** A copy at an aligned address, which typed arrays of 16-bit and 32-bit numbers need. */
function alignedBytes(data: Buffer): ArrayBufferLike {
  return data.byteOffset === 0 && data.byteLength === data.buffer.byteLength
    ? data.buffer
    : new Uint8Array(data).buffer;
}

function inksOf({ data, width, height }: Samples) {
  if (!(data instanceof Uint8Array)) throw new TypeError('CMYK is read only with 8 bits.');
  return { data, width, height };
}

function firstChannelOf(rgb: Buffer): Buffer {
  const grey = Buffer.allocUnsafe(rgb.length / 3);
  for (let pixel = 0; pixel < grey.length; pixel += 1) grey[pixel] = rgb[pixel * 3] ?? 0;
  return grey;
}

function decodeBitmap(bytes: Buffer, { notes }: ImageHeader): DecodedImage | Finding {
  const header = readBmpHeader(bytes);
  if (header === null) return { issue: 'UNREADABLE' };
  if ('issue' in header) return header;
  if (bytes.length < bmpBytesNeeded(header)) return { issue: 'TRUNCATED' };
  const data = decodeBmp(bytes, header);
  if (data === null)
    return { issue: 'UNREADABLE', reason: 'A pixel of the BMP has a colour index that its palette lacks.' };
  return { pixels: { data, width: header.width, height: header.height }, profile: null, bytes, notes };
}
