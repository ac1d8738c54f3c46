/**
 * `paraffin doctor`: checks this machine for available and missing components, and measures the speed of its devices.
 */
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { statfs } from 'node:fs/promises';
import { availableParallelism, cpus, freemem } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { z } from 'zod';
import { childEnvironment, readEnvironment } from '../env.ts';
import { chooseEngineBuild } from '../platform/engine/builds.ts';
import { imageDecoderAddon, slowDecodingNote } from '../platform/engine/image-decoder.ts';
import {
  ENGINE_INSTALL_COMMAND,
  engineLibraryEnv,
  installedEngine,
  missingEngineLibraries,
} from '../platform/engine/installed.ts';
import { DriverSilentError, queryGpus } from '../platform/engine/nvidia-smi.ts';
import { findOpenSlide, OPENSLIDE_INSTALL_COMMAND } from '../platform/openslide/library.ts';
import { usableMemoryBytes } from '../platform/machine.ts';
import { programVersion } from '../platform/program-version.ts';
import { EXIT, type ExitCode } from './exit-codes.ts';
import { versionOfSlideReader } from './slides.ts';
import { formatByteSize } from './terminal.ts';

const run = promisify(execFile);
const ROOT = path.resolve(import.meta.dirname, '../..');
/** The program of the child process that loads the engine: a library that does not fit this machine may crash it. */
const MEASURE_PROGRAM = path.join(ROOT, 'workers/measure-device.ts');
const MEASURE_TIMEOUT_MS = 120_000;
/** Free space below which doctor warns: trainings keep states and checkpoints. */
const FREE_BYTES_WANTED = 5e9;

const measuredSchema = z.object({ matmulGflops: z.number(), convolutionGflops: z.number(), bfloat16: z.boolean() });

interface Device {
  readonly name: string;
  readonly memoryBytes: number;
  /** Environment with which a process sees only this device. */
  readonly env: Readonly<Record<string, string>>;
}

interface MeasuredDevice {
  readonly name: string;
  readonly memoryBytes: number;
  /** Null if the engine is missing or failed. */
  readonly matmulGflops: number | null;
  readonly convolutionGflops: number | null;
  readonly bfloat16: boolean | null;
}

export async function doctor({ json }: { readonly json?: true | undefined }): Promise<ExitCode> {
  const env = readEnvironment();
  const engine = installedEngine();
  const problems: string[] = [];
  if (engine === null)
    problems.push(
      `The TensorFlow engine is not installed, so only imports run and all other runs wait. Install it with "${ENGINE_INSTALL_COMMAND}".`,
    );
  const fitting = await chooseEngineBuild();
  if (engine?.device === 'CPU' && fitting.build === 'cuda')
    problems.push(`${fitting.why} "${ENGINE_INSTALL_COMMAND}" installs it; the CPU build is linked.`);
  for (const library of missingEngineLibraries())
    problems.push(`${library} is missing: "${ENGINE_INSTALL_COMMAND}" installs it.`);
  const freeBytes = await freeBytesAt(env.dataDir);
  if (freeBytes < FREE_BYTES_WANTED)
    problems.push(`Only ${formatByteSize(freeBytes)} are free on the disk of ${env.dataDir}.`);
  if (engine === null)
    for (const program of ['python3', 'g++'])
      if (!(await answers(program)))
        problems.push(
          `${program} is not installed, but is needed to install the engine (Debian: apt-get install python3-pip g++).`,
        );
  if (engine !== null && imageDecoderAddon() === null) problems.push(slowDecodingNote());
  if (!existsSync(path.join(ROOT, 'web/dist/index.html')))
    problems.push('The pages are not built: "npm run build:web", or the next "npm start", builds them.');
  const slideLibrary = findOpenSlide(env.engineCacheDir);
  const slideReader =
    slideLibrary === null
      ? null
      : await versionOfSlideReader(slideLibrary).catch((error: unknown) => {
          problems.push(`The reader of whole slides, ${slideLibrary.file}, does not load: ${causeOf(error)}`);
          return null;
        });
  const devices: MeasuredDevice[] = [];
  const found = await devicesOf(engine?.device ?? 'CPU').catch((error: unknown) => {
    if (!(error instanceof DriverSilentError)) throw error;
    problems.push(
      `The CUDA build is installed, but no NVIDIA driver answers (${error.message}), so no worker can run here: make "nvidia-smi" work, or install the CPU build by "${ENGINE_INSTALL_COMMAND} -- --build cpu".`,
    );
    return [];
  });
  for (const device of found) {
    const measured =
      engine === null
        ? undefined
        : await measure(device).catch(
            (error: unknown) => void problems.push(`${device.name} could not be measured: ${causeOf(error)}`),
          );
    devices.push({
      name: device.name,
      memoryBytes: device.memoryBytes,
      matmulGflops: measured?.matmulGflops ?? null,
      convolutionGflops: measured?.convolutionGflops ?? null,
      bfloat16: measured?.bfloat16 ?? null,
    });
  }
  const report = {
    versions: { paraffin: programVersion(), node: process.version, platform: `${process.platform}-${process.arch}` },
    engine,
    slideReader,
    gpu: fitting.why,
    devices,
    memory: { totalBytes: usableMemoryBytes(), freeBytes: Math.min(freemem(), usableMemoryBytes()) },
    dataDir: { path: env.dataDir, freeBytes },
    database: env.databaseUrl === undefined ? 'embedded' : 'PARAFFIN_DATABASE_URL',
    problems,
  };
  process.stdout.write(json === true ? `${JSON.stringify(report, null, 2)}\n` : asText(report));
  return problems.length === 0 ? EXIT.DONE : EXIT.NOT_DONE;
}

