/** The worker process: env -> database and queue -> agent -> drain. */
import { hostname } from 'node:os';
import path from 'node:path';
import { RUN_JOBS } from '../src/jobs/index.ts';
import { readEnvironment } from '../src/env.ts';
import { DomainError } from '../src/errors.ts';
import { createLogger } from '../src/logger.ts';
import { requireArtifactStore } from '../src/modules/artifacts/index.ts';
import { createLedger, LEASE_SECONDS } from '../src/modules/runs/index.ts';
import { openArtifactStore } from '../src/platform/artifact-store/index.ts';
import { openDatabase, transactionsOf } from '../src/platform/db.ts';
import { ENGINE_INSTALL_COMMAND, installedEngine, isEngineInstalled } from '../src/platform/engine/installed.ts';
import { openQueue, type Queue } from '../src/platform/queue.ts';
import { createAgent } from './agent.ts';
import { untilDatabaseAnswers } from './database-patience.ts';
import { cpuDevices, gpuDevices } from './devices.ts';

const env = readEnvironment();
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
const queue = await untilDatabaseAnswers(openJobs, warn);
const workerName = env.workerName ?? `${hostname()}:${process.pid}`;
const agent = createAgent({
  ledger: createLedger(db, transactionsOf(db)),
  queue,
  store,
  logger,
  workerName,
  workDir: path.join(env.dataDir, 'work'),
  engineReady: isEngineInstalled,
  devices: installedEngine()?.device === 'GPU' ? gpuDevices() : cpuDevices(workerName, env.cpuSlots),
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

let leaving: Promise<void> | undefined;
const leave = (): Promise<void> => {
  leaving ??= (async () => {
    logger.info('the worker is draining');
    await agent.drain();
    await queue.close();
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
process.on('SIGTERM', leaveOnSignal);
// The server that started us has ended, perhaps while we were connecting and had no listener yet.
process.on('disconnect', leaveOnSignal);
if (process.connected === false) leaveOnSignal();

await agent.start();
process.send?.({ kind: 'READY' });
