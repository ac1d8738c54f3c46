/** A backup taken while the server works, restored elsewhere: every row and every byte is unchanged. */
import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, open, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Readable } from 'node:stream';
import { after, before, describe, test } from 'node:test';
import { promisify } from 'node:util';
import { Client } from 'pg';
import { childEnvironment } from '../../src/env.ts';
import { lockDataDir } from '../../src/platform/data-dir-lock.ts';
import {
  openArtifactStore,
  verifyArtifact,
  type ArtifactStore,
  type LocalArtifactStore,
} from '../../src/platform/artifact-store/index.ts';
import { writeBackup } from '../../src/platform/backup.ts';
import { MIGRATIONS_DIR, readMigrations } from '../../src/platform/migrate.ts';
import { startPostgres } from '../../src/platform/postgres.ts';
import { eventually } from '../support/eventually.ts';
import { openTestDatabase, type TestDatabase } from '../support/database.ts';

const run = promisify(execFile);
const ROOT = path.resolve(import.meta.dirname, '../..');

let base = '';
let database: TestDatabase;
let store: LocalArtifactStore;
let backup = '';
let runId = '';
let sha256 = '';

before(async () => {
  base = await mkdtemp(path.join(tmpdir(), 'paraffin-backup-'));
  database = await openTestDatabase();
  store = openArtifactStore(path.join(base, 'artifacts'));
  const { db } = database;
  sha256 = await stored('state of step 7');
  const trained = await db.run.create({
    data: {
      title: 'made by a test',
      kind: 'PRETRAINING',
      config: { note: 'tab\t, newline\n, backslash \\ and ü' },
      status: 'RUNNING',
      startedAt: new Date(),
    },
  });
  runId = trained.id;
  await db.runEvent.create({ data: { runId, sequence: 1, kind: 'STARTED', status: 'RUNNING' } });
  await db.trainingState.create({ data: { runId, step: 7, sha256 } });
  const dataset = await db.dataset.create({
    data: { slug: 'kept', name: 'Kept', imageKind: 'PATCH', synthetic: true, searchText: 'kept' },
  });
  const manifestSha256 = await stored('manifest');
  const version = await db.datasetVersion.create({ data: { datasetId: dataset.id, version: 1, manifestSha256 } });
  await db.datasetShard.create({
    data: { datasetVersionId: version.id, position: 0, sha256: await stored('shard'), byteSize: 5, imageCount: 1 },
  });
  await db.datasetVersion.update({
    where: { id: version.id },
    data: { status: 'SEALED', digest: 'd', sealedAt: new Date() },
  });
  backup = path.join(base, 'registry.tar');
  const report = await write(backup);
  assert.deepEqual([report.damaged, report.artifacts.count], [[], 3]);
});
after(async () => {
  await database.close();
  await rm(base, { recursive: true, force: true });
});

async function stored(text: string): Promise<string> {
  const { sha256: name, byteSize } = await store.put(Buffer.from(text));
  await database.db.artifact.create({ data: { sha256: name, byteSize, mediaType: 'text/plain' } });
  return name;
}

function write(file: string, bytes: ArtifactStore | undefined = store) {
  return writeBackup({ databaseUrl: database.url, store: bytes, file, program: '9.9.9' });
}

/** The command in a separate process, with the embedded database. */
async function restore(...args: string[]): Promise<{ code: number; output: string }> {
  const env = childEnvironment({ PARAFFIN_DATABASE_URL: '' });
  return run(process.execPath, ['src/cli/main.ts', 'restore', ...args], { cwd: ROOT, env }).then(
    ({ stdout }) => ({ code: 0, output: stdout }),
    (error: Error & { code?: number; stdout?: string; stderr?: string }) => ({
      code: error.code ?? 1,
      output: `${error.stdout ?? ''}${error.stderr ?? ''}`,
    }),
  );
}

/** Every row of every table as text, except the migrations. */
async function contentOf(url: string): Promise<Record<string, unknown>> {
  const client = new Client({ connectionString: url });
  await client.connect();
  try {
    const { rows: tables } = await client.query<{ name: string }>(
      `SELECT oid::regclass::text AS name FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace AND relname <> '_prisma_migrations' ORDER BY 1`,
    );
    const content: Record<string, unknown> = {};
    for (const { name } of tables)
      content[name] = (await client.query<{ row: string }>(`SELECT t::text AS row FROM ${name} t ORDER BY 1`)).rows.map(
        ({ row }) => row,
      );
    return content;
  } finally {
    await client.end();
  }
}

test('a backup is a file readable only by its owner, with no partial file beside it', async () => {
  assert.equal((await stat(backup)).mode & 0o777, 0o600);
  assert.deepEqual(
    (await readdir(base)).filter((name) => name.endsWith('.unfinished')),
    [],
  );
});

