/**
 * Evaluations as runs: launched by the service, executed by the task with the real engine, read back from the database.
 */
import assert from 'node:assert/strict';
import { cp, mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { parse } from 'csv-parse/sync';
import sharp, { type Sharp } from 'sharp';
import { z } from 'zod';
import { drawTissue } from '../../src/synthetic/tissue.ts';
import { readNpy } from '../../src/formats/npy.ts';
import type { ReportedEvaluationRecord } from '../../src/modules/evaluations/index.ts';
import { evaluateTask } from '../../workers/tasks/evaluate.ts';
import { importDatasetTask } from '../../workers/tasks/import-dataset.ts';
import { pretrainTask } from '../../workers/tasks/pretrain.ts';
import { openTestDatabase, type TestDatabase } from '../support/database.ts';
import { readRows } from '../support/manifests.ts';
import { sealAsBefore } from '../support/old-versions.ts';
import { ADMIN, openTestRegistry, type TestRegistry } from '../support/registry.ts';
import { createTaskRunner, type LaunchedTask, type TaskRunner } from '../support/task-runner.ts';

let database: TestDatabase;
let registry: TestRegistry;
let runner: TaskRunner;
let datasetId = '';
let versionId = '';
let checkpointId = '';

before(async () => {
  database = await openTestDatabase();
  runner = await createTaskRunner(database);
  registry = await openTestRegistry(database, [runner.base], runner.base);
  const images = path.join(runner.base, 'images');
  await drawTissue({ outDir: images, imagesPerLabel: 8, imageSizePx: 48, seed: 3, groups: 4 });
  const dataset = await database.db.dataset.create({
    data: { slug: 'evaluate-test', name: 'Evaluate test', imageKind: 'PATCH', synthetic: true },
  });
  datasetId = dataset.id;
  versionId = await importVersion(datasetId, { path: images, layout: 'FOLDER_PER_LABEL' });
  checkpointId = await pretrain({ steps: 0, seed: 7 });
});
after(async () => {
  await registry.close();
  await runner.close();
  await database.close();
});

async function pretrain(changes: object): Promise<string> {
  const trained = await registry.runs.launchPretraining(ADMIN, {
    modelSlug: 'evaluate-test',
    datasets: [{ datasetVersionId: versionId }],
    encoder: 'RESNET18',
    imageSizePx: 32,
    batchSize: 4,
    temperature: 0.5,
    sampling: 'EVEN',
    precision: 'FLOAT32',
    ...changes,
  });
  await (await runner.claim(pretrainTask, trained.id)).execute();
  return (await database.db.checkpoint.findFirstOrThrow({ where: { sourceRunId: trained.id } })).id;
}

async function importVersion(intoDatasetId: string, changes: object): Promise<string> {
  const imported = await registry.runs.launchImport(ADMIN, { datasetId: intoDatasetId, ...changes });
  await (await runner.claim(importDatasetTask, imported.id)).execute();
  return (await database.db.datasetVersion.findFirstOrThrow({ where: { importRunId: imported.id } })).id;
}

async function evaluate(
  changes: object = {},
): Promise<{ readonly run: LaunchedTask; readonly evaluation: ReportedEvaluationRecord }> {
  const launched = await registry.evaluations.launch(ADMIN, {
    checkpointId,
    datasetVersionId: versionId,
    protocol: 'LINEAR_PROBE',
    folds: 4,
    seed: 1,
    options: { bootstrapResamples: 100 },
    ...changes,
  });
  const run = await runner.claim(evaluateTask, launched.id);
  await run.execute();
  const found = await database.db.evaluation.findFirstOrThrow({ where: { runId: launched.id } });
  const evaluation = (await registry.evaluations.ofCheckpoint(ADMIN, found.checkpointId, 100)).find(
    ({ id }) => id === found.id,
  );
  assert.ok(evaluation !== undefined);
  return { run, evaluation };
}

test('embeddings are computed once: an evaluation with the same encoders reads them again and gets the same result', async () => {
  const first = await evaluate();
  assert.ok(first.run.events.includes('Embedded 32 of 32 images.'));
  const version = await database.db.datasetVersion.findUniqueOrThrow({ where: { id: versionId } });
  const checkpoint = await database.db.checkpoint.findUniqueOrThrow({ where: { id: checkpointId } });
  const sets = await database.db.embeddingSet.findMany({ orderBy: { id: 'asc' } });
  assert.deepEqual(
    sets.map(({ source, imageCount, embeddingDim, datasetDigest }) => [
      source,
      imageCount,
      embeddingDim,
      datasetDigest,
    ]),
    [
      ['CHECKPOINT', 32, 512, version.digest],
      ['RANDOM_ENCODER', 32, 512, version.digest],
      ['COLOUR_STATISTICS', 32, 36, version.digest],
    ],
  );
  assert.equal(sets[0]?.encoderDigest, checkpoint.sha256);
  const { shape, data } = readNpy(await runner.store.read(sets[0].sha256));
  assert.deepEqual([shape, data.every(Number.isFinite)], [[32, 512], true]);
  const ids: unknown = parse(await runner.store.read(sets[0].idsSha256), { columns: true });
  const [sealed] = await runner.services.datasets.requireSealedVersions([versionId]);
  assert.ok(sealed !== undefined);
  const manifest = await readRows(await runner.store.read(sealed.manifestSha256), sealed);
  assert.deepEqual(
    ids,
    manifest.map(({ key, label, group, split, sourcePath }) => ({
      key,
      label,
      group: group ?? '',
      split: split ?? '',
      sourcePath,
    })),
  );

  const second = await evaluate();
  assert.ok(!second.run.events.some((event) => event.startsWith('Embedded')), second.run.events.join(' '));
  const { id: _first, runId: _firstRun, createdAt: _firstAt, ...found } = first.evaluation;
  const { id: _second, runId: _secondRun, createdAt: _secondAt, ...foundAgain } = second.evaluation;
  assert.deepEqual(foundAgain, found);

  const third = await evaluate({ seed: 2 });
  assert.ok(!third.run.events.some((event) => event.startsWith('Embedded')), 'the random encoder has its own seed');

  // Another checkpoint of the same architecture and contract shares the random encoder; one that normalises in another
  // way shares the colour statistics.
  const before = await database.db.embeddingSet.count();
  await evaluate({ checkpointId: await pretrain({ steps: 0, seed: 8 }) });
  const { inputContract } = await registry.models.checkpointForUse(checkpointId, 'id');
  const other = await database.db.checkpoint.create({
    data: {
      modelId: checkpoint.modelId,
      version: 100,
      encoder: checkpoint.encoder,
      embeddingDim: checkpoint.embeddingDim,
      sha256: checkpoint.sha256,
      byteSize: checkpoint.byteSize,
      inputContract: {
        ...inputContract,
        valueRange: [...inputContract.valueRange],
        channelMean: [0.7, 0.5, 0.6],
        channelStd: [0.2, 0.2, 0.2],
      },
    },
  });
  await evaluate({ checkpointId: other.id });
  const added = await database.db.embeddingSet.findMany({ orderBy: { id: 'asc' }, skip: before });
  assert.deepEqual(
    added.map(({ source }) => source),
    ['CHECKPOINT', 'CHECKPOINT', 'RANDOM_ENCODER'],
  );
});

const KINDS = ['RANDOM_ENCODER', 'COLOUR_STATISTICS', 'MAJORITY_CLASS'];

test('a probe and kNN report a learning curve, paired differences to every baseline, and their predictions', async () => {
  for (const protocol of ['LINEAR_PROBE', 'KNN']) {
    const { evaluation } = await evaluate({
      protocol,
      options: { bootstrapResamples: 100, labelFractions: [0.5, 1], shotsPerClass: [1], drawCount: 2 },
    });
    assert.equal(evaluation.protocol, protocol);
    assert.deepEqual(
      evaluation.baselines.map(({ kind }) => kind),
      KINDS,
    );
    const curve = evaluation.learningCurve;
    assert.deepEqual(
      curve.map(({ labelFraction, shotsPerClass, drawCount }) => [labelFraction, shotsPerClass, drawCount]),
      [
        [0.5, null, 2],
        [1, null, 1],
        [null, 1, 2],
      ],
    );
    assert.deepEqual(
      curve.map(({ trainImageCount }) => trainImageCount),
      [12, 24, 4],
    );
    const macroF1 = evaluation.metrics.find(({ name }) => name === 'macroF1')?.value ?? NaN;
    assert.equal(
      curve[1]?.metrics.find(({ name }) => name === 'macroF1')?.value,
      macroF1,
      'all labels are the result itself',
    );
    for (const { metrics, differences, learningCurve } of evaluation.baselines) {
      const own = metrics.find(({ name }) => name === 'macroF1')?.value ?? NaN;
      const difference = differences.find(({ name }) => name === 'macroF1');
      assert.ok(
        difference !== undefined &&
          Math.abs(difference.value - (macroF1 - own)) < 1e-12 &&
          (difference.ci95Low ?? NaN) <= difference.value &&
          difference.value <= (difference.ci95High ?? NaN),
      );
      assert.equal(learningCurve.length, 3);
    }
    const lines = (await runner.store.read(evaluation.predictionsSha256 ?? ''))
      .toString()
      .trimEnd()
      .split('\n')
      .map((line): unknown => JSON.parse(line));
    const counted = z
      .array(
        z.object({ key: z.string(), label: z.string(), predicted: z.string(), probabilities: z.array(z.number()) }),
      )
      .parse(lines);
    const { labelNames = [], counts = [] } = evaluation.confusionMatrix ?? {};
    for (const [row, label] of labelNames.entries()) {
      assert.deepEqual(
        labelNames.map(
          (predicted) => counted.filter((line) => line.label === label && line.predicted === predicted).length,
        ),
        [...(counts[row] ?? [])],
      );
    }
    assert.ok(
      counted.every(({ probabilities }) => Math.abs(probabilities.reduce((sum, value) => sum + value, 0) - 1) < 1e-9),
    );
  }
});

test('fine-tuning trains the whole network, from the checkpoint and from random weights, and stops early', async () => {
  const { evaluation } = await evaluate({
    protocol: 'FINE_TUNE',
    folds: 2,
    options: { bootstrapResamples: 100, maxEpochs: 3, batchSize: 8, patienceEpochs: 1 },
  });
  assert.deepEqual(
    evaluation.baselines.map(({ kind }) => kind),
    KINDS,
  );
  assert.equal(
    evaluation.confusionMatrix?.counts.flat().reduce((sum, count) => sum + count, 0),
    32,
  );
  const { parts } = z
    .object({
      parts: z.array(
        z.object({
          epochCount: z.number(),
          bestEpoch: z.number(),
          validationMacroF1: z.number().min(0).max(1).nullable(),
          validationLoss: z.number().nullable(),
        }),
      ),
    })
    .parse(evaluation.split);
  assert.ok(
    parts.every(({ epochCount, bestEpoch }) => bestEpoch >= 1 && bestEpoch <= epochCount && epochCount <= 3),
    JSON.stringify(parts),
  );
});

test('two checkpoints are compared over the same folds, and refused over different ones', async () => {
  const other = await pretrain({ steps: 0, seed: 8 });
  const [first, second] = [(await evaluate()).evaluation, (await evaluate({ checkpointId: other })).evaluation];
  const comparison = await registry.evaluations.compare(ADMIN, first.id, second.id);
  assert.deepEqual([comparison.imageCount, comparison.first.id, comparison.second.id], [32, first.id, second.id]);
  for (const { name, first: left, second: right, difference, ci95Low, ci95High } of comparison.metrics) {
    assert.ok(Math.abs(left - (first.metrics.find((metric) => metric.name === name)?.value ?? NaN)) < 1e-12, name);
    assert.ok(Math.abs(right - (second.metrics.find((metric) => metric.name === name)?.value ?? NaN)) < 1e-12, name);
    assert.ok(Math.abs(difference - (left - right)) < 1e-12 && ci95Low <= ci95High);
  }
  assert.deepEqual(
    [first.ungroupedImageCount, comparison.ungroupedImageCount, comparison.groupCount],
    [32, 32, 0],
    'the images lie in folders of labels, so that no patient is known',
  );
  const [line = ''] = (await runner.store.read(first.predictionsSha256 ?? '')).toString('utf8').split('\n');
  assert.deepEqual(z.object({ group: z.null(), resamplingUnit: z.string() }).parse(JSON.parse(line)), {
    group: null,
    resamplingUnit: 'gland/patient01-0000.jpg',
  });
  const itself = await registry.evaluations.compare(ADMIN, first.id, first.id);
  assert.ok(
    itself.metrics.every(({ difference, ci95Low, ci95High }) => difference === 0 && ci95Low === 0 && ci95High === 0),
  );
  const { evaluation: otherFolds } = await evaluate({ seed: 2 });
  await assert.rejects(registry.evaluations.compare(ADMIN, first.id, otherFolds.id), {
    code: 'EVALUATIONS_NOT_COMPARABLE',
  });
  await assert.rejects(registry.evaluations.compare(ADMIN, first.id, '00000000-0000-7000-8000-000000000000'), {
    code: 'EVALUATION_NOT_FOUND',
    field: 'b',
  });
  await assert.rejects(registry.evaluations.compare(ADMIN, 'latest', first.id), {
    code: 'EVALUATION_NOT_FOUND',
    field: 'a',
  });
});

test('a regression predicts the numbers of a CSV, beside the mean', async () => {
  const folder = path.join(runner.base, 'numbers');
  await mkdir(folder);
  const lines: string[] = [];
  for (let image = 0; image < 24; image += 1) {
    const brightness = 40 + 8 * image;
    const noise = Buffer.from(
      Array.from({ length: 48 * 48 * 3 }, (_, byte) => brightness + ((byte * 7919 + image * 31) % 17)),
    );
    await sharp(noise, { raw: { width: 48, height: 48, channels: 3 } })
      .png()
      .toFile(path.join(folder, `${image}.png`));
    lines.push(`${image}.png,${brightness / 10},patient ${image >> 1}`);
  }
  await writeFile(path.join(folder, 'labels.csv'), `path,label,group\n${lines.join('\n')}\n`);
  const numbersId = await importVersion(datasetId, {
    path: folder,
    layout: 'CSV',
    labelsCsvPath: path.join(folder, 'labels.csv'),
    // Numbers instead of the words of the previous version.
    accept: ['FEWER_THAN_BEFORE'],
  });
  const { evaluation } = await evaluate({ datasetVersionId: numbersId, protocol: 'REGRESSION' });
  assert.equal(evaluation.ungroupedImageCount, 0, 'the CSV names a patient for every image');
  assert.deepEqual(
    evaluation.metrics.map(({ name }) => name),
    ['meanAbsoluteError', 'spearmanCorrelation', 'rSquared'],
  );
  assert.deepEqual(
    evaluation.baselines.map(({ kind, metrics }) => [kind, metrics.length]),
    [
      ['RANDOM_ENCODER', 3],
      ['COLOUR_STATISTICS', 3],
      ['MEAN_LABEL', 2],
    ],
  );
  const errorOf = (metrics: ReportedEvaluationRecord['metrics']): number =>
    metrics.find(({ name }) => name === 'meanAbsoluteError')?.value ?? NaN;
  // The target is brightness, which colour statistics can predict and the mean cannot.
  assert.ok(errorOf(evaluation.baselines[1]?.metrics ?? []) < 0.5 * errorOf(evaluation.baselines[2]?.metrics ?? []));
  const [row] = await registry.evaluations.leaderboard(ADMIN, numbersId, 'REGRESSION');
  assert.deepEqual([row?.rank, row?.metric.name], [1, 'meanAbsoluteError']);
});

describe('leakage', () => {
  test('an untrained encoder has seen nothing', async () => {
    const { leakage } = (await evaluate()).evaluation;
    assert.deepEqual(leakage, {
      isComplete: true,
      isUpperBound: false,
      testImageCount: 32,
      exactImageCount: 0,
      nearDuplicateImageCount: 0,
      testGroupCount: 0,
      sharedGroupCount: 0,
      sharedDatasets: [],
      sharedCollections: [],
      unhashedVersionCount: 0,
    });
  });

  test('all images count as seen if the same version is tested, and half may have been if half was used', async () => {
    const whole = await pretrain({ steps: 1, seed: 7 });
    const { leakage } = (await evaluate({ checkpointId: whole })).evaluation;
    assert.deepEqual(
      [
        leakage?.exactImageCount,
        leakage?.nearDuplicateImageCount,
        leakage?.sharedGroupCount,
        leakage?.sharedDatasets,
        leakage?.isUpperBound,
      ],
      [32, 0, 0, ['evaluate-test'], false],
    );
    const half = await pretrain({ steps: 1, seed: 7, datasets: [{ datasetVersionId: versionId, maxImages: 16 }] });
    assert.equal((await evaluate({ checkpointId: half })).evaluation.leakage?.isUpperBound, true);
    // A checkpoint has also seen the images of the checkpoint from which it was initialised.
    const child = await pretrain({ steps: 0, seed: 7, initialCheckpointId: whole });
    assert.equal((await evaluate({ checkpointId: child })).evaluation.leakage?.exactImageCount, 32);
  });

  test('copies in another dataset are found even if recompressed, resized, mirrored or rotated, and a common parent is named', async () => {
    const folder = path.join(runner.base, 'copies');
    await cp(path.join(runner.base, 'images'), folder, { recursive: true });
    const copies = (await readdir(folder, { recursive: true })).filter((name) => /\.(png|jpe?g)$/.test(name)).sort();
    const change = async (index: number, make: (image: Sharp) => Sharp): Promise<void> => {
      const file = path.join(folder, copies[index] ?? '');
      await writeFile(file, await make(sharp(await readFile(file))).toBuffer());
    };
    await change(0, (image) => image.jpeg({ quality: 60 }));
    await change(1, (image) => image.resize(64, 64).png());
    await change(2, (image) => image.flop().png());
    await change(3, (image) => image.rotate(90).png());
    const parent = await database.db.dataset.create({
      data: { slug: 'the-parent', name: 'The parent', imageKind: 'WSI' },
    });
    await database.db.dataset.update({ where: { id: datasetId }, data: { parentCollections: [parent.slug] } });
    const cutAgain = await database.db.dataset.create({
      data: { slug: 'cut-again', name: 'Cut again', imageKind: 'PATCH', parentCollections: ['evaluate-test-copy'] },
    });
    await database.db.dataset.create({
      data: { slug: 'evaluate-test-copy', name: 'A copy', imageKind: 'PATCH', parentCollections: [parent.slug] },
    });
    const copyId = await importVersion(cutAgain.id, { path: folder, layout: 'FOLDER_PER_LABEL' });
    const trained = await pretrain({ steps: 1, seed: 9 });
    const { evaluation } = await evaluate({ checkpointId: trained, datasetVersionId: copyId });
    const { leakage } = evaluation;
    assert.deepEqual(
      [
        leakage?.exactImageCount,
        leakage?.nearDuplicateImageCount,
        leakage?.sharedGroupCount,
        leakage?.sharedDatasets,
        leakage?.sharedCollections,
      ],
      [28, 4, 0, [], ['the-parent']],
    );
    const [row] = await registry.evaluations.leaderboard(ADMIN, copyId, 'LINEAR_PROBE');
    assert.equal(row?.overlapsPretraining, true);

    // Versions that were sealed before are read through the same interface.
    const [copy] = await runner.services.datasets.requireSealedVersions([copyId]);
    assert.ok(copy !== undefined);
    const place = { datasetId: cutAgain.id, version: 2 };
    const before = await sealAsBefore(database, runner.store, copy, { ...place, hashed: true });
    const { evaluation: older } = await evaluate({ checkpointId: trained, datasetVersionId: before });
    assert.deepEqual(older.leakage, leakage);
    assert.deepEqual(older.metrics, evaluation.metrics);
    // One that was sealed before images were hashed is reported as unknown, not as free of leakage.
    const old = await sealAsBefore(database, runner.store, copy, { ...place, version: 3, hashed: false });
    const { evaluation: unhashed } = await evaluate({ checkpointId: trained, datasetVersionId: old });
    assert.deepEqual(
      [
        unhashed.leakage?.exactImageCount,
        unhashed.leakage?.nearDuplicateImageCount,
        unhashed.leakage?.unhashedVersionCount,
      ],
      [null, null, 1],
    );
  });

  test('of an imported encoder nothing is claimed', async () => {
    const { modelId, encoder, embeddingDim, inputContract, sha256, byteSize } =
      await database.db.checkpoint.findUniqueOrThrow({ where: { id: checkpointId } });
    const imported = await database.db.checkpoint.create({
      data: { modelId, encoder, embeddingDim, inputContract: inputContract ?? {}, sha256, byteSize, version: 1000 },
    });
    assert.equal((await evaluate({ checkpointId: imported.id })).evaluation.leakage, null);
    const child = await pretrain({ steps: 1, seed: 3, initialCheckpointId: imported.id });
    assert.equal((await evaluate({ checkpointId: child })).evaluation.leakage?.isComplete, false);
  });
});
