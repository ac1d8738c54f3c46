/** The server's program: starts every part in order, and stops them in the reverse order. */
import { createHash, randomBytes } from 'node:crypto';
import { readdir, rm } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { hostname } from 'node:os';
import path from 'node:path';
import { createHttpServer } from './api/http.ts';
import type { ApiContext, ServerFacts } from './api/context.ts';
import { DEFAULT_RATE_LIMITS } from './api/rate-limit.ts';
import { createRunEvents } from './api/run-events.ts';
import { buildSchema } from './api/schema.ts';
import { bindingWarning, createSenderReader } from './api/sender.ts';
import { DEFAULT_TIMEOUTS } from './api/slow-clients.ts';
import type { Environment } from './env.ts';
import { RUN_JOBS } from './jobs/index.ts';
import type { Logger } from './logger.ts';
import { claimArtifactStore, startSweeper } from './modules/artifacts/index.ts';
import { fillGroupCounts, loadCatalogue, seedCatalogue } from './modules/datasets/index.ts';
import { fillTensorDigests, loadPublishedCheckpoints, seedPublishedCheckpoints } from './modules/models/index.ts';
import { createHeardWorkers, createLedger, RUN_EVENTS_CHANNEL, startReaper } from './modules/runs/index.ts';
import { createWorkerDesk, removeUploadsOfLostRuns, type RunUploadPlaces } from './modules/workers/index.ts';
import { listenForAnnouncements } from './platform/announcements.ts';
import { openArtifactStore } from './platform/artifact-store/index.ts';
import { lockDataDir, makeDataDir } from './platform/data-dir-lock.ts';
import { databaseVersion, openDatabase, transactionsOf, type Database } from './platform/db.ts';
import { ENGINE_INSTALL_COMMAND, installedEngine, isEngineInstalled } from './platform/engine/installed.ts';
import { applyMigrations, MIGRATIONS_DIR, readMigrations } from './platform/migrate.ts';
import { startPostgres } from './platform/postgres.ts';
import { openQueue } from './platform/queue.ts';
import { programVersion } from './platform/program-version.ts';
import { sandboxKind } from './platform/sandbox.ts';
import { openUploadStore, type UploadStore } from './platform/upload-store.ts';
import { backUpBeforeUpgrade } from './platform/upgrade-backup.ts';
import { createLoaders, createServices } from './services.ts';
import { startWorkerProcess } from './worker-process.ts';

export interface App {
  /** `http://host:port`, with the port that is used. */
  readonly url: string;
  /** Holds the first ADMIN key. */
  readonly adminKeyFile: string;
  /** Stops cleanly: the worker keeps its state, requests finish, and the database stops last. Safe to call twice. */
  stop(): Promise<void>;
}

const PAGES_DIR = path.resolve(import.meta.dirname, '../web/dist');
const DRAIN_MS = 5_000;
const EXPIRE_UPLOADS_EVERY_MS = 600_000;

/**
 * Starts everything in order; if a step fails, the parts started before it are stopped.
 * @throws Error of the step that failed, among them DomainError CONFLICT for a data directory in use.
 */
