/**
 * The TensorFlow library that is linked into `@tensorflow/tfjs-node-gpu`, and the environment that its processes need.
 */
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, realpathSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { ENGINE_BUILD_NAMES, ENGINE_BUILDS, type CudaWheel, type EngineBuildName, type EngineWheel } from './builds.ts';

const require = createRequire(import.meta.url);

/** The command that installs the engine, named by every message about a missing one. */
export const ENGINE_INSTALL_COMMAND = 'npm run engine';

/** Increased when the compilation changes, so that an older binding in the cache is not reused. */
const BINDING_REVISION = 3;

/**
 * Our own ops in C++. They are compiled into the binding, so that they are registered whenever TensorFlow is loaded.
 */
const NATIVE_DIR = path.join(import.meta.dirname, '../../../native');

export function tfjsPackageDir(): string {
  return path.dirname(require.resolve('@tensorflow/tfjs-node-gpu/package.json'));
}

/** The path from which tfjs-node-gpu loads its native binding. */
export function bindingPath(): string {
  return path.join(tfjsPackageDir(), 'lib', 'napi-v8', 'tfjs_binding.node');
}

/**
 * True if the native binding exists and was compiled from the current sources, so that the engine can be loaded and
 * matches this program.
 */
export function isEngineInstalled(): boolean {
  return existsSync(bindingPath()) && path.basename(path.dirname(realpathSync(bindingPath()))) === bindingFolder();
}

let knownBindingFolder: string | undefined;

/**
 * The name contains a hash of all inputs of the binding: each version of our ops gets its own binding, and several
 * clones can share a cache.
 */
export function bindingFolder(): string {
  if (knownBindingFolder === undefined) {
    const digest = createHash('sha256');
    for (const file of nativeSources())
      digest
        .update(`${path.basename(file)}\0`)
        .update(readFileSync(file))
        .update('\0');
    knownBindingFolder = `binding-${tfjsVersion()}-r${BINDING_REVISION}-${digest.digest('hex').slice(0, 12)}`;
  }
  return knownBindingFolder;
}

/** Absolute paths of the C++ sources and headers of our own ops, sorted. */
export function nativeSources(): string[] {
  return readdirSync(NATIVE_DIR)
    .filter((name) => /\.(?:cc|h)$/.test(name))
    .sort()
    .map((name) => path.join(NATIVE_DIR, name));
}

export interface InstalledEngine {
  readonly library: string;
  readonly version: string;
  readonly device: 'CPU' | 'GPU';
}

/** The linked library, if any. Only workers load the engine itself. */
export function installedEngine(): InstalledEngine | null {
  const name = installedBuild();
  if (name === null) return null;
  const { device, wheel } = ENGINE_BUILDS[name];
  return { library: 'TensorFlow', version: wheel.version, device };
}

/** The linked build, found by the folder of the binding, which is that of its library. */
export function installedBuild(): EngineBuildName | null {
  if (!isEngineInstalled()) return null;
  const folder = path.basename(path.dirname(path.dirname(realpathSync(bindingPath()))));
  return ENGINE_BUILD_NAMES.find((name) => folder === folderOf(ENGINE_BUILDS[name].wheel)) ?? 'cpu';
}

/** The environment of a process that runs the engine with the linked build. */
export function engineLibraryEnv(): Readonly<Record<string, string>> {
  const name = installedBuild();
  if (name === null) return {};
  return libraryEnvOf(ENGINE_BUILDS[name].cudaWheels, installedDir(), process.env['LD_LIBRARY_PATH']);
}

/**
 * The environment of a process with the CUDA build; empty for the CPU build, which has no wheels of NVIDIA's. The
 * dynamic loader reads its path once, at the start of a process, so setting it later has no effect.
 * @param knownPath the loader's path so far.
 */
export function libraryEnvOf(
  cudaWheels: readonly CudaWheel[],
  versionDir: string,
  knownPath: string | undefined,
): Readonly<Record<string, string>> {
  if (cudaWheels.length === 0) return {};
  const folders = cudaWheels.map(({ folder }) => path.join(versionDir, 'nvidia', folder, 'lib'));
  return {
    LD_LIBRARY_PATH: [...folders, ...(knownPath === undefined || knownPath === '' ? [] : [knownPath])].join(':'),
    // Allocates GPU memory on demand: by default TensorFlow takes all of it at the start.
    TF_FORCE_GPU_ALLOW_GROWTH: 'true',
    // By default NVIDIA's libraries round float32 to TF32 (10 bits of mantissa) in convolutions and matrix products.
    // FLOAT32 must mean float32, as on the CPU; users who prefer speed choose BFLOAT16, which the run records.
    NVIDIA_TF32_OVERRIDE: '0',
    // The same config and seed must give the same checkpoint. By default TensorFlow adds up in whatever order the GPU's
    // threads come, and takes the convolution that was fastest in a trial at the start; with this it has one fixed
    // algorithm for each shape, and refuses an op that has none.
    TF_DETERMINISTIC_OPS: '1',
  };
}

/**
 * Names of the CUDA libraries that the linked build needs but that are missing from its folder, with the package that
 * provides each.
 */
export function missingEngineLibraries(): string[] {
  const name = installedBuild();
  return name === null ? [] : missingCudaLibraries(installedDir(), ENGINE_BUILDS[name].cudaWheels);
}

/** Each as `libcudnn.so.9 (nvidia-cudnn-cu12)`. */
export function missingCudaLibraries(versionDir: string, wheels: readonly CudaWheel[]): string[] {
  return wheels.flatMap((wheel) =>
    wheel.libraries
      .filter((library) => !existsSync(path.join(versionDir, 'nvidia', wheel.folder, 'lib', library)))
      .map((library) => `${library} (${wheel.package})`),
  );
}

function installedDir(): string {
  return path.dirname(path.dirname(realpathSync(bindingPath())));
}

/** The folder of a library in the cache. */
export function folderOf(wheel: EngineWheel): string {
  return `${wheel.package}-${wheel.version}`;
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
