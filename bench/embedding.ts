/**
 * Embedding patches of 224 px on the CPU, against ONNX Runtime with the exported file of the same weights: both take
 * turns with the same pixels and the same batch on the same cores.
 *
 * To run it alone: `node scripts/run.mjs bench/embedding.ts --json [--rounds 5] [--only VIT_S16] [--threads 1]`. The
 * peer uses the virtual environment of `npm run compat`. On a machine with other work measure one thread: the processor
 * time of several contains their waiting for each other.
 */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { z } from 'zod';
import { run } from '../compat/process.ts';
import { preparePython } from '../compat/python-environment.ts';
import { readEnvironment } from '../src/env.ts';
import { architectureNamed, describeEncoder, usualPooling } from '../src/formats/encoders/index.ts';
import { writeOnnx } from '../src/formats/onnx.ts';
import { writeSafetensors } from '../src/formats/safetensors.ts';
import { engineLibraryEnv } from '../src/platform/engine/installed.ts';
import { embeddingBatchSize, HALF_NORMALISATION } from '../workers/engine/embed.ts';
import { untrainedWeights } from '../workers/engine/encoders/index.ts';
import { ENGINE_PROCESS_ENV } from '../workers/engine/process-env.ts';
import { createRandom } from '../workers/engine/rng.ts';
import { maxRelativeDifference } from '../workers/exports/difference.ts';
import { EMBEDDING_ENCODERS, type EmbeddingEncoder } from './embedding-encoders.ts';
import { median, rounded, summarise, type Summary } from './summary.ts';

export interface EmbeddingBenchOptions {
  /** The folder of the peer's virtual environment, which is reused between runs. */
  readonly pythonDir: string;
  /** Rounds; each side runs once in a round [5]. */
  readonly rounds?: number;
  /** Measure this encoder alone [all]. */
  readonly only?: EmbeddingEncoder | undefined;
  /** Of each side [all cores]. */
  readonly threads?: number | undefined;
  readonly onProgress?: (message: string) => void;
}

interface Side {
  readonly library: string;
  readonly imagesPerSecond: Summary;
  /** User and system time of all threads, which depends least on other work on the machine. */
  readonly cpuMsPerImage: Summary;
  /** Of the whole process, with its libraries. */
  readonly peakRssMb: number;
}

export interface EmbeddingBenchCase {
  readonly encoder: EmbeddingEncoder;
  readonly batchSize: number;
  /** In each round. */
  readonly imageCount: number;
  readonly ours: Side;
  readonly onnxRuntime: Side;
  /** Ratio of our speed to the peer's in the same round, median of the rounds. */
  readonly ratio: number;
  /** Ratio of the peer's processor time to ours, likewise; above 1, ours is lower. */
  readonly cpuRatio: number;
  /** The largest difference of the two embeddings of the first image, relative to its root mean square. */
  readonly difference: number;
}

export interface EmbeddingBenchResult {
  readonly imageSizePx: number;
  readonly threads: number;
  readonly targetRatio: number;
  readonly cases: readonly EmbeddingBenchCase[];
  /** Load average of the last minute, before and after: shows other work on the machine. */
  readonly loadAverage: readonly [number, number];
}

const IMAGE_SIZE_PX = 224;
/** In each round: a few seconds' work. */
const BATCHES: Readonly<Record<EmbeddingEncoder, number>> = { RESNET18: 12, RESNET50: 6, VIT_S16: 6, VIT_B16: 2 };
const TIMEOUT_MS = 300_000;
const here = (name: string): string => path.join(import.meta.dirname, name);

const measurement = z.object({
  imagesPerSecond: z.number(),
  cpuMsPerImage: z.number(),
  peakRssMb: z.number(),
  library: z.string(),
  /** Of the first image. */
  embedding: z.array(z.number()),
});
type Measurement = z.infer<typeof measurement>;

