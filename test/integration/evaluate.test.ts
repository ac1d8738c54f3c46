/** Evaluations as runs: launched by the service, carried by the task with the real engine, read back from the database. */
import assert from 'node:assert/strict';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { parse } from 'csv-parse/sync';
import { drawTissue } from '../../src/cli/tissue.ts';
import { readNpy } from '../../src/formats/npy.ts';
import type { EvaluationRecord } from '../../src/modules/evaluations/index.ts';
import { parseManifest } from '../../workers/engine/data/manifest.ts';
import { evaluateTask } from '../../workers/tasks/evaluate.ts';
import { importDatasetTask } from '../../workers/tasks/import-dataset.ts';
import { pretrainTask } from '../../workers/tasks/pretrain.ts';
import { openTestDatabase, type TestDatabase } from '../support/database.ts';
import { ADMIN, openTestRegistry, type TestRegistry } from '../support/registry.ts';
import { createTaskRunner, type LaunchedTask, type TaskRunner } from '../support/task-runner.ts';

let database: TestDatabase;
let registry: TestRegistry;
let runner: TaskRunner;
let versionId = '';
let checkpointId = '';

before(async () => {
  database = await openTestDatabase();
  runner = await createTaskRunner(database);
  registry = await openTestRegistry(database, [runner.base]);
  const images = path.join(runner.base, 'images');
  await drawTissue({ outDir: images, imagesPerLabel: 8, imageSizePx: 48, seed: 3, groups: 4 });
  const datasetId = (await database.db.dataset.create({ data: { slug: 'evaluate-test', name: 'Evaluate test', imageKind: 'PATCH', synthetic: true } })).id;
  const imported = await registry.runs.launchImport(ADMIN, { datasetId, path: images, layout: 'FOLDER_PER_LABEL' });
  await (await runner.claim(importDatasetTask, imported.id)).carry();
  versionId = (await database.db.datasetVersion.findFirstOrThrow({ where: { importRunId: imported.id } })).id;
  const trained = await registry.runs.launchPretraining(ADMIN, {
    modelSlug: 'evaluate-test', datasets: [{ datasetVersionId: versionId }], encoder: 'RESNET18', imageSizePx: 32, batchSize: 4, steps: 0, temperature: 0.5, sampling: 'EVEN', precision: 'FLOAT32', seed: 7,
  });
  await (await runner.claim(pretrainTask, trained.id)).carry();
  checkpointId = (await database.db.checkpoint.findFirstOrThrow({ where: { sourceRunId: trained.id } })).id;
});
after(async () => {
  await registry.close();
  await runner.close();
  await database.close();
});

async function evaluate(changes: object = {}): Promise<{ readonly run: LaunchedTask; readonly evaluation: EvaluationRecord }> {
  const launched = await registry.evaluations.launch(ADMIN, { checkpointId, datasetVersionId: versionId, protocol: 'LINEAR_PROBE', folds: 4, seed: 1, options: { bootstrapResamples: 100 }, ...changes });
  const run = await runner.claim(evaluateTask, launched.id);
  await run.carry();
  const { id } = await database.db.evaluation.findFirstOrThrow({ where: { runId: launched.id } });
  const evaluation = await registry.evaluations.get(ADMIN, id);
  assert.ok(evaluation !== undefined);
  return { run, evaluation };
}

test('embeddings are made once: an evaluation with the same encoders reads them again and finds the same', async () => {
  const first = await evaluate();
  assert.ok(first.run.events.includes('Embedded 32 of 32 images.'));
  const version = await database.db.datasetVersion.findUniqueOrThrow({ where: { id: versionId } });
  const checkpoint = await database.db.checkpoint.findUniqueOrThrow({ where: { id: checkpointId } });
  const sets = await database.db.embeddingSet.findMany({ orderBy: { id: 'asc' } });
  assert.deepEqual(
    sets.map(({ source, imageCount, embeddingDim, datasetDigest }) => [source, imageCount, embeddingDim, datasetDigest]),
    [['CHECKPOINT', 32, 512, version.digest], ['RANDOM_ENCODER', 32, 512, version.digest], ['COLOUR_STATISTICS', 32, 36, version.digest]],
  );
  assert.equal(sets[0]?.encoderDigest, checkpoint.sha256);
  const { shape, data } = readNpy(await runner.store.read(sets[0].sha256));
  assert.deepEqual([shape, data.every(Number.isFinite)], [[32, 512], true]);
  const ids: unknown = parse(await runner.store.read(sets[0].idsSha256), { columns: true });
  const manifest = parseManifest((await runner.store.read(version.manifestSha256 ?? '')).toString());
  assert.deepEqual(ids, manifest.map(({ key, label, group, split, sourcePath }) => ({ key, label, group: group ?? '', split: split ?? '', sourcePath })));

  const second = await evaluate();
  assert.ok(!second.run.events.some((event) => event.startsWith('Embedded')), second.run.events.join(' '));
  const { id: _first, runId: _firstRun, createdAt: _firstAt, ...found } = first.evaluation;
  const { id: _second, runId: _secondRun, createdAt: _secondAt, ...foundAgain } = second.evaluation;
  assert.deepEqual(foundAgain, found);

  const third = await evaluate({ seed: 2 });
  assert.ok(third.run.events.includes('Embedded 32 of 32 images.'));
  assert.deepEqual((await database.db.embeddingSet.findMany({ orderBy: { id: 'asc' } })).slice(3).map(({ source }) => source), ['RANDOM_ENCODER']);
});
