/** The launcher process: checks the cluster once, then looks after its jobs until it is stopped. Jobs live on. */
import { readFile } from 'node:fs/promises';
import { setTimeout } from 'node:timers/promises';
import { z } from 'zod';
import { readEnvironment } from '../../src/env.ts';
import { createLogger } from '../../src/logger.ts';
import { launcherOptionsSchema } from '../../src/protocol/launcher-options.ts';
import { openLauncher } from './index.ts';
import { LauncherFault } from './launcher.ts';
import { createPlacementRegistry, RegistryError } from './registry.ts';
import { createRounds } from './rounds.ts';

const options = launcherOptionsSchema.parse(JSON.parse(z.string().parse(process.argv[2])));
const env = readEnvironment();
const logger = createLogger(env.logLevel, 'launcher');

function fail(error: unknown): never {
  if (!(error instanceof LauncherFault || error instanceof RegistryError)) throw error;
  process.stderr.write(`${error.message}\n`);
  process.exit(1);
}

const stopping = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => stopping.abort());

const key = await readKey(options.keyFile).catch(fail);
const launcher = await openLauncher(options, key).catch(fail);
const obstacles = await launcher.check();
if (obstacles.length > 0) fail(new LauncherFault(obstacles.join('\n')));
const registry = createPlacementRegistry({ ...options, key, launcher: options.name, labels: env.workerLabels });
if (options.checkOnly) {
  await checkKey().catch(fail);
  process.stdout.write('The cluster would take the jobs, and the server knows this launcher.\n');
  process.exit(0);
}
const rounds = createRounds({
  registry,
  launcher,
  logger,
  jobsMax: options.jobsMax,
});
logger.info({ launcher: options.name, registry: options.url }, 'the launcher places waiting runs');
while (!stopping.signal.aborted) {
  await rounds.next().catch((error: unknown) => {
    // The registry restarts, or the network is gone: jobs go on, and the next round finds them.
    if (error instanceof RegistryError) logger.warn({ error }, 'no round');
    else logger.error({ error }, 'the round failed');
  });
  await setTimeout(options.everySeconds * 1000, undefined, { signal: stopping.signal }).catch(() => undefined);
}
logger.info('the launcher has stopped; its jobs go on');

/** @throws LauncherFault if the key could not place runs, or if the workers that get it could not take them. */
async function checkKey(): Promise<void> {
  await registry.work(0);
  const actions = await registry.actions();
  const needed = ['READ', 'LAUNCH', ...(options.cluster.settings === undefined ? ['WORK'] : [])];
  const missing = actions === null ? [] : needed.filter((action) => !actions.includes(action));
  if (missing.length > 0)
    throw new LauncherFault(
      `The key may not ${missing.join(' and not ')}. Make one that may, with "paraffin keys add launcher --owner NAME --role operator --actions read,launch,work".`,
    );
}

async function readKey(file: string | undefined): Promise<string> {
  if (file === undefined) return env.apiKey ?? '';
  return readFile(file, 'utf8').then(
    (text) => text.trim(),
    (error: unknown) => {
      throw new LauncherFault(`The key cannot be read: ${error instanceof Error ? error.message : String(error)}.`);
    },
  );
}
