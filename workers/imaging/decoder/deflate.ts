/**
 * Deflate (RFC 1951) for what a PNG filter leaves of tissue, which repeats nowhere: Huffman's code of the bytes, and
 * runs of zeros. The same bytes in script and in our addon (native/decoder/deflate.cc), which takes a fifth of the time
 * of zlib.
 */

/**
 * Writes one block, which codes all of `bytes`, to `target`; unless it is the last, an empty stored block follows, so
 * that the next begins with a byte.
 * @param bytes not empty. @param target of at least `deflateRoomFor(bytes.length)` bytes.
 * @returns the bytes written.
 */
export type DeflateBlock = (bytes: Buffer, isLast: boolean, target: Buffer) => number;

/** @returns Adler-32 (RFC 1950) of what `checksum` is of, and these bytes; that of nothing is 1. */
export type Adler32 = (checksum: number, bytes: Buffer) => number;

export function deflateRoomFor(byteSize: number): number {
  return 2 * byteSize + 1024;
}

/** Literals, the end of the block, and lengths of matches. */
const SYMBOLS = 286;
const END = 256;
const LENGTH_MAX = 15;
const CODE_SYMBOLS = 19;
const CODE_LENGTH_MAX = 7;
const CODE_ORDER = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];
const [MATCH_MIN, MATCH_MAX] = [3, 258];
/** Zeros that begin a run. */
const RUN_MIN = 8;
const ADLER_MODULUS = 65521;
const ADLER_BYTES = 4096;

interface Match {
  readonly symbol: number;
  readonly extraBits: number;
  readonly extra: number;
}

function matchOf(length: number): Match {
  if (length === MATCH_MAX) return { symbol: 285, extraBits: 0, extra: 0 };
  const rest = length - MATCH_MIN;
  if (rest < 8) return { symbol: 257 + rest, extraBits: 0, extra: 0 };
  const extraBits = 29 - Math.clz32(rest);
  return { symbol: 257 + 4 * extraBits + (rest >> extraBits), extraBits, extra: rest & ((1 << extraBits) - 1) };
}

/** Passes literals, and lengths of matches with the zero before them. */
function divide(bytes: Buffer, onLiteral: (byte: number) => void, onMatch: (length: number) => void): void {
  for (let at = 0; at < bytes.length;) {
    let end = at;
    while (end < bytes.length && bytes[end] === 0) end += 1;
    if (end - at < RUN_MIN) {
      // The next run begins behind these zeros.
      for (const stop = Math.min(bytes.length, end + 1); at < stop; at += 1) onLiteral(bytes[at] ?? 0);
      continue;
    }
    onLiteral(0);
    at += 1;
    while (end - at >= MATCH_MIN) {
      const length = Math.min(MATCH_MAX, end - at);
      onMatch(length);
      at += length;
    }
    for (; at < end; at += 1) onLiteral(0);
  }
}

/**
 * Lengths of Huffman's code: 0 for what does not occur. Of two nodes of the same weight a symbol comes before an inner
 * node, and a symbol before later symbols. While a code is too long, all counts are halved.
 */
function lengthsOf(counts: readonly number[], lengthMax: number): number[] {
  const symbols = [...counts.keys()].filter((symbol) => (counts[symbol] ?? 0) > 0);
  symbols.sort((a, b) => (counts[a] ?? 0) - (counts[b] ?? 0));
  // Leaves, then inner nodes, in the order of their weights.
  const weights = symbols.map((symbol) => counts[symbol] ?? 0);
  const parents: number[] = [];
  const root = 2 * symbols.length - 2;
  let [leaf, inner] = [0, symbols.length];
  for (let node = symbols.length; node <= root; node += 1) {
    let weight = 0;
    for (let child = 0; child < 2; child += 1) {
      const isLeaf = leaf < symbols.length && (inner === node || (weights[leaf] ?? 0) <= (weights[inner] ?? 0));
      const least = isLeaf ? leaf : inner;
      if (isLeaf) leaf += 1;
      else inner += 1;
      weight += weights[least] ?? 0;
      parents[least] = node;
    }
    weights[node] = weight;
  }
  const depths: number[] = [];
  depths[root] = 0;
  for (let node = root - 1; node >= 0; node -= 1) depths[node] = (depths[parents[node] ?? root] ?? 0) + 1;
  if (Math.max(...depths.slice(0, symbols.length)) > lengthMax)
    return lengthsOf(
      counts.map((count) => (count + 1) >> 1),
      lengthMax,
    );
  const lengths = counts.map(() => 0);
  for (const [index, symbol] of symbols.entries()) lengths[symbol] = depths[index] ?? 0;
  return lengths;
}

