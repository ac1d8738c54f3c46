/** `paraffin engine`: brings TensorFlow, with progress. */
import { readEnvironment } from '../env.ts';
import { chooseEngineBuild, type EngineBuildName } from '../platform/engine-builds.ts';
import { ensureEngineLibrary, installedBuild, missingEngineLibraries } from '../platform/engine-library.ts';
import { createStatusLine } from './terminal.ts';

/** @param wanted the build to link; undefined takes the one for this machine's GPU, where one answers. */
export async function engine(wanted?: EngineBuildName): Promise<void> {
  const { build, why } = wanted === undefined ? await chooseEngineBuild() : { build: wanted, why: `The ${wanted} build, as asked.` };
  process.stdout.write(`${why}\n`);
  if (installedBuild() === build && missingEngineLibraries().length === 0) {
    process.stdout.write('It is already there.\n');
    return;
  }
  await bring(build);
}

/** Brings the engine, showing progress on one line; nothing when one is there, whichever it is. */
export async function installEngine(): Promise<void> {
  if (installedBuild() === null) await bring((await chooseEngineBuild()).build);
}

async function bring(build: EngineBuildName): Promise<void> {
  const status = createStatusLine(process.stdout);
  await ensureEngineLibrary(readEnvironment().engineCacheDir, build, ({ message, fraction }) => {
    status.show(`engine: ${message}${fraction === undefined ? '' : ` ${Math.round(fraction * 100)} %`}`);
  });
  status.end();
}
