/** `paraffin restore`: a backup becomes a registry again, in an empty place. */
import { mkdir, readdir, rm } from 'node:fs/promises';
import path from 'node:path';
import { Client } from 'pg';
import { readEnvironment } from '../env.ts';
import { DomainError } from '../errors.ts';
import { createLedger } from '../modules/runs/index.ts';
import { openArtifactStore } from '../platform/artifact-store.ts';
import { readBackup, readBackupHead, type RestoreReport } from '../platform/backup.ts';
import { DATA_DIR_LOCK_NAME, lockDataDir } from '../platform/data-dir-lock.ts';
import { openDatabase, transactionsOf } from '../platform/db.ts';
import { applyMigrations, MIGRATIONS_DIR, readMigrations } from '../platform/migrate.ts';
import { startPostgres } from '../platform/postgres.ts';
import { EXIT, type ExitCode } from './exit-codes.ts';
import { byteSizeInWords, createStatusLine, progressBar } from './terminal.ts';

export interface RestoreOptions {
  /** An empty folder. */
  readonly dataDir: string;
  /** For a backup of the database alone: the artifacts folder that it goes with. */
  readonly bytesFrom?: string | undefined;
  readonly json?: true | undefined;
}

export async function restore(file: string, { dataDir: target, bytesFrom, json }: RestoreOptions): Promise<ExitCode> {
  const dataDir = path.resolve(target);
  const migrations = await readMigrations(MIGRATIONS_DIR);
  // Before anything is made.
  await readBackupHead(file, migrations);
  await requireEmpty(dataDir);
  const { databaseUrl } = readEnvironment();
  if (databaseUrl !== undefined) await requireNoTables(databaseUrl);
  await mkdir(dataDir, { recursive: true });
  const lock = await lockDataDir(dataDir);
  const status = createStatusLine(process.stderr);
  let report: RestoreReport & { readonly requeuedRunCount: number };
  try {
    const postgres = databaseUrl === undefined ? await startPostgres(path.join(dataDir, 'postgres')) : undefined;
    const url = postgres?.url ?? databaseUrl ?? '';
    try {
      const restored = await readBackup({
        file,
        databaseUrl: url,
        store: openArtifactStore(path.join(dataDir, 'artifacts')),
        bytesFrom: bytesFrom === undefined ? undefined : openArtifactStore(path.resolve(bytesFrom)),
        migrations,
        onProgress: ({ bytesDone, bytesTotal }) =>
          status.show(
            `${progressBar(bytesTotal === 0 ? 1 : bytesDone / bytesTotal)} ${byteSizeInWords(bytesDone)} of ${byteSizeInWords(bytesTotal)}`,
          ),
      });
      await applyMigrations(url, migrations);
      const db = openDatabase(url, { maxConnections: 2 });
      const requeuedRunCount = await createLedger(db, transactionsOf(db))
        .requeueAll('Restored from a backup; the run goes on from what it last kept.')
        .finally(() => db.$disconnect());
      report = { ...restored, requeuedRunCount };
    } finally {
      await postgres?.stop();
    }
  } catch (error) {
    // What was empty is empty again: the restore can be tried once more.
    for (const name of await readdir(dataDir)) await rm(path.join(dataDir, name), { recursive: true, force: true });
    if (databaseUrl !== undefined) await dropEverything(databaseUrl);
    throw error;
  } finally {
    await lock.release();
  }
  status.end();
  if (json === true) process.stdout.write(`${JSON.stringify(report, null, 2)}\n`);
  else {
    process.stdout.write(
      `${dataDir} is as it was at ${report.createdAt}: ${report.rowCount} rows, ${report.artifacts.count} artifacts, every digest checked. ${report.requeuedRunCount} runs that were under way wait in the queue.\n`,
    );
    if (report.damaged.length > 0) process.stdout.write(`Not to be had: ${report.damaged.join(', ')}\n`);
  }
  return report.damaged.length === 0 ? EXIT.DONE : EXIT.DAMAGE_FOUND;
}

async function requireEmpty(folder: string): Promise<void> {
  const names = await readdir(folder).catch(() => []);
  if (names.length > 0)
    throw new DomainError({
      code: 'CONFLICT',
      message: `${folder} is not empty.`,
      field: 'data-dir',
      hint: 'Restore into an empty folder; nothing is ever overwritten.',
    });
}

async function requireNoTables(databaseUrl: string): Promise<void> {
  const rows = await ask(
    databaseUrl,
    `SELECT 1 FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') LIMIT 1`,
  );
  if (rows > 0)
    throw new DomainError({
      code: 'CONFLICT',
      message: 'The database of PARAFFIN_DATABASE_URL has tables already.',
      field: 'PARAFFIN_DATABASE_URL',
      hint: 'Restore into a database that was just created.',
    });
}

async function dropEverything(databaseUrl: string): Promise<void> {
  await ask(databaseUrl, 'DROP SCHEMA public CASCADE; CREATE SCHEMA public');
}

async function ask(databaseUrl: string, sql: string): Promise<number> {
  const client = new Client({ connectionString: databaseUrl });
  await client.connect();
  try {
    return (await client.query(sql)).rowCount ?? 0;
  } finally {
    await client.end();
  }
}
