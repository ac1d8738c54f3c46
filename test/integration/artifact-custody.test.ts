/** fsck and garbage collection over a real database and real files. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { rm, symlink } from 'node:fs/promises';
import { after, before, beforeEach, describe, test } from 'node:test';
import {
  checkArtifacts,
  collectGarbage,
  recordArtifacts,
  type GarbageReport,
} from '../../src/modules/artifacts/index.ts';
import { dropSupersededStates, oldestActiveStart } from '../../src/modules/runs/index.ts';
import { withStoredBytesLock } from '../../src/platform/advisory-lock.ts';
import { openArtifactStore, verifyArtifact, type ArtifactStore } from '../../src/platform/artifact-store/index.ts';
import { nameOf, openStoreStage, STORE_KINDS, useS3, type StoreStage } from '../support/artifact-stage.ts';
import { INPUT_CONTRACT } from '../support/checkpoints.ts';
import { openTestDatabase, type TestDatabase } from '../support/database.ts';

const OLD = new Date('2020-01-01T00:00:00Z');
const CUTOFF = new Date('2021-01-01T00:00:00Z');
const sha256Of = (text: string): string => createHash('sha256').update(text).digest('hex');

let database: TestDatabase;
let modelId = '';
let version = 0;
let stage: StoreStage;
let store: ArtifactStore;
const s3 = useS3();

before(async () => {
  database = await openTestDatabase();
  modelId = (await database.db.model.create({ data: { slug: 'custody', name: 'Custody' } })).id;
});
after(() => database.close());
beforeEach(async () => {
  await database.db.checkpoint.deleteMany({ where: { modelId } });
  await database.db.trainingState.deleteMany();
  await database.db.artifact.deleteMany();
});

/** Bytes that have been in the store for a long time. */
async function stored(text: string): Promise<string> {
  const { sha256 } = await store.put(Buffer.from(text));
  await stage.setWrittenAt(sha256, OLD);
  return sha256;
}

/** Bytes that have had a row for a long time. */
async function recorded(text: string): Promise<string> {
  const sha256 = await stored(text);
  await database.db.artifact.create({
    data: { sha256, byteSize: text.length, mediaType: 'text/plain', recordedAt: OLD },
  });
  return sha256;
}

/** Bytes that a checkpoint references. */
async function cited(text: string): Promise<{ readonly sha256: string; readonly checkpointId: string }> {
  const sha256 = await recorded(text);
  version += 1;
  const { id } = await database.db.checkpoint.create({
    data: {
      modelId,
      version,
      encoder: 'RESNET18',
      embeddingDim: 512,
      inputContract: INPUT_CONTRACT,
      sha256,
      byteSize: text.length,
    },
  });
  return { sha256, checkpointId: id };
}

const isStored = async (sha256: string): Promise<boolean> => (await store.stat(sha256)) !== undefined;
const hasRow = async (sha256: string): Promise<boolean> =>
  (await database.db.artifact.findUnique({ where: { sha256 } })) !== null;

/** The store of each test, empty at its start. */
function useStore(kind: (typeof STORE_KINDS)[number]): void {
  beforeEach(async (context) => {
    assert.ok('after' in context);
    stage = await openStoreStage(kind, context, s3);
    store = stage.store;
  });
}

