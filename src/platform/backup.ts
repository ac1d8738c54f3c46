/**
 * Backups: database and stored bytes at one instant, in one tar file that any tar program can list.
 *
 *   backup.json                what it is: format, program, migrations, tables with their counts, artifacts
 *   database/<table>/<n>       rows, as COPY writes them
 *   artifacts/<sha256>         stored bytes
 *   end.json                   written last: without it the file is incomplete
 *
 * Rows are read in one snapshot, so that active runs do not affect it. Stored bytes never change and are not deleted
 * during a backup, so the artifacts that the snapshot references can be copied afterwards.
 */
import { createHash, type Hash } from 'node:crypto';
import { createReadStream, createWriteStream } from 'node:fs';
import { mkdir, open, rename, rm } from 'node:fs/promises';
import path from 'node:path';
import { pipeline } from 'node:stream/promises';
import { Client } from 'pg';
import { extract, pack, type Pack } from 'tar-stream';
import { z } from 'zod';
import { DomainError } from '../errors.ts';
import { isBadSector, type ArtifactStore } from './artifact-store/index.ts';
import {
  beginLoad,
  dumpedSequenceSchema,
  dumpedTableSchema,
  dumpTable,
  sequencesToDump,
  tablesToDump,
} from './database-dump.ts';
import { spaceGuard } from './free-space.ts';
import { applyMigrations, MigrationError, type Migration } from './migrate.ts';
import { removeIfKilled } from './remove-if-killed.ts';

const FORMAT = 'paraffin-backup-1';
const CHUNK_BYTES = 4 * 1024 * 1024;

const headSchema = z.object({
  format: z.string(),
  program: z.string(),
  createdAt: z.string(),
  /** DATABASE: without the stored bytes. It is used before an upgrade, which does not change them. */
  contents: z.enum(['ALL', 'DATABASE']),
  migrations: z.array(z.object({ name: z.string(), checksum: z.string() })),
  tables: z.array(dumpedTableSchema),
  sequences: z.array(dumpedSequenceSchema),
  artifacts: z.object({ count: z.number().int(), byteSize: z.number() }),
});
export type BackupHead = z.infer<typeof headSchema>;

const endSchema = z.object({
  /** sha256 over all COPY chunks in order. */
  rowsSha256: z.string(),
  artifactCount: z.number().int(),
  /** Artifacts that were already missing or changed when the backup was made. */
  damaged: z.array(z.string()),
});

export interface BackupReport {
  readonly file: string;
  readonly byteSize: number;
  readonly rowCount: number;
  readonly artifacts: { readonly count: number; readonly byteSize: number };
  /** Artifacts that were already missing or changed; the backup contains all others. */
  readonly damaged: readonly string[];
}

export interface BackupOptions {
  readonly databaseUrl: string;
  /** If undefined, only the database is backed up. */
  readonly store: ArtifactStore | undefined;
  readonly file: string;
  /** Version of this program. */
  readonly program: string;
  readonly onProgress?: ((progress: CopyProgress) => void) | undefined;
  /** Aborts the backup; the partial file is deleted. */
  readonly signal?: AbortSignal | undefined;
}

export interface CopyProgress {
  readonly bytesDone: number;
  readonly bytesTotal: number;
}

interface WantedArtifact {
  readonly sha256: string;
  readonly byteSize: number;
}

/**
 * Writes a backup under a temporary name and then renames it, so that a file with the final name is always complete.
 * The caller must prevent the deletion of stored bytes meanwhile.
 */
export async function writeBackup({
  databaseUrl,
  store,
  file,
  program,
  onProgress,
  signal,
}: BackupOptions): Promise<BackupReport> {
  await mkdir(path.dirname(file), { recursive: true });
  const unfinished = `${file}.unfinished`;
  const guard = removeIfKilled([unfinished]);
  const archive = pack();
  // A backup contains salted hashes of keys and confidential data of the registry, so only its owner may read it.
  const writing = pipeline(archive, spaceGuard(path.dirname(file)), createWriteStream(unfinished, { mode: 0o600 }), {
    signal,
  });
  try {
    const [report] = await Promise.all([
      fillArchive(archive, { databaseUrl, store, program, onProgress, signal }),
      writing,
    ]);
    const byteSize = await syncFile(unfinished);
    await rename(unfinished, file);
    return { file, byteSize, ...report };
  } catch (error) {
    archive.destroy();
    await writing.catch(() => undefined);
    await rm(unfinished, { force: true });
    throw error;
  } finally {
    guard.disarm();
  }
}

