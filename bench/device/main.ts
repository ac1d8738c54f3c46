/**
 * `npm run bench:device`: what a person with an NVIDIA GPU runs once, in less than eight minutes, to find out whether
 * the engine's CUDA build computes what it should. Prints one JSON document.
 */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { readEnvironment } from '../../src/env.ts';
import { ENGINE_INSTALL_COMMAND, engineLibraryEnv, installedEngine } from '../../src/platform/engine/installed.ts';
import { DriverSilentError, isVisibleGpu, queryGpus } from '../../src/platform/engine/nvidia-smi.ts';
import { ENGINE_PROCESS_ENV, PLAIN_CPU_ENV } from '../../workers/engine/process-env.ts';
import {
  measureCancel,
  measureDeterminism,
  measureDoctor,
  measureKernels,
  measureMemory,
  measureParity,
  measureSpeed,
  type Bench,
  type Gpu,
  type Part,
} from './parts.ts';
import { BENCHED_ENCODERS, deviceReportSchema, type DeviceParts, type DeviceReport } from './report.ts';

const HELP = `usage: npm run bench:device [-- --cpu] [-- --only parity,memory] [-- --encoder RESNET18] [-- --out report.json]

Checks the engine on the first NVIDIA GPU that CUDA_VISIBLE_DEVICES leaves visible, and prints one JSON document:

  doctor       what "paraffin doctor" says
  kernels      ops of a training step that have no kernel for a GPU
  parity       loss and gradients of a step of ResNet-18 and ResNet-50, float32 and bfloat16, against the CPU
  speed        images/s of their SimCLR steps with views of 224 px
  determinism  each training twice: are all weights equal, bit for bit?
  cancel       a run that is canceled while it trains, and the next one on the same device
  memory       a step that runs out of memory, and the training that continues after it

  --cpu        try the bench out without a GPU: the engine takes the path of a GPU on the CPU, in small sizes
  --only LIST  these parts alone
  --encoder NAME
               RESNET18 or RESNET50 alone
  --out FILE   write the document to a file too

exit code: 0 every part passed; 1 a part failed; 2 there is no GPU, or invalid arguments.
`;

/** For a GPU of 24 GB or more; a batch that does not fit is halved. */
const SIZES: Bench['sizes'] = {
  step: { viewSidePx: 64, imageCount: 16 },
  speed: { viewSidePx: 224, imageCounts: { RESNET18: 128, RESNET50: 64 }, stepCount: 10 },
  repeated: { viewSidePx: 128, imageCount: 32, stepCount: 5 },
  canceled: { imageSidePx: 224, batchSize: 16 },
};
const TRIAL_SIZES: Bench['sizes'] = {
  step: { viewSidePx: 64, imageCount: 8 },
  speed: { viewSidePx: 32, imageCounts: { RESNET18: 4, RESNET50: 4 }, stepCount: 1 },
  repeated: { viewSidePx: 32, imageCount: 4, stepCount: 2 },
  canceled: { imageSidePx: 64, batchSize: 8 },
};

/** A GPU is rented by the minute: no part begins after this, so that the bench ends within eight of them. */
const LAST_START_SECONDS = 390;

const PARTS = {
  doctor: measureDoctor,
  kernels: measureKernels,
  parity: measureParity,
  speed: measureSpeed,
  determinism: measureDeterminism,
  cancel: measureCancel,
  memory: measureMemory,
} satisfies { readonly [Name in keyof DeviceParts]: Part<Name> };

const { values } = parseArgs({
  options: {
    cpu: { type: 'boolean' },
    only: { type: 'string' },
    encoder: { type: 'string' },
    out: { type: 'string' },
    help: { type: 'boolean', short: 'h' },
  },
});
const wanted = values.only?.split(',') ?? Object.keys(PARTS);
const encoders = BENCHED_ENCODERS.filter((name) => name === (values.encoder ?? name));
const unknown = wanted.filter((name) => !Object.hasOwn(PARTS, name));
if (values.help === true) process.stdout.write(HELP);
else if (unknown.length > 0) {
  process.stderr.write(`The part ${unknown.join(', ')} does not exist.\n${HELP}`);
  process.exitCode = 2;
} else if (encoders.length === 0) {
  process.stderr.write(`The encoder is one of ${BENCHED_ENCODERS.join(', ')}.\n${HELP}`);
  process.exitCode = 2;
} else {
  const chosen = values.cpu === true ? null : await findGpu();
  if (typeof chosen === 'string') {
    process.stderr.write(`${chosen}\n`);
    process.exitCode = 2;
  } else {
    const report = await measure(chosen);
    const text = `${JSON.stringify(report, null, 2)}\n`;
    process.stdout.write(text);
    if (values.out !== undefined) await writeFile(values.out, text);
    process.exitCode = report.passed ? 0 : 1;
  }
}