test('a restore elsewhere has everything, database rules included, and a run that was in progress waits in the queue', async () => {
  const dataDir = path.join(base, 'restored');
  const before = await contentOf(database.url);
  const { code, output } = await restore(backup, '--data-dir', dataDir);
  assert.equal(code, 0, output);
  const postgres = await startPostgres(path.join(dataDir, 'postgres'));
  try {
    const now = await contentOf(postgres.url);
    assert.deepEqual(Object.keys(now), Object.keys(before));
    // A restored registry has its own store, and the runs that were running wait.
    const renewed = ['"Run"', '"RunEvent"', '"ArtifactStoreIdentity"'];
    for (const [table, rows] of Object.entries(before))
      if (!renewed.includes(table)) assert.deepEqual(now[table], rows, table);
    const client = new Client({ connectionString: postgres.url });
    await client.connect();
    try {
      assert.deepEqual((await client.query('SELECT status::text, config FROM "Run" WHERE id = $1', [runId])).rows, [
        { status: 'QUEUED', config: { note: 'tab\t, newline\n, backslash \\ and ü' } },
      ]);
      assert.deepEqual(
        (await client.query('SELECT kind FROM "RunEvent" WHERE "runId" = $1 ORDER BY sequence', [runId])).rows,
        [{ kind: 'STARTED' }, { kind: 'REQUEUED' }],
      );
      assert.deepEqual(
        (await client.query(`SELECT slug FROM "Dataset" WHERE "searchVector" @@ to_tsquery('english', 'kept')`)).rows,
        [{ slug: 'kept' }],
      );
      await assert.rejects(client.query('DELETE FROM "Artifact" WHERE sha256 = $1', [sha256]), /foreign key/);
      await assert.rejects(client.query('UPDATE "DatasetVersion" SET "imageCount" = 5'), /is sealed/);
    } finally {
      await client.end();
    }
    const restored = openArtifactStore(path.join(dataDir, 'artifacts'));
    for (const { sha256: name } of await database.db.artifact.findMany()) await verifyArtifact(restored, name);
  } finally {
    await postgres.stop();
  }
});

test('a restore of only the database finds its artifacts in the existing store', async () => {
  const file = path.join(base, 'rows.tar');
  await writeBackup({ databaseUrl: database.url, store: undefined, file, program: '9.9.9' });
  const dataDir = path.join(base, 'rows-restored');
  const { code, output } = await restore(file, '--data-dir', dataDir, '--bytes-from', path.join(base, 'artifacts'));
  assert.equal(code, 0, output);
  await verifyArtifact(openArtifactStore(path.join(dataDir, 'artifacts')), sha256);
});

test('artifacts that are already damaged are reported, and do not prevent a backup of the others', async () => {
  const broken = openArtifactStore(path.join(base, 'broken'));
  for (const text of ['state of step 7', 'manifest', 'shard']) await broken.put(Buffer.from(text));
  await writeFile(broken.pathOf(sha256), 'state of step 8');
  assert.deepEqual((await write(path.join(base, 'broken.tar'), broken)).damaged, [sha256]);
});

describe('a refused restore leaves its destination empty', () => {
  const refused = async (file: string, words: RegExp): Promise<void> => {
    const dataDir = path.join(base, `refused-${path.basename(file)}`);
    const { code, output } = await restore(file, '--data-dir', dataDir);
    assert.equal(code, 1, output);
    assert.match(output, words);
    assert.deepEqual(await readdir(dataDir).catch(() => []), []);
  };
  /** The backup with some of its bytes changed. */
  const changed = async (name: string, from: string, to: string): Promise<string> => {
    const file = path.join(base, name);
    await run('cp', [backup, file]);
    const handle = await open(file, 'r+');
    const bytes = await handle.readFile();
    const at = bytes.indexOf(from);
    assert.ok(at > 0, from);
    await handle.write(Buffer.from(to), 0, to.length, at);
    await handle.close();
    return file;
  };

  test('something that is not a backup', () =>
    refused(path.join(ROOT, 'package.json'), /not a backup|cannot be restored/));
  test('a backup that ends too early', async () => {
    const file = path.join(base, 'short.tar');
    await run('cp', [backup, file]);
    const handle = await open(file, 'r+');
    await handle.truncate(Math.floor((await stat(file)).size / 2 / 512) * 512);
    await handle.close();
    await refused(file, /cannot be restored/);
  });
  test('stored bytes that changed in the backup', async () =>
    refused(await changed('bytes.tar', 'state of step 7', 'state of step 9'), /has changed in the backup/));
  test('rows that changed in the backup', async () =>
    refused(await changed('rows-changed.tar', 'backslash', 'Backslash'), /rows of the backup have changed/));
  test('a backup of a newer program', async () => {
    const [last] = (await readMigrations(MIGRATIONS_DIR)).slice(-1);
    await refused(await changed('newer.tar', last?.name ?? '', '29991231235959'), /newer Paraffin/);
  });
  test('a destination that is not empty', async () => {
    const { code, output } = await restore(backup, '--data-dir', base);
    assert.equal(code, 1);
    assert.match(output, /not empty/);
    assert.ok((await readdir(base)).includes('registry.tar'));
  });
});