async function fillArchive(
  archive: Pack,
  options: Pick<BackupOptions, 'databaseUrl' | 'store' | 'program' | 'onProgress' | 'signal'>,
): Promise<Omit<BackupReport, 'file' | 'byteSize'>> {
  const { databaseUrl, store, program, onProgress, signal } = options;
  const client = new Client({ connectionString: databaseUrl });
  // The next query reports the error; an aborted backup sends no further query.
  client.on('error', () => undefined);
  await client.connect();
  const rows = createHash('sha256');
  let head: BackupHead;
  let wanted: WantedArtifact[];
  try {
    await client.query('BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY');
    const { rows: migrations } = await client.query<{ name: string; checksum: string }>(
      'SELECT migration_name AS name, checksum FROM "_prisma_migrations" WHERE finished_at IS NOT NULL AND rolled_back_at IS NULL ORDER BY 1',
    );
    const found = await client.query<{ sha256: string; byteSize: string }>(
      'SELECT sha256, "byteSize" FROM "Artifact" ORDER BY 1',
    );
    wanted =
      store === undefined ? [] : found.rows.map((row) => ({ sha256: row.sha256, byteSize: Number(row.byteSize) }));
    head = {
      format: FORMAT,
      program,
      createdAt: new Date().toISOString(),
      contents: store === undefined ? 'DATABASE' : 'ALL',
      migrations,
      tables: await tablesToDump(client),
      sequences: await sequencesToDump(client),
      artifacts: { count: wanted.length, byteSize: wanted.reduce((sum, artifact) => sum + artifact.byteSize, 0) },
    };
    await writeEntry(archive, 'backup.json', Buffer.from(`${JSON.stringify(head, null, 2)}\n`));
    for (const table of head.tables) {
      let part = 0;
      for await (const chunk of dumpTable(client, table, CHUNK_BYTES)) {
        signal?.throwIfAborted();
        rows.update(chunk);
        await writeEntry(archive, `database/${table.table.replaceAll('"', '')}/${part}`, chunk);
        part += 1;
      }
    }
    await client.query('COMMIT');
  } finally {
    await client.end();
  }
  const damaged: string[] = [];
  let bytesDone = 0;
  for (const artifact of wanted) {
    signal?.throwIfAborted();
    if (store === undefined || !(await copyArtifact(archive, store, artifact.sha256))) damaged.push(artifact.sha256);
    bytesDone += artifact.byteSize;
    onProgress?.({ bytesDone, bytesTotal: head.artifacts.byteSize });
  }
  const end = { rowsSha256: rows.digest('hex'), artifactCount: wanted.length - damaged.length, damaged };
  await writeEntry(archive, 'end.json', Buffer.from(`${JSON.stringify(end, null, 2)}\n`));
  archive.finalize();
  return { rowCount: head.tables.reduce((sum, table) => sum + table.rowCount, 0), artifacts: head.artifacts, damaged };
}

/**
 * False for an artifact that is missing, unreadable or does not match its digest; its entry is then listed as damaged
 * at the end of the backup.
 */
async function copyArtifact(archive: Pack, store: ArtifactStore, sha256: string): Promise<boolean> {
  const facts = await store.stat(sha256);
  if (facts === undefined) return false;
  const size = facts.byteSize;
  const hash = createHash('sha256');
  await pipeline(bytesToCopy(store, sha256, size, hash), archive.entry({ name: `artifacts/${sha256}`, size }));
  return hash.digest('hex') === sha256;
}

/**
 * Yields exactly the announced number of bytes, so that the archive stays valid: bytes lost to a bad sector or a
 * truncated file are replaced by zeros. The zeros are not hashed, so that the artifact is reported as damaged.
 */
async function* bytesToCopy(store: ArtifactStore, sha256: string, size: number, hash: Hash): AsyncGenerator<Buffer> {
  let position = 0;
  try {
    for await (const chunk of await store.open(sha256)) {
      const bytes: Buffer = chunk.subarray(0, size - position);
      hash.update(bytes);
      yield bytes;
      position += bytes.length;
    }
  } catch (error) {
    if (!isLost(error)) throw error;
  }
  for (; position < size; position += CHUNK_BYTES) yield Buffer.alloc(Math.min(CHUNK_BYTES, size - position));
}

