/** Finds the images of one large set whose pixels or pictures are among those of another. */
import { setImmediate as nextTurn } from 'node:timers/promises';
import { PERCEPTUAL_HASH_BYTES, PIXEL_DIGEST_BYTES } from '../../src/formats/manifest/index.ts';
import { hammingJoin, QUERIES_MAX, type Words } from './hamming-join.ts';
import { createKeyNumbers, wordsOf } from './key-numbers.ts';
import { MIRRORS, transposed } from './perceptual-hash.ts';

/**
 * Two pictures whose hashes differ in at most this many of 63 bits, in any orientation, count as near duplicates: tests
 * find recompressed, resized, mirrored and rotated copies within it.
 */
export const NEAR_DUPLICATE_DISTANCE = 5;

const WORDS_PER_HASH = PERCEPTUAL_HASH_BYTES / 4;
const WORDS_PER_DIGEST = PIXEL_DIGEST_BYTES / 4;
const ORIENTATION_COUNT = 2 * MIRRORS.length;
/** Distinct tested hashes that are searched at once: with all orientations, 100 MB. */
const HASHES_PER_SEARCH = Math.min(2 ** 20, QUERIES_MAX / ORIENTATION_COUNT);
/** Hashes that are prepared before the event loop gets a turn: some 10 ms. */
const HASHES_PER_TURN = 2 ** 16;
/** Share of the time that preparing the hashes takes, for the progress bar. */
const PREPARING_SHARE = 0.1;

export interface SearchTurns {
  /** Called every few hundredths of a second; an error that it throws ends the search. */
  throwIfStopped(): void;
  /** @param fraction the share of the search that is done, 0..1. */
  onProgress(fraction: number): Promise<void>;
}

/**
 * Finds the tested hashes for which any seen hash differs in at most `NEAR_DUPLICATE_DISTANCE` bits in any of the eight
 * orientations. The result is exact; hamming-join.ts describes the search. The event loop gets a turn every few
 * hundredths of a second.
 *
 * @param tested `[N, 8]`
 * @param seen `[M, 8]`
 * @returns `[N]`: 1 for a tested hash with a near one.
 * @throws RangeError for lengths that are not whole hashes.
 */
export async function findNearDuplicates(
  tested: Uint8Array,
  seen: Uint8Array,
  turns: SearchTurns,
): Promise<Uint8Array> {
  const search = nearDuplicates(tested, seen);
  for (;;) {
    turns.throwIfStopped();
    const step = search.next();
    if (step.done === true) return step.value;
    await turns.onProgress(step.value);
    await nextTurn();
  }
}

function* nearDuplicates(tested: Uint8Array, seen: Uint8Array): Generator<number, Uint8Array> {
  const total = (tested.length + seen.length) / PERCEPTUAL_HASH_BYTES;
  const seenHashes = distinctHashes(seen);
  for (const prepared of seenHashes.fill()) yield (PREPARING_SHARE * prepared) / total;
  const testedHashes = distinctHashes(tested);
  for (const prepared of testedHashes.fill())
    yield (PREPARING_SHARE * (prepared + seen.length / PERCEPTUAL_HASH_BYTES)) / total;

  const entries = seenHashes.words();
  const queries = testedHashes.words();
  const queryCount = queries.length / WORDS_PER_HASH;
  const isNear = new Uint8Array(queryCount);
  for (let start = 0; start < queryCount; start += HASHES_PER_SEARCH) {
    const count = Math.min(HASHES_PER_SEARCH, queryCount - start);
    const words = queries.subarray(start * WORDS_PER_HASH, (start + count) * WORDS_PER_HASH);
    const isFound = isNear.subarray(start, start + count);
    // An equal hash is the most frequent reason to be near, and a look-up costs far less than a search.
    for (let place = 0; place < count; place += 1) isFound[place] = seenHashes.has(words, place) ? 1 : 0;
    const join = { queries: inAllOrientations(words), entries, distanceMax: NEAR_DUPLICATE_DISTANCE, isFound };
    for (const fraction of hammingJoin(join))
      yield PREPARING_SHARE + ((1 - PREPARING_SHARE) * (start + fraction * count)) / queryCount;
  }
  return Uint8Array.from(testedHashes.numbers, (number) => isNear[number] ?? 0);
}

/**
 * The eight orientations of a picture have one hash here, the smallest, and equal pictures count once. Turning both of
 * two pictures leaves the distance of their hashes, so this loses nothing, and a set of many copies becomes small.
 */
