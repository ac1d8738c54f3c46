/** `paraffin engine`: brings TensorFlow, with progress. */
import { parseArgs } from 'node:util';
import { readEnvironment } from '../env.ts';
import { ensureEngineLibrary, isEngineInstalled } from '../platform/engine-library.ts';
import { createStatusLine } from './terminal.ts';

const HELP = `usage: npm run engine

Fetches TensorFlow 2.21 (274 MB) with pip, checks its sha256, compiles the Node binding with g++, and keeps both in
PARAFFIN_ENGINE_CACHE_DIR (default: ~/.cache/paraffin/engine), where every other clone finds them.
Needs python3 with pip, and g++ (Debian: apt-get install python3-pip g++).
`;

export async function engineCommand(args: string[]): Promise<number> {
  const { values } = parseArgs({ args, options: { help: { type: 'boolean', short: 'h' } } });
  if (values.help === true) {
    process.stdout.write(HELP);
    return 0;
  }
  if (isEngineInstalled()) {
    process.stdout.write('The engine is already there.\n');
    return 0;
  }
  await installEngine();
  return 0;
}

/** Brings the engine, showing progress on one line; nothing when it is there. */
export async function installEngine(): Promise<void> {
  const status = createStatusLine(process.stdout);
  await ensureEngineLibrary(readEnvironment().engineCacheDir, ({ message, fraction }) => {
    status.show(`engine: ${message}${fraction === undefined ? '' : ` ${Math.round(fraction * 100)} %`}`);
  });
  status.end();
}
