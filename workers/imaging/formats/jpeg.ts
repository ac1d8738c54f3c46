/** JPEG (ITU-T T.81): reads the segments and repairs what every viewer tolerates. */
import { GREY_8, RGB_8, type Finding, type ImageHeader, type JpegStructure } from './image-header.ts';
import {
  END_OF_IMAGE,
  isFrame,
  LOSSLESS_FRAME,
  nextSegment,
  PROGRESSIVE_FRAMES,
  START_OF_SCAN,
  type ByteRange,
} from './jpeg-markers.ts';
import { strayRangesOf } from './jpeg-scans.ts';

const EXIF = 'Exif\0\0';
const PROFILE = 'ICC_PROFILE\0';
const ORIENTATION_TAG = 0x0112;
const END_MARK = Buffer.from([0xff, END_OF_IMAGE]);
const END_MARK_REASON = 'The JPEG lacked only its end mark; it is stored with one.';
const STRAY_REASON = 'The JPEG had stray bytes between its scans; it is stored without them.';
/**
 * Frame types (SOF) that the decoder reads: baseline, extended, progressive, lossless, and arithmetic-coded baseline.
 */
const READ_FRAMES: readonly number[] = [0xc0, 0xc1, 0xc2, 0xc3, 0xc9, 0xca];
/** A correct file has none, and a careless writer leaves a few; a file with more is not a JPEG. */
const STRAY_RANGES_MAX = 100;

/** @returns null if the header does not parse, and a finding for an unsupported kind. */
export function readJpegHeader(bytes: Buffer): ImageHeader | Finding | null {
  let isUpright = true;
  let hasProfile = false;
  let frame: { readonly marker: number; readonly body: number } | undefined;
  const strayRanges: ByteRange[] = [];
  for (let offset = 2; ;) {
    const found = nextSegment(bytes, offset);
    if (found === null || found.code === END_OF_IMAGE) return null;
    if (found.startOffset > offset) strayRanges.push([offset, found.startOffset]);
    if (strayRanges.length > STRAY_RANGES_MAX) return null;
    const { code: marker, endOffset: lengthOffset } = found;
    const body = lengthOffset + 2;
    offset = lengthOffset + Math.max(2, bytes.readUInt16BE(lengthOffset));
    if (marker === START_OF_SCAN)
      return frame === undefined ? null : headerOf(bytes, frame, body, { isUpright, hasProfile, strayRanges });
    if (isFrame(marker)) frame ??= { marker, body };
    if (marker === 0xe1 && bytes.toString('latin1', body, body + EXIF.length) === EXIF)
      isUpright &&= isUprightByExif(bytes.subarray(body + EXIF.length, offset));
    if (marker === 0xe2 && bytes.toString('latin1', body, body + PROFILE.length) === PROFILE) hasProfile = true;
  }
}

function headerOf(
  bytes: Buffer,
  { marker, body }: { readonly marker: number; readonly body: number },
  scanBody: number,
  {
    isUpright,
    hasProfile,
    strayRanges,
  }: Pick<ImageHeader, 'hasProfile'> & Pick<JpegStructure, 'strayRanges'> & { readonly isUpright: boolean },
): ImageHeader | Finding {
  const precision = bytes.readUInt8(body);
  const componentCount = bytes.readUInt8(body + 5);
  if (!READ_FRAMES.includes(marker))
    return {
      issue: 'COMPRESSION_NOT_READ',
      reason: `A JPEG of process SOF${marker - 0xc0}. Save it as baseline JPEG.`,
    };
  if (precision !== 8)
    return {
      issue: 'SAMPLE_FORMAT_NOT_READ',
      reason: `A JPEG of ${precision} bits per sample; 8 are read. Convert it to 16-bit PNG or TIFF.`,
    };
  const colour = ({ 1: 'GREY', 3: 'RGB', 4: 'CMYK' } as const)[componentCount];
  if (colour === undefined)
    return {
      issue: 'COLOUR_SPACE_NOT_READ',
      reason: `A JPEG of ${componentCount} components; 1 (grey), 3 (colour) and 4 (CMYK) are read.`,
    };
  return {
    format: 'JPEG',
    width: bytes.readUInt16BE(body + 3),
    height: bytes.readUInt16BE(body + 1),
    // Few readers support the lossless process.
    isPlain: isUpright && colour !== 'CMYK' && marker !== LOSSLESS_FRAME && strayRanges.length === 0,
    ...{ hasProfile, isUpright, page: 0, subIfd: null },
    samples: colour === 'GREY' ? GREY_8 : { ...RGB_8, colour },
    jpeg: {
      strayRanges,
      hasOneScan: !PROGRESSIVE_FRAMES.includes(marker) && bytes.readUInt8(scanBody) === componentCount,
    },
    notes: [],
  };
}

