/**
 * Our own decoder of plain JPEGs and PNGs (native/decoder): an addon that is compiled when the engine is installed. It
 * needs the headers of libjpeg-turbo and libpng. Without it, sharp decodes every image to the same pixels, at a third
 * of the speed.
 */
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { mkdir, mkdtemp, rename, rm } from 'node:fs/promises';
import path from 'node:path';
import { ENGINE_INSTALL_COMMAND } from './installed.ts';
import { EngineLibraryError, nodeHeadersDir, runTool, type EngineProgress } from './tools.ts';

const PROJECT_ROOT = path.resolve(import.meta.dirname, '../../..');
const SOURCE_DIR = path.join(PROJECT_ROOT, 'native', 'decoder');
/** Sandboxed processes may read node_modules. */
const BUILD_DIR = path.join(PROJECT_ROOT, 'node_modules', '.cache');
/** Changed when the compilation changes. */
const REVISION = 1;
const PACKAGES = 'libjpeg62-turbo-dev libpng-dev';

let knownPath: string | undefined;

/** The path of the addon that fits the current sources, whether it is compiled or not. */
function addonPath(): string {
  if (knownPath === undefined) {
    const digest = createHash('sha256').update(`${REVISION}\0`);
    for (const file of sources())
      digest
        .update(`${path.basename(file)}\0`)
        .update(readFileSync(file))
        .update('\0');
    knownPath = path.join(BUILD_DIR, `image-decoder-${digest.digest('hex').slice(0, 12)}.node`);
  }
  return knownPath;
}

function sources(): string[] {
  return readdirSync(SOURCE_DIR)
    .filter((name) => /\.(?:cc|h)$/.test(name))
    .sort()
    .map((name) => path.join(SOURCE_DIR, name));
}

/** The compiled addon; null if this machine has none. */
export function imageDecoderAddon(): string | null {
  return existsSync(addonPath()) ? addonPath() : null;
}

/**
 * Compiles the addon unless it is there.
 * @returns what follows from its absence, what to do, and what the compiler said; null if it is there.
 */
export async function ensureImageDecoder(onProgress: (progress: EngineProgress) => void): Promise<string | null> {
  if (imageDecoderAddon() !== null) return null;
  onProgress({ message: 'compiling the image decoder with g++ (about 5 s)' });
  try {
    await compileImageDecoder(addonPath());
    return null;
  } catch (error) {
    if (error instanceof EngineLibraryError) return `${slowDecodingNote()}\n${error.message}`;
    throw error;
  }
}

/** What someone should know who works without the addon. */
export function slowDecodingNote(): string {
  return `JPEG and PNG images are decoded at a third of the possible speed, and patches of slides are cut more slowly, because our decoder could not be compiled. On Debian: apt-get install g++ ${PACKAGES}, then "${ENGINE_INSTALL_COMMAND}".`;
}

/** @throws EngineLibraryError if g++ or a header is missing. */
export async function compileImageDecoder(target: string): Promise<void> {
  await mkdir(path.dirname(target), { recursive: true });
  const folder = await mkdtemp(path.join(path.dirname(target), 'image-decoder-'));
  try {
    const compiled = path.join(folder, 'addon.node');
    await runTool(
      'g++',
      [
        ...['-shared', '-fPIC', '-O3', '-std=c++17', '-DNAPI_VERSION=8', '-DNODE_GYP_MODULE_NAME=image_decoder'],
        `-I${nodeHeadersDir()}`,
        ...sources().filter((file) => file.endsWith('.cc')),
        ...['-ljpeg', '-lpng', '-o', compiled],
      ],
      folder,
    );
    // Another process may compile it at the same time, or may already have loaded it.
    await rename(compiled, target);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
