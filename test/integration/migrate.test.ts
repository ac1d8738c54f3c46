/** Migrations on databases in every state that a start may find. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { Client } from 'pg';
import { openArtifactStore } from '../../src/platform/artifact-store/index.ts';
import { readBackup, readBackupHead } from '../../src/platform/backup.ts';
import { backUpBeforeUpgrade } from '../../src/platform/upgrade-backup.ts';
import { applyMigrations, readMigrations, MigrationError, type Migration } from '../../src/platform/migrate.ts';
import { artifactPlaceOf } from '../support/artifact-place.ts';
import { openTestDatabase, type TestDatabase } from '../support/database.ts';

let shared: TestDatabase;
let real: Migration[] = [];

before(async () => {
  shared = await openTestDatabase();
  real = await readMigrations(path.resolve(import.meta.dirname, '../../prisma/migrations'));
});
after(() => shared.close());

async function ask(url: string, sql: string): Promise<Record<string, unknown>[]> {
  const client = new Client({ connectionString: url });
  await client.connect();
  try {
    return (await client.query<Record<string, unknown>>(sql)).rows;
  } finally {
    await client.end();
  }
}

/** An empty database, dropped with the test. */
async function emptyDatabase(context: { after(clean: () => Promise<unknown>): void }): Promise<string> {
  const name = `empty_${randomBytes(6).toString('hex')}`;
  await ask(shared.url, `CREATE DATABASE ${name}`);
  context.after(() => ask(shared.url, `DROP DATABASE ${name} WITH (FORCE)`));
  const url = new URL(shared.url);
  url.pathname = `/${name}`;
  return url.href;
}

const migration = (name: string, sql: string, checksum = name): Migration => ({ name, sql, checksum });
const CREATE_A = migration('1_a', 'CREATE TABLE a (id int)');
const tables = async (url: string): Promise<unknown[]> =>
  (
    await ask(
      url,
      "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> '_prisma_migrations' ORDER BY 1",
    )
  ).map((row) => row['tablename']);

test('the real migrations are applied to an empty database, and none the second time', async (context) => {
  const url = await emptyDatabase(context);
  assert.deepEqual(
    await applyMigrations(url, real),
    real.map(({ name }) => name),
  );
  assert.ok((await tables(url)).includes('Run'));
  assert.deepEqual(await applyMigrations(url, real), []);
});

test('migrations are applied in order, and recorded as Prisma does', async (context) => {
  assert.deepEqual(
    real.map(({ name }) => name),
    real.map(({ name }) => name).sort(),
  );
  const url = await emptyDatabase(context);
  await applyMigrations(url, real);
  const rows = await ask(
    url,
    'SELECT migration_name, checksum, applied_steps_count, rolled_back_at, finished_at IS NOT NULL AS finished FROM "_prisma_migrations" ORDER BY started_at, migration_name',
  );
  assert.deepEqual(
    rows,
    real.map(({ name, checksum }) => ({
      migration_name: name,
      checksum,
      applied_steps_count: 1,
      rolled_back_at: null,
      finished: true,
    })),
  );
});

test('only new migrations are applied to an older database', async (context) => {
  const url = await emptyDatabase(context);
  await applyMigrations(url, [CREATE_A]);
  await ask(url, 'INSERT INTO a VALUES (7)');
  assert.deepEqual(
    await applyMigrations(url, [CREATE_A, migration('2_b', 'ALTER TABLE a ADD COLUMN b int DEFAULT 1')]),
    ['2_b'],
  );
  assert.deepEqual(await ask(url, 'SELECT * FROM a'), [{ id: 7, b: 1 }]);
});

test('runs from before runs had titles get them from their configs', async (context) => {
  const url = await emptyDatabase(context);
  const titles = real.findIndex(({ name }) => name.endsWith('_run_titles'));
  await applyMigrations(url, real.slice(0, titles));
  const ids = {
    dataset: '00000000-0000-7000-8000-0000000000d1',
    model: '00000000-0000-7000-8000-0000000000a1',
    checkpoint: '00000000-0000-7000-8000-0000000000c1',
    version: '00000000-0000-7000-8000-0000000000e1',
  };
  await ask(
    url,
    `INSERT INTO "Dataset" (id, slug, name, provenance, "imageKind", "updatedAt") VALUES ('${ids.dataset}', 'kolon', 'Kolon', 'LOCAL', 'PATCH', now())`,
  );
  await ask(
    url,
    `INSERT INTO "DatasetVersion" (id, "datasetId", version) VALUES ('${ids.version}', '${ids.dataset}', 2)`,
  );
  await ask(url, `INSERT INTO "Model" (id, slug, name) VALUES ('${ids.model}', 'tissue', 'Tissue')`);
  await ask(
    url,
    `INSERT INTO "Checkpoint" (id, "modelId", version, encoder, "embeddingDim", "inputContract") VALUES ('${ids.checkpoint}', '${ids.model}', 3, 'RESNET18', 512, '{}')`,
  );
  const runs = [
    ['PRETRAINING', { modelSlug: 'tissue', encoder: 'RESNET18', steps: 400 }],
    ['IMPORT', { datasetId: ids.dataset, path: '/data/Färbung' }],
    ['EVALUATION', { protocol: 'LINEAR_PROBE', checkpointId: ids.checkpoint, datasetVersionId: ids.version }],
    ['EXPORT', { checkpointId: ids.checkpoint, formats: ['ONNX'] }],
    // The checkpoint that it evaluated was deleted.
    ['EVALUATION', { protocol: 'KNN', checkpointId: ids.model, datasetVersionId: ids.version }],
  ] as const;
  for (const [index, [kind, config]] of runs.entries())
    await ask(
      url,
      `INSERT INTO "Run" (id, kind, config) VALUES ('00000000-0000-7000-8000-00000000000${index}', '${kind}', '${JSON.stringify(config)}')`,
    );
  await applyMigrations(url, real);
  assert.deepEqual(
    (await ask(url, 'SELECT title FROM "Run" ORDER BY id')).map((row) => row['title']),
    [
      'tissue: resnet18, 400 steps',
      'kolon from Färbung',
      'linear probe of tissue@3 on kolon@2',
      'tissue@3, exported',
      'evaluation',
    ],
  );
});

