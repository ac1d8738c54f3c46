/**
 * Installs the TensorFlow library under `@tensorflow/tfjs-node-gpu`.
 *
 * The npm package holds the JavaScript and the C++ source of its binding; its own installer downloads a library from a
 * bucket that is no longer available. The Python wheel of TensorFlow holds the same C API, so we download that with
 * pip, check its sha256, unpack two libraries and the C headers into a cache outside `node_modules`, and compile the
 * binding, with our own ops in it, with one g++ call. On a machine with a GPU we use the CUDA wheel, with NVIDIA's
 * libraries from the same index.
 */
import { existsSync } from 'node:fs';
import { mkdir, statfs } from 'node:fs/promises';
import path from 'node:path';
import { compileBinding, linkBinding } from './binding.ts';
import { ENGINE_BUILDS, type EngineBuild, type EngineBuildName } from './builds.ts';
import { bindingFolder, folderOf, installedBuild, missingCudaLibraries, missingEngineLibraries } from './installed.ts';
import { EngineLibraryError, type EngineProgress } from './tools.ts';
import { fetchCudaLibraries, fetchLibraries, hasTensorflow } from './wheels.ts';

/**
 * Makes a build loadable: does nothing if it is linked, links it if it is in the cache, else downloads and builds it.
 *
 * @param cacheDir an absolute folder outside `node_modules`, shared by every clone of this machine.
 * @throws EngineLibraryError if python3, pip or g++ is missing, disk space is short, a download fails or the sha256
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
      `The engine is not available for ${process.platform}-${process.arch}.`,
      'Run the worker on Linux x86-64; the registry itself works without an engine.',
    );
  }
  const versionDir = path.join(cacheDir, folderOf(build.wheel));
  const isFetched = hasTensorflow(versionDir);
  const hasCuda = missingCudaLibraries(versionDir, build.cudaWheels).length === 0;
  if (!isFetched || !hasCuda) await requireRoom(cacheDir, build);
  if (!isFetched) await fetchLibraries(build.wheel, versionDir, onProgress);
  if (!hasCuda) await fetchCudaLibraries(build.cudaWheels, versionDir, onProgress);
  const binding = path.join(versionDir, bindingFolder(), 'tfjs_binding.node');
  if (!existsSync(binding)) await compileBinding(versionDir, binding, onProgress);
  await linkBinding(binding);
  onProgress({ message: `TensorFlow ${build.wheel.version} for ${build.device} is ready`, fraction: 1 });
}

/** A download that filled the disk would stop every other program that writes to it. */
async function requireRoom(cacheDir: string, { wheel, cudaWheels }: EngineBuild): Promise<void> {
  await mkdir(cacheDir, { recursive: true });
  const wheels = [wheel, ...cudaWheels];
  const unpackedMegabytes = wheels.reduce((sum, each) => sum + each.unpackedMegabytes, 0);
  // One wheel is there at a time, and for a moment twice: pip moves it out of its temporary folder.
  const neededMegabytes = unpackedMegabytes + 2 * Math.max(...wheels.map(({ megabytes }) => megabytes));
  const { bavail, bsize } = await statfs(cacheDir);
  const freeMegabytes = Math.floor((bavail * bsize) / 1e6);
  if (freeMegabytes < neededMegabytes) {
    throw new EngineLibraryError(
      `The engine needs ${neededMegabytes} MB in its cache folder, but only ${freeMegabytes} MB are free.`,
      'Free some space, or set PARAFFIN_ENGINE_CACHE_DIR to a folder on another disk.',
    );
  }
}
