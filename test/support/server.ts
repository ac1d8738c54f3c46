/**
 * The whole server except the embedded database and the worker: real schema, services, queue and HTTP over a test
 * database.
 */
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createHttpServer, type HttpServer, type HttpServerOptions } from '../../src/api/http.ts';
import { createRunEvents } from '../../src/api/run-events.ts';
import { buildSchema } from '../../src/api/schema.ts';
import { createSenderReader } from '../../src/api/sender.ts';
import type { Services } from '../../src/api/context.ts';
import { readEnvironment } from '../../src/env.ts';
import { RUN_JOBS } from '../../src/jobs/index.ts';
import { createLogger } from '../../src/logger.ts';
import type { AccessService } from '../../src/modules/access/index.ts';
import type { ExportPatience } from '../../src/modules/exports/index.ts';
import { createHeardWorkers, RUN_EVENTS_CHANNEL } from '../../src/modules/runs/index.ts';
import { createWorkerDesk } from '../../src/modules/workers/index.ts';
import { listenForAnnouncements } from '../../src/platform/announcements.ts';
import { openArtifactStore, type ArtifactStore } from '../../src/platform/artifact-store/index.ts';
import { openQueue } from '../../src/platform/queue.ts';
import { openUploadStore, type UploadStore } from '../../src/platform/upload-store.ts';
import { createLoaders, createServices } from '../../src/services.ts';
import { artifactPlaceOf } from './artifact-place.ts';
import { rawFilesOf, type RawFiles } from './artifact-stage.ts';
import type { TestDatabase } from './database.ts';

export interface TestServer {
  /** `http://127.0.0.1:port` */
  readonly url: string;
  /** Empty for a second server on the same database, because the first one wrote the key. */
  readonly adminKey: string;
  /** The import root; deleted at the end. */
  readonly folder: string;
  readonly access: AccessService;
  readonly services: Services;
  readonly store: ArtifactStore;
  /** What the store holds, to look at and to change behind its back. */
  readonly stored: RawFiles;
  readonly uploads: UploadStore;
  readonly http: HttpServer;
  /** A GraphQL request over HTTP with the ADMIN key; the parsed answer. */
  ask(query: string, variables?: Readonly<Record<string, unknown>>): Promise<unknown>;
  close(): Promise<void>;
}

/** A test may need a higher limit. */
const MAX_UPLOAD_BYTES = 200_000_000;

export interface TestServerExports {
  readonly patience?: Partial<ExportPatience>;
  readonly engineHint?: () => string | null;
}

export async function startTestServer(
  database: TestDatabase,
  overrides: Partial<HttpServerOptions> = {},
  exportParts: TestServerExports = {},
): Promise<TestServer> {
  const { db, url: databaseUrl } = database;
  const folder = await mkdtemp(path.join(tmpdir(), 'paraffin-server-'));
  const queue = await openQueue({ url: databaseUrl, jobs: Object.values(RUN_JOBS), onError: () => undefined });
  const announcements = await listenForAnnouncements(databaseUrl, RUN_EVENTS_CHANNEL, () => undefined);
  const place = artifactPlaceOf(folder);
  const store = openArtifactStore(place);
  const uploads = await openUploadStore({ folder: path.join(folder, 'uploads'), maxBytes: MAX_UPLOAD_BYTES });
  const services = createServices({
    db,
    transact: database.transact,
    queue,
    announcements,
    store,
    uploads,
    downloadsDir: path.join(folder, 'downloads'),
    importRoots: [folder],
    engineCacheDir: readEnvironment().engineCacheDir,
    dataDir: folder,
    requireAuth: false,
    allowPrivateUrls: true,
    engineHint: () => null,
    ...exportParts,
  });
  const { access, runs } = services;
  await access.ensureAdminKey(path.join(folder, 'admin-key'));
  const adminKey = (await readFile(path.join(folder, 'admin-key'), 'utf8').catch(() => '')).trim();
  const server = {
    version: 'test',
    startedAt: new Date(),
    databaseVersion: () => Promise.resolve('test'),
    engine: () => null,
    engineHint: () => null,
  };
  const runEvents = createRunEvents(runs, announcements);
  const desk = await createWorkerDesk({
    ...{ db, transact: database.transact, heard: createHeardWorkers(), store, programVersion: 'test' },
    // A worker of the test has a door of its own, to which the messages of new runs must come.
    queue: { listen: async () => undefined },
  });
  const http = createHttpServer({
    schema: buildSchema(false),
    contextFor: (request) => ({ ...request, services, loaders: createLoaders(db), server, runEvents }),
    access,
    senderOf: createSenderReader({ host: '127.0.0.1', trustedProxies: [] }),
    services,
    artifacts: store,
    workers: { desk, ownWorkerKey: undefined },
    uploads,
    isReady: () => Promise.resolve(true),
    runCounts: () => runs.countByStatus(),
    logger: createLogger('silent', 'test'),
    ...overrides,
  });
  // On a busy machine a client might reuse a connection just when it is closed because it is idle.
  http.server.keepAliveTimeout = 60_000;
  const { port } = await http.listen({ host: '127.0.0.1', port: 0 });
  const url = `http://127.0.0.1:${port}`;
  return {
    url,
    adminKey,
    folder,
    access,
    services,
    store,
    stored: rawFilesOf(place),
    uploads,
    http,
    ask: async (query, variables = {}) => {
      const response = await fetch(`${url}/graphql`, {
        method: 'POST',
        headers: { 'content-type': 'application/json', authorization: `Bearer ${adminKey}` },
        body: JSON.stringify({ query, variables }),
      });
      return response.json();
    },
    close: async () => {
      desk.close();
      await http.drain(2_000);
      await services.slideTiles[Symbol.asyncDispose]();
      await announcements.close();
      await queue.close();
      await rm(folder, { recursive: true, force: true });
    },
  };
}
