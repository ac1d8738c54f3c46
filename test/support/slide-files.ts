/**
 * Draws slides whose truth is known: tiled TIFF pyramids with JPEG or Deflate tiles, as Aperio's SVS or generic TIFF
 * (TIFF 6.0 and its technical note 2).
 */
import { writeFile } from 'node:fs/promises';
import { deflateSync } from 'node:zlib';
import sharp from 'sharp';

export type Rgb = readonly [red: number, green: number, blue: number];
/** The colour at a point of level 0, in pixels. */
export type Paint = (x: number, y: number) => Rgb;

export interface DrawnSlide {
  readonly width: number;
  readonly height: number;
  readonly paint: Paint;
  /** Of each level, from 1. */
  readonly downsamples: readonly number[];
  readonly compression: 'JPEG' | 'DEFLATE';
  /** SVS: Aperio's description, which starts with this text's first line. Null: a generic TIFF. */
  readonly description: string | null;
  /** Pixels per centimetre, as a TIFF states it; null: not stated. */
  readonly pixelsPerCm?: number | null;
  /** Text of a label image, stored in strips as Aperio does. */
  readonly labelDescription?: string;
  /** Of level 0: the tile of this index is replaced, by default by bytes that do not decode. */
  readonly brokenTile?: { readonly index: number; readonly bytes?: Buffer };
  /** The width and height that the second level states in place of its own. */
  readonly statedLevel1?: readonly [width: number, height: number];
}

/** Side of a tile. */
export const TILE_PX = 256;

/** A picture in a TIFF. */
export interface TiffDirectory {
  readonly width: number;
  readonly height: number;
  /** Of TIFF: 1 none, 7 JPEG, 8 Deflate; of Aperio: 33003 JPEG 2000 of YCbCr, 33005 of RGB. */
  readonly compression: number;
  /** 2 RGB, 6 YCbCr. */
  readonly photometric: number;
  /** Row by row, each TILE_PX wide and high, or one strip. The same buffer is stored once, however often it occurs. */
  readonly tiles: readonly Buffer[];
  readonly isTiled: boolean;
  readonly description: string | null;
  readonly pixelsPerCm: number | null;
  /** Of a vendor, behind all others. */
  readonly furtherEntries?: readonly Entry[];
}

export function aperioDescription(width: number, height: number, facts: string): string {
  return `Aperio Image Library v12.0.15\r\n${width}x${height} [0,0 ${width}x${height}] (256x256) JPEG/RGB Q=90|${facts}`;
}

export async function drawSlide(file: string, drawn: DrawnSlide): Promise<void> {
  const { width, height, paint, compression, description, pixelsPerCm = null, brokenTile } = drawn;
  const base = paintedPixels(width, height, paint);
  const directories: TiffDirectory[] = [];
  for (const downsample of drawn.downsamples) {
    const level = downsample === 1 ? { data: base, width, height } : boxReduced(base, width, height, downsample);
    const tiles = await tilesOf(level, compression);
    if (downsample === 1 && brokenTile !== undefined)
      tiles[brokenTile.index] = brokenTile.bytes ?? Buffer.from('not a tile of this image');
    const [statedWidth, statedHeight] = (directories.length === 1 ? drawn.statedLevel1 : undefined) ?? [
      level.width,
      level.height,
    ];
    directories.push({
      ...{ width: statedWidth, height: statedHeight, tiles, isTiled: true, pixelsPerCm },
      compression: compression === 'JPEG' ? 7 : 8,
      photometric: compression === 'JPEG' ? 6 : 2,
      description: description === null ? null : downsample === 1 ? description : (description.split('|')[0] ?? ''),
    });
  }
  if (drawn.labelDescription !== undefined)
    directories.push({
      ...{ width: 64, height: 64, compression: 1, photometric: 2, isTiled: false, pixelsPerCm: null },
      tiles: [Buffer.alloc(64 * 64 * 3, 120)],
      description: drawn.labelDescription,
    });
  await writeFile(file, tiffOf(directories));
}

/** RGB. */
export function paintedPixels(width: number, height: number, paint: Paint): Buffer {
  const data = Buffer.allocUnsafe(width * height * 3);
  for (let y = 0, at = 0; y < height; y += 1)
    for (let x = 0; x < width; x += 1, at += 3) {
      const [red, green, blue] = paint(x, y);
      data[at] = red;
      data[at + 1] = green;
      data[at + 2] = blue;
    }
  return data;
}

function boxReduced(base: Buffer, width: number, height: number, by: number) {
  const [w, h] = [Math.floor(width / by), Math.floor(height / by)];
  const data = Buffer.allocUnsafe(w * h * 3);
  for (let y = 0; y < h; y += 1)
    for (let x = 0; x < w; x += 1)
      for (let channel = 0; channel < 3; channel += 1) {
        let sum = 0;
        for (let dy = 0; dy < by; dy += 1)
          for (let dx = 0; dx < by; dx += 1) sum += base[((y * by + dy) * width + x * by + dx) * 3 + channel] ?? 0;
        data[(y * w + x) * 3 + channel] = Math.round(sum / (by * by));
      }
  return { data, width: w, height: h };
}

