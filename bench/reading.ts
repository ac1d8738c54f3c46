/**
 * Measures shuffled reading of WebDataset shards into batches of decoded squares, by our training's reader and by
 * torch's DataLoader with as many workers as there are cores. Both take turns with the same shards.
 *
 * To run it alone: `node scripts/run.mjs bench/reading.ts --json [--rounds 5]`. Part of the suite `reading`.
 */
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { z } from 'zod';
import { run } from '../compat/process.ts';
import { preparePython } from '../compat/python-environment.ts';
import { readEnvironment } from '../src/env.ts';
import { writeShard, type DrawnImages } from './drawn-shard.ts';
import { median, rounded, summarise, type Summary } from './summary.ts';

export interface ReadingOptions {
  /** The folder of the peer's virtual environment, which is reused between runs. */
  readonly pythonDir: string;
  /** Rounds; each side runs once in a round [5]. */
  readonly rounds?: number;
  readonly onProgress?: (message: string) => void;
}

export interface ReadingResult {
  /** How the images are stored, and the side of the decoded square. */
  readonly stored: string;
  readonly imageCount: number;
  readonly shardCount: number;
  readonly batchSize: number;
  /** From the second batch on. */
  readonly oursImagesPerSecond: Summary;
  readonly dataLoaderImagesPerSecond: Summary;
  /** The median over rounds; above 1, ours is faster. */
  readonly ratio: number;
  readonly targetRatio: number;
  /** Of all processes, for each image. */
  readonly oursCpuMs: Summary;
  readonly dataLoaderCpuMs: Summary;
  /** The same ratio by processor time, which depends less on other load. */
  readonly cpuRatio: number;
  readonly oursFirstBatchMs: Summary;
  readonly dataLoaderFirstBatchMs: Summary;
}

const CASES: readonly (DrawnImages & { readonly decodedSizePx: number })[] = [
  { imageSizePx: 224, format: 'jpeg', decodedSizePx: 128 },
  { imageSizePx: 224, format: 'jpeg', decodedSizePx: 224 },
  { imageSizePx: 256, format: 'png', decodedSizePx: 128 },
];
const SHARDS = 16;
const IMAGES_PER_SHARD = 512;
const BATCH_SIZE = 128;
/** Two thirds of an epoch. */
const BATCHES = 42;
const TIMEOUT_MS = 300_000;
const here = (name: string): string => path.join(import.meta.dirname, name);

const facts = z.object({ imagesPerSecond: z.number(), cpuMsPerImage: z.number(), firstBatchMs: z.number() });
type Facts = z.infer<typeof facts>;

/** @throws Error if the peer cannot be installed or a side fails. */
export async function benchReading({
  pythonDir,
  rounds = 5,
  onProgress = () => undefined,
}: ReadingOptions): Promise<ReadingResult[]> {
  const python = await preparePython(pythonDir, onProgress);
  const workDir = await mkdtemp(path.join(os.tmpdir(), 'paraffin-bench-reading-'));
  try {
    const results: ReadingResult[] = [];
    for (const { decodedSizePx, ...drawn } of CASES) {
      const stored = `${drawn.imageSizePx} px ${drawn.format.toUpperCase()}, read at ${decodedSizePx} px`;
      onProgress(`reading, ${stored}: drawing ${SHARDS} shards`);
      const folder = path.join(workDir, `${drawn.imageSizePx}-${drawn.format}-${decodedSizePx}`);
      await mkdir(folder);
      for (let shard = 0; shard < SHARDS; shard += 1)
        await writeShard(path.join(folder, `${String(shard).padStart(3, '0')}.tar`), drawn, IMAGES_PER_SHARD);
      const sizes = [decodedSizePx, BATCH_SIZE, BATCHES].map(String);
      const [own, theirs]: [Facts[], Facts[]] = [[], []];
      for (let round = 0; round < rounds; round += 1) {
        onProgress(`reading, ${stored}: round ${round + 1}`);
        own.push(await factsOf(process.execPath, [here('reading-ours.ts'), folder, ...sizes]));
        const workers = String(os.availableParallelism());
        theirs.push(await factsOf(python, [here('peer/reading_peer.py'), folder, ...sizes, workers]));
      }
      results.push({ stored, ...compared(own, theirs) });
      await rm(folder, { recursive: true });
    }
    return results;
  } finally {
    await rm(workDir, { recursive: true, force: true });
  }
}

function compared(own: readonly Facts[], theirs: readonly Facts[]): Omit<ReadingResult, 'stored'> {
  const ratios = own.map(({ imagesPerSecond }, round) => imagesPerSecond / (theirs[round]?.imagesPerSecond ?? NaN));
  const cpuRatios = own.map(({ cpuMsPerImage }, round) => (theirs[round]?.cpuMsPerImage ?? NaN) / cpuMsPerImage);
  return {
    imageCount: SHARDS * IMAGES_PER_SHARD,
    shardCount: SHARDS,
    batchSize: BATCH_SIZE,
    oursImagesPerSecond: summarise(own.map(({ imagesPerSecond }) => imagesPerSecond)),
    dataLoaderImagesPerSecond: summarise(theirs.map(({ imagesPerSecond }) => imagesPerSecond)),
    ratio: rounded(median(ratios)),
    targetRatio: 1,
    oursCpuMs: summarise(own.map(({ cpuMsPerImage }) => cpuMsPerImage)),
    dataLoaderCpuMs: summarise(theirs.map(({ cpuMsPerImage }) => cpuMsPerImage)),
    cpuRatio: rounded(median(cpuRatios)),
    oursFirstBatchMs: summarise(own.map(({ firstBatchMs }) => firstBatchMs)),
    dataLoaderFirstBatchMs: summarise(theirs.map(({ firstBatchMs }) => firstBatchMs)),
  };
}

async function factsOf(program: string, args: readonly string[]): Promise<Facts> {
  return facts.parse(JSON.parse(await run({ program, args, timeoutMs: TIMEOUT_MS })));
}

if (import.meta.main) {
  const { values } = parseArgs({ options: { rounds: { type: 'string', default: '5' }, json: { type: 'boolean' } } });
  const result = await benchReading({
    pythonDir: path.join(readEnvironment().engineCacheDir, '..', 'compat'),
    rounds: Number(values.rounds),
    onProgress: (message) => void process.stderr.write(`${message}\n`),
  });
  console.log(JSON.stringify(result, null, 2));
}
