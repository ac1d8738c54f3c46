/** Which image was the first with its pixels, in typed arrays: ten million images take half a gigabyte. */
import { createKeyNumbers, wordsOf } from './key-numbers.ts';

/** 128 bits distinguish a billion images; the width distinguishes plain images of equal area. */
const DIGEST_WORDS = 4;

export interface SeenPixels {
  /**
   * The place of the source with the first image of these pixels; undefined for new ones, which are remembered.
   *
   * @param pixelDigest sha256 of the decoded pixels, of which 16 bytes are compared.
   * @param sourcePlace 0..2^31 - 1
   */
  firstPlace(width: number, pixelDigest: Uint8Array, sourcePlace: number): number | undefined;
}

/** @param expectedCount room for so many images at once; more are taken as well. */
export function createSeenPixels(expectedCount: number): SeenPixels {
  const numbers = createKeyNumbers(1 + DIGEST_WORDS, expectedCount);
  const key = new Int32Array(1 + DIGEST_WORDS);
  let places = new Int32Array(Math.max(16, expectedCount));
  return {
    firstPlace: (width, pixelDigest, sourcePlace) => {
      key[0] = width;
      key.set(wordsOf(pixelDigest.subarray(0, 4 * DIGEST_WORDS)), 1);
      const countBefore = numbers.count;
      const number = numbers.add(key, 0);
      if (number < countBefore) return places[number];
      if (number === places.length) {
        const larger = new Int32Array(2 * places.length);
        larger.set(places);
        places = larger;
      }
      places[number] = sourcePlace;
      return undefined;
    },
  };
}

/** One text for the same pixels, for the few images that are looked up by one. */
export function pixelsName(width: number, pixelDigest: Buffer): string {
  return `${width}:${pixelDigest.toString('base64url', 0, 4 * DIGEST_WORDS)}`;
}
