/** Imports as runs that continue: what a killed process leaves, and what goes when the run ends. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { collectGarbage } from '../../src/modules/artifacts/index.ts';
import { dropBlocksOfEndedImports } from '../../src/modules/runs/index.ts';
import { TaskStopped } from '../../workers/tasks/task.ts';
import { openTestDatabase, type TestDatabase } from '../support/database.ts';
import {
  drawImportFolder,
  interruptedImport,
  smallImportTask,
  type InterruptionPoint,
} from '../support/interrupted-import.ts';
import { createTaskRunner, type LaunchedTask, type TaskRunner } from '../support/task-runner.ts';

let base = '';
let database: TestDatabase;
let runner: TaskRunner;
let datasetCount = 0;

before(async () => {
  database = await openTestDatabase();
  runner = await createTaskRunner(database);
  ({ base } = runner);
});
after(async () => {
  await runner.close();
  await database.close();
});

async function folderOfImages(name: string, seed?: number): Promise<string> {
  const folder = path.join(base, name);
  await drawImportFolder(folder, seed);
  return folder;
}

async function queueImport(folder: string, config: object = {}): Promise<string> {
  datasetCount += 1;
  const { id: datasetId } = await database.db.dataset.create({
    data: { slug: `resumed-${datasetCount}`, name: 'Resumed', imageKind: 'PATCH', synthetic: true },
  });
  const { id } = await database.db.run.create({
    data: {
      kind: 'IMPORT',
      title: 'made by a test',
      config: {
        ...{ datasetId, path: folder, layout: 'FOLDER_PER_LABEL', labelsCsvPath: null, patchSizePx: null },
        ...{ importRoots: [base], accept: ['NOT_EVALUABLE'], ...config },
      },
    },
  });
  return id;
}

/** Everything that the version of a run consists of, but ids and times. */
async function versionOf(runId: string): Promise<unknown> {
  const version = await database.db.datasetVersion.findFirstOrThrow({
    where: { importRunId: runId },
    include: { shards: { orderBy: { position: 'asc' } }, thumbnails: { orderBy: { position: 'asc' } } },
  });
  const { digest, manifestSha256, imageCount, byteSize, labelCounts, issueListSha256, shards, thumbnails } = version;
  return {
    ...{ digest, manifestSha256, imageCount, byteSize, labelCounts, issueListSha256 },
    shards: shards.map(({ sha256, imageCount: count }) => [sha256, count]),
    thumbnails: thumbnails.map(({ sha256, label }) => [sha256, label]),
  };
}

async function importUndisturbed(folder: string, config: object = {}): Promise<unknown> {
  const runId = await queueImport(folder, config);
  await (await runner.claim(smallImportTask, runId)).execute();
  return versionOf(runId);
}

/** In a process of its own, which ends by SIGKILL at the point. */
async function importUntilKilled(runId: string, point: InterruptionPoint): Promise<void> {
  const script = path.join(import.meta.dirname, '../support/imports-until-killed.ts');
  const child = spawn(process.execPath, [script, database.url, base, runId, JSON.stringify(point)], {
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  const signal = await new Promise((resolve) => child.once('exit', (_code, by) => resolve(by)));
  assert.equal(signal, 'SIGKILL', 'the process ended before it was killed');
  await requeue(runId);
}

/** In this process, by an error. */
async function importUntil(runId: string, point: InterruptionPoint): Promise<void> {
  const interrupted = interruptedImport(point, () => {
    throw new Error('interrupted');
  });
  await assert.rejects((await runner.claim(interrupted, runId)).execute(), /interrupted/);
  await requeue(runId);
}

async function requeue(runId: string): Promise<void> {
  await database.db.run.update({ where: { id: runId }, data: { status: 'QUEUED' } });
}

async function importAgain(runId: string): Promise<LaunchedTask> {
  const again = await runner.claim(smallImportTask, runId);
  await again.execute();
  assert.equal(await database.db.importBlock.count({ where: { runId } }), 0, 'the blocks of a finished import');
  return again;
}

const continued = ({ events }: LaunchedTask): string | undefined =>
  events.find((event) => /^(Continues|Starts over)/.test(event));

describe('an import whose process was killed', () => {
  let folder = '';
  let expected: unknown;
  before(async () => {
    folder = await folderOfImages('killed');
    expected = await importUndisturbed(folder);
  });

  const points: readonly (readonly [string, InterruptionPoint, string | undefined])[] = [
    ['before its first shard', { file: 3 }, undefined],
    ['between the sealing of a shard and its block', { beforeBlock: 2 }, 'Continues after 5 images.'],
    ['between two shards', { afterBlock: 3 }, 'Continues after 15 images.'],
    ['while its last shard is written', { afterBlock: 5, files: 1 }, 'Continues after 25 images.'],
    ['before its last shard is sealed', 'REPORT', 'Continues after 25 images.'],
    ['while its version is registered', 'REGISTRATION', 'Continues after 25 images.'],
  ];
  for (const [when, point, event] of points) {
    test(`${when} ends with the same version and shards as an undisturbed one`, async () => {
      const runId = await queueImport(folder);
      await importUntilKilled(runId, point);
      assert.equal(await database.db.datasetVersion.count({ where: { importRunId: runId } }), 0);
      const again = await importAgain(runId);
      assert.equal(continued(again), event);
      assert.deepEqual(await versionOf(runId), expected);
    });
  }
});

test('an import that no longer holds its run keeps no block', async () => {
  const folder = await folderOfImages('lost');
  const runId = await queueImport(folder);
  const run = await runner.claim(smallImportTask, runId);
  await database.db.run.update({ where: { id: runId }, data: { leaseEpoch: { increment: 1 } } });
  await assert.rejects(run.execute(), { code: 'LEASE_LOST' });
  assert.equal(await database.db.importBlock.count({ where: { runId } }), 0);
});

describe('blocks', () => {
  const options = () => ({
    db: database.db,
    transact: database.transact,
    store: runner.store,
    before: new Date(0),
    dropReferences: [dropBlocksOfEndedImports],
  });
  const reportOf = async () => (await collectGarbage({ ...options(), dryRun: true })).kinds[0];

  test('of an import that will continue stay, with their shards, and go when it is cancelled', async () => {
    const folder = await folderOfImages('collected', 90);
    const runId = await queueImport(folder);
    await importUntil(runId, { afterBlock: 3 });
    const rows = await database.db.importBlock.findMany({
      where: { runId },
      include: { artifact: true, shard: true },
    });
    const byteSize = rows.reduce(
      (sum, { artifact, shard }) => sum + Number(artifact.byteSize) + Number(shard?.byteSize ?? 0),
      0,
    );
    assert.equal(rows.length, 3);
    const nothing = { count: 0, byteSize: 0 };
    assert.deepEqual(await reportOf(), { kind: 'import blocks', deleted: nothing, kept: { count: 3, byteSize } });

    const cancelled = await runner.claim(smallImportTask, runId, () => 'CANCEL');
    await assert.rejects(cancelled.execute(), TaskStopped);
    await database.db.run.update({ where: { id: runId }, data: { status: 'CANCELED' } });
    assert.deepEqual(await reportOf(), {
      kind: 'import blocks',
      deleted: { count: 3, byteSize },
      kept: nothing,
    });
    const done = await collectGarbage({ ...options(), before: new Date(Date.now() + 60_000), dryRun: false });
    assert.ok(done.rows.count >= 6);
    for (const { sha256, shardSha256 } of rows)
      for (const gone of [sha256, shardSha256 ?? '']) assert.equal(await runner.store.stat(gone), undefined);
  });
});
