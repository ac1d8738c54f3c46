/** The search for words within a few bits, against comparing every pair. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { hammingJoin, type HammingJoin } from '../../workers/imaging/hamming-join.ts';
import { createRandom, type Random } from '../../workers/engine/rng.ts';

/** Ones in each number of 16 bits. */
const ONES = Uint8Array.from({ length: 2 ** 16 }, (_, value) => value.toString(2).replaceAll('0', '').length);

function distance(left: Int32Array, place: number, right: Int32Array, other: number): number {
  const low = (left[2 * place] ?? 0) ^ (right[2 * other] ?? 0);
  const high = (left[2 * place + 1] ?? 0) ^ (right[2 * other + 1] ?? 0);
  return [low & 0xffff, low >>> 16, high & 0xffff, high >>> 16].reduce((sum, part) => sum + (ONES[part] ?? 0), 0);
}

/** 1 for each query with an entry within the distance, by comparing all pairs. */
function byAllPairs(queries: Int32Array, entries: Int32Array, distanceMax: number): number[] {
  return Array.from({ length: queries.length / 2 }, (_, place) => {
    for (let other = 0; other < entries.length / 2; other += 1)
      if (distance(queries, place, entries, other) <= distanceMax) return 1;
    return 0;
  });
}

function joined(queries: Int32Array, entries: Int32Array, distanceMax: number): number[] {
  const count = queries.length / 2;
  const isFound = new Uint8Array(count);
  const owners = Int32Array.from({ length: count }, (_, place) => place);
  const shares = [...hammingJoin({ queries: { words: queries, owners }, entries, distanceMax, isFound })];
  assert.ok(shares.every((share, place) => share >= (shares[place - 1] ?? 0) && share <= 1));
  return [...isFound];
}

function uniform(random: Random, count: number): Int32Array {
  return Int32Array.from({ length: 2 * count }, () => random.integer(2 ** 32) | 0);
}

/** Words whose bits differ from one of a few centres with probability `noise`. */
function clustered(random: Random, count: number, centres: Int32Array, noise: (bit: number) => number): Int32Array {
  const words = new Int32Array(2 * count);
  for (let place = 0; place < count; place += 1) {
    const centre = random.integer(centres.length / 2);
    for (let bit = 0; bit < 64; bit += 1) {
      const half = bit >> 5;
      const flipped = random.uniform() < noise(bit) ? 1 << (bit & 31) : 0;
      words[2 * place + half] =
        (words[2 * place + half] ?? 0) | (((centres[2 * centre + half] ?? 0) ^ flipped) & (1 << (bit & 31)));
    }
  }
  return words;
}

/** Copies of words, each with `count` bits flipped. */
function flipped(random: Random, words: Int32Array, count: number): Int32Array {
  const copies = words.slice();
  for (let place = 0; place < words.length / 2; place += 1) {
    for (const bit of random.shuffled(Array.from({ length: 64 }, (_, each) => each)).slice(0, count))
      copies[2 * place + (bit >> 5)] = (copies[2 * place + (bit >> 5)] ?? 0) ^ (1 << (bit & 31));
  }
  return copies;
}

const concat = (...parts: readonly Int32Array[]): Int32Array => Int32Array.from(parts.flatMap((part) => [...part]));

