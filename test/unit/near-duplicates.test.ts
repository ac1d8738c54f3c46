/** The search for near duplicates and equal digests, against comparing every pair. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { describe, test } from 'node:test';
import { createKeyNumbers, wordsOf } from '../../workers/imaging/key-numbers.ts';
import {
  createDigestMatcher,
  findNearDuplicates,
  NEAR_DUPLICATE_DISTANCE,
  type SearchTurns,
} from '../../workers/imaging/near-duplicates.ts';
import { createRandom, type Random } from '../../workers/engine/rng.ts';

const HASH_BYTES = 8;
const UNTIL_THE_END: SearchTurns = { throwIfStopped: () => undefined, onProgress: () => Promise.resolve() };

/** Signs of the frequencies `[v][u]`; that of the mean is always 0. */
type Signs = readonly (readonly number[])[];

function drawn(random: Random): Signs {
  return Array.from({ length: 8 }, (_row, v) =>
    Array.from({ length: 8 }, (_sign, u) => (u === 0 && v === 0 ? 0 : random.integer(2))),
  );
}

/** One of eight orientations: a mirror changes the sign of odd frequencies, and the diagonal exchanges u and v. */
function turned(signs: Signs, turn: number): Signs {
  return signs.map((row, v) =>
    row.map((_, u) => {
      const sign = (turn & 4) === 0 ? signs[v]?.[u] : signs[u]?.[v];
      const flips = ((turn & 1) === 0 ? 0 : u) + ((turn & 2) === 0 ? 0 : v);
      return ((sign ?? 0) + flips) % 2;
    }),
  );
}

function flipped(random: Random, signs: Signs, count: number): Signs {
  const places = new Set(random.shuffled(Array.from({ length: 63 }, (_, place) => place + 1)).slice(0, count));
  return signs.map((row, v) => row.map((sign, u) => (places.has(8 * v + u) ? 1 - sign : sign)));
}

function hashesOf(pictures: readonly Signs[]): Uint8Array {
  return Uint8Array.from(
    pictures.flatMap((signs) => signs.map((row) => row.reduce((byte, sign, u) => byte + sign * 2 ** u, 0))),
  );
}

function distance(left: Int8Array, right: Int8Array): number {
  let count = 0;
  for (let place = 0; place < left.length; place += 1) count += left[place] === right[place] ? 0 : 1;
  return count;
}

describe('near duplicates', () => {
  test('are found in every orientation up to the distance, and not beyond it', async () => {
    const random = createRandom(3);
    const seen = Array.from({ length: 300 }, () => drawn(random));
    const tested = seen.flatMap((signs, place) =>
      [0, 1, NEAR_DUPLICATE_DISTANCE, NEAR_DUPLICATE_DISTANCE + 1].map((count) =>
        turned(flipped(random, signs, count), place % 8),
      ),
    );
    const others = seen.map((signs) => Int8Array.from(signs.flat()));
    const expected = tested.map((signs) =>
      [0, 1, 2, 3, 4, 5, 6, 7]
        .map((turn) => Int8Array.from(turned(signs, turn).flat()))
        .some((own) => others.some((other) => distance(own, other) <= NEAR_DUPLICATE_DISTANCE))
        ? 1
        : 0,
    );
    assert.deepEqual([...(await findNearDuplicates(hashesOf(tested), hashesOf(seen), UNTIL_THE_END))], expected);
    assert.equal(expected.filter((found) => found === 0).length, 300);
  });

  test('are found for every one of many equal pictures, turned or not', async () => {
    const random = createRandom(4);
    const signs = drawn(random);
    const tested = Array.from({ length: 1000 }, (_, place) => turned(signs, place % 8));
    const seen = [turned(flipped(random, signs, 2), 5)];
    const found = await findNearDuplicates(hashesOf(tested), hashesOf(seen), UNTIL_THE_END);
    assert.deepEqual(
      [...found],
      Array.from(tested, () => 1),
    );
  });

  test('are not found among none, and none are tested', async () => {
    const hashes = hashesOf([drawn(createRandom(5))]);
    assert.deepEqual([...(await findNearDuplicates(hashes, new Uint8Array(0), UNTIL_THE_END))], [0]);
    assert.deepEqual([...(await findNearDuplicates(new Uint8Array(0), hashes, UNTIL_THE_END))], []);
  });

  test('come from bytes at any place in memory', async () => {
    const hashes = hashesOf([drawn(createRandom(6))]);
    const shifted = Buffer.alloc(HASH_BYTES + 1);
    shifted.set(hashes, 1);
    for (const bytes of [shifted.subarray(1), new Uint8Array(shifted).subarray(1)])
      assert.deepEqual([...(await findNearDuplicates(bytes, bytes, UNTIL_THE_END))], [1]);
  });

  test('refuse what are not whole hashes', async () => {
    const whole = new Uint8Array(HASH_BYTES);
    await assert.rejects(findNearDuplicates(new Uint8Array(HASH_BYTES + 4), whole, UNTIL_THE_END), RangeError);
    await assert.rejects(findNearDuplicates(whole, new Uint8Array(HASH_BYTES - 1), UNTIL_THE_END), RangeError);
  });

  const uniformHashes = (seed: number, count: number): Uint8Array => {
    const random = createRandom(seed);
    return Uint8Array.from({ length: count * HASH_BYTES }, (_, place) =>
      place % HASH_BYTES === 0 ? random.integer(256) & 254 : random.integer(256),
    );
  };

  test('are searched with rising progress, while the event loop runs', async () => {
    const shares: number[] = [];
    let turns = 0;
    let isDone = false;
    const other = (async () => {
      for (; !isDone; turns += 1) await nextTurn();
    })();
    await findNearDuplicates(uniformHashes(7, 100_000), uniformHashes(8, 100_000), {
      throwIfStopped: () => undefined,
      onProgress: async (fraction) => void shares.push(fraction),
    });
    isDone = true;
    await other;
    assert.ok(shares.length > 20, `${shares.length} reports`);
    assert.ok(turns >= shares.length, `${turns} turns of the event loop beside ${shares.length} reports`);
    assert.ok(shares.every((share, place) => share >= (shares[place - 1] ?? 0) && share <= 1));
  });

  test('are not searched further once the run must stop', async () => {
    const stopped = new Error('stop');
    let reports = 0;
    const search = findNearDuplicates(uniformHashes(7, 100_000), uniformHashes(8, 100_000), {
      throwIfStopped: () => {
        if (reports === 5) throw stopped;
      },
      onProgress: async () => {
        reports += 1;
      },
    });
    await assert.rejects(search, stopped);
    assert.equal(reports, 5);
  });
});

