/**
 * Measures a ResNet-18 from a shard's bytes to embeddings at 64 px, including decoding, compared with ONNX Runtime and
 * Pillow: both take turns with the same bytes and weights on the same cores.
 *
 * To run it alone: `node bench/stored-embedding.ts --json [--rounds 5]`. Part of the suite `weights`.
 */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { z } from 'zod';
import { run } from '../compat/process.ts';
import { preparePython } from '../compat/python-environment.ts';
import { readEnvironment } from '../src/env.ts';
import { writeOnnx } from '../src/formats/onnx.ts';
import { writeSafetensors } from '../src/formats/safetensors.ts';
import { engineLibraryEnv } from '../src/platform/engine/installed.ts';
import { embeddingBatchSize, HALF_NORMALISATION } from '../workers/engine/embed.ts';
import { randomEncoderWeights } from '../workers/engine/encoders/resnet/weights.ts';
import { ENGINE_PROCESS_ENV } from '../workers/engine/process-env.ts';
import { createRandom } from '../workers/engine/rng.ts';
import { writeShard, type DrawnImages } from './drawn-shard.ts';
import { resnetArchitecture } from '../src/formats/encoders/resnet/specification.ts';
import { median, rounded, summarise, type Summary } from './summary.ts';

export interface StoredEmbeddingOptions {
  /** The folder of the peer's virtual environment, which is reused between runs. */
  readonly pythonDir: string;
  /** Rounds; each side runs once in a round [5]. */
  readonly rounds?: number;
  readonly onProgress?: (message: string) => void;
}

export interface StoredEmbeddingResult {
  /** How the images are stored. */
  readonly stored: string;
  readonly imageCount: number;
  readonly meanImageBytes: number;
  readonly oursImagesPerSecond: Summary;
  readonly targetImagesPerSecond: number;
  readonly onnxRuntimeImagesPerSecond: Summary;
  /** User and system time of all threads, which depends least on other work on the machine. */
  readonly oursCpuMsPerImage: Summary;
  readonly onnxRuntimeCpuMsPerImage: Summary;
  /** Ratio of the peer's processor time to ours in the same round; above 1, ours is lower. */
  readonly cpuRatio: number;
  readonly libraries: readonly string[];
}

const STORED: readonly DrawnImages[] = [
  { imageSizePx: 224, format: 'jpeg' },
  { imageSizePx: 224, format: 'png' },
];
/** Eight batches, because no network runs while the first is decoded. */
const IMAGE_COUNT = 1568;
const EMBEDDED_SIZE_PX = 64;
const TIMEOUT_MS = 300_000;
const here = (name: string): string => path.join(import.meta.dirname, name);

const facts = z.object({ imagesPerSecond: z.number(), cpuMsPerImage: z.number(), library: z.string() });
type Facts = z.infer<typeof facts>;

/** @throws Error if the peer cannot be installed or a side fails. */
export async function benchStoredEmbedding({
  pythonDir,
  rounds = 5,
  onProgress = () => undefined,
}: StoredEmbeddingOptions): Promise<StoredEmbeddingResult[]> {
  const python = await preparePython(pythonDir, onProgress);
  const workDir = await mkdtemp(path.join(os.tmpdir(), 'paraffin-bench-embedding-'));
  try {
    const weightsPath = path.join(workDir, 'resnet18.safetensors');
    await writeWeights(workDir, weightsPath);
    const ours = (shardPath: string): Promise<Facts> =>
      factsOf(process.execPath, [here('stored-embedding-ours.ts'), weightsPath, shardPath, String(EMBEDDED_SIZE_PX)], {
        ...ENGINE_PROCESS_ENV,
        ...engineLibraryEnv(),
      });
    const sizes = [EMBEDDED_SIZE_PX, embeddingBatchSize(EMBEDDED_SIZE_PX), os.availableParallelism()].map(String);
    const peer = (shardPath: string): Promise<Facts> =>
      factsOf(python, [here('peer/weights_peer.py'), 'onnx-stored', workDir, shardPath, ...sizes]);
    const results: StoredEmbeddingResult[] = [];
    for (const drawn of STORED) {
      const stored = `${drawn.imageSizePx} px ${drawn.format.toUpperCase()}`;
      const shardPath = path.join(workDir, `${drawn.format}.tar`);
      const byteSize = await writeShard(shardPath, drawn, IMAGE_COUNT);
      const [own, theirs]: [Facts[], Facts[]] = [[], []];
      for (let round = 0; round < rounds; round += 1) {
        onProgress(`embedding stored images, ${stored}: round ${round + 1}`);
        own.push(await ours(shardPath));
        theirs.push(await peer(shardPath));
      }
      const meanImageBytes = Math.round(byteSize / IMAGE_COUNT);
      results.push({ stored, imageCount: IMAGE_COUNT, meanImageBytes, ...compared(own, theirs) });
    }
    return results;
  } finally {
    await rm(workDir, { recursive: true, force: true });
  }
}

