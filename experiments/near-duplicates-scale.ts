/**
 * How the time and memory of the search for images of the pretraining grow with the number of images: hashes are drawn
 * as they are of unrelated pictures, and as they are of a few drawings with noise, which crowd the buckets of an index.
 */
import { mkdir, writeFile } from 'node:fs/promises';
import { availableParallelism, cpus, loadavg, totalmem } from 'node:os';
import path from 'node:path';
import { createDraw, drawStain, type Draw } from '../src/synthetic/tissue-canvas.ts';
import { drawImage, TISSUE_LABELS } from '../src/synthetic/tissue.ts';
import { PERCEPTUAL_HASH_BYTES, PIXEL_DIGEST_BYTES } from '../src/formats/manifest/index.ts';
import { wordsOf } from '../workers/imaging/key-numbers.ts';
import {
  createDigestMatcher,
  findNearDuplicates,
  NEAR_DUPLICATE_DISTANCE,
} from '../workers/imaging/near-duplicates.ts';
import { orientationsOf, perceptualHash } from '../workers/imaging/perceptual-hash.ts';

const SMALLEST_COUNT = 10_000;
/** More seen images than this are searched for so many tested ones, as a benchmark does with a large pretraining. */
const TESTED_COUNT_MAX = 1_000_000;
const DRAWING_COUNT = 50;
const DRAWING_SIZE_PX = 32;
/** Noisy copies of a drawing from which the probability of each bit is taken. */
const COPIES_PER_DRAWING = 200;
/** Tested hashes whose result is checked by comparing them with every seen one. */
const CHECKED_COUNT = 60;
const HASH_BITS = 64;
/** Of 255. A bit differs seldom between two images of a drawing, often, or nearly always at random. */
const NOISE_STD = { slight: 12, medium: 40, strong: 120 } as const;

interface HashSource {
  readonly name: string;
  /** Hashes `[count, 8]` of images of the pretraining, or of tested ones: half of those are from the same scenes. */
  draw(count: number, whose: 'SEEN' | 'TESTED', draw: Draw): Uint8Array;
}

interface Measured {
  readonly source: string;
  readonly seenCount: number;
  readonly testedCount: number;
  readonly foundCount: number;
  readonly seconds: number;
  readonly cpuSeconds: number;
  readonly peakBytes: number;
}

/** Writes near-duplicates-scale.md. Throws if a checked result is wrong. */
export async function measureScale(seenCountMax: number, outDir: string): Promise<void> {
  const loadBefore = loadavg();
  const sources = [
    uniform(),
    ...Object.entries(NOISE_STD).map(([strength, noiseStd]) => drawings(`${strength} noise`, noiseStd)),
  ];
  // The first searches would otherwise measure the compiler as well.
  for (const source of sources) await searched(source, SMALLEST_COUNT);
  const counts: number[] = [];
  for (let count = SMALLEST_COUNT; count < seenCountMax; count *= 10) counts.push(count);
  counts.push(seenCountMax);
  const searches: Measured[] = [];
  const matches: Measured[] = [];
  for (const count of counts) {
    for (const source of sources) searches.push(logged(await searched(source, count)));
    matches.push(logged(await matched(count)));
  }
  const lines = [
    '# Near-duplicates at scale',
    '',
    `<!-- Written by npm run experiment:near-duplicates -- --scale ${seenCountMax}; edit experiments/near-duplicates-scale.ts. -->`,
    '',
    `The search that an evaluation makes for its test images among the images of the pretraining, on ${cpus()[0]?.model ?? 'an unknown processor'} with ${availableParallelism()} cores and ${Math.round(totalmem() / 2 ** 30)} GiB, Node ${process.versions.node}. The search uses one thread. Load average at the start: ${loadBefore.map((load) => load.toFixed(1)).join(', ')}; where other programs compete for the cores, the CPU time is what the search needs.`,
    '',
    '## Near-duplicates',
    '',
    `Half of the tested images are from the scenes of the seen ones. *unrelated*: every bit of a hash is random. *${DRAWING_COUNT} drawings*: drawn tissue with Gaussian noise in each of the ${DRAWING_SIZE_PX} x ${DRAWING_SIZE_PX} cells of the hash, of standard deviation ${Object.entries(
      NOISE_STD,
    )
      .map(([strength, noiseStd]) => `${noiseStd} (${strength})`)
      .join(
        ', ',
      )} of 255; the other half of the tested images is from ${DRAWING_COUNT} other drawings. ${CHECKED_COUNT} tested images of each row up to ${TESTED_COUNT_MAX.toLocaleString('en')} were compared with every seen image in all orientations, with the same result.`,
    '',
    '| hashes | seen | tested | near | seconds | CPU seconds | peak memory of the process |',
    '| --- | --- | --- | --- | --- | --- | --- |',
    ...searches.map(rowOf),
    '',
    '## Equal pixels',
    '',
    'Digests of 32 bytes; half of the tested ones are among the seen ones.',
    '',
    '| hashes | seen | tested | equal | seconds | CPU seconds | peak memory of the process |',
    '| --- | --- | --- | --- | --- | --- | --- |',
    ...matches.map(rowOf),
    '',
    '## Growth',
    '',
    `The exponent e of CPU time ~ n^e between ${SMALLEST_COUNT.toLocaleString('en')} images and n images on both sides: 1 is linear, 2 quadratic.`,
    '',
    `| hashes | ${counts
      .slice(1)
      .map((count) => count.toLocaleString('en'))
      .join(' | ')} |`,
    `| --- |${' --- |'.repeat(counts.length - 1)}`,
    ...[...sources.map(({ name }) => name), 'digests'].map((name) =>
      exponentsOf(name, [...searches, ...matches], counts),
    ),
    '',
  ];
  await mkdir(outDir, { recursive: true });
  await writeFile(path.join(outDir, 'near-duplicates-scale.md'), lines.join('\n'));
  process.stdout.write(`${lines.join('\n')}\n`);
}

