/** Our side of bench/import.ts: alternates between imports and the decoder alone, and prints the figures in JSON. */
import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { availableParallelism, tmpdir } from 'node:os';
import path from 'node:path';
import sharp from 'sharp';
import { between, createDraw, drawStain, type Draw } from '../src/synthetic/tissue-canvas.ts';
import { drawImage, TISSUE_LABELS } from '../src/synthetic/tissue.ts';
import { openArtifactStore } from '../src/platform/artifact-store/index.ts';
import { imageDecoderAddon } from '../src/platform/engine/image-decoder.ts';
import { openFolder } from '../src/platform/open-folder.ts';
import { importImages } from '../workers/imaging/import-images.ts';
import { decodeImage } from '../workers/imaging/decoder/decode.ts';
import { openImageDecoders } from '../workers/imaging/decoder/image-decoders.ts';
import { createJpegDecoder, loadNativeDecoder } from '../workers/imaging/decoder/native-decoder.ts';
import { readImageHeader } from '../workers/imaging/formats/index.ts';
import { mapInOrder } from '../workers/imaging/in-order.ts';
import { isNearlyBlank } from '../workers/imaging/blankness.ts';
import { perceptualHash } from '../workers/imaging/perceptual-hash.ts';
import { cpuSecondsBelow } from './processor-time.ts';
import type { ImportBenchCase, ImportBenchResult, ImportParts, Rate } from './import.ts';
import type { Pixels } from '../workers/imaging/pixels.ts';

/** Image sizes of typical patches and of fields of view. */
const CASES = [
  { imageSizePx: 256, imageCount: 10_000 },
  { imageSizePx: 1024, imageCount: 1_500 },
] as const;
const ROUNDS = 3;
const SHEET_SIZE_PX = 1536;
/** Images that are kept decoded to measure hashing and the check for blank images apart from decoding. */
const SAMPLED_IMAGES = 50;
const JPEG_QUALITY = 92;

/** Draws JPEGs once into a temporary folder, then alternates between import and decoder. Takes some minutes. */
async function measureAll(rounds: number): Promise<ImportBenchResult> {
  const base = await mkdtemp(path.join(tmpdir(), 'paraffin-bench-import-'));
  try {
    const cases: ImportBenchCase[] = [];
    for (const { imageSizePx, imageCount } of CASES) {
      const folder = path.join(base, `images-${imageSizePx}`);
      await drawJpegs(folder, imageSizePx, imageCount);
      cases.push(await measure(base, folder, imageSizePx, imageCount, rounds));
    }
    return {
      cores: availableParallelism(),
      rounds,
      cases,
      peakMemoryMegabytes: Math.round(process.resourceUsage().maxRSS / 1024),
    };
  } finally {
    await rm(base, { recursive: true, force: true });
  }
}

async function measure(
  base: string,
  folder: string,
  imageSizePx: number,
  imageCount: number,
  rounds: number,
): Promise<ImportBenchCase> {
  const files = await Promise.all((await readdir(folder)).map((name) => readFile(path.join(folder, name))));
  const byteSize = files.reduce((sum, bytes) => sum + bytes.length, 0);
  const imports: Cost[] = [];
  const decoders: Cost[] = [];
  // The first turn of each fills the page cache and starts the threads; it is not counted.
  for (let round = -1; round < rounds; round += 1) {
    const workDir = await mkdtemp(path.join(base, 'work-'));
    const importing = await costOf(() => importOnce(workDir, folder, imageCount));
    await rm(workDir, { recursive: true });
    const decoding = await costOf(() => decodeAll(files));
    if (round < 0) continue;
    imports.push(importing);
    decoders.push(decoding);
  }
  const rateOf = (costs: readonly Cost[]): Rate => {
    const seconds = costs.map((cost) => cost.seconds);
    return {
      megabytesPerSecond: round1(byteSize / 1e6 / median(seconds)),
      slowest: round1(byteSize / 1e6 / Math.max(...seconds)),
      fastest: round1(byteSize / 1e6 / Math.min(...seconds)),
      decodedMegabytesPerSecond: round1((imageCount * imageSizePx * imageSizePx * 3) / 1e6 / median(seconds)),
      imagesPerSecond: round1(imageCount / median(seconds)),
      cpuMsPerImage: round2((median(costs.map((cost) => cost.cpuSeconds)) * 1000) / imageCount),
    };
  };
  const ratioOf = (measure: (cost: Cost) => number): number =>
    round2(median(imports.map((cost, round) => measure(decoders[round] ?? cost) / measure(cost))));
  return {
    imageSizePx,
    imageCount,
    megabytes: round1(byteSize / 1e6),
    import: rateOf(imports),
    decoderAlone: rateOf(decoders),
    ratio: ratioOf((cost) => cost.seconds),
    cpuRatio: ratioOf((cost) => cost.cpuSeconds),
    importParts: await partsOf(files, imports, decoders),
  };
}

