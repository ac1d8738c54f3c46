/**
 * The only random number generator: xoshiro128** (Blackman and Vigna 2018), seeded by splitmix32. Its state is four
 * 32-bit words, so that a checkpoint can hold it and a resumed run draws the same numbers.
 */

/** Four unsigned 32-bit words, as kept in a checkpoint. */
export type RandomState = readonly [number, number, number, number];

export interface Random {
  /** A float in [0, 1) with 32 bits. */
  uniform(): number;
  /** A float in [low, high). */
  between(low: number, high: number): number;
  /** An integer in 0..count-1. Throws RangeError unless count is a positive integer up to 2^32. */
  integer(count: number): number;
  /** Standard normal, by Box and Muller. */
  normal(): number;
  /** True with the given probability. */
  chance(probability: number): boolean;
  /** The items in a new random order. */
  shuffled<Item>(items: readonly Item[]): Item[];
  /** An independent stream for a named purpose, so that drawing more numbers in one place changes no others. */
  fork(purpose: string): Random;
  state(): RandomState;
}

/** A stream that is a pure function of the seed (any safe integer). */
export function createRandom(seed: number): Random {
  return fromWords(seedWords(seed));
}

/** Continues exactly where `state()` was taken. */
export function restoreRandom(state: RandomState): Random {
  return fromWords(state);
}

function seedWords(seed: number): [number, number, number, number] {
  // The high half of a 53-bit seed is mixed in, so that seeds 2^32 apart differ.
  let word = (seed >>> 0) ^ Math.imul(Math.floor(seed / 2 ** 32) >>> 0, 0x9e3779b9);
  const next = (): number => {
    word = (word + 0x9e3779b9) >>> 0;
    return mix(word);
  };
  return [next(), next(), next(), next()];
}

/**
 * The finaliser of splitmix32: a bijection of 32 bits in which every bit of the input moves about half of the output.
 */
function mix(word: number): number {
  let mixed = word;
  mixed = Math.imul(mixed ^ (mixed >>> 16), 0x21f0aaad);
  mixed = Math.imul(mixed ^ (mixed >>> 15), 0x735a2d97);
  return (mixed ^ (mixed >>> 15)) >>> 0;
}

/**
 * Uses all 128 bits of the state and 64 bits of the purpose, so that millions of forks (one per step) do not collide.
 */
function forkWords(words: RandomState, purpose: string): [number, number, number, number] {
  const first = hashPurpose(purpose, 0x811c9dc5);
  const second = hashPurpose(purpose, 0x01000193);
  const a = mix(words[0] ^ first);
  const b = mix((words[1] + a) ^ second);
  const c = mix((words[2] + b) ^ first);
  const d = mix((words[3] + c) ^ second);
  // All zero is the one state that xoshiro never leaves.
  return (a | b | c | d) === 0 ? [1, 0, 0, 0] : [a, b, c, d];
}

/** FNV-1a over UTF-16 code units. */
function hashPurpose(purpose: string, basis: number): number {
  let hash = basis;
  for (let index = 0; index < purpose.length; index += 1)
    hash = Math.imul(hash ^ purpose.charCodeAt(index), 0x01000193);
  return hash >>> 0;
}

/** Takes and returns a signed word. */
function rotateLeft(word: number, bits: number): number {
  return (word << bits) | (word >>> (32 - bits));
}

function fromWords([first, second, third, fourth]: RandomState): Random {
  // Signed: V8 stores such words unboxed, and allocates every unsigned one above 2^31 on the heap, which made a draw
  // ten times slower.
  let a = first | 0;
  let b = second | 0;
  let c = third | 0;
  let d = fourth | 0;
  const nextWord = (): number => {
    const result = Math.imul(rotateLeft(Math.imul(b, 5), 7), 9) >>> 0;
    const shifted = b << 9;
    c ^= a;
    d ^= b;
    b ^= c;
    a ^= d;
    c ^= shifted;
    d = rotateLeft(d, 11);
    return result;
  };
  const state = (): RandomState => [a >>> 0, b >>> 0, c >>> 0, d >>> 0];
  const uniform = (): number => nextWord() / 2 ** 32;
  const integer = (count: number): number => {
    if (!Number.isInteger(count) || count < 1 || count > 2 ** 32)
      throw new RangeError(`integer() takes 1..2^32, not ${count}.`);
    return Math.floor(uniform() * count);
  };
  return {
    uniform,
    integer,
    between: (low, high) => low + (high - low) * uniform(),
    normal: () => Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform()),
    chance: (probability) => uniform() < probability,
    shuffled: (items) => {
      // Sorting by a drawn key is the same uniform order as swapping (ties have probability 2^-32).
      const order = items
        .map((item) => ({ item, key: uniform() }))
        .sort((left, right) => left.key - right.key)
        .map(({ item }) => item);
      return order;
    },
    // The fork depends on this stream's present state and its purpose only, and leaves this stream as it was.
    fork: (purpose) => fromWords(forkWords(state(), purpose)),
    state,
  };
}
