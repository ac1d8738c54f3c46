/** Mutates valid bytes as accidents and attackers do. */

/** Numbers from a seed, 0 <= x < 1 (mulberry32), so that a failure can be reproduced. */
export function createRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}

/** Bytes that often break parsers: limits of length fields, and characters with a syntactic meaning. */
const ODD_BYTES = [0x00, 0x01, 0x7f, 0x80, 0xff, 0x0a, 0x22, 0x2c, 0x5c, 0x7b, 0x7d, 0x5b, 0x5d];
const ODD_NUMBERS = [0, 1, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, 0xffff, 0x1_0000];

/** @param corpus valid files, of which one is changed in one to four places, truncated, or joined with another. */
export function mutated(corpus: readonly Buffer[], random: () => number): Buffer {
  const pick = (count: number): number => Math.floor(random() * count);
  const choose = (): Buffer => corpus[pick(corpus.length)] ?? Buffer.alloc(0);
  let bytes = Buffer.from(choose());
  for (let left = 1 + pick(4); left > 0; left -= 1) {
    const place = pick(bytes.length + 1);
    switch (pick(7)) {
      case 0:
        if (place < bytes.length) bytes[place] = (bytes[place] ?? 0) ^ (1 << pick(8));
        break;
      case 1:
        if (place < bytes.length) bytes[place] = ODD_BYTES[pick(ODD_BYTES.length)] ?? 0;
        break;
      case 2:
        if (place + 4 <= bytes.length)
          bytes[random() < 0.5 ? 'writeUInt32LE' : 'writeUInt32BE'](ODD_NUMBERS[pick(ODD_NUMBERS.length)] ?? 0, place);
        break;
      case 3:
        bytes = Buffer.from(bytes.subarray(0, place));
        break;
      case 4:
        bytes = Buffer.concat([
          bytes.subarray(0, place),
          Buffer.from(Array.from({ length: 1 + pick(16) }, () => pick(256))),
          bytes.subarray(place),
        ]);
        break;
      case 5:
        bytes = Buffer.concat([bytes.subarray(0, place), bytes.subarray(place + 1 + pick(64))]);
        break;
      default: {
        const other = choose();
        bytes = Buffer.concat([bytes.subarray(0, place), other.subarray(pick(other.length + 1))]);
      }
    }
  }
  return bytes;
}
