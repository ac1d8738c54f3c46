/** Windows bitmaps, which sharp does not read: uncompressed, 1 to 32 bits per pixel. */
import { RGB_8, type Finding, type ImageHeader } from './image-header.ts';

export interface BmpHeader {
  readonly width: number;
  readonly height: number;
  readonly bitsPerPixel: number;
  readonly topDown: boolean;
  readonly pixelOffset: number;
  /** The palette's byte offset, the bytes of an entry, and the number of entries. */
  readonly paletteOffset: number;
  readonly paletteEntryBytes: number;
  readonly paletteCount: number;
  /** Bit masks of red, green and blue in a pixel of 16 or 32 bits; null for other sizes. */
  readonly masks: readonly [number, number, number] | null;
}

export const BMP_HEADER_BYTES_MIN = 26;
const FILE_HEADER_BYTES = 14;
const COMPRESSION_NONE = 0;
const COMPRESSION_BITFIELDS = 3;
const COMPRESSION_NAMES: Readonly<Record<number, string>> = {
  ...{ 1: 'run lengths', 2: 'run lengths', 4: 'JPEG', 5: 'PNG', 6: 'bit fields with alpha' },
};
const MASKS_16 = [0x7c00, 0x03e0, 0x001f] as const;
const MASKS_32 = [0xff0000, 0x00ff00, 0x0000ff] as const;

/**
 * Describes the bitmap like any image.
 * @returns null if the header does not parse, and a finding for an unsupported kind.
 */
export function readBmpImageHeader(bytes: Buffer): ImageHeader | Finding | null {
  const header = readBmpHeader(bytes);
  if (header === null || 'issue' in header) return header;
  const { width, height } = header;
  // Readers of shards do not support BMP, so it is stored as PNG.
  return {
    format: 'BMP',
    width,
    height,
    samples: RGB_8,
    isPlain: false,
    hasProfile: false,
    isUpright: true,
    page: 0,
    subIfd: null,
    notes: [],
  };
}

/** @returns null if the header does not parse, and a finding for an unsupported kind. */
export function readBmpHeader(bytes: Buffer): BmpHeader | Finding | null {
  if (bytes.length < BMP_HEADER_BYTES_MIN || bytes.toString('latin1', 0, 2) !== 'BM') return null;
  const pixelOffset = bytes.readUInt32LE(10);
  const infoBytes = bytes.readUInt32LE(14);
  if (infoBytes === 12) {
    const bitsPerPixel = bytes.readUInt16LE(24);
    if (![1, 4, 8, 24].includes(bitsPerPixel)) return null;
    const paletteOffset = FILE_HEADER_BYTES + infoBytes;
    return {
      width: bytes.readUInt16LE(18),
      height: bytes.readUInt16LE(20),
      bitsPerPixel,
      topDown: false,
      pixelOffset,
      paletteOffset,
      paletteEntryBytes: 3,
      paletteCount: paletteCountOf(bitsPerPixel, 0, pixelOffset - paletteOffset, 3),
      masks: null,
    };
  }
  if (infoBytes < 40 || infoBytes > 1024 || bytes.length < FILE_HEADER_BYTES + infoBytes) return null;
  const height = bytes.readInt32LE(22);
  const bitsPerPixel = bytes.readUInt16LE(28);
  const compression = bytes.readUInt32LE(30);
  if (![1, 4, 8, 16, 24, 32].includes(bitsPerPixel)) return null;
  const hasMasks = compression === COMPRESSION_BITFIELDS && (bitsPerPixel === 16 || bitsPerPixel === 32);
  if (compression !== COMPRESSION_NONE && !hasMasks) {
    const name = COMPRESSION_NAMES[compression] ?? `compression ${compression}`;
    return { issue: 'COMPRESSION_NOT_READ', reason: `A BMP that is compressed by ${name}. Save it as PNG.` };
  }
  const masks = hasMasks ? masksOf(bytes) : bitsPerPixel === 16 ? MASKS_16 : bitsPerPixel === 32 ? MASKS_32 : null;
  if (hasMasks && masks === null) return null;
  const masksBytes = compression === COMPRESSION_BITFIELDS && infoBytes === 40 ? 12 : 0;
  const paletteOffset = FILE_HEADER_BYTES + infoBytes + masksBytes;
  return {
    width: bytes.readInt32LE(18),
    height: Math.abs(height),
    bitsPerPixel,
    topDown: height < 0,
    pixelOffset,
    paletteOffset,
    paletteEntryBytes: 4,
    paletteCount: paletteCountOf(bitsPerPixel, bytes.readUInt32LE(46), pixelOffset - paletteOffset, 4),
    masks,
  };
}

