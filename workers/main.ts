/**
 * The worker process: env -> database and queue -> agent -> drain. With `--run ID` it is a one-shot worker, which takes
 * that run and ends with one of ONE_SHOT_EXIT.
 */
import { hostname } from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { RUN_JOBS } from '../src/jobs/index.ts';
import { environmentOf } from '../src/env.ts';
import { DomainError, UnreachableCaseError } from '../src/errors.ts';
import { createLogger } from '../src/logger.ts';
import { requireArtifactStore } from '../src/modules/artifacts/index.ts';
import { createLedger } from '../src/modules/runs/index.ts';
import { openArtifactStore } from '../src/platform/artifact-store/index.ts';
import { openDatabase, transactionsOf } from '../src/platform/db.ts';
import { ENGINE_INSTALL_COMMAND, installedEngine, isEngineInstalled } from '../src/platform/engine/installed.ts';
import { openQueue, type Queue } from '../src/platform/queue.ts';
import { ONE_SHOT_EXIT } from '../src/protocol/one-shot.ts';
import { createAgent, type CarriedRun } from './agent.ts';
import { untilDatabaseAnswers } from './database-patience.ts';
import { cpuDevices, gpuDevices } from './devices.ts';
import { LEASE_SECONDS, RUN_KINDS } from '../src/protocol/runs.ts';

const { values: options } = parseArgs({ options: { run: { type: 'string' }, settings: { type: 'string' } } });
const env = environmentOf(options.settings);
const logger = createLogger(env.logLevel, 'worker');
if (env.databaseUrl === undefined) {
  logger.fatal('PARAFFIN_DATABASE_URL is not set: a worker needs the database of its server. "npm start" runs both.');
  process.exit(2);
}
if (!isEngineInstalled())
  logger.warn(
    `The TensorFlow engine is missing: dataset imports run, and all other runs wait. "${ENGINE_INSTALL_COMMAND}" installs it.`,
  );

const { databaseUrl } = env;
/** Half a lease: one renewal may be lost in the silence of a database that fails over, and the next comes in time. */
const SILENCE_MS = (LEASE_SECONDS * 1000) / 2;
const db = openDatabase(databaseUrl, { maxConnections: 4, silenceTimeoutMs: SILENCE_MS });
const warn = (): void => logger.warn('the worker waits for the database');
const store = openArtifactStore(env.artifacts);
await untilDatabaseAnswers(() => requireArtifactStore({ db, store }), warn).catch((error: unknown) => {
  if (!(error instanceof DomainError)) throw error;
  logger.fatal(`${error.message} ${error.hint ?? ''}`);
  process.exit(2);
});
const openJobs = (): Promise<Queue> =>
  openQueue({
    url: databaseUrl,
    jobs: Object.values(RUN_JOBS),
    onError: (error) => logger.warn({ error }, 'queue'),
  });
const workerName = env.workerName ?? `${hostname()}:${process.pid}`;
const agent = createAgent({
  ledger: createLedger(db, transactionsOf(db)),
  store,
  logger,
  workerName,
  kinds: env.workerKinds ?? RUN_KINDS,
  workDir: path.join(env.dataDir, 'work'),
  engineReady: isEngineInstalled,
  devices: installedEngine()?.device === 'GPU' ? gpuDevices(env.visibleGpus) : cpuDevices(workerName, env.cpuSlots),
  stuckAfterMs: env.stuckAfterSeconds * 1000,
  child: {
    databaseUrl,
    dataDir: env.dataDir,
    artifacts: env.artifacts,
    cacheDir: env.cacheDir,
    cacheBytes: env.cacheBytes,
    logLevel: env.logLevel,
    codeRevision: env.codeRevision ?? null,
  },
});

let queue: Queue | undefined;
let leaving: Promise<void> | undefined;
const leave = (): Promise<void> => {
  leaving ??= (async () => {
    logger.info('the worker is draining');
    await agent.drain();
    // A one-shot worker ends with the outcome of its run.
    if (options.run !== undefined) return;
    await queue?.close();
    await db.$disconnect();
    process.exit(0);
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

if (options.run === undefined) {
  queue = await untilDatabaseAnswers(openJobs, warn);
  await agent.start(queue);
  process.send?.({ kind: 'READY' });
} else {
  const carried = await agent.carry(options.run);
  if (!carried.isTaken) process.stderr.write(`${carried.reason}\n`);
  await db.$disconnect();
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