/** Row by row, each TILE_PX wide and high. */
export async function tilesOf(
  { data, width, height }: { readonly data: Buffer; readonly width: number; readonly height: number },
  compression: DrawnSlide['compression'],
): Promise<Buffer[]> {
  const tiles: Buffer[] = [];
  for (let top = 0; top < height; top += TILE_PX)
    for (let left = 0; left < width; left += TILE_PX) {
      const tile = Buffer.alloc(TILE_PX * TILE_PX * 3, 255);
      const length = Math.min(TILE_PX, width - left) * 3;
      for (let row = 0; row < Math.min(TILE_PX, height - top); row += 1) {
        const from = ((top + row) * width + left) * 3;
        data.copy(tile, row * TILE_PX * 3, from, from + length);
      }
      tiles.push(
        compression === 'DEFLATE'
          ? deflateSync(tile)
          : await sharp(tile, { raw: { width: TILE_PX, height: TILE_PX, channels: 3 } })
              .jpeg({ quality: 95, chromaSubsampling: '4:4:4' })
              .toBuffer(),
      );
    }
  return tiles;
}

/** Types: 2 ASCII, 3 SHORT, 4 LONG, 5 RATIONAL (two values), 7 UNDEFINED (bytes in Latin-1), 9 SLONG, 11 FLOAT. */
type Entry = readonly [tag: number, type: 2 | 3 | 4 | 5 | 7 | 9 | 11, values: readonly number[] | string];
const TYPE_BYTES = { 2: 1, 3: 2, 4: 4, 5: 8, 7: 1, 9: 4, 11: 4 } as const;

/**
 * Classic little-endian TIFF, up to 4 GiB.
 * @param pointerBytes of the place of each directory: 4, and 8 in Hamamatsu's NDPI.
 */
export function tiffOf(directories: readonly TiffDirectory[], pointerBytes: 4 | 8 = 4): Buffer {
  const head = Buffer.alloc(4 + pointerBytes);
  head.writeUInt32BE(0x49492a00);
  const parts: Buffer[] = [head];
  let size = head.length;
  const append = (bytes: Buffer): number => {
    const at = size;
    const padded = bytes.length % 2 === 0 ? bytes : Buffer.concat([bytes, Buffer.alloc(1)]);
    parts.push(padded);
    size += padded.length;
    return at;
  };
  const offsetOf = new Map<Buffer, number>();
  let nextPointer: { readonly buffer: Buffer; readonly at: number } = { buffer: head, at: 4 };
  for (const each of directories) {
    const offsets = each.tiles.map((tile) => {
      const offset = offsetOf.get(tile) ?? append(tile);
      offsetOf.set(tile, offset);
      return offset;
    });
    const counts = each.tiles.map((tile) => tile.length);
    const entries: Entry[] = [
      // A reduced image, without which a generic TIFF has one level.
      ...(each === directories[0] || !each.isTiled ? [] : [[254, 4, [1]] as const]),
      [256, 4, [each.width]],
      [257, 4, [each.height]],
      [258, 3, [8, 8, 8]],
      [259, 3, [each.compression]],
      [262, 3, [each.photometric]],
      ...(each.description === null ? [] : [[270, 2, `${each.description}\0`] as const]),
      ...(each.isTiled ? [] : [[273, 4, offsets] as const]),
      [277, 3, [3]],
      ...(each.isTiled ? [] : [[278, 4, [each.height]] as const, [279, 4, counts] as const]),
      ...(each.pixelsPerCm === null
        ? []
        : [
            [282, 5, [Math.round(each.pixelsPerCm * 1000), 1000]] as const,
            [283, 5, [Math.round(each.pixelsPerCm * 1000), 1000]] as const,
          ]),
      [284, 3, [1]],
      ...(each.pixelsPerCm === null ? [] : [[296, 3, [3]] as const]),
      ...(each.isTiled
        ? ([
            [322, 4, [TILE_PX]],
            [323, 4, [TILE_PX]],
            [324, 4, offsets],
            [325, 4, counts],
          ] as const)
        : []),
      ...(each.furtherEntries ?? []),
    ];
    const directory = Buffer.alloc(2 + entries.length * 12 + pointerBytes);
    directory.writeUInt16LE(entries.length, 0);
    for (const [index, [tag, type, values]] of entries.entries()) {
      const bytes = bytesOf(type, values);
      const at = 2 + index * 12;
      directory.writeUInt16LE(tag, at);
      directory.writeUInt16LE(type, at + 2);
      directory.writeUInt32LE(type === 5 ? values.length / 2 : bytes.length / TYPE_BYTES[type], at + 4);
      if (bytes.length <= 4) bytes.copy(directory, at + 8);
      else directory.writeUInt32LE(append(bytes), at + 8);
    }
    nextPointer.buffer.writeUInt32LE(append(directory), nextPointer.at);
    nextPointer = { buffer: directory, at: directory.length - pointerBytes };
  }
  return Buffer.concat(parts);
}

function bytesOf(type: Entry[1], values: Entry[2]): Buffer {
  if (typeof values === 'string') return Buffer.from(values, 'latin1');
  const bytes = Buffer.alloc(values.length * (type === 3 ? 2 : 4));
  for (const [index, value] of values.entries())
    if (type === 3) bytes.writeUInt16LE(value, index * 2);
    else if (type === 11) bytes.writeFloatLE(value, index * 4);
    else bytes.writeUInt32LE(value, index * 4);
  return bytes;
}
