/** Encodes PNG (ISO/IEC 15948) of 8-bit RGB: the same bytes for the same pixels. */
import { Readable } from 'node:stream';
import { constants, crc32, createDeflate, deflateSync } from 'node:zlib';
import type { Pixels } from '../pixels.ts';

/**
 * Fills `target` with rows from `firstRow` on, each as the number of Paeth's filter and the differences that it leaves:
 * `width * 3 + 1` bytes. @param firstRow of the picture; the row above it must be there as well.
 */
export type FilterRows = (picture: Pixels, firstRow: number, target: Buffer) => void;

/**
 * Paeth's filter for every row, and runs alone instead of matches: what tissue leaves after the filter repeats nowhere.
 * Measured on 43 patches of 256 px of six datasets, in processor time: 113.6 kB in 1.4 ms, matches of level 1 113.6 kB
 * in 2.9 ms; sharp at level 2 with all filters 113.0 kB in 4.9 ms.
 */
const COMPRESSION = { level: 1, strategy: constants.Z_RLE, memLevel: 9 } as const;
const PAETH = 4;
const SIGNATURE = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]);
/** 8 bits, RGB, and the only method of compression, of filtering, and of interlacing. */
const RGB_8_BITS = [8, 2, 0, 0, 0];
/** Larger pictures are filtered and compressed piece by piece, so that they are not in memory twice. */
const PIECE_BYTES_MAX = 4 * 1024 * 1024;
/** Of what does not compress. */
const DEFLATE_OVERHEAD_BYTES = 4096;

/** @param filter makes the same bytes as `filterRowsInScript`, which is the default. */
export async function encodePng(picture: Pixels, filter: FilterRows = filterRowsInScript): Promise<Buffer> {
  const { width, height } = picture;
  const header = Buffer.from([0, 0, 0, 0, 0, 0, 0, 0, ...RGB_8_BITS]);
  header.writeUInt32BE(width, 0);
  header.writeUInt32BE(height, 4);
  const rowBytes = width * 3 + 1;
  const rowsAtOnce = Math.max(1, Math.min(height, Math.floor(PIECE_BYTES_MAX / rowBytes)));
  const piece = (firstRow: number): Buffer => {
    const rows = Buffer.allocUnsafe(rowBytes * Math.min(rowsAtOnce, height - firstRow));
    filter(picture, firstRow, rows);
    return rows;
  };
  const pieces = function* (): Generator<Buffer> {
    for (let row = 0; row < height; row += rowsAtOnce) yield piece(row);
  };
  const compressed: Buffer[] =
    rowsAtOnce === height
      ? [deflateSync(piece(0), { ...COMPRESSION, chunkSize: rowBytes * height + DEFLATE_OVERHEAD_BYTES })]
      : await Readable.from(pieces()).pipe(createDeflate(COMPRESSION)).toArray();
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
