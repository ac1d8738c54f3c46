/**
 * Finds which 64-bit words of one large set differ from any word of another in at most a few bits. The result is exact.
 *
 * It is multi-index hashing over combinations of pieces (Manku, Jain and Das Sarma 2007): the bits are dealt into
 * `d + k` pieces, so that two words that differ in at most d bits agree in at least k whole pieces. For each choice of
 * k pieces, the words are put into buckets by the bits of those pieces, and only words of one bucket are compared. More
 * pieces mean more choices and smaller buckets; the number of pieces follows from the number of words, so that the time
 * for a word hardly grows with the set.
 *
 * Pictures of a few scenes have clustered words, which would fill a few buckets with most of the set. A crowded bucket
 * is therefore searched again by the same rule, over the bits that vary in it.
 */

/** 64-bit words, `[N, 2]`: the low half of each, then the high half. */
export type Words = Int32Array;

/** The words to look up. */
export interface Queries {
  readonly words: Words;
  /** `[Q]`: for each word its place in `isFound`. Several words may have one owner, which any of them finds. */
  readonly owners: Int32Array;
}

export interface HammingJoin {
  readonly queries: Queries;
  /** The words to find. They should be distinct: repeated ones only take time. */
  readonly entries: Words;
  /** Two words match if they differ in at most this many bits, 0..60. */
  readonly distanceMax: number;
  /** 1 for owners that have a match. Owners that are 1 already are not searched. */
  readonly isFound: Uint8Array;
}

/** Queries of one call, so that a place and a bucket fit into one double. */
export const QUERIES_MAX = 2 ** 24;

/** Bits of a word that distinguish it, from the lowest. */
const WORD_BITS = 64;
/** Pieces beyond the distance: more than four would need over 126 choices of them at five bits. */
const AGREEING_PIECES_MAX = 4;
/** At most 2^24 buckets, 64 MB. */
const BUCKET_BITS_MAX = 24;
/** Words are arranged by this many bits of their buckets. */
const ARRANGED_BITS = 9;
/** Words of a bucket that are compared at once. The rest of a larger bucket is searched by buckets of its own. */
const CROWD = 256;
/** A crowded bucket within a crowded bucket within ...: words that stay together so often are compared one by one. */
const DEPTH_MAX = 6;
/** Words that are enough to see which bits vary. */
const SAMPLE_COUNT = 2048;
/** Nanoseconds of each piece of work, roughly. They decide only how fast the search is, not what it finds. */
const COST_NS = { compare: 2, look: 30, insert: 15 } as const satisfies Record<string, number>;
/** Words that are looked up or inserted, and pairs that are compared, before the caller gets a turn: tens of ms. */
const WORDS_PER_TURN = 2 ** 18;
const PAIRS_PER_TURN = 2 ** 22;

/**
 * Sets `isFound` to 1 for every owner with a match.
 *
 * @returns yields the share of the work that is done, 0..1, every few hundredths of a second, so that the caller can
 * report progress, serve its event loop or stop the search. A stopped search has found some of the owners.
 * @throws RangeError for arrays of wrong lengths.
 */
export function* hammingJoin(join: HammingJoin): Generator<number, void> {
  const { queries, entries, distanceMax, isFound } = join;
  const queryCount = queries.owners.length;
  if (queries.words.length !== 2 * queryCount)
    throw new RangeError(`${queries.words.length} half words do not fit ${queryCount} owners.`);
  if (queryCount > QUERIES_MAX) throw new RangeError(`${queryCount} words are more than ${QUERIES_MAX}.`);
  if (queries.owners.some((owner) => owner < 0 || owner >= isFound.length))
    throw new RangeError(`An owner has no place among ${isFound.length}.`);
  if (entries.length % 2 !== 0) throw new RangeError(`${entries.length} half words are not whole words.`);
  if (!Number.isInteger(distanceMax) || distanceMax < 0 || distanceMax > WORD_BITS - AGREEING_PIECES_MAX)
    throw new RangeError(`A distance of ${distanceMax} bits is not between 0 and ${WORD_BITS - AGREEING_PIECES_MAX}.`);
  yield* search(join, 0);
}

