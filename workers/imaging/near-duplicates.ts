/** Finds the pictures that look like one of many others. */
import { hashDistance, orientationsOf } from './perceptual-hash.ts';

/** Bytes of a perceptual hash. */
const HASH_BYTES = 8;

/**
 * Two pictures whose hashes differ in at most this many of 63 bits, in any orientation, count as near duplicates: tests
 * find recompressed, resized, mirrored and rotated copies within it.
 */
export const NEAR_DUPLICATE_DISTANCE = 5;

/** Bits of the six pieces: two hashes that differ in at most five bits have at least one equal piece. */
const PIECES = [11, 11, 11, 11, 10, 10] as const satisfies { readonly length: number };

export interface HashIndex {
  /** True if a picture with this hash, in any orientation, is in the index. */
  hasNear(hash: Uint8Array): boolean;
}

/** @param hashes `[N, 8]`. */
export function createHashIndex(hashes: Uint8Array): HashIndex {
  const count = hashes.length / HASH_BYTES;
  const hashAt = (index: number): Uint8Array => hashes.subarray(index * HASH_BYTES, (index + 1) * HASH_BYTES);
  const tables = PIECES.map((bits, piece) => {
    const ordered = Int32Array.from({ length: count }, (_, index) => index);
    const pieces = Int32Array.from(ordered, (index) => pieceOf(hashAt(index), piece));
    ordered.sort((left, right) => (pieces[left] ?? 0) - (pieces[right] ?? 0));
    const starts = new Int32Array(2 ** bits + 1);
    for (const value of pieces) starts[value + 1] = (starts[value + 1] ?? 0) + 1;
    for (let value = 0; value < 2 ** bits; value += 1)
      starts[value + 1] = (starts[value + 1] ?? 0) + (starts[value] ?? 0);
    return { ordered, starts };
  });
  const isNear = (hash: Uint8Array): boolean =>
    tables.some(({ ordered, starts }, piece) => {
      const value = pieceOf(hash, piece);
      for (let place = starts[value] ?? 0; place < (starts[value + 1] ?? 0); place += 1) {
        if (hashDistance(hash, hashAt(ordered[place] ?? 0)) <= NEAR_DUPLICATE_DISTANCE) return true;
      }
      return false;
    });
  return { hasNear: (hash) => orientationsOf(hash).some(isNear) };
}

/** The bits of one piece, as a number. */
function pieceOf(hash: Uint8Array, piece: number): number {
  const first = PIECES.slice(0, piece).reduce((sum, bits) => sum + bits, 0);
  let value = 0;
  for (let bit = 0; bit < (PIECES[piece] ?? 0); bit += 1)
    value |= (((hash[(first + bit) >> 3] ?? 0) >> ((first + bit) & 7)) & 1) << bit;
  return value;
}