/** True for a failure that concerns the bytes of this artifact and not the store. */
function isLost(error: unknown): boolean {
  return (
    isBadSector(error) ||
    (error instanceof DomainError && (error.code === 'ARTIFACT_NOT_FOUND' || error.code === 'ARTIFACT_CORRUPT'))
  );
}

async function writeEntry(archive: Pack, name: string, bytes: Buffer): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    archive.entry({ name }, bytes, (error) => (error ? reject(error) : resolve()));
  });
}

/** Writes the file's data to the disk. @returns its size in bytes. */
async function syncFile(file: string): Promise<number> {
  const handle = await open(file, 'r+');
  try {
    await handle.sync();
    return (await handle.stat()).size;
  } finally {
    await handle.close();
  }
}

export interface RestoreOptions {
  readonly file: string;
  /** URL of a database without tables. */
  readonly databaseUrl: string;
  /** A store in an empty folder. */
  readonly store: ArtifactStore;
  /** The store from which artifacts are copied if the backup contains only the database. */
  readonly bytesFrom?: ArtifactStore | undefined;
  readonly migrations: readonly Migration[];
  readonly onProgress?: ((progress: CopyProgress) => void) | undefined;
  /** Aborts the restore, until the database is committed. */
  readonly signal?: AbortSignal | undefined;
}

export interface RestoreReport {
  readonly createdAt: string;
  readonly rowCount: number;
  readonly artifacts: { readonly count: number; readonly byteSize: number };
  /** Artifacts that were already missing or changed when the backup was made; their rows are marked. */
  readonly damaged: readonly string[];
}

/**
 * Reads the description of a backup without changing anything.
 * @throws DomainError FORMAT_INVALID for a file that is not a backup; MigrationError for a backup of a newer program
 * version.
 */
export async function readBackupHead(file: string, migrations: readonly Migration[]): Promise<BackupHead> {
  const head = await firstEntryOf(file);
  const known = new Map(migrations.map((migration) => [migration.name, migration.checksum]));
  for (const { name, checksum } of head.migrations) {
    if (known.get(name) === checksum) continue;
    throw new MigrationError(
      known.has(name)
        ? `Migration "${name}" differs from the one under which the backup was made.`
        : `The backup was made by a newer Paraffin (${head.program}): this program does not know its migration "${name}". Restore the backup with that version.`,
    );
  }
  return head;
}

/**
 * Restores into an empty folder and database. Every digest is verified; the database is committed last, so that an
 * interrupted restore leaves no registry behind.
 * @throws DomainError FORMAT_INVALID for an incomplete file, ARTIFACT_CORRUPT for bytes that do not match their digest.
 */
export async function readBackup({
  file,
  databaseUrl,
  store,
  bytesFrom,
  migrations,
  onProgress,
  signal,
}: RestoreOptions): Promise<RestoreReport> {
  const head = await readBackupHead(file, migrations);
  const backedUpMigrations = new Set(head.migrations.map((migration) => migration.name));
  await applyMigrations(
    databaseUrl,
    migrations.filter((migration) => backedUpMigrations.has(migration.name)),
  );
  const client = new Client({ connectionString: databaseUrl });
  await client.connect();
  try {
    const load = await beginLoad(client, head.tables, head.sequences);
    const tableOf = new Map(head.tables.map(({ table }) => [table.replaceAll('"', ''), table]));
    const rows = createHash('sha256');
    const restored = new Set<string>();
    const mismatched = new Set<string>();
    let bytesDone = 0;
    let end: z.infer<typeof endSchema> | undefined;
    for await (const entry of entriesOf(file)) {
      signal?.throwIfAborted();
      const [kind, name = ''] = entry.header.name.split('/');
      if (kind === 'database') {
        const chunk = await bytesOf(entry.bytes);
        rows.update(chunk);
        await load.write(tableOf.get(name) ?? name, chunk);
      } else if (kind === 'artifacts') {
        const stored = await store.put(entry.bytes, name);
        if (stored.sha256 === name) restored.add(name);
        else mismatched.add(name);
        bytesDone += stored.byteSize;
        onProgress?.({ bytesDone, bytesTotal: head.artifacts.byteSize });
      } else if (kind === 'end.json') {
        end = endSchema.parse(JSON.parse((await bytesOf(entry.bytes)).toString('utf8')));
      }
    }
    if (end === undefined) throw invalid(file, 'The backup ends too early.');
    if (rows.digest('hex') !== end.rowsSha256)
      throw invalid(file, 'The rows of the backup have changed since it was written.');
    const knownDamaged = new Set(end.damaged);
    const corrupt = [...mismatched].find((sha256) => !knownDamaged.has(sha256));
    if (corrupt !== undefined)
      throw new DomainError({
        code: 'ARTIFACT_CORRUPT',
        message: `Artifact ${corrupt} has changed in the backup.`,
        hint: 'Use another backup.',
      });
    if (restored.size !== end.artifactCount)
      throw invalid(file, `The backup contains ${restored.size} artifacts instead of ${end.artifactCount}.`);
    await load.commit();
    const damaged = head.contents === 'ALL' ? end.damaged : await copyCitedArtifacts(client, bytesFrom, store);
    await client
      .query('UPDATE "Artifact" SET "damagedAt" = now() WHERE sha256 = ANY($1) AND "damagedAt" IS NULL', [damaged])
      .catch((error: unknown) => {
        // An older schema lacks the column; the next check marks the artifacts.
        if (damaged.length > 0 && !(error instanceof Error && 'code' in error && error.code === '42703')) throw error;
      });
    return {
      createdAt: head.createdAt,
      rowCount: head.tables.reduce((sum, table) => sum + table.rowCount, 0),
      artifacts: { count: restored.size, byteSize: bytesDone },
      damaged,
    };
  } finally {
    await client.end();
  }
}

