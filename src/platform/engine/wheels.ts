/**
 * Downloads the wheels of TensorFlow and of NVIDIA's libraries with pip, and unpacks the files that the engine needs.
 */
import { createHash } from 'node:crypto';
import { createReadStream, createWriteStream, existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, rename, rm, stat } from 'node:fs/promises';
import path from 'node:path';
import { pipeline } from 'node:stream/promises';
import { promisify } from 'node:util';
import yauzl from 'yauzl';
import type { CudaWheel, EngineWheel } from './builds.ts';
import { ENGINE_INSTALL_COMMAND, missingCudaLibraries } from './installed.ts';
import { EngineLibraryError, runTool, type EngineProgress } from './tools.ts';

const LIBRARY_FILES = ['libtensorflow_cc.so.2', 'libtensorflow_framework.so.2'] as const;

/** Whether a version's folder contains TensorFlow. */
export function hasTensorflow(versionDir: string): boolean {
  return existsSync(path.join(versionDir, 'lib', LIBRARY_FILES[0]));
}

const HEADER_PREFIXES = [
  'tensorflow/c/',
  'tensorflow/core/platform/ctstring',
  'tsl/',
  'xla/tsl/c/',
  'xla/tsl/platform/',
].map((folder) => `tensorflow/include/${folder}`);

export async function fetchLibraries(
  wheel: EngineWheel,
  versionDir: string,
  onProgress: (progress: EngineProgress) => void,
): Promise<void> {
  await fetchWheel(wheel, versionDir, unpackTarget, onProgress);
}

/**
 * Downloads a wheel, checks its sha256 and unpacks some of its files into `versionDir`. Works in a temporary folder and
 * renames it at the end, so that an interrupted fetch leaves no incomplete library.
 * @param targetOf where below the folder a file of the wheel goes; undefined leaves it out. At least one goes to `lib`.
 * @throws EngineLibraryError if python3 or pip is missing, the download fails or the sha256 differs.
 */
export async function fetchWheel(
  wheel: EngineWheel,
  versionDir: string,
  targetOf: (fileName: string, folder: string) => string | undefined,
  onProgress: (progress: EngineProgress) => void,
): Promise<void> {
  await mkdir(path.dirname(versionDir), { recursive: true });
  await removeAbandoned(path.dirname(versionDir));
  const workDir = await mkdtemp(path.join(path.dirname(versionDir), 'fetch-'));
  try {
    const wheelPath = await downloadWheel(wheel, workDir, onProgress);
    await verifySha256(wheelPath, wheel, onProgress);
    const unpacked = path.join(workDir, 'unpacked');
    await mkdir(path.join(unpacked, 'lib'), { recursive: true });
    await unpackWheel(
      wheelPath,
      (fileName) => targetOf(fileName, unpacked),
      (bytes) => onProgress({ message: 'unpacking', fraction: Math.min(1, bytes / (wheel.unpackedMegabytes * 1e6)) }),
    );
    await rename(unpacked, versionDir).catch((cause: unknown) => {
      // Another clone finished the same fetch first; its folder is identical.
      if (!existsSync(path.join(versionDir, 'lib'))) throw cause;
    });
  } finally {
    await rm(workDir, { recursive: true, force: true });
  }
}

/** Removes files of killed fetches that are more than a day old. */
async function removeAbandoned(cacheDir: string): Promise<void> {
  const oneDayMs = 24 * 60 * 60 * 1000;
  for (const name of await readdir(cacheDir)) {
    if (!name.startsWith('fetch-')) continue;
    const folder = path.join(cacheDir, name);
    const { mtimeMs } = await stat(folder);
    if (Date.now() - mtimeMs > oneDayMs) await rm(folder, { recursive: true, force: true });
  }
}

/**
 * Downloads NVIDIA's wheels one after another, checks the sha256 of each, and unpacks their libraries into
 * `nvidia/<part>/lib` of the version's folder, which is on the loader's path. Earlier libraries stay until all are
 * there.
 * @throws EngineLibraryError as `fetchWheel`, and if a wheel lacks a library: it names the library and its package.
 */
