/**
 * Applies prisma/migrations at start: under a lock, in order, each in a transaction of its own.
 *
 * It writes the same rows into `_prisma_migrations` as `prisma migrate` (same table, same checksum), so that both can
 * be used on one history; unlike `prisma migrate` it needs no engine binary.
 */
import { createHash, randomUUID } from 'node:crypto';
import { readFile, readdir } from 'node:fs/promises';
import path from 'node:path';
import { Client } from 'pg';
import { ADVISORY_LOCKS } from './advisory-lock.ts';

/** Folder of this program's migrations. */
export const MIGRATIONS_DIR = path.resolve(import.meta.dirname, '../../prisma/migrations');

export interface Migration {
  readonly name: string;
  readonly sql: string;
  readonly checksum: string;
}

/** A database that the program must not change; the message says what to do. */
export class MigrationError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'MigrationError';
  }
}

/** @returns the migrations in the folder, oldest first. */
export async function readMigrations(folder: string): Promise<Migration[]> {
  const entries = await readdir(folder, { withFileTypes: true });
  const names = entries
    .filter((entry) => entry.isDirectory())
    .map((entry) => entry.name)
    .sort();
  return Promise.all(
    names.map(async (name) => {
      const sql = await readFile(path.join(folder, name, 'migration.sql'), 'utf8');
      return { name, sql, checksum: createHash('sha256').update(sql).digest('hex') };
    }),
  );
}

/**
 * Migrates the database to this program's schema. @returns the names of the migrations that were applied.
 * @param beforeFirstChange called under the lock with the names of the pending migrations, before a non-empty database
 * is changed; if it fails, nothing is changed.
 * @throws MigrationError if the database is newer than the program, or an applied migration has changed since.
 */
export async function applyMigrations(
  databaseUrl: string,
  migrations: readonly Migration[],
  beforeFirstChange?: (pending: readonly string[]) => Promise<void>,
): Promise<string[]> {
  const client = new Client({ connectionString: databaseUrl });
  await client.connect();
  try {
    await client.query('SELECT pg_advisory_lock($1)', [ADVISORY_LOCKS.MIGRATIONS]);
    await client.query(`CREATE TABLE IF NOT EXISTS "_prisma_migrations" (
      "id" VARCHAR(36) PRIMARY KEY NOT NULL, "checksum" VARCHAR(64) NOT NULL, "finished_at" TIMESTAMPTZ,
      "migration_name" VARCHAR(255) NOT NULL, "logs" TEXT, "rolled_back_at" TIMESTAMPTZ,
      "started_at" TIMESTAMPTZ NOT NULL DEFAULT now(), "applied_steps_count" INTEGER NOT NULL DEFAULT 0)`);
    const applied = await appliedMigrations(client);
    refuseForeignHistory(applied, migrations);
    const pending = migrations.filter((migration) => !applied.has(migration.name));
    if (applied.size > 0 && pending.length > 0) await beforeFirstChange?.(pending.map((migration) => migration.name));
    for (const migration of pending) await applyOne(client, migration);
    return pending.map((migration) => migration.name);
  } finally {
    await client.end();
  }
}

/**
 * For programs other than the server, which do not change the schema.
 * @throws MigrationError if the database does not have this program's schema.
 */
export async function requireMigrated(databaseUrl: string, migrations: readonly Migration[]): Promise<void> {
  const client = new Client({ connectionString: databaseUrl });
  await client.connect();
  try {
    const { rows } = await client.query<{ found: string | null }>(
      `SELECT to_regclass('"_prisma_migrations"')::text AS found`,
    );
    const applied = rows[0]?.found == null ? new Map<string, string>() : await appliedMigrations(client);
    refuseForeignHistory(applied, migrations);
    const pending = migrations.filter((migration) => !applied.has(migration.name));
    if (pending.length > 0)
      throw new MigrationError(
        `The database is older than this program (${pending.length} migrations are missing). Start the server once to apply them.`,
      );
  } finally {
    await client.end();
  }
}

async function appliedMigrations(client: Client): Promise<Map<string, string>> {
  const { rows } = await client.query<{ migration_name: string; checksum: string }>(
    'SELECT migration_name, checksum FROM "_prisma_migrations" WHERE finished_at IS NOT NULL AND rolled_back_at IS NULL',
  );
  return new Map(rows.map((row) => [row.migration_name, row.checksum]));
}

function refuseForeignHistory(applied: ReadonlyMap<string, string>, migrations: readonly Migration[]): void {
  const known = new Map(migrations.map((migration) => [migration.name, migration.checksum]));
  for (const [name, checksum] of applied) {
    const ours = known.get(name);
    if (ours === undefined)
      throw new MigrationError(
        `The database has migration "${name}", which this program does not know, because a newer Paraffin has used it. Start that version.`,
      );
    if (ours !== checksum)
      throw new MigrationError(
        `Migration "${name}" differs from the one that was applied. Restore the file of the migration, and make changes in a new migration.`,
      );
  }
}

async function applyOne(client: Client, migration: Migration): Promise<void> {
  await client.query('BEGIN');
  try {
    await client.query(migration.sql);
    await client.query(
      'INSERT INTO "_prisma_migrations" (id, checksum, migration_name, finished_at, applied_steps_count) VALUES ($1, $2, $3, now(), 1)',
      [randomUUID(), migration.checksum, migration.name],
    );
    await client.query('COMMIT');
  } catch (cause) {
    await client.query('ROLLBACK');
    throw new MigrationError(`Migration "${migration.name}" failed and was rolled back.`, { cause });
  }
}
