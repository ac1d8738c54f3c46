/**
 * A 64-bit hash of a picture's appearance: the signs of the lowest frequencies of its brightness (pHash, Zauner 2010,
 * with the sign instead of the median). Recompression, resizing and small changes of colour keep it nearly the same. A
 * mirrored or rotated picture has the same frequencies with other signs or transposed, so the hashes of all eight
 * orientations follow from one. A crop has another hash.
 */
import type { Pixels } from './pixels.ts';

/** Frequencies kept in each direction. */
const FREQUENCY_COUNT = 8;
/** The picture is first averaged to this many cells in each direction. */
const CELL_COUNT = 32;
/** Samples in each direction that are enough for a cell. */
const SAMPLES_PER_CELL = 8;

/** `[8, 32]`: row k is cos((2x + 1) k pi / 2N). */
const COSINES = Float64Array.from({ length: FREQUENCY_COUNT * CELL_COUNT }, (_, place) => {
  const [frequency, cell] = [Math.floor(place / CELL_COUNT), place % CELL_COUNT];
  return Math.cos(((2 * cell + 1) * frequency * Math.PI) / (2 * CELL_COUNT));
});

/**
 * 8 bytes: bit `8 v + u`, from the lowest of the first byte, is 1 where frequency (u right, v down) is positive. Bit 0,
 * the mean, is 0.
 */
export function perceptualHash(pixels: Pixels): Uint8Array {
  const cells = brightnessCells(pixels);
  // Along rows first: [frequency u, cell row], so that the second pass reads in sequence too.
  const rows = new Float64Array(FREQUENCY_COUNT * CELL_COUNT);
  for (let row = 0; row < CELL_COUNT; row += 1) {
    for (let right = 0; right < FREQUENCY_COUNT; right += 1)
      rows[right * CELL_COUNT + row] = dot(cells, row * CELL_COUNT, COSINES, right * CELL_COUNT);
  }
  const hash = new Uint8Array(FREQUENCY_COUNT);
  for (let down = 0; down < FREQUENCY_COUNT; down += 1) {
    let byte = 0;
    for (let right = 0; right < FREQUENCY_COUNT; right += 1)
      if (dot(rows, right * CELL_COUNT, COSINES, down * CELL_COUNT) > 0) byte |= 1 << right;
    // The mean is always positive, and says nothing.
    hash[down] = down === 0 ? byte & 0b11111110 : byte;
  }
  return hash;
}

/** Mean luma of each of 32 x 32 cells, from at most 8 x 8 samples of each. Reads the picture row by row. */
function brightnessCells({ data, width, height }: Pixels): Float64Array {
  const columns = Array.from({ length: CELL_COUNT }, (_, column) => samplePlaces(column, width));
  const cells = new Float64Array(CELL_COUNT * CELL_COUNT);
  for (let row = 0; row < CELL_COUNT; row += 1) {
    const ys = samplePlaces(row, height);
    for (let y = ys.start; y < ys.end; y += ys.step) {
      const firstByte = y * width * 3;
      for (let column = 0; column < CELL_COUNT; column += 1) {
        const { start, end, step } = columns[column] ?? ys;
        const lastByte = firstByte + 3 * end;
        // Thousandths of the luma are integers, so that the sum does not depend on its order.
        let sum = 0;
        for (let offset = firstByte + 3 * start; offset < lastByte; offset += 3 * step)
          sum += 299 * (data[offset] ?? 0) + 587 * (data[offset + 1] ?? 0) + 114 * (data[offset + 2] ?? 0);
        cells[row * CELL_COUNT + column] = (cells[row * CELL_COUNT + column] ?? 0) + sum;
      }
    }
    for (let column = 0; column < CELL_COUNT; column += 1)
      cells[row * CELL_COUNT + column] =
        (cells[row * CELL_COUNT + column] ?? 0) / (1000 * ys.count * (columns[column] ?? ys).count);
  }
  return cells;
}

