/** The parts of the device bench. Each takes its measurements in processes of its own, as a run does. */
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { z } from 'zod';
import { run } from '../../compat/process.ts';
import { readSafetensors } from '../../src/formats/safetensors.ts';
import { installedEngine } from '../../src/platform/engine/installed.ts';
import { queryGpus } from '../../src/platform/engine/nvidia-smi.ts';
import { failureOf } from '../../workers/failure.ts';
import { median } from '../summary.ts';
import { cancelTraining } from './cancel.ts';
import { gradientLimitOf, isWithinLimits, meanDifference, relativeDifference, type Tensors } from './difference.ts';
import { type BenchedEncoder, type DeviceParts, type Precision, type StepDifference } from './report.ts';
import { argumentsOf, type TrainingArguments } from './training-arguments.ts';

export interface Gpu {
  readonly name: string;
  readonly uuid: string;
  readonly driver: string;
  readonly memoryMiB: number;
}

interface Size {
  readonly viewSidePx: number;
  readonly imageCount: number;
}

export interface Bench {
  /** Null: a trial on the CPU, which takes the path of a GPU. */
  readonly gpu: Gpu | null;
  readonly encoders: readonly BenchedEncoder[];
  /** Of a process that sees only the device, and of one that sees no GPU. */
  readonly env: { readonly device: Readonly<Record<string, string>>; readonly cpu: Readonly<Record<string, string>> };
  readonly sizes: {
    readonly step: Size;
    readonly speed: {
      readonly viewSidePx: number;
      readonly imageCounts: Readonly<Record<BenchedEncoder, number>>;
      readonly stepCount: number;
    };
    readonly repeated: Size & { readonly stepCount: number };
    readonly canceled: { readonly imageSidePx: number; readonly batchSize: number };
  };
  /** For files of this bench; deleted afterwards. */
  readonly folder: string;
  readonly report: (message: string) => void;
}

type Ran<Name extends keyof DeviceParts> = Omit<Extract<DeviceParts[Name], { kind: 'RAN' }>, 'kind' | 'seconds'>;
/** What a part found; a text says why it did not run. */
export type Found<Name extends keyof DeviceParts> = Ran<Name> | string;
export type Part<Name extends keyof DeviceParts> = (bench: Bench) => Promise<Found<Name>>;

const PRECISIONS: readonly Precision[] = ['float32', 'bfloat16'];
/** Of one process; a trial may share its cores with other work. */
const timeoutMs = ({ gpu }: Pick<Bench, 'gpu'>): number => (gpu === null ? 300_000 : 120_000);
const NUDGES = [1, 2, 3];
const ROOT = path.resolve(import.meta.dirname, '../..');
const NODE_FLAGS = ['--disable-warning=ExperimentalWarning'];

const unsupportedSchema = z.object({ unsupported: z.string() });

/** The last line that one of the programs of this bench prints, as JSON. */
async function ask(bench: Bench, where: 'device' | 'cpu', program: string, args: readonly string[]): Promise<unknown> {
  // The processes of kernels.ts take it by themselves.
  const takesGpuPath = program !== 'kernels.ts' && where === 'device' && bench.gpu === null;
  const output = await run({
    program: process.execPath,
    args: [
      ...NODE_FLAGS,
      ...(takesGpuPath ? ['--import', path.join(import.meta.dirname, 'gpu-path.ts')] : []),
      path.join(import.meta.dirname, program),
      ...args,
    ],
    env: bench.env[where],
    timeoutMs: timeoutMs(bench),
  });
  return JSON.parse(output.trim().split('\n').at(-1) ?? '');
}

function isCudaWithoutDriver(gpu: Gpu | null): boolean {
  return gpu === null && installedEngine()?.device === 'GPU';
}

export const measureDoctor: Part<'doctor'> = async ({ gpu, env }) => {
  if (isCudaWithoutDriver(gpu)) return 'The CUDA build has no device without an NVIDIA driver.';
  // It prints its report with exit code 1 too, if it found a problem.
  const output = await run({
    program: 'sh',
    args: [
      '-c',
      '"$0" "$@" || [ $? = 1 ]',
      process.execPath,
      ...NODE_FLAGS,
      path.join(ROOT, 'src/cli/main.ts'),
      'doctor',
      '--json',
    ],
    env: env.device,
    timeoutMs: timeoutMs({ gpu }),
  });
  const { devices, problems } = z
    .object({ devices: z.array(z.looseObject({ matmulGflops: z.number().nullable() })), problems: z.array(z.string()) })
    .parse(JSON.parse(output));
  return {
    passed: devices.length > 0 && devices.every(({ matmulGflops }) => matmulGflops !== null),
    devices,
    problems,
  };
};

