/** The door of the workers alone, over a test database and the artifacts of a data folder. */
import { createServer } from 'node:http';
import path from 'node:path';
import express, { type ErrorRequestHandler } from 'express';
import { httpFailure } from '../../src/api/format-error.ts';
import { createUploads } from '../../src/api/uploads.ts';
import { createWorkerProtocol } from '../../src/api/worker-protocol.ts';
import { DomainError } from '../../src/errors.ts';
import { RUN_JOBS } from '../../src/jobs/index.ts';
import { createLogger } from '../../src/logger.ts';
import { createArtifactService } from '../../src/modules/artifacts/index.ts';
import { createHeardWorkers, createLedger, startReaper } from '../../src/modules/runs/index.ts';
import { createWorkerDesk } from '../../src/modules/workers/index.ts';
import { openArtifactStore } from '../../src/platform/artifact-store/index.ts';
import { openDatabase, transactionsOf } from '../../src/platform/db.ts';
import { openQueue } from '../../src/platform/queue.ts';
import { openUploadStore } from '../../src/platform/upload-store.ts';
import { artifactPlaceOf } from './artifact-place.ts';

export interface WorkerDoor {
  readonly url: string;
  /** What the door accepts as a key. */
  readonly key: string;
  close(): Promise<void>;
}

/** @param port 0: any free one. */
export async function openWorkerDoor(
  { databaseUrl, dataDir }: { readonly databaseUrl: string; readonly dataDir: string },
  port = 0,
): Promise<WorkerDoor> {
  const logger = createLogger('silent', 'test');
  const db = openDatabase(databaseUrl, { maxConnections: 4, silenceTimeoutMs: 10_000 });
  const transact = transactionsOf(db);
  const store = openArtifactStore(artifactPlaceOf(dataDir), 'door');
  const queue = await openQueue({ url: databaseUrl, jobs: Object.values(RUN_JOBS), onError: () => undefined });
  const heard = createHeardWorkers();
  const desk = await createWorkerDesk({ db, transact, heard, store, queue, programVersion: 'test' });
  const reaper = startReaper({
    ledger: createLedger(db, transact),
    serverId: `door-of-${dataDir}`,
    heard,
    onReaped: () => undefined,
    onError: () => undefined,
  });
  // The limit is for people.
  const uploads = await openUploadStore({ folder: path.join(dataDir, 'uploads-at-door'), maxBytes: 1 });
  const key = 'the-key-of-the-test-worker';
  const app = express();
  app.use(
    createWorkerProtocol({
      desk,
      ownWorkerKey: key,
      artifacts: store,
      uploads,
      redirects: true,
      reportDamage: (sha256) => createArtifactService({ db, store }).reportDamage(sha256),
      runAdmitted: () => Promise.reject(new DomainError({ code: 'UNAUTHENTICATED', message: 'The key is wrong.' })),
    }),
  );
  app.use(
    createUploads({
      uploads,
      viewerOf: () => Promise.reject(new Error('No person uploads anything here.')),
      leaseOfToken: desk.leaseOfToken,
      logger,
    }),
  );
  const answerFailure: ErrorRequestHandler = (error: unknown, _request, response, _next) => {
    const { status, body } = httpFailure(error, { requestId: 'test', logger });
    if (response.headersSent) response.destroy();
    else response.status(status).json(body);
  };
  app.use(answerFailure);
  const server = createServer(app);
  await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve));
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('The door has no port.');
  return {
    url: `http://127.0.0.1:${address.port}`,
    key,
    close: async () => {
      desk.close();
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
      await reaper.stop();
      await queue.close();
      await db.$disconnect();
    },
  };
}