describe('a backup or restore that is interrupted leaves nothing behind', () => {
  const isThere = async (file: string): Promise<true | undefined> =>
    stat(file).then(
      () => true as const,
      () => undefined,
    );
  const command = (...args: string[]) =>
    spawn(process.execPath, ['src/cli/main.ts', ...args], {
      cwd: ROOT,
      env: childEnvironment({ PARAFFIN_DATABASE_URL: '' }),
      stdio: ['ignore', 'ignore', 'pipe'],
    });
  /** Pids of processes whose command line names the folder. */
  const processesOn = async (folder: string): Promise<true | undefined> => {
    const { stdout } = await run('ps', ['-eo', 'args']);
    return stdout.split('\n').some((line) => line.includes(folder)) ? undefined : true;
  };

  for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
    test(`a restore by ${signal}: no folder's content and no PostgreSQL`, async () => {
      const dataDir = path.join(base, `ended-by-${signal}`);
      const restoring = command('restore', backup, '--data-dir', dataDir);
      let output = '';
      restoring.stderr.on('data', (chunk: Buffer) => (output += chunk.toString('utf8')));
      const ended = once(restoring, 'exit');
      await eventually('the cluster to be made', () => isThere(path.join(dataDir, 'postgres', 'cluster')), 60_000);
      restoring.kill(signal);
      const [code] = await ended;
      if (signal !== 'SIGKILL') {
        assert.equal(code, 130);
        assert.match(output, /all temporary files were removed/);
      }
      await eventually('PostgreSQL to be gone', () => processesOn(dataDir), 60_000);
      await eventually(
        'the folder to be empty',
        async () => ((await readdir(dataDir)).length === 0 ? true : undefined),
        60_000,
      );
    });

    test(`a backup by ${signal}: no unfinished file`, async () => {
      // Large enough to be interrupted while it is written.
      const folder = path.join(base, `backup-by-${signal}`);
      const program = `
        const { writeBackup } = await import(${JSON.stringify(path.join(ROOT, 'src/platform/backup.ts'))});
        const { openArtifactStore } = await import(${JSON.stringify(path.join(ROOT, 'src/platform/artifact-store/index.ts'))});
        const { interruptible } = await import(${JSON.stringify(path.join(ROOT, 'src/cli/interruptible.ts'))});
        const store = openArtifactStore(${JSON.stringify(path.join(base, 'artifacts'))});
        // The first artifact is never returned, so that the backup is interrupted while it is written.
        const waits = { ...store, open: () => new Promise(() => setInterval(() => undefined, 1000)) };
        await interruptible((signal) => writeBackup({
          databaseUrl: ${JSON.stringify(database.url)}, store: waits, program: '9.9.9', signal,
          file: ${JSON.stringify(path.join(folder, 'registry.tar'))},
        }));`;
      const writing = spawn(process.execPath, ['--input-type=module', '-e', program], { cwd: ROOT, stdio: 'ignore' });
      const ended = once(writing, 'exit');
      await eventually('the file to be begun', () => isThere(path.join(folder, 'registry.tar.unfinished')), 60_000);
      writing.kill(signal);
      await ended;
      await eventually(
        'the folder to be empty',
        async () => ((await readdir(folder)).length === 0 ? true : undefined),
        60_000,
      );
    });
  }

  test('a restore that was interrupted by a crash of the machine is not a registry, and the next restore removes it', async () => {
    const dataDir = path.join(base, 'power-cut');
    await mkdir(path.join(dataDir, 'artifacts', 'sha256'), { recursive: true });
    await writeFile(path.join(dataDir, 'artifacts', 'sha256', 'half'), 'x');
    await writeFile(path.join(dataDir, '.restoring'), '');
    await assert.rejects(lockDataDir(dataDir), { code: 'CONFLICT', message: /was not finished/ });
    const { code, output } = await restore(backup, '--data-dir', dataDir);
    assert.equal(code, 0, output);
    await (await lockDataDir(dataDir)).release();
    assert.equal(await isThere(path.join(dataDir, 'artifacts', 'sha256', 'half')), undefined);
  });
});

/** Four bytes, and then a read error as from a bad sector. */
async function* untilBadSector(whole: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  for await (const chunk of whole) {
    yield chunk.subarray(0, 4);
    throw Object.assign(new Error('i/o error, read'), { code: 'EIO' });
  }
}

test('a bad sector is reported, and does not prevent a backup of the rest', async () => {
  const bad: ArtifactStore = {
    ...store,
    open: async (name) => {
      const whole = await store.open(name);
      return name === sha256 ? Readable.from(untilBadSector(whole)) : whole;
    },
  };
  const file = path.join(base, 'bad-sector.tar');
  assert.deepEqual((await write(file, bad)).damaged, [sha256]);
  const dataDir = path.join(base, 'bad-sector');
  const { code, output } = await restore(file, '--data-dir', dataDir);
  assert.equal(code, 3, output);
  const restored = openArtifactStore(path.join(dataDir, 'artifacts'));
  for (const { sha256: name } of await database.db.artifact.findMany())
    if (name !== sha256) await verifyArtifact(restored, name);
});
