/** The launcher process: checks the cluster once, then looks after its jobs until it is stopped. Jobs live on. */
import { chmod, mkdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { z } from 'zod';
import { childEnvironment, readEnvironment, workerSettings } from '../../src/env.ts';
import { createLogger } from '../../src/logger.ts';
import { launcherOptionsSchema, type LauncherOptions } from '../../src/protocol/launcher-options.ts';
import type { Launcher } from './launcher.ts';
import { createPlacementRegistry, RegistryError } from './registry.ts';
import { createRounds } from './rounds.ts';
import { createSlurm } from './slurm/index.ts';
import { createShell, type Shell } from './slurm/shell.ts';

const options = launcherOptionsSchema.parse(JSON.parse(z.string().parse(process.argv[2])));
const env = readEnvironment();
const logger = createLogger(env.logLevel, 'launcher');

function fail(message: string): never {
  process.stderr.write(`${message}\n`);
  process.exit(1);
}

const stopping = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => stopping.abort());

const shell = createShell(options, childEnvironment({}));
const launcher = await openLauncher();
for (const obstacle of await launcher.check()) fail(obstacle);
const registry = createPlacementRegistry({ ...options, key: env.apiKey ?? '', launcher: options.name });
if (options.checkOnly) {
  await registry.work(0).catch((error: unknown) => fail(error instanceof Error ? error.message : String(error)));
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

async function openLauncher(): Promise<Launcher> {
  return createSlurm({
    shell,
    template: {
      text: options.template === undefined ? '' : await readTemplate(options.template),
      paraffin: options.paraffin,
      settingsFile: options.settings ?? (await writeSettings(options, shell)),
      logFolder: options.folder,
      warnSeconds: options.warnSeconds,
    },
  });
}

async function readTemplate(file: string): Promise<string> {
  return readFile(file, 'utf8').catch((error: unknown) =>
    fail(`The template ${file} cannot be read: ${error instanceof Error ? error.message : String(error)}.`),
  );
}

/**
 * Hands over what `paraffin worker` needs, in a file that only its owner may read: neither a command line nor an
 * environment, which schedulers store and show.
 */
async function writeSettings({ folder, sshHost, url }: LauncherOptions, remote: Shell): Promise<string> {
  const file = path.posix.join(folder, 'worker.env');
  const text = Object.entries({ ...workerSettings(), PARAFFIN_URL: url })
    .map(([name, value]) => `${name}=${JSON.stringify(value)}\n`)
    .join('');
  if (sshHost === undefined) {
    await mkdir(folder, { recursive: true, mode: 0o700 });
    await writeFile(file, text, { mode: 0o600 });
    // The mode of a file that existed stays.
    await chmod(file, 0o600);
    return file;
  }
  const written = await remote.run(
    ['sh', '-c', 'umask 077 && mkdir -p "$1" && cat > "$1/worker.env" && chmod 600 "$1/worker.env"', 'sh', folder],
    { input: text },
  );
  if (written.exitCode !== 0)
    fail(
      `The login node ${sshHost} cannot be used: ${written.stderr.trim()} A launcher never asks for a password: open the connection first, with "ssh -M ${sshHost}".`,
    );
  return file;
}
