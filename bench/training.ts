/**
 * A whole SimCLR step (two views made on the device, encoder, head, NT-Xent, gradients, LARS, or AdamW for a vision
 * transformer; float32 and bfloat16) compared with one written in PyTorch. Both take turns on the same cores, so that
 * they run under the same conditions.
 *
 * To run it alone: `node bench/training.ts --json [--rounds 5] [--grid] [--only VIT_S16] [--threads 1]
 * [--peer-dir DIR]`; `--grid` measures ResNet-50, 128 px, large batches and ViT-S/16 as well, `--only` one encoder in
 * all of its cases. The peer's virtual environment is made once in DIR by pip. On a machine with other work measure one
 * thread: the processor time of several contains their waiting for each other.
 */
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { z } from 'zod';
import { TRAINED_ENCODERS, type TrainedEncoder } from './trained-encoders.ts';
import { engineLibraryEnv } from '../src/platform/engine/installed.ts';
import { ENGINE_PROCESS_ENV } from '../workers/engine/process-env.ts';

const PEER_REQUIREMENTS = ['torch==2.13.0+cpu', 'torch==2.13.0'] as const;

interface Case {
  readonly architecture: TrainedEncoder;
  readonly viewSidePx: number;
  readonly imageSidePx: number;
  /** N; a step sees 2N views. */
  readonly batchSize: number;
  readonly stepCount: number;
  /** For bfloat16 the peer uses autocast. */
  readonly precision: 'float32' | 'bfloat16';
  /** Target for the ratio of ours to the peer's; null if there is none. */
  readonly targetRatio: number | null;
}

const TARGETS: readonly Case[] = [
  {
    architecture: 'RESNET18',
    viewSidePx: 64,
    imageSidePx: 128,
    batchSize: 32,
    stepCount: 12,
    precision: 'float32',
    targetRatio: 1,
  },
  {
    architecture: 'RESNET18',
    viewSidePx: 224,
    imageSidePx: 224,
    batchSize: 16,
    stepCount: 3,
    precision: 'float32',
    targetRatio: 0.9,
  },
  {
    architecture: 'RESNET18',
    viewSidePx: 64,
    imageSidePx: 128,
    batchSize: 32,
    stepCount: 12,
    precision: 'bfloat16',
    targetRatio: 0.8,
  },
  {
    architecture: 'RESNET18',
    viewSidePx: 224,
    imageSidePx: 224,
    batchSize: 16,
    stepCount: 3,
    precision: 'bfloat16',
    targetRatio: 0.8,
  },
];

/** The cases that fit in 24 GB: a ResNet-50 at 224 px needs that much for 32 images. */
const GRID: readonly Case[] = (['float32', 'bfloat16'] as const).flatMap((precision) => [
  {
    architecture: 'RESNET18',
    viewSidePx: 64,
    imageSidePx: 128,
    batchSize: 256,
    stepCount: 2,
    precision,
    targetRatio: null,
  },
  {
    architecture: 'RESNET18',
    viewSidePx: 128,
    imageSidePx: 128,
    batchSize: 32,
    stepCount: 4,
    precision,
    targetRatio: null,
  },
  {
    architecture: 'RESNET50',
    viewSidePx: 64,
    imageSidePx: 128,
    batchSize: 32,
    stepCount: 4,
    precision,
    targetRatio: null,
  },
  {
    architecture: 'RESNET50',
    viewSidePx: 128,
    imageSidePx: 128,
    batchSize: 32,
    stepCount: 2,
    precision,
    targetRatio: null,
  },
  {
    architecture: 'RESNET50',
    viewSidePx: 224,
    imageSidePx: 224,
    batchSize: 8,
    stepCount: 2,
    precision,
    targetRatio: null,
  },
  {
    architecture: 'VIT_S16',
    viewSidePx: 96,
    imageSidePx: 128,
    batchSize: 32,
    stepCount: 3,
    precision,
    targetRatio: null,
  },
  {
    architecture: 'VIT_S16',
    viewSidePx: 224,
    imageSidePx: 224,
    batchSize: 8,
    stepCount: 2,
    precision,
    targetRatio: null,
  },
]);