export async function startApp(env: Environment, logger: Logger): Promise<App> {
  const startedAt = new Date();
  const closers: (() => Promise<void>)[] = [];
  let stopping: Promise<void> | undefined;
  const stop = (): Promise<void> => {
    stopping ??= closeAll(closers, logger);
    return stopping;
  };
  try {
    await makeDataDir(env.dataDir, ['imports']);
    const lock = await lockDataDir(env.dataDir);
    closers.push(lock.release);

    const databaseUrl = await databaseUrlOf(env, closers, logger);
    const applied = await applyMigrations(databaseUrl, await readMigrations(MIGRATIONS_DIR), async (pending) => {
      logger.info(
        { pending, file: await backUpBeforeUpgrade(databaseUrl, env.dataDir) },
        'the database is backed up and will be upgraded',
      );
    });
    if (applied.length > 0) logger.info({ applied }, 'migrations applied');
    // With those of the queue (3), announcements (1), the reaper (2), the workers (4), their claims (1) and the sweeper
    // (1) these are at most 20 connections, which `npm run load` counts.
    const db = openDatabase(databaseUrl, { maxConnections: 8, statementTimeoutMs: env.requestTimeoutMs });
    closers.push(() => db.$disconnect());
    logger.debug({ seeded: await seedCatalogue(db, await loadCatalogue()) }, 'catalogue');
    logger.debug(
      { seeded: await seedPublishedCheckpoints(db, await loadPublishedCheckpoints()) },
      'published checkpoints',
    );

    const queue = await openQueue({
      url: databaseUrl,
      jobs: Object.values(RUN_JOBS),
      onError: (error) => logger.warn({ error }, 'queue'),
    });
    closers.push(queue.close);
    const announcements = await listenForAnnouncements(databaseUrl, RUN_EVENTS_CHANNEL, (error) =>
      logger.warn({ error }, 'announcements'),
    );
    closers.push(announcements.close);

    const store = openArtifactStore(env.artifacts, writerOf(env));
    await store.upkeep.requireUsable();
    await claimArtifactStore({ db, store });
    const downloadsDir = path.join(env.dataDir, 'downloads');
    const interrupted = await interruptedFiles(env.dataDir);
    // Deletes partial downloads and artifacts of a killed server; no other server uses this data directory.
    await rm(downloadsDir, { recursive: true, force: true });
    await store.upkeep.removeUnfinished(writerOf(env));
    const uploads = await openUploadStore({ folder: path.join(env.dataDir, 'uploads'), maxBytes: env.maxUploadBytes });
    const services = createServices({
      db,
      transact: transactionsOf(db),
      queue,
      announcements,
      store,
      uploads,
      downloadsDir,
      importRoots: env.importRoots,
      engineCacheDir: env.engineCacheDir,
      dataDir: env.dataDir,
      requireAuth: env.requireAuth,
      sessionLifetimeMs: env.sessionLifetimeMs,
      allowPrivateUrls: env.allowPrivateUrls,
      engineHint,
    });
    closers.push(async () => services.slideTiles[Symbol.asyncDispose]());
    const { access, audit, runs } = services;
    if (lock.leftBehind !== undefined)
      logger.warn(lostWorkMessage(lock.leftBehind, { ...interrupted, ...(await runs.unfinishedWork()) }));
    await lock.note(startedAt.toISOString());
    const adminKey = await access.ensureAdminKey(path.join(env.dataDir, 'admin-key'));
    if (adminKey.kind === 'UNUSABLE') logger.warn(adminKey.hint);
    // The reaper has separate connections, so that client load does not delay the requeueing of runs.
    const reaperDb = openDatabase(databaseUrl, { maxConnections: 2, statementTimeoutMs: env.requestTimeoutMs });
    closers.push(() => reaperDb.$disconnect());
    const heard = createHeardWorkers();
    const reaperLedger = createLedger(reaperDb, transactionsOf(reaperDb));
    const reaper = startReaper({
      ledger: reaperLedger,
      serverId: serverIdOf(env),
      heard,
      onReaped: (expired) => logger.warn({ expired }, 'runs with expired leases were requeued'),
      onError: (error) => logger.warn({ error }, 'the check for expired leases failed'),
    });
    closers.push(reaper.stop);
    closers.push(expireUploads({ uploads, store, ledger: reaperLedger }, logger));
    closers.push(
      startSweeper({
        db: reaperDb,
        transact: transactionsOf(reaperDb),
        databaseUrl,
        store,
        onSwept: (deleted) =>
          logger.info(deleted, 'training states and embedding blocks that nothing needs any more were deleted'),
        onError: (error) =>
          logger.warn({ error }, 'the deletion of replaced training states and embedding blocks failed'),
      }),
    );
    closers.push(
      startBackgroundTask(
        (signal) =>
          fillTensorDigests(
            {
              db,
              transact: audit.transact,
              readArtifact: store.read,
              onUnreadable: (checkpointId, error) =>
                logger.warn(
                  { checkpointId, error },
                  'the weights of a checkpoint cannot be read, so copies of them are not recognised',
                ),
            },
            signal,
          ),
        (error) => logger.warn({ error }, 'digests of old checkpoints'),
      ),
      startBackgroundTask(
        (signal) =>
          fillGroupCounts(
            {
              db,
              transact: audit.transact,
              readArtifact: store.read,
              onUnreadable: (versionId, error) =>
                logger.warn(
                  { versionId, error },
                  'the manifest of a dataset version cannot be read, so its groups are not counted',
                ),
            },
            signal,
          ),
        (error) => logger.warn({ error }, 'groups of old dataset versions'),
      ),
    );
    const workersDb = openDatabase(databaseUrl, { maxConnections: 4, statementTimeoutMs: env.requestTimeoutMs });
    closers.push(() => workersDb.$disconnect());
    const claimsDb = openDatabase(databaseUrl, { maxConnections: 1, statementTimeoutMs: env.requestTimeoutMs });
    closers.push(() => claimsDb.$disconnect());
    const workerDesk = await createWorkerDesk({
      db: workersDb,
      transact: transactionsOf(workersDb),
      claimsDb,
      heard,
      store,
      queue,
      programVersion: programVersion(),
    });
    /** Lasts as long as this process, as its worker does. */
    const ownWorkerKey = randomBytes(32).toString('base64url');
    const server = serverFacts(db, startedAt);
    const runEvents = createRunEvents(runs, announcements);

    const http = createHttpServer({
      schema: buildSchema(false),
      contextFor: (request): ApiContext => ({ ...request, services, loaders: createLoaders(db), server, runEvents }),
      access,
      senderOf: createSenderReader(env),
      services,
      artifacts: store,
      workers: { desk: workerDesk, ownWorkerKey },
      redirectDownloads: env.redirectDownloads,
      uploads,
      isReady: async () => (await databaseVersion(db)) !== '',
      runCounts: () => runs.countByStatus(),
      pagesDir: PAGES_DIR,
      publicUrl: env.publicUrl,
      introspection: env.introspection,
      landingPage: env.landingPage,
      rateLimits: { ...DEFAULT_RATE_LIMITS, requestsPerMinute: env.rateLimitPerMinute },
      timeouts: { ...DEFAULT_TIMEOUTS, requestMs: env.requestTimeoutMs },
      logger,
    });
    const warning = bindingWarning(env.host, env.trustedProxies);
    if (warning !== undefined) logger.warn(warning);
    if ((await sandboxKind()) === 'NONE')
      logger.warn(
        'The kernel does not allow namespaces: only the permission model of Node confines the processes that read checkpoints and decode images.',
      );
    const { url } = await http.listen({ host: env.host, port: env.port });
    closers.push(() => http.drain(DRAIN_MS));
    closers.push(async () => workerDesk.close());

    if (env.withWorker) {
      const worker = startWorkerProcess({
        url: loopbackOf(url),
        key: ownWorkerKey,
        dataDir: env.dataDir,
        logLevel: env.logLevel,
        logger,
      });
      closers.push(worker.stop);
    }
    return {
      url,
      adminKeyFile: adminKey.file,
      stop,
    };
  } catch (error) {
    await stop();
    throw error;
  }
}

