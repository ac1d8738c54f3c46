/** Windows bitmaps, which sharp does not read: uncompressed, 1 to 32 bits a pixel. */

export interface BmpHeader {
  readonly width: number;
  readonly height: number;
  readonly bitsPerPixel: number;
  readonly topDown: boolean;
  readonly pixelOffset: number;
  /** Byte offset of the palette, its entries' bytes, and how many there are. */
  readonly paletteOffset: number;
  readonly paletteEntryBytes: number;
  readonly paletteCount: number;
}

export const BMP_HEADER_BYTES_MIN = 26;
const FILE_HEADER_BYTES = 14;
const COMPRESSION_NONE = 0;
const COMPRESSION_BITFIELDS = 3;

/** @returns null for what is no bitmap, or one of a kind that is not read (run-length coded, 16 bits, odd masks). */
export function readBmpHeader(bytes: Buffer): BmpHeader | null {
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
    };
  }
  if (infoBytes < 40 || infoBytes > 1024 || bytes.length < FILE_HEADER_BYTES + infoBytes) return null;
  const height = bytes.readInt32LE(22);
  const bitsPerPixel = bytes.readUInt16LE(28);
  const compression = bytes.readUInt32LE(30);
  if (![1, 4, 8, 24, 32].includes(bitsPerPixel)) return null;
  if (
    compression !== COMPRESSION_NONE &&
    !(compression === COMPRESSION_BITFIELDS && bitsPerPixel === 32 && hasPlainMasks(bytes))
  )
    return null;
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
  };
}

/** How many bytes the file must have. Rows are padded to four bytes. */
export function bmpBytesNeeded(header: BmpHeader): number {
  return header.pixelOffset + rowBytesOf(header) * header.height;
}

/**
 * RGB, uint8, `[height, width, 3]`. The fourth byte of 32-bit pixels is passed over: most programs leave it undefined.
 * @returns null where the palette lacks a colour that a pixel asks for. The caller has checked sizes and
 * `bmpBytesNeeded`.
 */
export function decodeBmp(bytes: Buffer, header: BmpHeader): Buffer | null {
  const { width, height, bitsPerPixel } = header;
  const pixels = Buffer.allocUnsafe(width * height * 3);
  const rowBytes = rowBytesOf(header);
  for (let y = 0; y < height; y += 1) {
    const row = header.pixelOffset + (header.topDown ? y : height - 1 - y) * rowBytes;
    for (let x = 0; x < width; x += 1) {
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
      const target = (y * width + x) * 3;
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

/** Never more entries than lie before the pixels. */
function paletteCountOf(bitsPerPixel: number, stated: number, bytesBeforePixels: number, entryBytes: number): number {
  if (bitsPerPixel > 8) return 0;
  const full = 1 << bitsPerPixel;
  return Math.max(0, Math.min(stated === 0 ? full : stated, full, Math.floor(bytesBeforePixels / entryBytes)));
}

/** Blue, green, red from the low byte up, as in BI_RGB. */
function hasPlainMasks(bytes: Buffer): boolean {
  const masks = FILE_HEADER_BYTES + 40;
  if (bytes.length < masks + 12) return false;
  return (
    bytes.readUInt32LE(masks) === 0xff0000 &&
    bytes.readUInt32LE(masks + 4) === 0xff00 &&
    bytes.readUInt32LE(masks + 8) === 0xff
  );
}
