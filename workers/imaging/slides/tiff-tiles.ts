/**
 * Where a TIFF keeps the JPEGs of its tiles (TIFF 6.0, its technical note 2, and the BigTIFF proposal). Of the file it
 * holds a few numbers for each directory, however many tiles there are.
 */

/** A tiled image of the file. */
export interface TiledImage {
  /** In pixels. */
  readonly width: number;
  readonly height: number;
  /** Null if its tiles are not JPEGs of 8-bit RGB or YCbCr, or if the file contradicts itself. */
  readonly jpegTiles: JpegTiles | null;
}

export interface JpegTiles {
  /** In pixels, also of tiles that reach beyond the image. */
  readonly tileWidth: number;
  readonly tileHeight: number;
  readonly tilesAcross: number;
  readonly tilesDown: number;
  /** By PhotometricInterpretation; otherwise RGB. */
  readonly isYcbcr: boolean;
  /** JPEGTables; empty if there are none. */
  readonly tables: Buffer;
  /**
   * The JPEG of a tile, valid until the next one is read; null if it is missing or larger than a tile can be.
   * @param index row by row.
   * @throws TiffFault
   */
  bytesOf(index: number): Buffer | null;
  /** @throws TiffFault */
  hasMissingTile(): boolean;
}

/** The bytes from `offset` on, valid until the next call. @throws TiffFault if the file does not have them. */
export type ReadBytes = (offset: number, byteSize: number) => Buffer;

/** The file is not a TIFF, or points beyond its end. */
export class TiffFault extends Error {
  override readonly name = 'TiffFault';
}

/** A slide has a dozen directories; a chain with a loop has no end. */
const DIRECTORIES_MAX = 256;
const ENTRIES_MAX = 4096;
/** Of a tile along each side. */
const TILE_PX_MAX = 2048;
/** A million pixels along each side, in tiles of 256 px. */
const TILES_MAX = 16 * 1024 * 1024;
const TABLES_BYTES_MAX = 64 * 1024;
/** Numbers of tiles that are read at once. */
const NUMBERS_AT_ONCE = 8192;

const TAG = {
  ...{ imageWidth: 256, imageLength: 257, bitsPerSample: 258, compression: 259, photometric: 262, fillOrder: 266 },
  ...{ samplesPerPixel: 277, planarConfiguration: 284, tileWidth: 322, tileLength: 323 },
  ...{ tileOffsets: 324, tileByteCounts: 325, jpegTables: 347 },
} as const;
const JPEG = 7;
const [RGB, YCBCR] = [2, 6];
/** Bytes of one value, for the types of unsigned integers and of bytes without a meaning. */
const TYPE_BYTES: Readonly<Record<number, number>> = { 1: 1, 3: 2, 4: 4, 7: 1, 16: 8 };

interface Format {
  readonly read: ReadBytes;
  readonly isLittleEndian: boolean;
  readonly isBigTiff: boolean;
}

interface Entry {
  readonly count: number;
  /** Of one value. */
  readonly byteSize: number;
  /** Of the first value, in the file. */
  readonly offset: number;
}

/**
 * The tiled images of the chain of directories, in its order.
 * @throws TiffFault
 */
export function readTiledImages(read: ReadBytes): TiledImage[] {
  const head = read(0, 16);
  const order = head.toString('latin1', 0, 2);
  const isLittleEndian = order === 'II';
  const version = uint(head, isLittleEndian, 2, 2);
  if ((order !== 'II' && order !== 'MM') || (version !== 42 && version !== 43)) throw new TiffFault('Not a TIFF.');
  const format = { read, isLittleEndian, isBigTiff: version === 43 };
  const images: TiledImage[] = [];
  const seen = new Set<number>();
  let next = format.isBigTiff ? uint(head, isLittleEndian, 8, 8) : uint(head, isLittleEndian, 4, 4);
  while (next !== 0) {
    if (seen.has(next) || seen.size >= DIRECTORIES_MAX) throw new TiffFault('The directories have no end.');
    seen.add(next);
    const directory = readDirectory(format, next);
    if (directory.entries.has(TAG.tileOffsets)) images.push(tiledImageOf(format, directory.entries));
    next = directory.next;
  }
  return images;
}

function readDirectory({ read, isLittleEndian, isBigTiff }: Format, offset: number) {
  const [countBytes, entryBytes, wordBytes] = isBigTiff ? [8, 20, 8] : [2, 12, 4];
  const count = uint(read(offset, countBytes), isLittleEndian, 0, countBytes);
  if (count < 1 || count > ENTRIES_MAX) throw new TiffFault(`A directory of ${count} entries.`);
  const first = offset + countBytes;
  const bytes = read(first, count * entryBytes + wordBytes);
  const entries = new Map<number, Entry>();
  for (let at = 0; at < count * entryBytes; at += entryBytes) {
    const tag = uint(bytes, isLittleEndian, at, 2);
    const byteSize = TYPE_BYTES[uint(bytes, isLittleEndian, at + 2, 2)];
    // Of two entries with the same tag the first counts, as in libtiff.
    if (byteSize === undefined || entries.has(tag)) continue;
    const valueCount = uint(bytes, isLittleEndian, at + 4, wordBytes);
    const valueAt = at + 4 + wordBytes;
    const isInline = valueCount * byteSize <= wordBytes;
    const place = isInline ? first + valueAt : uint(bytes, isLittleEndian, valueAt, wordBytes);
    entries.set(tag, { count: valueCount, byteSize, offset: place });
  }
  return { entries, next: uint(bytes, isLittleEndian, count * entryBytes, wordBytes) };
}

