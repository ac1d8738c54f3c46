/**
 * Benchmarks of weights against Python's libraries on the same cores, taking turns: importing a ResNet-50's Lightning
 * checkpoint, loading safetensors, embedding from the stored bytes of images (stored-embedding.ts). Embedding alone is
 * measured by embedding.ts.
 *
 * To run it alone: `node bench/weights.ts --json [--rounds 5]`. The peer uses the virtual environment of `npm run
 * compat`.
 */
import { copyFile, mkdir, mkdtemp, readFile, rm, stat } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { z } from 'zod';
import { run } from '../compat/process.ts';
import { preparePython } from '../compat/python-environment.ts';
import { readEnvironment } from '../src/env.ts';
import { measureServerMemory, withServer } from './server.ts';
import { median, rounded, summarise, type Summary } from './summary.ts';
import { benchStoredEmbedding, type StoredEmbeddingResult } from './stored-embedding.ts';

export interface WeightsBenchOptions {
  /** The folder of the Python side's virtual environment, which is reused between runs. */
  readonly pythonDir: string;
  /** Rounds; each side runs once in a round [5]. */
  readonly rounds?: number;
  readonly onProgress?: (message: string) => void;
}

export interface WeightsBenchResult {
  readonly import: {
    readonly fileBytes: number;
    /** From the request to the registered checkpoint, over HTTP. */
    readonly oursMs: Summary;
    readonly targetMs: number;
    /** The server's peak memory minus its memory before, in 10^6 bytes, and as a multiple of the file size. */
    readonly peakGrowthMegabytes: number;
    readonly peakGrowthPerFile: number;
    readonly targetPeakGrowthPerFile: number;
    /** torch.load, the encoder's tensors, safetensors' save_file. */
    readonly pythonMs: Summary;
  };
  readonly load: {
    readonly fileBytes: number;
    readonly plainReadMs: Summary;
    readonly oursMs: Summary;
    /** Ratio of the duration of each load to that of the plain read before it. */
    readonly ratio: number;
    readonly targetRatio: number;
    readonly pythonPlainReadMs: Summary;
    /** The file is mapped into memory, and no byte is read yet. */
    readonly pythonMs: Summary;
    readonly pythonTouchedMs: Summary;
  };
  /** Measurements from the bytes of a shard to embeddings at 64 px, for each kind of stored image. */
  readonly embedStored: readonly StoredEmbeddingResult[];
  /** Load average of the last minute, before and after: shows other work on the machine. */
  readonly loadAverage: readonly [number, number];
}

const IMAGE_SIZE_PX = 224;
const LOADS_PER_ROUND = 5;
const TIMEOUT_MS = 300_000;
const here = (name: string): string => path.join(import.meta.dirname, name);

const loadFacts = z.object({ readMs: z.array(z.number()), loadMs: z.array(z.number()) });
const peerLoadFacts = loadFacts.extend({ loadTouchedMs: z.array(z.number()) });
const importAnswer = z.object({
  data: z.object({ importCheckpoint: z.object({ checkpoint: z.object({ encoder: z.literal('RESNET50') }) }) }),
});

/** @throws Error when the Python side cannot be installed or a side fails. */
export async function benchWeights({
  pythonDir,
  rounds = 5,
  onProgress = () => undefined,
}: WeightsBenchOptions): Promise<WeightsBenchResult> {
  const python = await preparePython(pythonDir, onProgress);
  const workDir = await mkdtemp(path.join(os.tmpdir(), 'paraffin-bench-weights-'));
  const peer: Side = (args) =>
    run({ program: python, args: [here('peer/weights_peer.py'), ...args], timeoutMs: TIMEOUT_MS });
  const ours: Side = (args) =>
    run({
      program: process.execPath,
      args: [here('weights-ours.ts'), ...args],
      timeoutMs: TIMEOUT_MS,
    });
  const loadBefore = os.loadavg()[0] ?? 0;
  try {
    onProgress('weights: PyTorch makes the files');
    await peer(['make', workDir]);
    const imported = await measureImport(path.join(workDir, 'lightning.ckpt'), rounds, peer, onProgress);
    const loaded = await measureLoad(path.join(workDir, 'weights.safetensors'), rounds, { ours, peer }, onProgress);
    const embedStored = await benchStoredEmbedding({ pythonDir, rounds, onProgress });
    const loadAverage = [loadBefore, os.loadavg()[0] ?? 0] as const;
    return { import: imported, load: loaded, embedStored, loadAverage };
  } finally {
    await rm(workDir, { recursive: true, force: true });
  }
}

type Side = (args: readonly string[]) => Promise<string>;