async function partsOf(
  files: readonly Buffer[],
  imports: readonly Cost[],
  decoders: readonly Cost[],
): Promise<ImportParts> {
  const sample = await Promise.all(
    files.slice(0, SAMPLED_IMAGES).map(async (bytes) => ({ bytes, pixels: await pixelsOf(bytes) })),
  );
  const perSampled = (work: (pixels: Pixels, bytes: Buffer) => unknown): number => {
    // The first turn compiles it.
    for (const { pixels, bytes } of sample) work(pixels, bytes);
    const before = process.cpuUsage();
    for (const { pixels, bytes } of sample) work(pixels, bytes);
    const { user, system } = process.cpuUsage(before);
    return (user + system) / 1000 / sample.length;
  };
  const perImage = (costs: readonly Cost[], secondsOf: (cost: Cost) => number): number =>
    (median(costs.map(secondsOf)) * 1000) / files.length;
  const native = loadNativeDecoder(imageDecoderAddon());
  const jpegs = native === null ? null : createJpegDecoder(native);
  const decoding =
    jpegs === null
      ? perImage(decoders, ({ cpuSeconds }) => cpuSeconds)
      : perSampled(({ width, height }, bytes) => jpegs.pixelsOf(bytes, width, height));
  const pixelDigest = perSampled(({ data }) => createHash('sha256').update(data).digest());
  const perceptual = perSampled((pixels) => perceptualHash(pixels));
  const blankness = perSampled((pixels) => isNearlyBlank(pixels));
  const inDecoders = perImage(imports, ({ elsewhereSeconds }) => elsewhereSeconds);
  return {
    decoding: round2(decoding),
    pixelDigest: round2(pixelDigest),
    perceptualHash: round2(perceptual),
    blankness: round2(blankness),
    restOfDecoders: round2(inDecoders - decoding - pixelDigest - perceptual - blankness),
    importProcess: round2(perImage(imports, ({ cpuSeconds, elsewhereSeconds }) => cpuSeconds - elsewhereSeconds)),
  };
}

async function pixelsOf(bytes: Buffer): Promise<Pixels> {
  const header = readImageHeader(bytes, 'JPEG');
  const decoded = header === null || 'issue' in header ? null : await decodeImage(bytes, header);
  if (decoded === null || 'issue' in decoded) throw new Error('A synthetic JPEG does not decode.');
  return decoded.pixels;
}

/** @returns the processor time of the decoders, which are separate processes, in seconds. */
async function importOnce(workDir: string, folder: string, imageCount: number): Promise<number> {
  const artifacts = openArtifactStore(path.join(workDir, 'artifacts'));
  await using opened = await openFolder(folder);
  await using decoders = openImageDecoders({ hiddenFolder: workDir });
  const result = await importImages({
    folder: opened,
    layout: 'FLAT',
    labelsCsv: null,
    patchSizePx: null,
    decoders,
    artifacts,
    workDir,
  });
  if (result.imageCount !== imageCount)
    throw new Error(`Imported ${result.imageCount} of ${imageCount} images: ${JSON.stringify(result.issues)}`);
  return cpuSecondsBelow(process.pid);
}

/**
 * The same decoder with the same settings, and as many images in flight.
 * @returns 0, because no other process is used.
 */
async function decodeAll(files: readonly Buffer[]): Promise<number> {
  const results = mapInOrder(files, { windowSize: availableParallelism() * 8, shared: {} }, pixelsOf);
  while ((await results.next()).done !== true);
  return 0;
}

/** Crops of a few large drawn images: drawing every image would take longer than the measurement. */
async function drawJpegs(folder: string, imageSizePx: number, imageCount: number): Promise<void> {
  await mkdir(folder);
  // The size serves as the seed alone.
  const draw: Draw = createDraw(imageSizePx);
  const sheets = TISSUE_LABELS.map((label) => drawImage(label, SHEET_SIZE_PX, drawStain(draw), draw));
  const room = SHEET_SIZE_PX - imageSizePx;
  /** The import would leave out a crop that was taken before. */
  const taken = new Set<string>();
  while (taken.size < imageCount) {
    const index = taken.size;
    const which = index % sheets.length;
    const [left, top] = [Math.floor(between(draw, 0, room)), Math.floor(between(draw, 0, room))];
    if (taken.has(`${which} ${left} ${top}`)) continue;
    taken.add(`${which} ${left} ${top}`);
    await sharp(sheets[which], { raw: { width: SHEET_SIZE_PX, height: SHEET_SIZE_PX, channels: 3 } })
      .extract({ left, top, width: imageSizePx, height: imageSizePx })
      .jpeg({ quality: JPEG_QUALITY })
      .toFile(path.join(folder, `${String(index).padStart(5, '0')}.jpg`));
  }
}

interface Cost {
  readonly seconds: number;
  /** Of all processes. */
  readonly cpuSeconds: number;
  /** Of processes other than this one. */
  readonly elsewhereSeconds: number;
}

/** @param work returns the processor time of other processes that it used, in seconds. */
async function costOf(work: () => Promise<number>): Promise<Cost> {
  const startedAtMs = performance.now();
  const before = process.cpuUsage();
  const elsewhereSeconds = await work();
  const used = process.cpuUsage(before);
  return {
    seconds: (performance.now() - startedAtMs) / 1000,
    cpuSeconds: elsewhereSeconds + (used.user + used.system) / 1e6,
    elsewhereSeconds,
  };
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return ((sorted[(sorted.length - 1) >> 1] ?? Number.NaN) + (sorted[sorted.length >> 1] ?? Number.NaN)) / 2;
}

function round1(value: number): number {
  return Math.round(value * 10) / 10;
}

function round2(value: number): number {
  return Math.round(value * 100) / 100;
}

console.log(JSON.stringify(await measureAll(ROUNDS)));
