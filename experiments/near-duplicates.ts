/**
 * `npm run experiment:near-duplicates`: tests on real tissue the perceptual hash by which an evaluation finds images
 * that the pretraining has seen. It measures how many patches are found again after common changes to images, and how
 * many are wrongly matched with another picture.
 *
 *   npm run experiment:near-duplicates
 *   npm run experiment:near-duplicates -- --data DIR --out DIR
 *   npm run experiment:near-duplicates -- --scale 1000000
 */
import { mkdir, readdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { parseArgs } from 'node:util';
import sharp, { type Region, type Sharp } from 'sharp';
import { findNearDuplicates, NEAR_DUPLICATE_DISTANCE } from '../workers/imaging/near-duplicates.ts';
import { hashDistance, orientationsOf, perceptualHash } from '../workers/imaging/perceptual-hash.ts';
import { measureScale } from './near-duplicates-scale.ts';

const PROJECT_ROOT = path.resolve(import.meta.dirname, '..');
const HELP = `Usage: npm run experiment:near-duplicates -- [options]

Changes every patch as users change images, counts how many the perceptual hash finds again, and how many it matches with
another picture. Writes near-duplicates.md. With --scale it measures instead how time and memory of the search grow with
the number of images, and writes near-duplicates-scale.md; --data is not read.

  --data DIR       one folder per dataset (default: ../shared/data/histology-mini)
  --out DIR        where the report goes (default: docs/experiments)
  --scale COUNT    search among 10,000 to COUNT images, with time and memory
  --help

Examples:
  npm run experiment:near-duplicates
  npm run experiment:near-duplicates -- --scale 1000000
  npm run experiment:near-duplicates -- --data /data/histology --out /tmp/report
`;
const { values } = parseArgs({
  options: {
    help: { type: 'boolean', default: false },
    data: { type: 'string', default: path.resolve(PROJECT_ROOT, '../shared/data/histology-mini') },
    out: { type: 'string', default: path.join(PROJECT_ROOT, 'docs/experiments') },
    scale: { type: 'string' },
  },
});
if (values.help) {
  process.stdout.write(HELP);
  process.exit(0);
}
if (values.scale !== undefined) {
  const count = Number(values.scale);
  if (!Number.isInteger(count) || count < 20_000)
    throw new RangeError(`--scale ${values.scale} is not an integer from 20000.`);
  await measureScale(count, values.out);
  process.exit(0);
}

/** Larger pictures are cut into patches, as an import by patches cuts them. */
const WHOLE_UP_TO_PX = 512;
const TILE_PX = 256;
const DISTANCES = [0, 2, NEAR_DUPLICATE_DISTANCE, 8, 12];
/** A patch whose channels have lower standard deviations (of 255) is nearly blank, which an import lists. */
const BLANK_STD_MAX = 6;

/** The lowest compression level, because some ten thousand pictures are written and read again. */
const LOSSLESS = { compressionLevel: 0 };

/** A change to a patch of `side` px. */
const CHANGES: readonly (readonly [string, (patch: Sharp, side: number) => Sharp])[] = [
  ['JPEG of quality 90', (patch) => patch.jpeg({ quality: 90 })],
  ['JPEG of quality 60', (patch) => patch.jpeg({ quality: 60 })],
  ['half the size', (patch, side) => patch.resize(Math.round(side / 2)).png(LOSSLESS)],
  ['twice the size', (patch, side) => patch.resize(2 * side).png(LOSSLESS)],
  ['brighter by a tenth', (patch) => patch.linear(1.1, 0).png(LOSSLESS)],
  ['more red, less blue (a stain)', (patch) => patch.linear([1.06, 1, 0.94], [0, 0, 0]).png(LOSSLESS)],
  ['turned by 90 degrees and mirrored', (patch) => patch.rotate(90).flop().png(LOSSLESS)],
  ['blurred by 1 px', (patch) => patch.blur(1).png(LOSSLESS)],
  ['cropped to 95 % of its side', (patch, side) => patch.extract(middle(side, 0.95)).png(LOSSLESS)],
  ['cropped to 80 % of its side', (patch, side) => patch.extract(middle(side, 0.8)).png(LOSSLESS)],
];

function middle(side: number, share: number): Region {
  const inner = Math.round(side * share);
  const margin = Math.floor((side - inner) / 2);
  return { left: margin, top: margin, width: inner, height: inner };
}

interface Patch {
  readonly dataset: string;
  readonly file: string;
  readonly hash: Uint8Array;
  readonly isBlank: boolean;
  /** After each change. */
  readonly changedHashes: readonly Uint8Array[];
  /** For each change, the distance between the hashes of the changed and the original patch. */
  readonly changedDistances: readonly number[];
  readonly pixelBytes: Buffer;
}

const startedMs = performance.now();
const patches: Patch[] = [];
for (const dataset of (await readdir(values.data, { withFileTypes: true }))
  .filter((entry) => entry.isDirectory())
  .map(({ name }) => name)
  .sort()) {
  const before = patches.length;
  for (const file of await picturesBelow(path.join(values.data, dataset))) {
    for (const tile of await tilesOf(file))
      patches.push(await measured(dataset, path.relative(values.data, file), tile));
  }
  if (patches.length > before)
    process.stderr.write(
      `${((performance.now() - startedMs) / 1000).toFixed(0)} s: ${dataset}, ${patches.length - before} patches\n`,
    );
}
if (patches.length === 0) throw new Error(`${values.data} holds no pictures.`);
await write();

async function picturesBelow(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { withFileTypes: true, recursive: true });
  return entries
    .filter((entry) => entry.isFile() && /\.(png|jpe?g|tiff?)$/i.test(entry.name))
    .map((entry) => path.join(entry.parentPath, entry.name))
    .sort();
}