describe('the search equals a comparison of all pairs', () => {
  for (const distanceMax of [0, 1, 5, 12]) {
    test(`on uniform words with copies at exactly ${distanceMax} bits and one beyond`, () => {
      const random = createRandom(distanceMax + 1);
      const entries = uniform(random, 3000);
      const some = entries.subarray(0, 2000);
      const queries = concat(
        flipped(random, some, distanceMax),
        flipped(random, some, distanceMax + 1),
        uniform(random, 1000),
      );
      const expected = byAllPairs(queries, entries, distanceMax);
      assert.deepEqual(joined(queries, entries, distanceMax), expected);
      assert.ok(expected.slice(0, 1000).every((found) => found === 1));
      assert.ok(expected.includes(0));
    });
  }

  const clusters: readonly (readonly [string, (bit: number) => number])[] = [
    ['that hardly vary', () => 0.02],
    ['in which some pairs are near', () => 0.08],
    ['in which hardly any pair is near', () => 0.2],
    ['of which half of the bits never vary', (bit) => (bit % 2 === 0 ? 0 : 0.3)],
    ['of which only the high half varies', (bit) => (bit < 32 ? 0 : 0.5)],
  ];
  for (const [what, noise] of clusters) {
    test(`on clusters ${what}, whose buckets are crowded`, () => {
      const random = createRandom(11);
      const centres = uniform(random, 3);
      // A cluster whose centre is 9 bits from another one: its words share buckets and seldom match.
      const all = concat(centres, flipped(random, centres.subarray(0, 2), 9));
      const entries = clustered(random, 4000, centres, noise);
      const queries = clustered(random, 3000, all, noise);
      const expected = byAllPairs(queries, entries, 5);
      assert.deepEqual(joined(queries, entries, 5), expected);
    });
  }

  test('where all words are equal', () => {
    const entries = new Int32Array(2 * 5000).fill(0x1234567);
    const queries = concat(entries.subarray(0, 2000), flipped(createRandom(3), entries.subarray(0, 2000), 6));
    assert.deepEqual(
      joined(queries, entries, 5),
      Array.from({ length: 2000 }, (_, place) => (place < 1000 ? 1 : 0)),
    );
  });

  test('for every choice of two bits that differ', () => {
    const random = createRandom(5);
    const entries = uniform(random, 4000);
    const queries: number[] = [];
    for (let first = 0; first < 64; first += 1) {
      for (let second = first + 1; second < 64; second += 1) {
        const place = random.integer(4000);
        const word = [entries[2 * place] ?? 0, entries[2 * place + 1] ?? 0];
        for (const bit of [first, second]) word[bit >> 5] = (word[bit >> 5] ?? 0) ^ (1 << (bit & 31));
        queries.push(...word);
      }
    }
    const found = joined(Int32Array.from(queries), entries, 2);
    assert.equal(found.length, (64 * 63) / 2);
    assert.ok(found.every((each) => each === 1));
  });

  for (const varyingBits of [64, 40]) {
    test(`where so many words of ${varyingBits} varying bits are searched that several pieces must agree`, () => {
      const random = createRandom(varyingBits);
      const varying = (words: Int32Array): Int32Array =>
        words.map((word, half) => (half % 2 === 0 ? word : word & (2 ** (varyingBits - 32) - 1)));
      const entries = varying(uniform(random, 200_000));
      const near = flipped(random, entries.subarray(0, 2 * 10_000), 5);
      const queries = concat(near, varying(uniform(random, 100_000)));
      const found = joined(queries, entries, 5);
      assert.ok(found.slice(0, 10_000).every((each) => each === 1));
      const sampled = Array.from({ length: 100 }, () => 10_000 + random.integer(100_000));
      const words = concat(...sampled.map((place) => queries.subarray(2 * place, 2 * place + 2)));
      assert.deepEqual(
        sampled.map((place) => found[place]),
        byAllPairs(words, entries, 5),
      );
    });
  }
});

test('any word of an owner finds it, and an owner that is found already stays found', () => {
  const random = createRandom(13);
  const entries = uniform(random, 10);
  const words = concat(uniform(random, 2), entries.subarray(0, 2), uniform(random, 1));
  const isFound = Uint8Array.of(0, 0, 1);
  const join = { queries: { words, owners: Int32Array.of(0, 1, 0, 2) }, entries, distanceMax: 3, isFound };
  assert.equal([...hammingJoin(join)].length, 0);
  assert.deepEqual([...isFound], [1, 0, 1]);
});

test('without queries or entries nothing is found', () => {
  assert.deepEqual(joined(new Int32Array(0), uniform(createRandom(1), 10), 5), []);
  assert.deepEqual(joined(uniform(createRandom(1), 3), new Int32Array(0), 5), [0, 0, 0]);
});

describe('refuses', () => {
  const good: HammingJoin = {
    queries: { words: new Int32Array(4), owners: new Int32Array(2) },
    entries: new Int32Array(6),
    distanceMax: 5,
    isFound: new Uint8Array(2),
  };
  const wrong: readonly (readonly [string, Partial<HammingJoin>])[] = [
    ['a word without an owner', { queries: { words: new Int32Array(4), owners: new Int32Array(1) } }],
    ['half a query', { queries: { words: new Int32Array(3), owners: new Int32Array(1) } }],
    ['half an entry', { entries: new Int32Array(5) }],
    ['an owner without a place', { isFound: new Uint8Array(0) }],
    ['a negative distance', { distanceMax: -1 }],
    ['a broken distance', { distanceMax: 1.5 }],
    ['a distance of nearly all bits', { distanceMax: 61 }],
  ];
  for (const [what, part] of wrong) {
    test(what, () => {
      assert.throws(() => [...hammingJoin({ ...good, ...part })], RangeError);
    });
  }
});
