/** An import as a run: real database, real ledger, real files. */
import assert from 'node:assert/strict';
import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { drawTissue } from '../../src/synthetic/tissue.ts';
import { DomainError } from '../../src/errors.ts';
import { createRunLoaders } from '../../src/modules/runs/index.ts';
import { importDatasetTask } from '../../workers/tasks/import-dataset.ts';
import { TaskStopped, type StopRequest } from '../../workers/tasks/task.ts';
import { openTestDatabase, type TestDatabase } from '../support/database.ts';
import { createTaskRunner, type LaunchedTask, type TaskRunner } from '../support/task-runner.ts';
import type { ImportReportRecord } from '../../src/protocol/import.ts';

let base = '';
let database: TestDatabase;
let runner: TaskRunner;
let datasetId = '';

before(async () => {
  database = await openTestDatabase();
  runner = await createTaskRunner(database);
  ({ base } = runner);
  await drawTissue({ outDir: path.join(base, 'images'), imagesPerLabel: 4, imageSizePx: 64, seed: 1, groups: 2 });
  datasetId = (
    await database.db.dataset.create({
      data: { slug: 'import-test', name: 'Import test', imageKind: 'PATCH', synthetic: true },
    })
  ).id;
});
after(async () => {
  await runner.close();
  await database.close();
});

const launch = (config: object, stop?: () => StopRequest): Promise<LaunchedTask> =>
  runner.launch(
    importDatasetTask,
    {
      datasetId,
      path: path.join(base, 'images'),
      layout: 'FOLDER_PER_LABEL',
      labelsCsvPath: null,
      patchSizePx: null,
      importRoots: [base],
      ...config,
    },
    stop,
  );

async function versionsOf(runId: string): Promise<number> {
  return database.db.datasetVersion.count({ where: { importRunId: runId } });
}

const reportOf = (runId: string): Promise<ImportReportRecord | null> =>
  createRunLoaders(database.db).importReport.load(runId);

test('a folder becomes a sealed version that a training can use, and its run SUCCEEDED', async () => {
  const run = await launch({});
  await run.execute();
  const version = await database.db.datasetVersion.findFirstOrThrow({
    where: { importRunId: run.runId },
    include: { shards: true, thumbnails: true },
  });
  assert.deepEqual(
    [version.version, version.status, version.imageCount, version.groupCount, version.hasSplit],
    [1, 'SEALED', 16, 0, false],
  );
  assert.deepEqual(version.labelNames, ['gland', 'lymphoid', 'stroma', 'tumour']);
  assert.equal(version.thumbnails.length, 16);
  assert.match(run.events.at(-1) ?? '', /files/);
  const [sealed] = await runner.services.datasets.requireSealedVersions([version.id]);
  assert.equal(sealed?.digest, version.digest);
  const { status, progress } = await database.db.run.findUniqueOrThrow({ where: { id: run.runId } });
  assert.deepEqual([status, progress], ['SUCCEEDED', 1]);
  for (const sha256 of [
    version.manifestSha256,
    ...version.shards.map((shard) => shard.sha256),
    ...version.thumbnails.map((thumbnail) => thumbnail.sha256),
  ]) {
    assert.ok((await runner.store.read(sha256 ?? '')).length > 0);
    assert.equal(await database.db.artifact.count({ where: { sha256: sha256 ?? '' } }), 1);
  }
});

test('the same folder again is a new version with the same digest', async () => {
  const again = await launch({});
  await again.execute();
  const versions = await database.db.datasetVersion.findMany({ where: { datasetId }, orderBy: { version: 'asc' } });
  assert.deepEqual(
    versions.map((version) => version.version),
    [1, 2],
  );
  assert.equal(versions[0]?.digest, versions[1]?.digest);
});

test('layout CSV with patches', async () => {
  const run = await launch({ layout: 'CSV', labelsCsvPath: path.join(base, 'images', 'labels.csv'), patchSizePx: 32 });
  await run.execute();
  const version = await database.db.datasetVersion.findFirstOrThrow({ where: { importRunId: run.runId } });
  assert.deepEqual([version.imageCount, version.groupCount, version.patchSizePx], [64, 2, 32]);
});

test('a version that has lost its groups is sealed only after that is accepted', async () => {
  const refused = await launch({});
  await assert.rejects(refused.execute(), (error: unknown) => {
    assert.ok(error instanceof DomainError);
    assert.deepEqual([error.code, error.field], ['IMPORT_NEEDS_ANSWER', 'input.accept']);
    assert.match(error.message, /FEWER_THAN_BEFORE: .* Version 3 had 2 groups, and now no group is known\./);
    assert.match(error.hint ?? '', /accept: \[FEWER_THAN_BEFORE\]/);
    return true;
  });
  assert.equal(await versionsOf(refused.runId), 0);
  // It was known from the names of the files, so none of them was read.
  const report = await reportOf(refused.runId);
  assert.deepEqual([report?.questions, report?.imagesChecked, report?.fileCount], [['FEWER_THAN_BEFORE'], false, 16]);
  const accepted = await launch({ accept: ['FEWER_THAN_BEFORE'] });
  await accepted.execute();
  assert.equal(await versionsOf(accepted.runId), 1);
});