function* search(join: HammingJoin, depth: number): Generator<number, void> {
  const { entries, isFound } = join;
  const entryCount = entries.length / 2;
  const bucketBits = bucketBitsFor(entryCount);
  const masks = depth < DEPTH_MAX ? masksFor(join) : null;
  if (masks === null) {
    yield* compareAll(join);
    return;
  }
  let { queries } = join;
  for (const [done, mask] of masks.entries()) {
    queries = unfound(queries, isFound);
    const queryCount = queries.owners.length;
    if (queryCount === 0) return;
    const arrange = createArrange(mask, bucketBits, Math.min(WORDS_PER_TURN, Math.max(queryCount, entryCount)));
    const index: Index = { starts: new Int32Array(2 ** bucketBits + 1), ordered: new Int32Array(entries.length) };
    for (const _ of fillIndex(index, entries, arrange)) yield done / masks.length;
    const crowded = createCrowdedList();
    for (let start = 0; start < queryCount; start += WORDS_PER_TURN) {
      const batch = arrange(queries.words, start, Math.min(queryCount, start + WORDS_PER_TURN), {
        owners: queries.owners,
        isFound,
      });
      look(batch, { ...join, queries }, index, crowded);
      yield (done + start / queryCount) / masks.length;
    }
    for (const { bucket, places } of crowded.byBucket()) {
      const from = (index.starts[bucket] ?? 0) + CROWD;
      const rest = index.ordered.subarray(2 * from, 2 * (index.starts[bucket + 1] ?? 0));
      const inner = { ...join, queries: picked(queries, places), entries: rest };
      for (const _ of search(inner, depth + 1)) yield (done + 1) / masks.length;
    }
  }
}

/** The bits by which words are put into buckets. */
interface Mask {
  readonly low: number;
  readonly high: number;
}

/** Every choice of pieces to search by, for the cheapest number of pieces; null if comparing all pairs is cheaper. */
function masksFor({ queries, entries, distanceMax }: HammingJoin): Mask[] | null {
  const queryCount = queries.owners.length;
  const entryCount = entries.length / 2;
  const information = informationOf(entries);
  const total = information.reduce((sum, bits) => sum + bits, 0);
  let cheapest = { costNs: queryCount * entryCount * COST_NS.compare, agreeing: 0 };
  let choices = 1;
  for (let agreeing = 1; agreeing <= AGREEING_PIECES_MAX; agreeing += 1) {
    const pieceCount = distanceMax + agreeing;
    choices = (choices * pieceCount) / agreeing;
    const sharedBucket = 2 ** -((total * agreeing) / pieceCount);
    const costNs =
      choices *
      (entryCount * COST_NS.insert +
        queryCount * COST_NS.look +
        queryCount * entryCount * sharedBucket * COST_NS.compare);
    if (costNs < cheapest.costNs) cheapest = { costNs, agreeing };
  }
  if (cheapest.agreeing === 0) return null;
  const pieces = piecesOf(information, distanceMax + cheapest.agreeing);
  return combinations(pieces, cheapest.agreeing).map((chosen) =>
    chosen.reduce((mask, { low, high }) => ({ low: mask.low | low, high: mask.high | high }), { low: 0, high: 0 }),
  );
}

/**
 * For each bit its collision entropy, 0..1: two words agree in it with probability 2^-entropy. A bit that is the same
 * in all words carries no information.
 */
function informationOf(entries: Words): number[] {
  const entryCount = entries.length / 2;
  const sampleCount = Math.min(entryCount, SAMPLE_COUNT);
  const ones = new Int32Array(WORD_BITS);
  for (let sample = 0; sample < sampleCount; sample += 1) {
    const entry = Math.floor((sample * entryCount) / sampleCount);
    for (let bit = 0; bit < WORD_BITS; bit += 1)
      ones[bit] = (ones[bit] ?? 0) + (((entries[2 * entry + (bit >> 5)] ?? 0) >>> (bit & 31)) & 1);
  }
  return Array.from(ones, (count) => {
    const share = count / Math.max(1, sampleCount);
    return -Math.log2(share ** 2 + (1 - share) ** 2);
  });
}

/** Deals the bits to the pieces, the most informative first, so that all pieces carry about the same information. */
function piecesOf(information: readonly number[], pieceCount: number): Mask[] {
  const pieces = Array.from({ length: pieceCount }, () => ({ low: 0, high: 0, bits: 0 }));
  const bits = information.map((_, bit) => bit).sort((a, b) => (information[b] ?? 0) - (information[a] ?? 0));
  for (const bit of bits) {
    const poorest = pieces.reduce((least, piece) => (piece.bits < least.bits ? piece : least));
    poorest.bits += information[bit] ?? 0;
    if (bit < 32) poorest.low |= 1 << bit;
    else poorest.high |= 1 << (bit & 31);
  }
  return pieces;
}

/** Every choice of `count` of the items. */
function combinations<Item>(items: readonly Item[], count: number): Item[][] {
  if (count === 0) return [[]];
  return items.flatMap((item, place) => combinations(items.slice(place + 1), count - 1).map((rest) => [item, ...rest]));
}

interface Index {
  /** `[buckets + 1]`: where each bucket starts in `ordered`. */
  readonly starts: Int32Array;
  /** The entries, bucket after bucket. */
  readonly ordered: Words;
}