interface Code {
  /** In the order in which they are written. */
  readonly bits: number;
  readonly length: number;
}

function codesOf(lengths: readonly number[]): Code[] {
  const next = [0, 0];
  for (let length = 1; length <= LENGTH_MAX; length += 1)
    next[length + 1] = ((next[length] ?? 0) + lengths.filter((each) => each === length).length) << 1;
  return lengths.map((length) => {
    let value = next[length] ?? 0;
    if (length > 0) next[length] = value + 1;
    let bits = 0;
    for (let bit = 0; bit < length; bit += 1, value >>= 1) bits = (bits << 1) | (value & 1);
    return { bits, length };
  });
}

/** `DeflateBlock` without native code. */
export function deflateInScript(bytes: Buffer, isLast: boolean, target: Buffer): number {
  const counts = new Array<number>(SYMBOLS).fill(0);
  const count = (symbol: number): void => {
    counts[symbol] = (counts[symbol] ?? 0) + 1;
  };
  divide(bytes, count, (length) => count(matchOf(length).symbol));
  count(END);
  const lengths = lengthsOf(counts, LENGTH_MAX);
  const codes = codesOf(lengths);
  // One code of distances, 1, which has one bit.
  const lengthCounts = Array.from(
    { length: CODE_SYMBOLS },
    (_, length) => lengths.filter((each) => each === length).length + (length === 1 ? 1 : 0),
  );
  const codeLengths = lengthsOf(lengthCounts, CODE_LENGTH_MAX);
  const codeCodes = codesOf(codeLengths);

  let [at, waiting, waitingBits] = [0, 0, 0];
  /** At most 16 bits. */
  const put = (bits: number, length: number): void => {
    waiting |= bits << waitingBits;
    waitingBits += length;
    for (; waitingBits >= 8; waitingBits -= 8, waiting >>>= 8, at += 1) target[at] = waiting & 255;
  };
  const putCode = (code: Code | undefined): void => {
    if (code !== undefined) put(code.bits, code.length);
  };
  put(isLast ? 1 : 0, 1);
  put(2, 2);
  put(SYMBOLS - 257, 5);
  put(0, 5);
  put(CODE_SYMBOLS - 4, 4);
  for (const symbol of CODE_ORDER) put(codeLengths[symbol] ?? 0, 3);
  for (const length of lengths) putCode(codeCodes[length]);
  putCode(codeCodes[1]);
  divide(
    bytes,
    (byte) => putCode(codes[byte]),
    (length) => {
      const { symbol, extraBits, extra } = matchOf(length);
      putCode(codes[symbol]);
      put(extra, extraBits);
      // The distance.
      put(0, 1);
    },
  );
  putCode(codes[END]);
  if (!isLast) put(0, 3);
  // Fills the last byte.
  if (waitingBits > 0) put(0, 8 - waitingBits);
  if (isLast) return at;
  return at + Buffer.from([0, 0, 0xff, 0xff]).copy(target, at);
}

/** `Adler32` without native code. */
export function adler32InScript(checksum: number, bytes: Buffer): number {
  let [sum, sumOfSums] = [checksum & 0xffff, checksum >>> 16];
  for (let first = 0; first < bytes.length; first += ADLER_BYTES) {
    for (let at = first; at < Math.min(bytes.length, first + ADLER_BYTES); at += 1) {
      sum += bytes[at] ?? 0;
      sumOfSums += sum;
    }
    sum %= ADLER_MODULUS;
    sumOfSums %= ADLER_MODULUS;
  }
  return sumOfSums * 0x10000 + sum;
}