const kernelsSchema = z.object({ opCount: z.number(), onHost: z.array(z.string()) });

export const measureKernels: Part<'kernels'> = async (bench) => {
  if (installedEngine()?.device !== 'GPU') return 'The CPU build of the engine has no kernels for a GPU.';
  const found: z.infer<typeof kernelsSchema>[] = [];
  for (const precision of PRECISIONS) {
    const args = argumentsOf({ encoder: 'RESNET50', precision, ...bench.sizes.step });
    const answer = z.union([kernelsSchema, unsupportedSchema]).parse(await ask(bench, 'device', 'kernels.ts', args));
    if ('unsupported' in answer) bench.report(answer.unsupported);
    else found.push(answer);
  }
  const onHost = [...new Set(found.flatMap((each) => each.onHost))].sort();
  return { passed: onHost.length === 0, opCount: Math.max(...found.map(({ opCount }) => opCount)), onHost };
};

interface FirstStep {
  readonly loss: number;
  readonly gradients: Tensors;
  readonly views: Float32Array;
}

const firstStepSchema = z.union([z.object({ loss: z.number() }), unsupportedSchema]);

/** Null if the device cannot compute in the precision. */
async function firstStep(
  bench: Bench,
  where: 'device' | 'cpu',
  training: TrainingArguments,
  nudge = 0,
): Promise<FirstStep | null> {
  const file = path.join(bench.folder, 'first-step.safetensors');
  const args = [...argumentsOf(training), String(nudge), file];
  const answer = firstStepSchema.parse(await ask(bench, where, 'first-step.ts', args));
  if ('unsupported' in answer) return null;
  const tensors = new Map(
    readSafetensors(await readFile(file)).tensors.flatMap(({ name, dtype, data }) =>
      dtype === 'F32' ? [[name, data] as const] : [],
    ),
  );
  const views = tensors.get('views');
  if (views === undefined) throw new Error('The first step wrote no views.');
  tensors.delete('views');
  return { loss: answer.loss, gradients: tensors, views };
}

/** The first step of each training, on the device and on the CPU. */
export const measureParity: Part<'parity'> = async (bench) => {
  const steps: StepDifference[] = [];
  for (const encoder of bench.encoders) {
    const trainingIn = (precision: Precision): TrainingArguments => ({ encoder, precision, ...bench.sizes.step });
    const wanted = await firstStep(bench, 'cpu', trainingIn('float32'));
    if (wanted === null) throw new Error('The CPU does not compute in float32.');
    for (const precision of PRECISIONS) {
      bench.report(`parity: ${encoder} in ${precision}`);
      const found = await firstStep(bench, 'device', trainingIn(precision));
      if (found === null) {
        bench.report(`${encoder}: this device cannot compute in ${precision}.`);
        continue;
      }
      const own = await ownDifference(bench, trainingIn(precision), wanted.gradients);
      steps.push({
        ...{ encoder, precision },
        loss: threeDigits(Math.abs(found.loss - wanted.loss) / Math.abs(wanted.loss)),
        gradient: threeDigits(relativeDifference(found.gradients, wanted.gradients)),
        gradientLimit: threeDigits(gradientLimitOf(precision, own)),
        views: threeDigits(meanDifference(found.views, wanted.views)),
      });
    }
  }
  return { passed: steps.length > 0 && steps.every(isWithinLimits), steps };
};

/** What the CPU's own gradient differs by; null if it cannot compute in the precision. */
async function ownDifference(bench: Bench, training: TrainingArguments, wanted: Tensors): Promise<number | null> {
  const differences: number[] = [];
  for (const nudge of training.precision === 'float32' ? NUDGES : [0]) {
    const own = await firstStep(bench, 'cpu', training, nudge);
    if (own === null) return null;
    differences.push(relativeDifference(own.gradients, wanted));
  }
  return Math.max(...differences);
}

const speedSchema = z.union([z.object({ durationsMs: z.array(z.number()).min(1) }), unsupportedSchema]);