function bucketBitsFor(entryCount: number): number {
  return Math.min(BUCKET_BITS_MAX, Math.max(4, Math.ceil(Math.log2(entryCount + 1))));
}

function* fillIndex({ starts, ordered }: Index, entries: Words, arrange: Arrange): Generator<void, void> {
  const entryCount = entries.length / 2;
  for (let start = 0; start < entryCount; start += WORDS_PER_TURN) {
    count(arrange(entries, start, Math.min(entryCount, start + WORDS_PER_TURN), null), starts);
    yield;
  }
  // Each bucket's end; inserting from its end downwards leaves its start.
  for (let bucket = 1; bucket < starts.length; bucket += 1)
    starts[bucket] = (starts[bucket] ?? 0) + (starts[bucket - 1] ?? 0);
  yield;
  for (let start = 0; start < entryCount; start += WORDS_PER_TURN) {
    insert(arrange(entries, start, Math.min(entryCount, start + WORDS_PER_TURN), null), starts, ordered);
    yield;
  }
}

function count({ size, buckets }: Batch, counts: Int32Array): void {
  for (let item = 0; item < size; item += 1) {
    const bucket = buckets[item] ?? 0;
    counts[bucket] = (counts[bucket] ?? 0) + 1;
  }
}

function insert({ size, buckets, words }: Batch, ends: Int32Array, ordered: Words): void {
  for (let item = 0; item < size; item += 1) {
    const bucket = buckets[item] ?? 0;
    const target = (ends[bucket] ?? 0) - 1;
    ends[bucket] = target;
    ordered[2 * target] = words[2 * item] ?? 0;
    ordered[2 * target + 1] = words[2 * item + 1] ?? 0;
  }
}

/** Words with their buckets, roughly in the order of the buckets. */
interface Batch {
  readonly size: number;
  readonly buckets: Int32Array;
  readonly words: Words;
  /** Where each word was. */
  readonly places: Int32Array;
}

type Arrange = (words: Words, from: number, to: number, skip: Skip | null) => Batch;

interface Skip {
  readonly owners: Int32Array;
  readonly isFound: Uint8Array;
}

/**
 * Arranges words by the first bits of their buckets, so that the visits to buckets run through memory in order: at a
 * million words, a search that visits them in random order takes about three times as long. The batch is overwritten by
 * the next call.
 */
function createArrange(mask: Mask, bucketBits: number, capacity: number): Arrange {
  const found = new Int32Array(capacity);
  const buckets = new Int32Array(capacity);
  const arranged = new Int32Array(2 * capacity);
  const places = new Int32Array(capacity);
  const ends = new Int32Array(2 ** Math.min(bucketBits, ARRANGED_BITS));
  const coarse = Math.max(0, bucketBits - ARRANGED_BITS);
  const shift = 32 - bucketBits;
  return (words, from, to, skip) => {
    ends.fill(0);
    for (let place = from; place < to; place += 1) {
      if (skip !== null && skip.isFound[skip.owners[place] ?? 0] === 1) {
        found[place - from] = -1;
        continue;
      }
      const bucket = bucketOf(words[2 * place] ?? 0, words[2 * place + 1] ?? 0, mask, shift);
      found[place - from] = bucket;
      ends[bucket >>> coarse] = (ends[bucket >>> coarse] ?? 0) + 1;
    }
    for (let part = 1; part < ends.length; part += 1) ends[part] = (ends[part] ?? 0) + (ends[part - 1] ?? 0);
    const size = ends[ends.length - 1] ?? 0;
    for (let place = to - 1; place >= from; place -= 1) {
      const bucket = found[place - from] ?? 0;
      if (bucket < 0) continue;
      const target = (ends[bucket >>> coarse] ?? 0) - 1;
      ends[bucket >>> coarse] = target;
      buckets[target] = bucket;
      arranged[2 * target] = words[2 * place] ?? 0;
      arranged[2 * target + 1] = words[2 * place + 1] ?? 0;
      places[target] = place;
    }
    return { size, buckets, words: arranged, places };
  };
}

/** Words that agree in the mask have one bucket; others may share it by chance, which their comparison finds. */
function bucketOf(low: number, high: number, mask: Mask, shift: number): number {
  let mixed = Math.imul(low & mask.low, 0x9e3779b1) ^ Math.imul(high & mask.high, 0x85ebca77);
  mixed = Math.imul(mixed ^ (mixed >>> 15), 0x2c1b3c6d);
  return Math.imul(mixed ^ (mixed >>> 12), 0x297a2d39) >>> shift;
}