export interface TrainingBenchOptions {
  /** The folder of the peer's virtual environment, which is reused between runs. */
  readonly peerDir: string;
  /** Rounds, in each of which ours runs before the peer's [5]. */
  readonly rounds?: number;
  /** Whether to measure the cases without a target too [no]. */
  readonly grid?: boolean;
  /** Measure the cases of this encoder alone [all]. */
  readonly only?: TrainedEncoder | undefined;
  /** Of each side [all cores]. */
  readonly threads?: number | undefined;
  readonly onProgress?: (message: string) => void;
}

export interface TrainingSpeed {
  readonly library: string;
  /** Over all steps of all rounds. */
  readonly medianImagesPerSecond: number;
  /** Median of the slowest and the fastest round, which shows how much the machine's speed varied. */
  readonly roundsImagesPerSecond: readonly [number, number];
  /** Time per step for making the views, median. */
  readonly viewsMs: number;
  readonly stepMs: number;
  /** User and system time of all threads per step, median: depends least on other work on the machine. */
  readonly cpuMs: number;
  readonly peakRssMb: number;
}

export interface TrainingBenchCase extends Omit<Case, 'stepCount'> {
  readonly ours: TrainingSpeed;
  readonly peer: TrainingSpeed | null;
  /** Ratio of ours to the peer's within the same round, median of the rounds; null without a peer. */
  readonly ratio: number | null;
  /** Ratio of the peer's processor time to ours, likewise; above 1, ours is lower. */
  readonly cpuRatio: number | null;
}

export interface TrainingBenchResult {
  readonly cpuModel: string;
  readonly coreCount: number;
  readonly threads: number;
  /** Load average of the last minute, before and after: shows other work on the machine. */
  readonly loadAverage: readonly [number, number];
  readonly cases: readonly TrainingBenchCase[];
  /** The cases that this device cannot compute. */
  readonly leftOut: readonly (Omit<Case, 'stepCount'> & { readonly why: string })[];
  /** Why there is no peer, if there is none. */
  readonly why: string | null;
}

const measurement = z.object({
  durationsMs: z.array(z.number()).min(1),
  viewsMs: z.array(z.number()).min(1),
  cpuMs: z.array(z.number()).min(1),
  peakRssMb: z.number(),
  library: z.string(),
  device: z.string(),
});
const unsupported = z.object({ unsupported: z.string() });
type Measurement = z.infer<typeof measurement>;

function argumentsOf({ architecture, viewSidePx, imageSidePx, batchSize, stepCount, precision }: Case): string[] {
  return [architecture, viewSidePx, imageSidePx, batchSize, stepCount, precision].map(String);
}

