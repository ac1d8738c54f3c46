/** The supported image formats: recognises them and reads their headers. */
import { UnreachableCaseError } from '../../../src/errors.ts';
import { readBmpImageHeader } from './bmp.ts';
import { SIGNATURE_BYTES } from './foreign-formats.ts';
import type { Finding, ImageFormat, ImageHeader } from './image-header.ts';
import { hasEndMark, readJpegHeader } from './jpeg.ts';
import { readPngHeader } from './png.ts';
import { readTiffHeader } from './tiff.ts';
import { readWebpHeader } from './webp.ts';

/** Enough bytes of a file for `formatOf` and `foreignKindOf`. */
export const MAGIC_BYTES = SIGNATURE_BYTES;

/** The format by magic bytes, never by file name; undefined for any other format. */
export function formatOf(bytes: Buffer): ImageFormat | undefined {
  const text = bytes.toString('latin1', 0, 12);
  if (text.startsWith('\xff\xd8\xff')) return 'JPEG';
  if (text.startsWith('\x89PNG\r\n\x1a\n')) return 'PNG';
  if (text.startsWith('RIFF') && text.slice(8) === 'WEBP') return 'WEBP';
  if (/^(II[*+]\0|MM\0[*+])/.test(text)) return 'TIFF';
  // Two letters are weak evidence: the reserved words after the size must be zero too.
  if (text.startsWith('BM') && text.slice(6, 10) === '\0\0\0\0') return 'BMP';
  return undefined;
}

/**
 * Reads no pixels, so that a false header costs nothing.
 * @returns null if the header does not parse, and a finding for an unsupported kind.
 */
export function readImageHeader(bytes: Buffer, format: ImageFormat): ImageHeader | Finding | null {
  try {
    switch (format) {
      case 'JPEG':
        return readJpegHeader(bytes);
      case 'PNG':
        return readPngHeader(bytes);
      case 'WEBP':
        return readWebpHeader(bytes);
      case 'TIFF':
        return readTiffHeader(bytes);
      case 'BMP':
        return readBmpImageHeader(bytes);
      default:
        throw new UnreachableCaseError(format);
    }
  } catch (error) {
    // The header claims more bytes than the file has.
    if (error instanceof RangeError) return null;
    throw error;
  }
}

/**
 * True if the file ends before its own structure does. TIFF and BMP have no end mark, but their headers say where the
 * pixels end.
 */
export function endsEarly(bytes: Buffer, format: ImageFormat): boolean {
  switch (format) {
    case 'JPEG':
      return !hasEndMark(bytes);
    case 'PNG':
      return !bytes.subarray(-1024).includes('IEND', 0, 'latin1');
    case 'WEBP':
      return bytes.length < 12 || bytes.readUInt32LE(4) + 8 > bytes.length;
    // Their headers say where the pixels end, so the decoder gets only complete files.
    case 'TIFF':
    case 'BMP':
      return false;
    default:
      throw new UnreachableCaseError(format);
  }
}