/** The GPU; a text says in one sentence why there is none. */
async function findGpu(): Promise<Gpu | string> {
  const instead = '"npm run bench:device -- --cpu" tries the bench out without a GPU.';
  if (installedEngine()?.device !== 'GPU')
    return `The engine's CUDA build is not installed: install it by "${ENGINE_INSTALL_COMMAND} -- --build cuda" on a machine with an NVIDIA GPU; ${instead}`;
  try {
    const { visibleGpus } = readEnvironment();
    const rows = await queryGpus(['uuid', 'name', 'driver_version', 'memory.total']);
    const first = rows.find(([uuid = ''], index) => isVisibleGpu(visibleGpus, uuid, index));
    if (first === undefined) return `The NVIDIA driver reports no GPU; ${instead}`;
    const [uuid = '', name = '', driver = '', memory] = first;
    return { uuid, name, driver, memoryMiB: Number(memory) };
  } catch (error) {
    if (!(error instanceof DriverSilentError)) throw error;
    return `No NVIDIA driver answers (${error.message}), and this bench needs a GPU; ${instead}`;
  }
}

async function measure(gpu: Gpu | null): Promise<DeviceReport> {
  const startedMs = performance.now();
  const loadBefore = os.loadavg()[0] ?? 0;
  const engine = installedEngine();
  if (engine === null) throw new Error(`The engine is not installed: "${ENGINE_INSTALL_COMMAND}" installs it.`);
  const folder = await mkdtemp(path.join(os.tmpdir(), 'paraffin-bench-device-'));
  const shared = { ...ENGINE_PROCESS_ENV, ...engineLibraryEnv() };
  const bench: Bench = {
    ...{ gpu, folder, encoders, sizes: gpu === null ? TRIAL_SIZES : SIZES },
    env: {
      // Without oneDNN the CPU computes by kernels that have nothing in common with ours, as a GPU does.
      device: { ...shared, ...(gpu === null ? PLAIN_CPU_ENV : { CUDA_VISIBLE_DEVICES: gpu.uuid }) },
      cpu: { ...shared, CUDA_VISIBLE_DEVICES: '-1' },
    },
    report: (message) => void process.stderr.write(`${message}\n`),
  };
  try {
    const found: Record<string, object> = {};
    for (const [name, part] of Object.entries(PARTS)) {
      if (!wanted.includes(name)) found[name] = { kind: 'SKIPPED', why: 'It was not among the parts of --only.' };
      else if (gpu !== null && secondsSince(startedMs) > LAST_START_SECONDS)
        found[name] = { kind: 'FAILED', seconds: 0, error: `It did not begin within ${LAST_START_SECONDS} s.` };
      else found[name] = await timed(name, () => part(bench));
    }
    const parts = deviceReportSchema.shape.parts.parse(found);
    return {
      ...{ format: 'paraffin-device-report-1', isTrial: gpu === null, parts, seconds: secondsSince(startedMs) },
      passed: Object.values(parts).every((part) => part.kind === 'SKIPPED' || (part.kind === 'RAN' && part.passed)),
      loadAverage: [loadBefore, os.loadavg()[0] ?? 0],
      machine: {
        ...{ cpuModel: os.cpus()[0]?.model ?? 'unknown', coreCount: os.availableParallelism(), node: process.version },
        ...{ engine, gpu },
      },
    };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** A part of the report; a part that throws fails alone. */
async function timed(name: string, work: () => Promise<object | string>): Promise<object> {
  process.stderr.write(`${name}\n`);
  const startedMs = performance.now();
  try {
    const found = await work();
    return typeof found === 'string'
      ? { kind: 'SKIPPED', why: found }
      : { kind: 'RAN', seconds: secondsSince(startedMs), ...found };
  } catch (error) {
    const text = error instanceof Error ? error.message : String(error);
    return { kind: 'FAILED', seconds: secondsSince(startedMs), error: text.slice(-1000) };
  }
}

function secondsSince(startedMs: number): number {
  return Math.round((performance.now() - startedMs) / 100) / 10;
}