function tiledImageOf(format: Format, entries: ReadonlyMap<number, Entry>): TiledImage {
  const number = (tag: number, otherwise: number): number => {
    const entry = entries.get(tag);
    return entry === undefined || entry.count < 1 ? otherwise : valueOf(format, entry, 0);
  };
  const [width, height] = [number(TAG.imageWidth, 0), number(TAG.imageLength, 0)];
  return { width, height, jpegTiles: jpegTilesOf(format, entries, number, width, height) };
}

function jpegTilesOf(
  format: Format,
  entries: ReadonlyMap<number, Entry>,
  number: (tag: number, otherwise: number) => number,
  width: number,
  height: number,
): JpegTiles | null {
  const photometric = number(TAG.photometric, 0);
  const isJpeg =
    number(TAG.compression, 1) === JPEG &&
    (photometric === RGB || photometric === YCBCR) &&
    number(TAG.samplesPerPixel, 1) === 3 &&
    number(TAG.planarConfiguration, 1) === 1 &&
    number(TAG.fillOrder, 1) === 1;
  const bits = entries.get(TAG.bitsPerSample);
  if (!isJpeg || bits?.count !== 3 || [0, 1, 2].some((sample) => valueOf(format, bits, sample) !== 8)) return null;
  const [tileWidth, tileHeight] = [number(TAG.tileWidth, 0), number(TAG.tileLength, 0)];
  if ([tileWidth, tileHeight].some((side) => side < 1 || side > TILE_PX_MAX)) return null;
  const [tilesAcross, tilesDown] = [Math.ceil(width / tileWidth), Math.ceil(height / tileHeight)];
  const tileCount = tilesAcross * tilesDown;
  const [offsets, byteCounts] = [entries.get(TAG.tileOffsets), entries.get(TAG.tileByteCounts)];
  if (tileCount < 1 || tileCount > TILES_MAX || offsets?.count !== tileCount || byteCounts?.count !== tileCount)
    return null;
  const tablesEntry = entries.get(TAG.jpegTables);
  const tablesByteSize = (tablesEntry?.count ?? 0) * (tablesEntry?.byteSize ?? 0);
  if (tablesByteSize > TABLES_BYTES_MAX) return null;
  const tables =
    tablesEntry === undefined ? Buffer.alloc(0) : Buffer.from(format.read(tablesEntry.offset, tablesByteSize));
  // A JPEG is rarely larger than its pixels, and never much.
  const tileBytesMax = tileWidth * tileHeight * 3 * 2 + TABLES_BYTES_MAX;
  return {
    ...{ tileWidth, tileHeight, tilesAcross, tilesDown, tables },
    isYcbcr: photometric === YCBCR,
    bytesOf: (index) => {
      const [offset, byteSize] = [valueOf(format, offsets, index), valueOf(format, byteCounts, index)];
      return byteSize < 1 || byteSize > tileBytesMax ? null : format.read(offset, byteSize);
    },
    hasMissingTile: () => {
      for (let first = 0; first < tileCount; first += NUMBERS_AT_ONCE)
        if (valuesOf(format, byteCounts, first, Math.min(NUMBERS_AT_ONCE, tileCount - first)).includes(0)) return true;
      return false;
    },
  };
}

function valueOf(format: Format, entry: Entry, index: number): number {
  return valuesOf(format, entry, index, 1)[0] ?? 0;
}

/** Whole numbers from `first` on. @throws TiffFault */
function valuesOf({ read, isLittleEndian }: Format, entry: Entry, first: number, count: number): number[] {
  const { byteSize } = entry;
  const bytes = read(entry.offset + first * byteSize, count * byteSize);
  return Array.from({ length: count }, (_, index) => uint(bytes, isLittleEndian, index * byteSize, byteSize));
}

function uint(bytes: Buffer, isLittleEndian: boolean, offset: number, size: number): number {
  if (size < 8) return isLittleEndian ? bytes.readUIntLE(offset, size) : bytes.readUIntBE(offset, size);
  const value = Number(isLittleEndian ? bytes.readBigUInt64LE(offset) : bytes.readBigUInt64BE(offset));
  if (!Number.isSafeInteger(value)) throw new TiffFault('A number beyond any file.');
  return value;
}