function rowOf(row: Measured): string {
  const numbers = [row.seenCount, row.testedCount, row.foundCount].map((count) => count.toLocaleString('en'));
  return `| ${row.source} | ${numbers.join(' | ')} | ${row.seconds.toFixed(2)} | ${row.cpuSeconds.toFixed(2)} | ${Math.round(row.peakBytes / 1e6)} MB |`;
}

/** Only where as many images are tested as seen, so that one number grows. */
function exponentsOf(name: string, rows: readonly Measured[], counts: readonly number[]): string {
  const timeAt = (count: number): number =>
    rows.find((row) => row.source === name && row.seenCount === count && row.testedCount === count)?.cpuSeconds ?? NaN;
  const exponents = counts.slice(1).map((count) => {
    const exponent = Math.log(timeAt(count) / timeAt(SMALLEST_COUNT)) / Math.log(count / SMALLEST_COUNT);
    return Number.isFinite(exponent) ? exponent.toFixed(2) : '';
  });
  return `| ${name} | ${exponents.join(' | ')} |`;
}

function logged(row: Measured): Measured {
  process.stderr.write(
    `${row.source}: ${row.testedCount} tested, ${row.seenCount} seen: ${row.foundCount} found in ${row.seconds.toFixed(1)} s, ${row.cpuSeconds.toFixed(1)} s of CPU time\n`,
  );
  return row;
}

async function timed<Result>(work: () => Result | Promise<Result>) {
  const startedMs = performance.now();
  const before = process.cpuUsage();
  const result = await work();
  const { user, system } = process.cpuUsage(before);
  return {
    result,
    seconds: (performance.now() - startedMs) / 1000,
    cpuSeconds: (user + system) / 1e6,
    peakBytes: process.resourceUsage().maxRSS * 1024,
  };
}

async function searched(source: HashSource, seenCount: number): Promise<Measured> {
  const testedCount = Math.min(seenCount, TESTED_COUNT_MAX);
  const draw = createDraw(seenCount);
  const seen = source.draw(seenCount, 'SEEN', draw);
  const tested = source.draw(testedCount, 'TESTED', draw);
  const turns = { throwIfStopped: () => undefined, onProgress: () => Promise.resolve() };
  const { result: isNear, ...spent } = await timed(() => findNearDuplicates(tested, seen, turns));
  if (seenCount <= TESTED_COUNT_MAX) check(tested, seen, isNear);
  const foundCount = isNear.reduce((sum, near) => sum + near, 0);
  return { source: source.name, seenCount, testedCount, foundCount, ...spent };
}

/** Compares some of the tested hashes with all seen ones. */
function check(tested: Uint8Array, seen: Uint8Array, isNear: Uint8Array): void {
  const ones = Uint8Array.from({ length: 2 ** 16 }, (_, value) => value.toString(2).replaceAll('0', '').length);
  const halves = new Uint16Array(seen.slice().buffer);
  for (let checked = 0; checked < CHECKED_COUNT; checked += 1) {
    const place = Math.floor((checked * isNear.length) / CHECKED_COUNT);
    const hash = tested.subarray(place * PERCEPTUAL_HASH_BYTES, (place + 1) * PERCEPTUAL_HASH_BYTES);
    const expected = orientationsOf(hash).some((orientation) => {
      const [a = 0, b = 0, c = 0, d = 0] = new Uint16Array(orientation.slice().buffer);
      for (let other = 0; other < halves.length; other += 4) {
        const distance =
          (ones[a ^ (halves[other] ?? 0)] ?? 0) +
          (ones[b ^ (halves[other + 1] ?? 0)] ?? 0) +
          (ones[c ^ (halves[other + 2] ?? 0)] ?? 0) +
          (ones[d ^ (halves[other + 3] ?? 0)] ?? 0);
        if (distance <= NEAR_DUPLICATE_DISTANCE) return true;
      }
      return false;
    });
    if (expected !== (isNear[place] === 1)) throw new Error(`Tested hash ${place} is wrong: near is ${expected}.`);
  }
}

