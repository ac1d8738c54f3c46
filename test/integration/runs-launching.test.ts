/** Launching runs: refused input, frozen configs, and the same key used twice. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import path from 'node:path';
import { after, beforeEach, describe, test } from 'node:test';
import { getNamedType, isInputObjectType, type GraphQLInputField, type GraphQLInputType } from 'graphql';
import { buildSchema } from '../../src/api/schema.ts';
import { DomainError, type ErrorCode } from '../../src/errors.ts';
import { openRunStage } from '../support/run-stage.ts';
import { keyHolder } from '../support/viewers.ts';

const UNKNOWN_ID = '00000000-0000-7000-8000-000000000000';
const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex');

function inputFieldOf(type: GraphQLInputType | undefined, name: string): GraphQLInputField | undefined {
  const input = type === undefined ? undefined : getNamedType(type);
  return isInputObjectType(input) ? input.getFields()[name] : undefined;
}

const fixture = await openRunStage();
const {
  base,
  database,
  registry,
  versionId,
  draftId,
  sealVersion,
  makeCheckpoint,
  pretrainingInput,
  importInput,
  evaluationInput,
  launchPretraining,
  launchImport,
  launchEvaluation,
  launchEmbedding,
  eventKinds,
} = fixture;
after(fixture.close);
// Each test starts with an empty queue.
beforeEach(fixture.emptyQueue);

describe('launching', () => {
  test('freezes every default, and sends the message with the row', async () => {
    const run = await launchPretraining();
    assert.deepEqual([run.kind, run.status, run.attempt, run.progress], ['PRETRAINING', 'QUEUED', 0, 0]);
    const config = JSON.parse(JSON.stringify(run.config));
    assert.deepEqual(
      [config.recipe, config.method.projectionDim, config.datasets[0].digest, config.datasets[0].weight],
      ['DEFAULT', 128, sha256('digest'), 1],
    );
    assert.ok(Number.isInteger(config.seed));
    assert.deepEqual(await eventKinds(run.id), ['QUEUED']);
    const [message] = await database.db.$queryRaw<
      { name: string }[]
    >`SELECT name FROM queue.job WHERE data->>'runId' = ${run.id}`;
    assert.equal(message?.name, 'pretrain');
    const { id: importId } = await launchImport();
    const { id: evaluationId } = await launchEvaluation();
    const names = await database.db.$queryRaw<
      { name: string }[]
    >`SELECT name FROM queue.job WHERE data->>'runId' IN (${importId}, ${evaluationId}) ORDER BY name`;
    assert.deepEqual(
      names.map(({ name }) => name),
      ['evaluate', 'import-dataset'],
    );
  });

  test('takes the requirements of every kind that a worker elsewhere can carry, alike', async () => {
    const requirements = { memoryMiB: 16_384, gpuMemoryMiB: 24_576, labels: ['basel'] };
    for (const launch of [launchPretraining, launchEvaluation, launchEmbedding]) {
      assert.deepEqual((await launch({ requirements })).requirements, {
        ...requirements,
        ...{ device: 'GPU', bfloat16: false },
      });
      assert.equal((await launch()).requirements.device, null);
    }
    const inputs = Object.values(buildSchema(false).getMutationType()?.getFields() ?? {})
      .filter(({ name }) => name.startsWith('launch'))
      .map(({ name, args }) => [name, String(inputFieldOf(args[0]?.type, 'requirements')?.type)]);
    assert.deepEqual(inputs.sort(), [
      ['launchEmbedding', 'RunRequirementsInput'],
      ['launchEvaluation', 'RunRequirementsInput'],
      ['launchPretraining', 'RunRequirementsInput'],
    ]);
  });

  test('has a title that names inputs and result', async () => {
    const checkpointId = await makeCheckpoint('RESNET18');
    const { version: checkpointVersion, model } = await database.db.checkpoint.findUniqueOrThrow({
      where: { id: checkpointId },
      include: { model: true },
    });
    const { version, dataset } = await database.db.datasetVersion.findUniqueOrThrow({
      where: { id: versionId },
      include: { dataset: true },
    });
    const titled = await Promise.all([
      launchPretraining({ modelSlug: 'titled', steps: 5 }),
      launchImport(),
      launchEvaluation({ checkpointId, protocol: 'KNN' }),
    ]);
    assert.deepEqual(
      titled.map(({ title }) => title),
      [
        `titled: resnet18 on ${dataset.slug}@${version}, 5 steps`,
        `${dataset.slug} from images`,
        `knn of ${model.slug}@${checkpointVersion} on ${dataset.slug}@${version}`,
      ],
    );
  });

  test('an id in capitals is the same id', async () => {
    const run = await launchPretraining({ datasets: [{ datasetVersionId: versionId.toUpperCase() }] });
    assert.equal(JSON.parse(JSON.stringify(run.config)).datasets[0].datasetVersionId, versionId);
  });

  type Case = readonly [what: string, launch: () => Promise<unknown>, code: ErrorCode, field: string];
  const cases: readonly Case[] = [
    [
      'a dataset that is unknown',
      () => launchImport({ datasetId: UNKNOWN_ID }),
      'DATASET_NOT_FOUND',
      'input.datasetId',
    ],
    ['an invalid dataset id', () => launchImport({ datasetId: 'breakhis' }), 'DATASET_NOT_FOUND', 'input.datasetId'],
    ['a layout that is unknown', () => launchImport({ layout: 'ZIP' }), 'BAD_INPUT', 'input.layout'],
    ['a path outside the roots', () => launchImport({ path: '/etc' }), 'IMPORT_PATH_NOT_ALLOWED', 'input.path'],
    [
      'a path that leaves the roots',
      () => launchImport({ path: `${base}/../../etc` }),
      'IMPORT_PATH_NOT_ALLOWED',
      'input.path',
    ],
    [
      'a folder of annotations outside the roots',
      () =>
        launchImport({
          ...{ layout: 'SLIDES', patchSizePx: 256 },
          slides: { micronsPerPixel: 0.5, annotations: { path: '/etc' } },
        }),
      'IMPORT_PATH_NOT_ALLOWED',
      'input.slides.annotations.path',
    ],
    [
      'a link that leads out',
      () => launchImport({ path: path.join(base, 'leads-out') }),
      'IMPORT_PATH_NOT_ALLOWED',
      'input.path',
    ],
    ['a relative path', () => launchImport({ path: 'images' }), 'IMPORT_PATH_NOT_ALLOWED', 'input.path'],
    ['an empty path', () => launchImport({ path: '' }), 'BAD_INPUT', 'input.path'],
    ['a path with a zero byte', () => launchImport({ path: `${base}/a\0b` }), 'IMPORT_PATH_NOT_FOUND', 'input.path'],
    [
      'a folder that is missing',
      () => launchImport({ path: path.join(base, 'gone') }),
      'IMPORT_PATH_NOT_FOUND',
      'input.path',
    ],
    [
      'a file in place of a folder',
      () => launchImport({ path: path.join(base, 'labels.csv') }),
      'IMPORT_PATH_NOT_FOLDER',
      'input.path',
    ],
    [
      'a labels CSV that is missing',
      () => launchImport({ layout: 'CSV', labelsCsvPath: path.join(base, 'no.csv') }),
      'IMPORT_PATH_NOT_FOUND',
      'input.labelsCsvPath',
    ],
    [
      'a labels CSV outside the roots',
      () => launchImport({ layout: 'CSV', labelsCsvPath: '/etc/passwd' }),
      'IMPORT_PATH_NOT_ALLOWED',
      'input.labelsCsvPath',
    ],
    ['layout CSV without its file', () => launchImport({ layout: 'CSV' }), 'BAD_INPUT', 'input.labelsCsvPath'],
    ['patches of one pixel', () => launchImport({ patchSizePx: 1 }), 'BAD_INPUT', 'input.patchSizePx'],
    ['a key with a zero byte', () => launchImport({ idempotencyKey: 'a\0' }), 'BAD_INPUT', 'input.idempotencyKey'],

    [
      'a version that is unknown',
      () => launchPretraining({ datasets: [{ datasetVersionId: versionId }, { datasetVersionId: UNKNOWN_ID }] }),
      'DATASET_VERSION_NOT_FOUND',
      'input.datasets.1.datasetVersionId',
    ],
    [
      'a version that is not sealed',
      () => launchPretraining({ datasets: [{ datasetVersionId: draftId }] }),
      'DATASET_VERSION_NOT_SEALED',
      'input.datasets.0.datasetVersionId',
    ],
    [
      'a version named twice, once in capitals',
      () =>
        launchPretraining({
          datasets: [{ datasetVersionId: versionId }, { datasetVersionId: versionId.toUpperCase() }],
        }),
      'BAD_INPUT',
      'input.datasets.1.datasetVersionId',
    ],
    ['fewer images than a batch', () => launchPretraining({ batchSize: 41 }), 'DATASET_TOO_SMALL', 'input.batchSize'],
    [
      'no memory',
      () => launchPretraining({ requirements: { memoryMiB: 0 } }),
      'BAD_INPUT',
      'input.requirements.memoryMiB',
    ],
    [
      'a label with a space',
      () => launchPretraining({ requirements: { labels: ['a100', 'a b'] } }),
      'BAD_INPUT',
      'input.requirements.labels.1',
    ],
    [
      "a CPU's GPU memory",
      () => launchEvaluation({ requirements: { device: 'CPU', gpuMemoryMiB: 1024 } }),
      'BAD_INPUT',
      'input.requirements.gpuMemoryMiB',
    ],
    [
      "an embedding on a CPU's GPU memory",
      () => launchEmbedding({ requirements: { device: 'CPU', gpuMemoryMiB: 1024 } }),
      'BAD_INPUT',
      'input.requirements.gpuMemoryMiB',
    ],
    ['a batch of one', () => launchPretraining({ batchSize: 1 }), 'BAD_INPUT', 'input.batchSize'],
    ['a negative temperature', () => launchPretraining({ temperature: -1 }), 'BAD_INPUT', 'input.temperature'],
    ['more steps than sense', () => launchPretraining({ steps: 2_000_000_000 }), 'BAD_INPUT', 'input.steps'],
    ['neither epochs nor steps', () => launchPretraining({ steps: null }), 'BAD_INPUT', 'input.steps'],
    [
      'an image size that no encoder takes',
      () => launchPretraining({ imageSizePx: 16 }),
      'BAD_INPUT',
      'input.imageSizePx',
    ],
    ['an encoder that is unknown', () => launchPretraining({ encoder: 'VGG16' }), 'BAD_INPUT', 'input.encoder'],
    [
      'an initial checkpoint that is unknown',
      () => launchPretraining({ initialCheckpointId: UNKNOWN_ID }),
      'CHECKPOINT_NOT_FOUND',
      'input.initialCheckpointId',
    ],
    [
      'an invalid initial checkpoint id',
      () => launchPretraining({ initialCheckpointId: 'champion' }),
      'CHECKPOINT_NOT_FOUND',
      'input.initialCheckpointId',
    ],
    [
      'an initial checkpoint of another encoder',
      async () => launchPretraining({ initialCheckpointId: await makeCheckpoint('RESNET50') }),
      'CHECKPOINT_INCOMPATIBLE',
      'input.initialCheckpointId',
    ],
    [
      'an initial checkpoint without weights',
      async () => launchPretraining({ initialCheckpointId: await makeCheckpoint('RESNET18', null) }),
      'CHECKPOINT_NOT_DOWNLOADABLE',
      'input.initialCheckpointId',
    ],

    [
      'a checkpoint that is unknown',
      () => launchEvaluation({ checkpointId: UNKNOWN_ID }),
      'CHECKPOINT_NOT_FOUND',
      'input.checkpointId',
    ],
    [
      'an evaluation on a version that is unknown',
      () => launchEvaluation({ datasetVersionId: UNKNOWN_ID }),
      'DATASET_VERSION_NOT_FOUND',
      'input.datasetVersionId',
    ],
    [
      'an evaluation on an invalid version id',
      () => launchEvaluation({ datasetVersionId: 'latest' }),
      'DATASET_VERSION_NOT_FOUND',
      'input.datasetVersionId',
    ],
    [
      'an evaluation on a version that is not sealed',
      () => launchEvaluation({ datasetVersionId: draftId }),
      'DATASET_VERSION_NOT_SEALED',
      'input.datasetVersionId',
    ],
    [
      'an evaluation on one label',
      async () => launchEvaluation({ datasetVersionId: await sealVersion({ labelNames: ['tumour'] }) }),
      'TOO_FEW_LABELS',
      'input.datasetVersionId',
    ],
    [
      'fewer images than folds',
      async () => launchEvaluation({ datasetVersionId: await sealVersion({ imageCount: 4, groupCount: 4 }) }),
      'TOO_FEW_IMAGES',
      'input.folds',
    ],
    [
      'fewer groups than folds',
      async () => launchEvaluation({ datasetVersionId: await sealVersion({ groupCount: 3 }) }),
      'TOO_FEW_GROUPS',
      'input.folds',
    ],
    ['one fold', () => launchEvaluation({ folds: 1 }), 'BAD_INPUT', 'input.folds'],
    ['an option that is unknown', () => launchEvaluation({ options: { c: 1 } }), 'BAD_INPUT', 'input.options'],
    [
      'an option of another protocol',
      () => launchEvaluation({ protocol: 'KNN', options: { maxEpochs: 3 } }),
      'BAD_INPUT',
      'input.options',
    ],
    [
      'an option out of its range',
      () => launchEvaluation({ protocol: 'FINE_TUNE', options: { maxEpochs: 0 } }),
      'BAD_INPUT',
      'input.options.maxEpochs',
    ],
    [
      'a label fraction above 1',
      () => launchEvaluation({ options: { labelFractions: [0.5, 2] } }),
      'BAD_INPUT',
      'input.options.labelFractions.1',
    ],
    [
      'a regression on words',
      () => launchEvaluation({ protocol: 'REGRESSION' }),
      'LABELS_NOT_NUMERIC',
      'input.datasetVersionId',
    ],
    ['a protocol that is unknown', () => launchEvaluation({ protocol: 'GUESS' }), 'BAD_INPUT', 'input.protocol'],
  ];
  for (const [what, launch, code, field] of cases) {
    test(`refuses ${what}, and writes nothing`, async () => {
      const before = await written();
      await assert.rejects(launch(), (error: unknown) => {
        assert.ok(error instanceof DomainError, String(error));
        assert.deepEqual([error.code, error.field], [code, field]);
        assert.match(error.message, /^[A-Za-z].*\.$/);
        return true;
      });
      assert.deepEqual(await written(), before);
    });
  }

  async function written(): Promise<readonly number[]> {
    const [row] = await database.db.$queryRaw<{ count: bigint }[]>`SELECT count(*) AS count FROM queue.job`;
    return [await database.db.run.count(), await database.db.runEvent.count(), Number(row?.count ?? 0)];
  }

  test('needs a role: READER watches, CONTRIBUTOR imports and evaluates, OPERATOR trains', async () => {
    await assert.rejects(async () => registry.runs.launchImport(keyHolder('READER'), importInput()), {
      code: 'FORBIDDEN',
    });
    await assert.rejects(async () => registry.evaluations.launch(keyHolder('READER'), evaluationInput()), {
      code: 'FORBIDDEN',
    });
    await assert.rejects(async () => registry.runs.launchPretraining(keyHolder('CONTRIBUTOR'), pretrainingInput()), {
      code: 'FORBIDDEN',
    });
    await assert.rejects(async () => registry.runs.cancel(keyHolder('READER'), UNKNOWN_ID), { code: 'FORBIDDEN' });
    await assert.rejects(async () => registry.runs.resume({ kind: 'ANONYMOUS', mayRead: true }, UNKNOWN_ID), {
      code: 'UNAUTHENTICATED',
    });
    await assert.rejects(async () => registry.runs.get({ kind: 'ANONYMOUS', mayRead: false }, UNKNOWN_ID), {
      code: 'UNAUTHENTICATED',
    });
    assert.equal((await registry.runs.launchPretraining(keyHolder('OPERATOR'), pretrainingInput())).status, 'QUEUED');
  });
});

describe('an idempotency key', () => {
  test('returns the same run for the same input', async () => {
    const first = await launchPretraining({ idempotencyKey: 'same' });
    const second = await launchPretraining({ idempotencyKey: 'same' });
    assert.equal(second.id, first.id);
    assert.deepEqual(second.config, first.config, 'the drawn seed too');
  });

  test('is refused with another input, and with another kind of run', async () => {
    await launchPretraining({ idempotencyKey: 'taken' });
    const refusal = { code: 'IDEMPOTENCY_KEY_REUSED', field: 'input.idempotencyKey' };
    await assert.rejects(launchPretraining({ idempotencyKey: 'taken', steps: 11 }), refusal);
    await assert.rejects(launchImport({ idempotencyKey: 'taken' }), refusal);
  });

  test('creates one run for several simultaneous requests', async () => {
    const runs = await Promise.all(Array.from({ length: 4 }, () => launchImport({ idempotencyKey: 'at once' })));
    assert.equal(new Set(runs.map((run) => run.id)).size, 1);
    const [row] = await database.db.$queryRaw<
      { count: bigint }[]
    >`SELECT count(*) AS count FROM queue.job WHERE data->>'runId' = ${runs[0]?.id}`;
    assert.equal(Number(row?.count), 1);
  });
});