/** Whole steps with views at the side of foundation models. */
export const measureSpeed: Part<'speed'> = async (bench) => {
  const { viewSidePx, imageCounts, stepCount } = bench.sizes.speed;
  const trainings: Ran<'speed'>['trainings'] = [];
  const leftOut: string[] = [];
  for (const encoder of bench.encoders) {
    for (const precision of PRECISIONS) {
      let batchSize = imageCounts[encoder];
      for (;;) {
        const what = `${encoder} in ${precision}, ${viewSidePx} px, batch ${batchSize}`;
        bench.report(`speed: ${what}`);
        const args = [encoder, viewSidePx, viewSidePx, batchSize, stepCount, precision].map(String);
        const answer = await ask(bench, 'device', '../training-ours.ts', args).catch((error: unknown) => {
          if (failureOf(error).class !== 'OUT_OF_MEMORY' || batchSize < 4) throw error;
          return undefined;
        });
        if (answer === undefined) {
          batchSize /= 2;
          continue;
        }
        const measured = speedSchema.parse(answer);
        if ('unsupported' in measured) leftOut.push(`${what}: ${measured.unsupported}`);
        else {
          const stepMs = threeDigits(median(measured.durationsMs));
          const imagesPerSecond = threeDigits((batchSize * 1000) / stepMs);
          trainings.push({ encoder, precision, viewSidePx, batchSize, imagesPerSecond, stepMs });
        }
        break;
      }
    }
  }
  return { passed: trainings.length > 0, trainings, leftOut };
};

const digestSchema = z.union([z.object({ digest: z.string() }), unsupportedSchema]);

/** Each training twice, in processes of its own. */
export const measureDeterminism: Part<'determinism'> = async (bench) => {
  const { stepCount, ...size } = bench.sizes.repeated;
  const trainings: Ran<'determinism'>['trainings'] = [];
  for (const encoder of bench.encoders) {
    for (const precision of PRECISIONS) {
      bench.report(`determinism: ${encoder} in ${precision}, twice`);
      const args = [...argumentsOf({ encoder, precision, ...size }), String(stepCount)];
      const digest = async (): Promise<string | undefined> => {
        const answer = digestSchema.parse(await ask(bench, 'device', 'repeat.ts', args));
        return 'digest' in answer ? answer.digest : undefined;
      };
      const [first, second] = [await digest(), await digest()];
      if (first !== undefined && second !== undefined)
        trainings.push({ encoder, precision, stepCount, digests: [first, second] });
    }
  }
  return {
    passed: trainings.length > 0 && trainings.every(({ digests: [first, second] }) => first === second),
    trainings,
  };
};

/** Memory that may stay taken after a run: the driver's own. */
const MEMORY_LEFT_MIB = 64;

export const measureCancel: Part<'cancel'> = async ({ gpu, env, sizes }) => {
  if (isCudaWithoutDriver(gpu)) return 'A worker with the CUDA build does not start without an NVIDIA driver.';
  const found = await cancelTraining(sizes.canceled, env.device, async () => {
    if (gpu === null) return null;
    const row = (await queryGpus(['uuid', 'memory.total', 'memory.free'])).find(([uuid]) => uuid === gpu.uuid);
    return Number(row?.[1]) - Number(row?.[2]);
  });
  const { status, nextStatus, memoryUsedMiB: used } = found;
  const isFree = used === null || used[1] - used[0] <= MEMORY_LEFT_MIB;
  return {
    passed: status === 'CANCELED' && nextStatus === 'SUCCEEDED' && isFree,
    ...found,
    memoryUsedMiB: used === null ? null : [used[0], used[1]],
  };
};

const memorySchema = z.object({ message: z.string(), failureClass: z.string(), continued: z.boolean() });

export const measureMemory: Part<'memory'> = async (bench) => {
  const args = argumentsOf({ encoder: 'RESNET18', precision: 'float32', ...bench.sizes.step });
  const how = bench.gpu === null ? 'ONE_TENSOR' : 'FULL_DEVICE';
  const found = memorySchema.parse(await ask(bench, 'device', 'memory.ts', [...args, how]));
  return { passed: found.failureClass === 'OUT_OF_MEMORY' && found.continued, ...found };
};

function threeDigits(value: number): number {
  return Number(value.toPrecision(3));
}