/** Compares queries with the words of their buckets. */
function look(
  { size, buckets, words, places }: Batch,
  { queries: { owners }, distanceMax, isFound }: HammingJoin,
  { starts, ordered }: Index,
  crowded: CrowdedList,
): void {
  for (let item = 0; item < size; item += 1) {
    const bucket = buckets[item] ?? 0;
    const start = starts[bucket] ?? 0;
    const end = starts[bucket + 1] ?? 0;
    if (start === end) continue;
    const compared = Math.min(end, start + CROWD);
    if (hasNear(words[2 * item] ?? 0, words[2 * item + 1] ?? 0, ordered, start, compared, distanceMax))
      isFound[owners[places[item] ?? 0] ?? 0] = 1;
    else if (end > compared) crowded.add(bucket, places[item] ?? 0);
  }
}

function* compareAll({ queries: { words, owners }, entries, distanceMax, isFound }: HammingJoin): Generator<number> {
  const entryCount = entries.length / 2;
  let pairs = 0;
  for (let place = 0; place < owners.length; place += 1) {
    const owner = owners[place] ?? 0;
    if (isFound[owner] === 1) continue;
    if (hasNear(words[2 * place] ?? 0, words[2 * place + 1] ?? 0, entries, 0, entryCount, distanceMax))
      isFound[owner] = 1;
    pairs += entryCount;
    if (pairs < PAIRS_PER_TURN) continue;
    pairs = 0;
    yield place / owners.length;
  }
}

/** True if one of the words `from` to `to` differs in at most `distanceMax` bits. */
function hasNear(low: number, high: number, words: Words, from: number, to: number, distanceMax: number): boolean {
  for (let place = from; place < to; place += 1) {
    if (differingBits(low ^ (words[2 * place] ?? 0), high ^ (words[2 * place + 1] ?? 0)) <= distanceMax) return true;
  }
  return false;
}

/** Bits that are set in two halves, 0..64 (Warren, Hacker's Delight 5-1, both halves at once from four bits on). */
function differingBits(low: number, high: number): number {
  // `| 0` keeps every step in 32-bit integers, where the engine would otherwise switch to doubles.
  let a = (low - ((low >>> 1) & 0x55555555)) | 0;
  let b = (high - ((high >>> 1) & 0x55555555)) | 0;
  a = ((a & 0x33333333) + ((a >>> 2) & 0x33333333)) | 0;
  b = ((b & 0x33333333) + ((b >>> 2) & 0x33333333)) | 0;
  const nibbles = (a + b) | 0;
  return Math.imul(((nibbles & 0x0f0f0f0f) + ((nibbles >>> 4) & 0x0f0f0f0f)) | 0, 0x01010101) >>> 24;
}

/** The queries whose owners have no match yet. */
function unfound(queries: Queries, isFound: Uint8Array): Queries {
  const { owners } = queries;
  const places = new Int32Array(owners.length);
  let count = 0;
  for (let place = 0; place < owners.length; place += 1) {
    if (isFound[owners[place] ?? 0] === 1) continue;
    places[count] = place;
    count += 1;
  }
  return count === owners.length ? queries : picked(queries, places.subarray(0, count));
}

function picked({ words, owners }: Queries, places: Int32Array): Queries {
  const some = { words: new Int32Array(2 * places.length), owners: new Int32Array(places.length) };
  for (let target = 0; target < places.length; target += 1) {
    const place = places[target] ?? 0;
    some.words[2 * target] = words[2 * place] ?? 0;
    some.words[2 * target + 1] = words[2 * place + 1] ?? 0;
    some.owners[target] = owners[place] ?? 0;
  }
  return some;
}

/** Queries that were not found among the first words of a crowded bucket. */
interface CrowdedList {
  add(bucket: number, place: number): void;
  byBucket(): Generator<{ readonly bucket: number; readonly places: Int32Array }, void>;
}

function createCrowdedList(): CrowdedList {
  // Bucket and place as one number, which typed arrays sort natively.
  let keys = new Float64Array(1024);
  let count = 0;
  return {
    add: (bucket, place) => {
      if (count === keys.length) {
        const larger = new Float64Array(2 * keys.length);
        larger.set(keys);
        keys = larger;
      }
      keys[count] = bucket * QUERIES_MAX + place;
      count += 1;
    },
    *byBucket() {
      const sorted = keys.subarray(0, count).sort();
      const bucketAt = (index: number): number => Math.floor((sorted[index] ?? 0) / QUERIES_MAX);
      for (let start = 0, end = 0; start < count; start = end) {
        const bucket = bucketAt(start);
        end = start + 1;
        while (end < count && bucketAt(end) === bucket) end += 1;
        yield { bucket, places: Int32Array.from(sorted.subarray(start, end), (key) => key % QUERIES_MAX) };
      }
    },
  };
}
