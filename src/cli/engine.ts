/** `paraffin engine`: installs TensorFlow, with progress. */
import { readEnvironment } from '../env.ts';
import { chooseEngineBuild, type EngineBuildName } from '../platform/engine/builds.ts';
import { ensureImageDecoder } from '../platform/engine/image-decoder.ts';
import { ensureEngineLibrary } from '../platform/engine/install.ts';
import { ENGINE_INSTALL_COMMAND, installedBuild, missingEngineLibraries } from '../platform/engine/installed.ts';
import { EngineLibraryError } from '../platform/engine/tools.ts';
import { createStatusLine } from './terminal.ts';

/**
 * @param wanted the build to link; undefined means the CUDA build if this machine has a usable GPU, else the CPU build.
 */
export async function engine(wanted?: EngineBuildName): Promise<void> {
  const { build, why } =
    wanted === undefined
      ? await chooseEngineBuild()
      : { build: wanted, why: `Using the ${wanted} build, as requested.` };
  process.stdout.write(`${why}\n`);
  if (installedBuild() === build && missingEngineLibraries().length === 0)
    process.stdout.write('It is already installed.\n');
  else await install(build);
  const note = await installImageDecoder();
  if (note !== null) process.stdout.write(`${note}\n`);
}

/**
 * Installs the engine for a command that needs it, with progress on one line; does nothing if it is installed. If the
 * CUDA build cannot be installed, it installs the CPU build.
 */
export async function installEngine(): Promise<void> {
  // Everything works without it, and "paraffin doctor" says if it is missing.
  await installImageDecoder();
  if (installedBuild() !== null) return;
  const { build } = await chooseEngineBuild();
  try {
    await install(build);
  } catch (error) {
    if (build === 'cpu' || !(error instanceof EngineLibraryError)) throw error;
    process.stdout.write(
      `The CUDA build could not be installed: ${error.message}\nInstalling the CPU build instead. "${ENGINE_INSTALL_COMMAND}" tries again for the GPU.\n`,
    );
    await install('cpu');
  }
}

async function install(build: EngineBuildName): Promise<void> {
  const status = createStatusLine(process.stdout);
  await ensureEngineLibrary(readEnvironment().engineCacheDir, build, ({ message, fraction }) => {
    status.show(`engine: ${message}${fraction === undefined ? '' : ` ${Math.round(fraction * 100)} %`}`);
  });
  status.end();
}

/** @returns what `ensureImageDecoder` returns. */
async function installImageDecoder(): Promise<string | null> {
  const status = createStatusLine(process.stdout);
  const note = await ensureImageDecoder(({ message }) => status.show(`engine: ${message}`));
  status.end();
  return note;
}
