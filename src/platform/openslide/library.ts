/**
 * The library that reads whole slides: OpenSlide from PyPI's `openslide-bin`, which holds one self-contained library,
 * in the cache beside the engine; else the system's.
 */
import { existsSync } from 'node:fs';
import path from 'node:path';
import type { EngineWheel } from '../engine/builds.ts';
import { EngineLibraryError, type EngineProgress } from '../engine/tools.ts';
import { fetchWheel } from '../engine/wheels.ts';

/**
 * 4.0.1 is the first version without two known memory-safety faults (CVE-2026-48977, CVE-2026-54604) in readers of
 * crafted files.
 */
export const OPENSLIDE_WHEEL: EngineWheel = {
  package: 'openslide-bin',
  version: '4.0.1.2',
  sha256: '8ac4aa3a2277ed5e218ca0019db65bdd6e853f865eb4edd3da00e2f4acf0c923',
  platform: 'manylinux_2_28_x86_64',
  pythonVersion: '3.11',
  megabytes: 3,
  unpackedMegabytes: 7,
};

/** The command that fetches the library, named by every message about a missing one. */
export const OPENSLIDE_INSTALL_COMMAND = 'paraffin slides install';

export interface OpenSlideLibrary {
  /** Absolute path of the shared library. */
  readonly file: string;
  /** WHEEL: the pinned version. SYSTEM: what the machine has, of any version. */
  readonly source: 'WHEEL' | 'SYSTEM';
}

const WHEEL_LIBRARY = 'libopenslide.so.1';
/** OpenSlide 4 and 3. */
const SYSTEM_NAMES = ['libopenslide.so.1', 'libopenslide.so.0'];
const SYSTEM_FOLDERS = [
  ...['/usr/local/lib', '/usr/lib/x86_64-linux-gnu', '/usr/lib/aarch64-linux-gnu'],
  ...['/usr/lib64', '/usr/lib', '/lib/x86_64-linux-gnu', '/lib64'],
];

/**
 * The library that would be used now; null if there is none. Downloads nothing.
 * @param cacheDir the engine's cache.
 * @param systemFolders where the system's library is looked for.
 */
export function findOpenSlide(
  cacheDir: string,
  systemFolders: readonly string[] = SYSTEM_FOLDERS,
): OpenSlideLibrary | null {
  const cached = path.join(folderIn(cacheDir), 'lib', WHEEL_LIBRARY);
  if (existsSync(cached)) return { file: cached, source: 'WHEEL' };
  for (const name of SYSTEM_NAMES) {
    for (const folder of systemFolders) {
      const file = path.join(folder, name);
      if (existsSync(file)) return { file, source: 'SYSTEM' };
    }
  }
  return null;
}

/**
 * The pinned library, downloaded with pip if it is not in the cache; else the system's.
 * @throws EngineLibraryError if neither can be had.
 */
export async function ensureOpenSlide(
  cacheDir: string,
  onProgress: (progress: EngineProgress) => void,
  systemFolders: readonly string[] = SYSTEM_FOLDERS,
): Promise<OpenSlideLibrary> {
  const found = findOpenSlide(cacheDir, systemFolders);
  if (found?.source === 'WHEEL') return found;
  try {
    if (process.platform !== 'linux' || process.arch !== 'x64')
      throw new EngineLibraryError(`No wheel of OpenSlide is pinned for ${process.platform}-${process.arch}.`, '');
    await fetchWheel(OPENSLIDE_WHEEL, folderIn(cacheDir), unpackTarget, onProgress);
  } catch (error) {
    if (!(error instanceof EngineLibraryError)) throw error;
    if (found !== null) return found;
    throw new EngineLibraryError(
      `OpenSlide, which reads whole slides, could not be installed: ${error.message}`,
      `Run "${OPENSLIDE_INSTALL_COMMAND}" where pip reaches its index (Debian: apt-get install python3-pip), or install the system's library (Debian: apt-get install libopenslide0).`,
      { cause: error },
    );
  }
  const installed = findOpenSlide(cacheDir, systemFolders);
  if (installed === null) throw new Error('The wheel of OpenSlide holds no library.');
  return installed;
}

function folderIn(cacheDir: string): string {
  return path.join(cacheDir, `${OPENSLIDE_WHEEL.package}-${OPENSLIDE_WHEEL.version}`);
}

/** The library and the licences that it must come with; rejects paths that leave the folder. */
function unpackTarget(fileName: string, folder: string): string | undefined {
  if (fileName.endsWith('/') || fileName.includes('..')) return undefined;
  if (fileName === `openslide_bin/${WHEEL_LIBRARY}`) return path.join(folder, 'lib', WHEEL_LIBRARY);
  const licence = /^openslide_bin-[^/]+\.dist-info\/licenses\/(.+)$/.exec(fileName)?.[1];
  return licence === undefined ? undefined : path.join(folder, 'licenses', licence);
}