function asText({
  versions,
  engine,
  slideReader,
  gpu,
  devices,
  memory,
  dataDir,
  database,
  problems,
}: {
  readonly versions: { readonly paraffin: string; readonly node: string; readonly platform: string };
  readonly engine: ReturnType<typeof installedEngine>;
  /** Null if there is none: the first slide brings it. */
  readonly slideReader: string | null;
  readonly gpu: string;
  readonly devices: readonly MeasuredDevice[];
  readonly memory: { readonly totalBytes: number; readonly freeBytes: number };
  readonly dataDir: { readonly path: string; readonly freeBytes: number };
  readonly database: string;
  readonly problems: readonly string[];
}): string {
  return [
    `versions  Paraffin ${versions.paraffin}, Node ${versions.node}, ${versions.platform}`,
    `library   ${engine === null ? 'missing' : `${engine.library} ${engine.version} for ${engine.device}`}`,
    `slides    ${slideReader ?? `no reader yet: the first slide, or "${OPENSLIDE_INSTALL_COMMAND}", installs it`}`,
    `gpu       ${gpu}`,
    ...devices.map(
      ({ name, memoryBytes, matmulGflops, convolutionGflops, bfloat16 }) =>
        `device    ${name}, ${formatByteSize(memoryBytes)}${matmulGflops === null || convolutionGflops === null ? '' : `: matmul ${Math.round(matmulGflops)} GFLOP/s, convolution ${Math.round(convolutionGflops)} GFLOP/s (float32, now), ${bfloat16 === true ? 'also' : 'not'} in bfloat16`}`,
    ),
    `memory    ${formatByteSize(memory.freeBytes)} free of ${formatByteSize(memory.totalBytes)}`,
    `data      ${dataDir.path}, ${formatByteSize(dataDir.freeBytes)} free; database ${database}`,
    ...(problems.length === 0 ? ['No problems found.'] : problems.map((problem) => `! ${problem}`)),
    '',
  ].join('\n');
}

/** Free bytes at the nearest existing folder. */
async function freeBytesAt(folder: string): Promise<number> {
  let at = folder;
  while (!existsSync(at)) at = path.dirname(at);
  const { bavail, bsize } = await statfs(at);
  return bavail * bsize;
}

async function answers(program: string): Promise<boolean> {
  return run(program, ['--version']).then(
    () => true,
    () => false,
  );
}

async function devicesOf(kind: string): Promise<Device[]> {
  if (kind === 'CPU')
    return [
      {
        name: `CPU ${cpus()[0]?.model ?? ''}, ${availableParallelism()} cores`,
        memoryBytes: usableMemoryBytes(),
        env: {},
      },
    ];
  return (await queryGpus(['uuid', 'name', 'memory.total'])).map(([uuid = '', name = '', mebibytes]) => ({
    name: `GPU ${name} ${uuid}`,
    memoryBytes: Number(mebibytes) * 1024 ** 2,
    env: { CUDA_VISIBLE_DEVICES: uuid },
  }));
}

/** The line of a failed process's output that states the cause, without its stack. */
function causeOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const output = 'stderr' in error ? String(error.stderr) : '';
  return /^\w*Error: .+$/m.exec(output)?.[0] ?? error.message;
}

async function measure({ env }: Device): Promise<z.infer<typeof measuredSchema>> {
  const { stdout } = await run(process.execPath, ['--disable-warning=ExperimentalWarning', MEASURE_PROGRAM], {
    env: childEnvironment({ TF_CPP_MIN_LOG_LEVEL: '2', ...engineLibraryEnv(), ...env }),
    timeout: MEASURE_TIMEOUT_MS,
  });
  return measuredSchema.parse(JSON.parse(stdout));
}