/** A server that listens on every address is reached on loopback by its own worker. */
function loopbackOf(url: string): string {
  return url.replace(/^http:\/\/(0\.0\.0\.0|\[::\])/, 'http://127.0.0.1');
}

async function databaseUrlOf(env: Environment, closers: (() => Promise<void>)[], logger: Logger): Promise<string> {
  if (env.databaseUrl !== undefined) return env.databaseUrl;
  const postgres = await startPostgres(path.join(env.dataDir, 'postgres'), {
    onDeath: () => logger.error('PostgreSQL died and is being restarted'),
    onRestart: () => logger.info('PostgreSQL is running again'),
  });
  closers.push(postgres.stop);
  return postgres.url;
}

/**
 * Names the server's unfinished files in the artifact store. A folder belongs to one server; a bucket may serve several
 * servers of one registry.
 */
function writerOf(env: Environment): string {
  return typeof env.artifacts === 'string' ? 'server' : `server-${serverIdOf(env)}`;
}

/** The same after a restart: a data directory belongs to one server at a time. */
function serverIdOf({ dataDir }: Environment): string {
  return createHash('sha256').update(`${hostname()}:${dataDir}`).digest('hex').slice(0, 16);
}

/** What to do if TensorFlow is missing; null if it is installed. */
function engineHint(): string | null {
  return isEngineInstalled() ? null : `Run "${ENGINE_INSTALL_COMMAND}" on the machine of the worker.`;
}