/** Square tiles as lossless pictures. */
async function tilesOf(file: string): Promise<Buffer[]> {
  const { width, height } = await sharp(file).metadata();
  const side = Math.max(width, height) <= WHOLE_UP_TO_PX ? Math.min(width, height) : Math.min(TILE_PX, width, height);
  const tiles: Buffer[] = [];
  for (let top = 0; top + side <= height; top += side) {
    for (let left = 0; left + side <= width; left += side)
      tiles.push(
        await sharp(file)
          .extract({ left, top, width: side, height: side })
          .removeAlpha()
          .toColourspace('srgb')
          .png(LOSSLESS)
          .toBuffer(),
      );
  }
  return tiles;
}

async function hashOf(picture: Sharp): Promise<{ hash: Uint8Array; data: Buffer; width: number }> {
  const { data, info } = await picture.removeAlpha().toColourspace('srgb').raw().toBuffer({ resolveWithObject: true });
  return { hash: perceptualHash({ data, width: info.width, height: info.height }), data, width: info.width };
}

async function measured(dataset: string, file: string, tile: Buffer): Promise<Patch> {
  const own = await hashOf(sharp(tile));
  const changedHashes: Uint8Array[] = [];
  const changedDistances: number[] = [];
  for (const [, change] of CHANGES) {
    // Encodes in between, because sharp would otherwise reorder a change of size or shape and the next step.
    const changed = await hashOf(sharp(await change(sharp(tile), own.width).toBuffer()));
    changedHashes.push(changed.hash);
    changedDistances.push(nearest(own.hash, changed.hash));
  }
  const { channels } = await sharp(tile).stats();
  return {
    dataset,
    file,
    hash: own.hash,
    isBlank: Math.max(...channels.map(({ stdev }) => stdev)) < BLANK_STD_MAX,
    changedHashes,
    changedDistances,
    pixelBytes: own.data,
  };
}

/** The distance in the closest orientation. */
function nearest(left: Uint8Array, right: Uint8Array): number {
  return Math.min(...orientationsOf(right).map((orientation) => hashDistance(left, orientation)));
}

/** The changed patches within the distance, all of which the search of evaluations must find. */
async function searched(clear: readonly Patch[]): Promise<number> {
  const turns = { throwIfStopped: () => undefined, onProgress: () => Promise.resolve() };
  const seen = Buffer.concat(clear.map(({ hash }) => hash));
  const tested = clear.flatMap(({ file, changedHashes, changedDistances }) =>
    changedHashes
      .filter((_, change) => (changedDistances[change] ?? 64) <= NEAR_DUPLICATE_DISTANCE)
      .map((hash) => ({ file, hash })),
  );
  const isNear = await findNearDuplicates(Buffer.concat(tested.map(({ hash }) => hash)), seen, turns);
  const missed = tested.find((_, place) => isNear[place] === 0);
  if (missed !== undefined) throw new Error(`The search does not find a changed patch of ${missed.file}.`);
  return tested.length;
}

