/**
 * Encoders of every family go through import, evaluation and export: a vision transformer as a pickle, and a family
 * that is not part of the program.
 */
import '../support/without-onednn.ts';
import assert from 'node:assert/strict';
import { open, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { registerEncoderFamily } from '../../src/formats/encoders/registry.ts';
import type { EncoderTensorSpec } from '../../src/formats/encoders/index.ts';
import { vitTensorSpecs, type VitSpecification } from '../../src/formats/encoders/vit/specification.ts';
import { writeSafetensors, type SafetensorsTensor } from '../../src/formats/safetensors.ts';
import { drawTissue } from '../../src/synthetic/tissue.ts';
import { registerEncoderNetwork } from '../../workers/engine/encoders/index.ts';
import { evaluateTask } from '../../workers/tasks/evaluate.ts';
import { exportTask } from '../../workers/tasks/export.ts';
import { importDatasetTask } from '../../workers/tasks/import-dataset.ts';
import { at, listAt } from '../support/catalogue.ts';
import { INPUT_CONTRACT } from '../support/checkpoints.ts';
import { openTestDatabase, type TestDatabase } from '../support/database.ts';
import { lightningFile } from '../support/encoder-files.ts';
import { startTestServer, type TestServer } from '../support/server.ts';
import { createTaskRunner, type TaskRunner } from '../support/task-runner.ts';
import { TOY, TOY_NETWORK } from '../support/toy-encoders.ts';
import { readEncoderInMemory } from '../support/weights-sink.ts';
import type { Task } from '../../workers/tasks/task.ts';
import type { InputContract } from '../../src/protocol/checkpoint.ts';

const IMAGE_SIZE_PX = 32;
const VIT: VitSpecification = {
  patchSizePx: 8,
  width: 32,
  depth: 2,
  mlpWidth: 64,
  mlp: 'GELU',
  hasClassToken: true,
  registerCount: 4,
  positions: 'PATCHES',
  gridSize: 4,
  hasPatchBias: true,
  hasQkvBias: true,
  hasLayerScale: true,
  hasPreNorm: false,
  finalNorm: 'BEFORE_POOLING',
  headCount: 4,
  normEpsilon: 1e-6,
  blockNorm: 'PRE',
  positionResampling: 'ANTIALIASED',
};

/** A contract without pooling. */
const SQUARE = { imageSizePx: IMAGE_SIZE_PX, channelMean: [0.5, 0.5, 0.5], channelStd: [0.5, 0.5, 0.5] };

let database: TestDatabase;
let server: TestServer;
let runner: TaskRunner;
let versionId = '';

before(async () => {
  registerEncoderFamily(TOY);
  registerEncoderNetwork(TOY_NETWORK);
  database = await openTestDatabase();
  server = await startTestServer(database);
  runner = await createTaskRunner(database, server.folder);
  const images = path.join(server.folder, 'images');
  await drawTissue({ outDir: images, imagesPerLabel: 6, imageSizePx: 40, seed: 5, groups: 6 });
  const { id: datasetId } = await database.db.dataset.create({
    data: { slug: 'families', name: 'Families', imageKind: 'PATCH', synthetic: true },
  });
  const imported = await launched(
    importDatasetTask,
    'mutation ($input: ImportDatasetVersionInput!) { importDatasetVersion(input: $input) { run { id } userErrors { code message } } }',
    'importDatasetVersion',
    { datasetId, path: images, layout: 'FOLDER_PER_LABEL' },
  );
  versionId = (await database.db.datasetVersion.findFirstOrThrow({ where: { importRunId: imported } })).id;
});
after(async () => {
  await runner.close();
  await server.close();
  await database.close();
});

/** Launches a run by the API, and does what a worker would do with it. */
async function launched(task: Task, mutation: string, field: string, input: object): Promise<string> {
  const answer = await server.ask(mutation, { input });
  assert.deepEqual(at(answer, `data.${field}.userErrors`), [], JSON.stringify(answer));
  const runId = String(at(answer, `data.${field}.run.id`));
  await (await runner.claim(task, runId)).execute();
  const run = await database.db.run.findUniqueOrThrow({ where: { id: runId } });
  assert.equal(run.status, 'SUCCEEDED');
  return runId;
}

/** Every tensor, its numbers drawn from a seed. */
function someTensors(specs: readonly EncoderTensorSpec[]): SafetensorsTensor[] {
  let state = 7;
  return specs.map(({ name, shape }): SafetensorsTensor => {
    const length = shape.reduce((product, side) => product * side, 1);
    const isScale = shape.length === 1 && /weight$|gamma$/.test(name);
    const reach = shape.length > 1 ? Math.sqrt(3 / (length / (shape[0] ?? 1))) : 0.2;
    const data = Float32Array.from({ length }, () => {
      state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
      return (isScale ? 1 : 0) + reach * ((2 * state) / 2 ** 32 - 1);
    });
    return { name, shape, dtype: 'F32', data };
  });
}

const IMPORT =
  'mutation ($input: ImportCheckpointInput!) { importCheckpoint(input: $input) { checkpoint { id encoder embeddingDim inputContract { pooling interpolation embeddingLayer } architecture { family name parameterCount specification } } userErrors { code field message hint } } }';
const importInput = (file: string, changes: object = {}): object => ({
  modelSlug: 'vit',
  path: file,
  specification: { headCount: VIT.headCount },
  inputContract: {
    imageSizePx: IMAGE_SIZE_PX,
    channelMean: [0.7, 0.5, 0.6],
    channelStd: [0.2, 0.3, 0.2],
    pooling: 'CLS_AND_MEAN',
    interpolation: 'BICUBIC',
  },
  ...changes,
});

async function exportAndEvaluate(checkpointId: string): Promise<void> {
  const waiting = await database.db.run.findFirst({ where: { kind: 'EXPORT', status: 'QUEUED' } });
  if (waiting !== null) await (await runner.claim(exportTask, waiting.id)).execute();
  await launched(
    evaluateTask,
    'mutation ($input: LaunchEvaluationInput!) { launchEvaluation(input: $input) { run { id } userErrors { code message } } }',
    'launchEvaluation',
    {
      checkpointId,
      datasetVersionId: versionId,
      protocol: 'KNN',
      folds: 3,
      seed: 1,
      options: { bootstrapResamples: 100 },
    },
  );
  await launched(
    exportTask,
    'mutation ($input: ExportCheckpointInput!) { exportCheckpoint(input: $input) { run { id } userErrors { code message } } }',
    'exportCheckpoint',
    { checkpointId, formats: ['PYTORCH', 'ONNX', 'TFJS'] },
  );
  const answer = await server.ask(
    'query ($id: ID!) { checkpoint(id: $id) { golden exports { format status reason } } evaluations(filter: { checkpointId: $id }) { nodes { metrics { name value } } } }',
    { id: checkpointId },
  );
  assert.deepEqual(
    listAt(answer, 'data.checkpoint.exports').map((each) => [at(each, 'status'), at(each, 'reason')]),
    [
      ['AVAILABLE', null],
      ['AVAILABLE', null],
      ['AVAILABLE', null],
    ],
  );
  assert.ok(listAt(answer, 'data.checkpoint.golden.embeddings').length > 0);
  assert.ok(listAt(answer, 'data.evaluations.nodes.0.metrics').length > 0);
}

describe('a vision transformer with registers', () => {
  const tensors = someTensors(vitTensorSpecs(VIT));
  let file = '';
  before(async () => {
    file = path.join(server.folder, 'vit.ckpt');
    await writeFile(file, lightningFile(tensors, 'model.'));
  });

  test('is imported from a pickle, evaluated and exported', async () => {
    const answer = await server.ask(IMPORT, { input: importInput(file) });
    assert.deepEqual(at(answer, 'data.importCheckpoint.userErrors'), [], JSON.stringify(answer));
    const { id, ...facts } = Object(at(answer, 'data.importCheckpoint.checkpoint'));
    assert.deepEqual(facts, {
      encoder: 'OTHER',
      embeddingDim: 64,
      inputContract: { pooling: 'CLS_AND_MEAN', interpolation: 'BICUBIC', embeddingLayer: 'norm' },
      architecture: {
        family: 'VIT',
        name: 'VIT_W32_D2_P8_REG4',
        parameterCount: tensors.reduce((sum, { data }) => sum + data.length, 0),
        specification: VIT,
      },
    });
    await exportAndEvaluate(String(id));
  });

  for (const [what, changes, field] of [
    ['without its number of heads', { specification: null }, 'input.specification'],
    [
      'with a pooling that it does not have',
      { inputContract: { ...SQUARE, pooling: 'AVGPOOL' } },
      'input.inputContract.pooling',
    ],
    [
      'for images that are not whole patches',
      { inputContract: { ...SQUARE, pooling: 'CLS', imageSizePx: 36 } },
      'input.inputContract.imageSizePx',
    ],
  ] as const) {
    test(`is refused ${what}`, async () => {
      const answer = await server.ask(IMPORT, { input: importInput(file, changes) });
      const [error] = listAt(answer, 'data.importCheckpoint.userErrors');
      assert.deepEqual([at(error, 'code'), at(error, 'field')], ['CHECKPOINT_INCOMPATIBLE', field]);
    });
  }

  test('cannot be fine-tuned, and the launch says so', async () => {
    const { id } = await database.db.checkpoint.findFirstOrThrow({
      where: { encoder: 'OTHER', sha256: { not: null } },
    });
    const answer = await server.ask(
      'mutation ($input: LaunchEvaluationInput!) { launchEvaluation(input: $input) { run { id } userErrors { code field } } }',
      { input: { checkpointId: id, datasetVersionId: versionId, protocol: 'FINE_TUNE', folds: 3 } },
    );
    assert.deepEqual(at(answer, 'data.launchEvaluation.userErrors'), [
      { code: 'CHECKPOINT_INCOMPATIBLE', field: 'input.protocol' },
    ]);
  });
});

test('a family that is not part of the program is imported, evaluated and exported', async () => {
  const file = path.join(server.folder, 'toy.safetensors');
  const inputContract: InputContract = {
    ...INPUT_CONTRACT,
    imageSizePx: IMAGE_SIZE_PX,
    embeddingLayer: 'norm',
    pooling: 'MEAN',
  };
  await writeFile(file, writeSafetensors(someTensors(TOY.describe({ width: 6 }).tensors)));
  // In this process, because the one that reads strangers' files knows the program's own families only.
  await using handle = await open(file);
  const read = await readEncoderInMemory([handle.fd], {
    fileName: null,
    expectedSha256: null,
    expectedByteSize: null,
    encoder: null,
    network: null,
    keyPrefix: null,
    specification: null,
    inputContract,
  });
  assert.deepEqual([read.architecture.family, read.embeddingDim], ['TOY', 6]);
  const stored = await runner.store.put(read.bytes);
  await database.db.artifact.create({ data: { ...stored, mediaType: 'application/octet-stream' } });
  const model = await database.db.model.create({ data: { slug: 'toy', name: 'Toy' } });
  const { id } = await database.db.checkpoint.create({
    data: {
      modelId: model.id,
      version: 1,
      encoder: 'OTHER',
      architecture: read.architecture,
      embeddingDim: read.embeddingDim,
      inputContract,
      ...stored,
    },
  });
  await exportAndEvaluate(id);
});
