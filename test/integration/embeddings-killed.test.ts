/** Embeddings in blocks: what a killed process leaves, and how the run continues behind it. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { after, before, test } from 'node:test';
import { collectGarbage } from '../../src/modules/artifacts/index.ts';
import { dropBlocksOfEndedRuns } from '../../src/modules/embeddings/index.ts';
import { readNpy } from '../../src/formats/npy.ts';
import { drawTissue } from '../../src/synthetic/tissue.ts';
import { importDatasetTask } from '../../workers/tasks/import-dataset.ts';
import { pretrainTask } from '../../workers/tasks/pretrain.ts';
import { openTestDatabase, type TestDatabase } from '../support/database.ts';
import { embeddingTask, type EmbeddingTaskConfig } from '../support/embedding-task.ts';
import { ADMIN, openTestRegistry, type TestRegistry } from '../support/registry.ts';
import { createTaskRunner, type LaunchedTask, type TaskRunner } from '../support/task-runner.ts';

const IMAGE_COUNT = 32;
let database: TestDatabase;
let registry: TestRegistry;
let runner: TaskRunner;
let config: EmbeddingTaskConfig;

before(async () => {
  database = await openTestDatabase();
  runner = await createTaskRunner(database);
  registry = await openTestRegistry(database, [runner.base], runner.base);
  const images = path.join(runner.base, 'images');
  await drawTissue({ outDir: images, imagesPerLabel: IMAGE_COUNT / 4, imageSizePx: 32, seed: 3, groups: 4 });
  const { id: datasetId } = await database.db.dataset.create({
    data: { slug: 'killed', name: 'Killed', imageKind: 'PATCH', synthetic: true },
  });
  const imported = await registry.runs.launchImport(ADMIN, { datasetId, path: images, layout: 'FOLDER_PER_LABEL' });
  await (await runner.claim(importDatasetTask, imported.id)).execute();
  const { id: datasetVersionId } = await database.db.datasetVersion.findFirstOrThrow({
    where: { importRunId: imported.id },
  });
  const trained = await registry.runs.launchPretraining(ADMIN, {
    modelSlug: 'killed',
    datasets: [{ datasetVersionId }],
    encoder: 'RESNET18',
    imageSizePx: 32,
    batchSize: 4,
    temperature: 0.5,
    sampling: 'EVEN',
    precision: 'FLOAT32',
    steps: 0,
    seed: 7,
  });
  await (await runner.claim(pretrainTask, trained.id)).execute();
  const { id: checkpointId } = await database.db.checkpoint.findFirstOrThrow({ where: { sourceRunId: trained.id } });
  config = { checkpointId, datasetVersionId, blockImages: 6 };
});
after(async () => {
  await registry.close();
  await runner.close();
  await database.close();
});

async function queue(): Promise<string> {
  const { id } = await database.db.run.create({ data: { kind: 'EVALUATION', title: 'made by a test', config: {} } });
  return id;
}

/** The bytes of each set, and of the ids. */
async function storedSets(): Promise<unknown[]> {
  const sets = await database.db.embeddingSet.findMany({ orderBy: { source: 'asc' } });
  return sets.map(({ source, sha256, idsSha256, imageCount }) => [source, sha256, idsSha256, imageCount]);
}

async function embedUndisturbed(changes: Partial<EmbeddingTaskConfig> = {}): Promise<LaunchedTask> {
  const run = await runner.claim(embeddingTask({ ...config, ...changes }), await queue());
  await run.execute();
  return run;
}