interface Places {
  readonly start: number;
  readonly end: number;
  readonly step: number;
  readonly count: number;
}

/** The sampled pixels of a cell along one side: at least one, however small the picture. */
function samplePlaces(cell: number, sidePx: number): Places {
  const start = Math.floor((cell * sidePx) / CELL_COUNT);
  const end = Math.max(start + 1, Math.floor(((cell + 1) * sidePx) / CELL_COUNT));
  const step = Math.max(1, Math.floor((end - start) / SAMPLES_PER_CELL));
  return { start, end, step, count: Math.ceil((end - start) / step) };
}

/** Of 32 numbers of each, from these places on. */
function dot(left: Float64Array, leftStart: number, right: Float64Array, rightStart: number): number {
  let sum = 0;
  for (let index = 0; index < CELL_COUNT; index += 1)
    sum += (left[leftStart + index] ?? 0) * (right[rightStart + index] ?? 0);
  return sum;
}

/** What mirroring flips in a hash, as the words `[low half, high half]` of its eight bytes in little-endian order. */
export interface Mirror {
  readonly low: number;
  readonly high: number;
}

/**
 * No mirror, left-right, up-down, and both. Mirroring flips the sign of every odd frequency along that side; the mean
 * has none. A frequency of exactly 0 has no sign either, which happens only in flat pictures.
 */
export const MIRRORS: readonly Mirror[] = [
  { low: 0, high: 0 },
  { low: 0xaaaaaaaa | 0, high: 0xaaaaaaaa | 0 },
  { low: 0xff00ff00 | 0, high: 0xff00ff00 | 0 },
  { low: 0x55aa55aa, high: 0x55aa55aa },
];

/**
 * The hashes of pictures that are mirrored at their diagonal: frequency (u, v) becomes (v, u). Every orientation is one
 * of the `MIRRORS` of a picture or of its transposed one.
 *
 * @param words `[N, 2]`: low and high half of each hash.
 * @returns new words `[N, 2]`.
 */
export function transposed(words: Int32Array): Int32Array {
  const result = new Int32Array(words.length);
  for (let place = 0; place < words.length; place += 2) {
    const low = transposedInBlocks(words[place] ?? 0);
    const high = transposedInBlocks(words[place + 1] ?? 0);
    result[place] = (low & 0x0f0f0f0f) | ((high & 0x0f0f0f0f) << 4);
    result[place + 1] = ((low >>> 4) & 0x0f0f0f0f) | (high & 0xf0f0f0f0);
  }
  return result;
}

/** Transposes both blocks of 4 x 4 bits in four rows of eight (Warren, Hacker's Delight 7-3). */
function transposedInBlocks(rows: number): number {
  const pairs = (rows ^ (rows >>> 7)) & 0x00aa00aa;
  const swapped = rows ^ pairs ^ (pairs << 7);
  const quads = (swapped ^ (swapped >>> 14)) & 0x0000cccc;
  return swapped ^ quads ^ (quads << 14);
}

/** The hashes of a picture's eight orientations, its own first: every combination of mirroring and rotation. */
export function orientationsOf(hash: Uint8Array): Uint8Array[] {
  const own = new Int32Array(Uint8Array.from(hash).buffer);
  return [own, transposed(own)].flatMap((words) =>
    MIRRORS.map(({ low, high }) => new Uint8Array(Int32Array.of((words[0] ?? 0) ^ low, (words[1] ?? 0) ^ high).buffer)),
  );
}

/** Bits in which two hashes differ, 0..63. */
export function hashDistance(left: Uint8Array, right: Uint8Array): number {
  let distance = 0;
  for (let index = 0; index < FREQUENCY_COUNT; index += 1)
    distance += bitCount((left[index] ?? 0) ^ (right[index] ?? 0));
  return distance;
}

function bitCount(value: number): number {
  let count = 0;
  for (let left = value; left !== 0; left &= left - 1) count += 1;
  return count;
}
