/** `paraffin engine`: brings TensorFlow, with progress. */
import { readEnvironment } from '../env.ts';
import { ensureEngineLibrary, isEngineInstalled } from '../platform/engine-library.ts';
import { createStatusLine } from './terminal.ts';

export async function engine(): Promise<void> {
  if (isEngineInstalled()) {
    process.stdout.write('The engine is already there.\n');
    return;
  }
  await installEngine();
}

/** Brings the engine, showing progress on one line; nothing when it is there. */
export async function installEngine(): Promise<void> {
  const status = createStatusLine(process.stdout);
  await ensureEngineLibrary(readEnvironment().engineCacheDir, ({ message, fraction }) => {
    status.show(`engine: ${message}${fraction === undefined ? '' : ` ${Math.round(fraction * 100)} %`}`);
  });
  status.end();
}