type Comparison = Omit<StoredEmbeddingResult, 'stored' | 'imageCount' | 'meanImageBytes'>;

function compared(own: readonly Facts[], theirs: readonly Facts[]): Comparison {
  const ratios = own.map(({ cpuMsPerImage }, round) => (theirs[round]?.cpuMsPerImage ?? Number.NaN) / cpuMsPerImage);
  return {
    oursImagesPerSecond: summarise(own.map(({ imagesPerSecond }) => imagesPerSecond)),
    targetImagesPerSecond: 400,
    onnxRuntimeImagesPerSecond: summarise(theirs.map(({ imagesPerSecond }) => imagesPerSecond)),
    oursCpuMsPerImage: summarise(own.map(({ cpuMsPerImage }) => cpuMsPerImage)),
    onnxRuntimeCpuMsPerImage: summarise(theirs.map(({ cpuMsPerImage }) => cpuMsPerImage)),
    cpuRatio: rounded(median(ratios)),
    libraries: [...new Set([...own, ...theirs].map(({ library }) => library))],
  };
}

async function factsOf(program: string, args: readonly string[], env?: Record<string, string>): Promise<Facts> {
  return facts.parse(
    JSON.parse(await run({ program, args, timeoutMs: TIMEOUT_MS, ...(env === undefined ? {} : { env }) })),
  );
}

/** New weights, in our format and as the ONNX file that the registry exports. */
async function writeWeights(workDir: string, weightsPath: string): Promise<void> {
  const tensors = randomEncoderWeights('RESNET18', createRandom(1));
  await writeFile(weightsPath, writeSafetensors(tensors, {}));
  const inputContract = {
    ...HALF_NORMALISATION,
    imageSizePx: EMBEDDED_SIZE_PX,
    resizeRule: 'SHORT_SIDE_THEN_CENTRE_CROP',
    channelOrder: 'RGB',
    valueRange: [0, 1],
    embeddingLayer: 'avgpool',
    pooling: 'AVGPOOL',
    interpolation: 'BILINEAR',
    weightsDtype: 'FLOAT32',
    micronsPerPixelMin: null,
    micronsPerPixelMax: null,
  } as const;
  const onnx = writeOnnx({ architecture: resnetArchitecture('RESNET18'), tensors, inputContract, metadata: {} });
  await writeFile(path.join(workDir, 'resnet18.onnx'), onnx);
}

if (import.meta.main) {
  const { values } = parseArgs({ options: { rounds: { type: 'string', default: '5' }, json: { type: 'boolean' } } });
  const result = await benchStoredEmbedding({
    pythonDir: path.join(readEnvironment().engineCacheDir, '..', 'compat'),
    rounds: Number(values.rounds),
    onProgress: (message) => void process.stderr.write(`${message}\n`),
  });
  console.log(JSON.stringify(result, null, 2));
}