async function matched(seenCount: number): Promise<Measured> {
  const testedCount = Math.min(seenCount, TESTED_COUNT_MAX);
  const draw = createDraw(seenCount);
  const seen = randomBytes(seenCount * PIXEL_DIGEST_BYTES, draw);
  const tested = randomBytes(testedCount * PIXEL_DIGEST_BYTES, draw);
  tested.set(seen.subarray(0, (testedCount >> 1) * PIXEL_DIGEST_BYTES));
  const { result: isSeen, ...spent } = await timed(() => {
    const matcher = createDigestMatcher(tested);
    matcher.see(seen);
    return matcher.matches();
  });
  const foundCount = isSeen.reduce((sum, each) => sum + each, 0);
  if (foundCount !== testedCount >> 1) throw new Error(`${foundCount} digests were found, not ${testedCount >> 1}.`);
  return { source: 'digests', seenCount, testedCount, foundCount, ...spent };
}

function randomBytes(count: number, draw: Draw): Uint8Array {
  const bytes = new Uint8Array(count);
  const words = wordsOf(bytes);
  for (let word = 0; word < words.length; word += 1) words[word] = (draw() * 2 ** 32) | 0;
  return bytes;
}

/** Unrelated pictures. Half of the tested ones are seen ones with up to eight bits changed. */
function uniform(): HashSource {
  let seen: Uint8Array = new Uint8Array(0);
  return {
    name: 'unrelated',
    draw: (count, whose, draw) => {
      const hashes = randomBytes(count * PERCEPTUAL_HASH_BYTES, draw);
      if (whose === 'SEEN') seen = hashes;
      else {
        hashes.set(seen.subarray(0, (count >> 1) * PERCEPTUAL_HASH_BYTES));
        for (let place = 0; place < count >> 1; place += 1) {
          for (let flips = Math.floor(9 * draw()); flips > 0; flips -= 1) {
            const bit = 1 + Math.floor((HASH_BITS - 1) * draw());
            const byte = place * PERCEPTUAL_HASH_BYTES + (bit >> 3);
            hashes[byte] = (hashes[byte] ?? 0) ^ (1 << (bit & 7));
          }
        }
      }
      for (let byte = 0; byte < hashes.length; byte += PERCEPTUAL_HASH_BYTES) hashes[byte] = (hashes[byte] ?? 0) & 254;
      return hashes;
    },
  };
}

/**
 * Noise in the cells is independent in every frequency, so a noisy drawing has each bit with a probability of its own.
 * They are measured with the hash itself, because millions of pictures would take hours.
 */
function drawings(noise: string, noiseStd: number): HashSource {
  const draw = createDraw(noiseStd);
  const scenes = Array.from({ length: 2 * DRAWING_COUNT }, (_, scene) => {
    const label = TISSUE_LABELS[scene % TISSUE_LABELS.length] ?? 'gland';
    const drawScene = createDraw(1000 + scene);
    return bitProbabilities(drawImage(label, DRAWING_SIZE_PX, drawStain(drawScene), drawScene), noiseStd, draw);
  });
  return {
    name: `${DRAWING_COUNT} drawings, ${noise}`,
    draw: (count, whose, drawBit) => {
      const hashes = new Uint8Array(count * PERCEPTUAL_HASH_BYTES);
      for (let place = 0; place < count; place += 1) {
        const scene = Math.floor((whose === 'SEEN' ? 1 : 2) * DRAWING_COUNT * drawBit());
        const probabilities = scenes[scene] ?? new Float64Array(0);
        for (let bit = 1; bit < HASH_BITS; bit += 1) {
          const byte = place * PERCEPTUAL_HASH_BYTES + (bit >> 3);
          if (drawBit() < (probabilities[bit] ?? 0)) hashes[byte] = (hashes[byte] ?? 0) | (1 << (bit & 7));
        }
      }
      return hashes;
    },
  };
}

/** `[64]`: the share of noisy copies of a picture in whose hash each bit is 1. */
function bitProbabilities(picture: Buffer, noiseStd: number, draw: Draw): Float64Array {
  const shares = new Float64Array(HASH_BITS);
  const data = Buffer.alloc(picture.length);
  for (let copy = 0; copy < COPIES_PER_DRAWING; copy += 1) {
    for (let offset = 0; offset < picture.length; offset += 3) {
      // Box-Muller; the same noise in all three colours.
      const noise = noiseStd * Math.sqrt(-2 * Math.log(1 - draw())) * Math.cos(2 * Math.PI * draw());
      for (let colour = 0; colour < 3; colour += 1)
        data[offset + colour] = Math.min(255, Math.max(0, Math.round((picture[offset + colour] ?? 0) + noise)));
    }
    const hash = perceptualHash({ data, width: DRAWING_SIZE_PX, height: DRAWING_SIZE_PX });
    for (let bit = 0; bit < HASH_BITS; bit += 1)
      shares[bit] = (shares[bit] ?? 0) + (((hash[bit >> 3] ?? 0) >> (bit & 7)) & 1) / COPIES_PER_DRAWING;
  }
  return shares;
}