describe('equal digests', () => {
  const digest = (text: string): Buffer => createHash('sha256').update(text).digest();
  const digests = (names: readonly string[]): Buffer => Buffer.concat(names.map(digest));

  test('are found in whatever parts they are seen, for each of several equal images', () => {
    const names = Array.from({ length: 2000 }, (_, place) => `${place % 1500}`);
    const matcher = createDigestMatcher(digests(names));
    const seen = Array.from({ length: 3000 }, (_, place) => `${3 * place}`);
    matcher.see(digests(seen.slice(0, 100)));
    matcher.see(digests(seen.slice(100)));
    const known = new Set(seen);
    assert.deepEqual(
      [...matcher.matches()],
      names.map((name) => (known.has(name) ? 1 : 0)),
    );
  });

  test('differ if one bit does', () => {
    const own = digest('a');
    const matcher = createDigestMatcher(own);
    for (let bit = 0; bit < 256; bit += 1) {
      const other = Buffer.from(own);
      other[bit >> 3] = (other[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      matcher.see(other);
    }
    assert.deepEqual([...matcher.matches()], [0]);
    matcher.see(own);
    assert.deepEqual([...matcher.matches()], [1]);
  });

  test('refuse what are not whole digests', () => {
    assert.throws(() => createDigestMatcher(new Uint8Array(33)), RangeError);
    assert.throws(() => createDigestMatcher(new Uint8Array(32)).see(new Uint8Array(8)), RangeError);
  });
});

describe('numbers of keys', () => {
  test('are those of a Map, however many keys come', () => {
    const random = createRandom(21);
    const keys = Int32Array.from({ length: 3 * 50_000 }, () => random.integer(30) - 15);
    const numbers = createKeyNumbers(3);
    const expected = new Map<string, number>();
    for (let place = 0; place < keys.length / 3; place += 1) {
      const name = keys.subarray(3 * place, 3 * place + 3).join();
      assert.equal(numbers.find(keys, place), expected.get(name) ?? -1);
      if (!expected.has(name)) expected.set(name, expected.size);
      assert.equal(numbers.add(keys, place), expected.get(name));
    }
    assert.equal(numbers.count, expected.size);
    assert.deepEqual(
      Array.from({ length: numbers.count }, (_, number) =>
        numbers
          .distinct()
          .subarray(3 * number, 3 * number + 3)
          .join(),
      ),
      [...expected.keys()],
    );
  });

  test('are of whole words, at any place in memory', () => {
    assert.throws(() => wordsOf(new Uint8Array(6)), RangeError);
    for (const start of [0, 1, 2, 3]) {
      const bytes = Buffer.from([9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9]);
      bytes.writeInt32LE(-70_000, start);
      bytes.writeInt32LE(123_456_789, start + 4);
      assert.deepEqual([...wordsOf(bytes.subarray(start, start + 8))], [-70_000, 123_456_789]);
    }
  });
});