function serverFacts(db: Database, startedAt: Date): ServerFacts {
  const manifest: unknown = createRequire(import.meta.url)('../package.json');
  const version =
    typeof manifest === 'object' && manifest !== null && 'version' in manifest ? String(manifest.version) : 'unknown';
  return {
    version,
    startedAt,
    databaseVersion: () => databaseVersion(db),
    engine: installedEngine,
    engineHint,
  };
}

/** Starts the work in the background. @returns a function that stops it. */
function startBackgroundTask(
  work: (signal: AbortSignal) => Promise<unknown>,
  onError: (error: unknown) => void,
): () => Promise<void> {
  const stopping = new AbortController();
  const working = work(stopping.signal).then(() => undefined, onError);
  return async () => {
    stopping.abort();
    await working;
  };
}

interface InterruptedFiles {
  readonly fetchCount: number;
  readonly importCount: number;
}

/** Counts the partial files that the previous server left. */
async function interruptedFiles(dataDir: string): Promise<InterruptedFiles> {
  const countOf = async (...parts: readonly string[]): Promise<number> =>
    (await readdir(path.join(dataDir, ...parts)).catch(() => [])).length;
  return { fetchCount: await countOf('downloads'), importCount: await countOf('uploads', 'consumed') };
}

/** One log line on the work that was lost because the previous server did not stop cleanly. */
function lostWorkMessage(
  startedAt: string,
  work: InterruptedFiles & { readonly runCount: number; readonly unkeptStepCount: number },
): string {
  return [
    `The server that started at ${startedAt} was killed:`,
    `${work.runCount} runs were running and continue from their last kept state (${work.unkeptStepCount} training steps are repeated),`,
    `${work.fetchCount} downloads and ${work.importCount} imports of checkpoints were interrupted.`,
  ].join(' ');
}

/** Runs now and every ten minutes. @returns a function that stops it. */
function expireUploads(
  places: RunUploadPlaces & { readonly uploads: Pick<UploadStore, 'removeExpired'> },
  logger: Logger,
): () => Promise<void> {
  const expire = (): void => {
    Promise.all([places.uploads.removeExpired(), removeUploadsOfLostRuns(places)]).catch((error: unknown) =>
      logger.warn({ error }, 'expired uploads'),
    );
  };
  expire();
  const timer = setInterval(expire, EXPIRE_UPLOADS_EVERY_MS);
  return async () => clearInterval(timer);
}

/** Stops the parts in reverse order; a failure does not prevent the others from stopping. */
async function closeAll(closers: readonly (() => Promise<void>)[], logger: Logger): Promise<void> {
  for (const close of [...closers].reverse()) {
    await close().catch((error: unknown) => logger.error({ error }, 'a part did not stop cleanly'));
  }
}