async function write(): Promise<void> {
  const clear = patches.filter(({ isBlank }) => !isBlank);
  const percent = (count: number, of: number): string => (of === 0 ? '' : `${((100 * count) / of).toFixed(1)} %`);
  const header = (first: string, columns: readonly string[]): string[] => [
    `| ${first} | ${columns.join(' | ')} |`,
    `| --- |${' --- |'.repeat(columns.length)}`,
  ];
  const again = CHANGES.map(
    ([what], change) =>
      `| ${what} | ${DISTANCES.map((distance) => percent(clear.filter(({ changedDistances }) => (changedDistances[change] ?? 64) <= distance).length, clear.length)).join(' | ')} |`,
  );

  /** Pairs of clear patches of different pictures within the distance that counts. */
  const pairs: { readonly left: Patch; readonly right: Patch; readonly distance: number }[] = [];
  const closest = new Map<Patch, number>();
  for (const [index, left] of clear.entries()) {
    const orientations = orientationsOf(left.hash);
    for (const right of clear.slice(index + 1)) {
      if (left.file === right.file) continue;
      const distance = Math.min(...orientations.map((orientation) => hashDistance(orientation, right.hash)));
      for (const patch of [left, right]) closest.set(patch, Math.min(distance, closest.get(patch) ?? 64));
      if (distance <= NEAR_DUPLICATE_DISTANCE) pairs.push({ left, right, distance });
    }
  }
  const isCopy = ({ left, right }: (typeof pairs)[number]): boolean => left.pixelBytes.equals(right.pixelBytes);
  const across = pairs.filter(({ left, right }) => left.dataset !== right.dataset);
  const datasets = [...new Set(clear.map(({ dataset }) => dataset))];
  const others = datasets.map((dataset) => {
    const own = clear.filter((patch) => patch.dataset === dataset);
    const counts = DISTANCES.map((distance) =>
      String(own.filter((patch) => (closest.get(patch) ?? 64) <= distance).length),
    );
    const within = pairs.filter(({ left, right }) => left.dataset === dataset && right.dataset === dataset);
    return `| ${dataset} | ${own.length} | ${counts.join(' | ')} | ${within.length} | ${within.filter(isCopy).length} |`;
  });
  const lines = [
    '# Near-duplicates on real tissue',
    '',
    '<!-- Written by npm run experiment:near-duplicates; edit experiments/near-duplicates.ts. -->',
    '',
    `${patches.length} patches of ${datasets.length} datasets of histology-mini, of which ${patches.length - clear.length} are nearly blank and were left out, because they contain nothing that could be recognised.`,
    `An evaluation counts two images as the same picture if their hashes differ in at most ${NEAR_DUPLICATE_DISTANCE} of 63 bits in any of the eight orientations. The run took ${((performance.now() - startedMs) / 1000).toFixed(0)} s.`,
    '',
    '## Changed copies that are found',
    '',
    'The share of patches that are found after a change, by the number of bits that may differ.',
    '',
    ...header(
      'after',
      DISTANCES.map((distance) => (distance === NEAR_DUPLICATE_DISTANCE ? `**${distance} bits**` : `${distance} bits`)),
    ),
    ...again,
    '',
    `The search that evaluations use found all ${await searched(clear)} changed patches that differ in at most ${NEAR_DUPLICATE_DISTANCE} bits. [How it scales](near-duplicates-scale.md)`,
    '',
    '## Different patches that are reported as copies',
    '',
    `The number of patches for which a patch of another file, in any dataset, differs in at most the stated number of bits. The last two columns count the pairs within one dataset that differ in at most ${NEAR_DUPLICATE_DISTANCE} bits, and those of them whose pixels are identical.`,
    '',
    ...header('dataset', [
      'patches',
      ...DISTANCES.map((distance) => `${distance} bits`),
      `pairs within ${NEAR_DUPLICATE_DISTANCE} bits`,
      'of them identical',
    ]),
    ...others,
    '',
    `Pairs between different datasets: ${across.length}.`,
    '',
  ];
  await mkdir(values.out, { recursive: true });
  await writeFile(path.join(values.out, 'near-duplicates.md'), lines.join('\n'));
  process.stdout.write(`${lines.join('\n')}\n`);
  for (const { left, right, distance } of [
    ...across,
    ...pairs.filter(({ left: one, right: other }) => one.dataset === other.dataset),
  ].slice(0, 60))
    process.stderr.write(`${distance} bits: ${left.file} and ${right.file}\n`);
}