function distinctHashes(hashes: Uint8Array) {
  if (hashes.length % PERCEPTUAL_HASH_BYTES !== 0)
    throw new RangeError(`${hashes.length} bytes are not whole hashes of ${PERCEPTUAL_HASH_BYTES} bytes.`);
  const words = wordsOf(hashes);
  const count = hashes.length / PERCEPTUAL_HASH_BYTES;
  const distinct = createKeyNumbers(WORDS_PER_HASH, count);
  const numbers = new Int32Array(count);
  return {
    numbers,
    /** Must be run to its end first. Yields the hashes done. */
    *fill(): Generator<number, void> {
      for (let start = 0; start < count; start += HASHES_PER_TURN) {
        const end = Math.min(count, start + HASHES_PER_TURN);
        const turned = turnedToSmallest(words.subarray(start * WORDS_PER_HASH, end * WORDS_PER_HASH));
        for (let place = start; place < end; place += 1) numbers[place] = distinct.add(turned, place - start);
        yield end;
      }
    },
    /** `[distinct, 2]` */
    words: (): Words => distinct.distinct(),
    has: (keys: Words, place: number): boolean => distinct.find(keys, place) >= 0,
  };
}

/** For each hash, that of its eight orientations whose halves are the smallest numbers, the high one first. */
function turnedToSmallest(words: Words): Words {
  const smallest = new Int32Array(words.length);
  const flipped = transposed(words);
  for (let place = 0; place < words.length; place += 2) {
    let low = 0x7fffffff;
    let high = 0x7fffffff;
    for (let mirror = 0; mirror < ORIENTATION_COUNT; mirror += 1) {
      const from = mirror < MIRRORS.length ? words : flipped;
      const mask = MIRRORS[mirror % MIRRORS.length];
      const turnedLow = (from[place] ?? 0) ^ (mask?.low ?? 0);
      const turnedHigh = (from[place + 1] ?? 0) ^ (mask?.high ?? 0);
      if (turnedHigh > high || (turnedHigh === high && turnedLow > low)) continue;
      low = turnedLow;
      high = turnedHigh;
    }
    smallest[place] = low;
    smallest[place + 1] = high;
  }
  return smallest;
}

/** Words `[8 N, 2]` with their places among the N, all words of one orientation after those of another. */
function inAllOrientations(words: Words): { words: Words; owners: Int32Array } {
  const count = words.length / WORDS_PER_HASH;
  const oriented = new Int32Array(ORIENTATION_COUNT * words.length);
  const owners = new Int32Array(ORIENTATION_COUNT * count);
  const flipped = transposed(words);
  for (let orientation = 0; orientation < ORIENTATION_COUNT; orientation += 1) {
    const from = orientation < MIRRORS.length ? words : flipped;
    const { low, high } = MIRRORS[orientation % MIRRORS.length] ?? { low: 0, high: 0 };
    const target = orientation * count;
    for (let place = 0; place < count; place += 1) {
      oriented[2 * (target + place)] = (from[2 * place] ?? 0) ^ low;
      oriented[2 * (target + place) + 1] = (from[2 * place + 1] ?? 0) ^ high;
      owners[target + place] = place;
    }
  }
  return { words: oriented, owners };
}

/** Finds the tested images whose digest is among the seen ones. */
export interface DigestMatcher {
  /** @param seen `[M, 32]`. Can be called for one part of the seen digests after another. */
  see(seen: Uint8Array): void;
  /** `[N]`: 1 for a tested digest that was seen. */
  matches(): Uint8Array;
}

/**
 * Only the tested digests are held, so that the seen ones may be many times as many.
 *
 * @param tested `[N, 32]`
 * @throws RangeError for lengths that are not whole digests, here and in `see`.
 */
export function createDigestMatcher(tested: Uint8Array): DigestMatcher {
  const words = digestWords(tested);
  const count = words.length / WORDS_PER_DIGEST;
  const distinct = createKeyNumbers(WORDS_PER_DIGEST, count);
  const numbers = Int32Array.from({ length: count }, (_, place) => distinct.add(words, place));
  const isSeen = new Uint8Array(distinct.count);
  return {
    see: (seen) => {
      const keys = digestWords(seen);
      for (let place = 0; place < keys.length / WORDS_PER_DIGEST; place += 1) {
        const number = distinct.find(keys, place);
        if (number >= 0) isSeen[number] = 1;
      }
    },
    matches: () => Uint8Array.from(numbers, (number) => isSeen[number] ?? 0),
  };
}

function digestWords(digests: Uint8Array): Int32Array {
  if (digests.length % PIXEL_DIGEST_BYTES !== 0)
    throw new RangeError(`${digests.length} bytes are not whole digests of ${PIXEL_DIGEST_BYTES} bytes.`);
  return wordsOf(digests);
}