/**
 * The frame header of a JPEG stream that is embedded in another format.
 * @returns null if its segments contain none.
 */
export function jpegFrameOf(stream: Buffer): { readonly isLossless: boolean; readonly bitsPerSample: number } | null {
  for (let offset = 2; offset + 10 <= stream.length && stream[offset] === 0xff;) {
    const marker = stream.readUInt8(offset + 1);
    if (isFrame(marker)) return { isLossless: marker === LOSSLESS_FRAME, bitsPerSample: stream.readUInt8(offset + 4) };
    if (marker === START_OF_SCAN) return null;
    offset += 2 + stream.readUInt16BE(offset + 2);
  }
  return null;
}

/** The same picture as every viewer shows it, without the stray bytes between its segments. */
export function jpegWithoutStrayBytes(bytes: Buffer, strayRanges: readonly ByteRange[]): Buffer {
  const parts: Buffer[] = [];
  let from = 0;
  for (const [start, end] of strayRanges) {
    parts.push(bytes.subarray(from, start));
    from = end;
  }
  return Buffer.concat([...parts, bytes.subarray(from)]);
}

/**
 * A repaired copy of a file that does not decode without a warning, without the faults that every viewer tolerates:
 * stray bytes after a scan, and a missing end mark after a single complete scan. libvips cannot tell whether the scan
 * is complete, because it checks libjpeg's warnings before it reads the last rows, and not after.
 * @returns null if the file has neither fault.
 */
export function repairedJpeg(
  bytes: Buffer,
  { hasOneScan }: JpegStructure,
): { readonly bytes: Buffer; readonly reason: string } | null {
  const strayRanges = strayRangesOf(bytes);
  if (strayRanges !== null)
    return strayRanges.length === 0 ? null : { bytes: jpegWithoutStrayBytes(bytes, strayRanges), reason: STRAY_REASON };
  // Without its end mark a progressive file may lack scans, and nothing shows it.
  if (!hasOneScan) return null;
  const ended = Buffer.concat([bytes, END_MARK]);
  const rangesOfEnded = strayRangesOf(ended);
  return rangesOfEnded === null
    ? null
    : { bytes: jpegWithoutStrayBytes(ended, rangesOfEnded), reason: END_MARK_REASON };
}

export function hasEndMark(bytes: Buffer): boolean {
  return bytes.subarray(-1024).includes(END_MARK);
}

/** The same picture without its colour profile. */
export function jpegWithoutProfile(bytes: Buffer): Buffer {
  const parts = [bytes.subarray(0, 2)];
  for (let offset = 2; ;) {
    const marker = bytes.readUInt8(offset + 1);
    if (marker === START_OF_SCAN) return Buffer.concat([...parts, bytes.subarray(offset)]);
    const isFill = marker === 0xff;
    const endOffset = isFill ? offset + 1 : offset + 2 + Math.max(2, bytes.readUInt16BE(offset + 2));
    const isProfile = marker === 0xe2 && bytes.toString('latin1', offset + 4, offset + 4 + PROFILE.length) === PROFILE;
    if (!isProfile) parts.push(bytes.subarray(offset, endOffset));
    offset = endOffset;
  }
}

/** False only if the EXIF block has an orientation other than 1. */
function isUprightByExif(exif: Buffer): boolean {
  if (exif.length < 8) return true;
  const little = exif.toString('latin1', 0, 2) === 'II';
  const uint16 = (offset: number): number => (little ? exif.readUInt16LE(offset) : exif.readUInt16BE(offset));
  const directory = little ? exif.readUInt32LE(4) : exif.readUInt32BE(4);
  if (directory + 2 > exif.length) return true;
  const entryCount = uint16(directory);
  for (let entry = directory + 2; entry + 12 <= exif.length && entry < directory + 2 + entryCount * 12; entry += 12) {
    if (uint16(entry) === ORIENTATION_TAG) return uint16(entry + 8) === 1;
  }
  return true;
}
