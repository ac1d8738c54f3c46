/**
 * Numbers the distinct keys of a set, such as digests, in the order of their first appearance. Keys lie in one typed
 * array: ten million digests of 16 bytes take 400 MB, where a Map of texts takes several gigabytes.
 */

export interface KeyNumbers {
  /** Distinct keys so far. */
  readonly count: number;
  /** The number of the key at `place` of `keys` (`[N, wordsPerKey]`), which is given the next number if it is new. */
  add(keys: Int32Array, place: number): number;
  /** The number of a key; -1 if it was not added. */
  find(keys: Int32Array, place: number): number;
  /** `[count, wordsPerKey]`: the distinct keys, in the order of their numbers. */
  distinct(): Int32Array;
}

/** Half of the slots at least are empty, so that a look-up visits about two. */
const SLOTS_PER_KEY = 2;

/**
 * @param wordsPerKey length of a key in 32-bit words.
 * @param expectedCount room for so many keys at once; more are taken as well.
 */
export function createKeyNumbers(wordsPerKey: number, expectedCount = 0): KeyNumbers {
  let keys = new Int32Array(Math.max(16, expectedCount) * wordsPerKey);
  /** The number + 1 of the key in each slot, 0 for an empty one: open addressing with linear probing. */
  let slots = new Int32Array(slotCountFor(Math.max(16, expectedCount)));
  let count = 0;

  /** The slot of a key, or the empty one where it belongs. */
  const slotOf = (wanted: Int32Array, place: number): number => {
    const first = place * wordsPerKey;
    let slot = hashOf(wanted, first, wordsPerKey) & (slots.length - 1);
    for (;;) {
      const number = (slots[slot] ?? 0) - 1;
      if (number < 0 || areEqual(keys, number * wordsPerKey, wanted, first, wordsPerKey)) return slot;
      slot = (slot + 1) & (slots.length - 1);
    }
  };
  const grow = (): void => {
    const larger = new Int32Array(2 * keys.length);
    larger.set(keys);
    keys = larger;
    slots = new Int32Array(slotCountFor(keys.length / wordsPerKey));
    for (let number = 0; number < count; number += 1) slots[slotOf(keys, number)] = number + 1;
  };
  return {
    get count() {
      return count;
    },
    find: (wanted, place) => (slots[slotOf(wanted, place)] ?? 0) - 1,
    add: (wanted, place) => {
      const known = (slots[slotOf(wanted, place)] ?? 0) - 1;
      if (known >= 0) return known;
      if ((count + 1) * wordsPerKey > keys.length) grow();
      for (let word = 0; word < wordsPerKey; word += 1)
        keys[count * wordsPerKey + word] = wanted[place * wordsPerKey + word] ?? 0;
      slots[slotOf(wanted, place)] = count + 1;
      count += 1;
      return count - 1;
    },
    distinct: () => keys.subarray(0, count * wordsPerKey),
  };
}

function slotCountFor(keyCount: number): number {
  return 2 ** Math.ceil(Math.log2(keyCount * SLOTS_PER_KEY));
}

function hashOf(keys: Int32Array, first: number, wordsPerKey: number): number {
  let hash = 0;
  for (let word = 0; word < wordsPerKey; word += 1) {
    hash = Math.imul(hash ^ (keys[first + word] ?? 0), 0x9e3779b1);
    hash ^= hash >>> 15;
  }
  hash = Math.imul(hash, 0x2c1b3c6d);
  return hash ^ (hash >>> 13);
}

function areEqual(left: Int32Array, first: number, right: Int32Array, second: number, wordCount: number): boolean {
  for (let word = 0; word < wordCount; word += 1) if (left[first + word] !== right[second + word]) return false;
  return true;
}

/** Bytes as 32-bit words, copied where they are not aligned. Throws RangeError for a length that is not whole words. */
export function wordsOf(bytes: Uint8Array): Int32Array {
  if (bytes.length % 4 !== 0) throw new RangeError(`${bytes.length} bytes are not whole 32-bit words.`);
  // A Buffer's slice would not copy.
  const aligned = bytes.byteOffset % 4 === 0 ? bytes : new Uint8Array(bytes);
  return new Int32Array(aligned.buffer, aligned.byteOffset, aligned.length / 4);
}
