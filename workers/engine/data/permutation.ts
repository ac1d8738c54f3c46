/**
 * Random orders of any length that need no memory: the item at a place is computed from the place. A training of ten
 * million images thus starts, and continues anywhere, without shuffling a list of them.
 */
import type { Random } from '../rng.ts';

/** A bijection of 0..length-1. */
export type Permutation = (place: number) => number;

const ROUNDS = 8;

/**
 * A Feistel network over the smallest even number of bits that holds `length`, applied again until its result is below
 * `length` (cycle walking: Black and Rogaway, "Ciphers with Arbitrary Finite Domains", 2002). The round function is
 * MurmurHash3's finaliser. It takes less than four walks on average.
 *
 * @param length 1..2^50. @param random its next words become the keys.
 */
export function createPermutation(length: number, random: Random): Permutation {
  if (length === 1) return () => 0;
  const halfBits = Math.ceil(Math.log2(length) / 2);
  const half = 2 ** halfBits;
  const keys = Int32Array.from({ length: ROUNDS }, () => random.integer(2 ** 32));
  const encrypt = (place: number): number => {
    let left = Math.floor(place / half);
    let right = place % half;
    for (let round = 0; round < ROUNDS; round += 1) {
      const mixed = mix(right ^ (keys[round] ?? 0)) >>> (32 - halfBits);
      [left, right] = [right, left ^ mixed];
    }
    return left * half + right;
  };
  // A Feistel network is an even permutation: without this swap, the odd ones would be too rare.
  const swapsFirst = random.chance(0.5);
  return (place) => {
    let image = encrypt(swapsFirst && place < 2 ? 1 - place : place);
    while (image >= length) image = encrypt(image);
    return image;
  };
}

function mix(word: number): number {
  let mixed = Math.imul(word ^ (word >>> 16), 0x85ebca6b);
  mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35);
  return mixed ^ (mixed >>> 16);
}