/** Runs the task in a process of its own, and kills it when half of the images are done. */
async function embedUntilKilled(runId: string): Promise<void> {
  const script = path.join(import.meta.dirname, '../support/embeds-until-killed.ts');
  const child = spawn(process.execPath, [script, database.url, runner.base, runId, JSON.stringify(config)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const ended = new Promise((resolve) => child.once('exit', resolve));
  let isHalfDone = false;
  for await (const line of createInterface(child.stdout)) {
    if (!line.includes('half of it is done')) continue;
    isHalfDone = true;
    child.kill('SIGKILL');
  }
  await ended;
  assert.ok(isHalfDone, 'the process ended before it was killed');
}

test('a run whose process was killed continues behind the last stored block, and ends with the same bytes', async () => {
  await embedUndisturbed();
  const expected = await storedSets();
  assert.equal(expected.length, 2);
  assert.equal(await database.db.embeddingBlock.count(), 0, 'the blocks of a finished set are dropped');
  await database.db.embeddingSet.deleteMany();

  const runId = await queue();
  await embedUntilKilled(runId);
  const blocks = await database.db.embeddingBlock.findMany({ where: { runId }, orderBy: { position: 'asc' } });
  assert.deepEqual([...new Set(blocks.map(({ position }) => position))], [0, 1, 2], 'three of six blocks');
  assert.deepEqual(await storedSets(), []);

  await database.db.run.update({ where: { id: runId }, data: { status: 'QUEUED' } });
  const again = await runner.claim(embeddingTask(config), runId);
  await again.execute();
  assert.equal(again.events[0], `Continues after 18 of ${IMAGE_COUNT} images.`);
  assert.equal(again.events[1], `Embedded 24 of ${IMAGE_COUNT} images.`);
  assert.deepEqual(await storedSets(), expected);
  assert.equal(await database.db.embeddingBlock.count(), 0);
  await database.db.embeddingSet.deleteMany();
});

test('blocks of another device, or with a gap before them, are computed again', async () => {
  const runId = await queue();
  await embedUntilKilled(runId);
  const computeOnOtherDevice = () =>
    database.db.embeddingBlock.updateMany({
      where: { runId, position: 0 },
      data: { engine: { library: 'TensorFlow', version: '1', device: 'another' } },
    });
  await assert.rejects(computeOnOtherDevice(), /lease/, 'only the worker that holds the run writes its blocks');
  await database.db.$executeRaw`ALTER TABLE "EmbeddingBlock" DISABLE TRIGGER fence`;
  await computeOnOtherDevice();
  await database.db.$executeRaw`ALTER TABLE "EmbeddingBlock" ENABLE TRIGGER fence`;
  await database.db.run.update({ where: { id: runId }, data: { status: 'QUEUED' } });
  const again = await runner.claim(embeddingTask(config), runId);
  await again.execute();
  assert.equal(again.events[0], `Embedded 6 of ${IMAGE_COUNT} images.`);
  await database.db.embeddingSet.deleteMany();
});

test('a version of one block is never stored in blocks, and its numbers are those of blocks', async () => {
  await embedUndisturbed();
  const inBlocks = await database.db.embeddingSet.findFirstOrThrow({ where: { source: 'CHECKPOINT' } });
  const { data } = readNpy(await runner.store.read(inBlocks.sha256));
  await database.db.embeddingSet.deleteMany();
  const recordedBefore = await database.db.artifact.count();
  await embedUndisturbed({ blockImages: IMAGE_COUNT });
  assert.ok((await database.db.artifact.count()) <= recordedBefore + 2, 'the two sets and nothing else');
  const inOne = await database.db.embeddingSet.findFirstOrThrow({ where: { source: 'CHECKPOINT' } });
  const whole = readNpy(await runner.store.read(inOne.sha256));
  assert.deepEqual(whole.shape, [IMAGE_COUNT, 512]);
  for (const [index, value] of whole.data.entries()) assert.ok(Math.abs(value - (data[index] ?? NaN)) < 1e-4);
  await database.db.embeddingSet.deleteMany();
});

test('the blocks of a run that was given up are collected, with their bytes in the report', async () => {
  const runId = await queue();
  await embedUntilKilled(runId);
  const options = {
    db: database.db,
    transact: database.transact,
    store: runner.store,
    before: new Date(0),
    dropReferences: [dropBlocksOfEndedRuns],
  };
  const blockBytes = 6 * 512 * 4;
  const [waiting] = (await collectGarbage({ ...options, dryRun: true })).kinds;
  assert.deepEqual(waiting, {
    kind: 'embedding blocks',
    deleted: { count: 0, byteSize: 0 },
    kept: { count: 6, byteSize: 6 * blockBytes },
  });
  await database.db.run.update({ where: { id: runId }, data: { status: 'CANCELED' } });
  const expected = {
    kind: 'embedding blocks',
    deleted: { count: 6, byteSize: 6 * blockBytes },
    kept: { count: 0, byteSize: 0 },
  };
  assert.deepEqual((await collectGarbage({ ...options, dryRun: true })).kinds, [expected]);
  assert.deepEqual((await collectGarbage({ ...options, dryRun: false })).kinds, [expected]);
  assert.equal(await database.db.embeddingBlock.count(), 0);
});