/** The number of bytes that the file must have. Rows are padded to four bytes. */
export function bmpBytesNeeded(header: BmpHeader): number {
  return header.pixelOffset + rowBytesOf(header) * header.height;
}

/**
 * RGB, uint8, `[height, width, 3]`. The fourth byte of 32-bit pixels is ignored, because most programs leave it
 * undefined. Values of fewer than 8 bits are scaled to the full range: `floor(value * 255 / greatest)`.
 * @returns null if a pixel has a colour index beyond the palette. The caller has checked sizes and `bmpBytesNeeded`.
 */
export function decodeBmp(bytes: Buffer, header: BmpHeader): Buffer | null {
  const { width, height, bitsPerPixel } = header;
  const pixels = Buffer.allocUnsafe(width * height * 3);
  const rowBytes = rowBytesOf(header);
  const channels = header.masks?.map(channelOf);
  for (let y = 0; y < height; y += 1) {
    const row = header.pixelOffset + (header.topDown ? y : height - 1 - y) * rowBytes;
    for (let x = 0; x < width; x += 1) {
      const target = (y * width + x) * 3;
      if (channels !== undefined) {
        const at = row + (x * bitsPerPixel) / 8;
        const pixel = bitsPerPixel === 16 ? bytes.readUInt16LE(at) : bytes.readUInt32LE(at);
        for (const [index, { shift, levels }] of channels.entries())
          pixels[target + index] = Math.floor((((pixel >>> shift) & levels) * 255) / levels);
        continue;
      }
      let source: number;
      if (bitsPerPixel >= 24) {
        source = row + (x * bitsPerPixel) / 8;
      } else {
        const bit = x * bitsPerPixel;
        const shift = 8 - bitsPerPixel - (bit % 8);
        const index = ((bytes[row + (bit >> 3)] ?? 0) >> shift) & ((1 << bitsPerPixel) - 1);
        if (index >= header.paletteCount) return null;
        source = header.paletteOffset + index * header.paletteEntryBytes;
      }
      pixels[target] = bytes[source + 2] ?? 0;
      pixels[target + 1] = bytes[source + 1] ?? 0;
      pixels[target + 2] = bytes[source] ?? 0;
    }
  }
  return pixels;
}

function rowBytesOf(header: BmpHeader): number {
  return Math.ceil((header.width * header.bitsPerPixel) / 32) * 4;
}

/** The number of palette entries, at most as many as fit before the pixels. */
function paletteCountOf(bitsPerPixel: number, stated: number, bytesBeforePixels: number, entryBytes: number): number {
  if (bitsPerPixel > 8) return 0;
  const full = 1 << bitsPerPixel;
  return Math.max(0, Math.min(stated === 0 ? full : stated, full, Math.floor(bytesBeforePixels / entryBytes)));
}

/** @returns null if the masks are missing, or if one is empty or not contiguous. */
function masksOf(bytes: Buffer): readonly [number, number, number] | null {
  const at = FILE_HEADER_BYTES + 40;
  if (bytes.length < at + 12) return null;
  const masks = [bytes.readUInt32LE(at), bytes.readUInt32LE(at + 4), bytes.readUInt32LE(at + 8)] as const;
  const areRuns = masks.every((mask) => {
    const { shift, levels } = channelOf(mask);
    return mask !== 0 && ((levels + 1) & levels) === 0 && levels <= 255 && (levels << shift) >>> 0 === mask;
  });
  return areRuns ? masks : null;
}

/** The position of the mask's lowest bit, and its greatest value. */
function channelOf(mask: number): { readonly shift: number; readonly levels: number } {
  const shift = mask === 0 ? 0 : 31 - Math.clz32(mask & -mask);
  return { shift, levels: mask >>> shift };
}
