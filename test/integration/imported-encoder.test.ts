/**
 * A checkpoint that real PyTorch wrote (test/golden/lightning_encoder_oracle.py), through everything that the registry
 * does with its own checkpoints.
 */
import '../support/without-onednn.ts';
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { copyFile, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { z } from 'zod';
import { drawTissue } from '../../src/synthetic/tissue.ts';
import { accessBytes } from '../../src/formats/random-access.ts';
import { readSafetensors, type SafetensorsTensor } from '../../src/formats/safetensors.ts';
import { readTorchCheckpoint } from '../../src/formats/torch-checkpoint/index.ts';
import { maxRelativeDifference } from '../../workers/exports/difference.ts';
import { evaluateTask } from '../../workers/tasks/evaluate.ts';
import { exportTask } from '../../workers/tasks/export.ts';
import { importDatasetTask } from '../../workers/tasks/import-dataset.ts';
import { pretrainTask } from '../../workers/tasks/pretrain.ts';
import type { Task } from '../../workers/tasks/task.ts';
import { at, listAt } from '../support/catalogue.ts';
import { openTestDatabase, type TestDatabase } from '../support/database.ts';
import { startTestServer, type TestServer } from '../support/server.ts';
import { createTaskRunner, type TaskRunner } from '../support/task-runner.ts';

const GOLDEN = path.resolve(import.meta.dirname, '../golden');
const expectedFile = z.object({
  oracle: z.string(),
  sha256: z.string(),
  imageSizePx: z.number(),
  tensorSha256: z.record(z.string(), z.string()),
  embedding: z.array(z.number()),
  float32Error: z.number(),
  roundingDifference: z.record(z.string(), z.number()),
});
const expected = expectedFile.parse(
  JSON.parse(await readFile(path.join(GOLDEN, 'lightning-encoder-expected.json'), 'utf8')),
);
/** As for the paper's encoders. */
const CONTRACT = { imageSizePx: expected.imageSizePx, channelMean: [0.5, 0.5, 0.5], channelStd: [0.5, 0.5, 0.5] };

let database: TestDatabase;
let server: TestServer;
let runner: TaskRunner;
let importedId = '';
let trainedId = '';
let versionId = '';

before(async () => {
  database = await openTestDatabase();
  server = await startTestServer(database);
  runner = await createTaskRunner(database, server.folder);
});
after(async () => {
  await runner.close();
  await server.close();
  await database.close();
});

/** The payload of a mutation, which has userErrors and one more field. */
async function mutate(name: string, input: object, selection: string): Promise<unknown> {
  const type = `${name.charAt(0).toUpperCase()}${name.slice(1)}Input`;
  const answer = await server.ask(
    `mutation ($input: ${type}!) { ${name}(input: $input) { ${selection} userErrors { code field message } } }`,
    { input },
  );
  const payload = at(answer, `data.${name}`);
  assert.deepEqual(at(payload, 'userErrors'), [], JSON.stringify(answer));
  return payload;
}

/** Launches a run and does what a worker would do with it. @returns the run's id. */
async function carried(task: Task, mutation: string, input: object): Promise<string> {
  const runId = String(at(await mutate(mutation, input, 'run { id }'), 'run.id'));
  await (await runner.claim(task, runId)).execute();
  return runId;
}

async function evaluationOf(checkpointId: string): Promise<string> {
  const runId = await carried(evaluateTask, 'launchEvaluation', {
    checkpointId,
    datasetVersionId: versionId,
    protocol: 'KNN',
    folds: 2,
    seed: 1,
    options: { bootstrapResamples: 100 },
  });
  return String(
    at(
      await server.ask('query ($id: ID!) { run(id: $id) { evaluation { id } } }', { id: runId }),
      'data.run.evaluation.id',
    ),
  );
}

async function download(checkpointId: string, format: string): Promise<Buffer> {
  const response = await fetch(`${server.url}/checkpoints/${checkpointId}/download?format=${format}`);
  assert.equal(response.status, 200);
  return Buffer.from(await response.arrayBuffer());
}

const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');
const digests = (tensors: readonly SafetensorsTensor[]): Record<string, string> =>
  Object.fromEntries(
    tensors.map(({ name, data }) => [name, sha256(new Uint8Array(data.buffer, data.byteOffset, data.byteLength))]),
  );

describe(`a Lightning checkpoint by ${expected.oracle}`, () => {
  test('is imported completely without running it, and the inert parts are named', async () => {
    await copyFile(path.join(GOLDEN, 'lightning-resnet18.ckpt'), path.join(server.folder, 'lightning-resnet18.ckpt'));
    const payload = await mutate(
      'importCheckpoint',
      {
        modelSlug: 'from-torch',
        path: path.join(server.folder, 'lightning-resnet18.ckpt'),
        sha256: expected.sha256,
        encoder: 'RESNET18',
        licence: 'MIT',
        inputContract: CONTRACT,
      },
      'checkpoint { id encoder embeddingDim importedFrom { fileName sha256 licence contents { format keyPrefix inertGlobals projectionHead { hiddenDim projectionDim } classifier { classCount } ignoredParts scalars } } }',
    );
    importedId = String(at(payload, 'checkpoint.id'));
    assert.deepEqual([at(payload, 'checkpoint.encoder'), at(payload, 'checkpoint.embeddingDim')], ['RESNET18', 512]);
    assert.deepEqual(at(payload, 'checkpoint.importedFrom'), {
      fileName: 'lightning-resnet18.ckpt',
      sha256: expected.sha256,
      licence: 'MIT',
      contents: {
        format: 'TORCH_ZIP',
        keyPrefix: 'model.resnet.',
        inertGlobals: ['lab_callbacks.ModelCheckpoint', 'posix.system', 'torch.device'],
        projectionHead: { hiddenDim: 512, projectionDim: 128 },
        classifier: null,
        ignoredParts: [
          'optimizer_states: 4 tensors',
          'lr_schedulers: 0 tensors',
          'callbacks: 0 tensors',
          'hyper_parameters: 0 tensors',
        ],
        scalars: [
          { path: 'epoch', value: 999 },
          { path: 'global_step', value: 400_000 },
          { path: 'pytorch-lightning_version', value: '1.0.4' },
          { path: 'hyper_parameters.batch_size', value: 512 },
          { path: 'hyper_parameters.temperature', value: 0.5 },
        ],
      },
    });
  });

  test('is stored with the numbers that PyTorch sees, bit for bit, and its contract in the file', async () => {
    const { tensors, metadata } = readSafetensors(await download(importedId, 'safetensors'));
    assert.deepEqual(digests(tensors), expected.tensorSha256);
    assert.partialDeepStrictEqual(JSON.parse(metadata['inputContract'] ?? ''), CONTRACT);
  });

  test("gives torchvision's embedding of the golden image", async () => {
    const run = await database.db.run.findFirstOrThrow({ where: { kind: 'EXPORT', status: 'QUEUED' } });
    await (await runner.claim(exportTask, run.id)).execute();
    const answer = await server.ask('query ($id: ID!) { checkpoint(id: $id) { golden } }', { id: importedId });
    const difference = maxRelativeDifference(
      Float32Array.from(listAt(answer, 'data.checkpoint.golden.embeddings.0').map(Number)),
      Float32Array.from(expected.embedding),
    );
    assert.ok(difference < 1e-4, `${difference}; float32 itself is off by ${expected.float32Error}`);
  });

  test("tells what rounding the weights loses, as PyTorch's embeddings of rounded weights show it", async () => {
    const answer = await server.ask(
      'query ($id: ID!) { checkpoint(id: $id) { precision { dtype sentence rounding { dtype maxRelativeDifference } } } }',
      { id: importedId },
    );
    const precision = at(answer, 'data.checkpoint.precision');
    const measured = listAt(precision, 'rounding');
    assert.deepEqual(
      measured.map((each) => at(each, 'dtype')),
      ['FLOAT16', 'BFLOAT16'],
    );
    for (const each of measured) {
      const wanted = expected.roundingDifference[String(at(each, 'dtype'))] ?? Number.NaN;
      const difference = Number(at(each, 'maxRelativeDifference'));
      // Both sides compute in float32, whose own error is part of each difference.
      assert.ok(
        Math.abs(difference - wanted) < 0.02 * wanted + 4 * expected.float32Error,
        `${difference}, not ${wanted}`,
      );
    }
    assert.match(String(at(precision, 'sentence')), /^The weights are float32\. Rounded to float16, they move/);
  });

  test('is evaluated, trained further, and compared with the result', async () => {
    const images = path.join(server.folder, 'tissue');
    await drawTissue({ outDir: images, imagesPerLabel: 4, imageSizePx: 64, seed: 3, groups: 2 });
    const dataset = await mutate(
      'createDataset',
      {
        name: 'Some tissue',
        imageKind: 'PATCH',
        synthetic: true,
        organs: [],
        stains: ['HE'],
        tasks: ['CLASSIFICATION'],
      },
      'dataset { id }',
    );
    const importRunId = await carried(importDatasetTask, 'importDatasetVersion', {
      datasetId: at(dataset, 'dataset.id'),
      path: images,
      layout: 'FOLDER_PER_LABEL',
    });
    versionId = (await database.db.datasetVersion.findFirstOrThrow({ where: { importRunId } })).id;

    const before = await evaluationOf(importedId);
    const trainingId = await carried(pretrainTask, 'launchPretraining', {
      modelSlug: 'trained-further',
      datasets: [{ datasetVersionId: versionId }],
      encoder: 'RESNET18',
      imageSizePx: 32,
      batchSize: 4,
      steps: 1,
      seed: 1,
      initialCheckpointId: importedId,
    });
    trainedId = (await database.db.checkpoint.findFirstOrThrow({ where: { sourceRunId: trainingId } })).id;
    const after = await evaluationOf(trainedId);

    const comparison = await server.ask(
      'query ($a: ID!, $b: ID!) { compareEvaluations(a: $a, b: $b) { metrics { name difference } } }',
      { a: before, b: after },
    );
    assert.ok(
      listAt(comparison, 'data.compareEvaluations.metrics').some((metric) => at(metric, 'name') === 'macroF1'),
      JSON.stringify(comparison),
    );
    const rows = await server.ask(
      'query ($id: ID!) { leaderboard(datasetVersionId: $id, protocol: KNN) { checkpoint { id } overlapsPretraining } }',
      { id: versionId },
    );
    assert.deepEqual(
      new Map(
        listAt(rows, 'data.leaderboard').map((row) => [at(row, 'checkpoint.id'), at(row, 'overlapsPretraining')]),
      ),
      new Map([
        [importedId, null],
        [trainedId, true],
      ]),
    );
  });

  test('is where the training begins: one step later the weights are close, but different', async () => {
    const [start, end] = await Promise.all(
      [importedId, trainedId].map(async (id) =>
        readSafetensors(await download(id, 'safetensors')).tensors.find(({ name }) => name === 'layer1.0.conv1.weight'),
      ),
    );
    assert.ok(start?.dtype === 'F32' && end?.dtype === 'F32');
    const endData = end.data;
    const largest = Math.max(...start.data);
    const farthest = start.data.reduce(
      (most, value, index) => Math.max(most, Math.abs(value - (endData[index] ?? NaN))),
      0,
    );
    assert.ok(farthest > 0 && farthest < 0.1 * largest, `${farthest} of ${largest}`);
  });

  test('is exported as a PyTorch file that can be imported again with the same weights', async () => {
    await carried(exportTask, 'exportCheckpoint', { checkpointId: trainedId, formats: ['PYTORCH'] });
    const file = await download(trainedId, 'pytorch');
    const { placeholders } = await readTorchCheckpoint(accessBytes(file));
    assert.deepEqual(placeholders, []);
    await writeFile(path.join(server.folder, 'trained.pt'), file);
    const payload = await mutate(
      'importCheckpoint',
      {
        modelSlug: 'home-again',
        path: path.join(server.folder, 'trained.pt'),
        inputContract: { ...CONTRACT, imageSizePx: 32 },
      },
      'checkpoint { id }',
    );
    const [again, trained] = await Promise.all(
      [String(at(payload, 'checkpoint.id')), trainedId].map(async (id) =>
        digests(readSafetensors(await download(id, 'safetensors')).tensors),
      ),
    );
    assert.deepEqual(again, trained);
  });
});
