/** Encodes PNG (ISO/IEC 15948) of 8-bit RGB: the same bytes for the same pixels. */
import { crc32 } from 'node:zlib';
import { createKeptMemory } from '../kept-memory.ts';
import type { Pixels } from '../pixels.ts';
import { adler32InScript, deflateInScript, deflateRoomFor, type Adler32, type DeflateBlock } from './deflate.ts';
import type { NativeDecoder } from './native-decoder.ts';

/**
 * Fills `target` with rows from `firstRow` on, each as the number of Paeth's filter and the differences that it leaves:
 * `width * 3 + 1` bytes. @param firstRow of the picture; the row above it must be there as well.
 */
export type FilterRows = (picture: Pixels, firstRow: number, target: Buffer) => void;

/** The loops over all bytes of a picture, which make the same bytes in script and in our addon. */
export interface PngLoops {
  readonly filterRows: FilterRows;
  readonly deflateBlock: DeflateBlock;
  readonly adler32: Adler32;
}

export const SCRIPT_PNG_LOOPS: PngLoops = {
  filterRows: filterRowsInScript,
  deflateBlock: deflateInScript,
  adler32: adler32InScript,
};

export function pngLoops(native: NativeDecoder | null): PngLoops {
  if (native === null) return SCRIPT_PNG_LOOPS;
  return {
    filterRows: ({ data, width }, firstRow, target) => native.filterRows(data, width, firstRow, target),
    deflateBlock: native.deflateBlock,
    adler32: native.adler32,
  };
}

const PAETH = 4;
const SIGNATURE = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]);
/** 8 bits, RGB, and the only method of compression, of filtering, and of interlacing. */
const RGB_8_BITS = [8, 2, 0, 0, 0];
/** Of the deflate stream that a PNG holds (RFC 1950): a window of 32 KB, and the fastest compression. */
const ZLIB_HEADER = Buffer.of(0x78, 0x01);
/** Larger pictures are filtered and compressed piece by piece, so that they are not in memory twice. */
const PIECE_BYTES_MAX = 4 * 1024 * 1024;
const [rowMemory, blockMemory] = [createKeptMemory(), createKeptMemory()];

/** @param loops make the same bytes as `SCRIPT_PNG_LOOPS`, which is the default. */
export function encodePng(picture: Pixels, { filterRows, deflateBlock, adler32 }: PngLoops = SCRIPT_PNG_LOOPS): Buffer {
  const { width, height } = picture;
  const header = Buffer.from([0, 0, 0, 0, 0, 0, 0, 0, ...RGB_8_BITS]);
  header.writeUInt32BE(width, 0);
  header.writeUInt32BE(height, 4);
  const rowBytes = width * 3 + 1;
  const rowsAtOnce = Math.max(1, Math.min(height, Math.floor(PIECE_BYTES_MAX / rowBytes)));
  const room = blockMemory(deflateRoomFor(rowBytes * rowsAtOnce));
  const compressed: Buffer[] = [ZLIB_HEADER];
  let checksum = 1;
  for (let row = 0; row < height; row += rowsAtOnce) {
    const rows = rowMemory(rowBytes * Math.min(rowsAtOnce, height - row));
    filterRows(picture, row, rows);
    checksum = adler32(checksum, rows);
    const isLast = row + rowsAtOnce >= height;
    const block = room.subarray(0, deflateBlock(rows, isLast, room));
    compressed.push(isLast ? block : Buffer.from(block));
  }
  const trailer = Buffer.allocUnsafe(4);
  trailer.writeUInt32BE(checksum);
  compressed.push(trailer);
  return Buffer.concat([SIGNATURE, ...chunk('IHDR', [header]), ...chunk('IDAT', compressed), ...chunk('IEND', [])]);
}

function chunk(type: string, parts: readonly Buffer[]): Buffer[] {
  const head = Buffer.alloc(8);
  head.writeUInt32BE(parts.reduce((sum, { length }) => sum + length, 0));
  head.write(type, 4, 'latin1');
  const tail = Buffer.alloc(4);
  tail.writeUInt32BE(parts.reduce((sum, part) => crc32(part, sum), crc32(head.subarray(4))));
  return [head, ...parts, tail];
}

/** `FilterRows` without native code. */
export function filterRowsInScript({ data, width }: Pixels, firstRow: number, target: Buffer): void {
  const rowBytes = width * 3;
  for (let to = 0, from = firstRow * rowBytes; to < target.length; from += rowBytes) {
    target[to] = PAETH;
    to += 1;
    for (let at = from; at < from + rowBytes; at += 1, to += 1) {
      const left = at >= from + 3 ? (data[at - 3] ?? 0) : 0;
      const above = from > 0 ? (data[at - rowBytes] ?? 0) : 0;
      const corner = from > 0 && at >= from + 3 ? (data[at - rowBytes - 3] ?? 0) : 0;
      const [toLeft, toAbove] = [Math.abs(above - corner), Math.abs(left - corner)];
      const toCorner = Math.abs(left + above - 2 * corner);
      const nearest = toLeft <= toAbove && toLeft <= toCorner ? left : toAbove <= toCorner ? above : corner;
      target[to] = (data[at] ?? 0) - nearest;
    }
  }
}