/** @throws Error if the peer cannot be installed or a side fails. */
export async function benchEmbedding({
  pythonDir,
  rounds = 5,
  only,
  threads = os.availableParallelism(),
  onProgress = () => undefined,
}: EmbeddingBenchOptions): Promise<EmbeddingBenchResult> {
  const python = await preparePython(pythonDir, onProgress);
  const workDir = await mkdtemp(path.join(os.tmpdir(), 'paraffin-bench-embedding-'));
  const loadBefore = os.loadavg()[0] ?? 0;
  try {
    const batchSize = embeddingBatchSize(IMAGE_SIZE_PX);
    const random = createRandom(1);
    const pixels = Uint8Array.from({ length: batchSize * IMAGE_SIZE_PX ** 2 * 3 }, () => random.between(0, 256));
    await writeFile(path.join(workDir, 'pixels'), pixels);
    const cases: EmbeddingBenchCase[] = [];
    for (const encoder of EMBEDDING_ENCODERS.filter((each) => each === (only ?? each))) {
      await writeWeights(encoder, workDir);
      const counts = [BATCHES[encoder], batchSize, IMAGE_SIZE_PX].map(String);
      const ours = (): Promise<Measurement> =>
        measured(process.execPath, [here('embedding-ours.ts'), workDir, encoder, ...counts], {
          ...ENGINE_PROCESS_ENV,
          ...engineLibraryEnv(),
          TF_NUM_INTRAOP_THREADS: String(threads),
        });
      const peer = (): Promise<Measurement> =>
        measured(python, [here('peer/embedding_peer.py'), workDir, ...counts, String(threads)]);
      const pairs: { readonly own: Measurement; readonly other: Measurement }[] = [];
      for (let round = 0; round < rounds; round += 1) {
        onProgress(`embedding, ${encoder}: round ${round + 1}`);
        const pair = { own: await ours(), other: await peer() };
        pairs.push(pair);
        onProgress(
          `  processor time for each image: ${rounded(pair.own.cpuMsPerImage)} ms, ONNX Runtime ${rounded(pair.other.cpuMsPerImage)} ms`,
        );
      }
      cases.push({ encoder, batchSize, imageCount: BATCHES[encoder] * batchSize, ...compared(pairs) });
    }
    return {
      imageSizePx: IMAGE_SIZE_PX,
      threads,
      targetRatio: 1,
      cases,
      loadAverage: [loadBefore, os.loadavg()[0] ?? 0],
    };
  } finally {
    await rm(workDir, { recursive: true, force: true });
  }
}

async function measured(
  program: string,
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<Measurement> {
  return measurement.parse(JSON.parse(await run({ program, args, env, timeoutMs: TIMEOUT_MS })));
}

function compared(
  pairs: readonly { readonly own: Measurement; readonly other: Measurement }[],
): Pick<EmbeddingBenchCase, 'ours' | 'onnxRuntime' | 'ratio' | 'cpuRatio' | 'difference'> {
  return {
    ours: sideOf(pairs.map(({ own }) => own)),
    onnxRuntime: sideOf(pairs.map(({ other }) => other)),
    ratio: rounded(median(pairs.map(({ own, other }) => own.imagesPerSecond / other.imagesPerSecond))),
    cpuRatio: rounded(median(pairs.map(({ own, other }) => other.cpuMsPerImage / own.cpuMsPerImage))),
    difference: Math.max(
      ...pairs.map(({ own, other }) =>
        maxRelativeDifference(Float32Array.from(own.embedding), Float32Array.from(other.embedding)),
      ),
    ),
  };
}

function sideOf(measurements: readonly Measurement[]): Side {
  return {
    library: measurements[0]?.library ?? 'unknown',
    imagesPerSecond: summarise(measurements.map(({ imagesPerSecond }) => imagesPerSecond)),
    cpuMsPerImage: summarise(measurements.map(({ cpuMsPerImage }) => cpuMsPerImage)),
    peakRssMb: Math.round(Math.max(...measurements.map(({ peakRssMb }) => peakRssMb))),
  };
}

/** New weights, in our format and as the ONNX file that the registry exports. */
async function writeWeights(encoder: EmbeddingEncoder, workDir: string): Promise<void> {
  const architecture = architectureNamed(encoder);
  const tensors = untrainedWeights(architecture, createRandom(1));
  const pooling = usualPooling(describeEncoder(architecture));
  const inputContract = {
    ...HALF_NORMALISATION,
    imageSizePx: IMAGE_SIZE_PX,
    resizeRule: 'SHORT_SIDE_THEN_CENTRE_CROP',
    channelOrder: 'RGB',
    valueRange: [0, 1],
    embeddingLayer: 'embedding',
    pooling,
    interpolation: 'BILINEAR',
    weightsDtype: 'FLOAT32',
    micronsPerPixelMin: null,
    micronsPerPixelMax: null,
  } as const;
  await writeFile(path.join(workDir, 'weights.safetensors'), writeSafetensors(tensors, {}));
  await writeFile(
    path.join(workDir, 'weights.onnx'),
    writeOnnx({ architecture, tensors, inputContract, metadata: {} }),
  );
}

if (import.meta.main) {
  const { values } = parseArgs({
    options: {
      rounds: { type: 'string', default: '5' },
      only: { type: 'string' },
      threads: { type: 'string' },
      json: { type: 'boolean' },
    },
  });
  const result = await benchEmbedding({
    pythonDir: path.join(readEnvironment().engineCacheDir, '..', 'compat'),
    rounds: Number(values.rounds),
    only: values.only === undefined ? undefined : z.enum(EMBEDDING_ENCODERS).parse(values.only),
    threads: values.threads === undefined ? undefined : Number(values.threads),
    onProgress: (message) => void process.stderr.write(`${message}\n`),
  });
  console.log(JSON.stringify(result, null, 2));
}
