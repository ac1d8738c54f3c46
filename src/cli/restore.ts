/** `paraffin restore`: a backup becomes a registry again, in an empty place. */
import { mkdir, readdir, rm } from 'node:fs/promises';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { Client } from 'pg';
import { readEnvironment } from '../env.ts';
import { DomainError } from '../errors.ts';
import { createLedger } from '../modules/runs/index.ts';
import { openArtifactStore } from '../platform/artifact-store.ts';
import { readBackup, readBackupHead, type RestoreReport } from '../platform/backup.ts';
import { lockDataDir } from '../platform/data-dir-lock.ts';
import { openDatabase, transactionsOf } from '../platform/db.ts';
import { applyMigrations, MIGRATIONS_DIR, readMigrations } from '../platform/migrate.ts';
import { startPostgres } from '../platform/postgres.ts';
import { byteSizeInWords, EXIT_DAMAGE_FOUND } from './custody.ts';
import { createStatusLine, progressBar } from './terminal.ts';

const HELP = `usage: npm run paraffin -- restore FILE --data-dir FOLDER [--bytes-from FOLDER] [--json]

Makes a registry of a backup in an empty folder, checking every digest on the way. With PARAFFIN_DATABASE_URL the rows go
into that database, which must have no tables. Runs that were under way wait in the queue and go on from what they last
kept. A backup of an older Paraffin is brought up to date; one of a newer is refused.

  --bytes-from  for a backup of the database alone (backups/ of a data directory): the artifacts folder of that directory

exit code: 0 done; 3 done, but some stored bytes were damaged already in the backup; 1 it could not be done.

example:
  npm run paraffin -- restore /backups/paraffin.tar --data-dir /srv/paraffin
`;

export async function restoreCommand(args: string[]): Promise<number> {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: { 'data-dir': { type: 'string' }, 'bytes-from': { type: 'string' }, json: { type: 'boolean' }, help: { type: 'boolean', short: 'h' } },
  });
  const [file] = positionals;
  const { 'data-dir': target, 'bytes-from': bytesFrom } = values;
  if (values.help === true || file === undefined || target === undefined) {
    process.stdout.write(HELP);
    return values.help === true ? 0 : 2;
  }
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
        onProgress: ({ bytesDone, bytesTotal }) => status.show(`${progressBar(bytesTotal === 0 ? 1 : bytesDone / bytesTotal)} ${byteSizeInWords(bytesDone)} of ${byteSizeInWords(bytesTotal)}`),
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
  if (values.json === true) process.stdout.write(`${JSON.stringify(report, null, 2)}\n`);
  else {
    process.stdout.write(`${dataDir} is as it was at ${report.createdAt}: ${report.rowCount} rows, ${report.artifacts.count} artifacts, every digest checked. ${report.requeuedRunCount} runs that were under way wait in the queue.\n`);
    if (report.damaged.length > 0) process.stdout.write(`Not to be had: ${report.damaged.join(', ')}\n`);
  }
  return report.damaged.length === 0 ? 0 : EXIT_DAMAGE_FOUND;
}

async function requireEmpty(folder: string): Promise<void> {
  const names = await readdir(folder).catch(() => []);
  if (names.length > 0) throw new DomainError({ code: 'CONFLICT', message: `${folder} is not empty.`, field: 'data-dir', hint: 'Restore into an empty folder; nothing is ever overwritten.' });
}

async function requireNoTables(databaseUrl: string): Promise<void> {
  const rows = await ask(databaseUrl, `SELECT 1 FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') LIMIT 1`);
  if (rows > 0) throw new DomainError({ code: 'CONFLICT', message: 'The database of PARAFFIN_DATABASE_URL has tables already.', field: 'PARAFFIN_DATABASE_URL', hint: 'Restore into a database that was just created.' });
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
