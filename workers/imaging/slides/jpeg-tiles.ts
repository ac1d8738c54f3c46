/**
 * Reads the JPEG tiles of SVS and pyramidal TIFF past OpenSlide, which takes longer to paint them than to decode them.
 * OpenSlide says what the slide is and which levels it has; whatever is not understood here, it reads.
 */
import { closeSync, openSync, readSync } from 'node:fs';
import type { NativeDecoder } from '../decoder/native-decoder.ts';
import type { Pixels } from '../pixels.ts';
import type { SlideLevel } from './geometry.ts';
import { createKeptMemory } from '../kept-memory.ts';
import type { OpenedSlide, OpenSlide } from './openslide.ts';
import { readTiledImages, TiffFault, type JpegTiles, type ReadBytes, type TiledImage } from './tiff-tiles.ts';

/** Decoded tiles that are kept for neighbouring patches: 256 tiles of 256 px. */
const CACHE_BYTES = 48 * 1024 * 1024;
/** Larger regions OpenSlide paints in pieces of this side, in pixels of the level. */
const PIECE_PX = 4096;
/** OpenSlide copies pixels where a region is this close to whole pixels of the level, and interpolates elsewhere. */
const WHOLE_PX = 1e-6;

export type DecodeJpegTile = NativeDecoder['decodeJpegTile'];

/**
 * @returns `openSlide`, whose slides read regions of JPEG tiles by `decode`: the same pixels, but for regions between
 * the pixels of a level, which OpenSlide reads.
 */
export function withJpegTiles(openSlide: OpenSlide, decode: DecodeJpegTile): OpenSlide {
  return {
    version: openSlide.version,
    open: (file) => {
      const slide = openSlide.open(file);
      const source = openSource(file, slide);
      if (source === null) return slide;
      const reading = { decode, cache: createTileCache(), memory: createKeptMemory() };
      const readers = slide.levels.map((level, index) => {
        const tiles = source.levels[index] ?? null;
        return tiles === null ? null : createLevelReader({ ...reading, tiles, level, keyOfFirst: index * LEVEL_KEYS });
      });
      return {
        ...slide,
        readRegion: (level, x, y, width, height) =>
          readers[level]?.(x, y, width, height) ?? slide.readRegion(level, x, y, width, height),
        close: () => {
          source.close();
          slide.close();
        },
      };
    },
  };
}

interface Source {
  /** Of each level of the slide; null for those that OpenSlide reads. */
  readonly levels: readonly (JpegTiles | null)[];
  close(): void;
}

/** @returns null if OpenSlide reads all of the slide. */
function openSource(file: string, { vendor, levels }: OpenedSlide): Source | null {
  if (vendor !== 'aperio' && vendor !== 'generic-tiff') return null;
  const descriptor = openSync(file, 'r');
  try {
    const images = readTiledImages(readerOf(descriptor));
    // OpenSlide paints these from finer levels, and tiles of coarser levels as well.
    const isWhole = vendor !== 'aperio' || images.every(({ jpegTiles }) => jpegTiles?.hasMissingTile() === false);
    const found = isWhole ? levels.map((level) => tilesOf(level, images)) : [];
    if (found.some((tiles) => tiles !== null)) return { levels: found, close: () => closeSync(descriptor) };
  } catch (error) {
    if (!(error instanceof TiffFault)) throw error;
  }
  closeSync(descriptor);
  return null;
}

/** By the size of the level; null if not exactly one image has it. */
function tilesOf({ width, height }: SlideLevel, images: readonly TiledImage[]): JpegTiles | null {
  const [image, another] = images.filter((each) => each.width === width && each.height === height);
  return another === undefined ? (image?.jpegTiles ?? null) : null;
}

function readerOf(descriptor: number): ReadBytes {
  const memory = createKeptMemory();
  return (offset, byteSize) => {
    const bytes = memory(byteSize);
    for (let filled = 0; filled < byteSize;) {
      const count = readSome(descriptor, bytes, filled, byteSize - filled, offset + filled);
      if (count === 0) throw new TiffFault(`The file has no ${byteSize} bytes from ${offset} on.`);
      filled += count;
    }
    return bytes;
  };
}

/** What a broken disk does not read is OpenSlide's to report. */
function readSome(descriptor: number, target: Buffer, at: number, byteSize: number, position: number): number {
  try {
    return readSync(descriptor, target, at, byteSize, position);
  } catch (error) {
    throw new TiffFault('The file cannot be read.', { cause: error });
  }
}