describe('refused without a change', () => {
  test('a database of a newer program', async (context) => {
    const url = await emptyDatabase(context);
    await applyMigrations(url, [CREATE_A, migration('3_later', 'CREATE TABLE later (id int)')]);
    await assert.rejects(
      applyMigrations(url, [CREATE_A, migration('2_b', 'CREATE TABLE b (id int)')]),
      (error: unknown) => error instanceof MigrationError && /"3_later".*newer Paraffin/.test(error.message),
    );
    assert.deepEqual(await tables(url), ['a', 'later']);
  });

  test('a migration that was changed after it was applied', async (context) => {
    const url = await emptyDatabase(context);
    await applyMigrations(url, [CREATE_A]);
    await assert.rejects(
      applyMigrations(url, [{ ...CREATE_A, checksum: 'changed' }]),
      (error: unknown) => error instanceof MigrationError && /"1_a" differs/.test(error.message),
    );
  });

  test('a migration that fails halfway is rolled back completely, and earlier ones stay', async (context) => {
    const url = await emptyDatabase(context);
    const broken = migration('2_broken', 'CREATE TABLE b (id int); SELECT no_such_function();');
    await assert.rejects(
      applyMigrations(url, [CREATE_A, broken, migration('3_c', 'CREATE TABLE c (id int)')]),
      (error: unknown) =>
        error instanceof MigrationError && /"2_broken" failed and was rolled back/.test(error.message),
    );
    assert.deepEqual(await tables(url), ['a']);
    assert.deepEqual(
      await applyMigrations(url, [CREATE_A, migration('2_broken', 'CREATE TABLE b (id int)')]),
      ['2_broken'],
      'a corrected migration can be applied',
    );
  });
});

describe('before the first change', () => {
  test('the rows of a database in use are saved in a file that restores to the older schema', async (context) => {
    const url = await emptyDatabase(context);
    const folder = await mkdtemp(path.join(tmpdir(), 'paraffin-upgrade-'));
    context.after(() => rm(folder, { recursive: true, force: true }));
    const older = real.slice(0, -1);
    await applyMigrations(url, older);
    await ask(url, `INSERT INTO "Model" (id, slug, name) VALUES (gen_random_uuid(), 'kept', 'Kept')`);
    const kept: string[] = [];
    const keep = async (): Promise<void> => void kept.push(await backUpBeforeUpgrade(url, folder));
    assert.deepEqual(await applyMigrations(url, real, keep), [real.at(-1)?.name]);
    assert.equal(kept.length, 1);
    const head = await readBackupHead(kept[0] ?? '', real);
    assert.deepEqual(
      [head.contents, head.migrations.map(({ name }) => name)],
      ['DATABASE', older.map(({ name }) => name)],
    );
    const fresh = await emptyDatabase(context);
    await readBackup({
      file: kept[0] ?? '',
      databaseUrl: fresh,
      store: openArtifactStore(artifactPlaceOf(folder)),
      migrations: real,
    });
    assert.deepEqual(await ask(fresh, 'SELECT slug FROM "Model"'), [{ slug: 'kept' }]);
    assert.deepEqual(await applyMigrations(fresh, real), [real.at(-1)?.name]);
  });

  test('nothing is saved of an empty database, or if there is nothing to migrate', async (context) => {
    const url = await emptyDatabase(context);
    const never = (): Promise<void> => Promise.reject(new Error('There is nothing to keep.'));
    await applyMigrations(url, [CREATE_A], never);
    await applyMigrations(url, [CREATE_A], never);
  });

  test('nothing is changed if the rows cannot be saved', async (context) => {
    const url = await emptyDatabase(context);
    await applyMigrations(url, [CREATE_A]);
    await assert.rejects(
      applyMigrations(url, [CREATE_A, migration('2_b', 'CREATE TABLE b (id int)')], () =>
        Promise.reject(new Error('The disk is full.')),
      ),
      /disk is full/,
    );
    assert.deepEqual(await tables(url), ['a']);
  });

  test('only the last three files are kept', async (context) => {
    const folder = await mkdtemp(path.join(tmpdir(), 'paraffin-upgrade-'));
    context.after(() => rm(folder, { recursive: true, force: true }));
    const made: string[] = [];
    for (let count = 0; count < 5; count += 1) made.push(path.basename(await backUpBeforeUpgrade(shared.url, folder)));
    assert.deepEqual((await readdir(path.join(folder, 'backups'))).sort(), made.slice(-3));
  });
});

test('two servers that start at once migrate once', async (context) => {
  const url = await emptyDatabase(context);
  const slow = [CREATE_A, migration('2_slow', 'CREATE TABLE b (id int); SELECT pg_sleep(0.2);')];
  const applied = await Promise.all([
    applyMigrations(url, slow),
    applyMigrations(url, slow),
    applyMigrations(url, slow),
  ]);
  assert.deepEqual(applied.flat().sort(), ['1_a', '2_slow']);
});