for (const kind of STORE_KINDS) {
  describe(`in a ${kind}`, () => {
    useStore(kind);

    describe('fsck', () => {
      const check = () => checkArtifacts({ db: database.db, store });

      test('finds nothing in an intact store, and reads every byte', async () => {
        await cited('one');
        await cited('three');
        const progress: number[] = [];
        const report = await checkArtifacts({
          db: database.db,
          store,
          onProgress: ({ bytesDone, bytesTotal }) => progress.push(bytesDone / bytesTotal),
        });
        assert.deepEqual(report.checked, { count: 2, byteSize: 8 });
        assert.deepEqual([report.damaged, report.repaired, report.unexpectedFiles], [[], [], []]);
        assert.equal(progress.at(-1), 1);
      });

      test('quarantines a changed file, marks its row, lists what cites it, and reports it to every reader', async () => {
        const { sha256, checkpointId } = await cited('weights');
        await stage.write(nameOf(sha256), 'weightz');
        const { damaged, quarantined } = await check();
        assert.deepEqual(damaged, [
          { sha256, damage: 'CORRUPT', byteSize: 7, referencedBy: [`Checkpoint ${checkpointId}`] },
        ]);
        assert.deepEqual(quarantined, { count: 1, byteSize: 7 });
        assert.equal((await stage.read(`quarantine/${sha256}`)).toString('utf8'), 'weightz');
        assert.notEqual((await database.db.artifact.findUniqueOrThrow({ where: { sha256 } })).damagedAt, null);
        await assert.rejects(store.read(sha256), { code: 'ARTIFACT_CORRUPT' });
        await assert.rejects(verifyArtifact(store, sha256), { code: 'ARTIFACT_CORRUPT' });
        await assert.rejects(store.open(sha256), { code: 'ARTIFACT_CORRUPT' });
      });

      test('finds it again the next time, and removes the mark once the bytes are restored', async () => {
        const { sha256 } = await cited('weights');
        await stage.write(nameOf(sha256), 'weight');
        await check();
        const again = await check();
        assert.deepEqual(
          again.damaged.map(({ damage }) => damage),
          ['CORRUPT'],
        );
        await stored('weights');
        const { damaged, repaired } = await check();
        assert.deepEqual([damaged, repaired], [[], [sha256]]);
        assert.equal((await database.db.artifact.findUniqueOrThrow({ where: { sha256 } })).damagedAt, null);
      });

      test('distinguishes a missing file from a changed one', async () => {
        const { sha256, checkpointId } = await cited('weights');
        await stage.erase(nameOf(sha256));
        const { damaged, quarantined } = await check();
        assert.deepEqual(damaged, [
          { sha256, damage: 'MISSING', byteSize: 7, referencedBy: [`Checkpoint ${checkpointId}`] },
        ]);
        assert.equal(quarantined.count, 0);
      });

      test('reports files without a row, rows without a citation, and files that are not artifacts', async () => {
        await cited('wanted');
        await stored('no row');
        await recorded('nobody cites me');
        await stage.write(`sha256/${sha256Of('wanted').slice(0, 2)}/notes.txt`, 'mine');
        const report = await check();
        assert.deepEqual(report.filesWithoutRow, { count: 1, byteSize: 6 });
        assert.deepEqual(report.unreferencedRows, { count: 1, byteSize: 15 });
        assert.deepEqual(report.unexpectedFiles, [
          `${store.location}/sha256/${sha256Of('wanted').slice(0, 2)}/notes.txt`,
        ]);
        assert.deepEqual(report.damaged, []);
      });

      test('quarantines a changed file without a row', async () => {
        const sha256 = await stored('no row');
        await stage.write(nameOf(sha256), 'changed');
        const { damaged } = await check();
        assert.deepEqual(damaged, [{ sha256, damage: 'CORRUPT', byteSize: 7, referencedBy: [] }]);
        assert.equal(await isStored(sha256), false);
      });
    });

    describe('garbage collection', () => {
      const collect = async (
        options: { dryRun?: boolean; keepStates?: number } = {},
      ): Promise<Pick<GarbageReport, 'rows' | 'files'>> => {
        const { rows, files } = await collectGarbage({
          db: database.db,
          transact: database.transact,
          store,
          before: CUTOFF,
          dryRun: options.dryRun ?? false,
          dropReferences: [(tx) => dropSupersededStates(tx, { keepLast: options.keepStates })],
        });
        return { rows, files };
      };

      test('deletes what nothing cites, and keeps the rest', async () => {
        const { sha256: wanted } = await cited('wanted');
        const uncited = await recorded('nobody cites me');
        const rowless = await stored('no row');
        assert.deepEqual(await collect(), { rows: { count: 1, byteSize: 15 }, files: { count: 2, byteSize: 21 } });
        assert.deepEqual([await isStored(wanted), await hasRow(wanted)], [true, true]);
        assert.deepEqual(
          [await isStored(uncited), await hasRow(uncited), await isStored(rowless)],
          [false, false, false],
        );
        assert.deepEqual(await collect(), { rows: { count: 0, byteSize: 0 }, files: { count: 0, byteSize: 0 } });
      });

      test('reports the same with a dry run, and changes nothing', async () => {
        const uncited = await recorded('nobody cites me');
        const rowless = await stored('no row');
        const planned = await collect({ dryRun: true });
        assert.deepEqual([await isStored(uncited), await hasRow(uncited), await isStored(rowless)], [true, true, true]);
        assert.deepEqual(await collect(), planned);
      });

      test('knows every table that cites: shards, thumbnails, slides, manifests, states, checkpoints', async () => {
        const names = ['shard', 'thumbnail', 'manifest', 'state', 'overview of a slide', 'its tissue mask'];
        const [shard, thumbnail, manifest, state, overview, mask] = await Promise.all(names.map(recorded));
        const { sha256: checkpoint } = await cited('checkpoint');
        assert.ok(shard !== undefined && thumbnail !== undefined && manifest !== undefined && state !== undefined);
        assert.ok(overview !== undefined && mask !== undefined);
        const dataset = await database.db.dataset.create({
          data: { slug: 'custody', name: 'Custody', imageKind: 'PATCH', synthetic: true },
        });
        const made = await database.db.datasetVersion.create({
          data: { datasetId: dataset.id, version: 1, manifestSha256: manifest },
        });
        await database.db.datasetShard.create({
          data: { datasetVersionId: made.id, position: 0, sha256: shard, byteSize: 5, imageCount: 1 },
        });
        await database.db.datasetThumbnail.create({
          data: { datasetVersionId: made.id, position: 0, sha256: thumbnail },
        });
        await database.db.slide.create({
          data: {
            ...{ datasetVersionId: made.id, position: 0, path: 'S1.svs', status: 'LEFT_OUT' },
            ...{ thumbnailSha256: overview, tissueMaskSha256: mask },
          },
        });
        const run = await database.db.run.create({
          data: { title: 'made by a test', kind: 'PRETRAINING', config: {} },
        });
        await database.db.trainingState.create({ data: { runId: run.id, step: 1, sha256: state } });
        assert.deepEqual((await collect()).files, { count: 0, byteSize: 0 });
        for (const sha256 of [shard, thumbnail, manifest, state, checkpoint, overview, mask])
          assert.equal(await isStored(sha256), true);
        await database.db.datasetVersion.delete({ where: { id: made.id } });
        await database.db.dataset.delete({ where: { id: dataset.id } });
        assert.equal((await collect()).files.count, 5);
      });

      test('every column named after a sha256 of an artifact is a foreign key, so that every citation is visible', async () => {
        const rows = await database.db.$queryRaw<{ name: string }[]>`
      SELECT c.table_name || '.' || c.column_name AS name FROM information_schema.columns c
      WHERE c.table_schema = 'public' AND c.column_name ~* 'sha256$' AND c.table_name <> 'Artifact' AND NOT EXISTS (
        SELECT 1 FROM pg_constraint f JOIN pg_attribute a ON a.attrelid = f.conrelid AND a.attnum = f.conkey[1]
        WHERE f.contype = 'f' AND f.confrelid = '"Artifact"'::regclass AND f.conrelid = quote_ident(c.table_name)::regclass AND a.attname = c.column_name)`;
        assert.deepEqual(rows, []);
      });

      test('the database never removes a citation by itself: every such key forbids deletion', async () => {
        const rows = await database.db.$queryRaw<{ name: string; rule: string }[]>`
      SELECT conname::text AS name, confdeltype::text AS rule FROM pg_constraint WHERE contype = 'f' AND confrelid = '"Artifact"'::regclass AND confdeltype NOT IN ('r', 'a')`;
        assert.deepEqual(rows, []);
      });

      test('keeps recent files and recent rows', async () => {
        const { sha256: recentFile } = await store.put(Buffer.from('just stored'));
        const recentRow = await stored('just recorded');
        await database.transact((tx) =>
          recordArtifacts(tx, [{ sha256: recentRow, byteSize: 13, mediaType: 'text/plain' }]),
        );
        assert.deepEqual(await collect(), { rows: { count: 0, byteSize: 0 }, files: { count: 0, byteSize: 0 } });
        assert.deepEqual([await isStored(recentFile), await isStored(recentRow)], [true, true]);
      });

      test('keeps what another transaction is recording at this moment', async () => {
        const sha256 = await recorded('the same bytes again');
        let collected: Pick<GarbageReport, 'rows' | 'files'> | undefined;
        await database.transact(async (tx) => {
          await store.put(Buffer.from('the same bytes again'));
          await recordArtifacts(tx, [{ sha256, byteSize: 20, mediaType: 'text/plain' }]);
          collected = await collect();
        });
        assert.deepEqual(collected, { rows: { count: 0, byteSize: 0 }, files: { count: 0, byteSize: 0 } });
        assert.deepEqual([await isStored(sha256), await hasRow(sha256)], [true, true]);
      });

      test('a transaction that records an artifact while the collection commits still gets its row and bytes', async () => {
        const sha256 = await recorded('the same bytes again');
        let recording: Promise<void> | undefined;
        const { rows } = await collectGarbage({
          db: database.db,
          // The other transaction arrives when the row is deleted and the deletion is not yet committed.
          transact: (work) =>
            database.transact(async (tx) => {
              const result = await work(tx);
              await store.put(Buffer.from('the same bytes again'));
              recording = database.transact((other) =>
                recordArtifacts(other, [{ sha256, byteSize: 20, mediaType: 'text/plain' }]),
              );
              return result;
            }),
          store,
          before: CUTOFF,
          dryRun: false,
        });
        await recording;
        assert.equal(rows.count, 1);
        assert.deepEqual([await isStored(sha256), await hasRow(sha256)], [true, true]);
      });

      test('a file that is stored again between the check and the deletion stays', async () => {
        const sha256 = await stored('again');
        await store.put(Buffer.from('again'));
        assert.equal(await store.delete(sha256, CUTOFF), false);
        assert.equal(await isStored(sha256), true);
        await stage.setWrittenAt(sha256, OLD);
        assert.equal(await store.delete(sha256, CUTOFF), true);
        assert.equal(await isStored(sha256), false);
        assert.equal(await store.delete(sha256, CUTOFF), false, 'twice is not an error');
      });

      test('keeps the last training states of a run that may continue, and none of one that succeeded', async () => {
        const [failed, succeeded] = await Promise.all(
          (['FAILED', 'SUCCEEDED'] as const).map((status) =>
            database.db.run.create({ data: { title: 'made by a test', kind: 'PRETRAINING', config: {}, status } }),
          ),
        );
        assert.ok(failed !== undefined && succeeded !== undefined);
        for (const step of [10, 20, 30]) {
          for (const run of [failed, succeeded])
            await database.db.trainingState.create({
              data: { runId: run.id, step, sha256: await recorded(`${run.status} ${step}`) },
            });
        }
        const planned = await collect({ dryRun: true });
        assert.equal(planned.rows.count, 4);
        assert.equal(await database.db.trainingState.count(), 6);
        assert.deepEqual(await collect(), planned);
        const left = await database.db.trainingState.findMany({ orderBy: { step: 'asc' } });
        assert.deepEqual(
          left.map(({ runId, step }) => [runId, step]),
          [
            [failed.id, 20],
            [failed.id, 30],
          ],
        );
        await collect({ keepStates: 1 });
        assert.deepEqual(
          (await database.db.trainingState.findMany()).map(({ step }) => step),
          [30],
        );
      });

      test('knows when the oldest running run began', async () => {
        assert.equal(await oldestActiveStart(database.db), undefined);
        const startedAt = new Date('2026-01-01T00:00:00Z');
        const run = await database.db.run.create({
          data: { title: 'made by a test', kind: 'IMPORT', config: {}, status: 'RUNNING', startedAt },
        });
        assert.deepEqual(await oldestActiveStart(database.db), startedAt);
        await database.db.run.delete({ where: { id: run.id } });
      });

      test('does not begin while the bytes are in use, and the other way round', async () => {
        const { url } = database;
        await withStoredBytesLock(url, 'SHARED', async () => {
          await assert.rejects(
            withStoredBytesLock(url, 'EXCLUSIVE', () => Promise.resolve()),
            { code: 'CONFLICT', retryable: true },
          );
          await withStoredBytesLock(url, 'SHARED', () => Promise.resolve());
        });
        await withStoredBytesLock(url, 'EXCLUSIVE', () =>
          assert.rejects(
            withStoredBytesLock(url, 'SHARED', () => Promise.resolve()),
            { code: 'CONFLICT' },
          ),
        );
      });
    });
  });
}

describe('on a failing disk', () => {
  const check = () => checkArtifacts({ db: database.db, store });

  useStore('folder');

  test('reports a file on a bad sector, and continues', async () => {
    const disk = openArtifactStore(store.location);
    const { sha256, checkpointId } = await cited('weights');
    const whole = await cited('whole');
    const withoutRow = await stored('no row');
    for (const unreadable of [sha256, withoutRow]) {
      // A file for which the kernel fails a read with EIO, as for a failing disk.
      await rm(disk.pathOf(unreadable));
      await symlink('/proc/self/mem', disk.pathOf(unreadable));
    }
    const { damaged, checked } = await check();
    assert.deepEqual(damaged, [
      { sha256, damage: 'UNREADABLE', byteSize: 7, referencedBy: [`Checkpoint ${checkpointId}`] },
      { sha256: withoutRow, damage: 'UNREADABLE', byteSize: 0, referencedBy: [] },
    ]);
    assert.equal(checked.count, 2);
    assert.notEqual((await database.db.artifact.findUniqueOrThrow({ where: { sha256 } })).damagedAt, null);
    await verifyArtifact(store, whole.sha256);
  });
});
