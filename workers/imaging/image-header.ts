/** What an image file says of itself in its first bytes: read without decoding, so that a lie costs nothing. */
import sharp from 'sharp';
import { UnreachableCaseError } from '../../src/errors.ts';
import { readBmpHeader } from './bmp.ts';

export type ImageFormat = 'JPEG' | 'PNG' | 'WEBP' | 'TIFF' | 'BMP';

export interface ImageHeader {
  readonly format: ImageFormat;
  /** As stored; an EXIF orientation may turn it. */
  readonly width: number;
  readonly height: number;
  /** True: 8-bit grey or RGB, opaque, upright, still. Any reader gets the same pixels from such bytes. */
  readonly plain: boolean;
}

/** Enough for `formatOf`. */
export const MAGIC_BYTES = 12;

/** The format by magic bytes, never by name; undefined for anything else. */
export function formatOf(bytes: Buffer): ImageFormat | undefined {
  const text = bytes.toString('latin1', 0, MAGIC_BYTES);
  if (text.startsWith('\xff\xd8\xff')) return 'JPEG';
  if (text.startsWith('\x89PNG\r\n\x1a\n')) return 'PNG';
  if (text.startsWith('RIFF') && text.slice(8) === 'WEBP') return 'WEBP';
  if (/^(II[*+]\0|MM\0[*+])/.test(text)) return 'TIFF';
  // Two letters are a weak sign: the reserved words after the size must be zero too.
  if (text.startsWith('BM') && text.slice(6, 10) === '\0\0\0\0') return 'BMP';
  return undefined;
}

/** @returns null where the header does not parse. */
export async function readImageHeader(bytes: Buffer, format: ImageFormat): Promise<ImageHeader | null> {
  try {
    switch (format) {
      case 'JPEG':
        return readJpeg(bytes);
      case 'PNG':
        return readPng(bytes);
      case 'WEBP':
        return readWebp(bytes);
      case 'BMP': {
        const header = readBmpHeader(bytes);
        return header === null ? null : { format, width: header.width, height: header.height, plain: false };
      }
      case 'TIFF': {
        const { width, height } = await sharp(bytes, { limitInputPixels: false, pages: 1 }).metadata();
        return { format, width, height, plain: false };
      }
      default:
        throw new UnreachableCaseError(format);
    }
  } catch (error) {
    if (error instanceof UnreachableCaseError) throw error;
    // Reads past the end throw RangeError, and sharp throws on a header that it can not read.
    return null;
  }
}

/**
 * True where the bytes end before the file's own structure does. TIFF has no end mark: there the decoder's words
 * decide.
 */
export function endsEarly(bytes: Buffer, format: ImageFormat, decoderMessage: string): boolean {
  switch (format) {
    case 'JPEG':
      return !bytes.subarray(-1024).includes(Buffer.from([0xff, 0xd9]));
    case 'PNG':
      return !bytes.subarray(-1024).includes('IEND', 0, 'latin1');
    case 'WEBP':
      return bytes.length < 12 || bytes.readUInt32LE(4) + 8 > bytes.length;
    case 'TIFF':
      return /truncat|premature|not enough|beyond|unexpected end|read error|seek|out of bounds|fewer|directory/i.test(
        decoderMessage,
      );
    case 'BMP':
      return false;
    default:
      throw new UnreachableCaseError(format);
  }
}

function readPng(bytes: Buffer): ImageHeader | null {
  if (bytes.toString('latin1', 12, 16) !== 'IHDR') return null;
  const colourType = bytes.readUInt8(25);
  let plain = bytes.readUInt8(24) <= 8 && (colourType & 4) === 0;
  for (let offset = 8; plain && offset + 8 <= bytes.length; offset += 12 + bytes.readUInt32BE(offset)) {
    const chunk = bytes.toString('latin1', offset + 4, offset + 8);
    // EXIF may come after the pixels, so all chunks are passed by.
    if (chunk === 'tRNS' || chunk === 'eXIf' || chunk === 'acTL') plain = false;
  }
  return { format: 'PNG', width: bytes.readUInt32BE(16), height: bytes.readUInt32BE(20), plain };
}

function readWebp(bytes: Buffer): ImageHeader | null {
  const chunk = bytes.toString('latin1', 12, 16);
  if (chunk === 'VP8 ')
    return {
      format: 'WEBP',
      width: bytes.readUInt16LE(26) & 0x3fff,
      height: bytes.readUInt16LE(28) & 0x3fff,
      plain: true,
    };
  if (chunk === 'VP8L') {
    const word = bytes.readUInt32LE(21);
    return {
      format: 'WEBP',
      width: (word & 0x3fff) + 1,
      height: ((word >>> 14) & 0x3fff) + 1,
      plain: ((word >>> 28) & 1) === 0,
    };
  }
  if (chunk !== 'VP8X') return null;
  // Flags: animation 2, EXIF 8, alpha 16.
  const plain = (bytes.readUInt8(20) & 0b11010) === 0;
  return { format: 'WEBP', width: bytes.readUIntLE(24, 3) + 1, height: bytes.readUIntLE(27, 3) + 1, plain };
}

function readJpeg(bytes: Buffer): ImageHeader | null {
  let upright = true;
  for (let offset = 2; ;) {
    if (bytes.readUInt8(offset) !== 0xff) return null;
    const marker = bytes.readUInt8(offset + 1);
    if (marker === 0xff) {
      offset += 1;
      continue;
    }
    const isFrame = marker >= 0xc0 && marker <= 0xcf && marker !== 0xc4 && marker !== 0xc8 && marker !== 0xcc;
    if (isFrame) {
      const precision = bytes.readUInt8(offset + 4);
      const channelCount = bytes.readUInt8(offset + 9);
      const plain = upright && precision === 8 && (channelCount === 1 || channelCount === 3);
      return { format: 'JPEG', width: bytes.readUInt16BE(offset + 7), height: bytes.readUInt16BE(offset + 5), plain };
    }
    if (marker === 0xd9 || marker === 0xda) return null;
    const segmentBytes = bytes.readUInt16BE(offset + 2);
    if (marker === 0xe1 && bytes.toString('latin1', offset + 4, offset + 10) === 'Exif\0\0') {
      upright &&= isUpright(bytes.subarray(offset + 10, offset + 2 + segmentBytes));
    }
    offset += 2 + Math.max(2, segmentBytes);
  }
}

const ORIENTATION_TAG = 0x0112;

/** False only where the EXIF block has an orientation other than 1. */
function isUpright(exif: Buffer): boolean {
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