/** Runs every case, and the peer's if it can be installed. @throws Error if our own measurement fails. */
export async function benchTraining(options: TrainingBenchOptions): Promise<TrainingBenchResult> {
  const report = options.onProgress ?? ((): void => undefined);
  const coreCount = os.availableParallelism();
  const loadBefore = os.loadavg()[0] ?? 0;
  const threads = options.threads ?? coreCount;
  const peer = await preparePeer(options.peerDir, threads, report);
  const cases: TrainingBenchCase[] = [];
  const leftOut: (Omit<Case, 'stepCount'> & { why: string })[] = [];
  const wanted = options.grid === true ? [...TARGETS, ...GRID] : TARGETS;
  for (const measured of wanted.filter(({ architecture }) => architecture === (options.only ?? architecture))) {
    const { stepCount: _stepCount, ...named } = measured;
    const what = `SimCLR step, ${named.architecture}, ${named.viewSidePx} px, batch ${named.batchSize}, ${named.precision}`;
    report(`${what}: round 1`);
    const first = await measureOurs(measured, threads);
    if ('unsupported' in first) {
      report(`${what}: left out. ${first.unsupported}`);
      leftOut.push({ ...named, why: first.unsupported });
      continue;
    }
    const ours: Measurement[] = [];
    const theirs: Measurement[] = [];
    for (let round = 0; round < (options.rounds ?? 5); round += 1) {
      if (round > 0) report(`${what}: round ${round + 1}`);
      const own = round === 0 ? first : await measureOurs(measured, threads);
      if ('unsupported' in own)
        throw new Error(`The device could compute in ${named.precision} a moment ago: ${own.unsupported}`);
      ours.push(own);
      if (peer.kind !== 'READY') continue;
      const other = await peer.measure(measured);
      theirs.push(other);
      report(
        `  processor time of a step: ${median(own.cpuMs).toFixed(0)} ms, PyTorch ${median(other.cpuMs).toFixed(0)} ms`,
      );
    }
    const ratios = (series: 'durationsMs' | 'cpuMs'): number | null => {
      const found = ours.flatMap((own, round) => {
        const other = theirs[round];
        return other === undefined ? [] : [median(other[series]) / median(own[series])];
      });
      return found.length === 0 ? null : median(found);
    };
    cases.push({
      ...named,
      ours: speed(ours, named.batchSize),
      peer: theirs.length === 0 ? null : speed(theirs, named.batchSize),
      ratio: ratios('durationsMs'),
      cpuRatio: ratios('cpuMs'),
    });
  }
  return {
    cpuModel: os.cpus()[0]?.model ?? 'unknown',
    coreCount,
    threads,
    loadAverage: [loadBefore, os.loadavg()[0] ?? 0],
    cases,
    leftOut,
    why: peer.kind === 'READY' ? null : peer.why,
  };
}

const measureOurs = async (measured: Case, threads: number): Promise<Measurement | z.infer<typeof unsupported>> =>
  z.union([measurement, unsupported]).parse(
    await lastJson(process.execPath, [here('training-ours.ts'), ...argumentsOf(measured)], {
      ...process.env,
      ...ENGINE_PROCESS_ENV,
      ...engineLibraryEnv(),
      TF_NUM_INTRAOP_THREADS: String(threads),
    }),
  );

type Peer =
  | { readonly kind: 'READY'; readonly measure: (measured: Case) => Promise<Measurement> }
  | { readonly kind: 'ABSENT'; readonly why: string };

/** Creates the virtual environment unless it exists. Never throws: a benchmark without a peer still measures ours. */
async function preparePeer(peerDir: string, threads: number, report: (message: string) => void): Promise<Peer> {
  const environmentDir = path.join(peerDir, 'torch-2.13.0');
  const python = path.join(environmentDir, 'bin', 'python');
  try {
    if (!existsSync(python) || !(await canImportTorch(python))) {
      report('making the PyTorch peer by pip (once)');
      await rm(environmentDir, { recursive: true, force: true });
      await mkdir(peerDir, { recursive: true });
      await run('python3', ['-m', 'venv', environmentDir], process.env);
      await installTorch(python);
    }
  } catch (error) {
    return {
      kind: 'ABSENT',
      why: `The PyTorch peer could not be installed: ${error instanceof Error ? error.message : String(error)}`,
    };
  }
  const script = here('peer/simclr_training_peer.py');
  return {
    kind: 'READY',
    measure: async (measured) =>
      measurement.parse(await lastJson(python, [script, ...argumentsOf(measured), String(threads)], process.env)),
  };
}

async function installTorch(python: string): Promise<void> {
  const faults: string[] = [];
  for (const requirement of PEER_REQUIREMENTS) {
    try {
      await run(
        python,
        ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', '--retries', '1', requirement, 'numpy'],
        process.env,
      );
      return;
    } catch (error) {
      faults.push(error instanceof Error ? error.message : String(error));
    }
  }
  throw new Error(faults.join(' | '));
}