test('a dry run gives the report of an import, and stores only its list of issues', async () => {
  const folder = path.join(base, 'fresh');
  await drawTissue({ outDir: folder, imagesPerLabel: 3, imageSizePx: 64, seed: 9, groups: 1 });
  await writeFile(path.join(folder, 'gland', 'broken.png'), 'x');
  const id = (
    await database.db.dataset.create({
      data: { slug: 'dry-run', name: 'Dry run', imageKind: 'PATCH', synthetic: true },
    })
  ).id;
  const stored = await runner.stored.names();
  const dry = await launch({ datasetId: id, path: folder, dryRun: true });
  await dry.execute();
  assert.equal(await versionsOf(dry.runId), 0);
  const listed = (await reportOf(dry.runId))?.issueList?.sha256 ?? '';
  const storedSince = (await runner.stored.names()).filter((name) => !stored.includes(name));
  assert.deepEqual(
    storedSince.filter((name) => path.basename(name).length === 64).map((name) => path.basename(name)),
    [listed],
  );
  const { status } = await database.db.run.findUniqueOrThrow({ where: { id: dry.runId } });
  assert.equal(status, 'SUCCEEDED');
  const would = await reportOf(dry.runId);
  assert.deepEqual([would?.isDryRun, would?.imagesChecked, would?.imageCount, would?.questions], [true, true, 12, []]);
  assert.deepEqual(would?.assignments[0], { folder: 'gland', label: 'gland', split: null, fileCount: 4 });
  assert.deepEqual(
    would?.issues.map(({ kind, count }) => [kind, count]),
    [
      ['NOT_AN_IMAGE', 1],
      ['NO_GROUPS', 12],
    ],
  );
  const real = await launch({ datasetId: id, path: folder });
  await real.execute();
  assert.deepEqual({ ...(await reportOf(real.runId)), isDryRun: true }, would);
  const version = await database.db.datasetVersion.findFirstOrThrow({ where: { importRunId: real.runId } });
  assert.equal(version.imageCount, 12);
});

test('a dry run succeeds with the questions that would stop an import', async () => {
  const dry = await launch({ path: path.join(base, 'fresh', 'gland'), layout: 'FLAT', dryRun: true });
  await dry.execute();
  assert.deepEqual((await reportOf(dry.runId))?.questions, ['FEWER_THAN_BEFORE']);
});

test('a cancelled import leaves no version', async () => {
  let stopChecks = 0;
  const run = await launch({ accept: ['FEWER_THAN_BEFORE'] }, () => ((stopChecks += 1) > 3 ? 'CANCEL' : 'NO'));
  await assert.rejects(run.execute(), (error: unknown) => error instanceof TaskStopped && error.reason === 'CANCEL');
  assert.equal(await versionsOf(run.runId), 0);
});

test('an import whose lease was taken leaves no version', async () => {
  const run = await launch({});
  await database.db.run.update({ where: { id: run.runId }, data: { leaseEpoch: { increment: 1 } } });
  await assert.rejects(run.execute(), { code: 'LEASE_LOST' });
  assert.equal(await versionsOf(run.runId), 0);
});

test('faults that appear after the launch are reported by their codes', async () => {
  const csvPath = path.join(base, 'bad.csv');
  await writeFile(csvPath, 'path\n../climbs.png\n');
  await mkdir(path.join(base, 'empty'));
  const cases: [object, string][] = [
    [{ path: path.join(base, 'gone') }, 'IMPORT_PATH_NOT_FOUND'],
    [{ path: '/etc' }, 'IMPORT_PATH_NOT_ALLOWED'],
    [{ path: path.join(base, 'images', 'labels.csv') }, 'IMPORT_PATH_NOT_FOLDER'],
    [{ path: path.join(base, 'empty') }, 'IMPORT_FOLDER_EMPTY'],
    [{ path: path.join(base, 'images', 'gland') }, 'IMPORT_NOTHING_READABLE'],
    [{ layout: 'CSV', labelsCsvPath: csvPath }, 'LABELS_CSV_INVALID'],
    [{ datasetId: '00000000-0000-7000-8000-000000000000' }, 'DATASET_NOT_FOUND'],
  ];
  for (const [config, code] of cases) {
    const run = await launch(config);
    await assert.rejects(run.execute(), { code }, code);
    assert.equal(await versionsOf(run.runId), 0);
  }
});
