/** A whole registry for a test: a database, a server, and a worker in its own process. */
import { openTestDatabase, type TestDatabase } from './database.ts';
import { startTestWorker } from './processes.ts';
import { startTestServer, type TestServer } from './server.ts';

export interface WholeRegistry {
  readonly database: TestDatabase;
  readonly server: TestServer;
  /** Ends the worker first, which still reports to the database. */
  close(): Promise<void>;
}

export async function startWholeRegistry(workerName: string): Promise<WholeRegistry> {
  const database = await openTestDatabase();
  const server = await startTestServer(database);
  const worker = await startTestWorker({ databaseUrl: database.url, dataDir: server.folder, name: workerName });
  return {
    database,
    server,
    close: async () => {
      worker.signal('SIGTERM');
      await worker.gone;
      await server.close();
      await database.close();
    },
  };
}