/**
 * For a backup of only the database: copies and verifies the artifacts that its rows cite. @returns the artifacts that
 * are missing or damaged.
 */
async function copyCitedArtifacts(
  client: Client,
  from: ArtifactStore | undefined,
  to: ArtifactStore,
): Promise<string[]> {
  const { rows } = await client.query<{ sha256: string }>('SELECT sha256 FROM "Artifact" ORDER BY 1');
  const missing: string[] = [];
  for (const { sha256 } of rows) {
    const bytes = await from?.open(sha256).catch(() => undefined);
    if (bytes === undefined) {
      missing.push(sha256);
      continue;
    }
    const stored = await to.put(bytes, sha256);
    if (stored.sha256 !== sha256) missing.push(sha256);
  }
  return missing;
}

async function firstEntryOf(file: string): Promise<BackupHead> {
  for await (const entry of entriesOf(file)) {
    if (entry.header.name !== 'backup.json') break;
    const parsed = headSchema.safeParse(JSON.parse((await bytesOf(entry.bytes)).toString('utf8')));
    if (parsed.success && parsed.data.format === FORMAT) return parsed.data;
    break;
  }
  throw invalid(file, 'The file is not a backup of Paraffin, or has a format that this version cannot read.');
}

interface TarEntry {
  readonly header: { readonly name: string };
  readonly bytes: AsyncIterable<Buffer>;
}

async function* entriesOf(file: string): AsyncGenerator<TarEntry> {
  const archive = extract();
  const reading = pipeline(createReadStream(file, { highWaterMark: CHUNK_BYTES }), archive).catch(
    (error: unknown) => error,
  );
  const unreadable = (cause: unknown): DomainError => invalid(file, 'The file is not a complete tar file.', cause);
  const iterator = archive[Symbol.asyncIterator]();
  try {
    for (;;) {
      const next = await iterator.next().catch((error: unknown) => {
        throw unreadable(error);
      });
      if (next.done === true) break;
      yield { header: next.value.header, bytes: buffersOf(next.value, unreadable) };
      // The rest of an entry that was not read whole: the next one would never come, once it fills the stream's buffer.
      next.value.resume();
    }
    const failure = await reading;
    if (failure !== undefined) throw unreadable(failure);
  } finally {
    archive.destroy();
  }
}

async function* buffersOf(
  stream: AsyncIterable<unknown>,
  unreadable: (cause: unknown) => DomainError,
): AsyncGenerator<Buffer> {
  const iterator = stream[Symbol.asyncIterator]();
  for (;;) {
    const next = await iterator.next().catch((error: unknown) => {
      throw unreadable(error);
    });
    if (next.done === true) return;
    if (Buffer.isBuffer(next.value)) yield next.value;
  }
}

async function bytesOf(entry: AsyncIterable<Buffer>): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of entry) chunks.push(chunk);
  return Buffer.concat(chunks);
}

function invalid(file: string, why: string, cause?: unknown): DomainError {
  return new DomainError({
    code: 'FORMAT_INVALID',
    message: `${file} cannot be restored. ${why}`,
    hint: 'Use another backup.',
    cause,
  });
}