export async function fetchCudaLibraries(
  wheels: readonly CudaWheel[],
  versionDir: string,
  onProgress: (progress: EngineProgress) => void,
): Promise<void> {
  const workDir = await mkdtemp(path.join(path.dirname(versionDir), 'fetch-'));
  try {
    const unpacked = path.join(workDir, 'unpacked');
    for (const [index, wheel] of wheels.entries()) {
      const report = ({ message }: EngineProgress): void =>
        onProgress({ message: `CUDA library ${index + 1} of ${wheels.length}: ${message}` });
      const file = await downloadWheel(wheel, workDir, report);
      await verifySha256(file, wheel, report);
      await unpackWheel(
        file,
        (fileName) => cudaTarget(fileName, unpacked),
        () => undefined,
      );
      await rm(file);
    }
    const missing = missingCudaLibraries(unpacked, wheels);
    if (missing.length > 0)
      throw new EngineLibraryError(
        `The downloaded packages lack ${missing.join(', ')}.`,
        `Report this, and use the CPU build meanwhile: "${ENGINE_INSTALL_COMMAND} -- --build cpu".`,
      );
    await rm(path.join(versionDir, 'nvidia'), { recursive: true, force: true });
    await rename(path.join(unpacked, 'nvidia'), path.join(versionDir, 'nvidia'));
  } finally {
    await rm(workDir, { recursive: true, force: true });
  }
}

/** Accepts only libraries, and rejects paths that leave the folder. */
function cudaTarget(fileName: string, targetDir: string): string | undefined {
  return /^nvidia\/[a-z_]+\/lib\/lib[A-Za-z0-9_.-]+$/.test(fileName) && !fileName.includes('..')
    ? path.join(targetDir, fileName)
    : undefined;
}

/** Downloads the wheel into a new folder below `workDir` with pip. */
async function downloadWheel(
  { package: name, version, platform, pythonVersion, megabytes }: EngineWheel,
  workDir: string,
  onProgress: (progress: EngineProgress) => void,
): Promise<string> {
  const wheelDir = await mkdtemp(path.join(workDir, 'wheel-'));
  const what = `${name} ${version} (${megabytes} MB)`;
  const startedAt = Date.now();
  const ticker = setInterval(() => {
    void bytesBelow(wheelDir).then((bytes) => {
      const seconds = Math.round((Date.now() - startedAt) / 1000);
      onProgress({ message: `downloading ${what}: ${(bytes / 1e6).toFixed(0)} MB after ${seconds} s` });
    });
  }, 500);
  onProgress({ message: `downloading ${what} with pip` });
  try {
    await runTool(
      'python3',
      [
        ...['-m', 'pip', 'download', `${name}==${version}`, '--no-deps', '--only-binary=:all:'],
        ...['--python-version', pythonVersion, '--platform', platform],
        ...['--retries', '1', '--disable-pip-version-check', '--no-cache-dir', '--progress-bar', 'off', '-d', wheelDir],
      ],
      wheelDir,
    );
  } finally {
    clearInterval(ticker);
  }
  const file = (await readdir(wheelDir)).find((each) => each.endsWith('.whl'));
  if (file === undefined)
    throw new EngineLibraryError(
      'pip did not download a wheel.',
      `Run "${ENGINE_INSTALL_COMMAND}" again and read the output of pip.`,
    );
  return path.join(wheelDir, file);
}

/** pip writes to TMPDIR first; it is set to the wheel's folder, whose size then gives the progress. */
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
  { package: name, sha256: expected }: EngineWheel,
  onProgress: (progress: EngineProgress) => void,
): Promise<void> {
  onProgress({ message: 'checking sha256' });
  const hash = createHash('sha256');
  await pipeline(createReadStream(file), hash);
  const found = hash.digest('hex');
  if (found !== expected) {
    throw new EngineLibraryError(
      `The wheel of ${name} has sha256 ${found}, expected ${expected}.`,
      'The wheel was not put into the cache. Check the package index of pip, then run the command again.',
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

/** Accepts only files that the binding needs, and rejects paths that leave the folder. */
function unpackTarget(fileName: string, targetDir: string): string | undefined {
  if (fileName.endsWith('/') || fileName.includes('..')) return undefined;
  const library = LIBRARY_FILES.find((name) => fileName === `tensorflow/${name}`);
  if (library !== undefined) return path.join(targetDir, 'lib', library);
  if (fileName === 'tensorflow/THIRD_PARTY_NOTICES.txt') return path.join(targetDir, 'THIRD_PARTY_NOTICES.txt');
  if (HEADER_PREFIXES.some((prefix) => fileName.startsWith(prefix)))
    return path.join(targetDir, fileName.slice('tensorflow/'.length));
  return undefined;
}