type Tile = Buffer;

interface TileCache {
  get(key: number): Tile | undefined;
  /** Memory for a tile, which is in the cache once it is put there. */
  roomFor(byteSize: number): Tile;
  put(key: number, tile: Tile): void;
}

/** Those that were used last, in memory that is used again, because the kernel takes long to clear new pages. */
function createTileCache(): TileCache {
  const tiles = new Map<number, Tile>();
  let usedBytes = 0;
  let spare: Tile | undefined;
  return {
    get: (key) => {
      const tile = tiles.get(key);
      if (tile === undefined) return undefined;
      tiles.delete(key);
      tiles.set(key, tile);
      return tile;
    },
    roomFor: (byteSize) => {
      for (const [key, tile] of tiles) {
        if (usedBytes + byteSize <= CACHE_BYTES) break;
        tiles.delete(key);
        usedBytes -= tile.length;
        spare = tile;
      }
      const room = spare?.length === byteSize ? spare : Buffer.allocUnsafeSlow(byteSize);
      spare = undefined;
      return room;
    },
    put: (key, tile) => {
      tiles.set(key, tile);
      usedBytes += tile.length;
    },
  };
}

interface LevelToRead {
  readonly tiles: JpegTiles;
  readonly level: SlideLevel;
  readonly decode: DecodeJpegTile;
  readonly cache: TileCache;
  /** In the cache, of the level's first tile. */
  readonly keyOfFirst: number;
  /** For the pixels of a region. */
  readonly memory: (byteSize: number) => Buffer;
}

/** More than a level has tiles. */
const LEVEL_KEYS = 2 ** 32;

/**
 * @returns a function with the arguments of `readRegion`, which returns null for a region that reaches beyond the
 * level, lies between its pixels, or has a tile that is not decoded.
 */
function createLevelReader({ tiles, level, decode, cache, keyOfFirst, memory }: LevelToRead) {
  const { tileWidth, tileHeight, tilesAcross, isYcbcr, tables } = tiles;
  const { downsample } = level;

  const tileAt = (index: number): Tile | null => {
    const kept = cache.get(keyOfFirst + index);
    if (kept !== undefined) return kept;
    const bytes = jpegOf(tiles, index);
    if (bytes === null) return null;
    const room = cache.roomFor(tileWidth * tileHeight * 3);
    if (!decode(tables, bytes, isYcbcr, tileWidth, tileHeight, room)) return null;
    cache.put(keyOfFirst + index, room);
    return room;
  };

  return (x: number, y: number, width: number, height: number): Pixels | null => {
    const isInPieces = Math.max(width, height) > PIECE_PX;
    if (!isWhole(x / downsample) || !isWhole(y / downsample) || (isInPieces && !isWhole(downsample))) return null;
    const [left, top] = [Math.round(x / downsample), Math.round(y / downsample)];
    const [right, bottom] = [left + width, top + height];
    if (left < 0 || top < 0 || width < 1 || height < 1 || right > level.width || bottom > level.height) return null;
    const data = memory(width * height * 3);
    for (let row = Math.floor(top / tileHeight); row * tileHeight < bottom; row += 1)
      for (let column = Math.floor(left / tileWidth); column * tileWidth < right; column += 1) {
        const tile = tileAt(row * tilesAcross + column);
        if (tile === null) return null;
        const [tileLeft, tileTop] = [column * tileWidth, row * tileHeight];
        const first = Math.max(left, tileLeft);
        const byteCount = (Math.min(right, tileLeft + tileWidth) - first) * 3;
        for (let line = Math.max(top, tileTop); line < Math.min(bottom, tileTop + tileHeight); line += 1) {
          const from = ((line - tileTop) * tileWidth + first - tileLeft) * 3;
          tile.copy(data, ((line - top) * width + first - left) * 3, from, from + byteCount);
        }
      }
    return { data, width, height };
  };
}

function isWhole(px: number): boolean {
  return Math.abs(px - Math.round(px)) <= WHOLE_PX;
}

function jpegOf(tiles: JpegTiles, index: number): Buffer | null {
  try {
    return tiles.bytesOf(index);
  } catch (error) {
    if (!(error instanceof TiffFault)) throw error;
    return null;
  }
}
