/** `paraffin restore`: restore a backup into an empty folder. */
import path from 'node:path';
import { Client } from 'pg';
import { readEnvironment } from '../env.ts';
import { DomainError } from '../errors.ts';
import { adoptArtifactStore } from '../modules/artifacts/index.ts';
import { createLedger } from '../modules/runs/index.ts';
import { openArtifactStore, parseArtifactPlace, type ArtifactStore } from '../platform/artifact-store/index.ts';
import {
  readBackup,
  readBackupHead,
  type RestoreOptions as BackupRestoreOptions,
  type RestoreReport,
} from '../platform/backup.ts';
import { lockForRestore } from '../platform/data-dir-lock.ts';
import { openDatabase, transactionsOf } from '../platform/db.ts';
import { applyMigrations, MIGRATIONS_DIR, readMigrations } from '../platform/migrate.ts';
import { startPostgres } from '../platform/postgres.ts';
import { removeIfKilled } from '../platform/remove-if-killed.ts';
import { EXIT, type ExitCode } from './exit-codes.ts';
import { interruptible } from './interruptible.ts';
import { formatByteSize, createStatusLine, progressBar } from './terminal.ts';

export interface RestoreOptions {
  /** An empty folder. */
  readonly dataDir: string;
  /** For a backup of only the database: the artifacts folder that belongs to it. */
  readonly bytesFrom?: string | undefined;
  readonly json?: true | undefined;
}

/** Names its unfinished uploads, which the next restore removes. */
const WRITER = 'restore';
const END_OF_TIME = new Date(8.64e15);

export async function restore(file: string, { dataDir: target, bytesFrom, json }: RestoreOptions): Promise<ExitCode> {
  const dataDir = path.resolve(target);
  const migrations = await readMigrations(MIGRATIONS_DIR);
  // Checked before anything is created.
  await readBackupHead(file, migrations);
  const { databaseUrl, artifacts, s3 } = readEnvironment();
  if (databaseUrl !== undefined) await requireNoTables(databaseUrl);
  // With PARAFFIN_ARTIFACTS_URL the bytes go into that bucket, as the rows go into PARAFFIN_DATABASE_URL.
  const store = openArtifactStore(typeof artifacts === 'string' ? path.join(dataDir, 'artifacts') : artifacts, WRITER);
  const bytesPlace = bytesFrom === undefined ? undefined : parseArtifactPlace(bytesFrom, s3);
  if (typeof artifacts !== 'string') await beginInBucket(store);
  const status = createStatusLine(process.stderr);
  const report = await interruptible(async (signal) => {
    const folder = await lockForRestore(dataDir);
    const postgresDir = path.join(dataDir, 'postgres');
    const guard = removeIfKilled(folder.paths, path.join(postgresDir, 'lock'));
    try {
      const postgres = databaseUrl === undefined ? await startPostgres(postgresDir) : undefined;
      let restored: RestoreReport & { readonly requeuedRunCount: number };
      try {
        restored = await restoreInto({
          file,
          databaseUrl: postgres?.url ?? databaseUrl ?? '',
          store,
          bytesFrom: bytesPlace === undefined ? undefined : openArtifactStore(bytesPlace),
          migrations,
          signal,
          onProgress: ({ bytesDone, bytesTotal }) =>
            status.show(
              `${progressBar(bytesTotal === 0 ? 1 : bytesDone / bytesTotal)} ${formatByteSize(bytesDone)} of ${formatByteSize(bytesTotal)}`,
            ),
        });
      } finally {
        await postgres?.stop();
      }
      await store.upkeep.markRestoring(false);
      await folder.finish();
      return restored;
    } catch (error) {
      status.end();
      await folder.clear();
      if (databaseUrl !== undefined) await dropEverything(databaseUrl);
      if (typeof artifacts !== 'string') await clearBucket(store);
      throw error;
    } finally {
      guard.disarm();
      await folder.release();
    }
  });
  status.end();
  if (json === true) process.stdout.write(`${JSON.stringify(report, null, 2)}\n`);
  else {
    process.stdout.write(
      `Restored ${dataDir} as of ${report.createdAt}: ${report.rowCount} rows, ${report.artifacts.count} artifacts, every digest checked. ${report.requeuedRunCount} runs that were running are queued again.\n`,
    );
    if (report.damaged.length > 0) process.stdout.write(`Missing or damaged: ${report.damaged.join(', ')}\n`);
  }
  return report.damaged.length === 0 ? EXIT.DONE : EXIT.DAMAGE_FOUND;
}

async function restoreInto(
  options: BackupRestoreOptions,
): Promise<RestoreReport & { readonly requeuedRunCount: number }> {
  const { databaseUrl, store, migrations, signal } = options;
  const restored = await readBackup(options);
  await applyMigrations(databaseUrl, migrations);
  const db = openDatabase(databaseUrl, { maxConnections: 2 });
  try {
    await adoptArtifactStore({ db, store });
    const requeuedRunCount = await createLedger(db, transactionsOf(db)).requeueAll(
      'Restored from a backup; the run continues from its last kept state.',
    );
    signal?.throwIfAborted();
    return { ...restored, requeuedRunCount };
  } finally {
    await db.$disconnect();
  }
}

/**
 * Marks the bucket, so that a restore that is killed can be repeated: it stores the same bytes again. What was left of
 * another backup is found by `paraffin gc`.
 * @throws DomainError CONFLICT for a bucket that holds other artifacts, and what prevents its use.
 */
async function beginInBucket(store: ArtifactStore): Promise<void> {
  const { upkeep } = store;
  await upkeep.requireUsable();
  const isOurs = (await upkeep.isRestoring()) || (await store.list().next()).done === true;
  if (!isOurs || (await upkeep.readIdentity()) !== undefined)
    throw new DomainError({
      code: 'CONFLICT',
      message: `${store.location} is not empty.`,
      field: 'PARAFFIN_ARTIFACTS_URL',
      hint: 'Restore into a new prefix of the bucket.',
    });
  await upkeep.removeUnfinished(WRITER);
  await upkeep.markRestoring(true);
}

/** Removes what an unfinished restore has put into a bucket, unless it has become the store of a registry. */
async function clearBucket(store: ArtifactStore): Promise<void> {
  if ((await store.upkeep.readIdentity()) !== undefined) return;
  for await (const { sha256 } of store.list()) if (sha256 !== undefined) await store.delete(sha256, END_OF_TIME);
  await store.upkeep.markRestoring(false);
}

async function requireNoTables(databaseUrl: string): Promise<void> {
  const rows = await countRows(
    databaseUrl,
    `SELECT 1 FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') LIMIT 1`,
  );
  if (rows > 0)
    throw new DomainError({
      code: 'CONFLICT',
      message: 'The database of PARAFFIN_DATABASE_URL is not empty.',
      field: 'PARAFFIN_DATABASE_URL',
      hint: 'Restore into a new database.',
    });
}

async function dropEverything(databaseUrl: string): Promise<void> {
  await countRows(databaseUrl, 'DROP SCHEMA public CASCADE; CREATE SCHEMA public');
}

async function countRows(databaseUrl: string, sql: string): Promise<number> {
  const client = new Client({ connectionString: databaseUrl });
  await client.connect();
  try {
    return (await client.query(sql)).rowCount ?? 0;
  } finally {
    await client.end();
  }
}
