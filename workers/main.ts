/**
 * The worker process: env -> registry -> agent -> drain. With `--run ID` it is a one-shot worker, which takes that run
 * and ends with one of ONE_SHOT_EXIT. With `--beside-server` it runs on the server's machine with the server's data
 * folder: it reads import folders, and stored files in place.
 */
import { readFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { environmentOf } from '../src/env.ts';
import { DomainError, UnreachableCaseError } from '../src/errors.ts';
import { createLogger } from '../src/logger.ts';
import { openArtifactStore } from '../src/platform/artifact-store/index.ts';
import { ENGINE_INSTALL_COMMAND, installedEngine, isEngineInstalled } from '../src/platform/engine/installed.ts';
import { ONE_SHOT_EXIT } from '../src/protocol/one-shot.ts';
import { RUN_KINDS } from '../src/protocol/runs.ts';
import { createAgent, type CarriedRun } from './agent.ts';
import { cpuDevices, gpuDevices } from './devices.ts';
import { createWorkerRegistry } from './registry/http.ts';
import { untilRegistryAnswers } from './registry/patience.ts';

const { values: options } = parseArgs({
  options: {
    run: { type: 'string' },
    settings: { type: 'string' },
    url: { type: 'string' },
    'beside-server': { type: 'boolean' },
  },
});
const env = environmentOf(options.settings);
const logger = createLogger(env.logLevel, 'worker');
const { url: address = env.url } = options;
const isBesideServer = options['beside-server'] === true;
/** Where the server has written its first key. */
const keyFile = path.join(env.dataDir, 'admin-key');
const key =
  env.apiKey ?? (isBesideServer ? (await readFile(keyFile, 'utf8').catch(() => undefined))?.trim() : undefined);
if (address === undefined || key === undefined) {
  logger.fatal(
    'PARAFFIN_URL and PARAFFIN_API_KEY are not set: a worker needs the address of its registry, and a key that may WORK. "npm start" runs both.',
  );
  process.exit(2);
}
if (!isEngineInstalled())
  logger.warn(
    `The TensorFlow engine is missing: dataset imports run, and all other runs wait. "${ENGINE_INSTALL_COMMAND}" installs it.`,
  );

const url = address.replace(/\/+$/, '');
const registry = createWorkerRegistry({ url, token: key });
const refuse = (error: DomainError): void => {
  logger.fatal(`${error.message} ${error.hint ?? ''}`);
  process.exitCode = 2;
};
const artifactsDir = isBesideServer && typeof env.artifacts === 'string' ? env.artifacts : undefined;
const workerName = env.workerName ?? `${hostname()}:${process.pid}`;
const agent = createAgent({
  registry,
  store: artifactsDir === undefined ? undefined : openArtifactStore(artifactsDir),
  logger,
  workerName,
  // Folders of images are on the server's machine.
  kinds: env.workerKinds ?? RUN_KINDS.filter((kind) => kind !== 'IMPORT' || isBesideServer),
  workDir: path.join(env.dataDir, 'work'),
  engineReady: isEngineInstalled,
  devices: installedEngine()?.device === 'GPU' ? gpuDevices(env.visibleGpus) : cpuDevices(workerName, env.cpuSlots),
  offer: { longestSeconds: env.workerLongestSeconds ?? null, labels: env.workerLabels },
  stuckAfterMs: env.stuckAfterSeconds * 1000,
  onRefused: (error) => {
    refuse(error);
    leaveOnSignal();
  },
  child: {
    url,
    dataDir: env.dataDir,
    artifactsDir: artifactsDir ?? null,
    cacheDir: env.cacheDir,
    cacheBytes: env.cacheBytes,
    logLevel: env.logLevel,
    codeRevision: env.codeRevision ?? null,
  },
});

let leaving: Promise<void> | undefined;
const leave = (): Promise<void> => {
  leaving ??= (async () => {
    logger.info('the worker is draining');
    await agent.drain();
    // A one-shot worker ends with the outcome of its run.
    if (options.run !== undefined) return;
    process.exit();
  })();
  return leaving;
};
const leaveOnSignal = (): void => {
  leave().catch((error: unknown) => {
    logger.fatal({ error }, 'draining failed');
    process.exit(1);
  });
};
process.on('SIGINT', leaveOnSignal);
// From a scheduler whose time limit comes near. Without a listener Node would open its debugger at this signal.
process.on('SIGUSR1', leaveOnSignal);
process.on('SIGTERM', leaveOnSignal);
// The server that started us has ended, perhaps while we were connecting and had no listener yet.
process.on('disconnect', leaveOnSignal);
if (process.connected === false) leaveOnSignal();

const endRefused = (error: unknown): never => {
  if (!(error instanceof DomainError)) throw error;
  refuse(error);
  process.exit();
};
if (options.run === undefined) {
  await untilRegistryAnswers(() => registry.held([]), {
    onWait: (error) => logger.warn({ error, url }, 'the worker waits for the registry'),
  }).catch(endRefused);
  await agent.start().catch(endRefused);
  process.send?.({ kind: 'READY' });
} else {
  const carried = await agent.carry(options.run).catch(endRefused);
  if (!carried.isTaken) process.stderr.write(`${carried.reason}\n`);
  process.exit(exitCodeOf(carried));
}

function exitCodeOf(carried: CarriedRun): number {
  if (!carried.isTaken) return ONE_SHOT_EXIT.NOT_TAKEN;
  switch (carried.status) {
    case 'SUCCEEDED':
      return ONE_SHOT_EXIT.SUCCEEDED;
    case 'FAILED':
    case 'CANCELED':
      return ONE_SHOT_EXIT.RUN_NOT_SUCCEEDED;
    // The next worker may have it already.
    case 'QUEUED':
    case 'RUNNING':
    case 'CANCELING':
      return ONE_SHOT_EXIT.REQUEUED;
    default:
      throw new UnreachableCaseError(carried.status);
  }
}