async function canImportTorch(python: string): Promise<boolean> {
  try {
    await run(python, ['-c', 'import torch'], process.env);
    return true;
  } catch {
    // An earlier benchmark was interrupted and left an incomplete environment, which is created again.
    return false;
  }
}

function speed(measurements: readonly Measurement[], batchSize: number): TrainingSpeed {
  const perSecond = (durationMs: number): number => Math.round((batchSize * 10_000) / durationMs) / 10;
  const rounds = measurements.map(({ durationsMs }) => perSecond(median(durationsMs)));
  return {
    library: measurements[0]?.library ?? 'unknown',
    medianImagesPerSecond: perSecond(median(measurements.flatMap(({ durationsMs }) => durationsMs))),
    roundsImagesPerSecond: [Math.min(...rounds), Math.max(...rounds)],
    viewsMs: Math.round(median(measurements.flatMap(({ viewsMs }) => viewsMs))),
    stepMs: Math.round(median(measurements.flatMap(({ durationsMs }) => durationsMs))),
    cpuMs: Math.round(median(measurements.flatMap(({ cpuMs }) => cpuMs))),
    peakRssMb: Math.round(Math.max(...measurements.map(({ peakRssMb }) => peakRssMb))),
  };
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((left, right) => left - right);
  const middle = Math.floor(sorted.length / 2);
  const upper = sorted[middle] ?? Number.NaN;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? Number.NaN) + upper) / 2;
}

function here(relative: string): string {
  return fileURLToPath(new URL(relative, import.meta.url));
}

async function lastJson(command: string, args: readonly string[], env: NodeJS.ProcessEnv): Promise<unknown> {
  const lines = (await run(command, args, env)).trim().split('\n');
  return JSON.parse(lines.at(-1) ?? '');
}

/** The standard output of the command. @throws Error with the end of its stderr if it fails. */
async function run(command: string, args: readonly string[], env: NodeJS.ProcessEnv): Promise<string> {
  const child = spawn(command, [...args], { env, stdio: ['ignore', 'pipe', 'pipe'] });
  const output: Buffer[] = [];
  let faults = '';
  child.stdout.on('data', (chunk: Buffer) => output.push(chunk));
  child.stderr.on('data', (chunk: Buffer) => {
    faults = (faults + chunk.toString()).slice(-400);
  });
  const { promise, resolve, reject } = Promise.withResolvers<number | null>();
  child.once('error', reject);
  child.once('close', resolve);
  const exitCode = await promise;
  if (exitCode !== 0) throw new Error(`${path.basename(command)} ended with ${exitCode}: ${faults.trim()}`);
  return Buffer.concat(output).toString();
}

if (import.meta.main) {
  const { values } = parseArgs({
    options: {
      json: { type: 'boolean' },
      rounds: { type: 'string' },
      grid: { type: 'boolean' },
      only: { type: 'string' },
      threads: { type: 'string' },
      'peer-dir': { type: 'string' },
    },
  });
  const peerDir = values['peer-dir'] ?? path.join(os.homedir(), '.cache', 'paraffin', 'bench');
  const result = await benchTraining({
    peerDir,
    rounds: Number(values.rounds ?? 5),
    grid: values.grid === true || values.only !== undefined,
    only: values.only === undefined ? undefined : z.enum(TRAINED_ENCODERS).parse(values.only),
    threads: values.threads === undefined ? undefined : Number(values.threads),
    onProgress: (message) => console.error(message),
  });
  console.log(
    values.json === true
      ? JSON.stringify(result, null, 2)
      : result.cases
          .map(
            ({ architecture, viewSidePx, batchSize, precision, ours, peer, ratio }) =>
              `${architecture}, ${viewSidePx} px, batch ${batchSize}, ${precision}: ours ${ours.medianImagesPerSecond} images/s, peer ${peer?.medianImagesPerSecond ?? 'absent'}, ratio ${ratio?.toFixed(2) ?? '-'}`,
          )
          .join('\n'),
  );
}
