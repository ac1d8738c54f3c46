/**
 * Brings the TensorFlow library under `@tensorflow/tfjs-node-gpu`.
 *
 * The npm package carries the JavaScript and the C++ source of its binding; its own installer downloads a library from
 * a bucket that no longer answers. The Python wheel of TensorFlow holds the same C API, so we fetch that with pip,
 * check its sha256, unpack two libraries and the C headers into a cache outside `node_modules`, and compile the
 * binding, with our own ops in it, with one g++ call. Where a GPU is, it is the CUDA wheel, with NVIDIA's libraries
 * from the same index beside it.
 */
import { execFile, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { createReadStream, createWriteStream, existsSync, readdirSync, readFileSync, realpathSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, rename, rm, stat, statfs, symlink, unlink } from 'node:fs/promises';
import { createRequire } from 'node:module';
import path from 'node:path';
import { pipeline } from 'node:stream/promises';
import { promisify } from 'node:util';
import yauzl from 'yauzl';
import {
  ENGINE_BUILD_NAMES,
  ENGINE_BUILDS,
  type CudaWheel,
  type EngineBuild,
  type EngineBuildName,
  type EngineWheel,
} from './engine-builds.ts';

const run = promisify(execFile);
const require = createRequire(import.meta.url);

/** Bumped when the way of compiling changes, so that an older binding in the cache is not reused. */
const BINDING_REVISION = 3;

/** Our own ops in C++, which are compiled into the binding and so are known to TensorFlow wherever it is loaded. */
const NATIVE_DIR = path.join(import.meta.dirname, '../../workers/engine/native');

const LIBRARY_FILES = ['libtensorflow_cc.so.2', 'libtensorflow_framework.so.2'];
const HEADER_PREFIXES = [
  'tensorflow/c/',
  'tensorflow/core/platform/ctstring',
  'tsl/',
  'xla/tsl/c/',
  'xla/tsl/platform/',
].map((folder) => `tensorflow/include/${folder}`);

export interface EngineProgress {
  /** What is being done, as a person would say it. */
  readonly message: string;
  /** 0..1 where the total is known. */
  readonly fraction?: number;
}

/** A fault of bringing the engine, with what to do next. */
export class EngineLibraryError extends Error {
  readonly hint: string;
  constructor(message: string, hint: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'EngineLibraryError';
    this.hint = hint;
  }
}

function tfjsPackageDir(): string {
  return path.dirname(require.resolve('@tensorflow/tfjs-node-gpu/package.json'));
}

/** Where tfjs-node-gpu looks for its native half. */
export function bindingPath(): string {
  return path.join(tfjsPackageDir(), 'lib', 'napi-v8', 'tfjs_binding.node');
}

/**
 * True when the native half is in its place and was compiled from what lies here, so that the engine can be loaded and
 * computes what this program means.
 */
export function isEngineInstalled(): boolean {
  return existsSync(bindingPath()) && path.basename(path.dirname(realpathSync(bindingPath()))) === bindingFolder();
}

let knownBindingFolder: string | undefined;

/**
 * Named by all that the binding is made of: another version of our ops is another binding, and several clones may share
 * a cache.
 */
function bindingFolder(): string {
  if (knownBindingFolder === undefined) {
    const digest = createHash('sha256');
    for (const name of nativeFiles())
      digest
        .update(`${name}\0`)
        .update(readFileSync(path.join(NATIVE_DIR, name)))
        .update('\0');
    knownBindingFolder = `binding-${tfjsVersion()}-r${BINDING_REVISION}-${digest.digest('hex').slice(0, 12)}`;
  }
  return knownBindingFolder;
}

function nativeFiles(): string[] {
  return readdirSync(NATIVE_DIR)
    .filter((name) => /\.(?:cc|h)$/.test(name))
    .sort();
}

export interface InstalledEngine {
  readonly library: string;
  readonly version: string;
  readonly device: 'CPU' | 'GPU';
}

/** Which library is linked, where one is; the engine itself is loaded by workers alone. */
export function installedEngine(): InstalledEngine | null {
  const name = installedBuild();
  if (name === null) return null;
  const { device, wheel } = ENGINE_BUILDS[name];
  return { library: 'TensorFlow', version: wheel.version, device };
}

/** The build that is linked: the binding lies in the folder of its library. */
export function installedBuild(): EngineBuildName | null {
  if (!isEngineInstalled()) return null;
  const folder = path.basename(path.dirname(path.dirname(realpathSync(bindingPath()))));
  return ENGINE_BUILD_NAMES.find((name) => folder === folderOf(ENGINE_BUILDS[name].wheel)) ?? 'cpu';
}

/**
 * What a process that runs the engine must be started with under the CUDA build; empty for the CPU build.
 * The loader reads its path once, at the start of a process: setting it later changes nothing.
 */
export function engineLibraryEnv(): Readonly<Record<string, string>> {
  const name = installedBuild();
  if (name === null || ENGINE_BUILDS[name].cudaWheels.length === 0) return {};
  const folders = ENGINE_BUILDS[name].cudaWheels.map(({ folder }) =>
    path.join(installedDir(), 'nvidia', folder, 'lib'),
  );
  const known = process.env['LD_LIBRARY_PATH'];
  return {
    LD_LIBRARY_PATH: [...folders, ...(known === undefined || known === '' ? [] : [known])].join(':'),
    // Of a GPU, what is used and no more: TensorFlow takes all of its memory at the start otherwise.
    TF_FORCE_GPU_ALLOW_GROWTH: 'true',
    // NVIDIA's libraries round float32 to TF32 (10 bits of mantissa) in convolutions and products otherwise. FLOAT32 is
    // to mean float32, as on the CPU; who wants the speed of fewer bits asks for BFLOAT16, and the run says so.
    NVIDIA_TF32_OVERRIDE: '0',
  };
}

/**
 * Names of the CUDA libraries that the linked build needs and that are not in its folder, with the package that brings
 * each.
 */
export function missingEngineLibraries(): string[] {
  const name = installedBuild();
  return name === null ? [] : missingCudaLibraries(installedDir(), ENGINE_BUILDS[name].cudaWheels);
}

function installedDir(): string {
  return path.dirname(path.dirname(realpathSync(bindingPath())));
}

function folderOf(wheel: EngineWheel): string {
  return `${wheel.package}-${wheel.version}`;
}

/** The command that brings the engine, for every message that misses it. */
export const ENGINE_INSTALL_COMMAND = 'npm run engine';

/**
 * Makes a build loadable: nothing when it is linked, a link when the cache holds it, else download and build.
 *
 * @param cacheDir an absolute folder outside `node_modules`, shared by every clone of this machine.
 * @throws EngineLibraryError when python3, pip, g++ or room on the disk is missing, a download fails or the sha256
 * differs.
 */
export async function ensureEngineLibrary(
  cacheDir: string,
  name: EngineBuildName,
  onProgress: (progress: EngineProgress) => void,
): Promise<void> {
  if (installedBuild() === name && missingEngineLibraries().length === 0) return;
  const build = ENGINE_BUILDS[name];
  if (process.platform !== 'linux' || process.arch !== 'x64') {
    throw new EngineLibraryError(
      `There is no engine build for ${process.platform}-${process.arch}.`,
      'Run the worker on Linux x86-64; the registry itself works without an engine.',
    );
  }
  const versionDir = path.join(cacheDir, folderOf(build.wheel));
  const hasTensorflow = existsSync(path.join(versionDir, 'lib', LIBRARY_FILES[0] ?? ''));
  const hasCuda = missingCudaLibraries(versionDir, build.cudaWheels).length === 0;
  if (!hasTensorflow || !hasCuda) await requireRoom(cacheDir, build);
  if (!hasTensorflow) await fetchLibraries(build.wheel, versionDir, onProgress);
  if (!hasCuda) await fetchCudaLibraries(build.cudaWheels, versionDir, onProgress);
  const binding = path.join(versionDir, bindingFolder(), 'tfjs_binding.node');
  if (!existsSync(binding)) await compileBinding(versionDir, binding, onProgress);
  await linkBinding(binding);
  onProgress({ message: `TensorFlow ${build.wheel.version} for ${build.device} is ready`, fraction: 1 });
}

/** Room for NVIDIA's wheels and what is kept of them: an estimate on the safe side. */
const CUDA_MEGABYTES = 5_000;

/** A download that fills the disk takes everybody's work with it. */
async function requireRoom(cacheDir: string, { wheel, cudaWheels }: EngineBuild): Promise<void> {
  await mkdir(cacheDir, { recursive: true });
  const neededMegabytes = wheel.megabytes + wheel.unpackedMegabytes + (cudaWheels.length === 0 ? 0 : CUDA_MEGABYTES);
  const { bavail, bsize } = await statfs(cacheDir);
  const freeMegabytes = Math.floor((bavail * bsize) / 1e6);
  if (freeMegabytes < neededMegabytes) {
    throw new EngineLibraryError(
      `The engine needs ${neededMegabytes} MB where it is kept, and ${freeMegabytes} MB are free.`,
      'Make room, or set PARAFFIN_ENGINE_CACHE_DIR to a folder on another disk.',
    );
  }
}

function tfjsVersion(): string {
  const manifest: unknown = require('@tensorflow/tfjs-node-gpu/package.json');
  if (
    typeof manifest === 'object' &&
    manifest !== null &&
    'version' in manifest &&
    typeof manifest.version === 'string'
  )
    return manifest.version;
  return 'unknown';
}

/**
 * Downloads and unpacks beside the final folder and renames at the end: an interrupted fetch leaves no half library.
 */
async function fetchLibraries(
  wheel: EngineWheel,
  versionDir: string,
  onProgress: (progress: EngineProgress) => void,
): Promise<void> {
  await mkdir(path.dirname(versionDir), { recursive: true });
  await sweepAbandoned(path.dirname(versionDir));
  const workDir = await mkdtemp(path.join(path.dirname(versionDir), 'fetch-'));
  try {
    const wheelPath = await downloadWheel(wheel, workDir, onProgress);
    await verifySha256(wheelPath, wheel.sha256, onProgress);
    const unpacked = path.join(workDir, 'unpacked');
    await mkdir(path.join(unpacked, 'lib'), { recursive: true });
    await unpackWheel(
      wheelPath,
      (fileName) => unpackTarget(fileName, unpacked),
      (bytes) => onProgress({ message: 'unpacking', fraction: Math.min(1, bytes / (wheel.unpackedMegabytes * 1e6)) }),
    );
    await rename(unpacked, versionDir).catch((cause: unknown) => {
      // Another clone finished the same fetch first; its folder is as good as ours.
      if (!existsSync(path.join(versionDir, 'lib'))) throw cause;
    });
  } finally {
    await rm(workDir, { recursive: true, force: true });
  }
}

/** Removes what a killed fetch of more than a day ago left behind. */
async function sweepAbandoned(cacheDir: string): Promise<void> {
  const oneDayMs = 24 * 60 * 60 * 1000;
  for (const name of await readdir(cacheDir)) {
    if (!name.startsWith('fetch-')) continue;
    const folder = path.join(cacheDir, name);
    const { mtimeMs } = await stat(folder);
    if (Date.now() - mtimeMs > oneDayMs) await rm(folder, { recursive: true, force: true });
  }
}

async function downloadWheel(
  wheel: EngineWheel,
  workDir: string,
  onProgress: (progress: EngineProgress) => void,
): Promise<string> {
  const [file] = await pipDownload(
    {
      requirements: [`${wheel.package}==${wheel.version}`],
      platforms: [wheel.platform],
      pythonVersion: wheel.pythonVersion,
      what: `${wheel.package} ${wheel.version} (${wheel.megabytes} MB)`,
    },
    workDir,
    onProgress,
  );
  if (file === undefined)
    throw new EngineLibraryError(
      'pip ended without a wheel.',
      `Run "${ENGINE_INSTALL_COMMAND}" again and read what pip prints.`,
    );
  return file;
}

/**
 * NVIDIA's libraries into `nvidia/<part>/lib` of the version's folder, which the loader is pointed to. Their versions
 * are pinned; that the bytes are the index's is for pip to check.
 * @throws EngineLibraryError that names each library that did not come, and its package.
 */
export async function fetchCudaLibraries(
  wheels: readonly CudaWheel[],
  versionDir: string,
  onProgress: (progress: EngineProgress) => void,
): Promise<void> {
  const workDir = await mkdtemp(path.join(path.dirname(versionDir), 'fetch-'));
  try {
    const requirements = wheels.map((wheel) => `${wheel.package}==${wheel.version}`);
    const files = await pipDownload(
      {
        requirements,
        platforms: ['manylinux_2_27_x86_64', 'manylinux2014_x86_64', 'manylinux1_x86_64'],
        pythonVersion: '3.11',
        what: `CUDA libraries (${wheels.length} packages, about 2 GB)`,
      },
      workDir,
      onProgress,
    );
    const unpacked = path.join(workDir, 'unpacked');
    for (const [index, file] of files.entries()) {
      onProgress({ message: `unpacking ${path.basename(file)}`, fraction: index / files.length });
      await unpackWheel(
        file,
        (fileName) => cudaTarget(fileName, unpacked),
        () => undefined,
      );
    }
    const missing = missingCudaLibraries(unpacked, wheels);
    if (missing.length > 0)
      throw new EngineLibraryError(
        `The packages came without ${missing.join(', ')}.`,
        `Report it, and use the CPU meanwhile: "${ENGINE_INSTALL_COMMAND} -- --build cpu".`,
      );
    await rm(path.join(versionDir, 'nvidia'), { recursive: true, force: true });
    await rename(path.join(unpacked, 'nvidia'), path.join(versionDir, 'nvidia'));
  } finally {
    await rm(workDir, { recursive: true, force: true });
  }
}

/** Only libraries, and never a path that climbs out of the folder. */
function cudaTarget(fileName: string, targetDir: string): string | undefined {
  return /^nvidia\/[a-z_]+\/lib\/lib[A-Za-z0-9_.-]+$/.test(fileName) && !fileName.includes('..')
    ? path.join(targetDir, fileName)
    : undefined;
}

/** Each as `libcudnn.so.9 (nvidia-cudnn-cu12)`. */
export function missingCudaLibraries(versionDir: string, wheels: readonly CudaWheel[]): string[] {
  return wheels.flatMap((wheel) =>
    wheel.libraries
      .filter((library) => !existsSync(path.join(versionDir, 'nvidia', wheel.folder, 'lib', library)))
      .map((library) => `${library} (${wheel.package})`),
  );
}

interface PipDownload {
  readonly requirements: readonly string[];
  readonly platforms: readonly string[];
  readonly pythonVersion: string;
  /** For the line of progress. */
  readonly what: string;
}

/** The wheels as files in a folder of their own below `workDir`. */
async function pipDownload(
  { requirements, platforms, pythonVersion, what }: PipDownload,
  workDir: string,
  onProgress: (progress: EngineProgress) => void,
): Promise<string[]> {
  const wheelDir = path.join(workDir, 'wheel');
  await mkdir(wheelDir);
  const startedAt = Date.now();
  const ticker = setInterval(() => {
    void bytesBelow(workDir).then((bytes) => {
      const seconds = Math.round((Date.now() - startedAt) / 1000);
      onProgress({ message: `downloading ${what}: ${(bytes / 1e6).toFixed(0)} MB after ${seconds} s` });
    });
  }, 500);
  onProgress({ message: `downloading ${what} with pip` });
  try {
    await runTool(
      'python3',
      [
        '-m',
        'pip',
        'download',
        ...requirements,
        '--no-deps',
        '--only-binary=:all:',
        '--python-version',
        pythonVersion,
        ...platforms.flatMap((platform) => ['--platform', platform]),
        '--retries',
        '1',
        '--disable-pip-version-check',
        '--no-cache-dir',
        '--progress-bar',
        'off',
        '-d',
        wheelDir,
      ],
      workDir,
    );
  } finally {
    clearInterval(ticker);
  }
  return (await readdir(wheelDir))
    .filter((name) => name.endsWith('.whl'))
    .sort()
    .map((name) => path.join(wheelDir, name));
}

/** pip writes to TMPDIR first, which we point into the work folder: its size is the progress. */
async function bytesBelow(folder: string): Promise<number> {
  let bytes = 0;
  const entries = await readdir(folder, { recursive: true, withFileTypes: true }).catch(() => []);
  for (const entry of entries) {
    if (!entry.isFile()) continue;
    bytes += await stat(path.join(entry.parentPath, entry.name)).then(
      (facts) => facts.size,
      () => 0,
    );
  }
  return bytes;
}

async function verifySha256(
  file: string,
  expected: string,
  onProgress: (progress: EngineProgress) => void,
): Promise<void> {
  onProgress({ message: 'checking sha256' });
  const hash = createHash('sha256');
  await pipeline(createReadStream(file), hash);
  const found = hash.digest('hex');
  if (found !== expected) {
    throw new EngineLibraryError(
      `The TensorFlow wheel has sha256 ${found}, expected ${expected}.`,
      'It was left out of the cache. Check where pip downloads from, then run the command again.',
    );
  }
}

/** @param targetOf where a file of the wheel goes; undefined leaves it out. */
async function unpackWheel(
  wheelPath: string,
  targetOf: (fileName: string) => string | undefined,
  onBytes: (bytes: number) => void,
): Promise<void> {
  const zip = await promisify<string, yauzl.Options, yauzl.ZipFile>(yauzl.open)(wheelPath, { lazyEntries: true });
  const openEntry = promisify<yauzl.Entry, NodeJS.ReadableStream>(zip.openReadStream.bind(zip));
  let unpackedBytes = 0;
  await new Promise<void>((resolve, reject) => {
    zip.on('error', reject);
    zip.on('end', resolve);
    zip.on('entry', (entry: yauzl.Entry) => {
      const target = targetOf(entry.fileName);
      if (target === undefined) {
        zip.readEntry();
        return;
      }
      const extract = async (): Promise<void> => {
        await mkdir(path.dirname(target), { recursive: true });
        const source = await openEntry(entry);
        source.on('data', (chunk: Buffer) => {
          const before = unpackedBytes;
          unpackedBytes += chunk.length;
          if (Math.floor(before / 2e7) !== Math.floor(unpackedBytes / 2e7)) onBytes(unpackedBytes);
        });
        await pipeline(source, createWriteStream(target));
        zip.readEntry();
      };
      extract().catch(reject);
    });
    zip.readEntry();
  });
}

/** Only what the binding needs, and never a path that climbs out of the folder. */
function unpackTarget(fileName: string, targetDir: string): string | undefined {
  if (fileName.endsWith('/') || fileName.includes('..')) return undefined;
  const library = LIBRARY_FILES.find((name) => fileName === `tensorflow/${name}`);
  if (library !== undefined) return path.join(targetDir, 'lib', library);
  if (fileName === 'tensorflow/THIRD_PARTY_NOTICES.txt') return path.join(targetDir, 'THIRD_PARTY_NOTICES.txt');
  if (HEADER_PREFIXES.some((prefix) => fileName.startsWith(prefix)))
    return path.join(targetDir, fileName.slice('tensorflow/'.length));
  return undefined;
}

async function compileBinding(
  versionDir: string,
  binding: string,
  onProgress: (progress: EngineProgress) => void,
): Promise<void> {
  onProgress({ message: 'compiling the binding and our ops with g++ (about 15 s)' });
  const sourceDir = path.join(tfjsPackageDir(), 'binding');
  const libDir = path.join(versionDir, 'lib');
  const nodeHeaders: unknown = require('node-api-headers');
  const nodeInclude =
    typeof nodeHeaders === 'object' &&
    nodeHeaders !== null &&
    'include_dir' in nodeHeaders &&
    typeof nodeHeaders.include_dir === 'string'
      ? nodeHeaders.include_dir
      : path.join(path.dirname(require.resolve('node-api-headers/package.json')), 'include');
  await mkdir(path.dirname(binding), { recursive: true });
  const temporary = `${binding}.${process.pid}`;
  await runTool(
    'g++',
    [
      '-shared',
      '-fPIC',
      '-O3',
      '-std=c++17',
      '-DNAPI_VERSION=8',
      '-w',
      `-I${sourceDir}`,
      `-I${nodeInclude}`,
      `-I${path.join(versionDir, 'include')}`,
      path.join(sourceDir, 'tfjs_backend.cc'),
      path.join(sourceDir, 'tfjs_binding.cc'),
      ...nativeFiles()
        .filter((name) => name.endsWith('.cc'))
        .map((name) => path.join(NATIVE_DIR, name)),
      `-L${libDir}`,
      '-l:libtensorflow_cc.so.2',
      '-l:libtensorflow_framework.so.2',
      // From where the binding lies: a cache that was copied or mounted elsewhere still finds its library.
      '-Wl,-rpath,$ORIGIN/../lib',
      '-o',
      temporary,
    ],
    versionDir,
  );
  await rename(temporary, binding);
}

async function linkBinding(binding: string): Promise<void> {
  const target = bindingPath();
  await mkdir(path.dirname(target), { recursive: true });
  await unlink(target).catch(() => undefined);
  await symlink(binding, target).catch((cause: unknown) => {
    if (!existsSync(target)) throw cause;
  });
}

/**
 * Runs a machine's tool with its temporary files in our folder; a missing tool is named, with the package that brings
 * it.
 */
async function runTool(command: string, args: readonly string[], workDir: string): Promise<void> {
  await run('sh', ['-c', `command -v ${command}`]).catch((cause: unknown) => {
    throw new EngineLibraryError(`${command} is not installed.`, 'On Debian: apt-get install python3-pip g++', {
      cause,
    });
  });
  await new Promise<void>((resolve, reject) => {
    const child = spawn(command, args, { env: { ...process.env, TMPDIR: workDir }, stdio: ['ignore', 'pipe', 'pipe'] });
    let tail = '';
    const keep = (chunk: Buffer): void => {
      tail = (tail + chunk.toString('utf8')).slice(-4000);
    };
    child.stdout.on('data', keep);
    child.stderr.on('data', keep);
    child.on('error', reject);
    child.on('close', (code) => {
      if (code === 0) resolve();
      else
        reject(
          new EngineLibraryError(
            `${command} ended with ${code ?? 'a signal'}:\n${tail}`,
            `Mend that, then run "${ENGINE_INSTALL_COMMAND}" again.`,
          ),
        );
    });
  });
}
