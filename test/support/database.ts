/** A separate PostgreSQL database for each test file, cloned from a migrated and seeded template. */
import { randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Client } from 'pg';
import { loadCatalogue, seedCatalogue } from '../../src/modules/datasets/index.ts';
import { loadPublishedCheckpoints, seedPublishedCheckpoints } from '../../src/modules/models/index.ts';
import { openDatabase, transactionsOf, type Database, type Transact } from '../../src/platform/db.ts';
import { applyMigrations, readMigrations } from '../../src/platform/migrate.ts';
import { startPostgres } from '../../src/platform/postgres.ts';

/** Set by the test command, which starts one server for all files; a test file that runs alone starts its own. */
const TEMPLATE_URL_VARIABLE = 'PARAFFIN_TEST_TEMPLATE_URL';
const TEMPLATE_NAME = 'paraffin';

export interface TestDatabase {
  readonly url: string;
  readonly db: Database;
  readonly transact: Transact;
  close(): Promise<void>;
}

export interface TemplateServer {
  readonly url: string;
  stop(): Promise<void>;
}

/** Starts a server whose database `paraffin` is migrated and seeded, ready to be cloned. */
export async function startTemplateServer(): Promise<TemplateServer> {
  const folder = await mkdtemp(path.join(tmpdir(), 'paraffin-test-'));
  const server = await startPostgres(path.join(folder, 'postgres'));
  await disableSync(server.url);
  await applyMigrations(server.url, await readMigrations(path.resolve(import.meta.dirname, '../../prisma/migrations')));
  const db = openDatabase(server.url, { maxConnections: 1 });
  await seedCatalogue(db, await loadCatalogue());
  await seedPublishedCheckpoints(db, await loadPublishedCheckpoints());
  // A template can be cloned only while no client is connected to it.
  await db.$disconnect();
  return {
    url: server.url,
    stop: async () => {
      await server.stop();
      await rm(folder, { recursive: true, force: true });
    },
  };
}

/**
 * Commits do not wait for the disk, because these databases are discarded; their contents still survive a killed
 * server. Fifty commits took 17 ms instead of 204, and cloning the template took half the time.
 */
async function disableSync(url: string): Promise<void> {
  for (const setting of ['fsync', 'full_page_writes']) await administer(url, `ALTER SYSTEM SET ${setting} = off`);
  await administer(url, 'SELECT pg_reload_conf()');
}

/** Clones the template; `close` drops the clone. */
export async function openTestDatabase(): Promise<TestDatabase> {
  const shared = process.env[TEMPLATE_URL_VARIABLE];
  const own = shared === undefined ? await startTemplateServer() : undefined;
  const templateUrl = shared ?? own?.url ?? '';
  const name = `test_${randomBytes(6).toString('hex')}`;
  await administer(templateUrl, `CREATE DATABASE ${name} TEMPLATE ${TEMPLATE_NAME}`);
  const url = databaseUrl(templateUrl, name);
  const db = openDatabase(url, { maxConnections: 4 });
  return {
    url,
    db,
    transact: transactionsOf(db),
    close: async () => {
      await db.$disconnect();
      await administer(templateUrl, `DROP DATABASE IF EXISTS ${name} WITH (FORCE)`);
      await own?.stop();
    },
  };
}

function databaseUrl(templateUrl: string, name: string): string {
  const url = new URL(templateUrl);
  url.pathname = `/${name}`;
  return url.href;
}

async function administer(templateUrl: string, statement: string): Promise<void> {
  const client = new Client({ connectionString: databaseUrl(templateUrl, 'postgres') });
  await client.connect();
  try {
    await client.query(statement);
  } finally {
    await client.end();
  }
}