/**
 * Each round imports into a new model with another image size: the input contract is part of the stored file, so the
 * bytes differ, and are really stored again.
 */
function measureImport(
  file: string,
  rounds: number,
  peer: Side,
  report: (message: string) => void,
): Promise<WeightsBenchResult['import']> {
  return withServer(async (server) => {
    const importsDir = path.join(server.dataDir, 'imports');
    await mkdir(importsDir, { recursive: true });
    const ownFile = path.join(importsDir, 'lightning.ckpt');
    await copyFile(file, ownFile);
    const key = (await readFile(path.join(server.dataDir, 'admin-key'), 'utf8')).trim();
    const importOnce = async (round: number): Promise<number> => {
      const input = {
        modelSlug: `round-${round}`,
        path: ownFile,
        inputContract: {
          imageSizePx: IMAGE_SIZE_PX + round,
          channelMean: [0.5, 0.5, 0.5],
          channelStd: [0.5, 0.5, 0.5],
        },
      };
      const query =
        'mutation ($input: ImportCheckpointInput!) { importCheckpoint(input: $input) { checkpoint { encoder } userErrors { message } } }';
      const startedMs = performance.now();
      const response = await fetch(`${server.url}/graphql`, {
        method: 'POST',
        headers: { 'content-type': 'application/json', authorization: `Bearer ${key}` },
        body: JSON.stringify({ query, variables: { input } }),
      });
      importAnswer.parse(await response.json());
      return performance.now() - startedMs;
    };
    const before = await residentMegabytes(server.pid);
    const oursMs: number[] = [];
    const pythonMs: number[] = [];
    for (let round = 0; round < rounds; round += 1) {
      report(`weights, import: round ${round + 1}`);
      oursMs.push(await importOnce(round));
      pythonMs.push(
        ...z.object({ durationsMs: z.array(z.number()) }).parse(JSON.parse(await peer(['import', file]))).durationsMs,
      );
    }
    const peak = (await measureServerMemory(server)) ?? Number.NaN;
    const fileBytes = (await stat(file)).size;
    const peakGrowthMegabytes = rounded(peak - before);
    return {
      fileBytes,
      oursMs: summarise(oursMs),
      targetMs: 2000,
      peakGrowthMegabytes,
      peakGrowthPerFile: rounded((peakGrowthMegabytes * 1e6) / fileBytes),
      targetPeakGrowthPerFile: 3,
      pythonMs: summarise(pythonMs),
    };
  });
}

async function residentMegabytes(pid: number): Promise<number> {
  const [, kilobytes] = /VmRSS:\s+(\d+) kB/.exec(await readFile(`/proc/${pid}/status`, 'utf8')) ?? [];
  return (Number(kilobytes) * 1024) / 1e6;
}

async function measureLoad(
  file: string,
  rounds: number,
  sides: { readonly ours: Side; readonly peer: Side },
  report: (message: string) => void,
): Promise<WeightsBenchResult['load']> {
  const own: z.infer<typeof loadFacts>[] = [];
  const theirs: z.infer<typeof peerLoadFacts>[] = [];
  for (let round = 0; round < rounds; round += 1) {
    report(`weights, load: round ${round + 1}`);
    own.push(loadFacts.parse(JSON.parse(await sides.ours([file, String(LOADS_PER_ROUND)]))));
    theirs.push(peerLoadFacts.parse(JSON.parse(await sides.peer(['load', file, String(LOADS_PER_ROUND)]))));
  }
  const ratios = own.flatMap(({ readMs, loadMs }) =>
    loadMs.map((value, index) => value / (readMs[index] ?? Number.NaN)),
  );
  return {
    fileBytes: (await stat(file)).size,
    plainReadMs: summarise(own.flatMap(({ readMs }) => readMs)),
    oursMs: summarise(own.flatMap(({ loadMs }) => loadMs)),
    ratio: rounded(median(ratios)),
    targetRatio: 1.5,
    pythonPlainReadMs: summarise(theirs.flatMap(({ readMs }) => readMs)),
    pythonMs: summarise(theirs.flatMap(({ loadMs }) => loadMs)),
    pythonTouchedMs: summarise(theirs.flatMap(({ loadTouchedMs }) => loadTouchedMs)),
  };
}

if (import.meta.main) {
  const { values } = parseArgs({ options: { rounds: { type: 'string', default: '5' }, json: { type: 'boolean' } } });
  const result = await benchWeights({
    pythonDir: path.join(readEnvironment().engineCacheDir, '..', 'compat'),
    rounds: Number(values.rounds),
    onProgress: (message) => void process.stderr.write(`${message}\n`),
  });
  console.log(JSON.stringify(result, null, 2));
}
