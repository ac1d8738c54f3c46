/** The same weights are recognised under any name, and keep the record of the data that they have seen. */
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { tensorDigestOf } from '../../src/formats/tensor-digest.ts';
import { readSafetensors, writeSafetensors, type SafetensorsTensor } from '../../src/formats/safetensors.ts';
import { fillTensorDigests } from '../../src/modules/models/index.ts';
import { at, listAt } from '../support/catalogue.ts';
import { makeRun, newCheckpoint } from '../support/checkpoints.ts';
import { openTestDatabase, type TestDatabase } from '../support/database.ts';
import { renamed, someEncoder } from '../support/encoder-files.ts';
import { startTestServer, type TestServer } from '../support/server.ts';

describe('the digest of tensors', () => {
  const bias: SafetensorsTensor = { name: 'bn1.weight', dtype: 'F32', shape: [2], data: Float32Array.of(1, -2.5) };
  const kernel: SafetensorsTensor = {
    name: 'conv1.weight',
    dtype: 'F32',
    shape: [1, 2, 1, 1],
    data: Float32Array.of(0.5, 3),
  };
  const count: SafetensorsTensor = {
    name: 'bn1.num_batches_tracked',
    dtype: 'I64',
    shape: [],
    data: BigInt64Array.of(7n),
  };

  test("equals Python's over names, shapes and bytes", () => {
    // hashlib.sha256 of b'["bn1.weight","F32",[2]]\\n' + struct.pack('<2f', 1, -2.5) + the same of conv1.weight.
    const wanted = '9e90ecd2d0e25b0099e1afea28bf6ebfcddad1cb02534c5a30b2cb56c5a9805f';
    assert.equal(tensorDigestOf([bias, kernel]), wanted);
    assert.equal(tensorDigestOf([kernel, count, bias]), wanted, 'in any order, whatever was counted');
  });

  test('differs for another value, shape or name', () => {
    const changed: SafetensorsTensor[] = [
      { ...kernel, data: Float32Array.of(0.5, 3.000_001) },
      { ...kernel, shape: [2, 1, 1, 1] },
      { ...kernel, name: 'conv2.weight' },
    ];
    const digests = [kernel, ...changed].map((each) => tensorDigestOf([bias, each]));
    assert.equal(new Set(digests).size, digests.length);
  });
});

describe('lineage by identical weights', () => {
  let database: TestDatabase;
  let server: TestServer;
  const weights = someEncoder('RESNET18');
  const ids = { version: '', trained: '', copy: '', child: '' };

  before(async () => {
    database = await openTestDatabase();
    server = await startTestServer(database);
    const dataset = await database.db.dataset.create({ data: { slug: 'colon', name: 'Colon', imageKind: 'PATCH' } });
    const version = await database.db.datasetVersion.create({ data: { datasetId: dataset.id, version: 1 } });
    const stored = await server.store.put(writeSafetensors(weights));
    const trained = await database.transact(async (tx) =>
      server.services.models.registerCheckpoint(
        tx,
        newCheckpoint({
          modelSlug: 'ours',
          sourceRunId: await pretrainingRun(version.id, null),
          ...stored,
          tensorDigest: tensorDigestOf(weights),
          trainedOnVersionIds: [version.id],
        }),
      ),
    );
    Object.assign(ids, { version: version.id, trained: trained.id });
  });
  after(async () => {
    await server.close();
    await database.close();
  });

  /** With the parts of a config that a lineage reads. */
  async function pretrainingRun(datasetVersionId: string, initialCheckpointId: string | null): Promise<string> {
    const id = await makeRun(database);
    const datasets = [{ datasetVersionId, imageCount: 10, maxImages: null }];
    await database.db.run.update({ where: { id }, data: { config: { datasets, initialCheckpointId } } });
    return id;
  }

  async function importWeights(modelSlug: string, tensors: readonly SafetensorsTensor[]): Promise<string> {
    const file = path.join(server.folder, `${modelSlug}.safetensors`);
    await writeFile(file, writeSafetensors(tensors));
    const answer = await server.ask(
      `mutation($input: ImportCheckpointInput!) { importCheckpoint(input: $input) { checkpoint { id } userErrors { message } } }`,
      {
        input: {
          modelSlug,
          path: file,
          inputContract: { imageSizePx: 96, channelMean: [0.4, 0.4, 0.4], channelStd: [0.2, 0.2, 0.2] },
        },
      },
    );
    assert.deepEqual(at(answer, 'data.importCheckpoint.userErrors'), []);
    return String(at(answer, 'data.importCheckpoint.checkpoint.id'));
  }

  async function lineageOf(id: string): Promise<unknown> {
    const answer = await server.ask(
      'query($id: ID!) { checkpoint(id: $id) { isTrainingKnown trainedOn { id } sameWeights { id } } }',
      { id },
    );
    assert.equal(at(answer, 'errors'), undefined, JSON.stringify(answer));
    return at(answer, 'data.checkpoint');
  }

  const asTrained = (...same: readonly string[]) => ({
    isTrainingKnown: true,
    trainedOn: [{ id: ids.version }],
    sameWeights: same.map((id) => ({ id })),
  });

  test('an import under other names, counts and contract is linked, and inherits what the weights had seen', async () => {
    const disguised = renamed(weights, 'module.').map((each) =>
      each.dtype === 'I64' ? { ...each, data: BigInt64Array.of(123_456n) } : each,
    );
    ids.copy = await importWeights('theirs', disguised);
    assert.deepEqual(await lineageOf(ids.copy), asTrained(ids.trained));
    assert.deepEqual(await lineageOf(ids.trained), asTrained(ids.copy));
    assert.deepEqual(await server.services.models.pretrainingOf(ids.copy), {
      versions: [{ datasetVersionId: ids.version, isPart: false }],
      isComplete: true,
    });
  });

  test('different weights are not linked, and what they have seen is unknown', async () => {
    const other = await importWeights('others', someEncoder('RESNET18', 2));
    assert.deepEqual(await lineageOf(other), { isTrainingKnown: false, trainedOn: [], sameWeights: [] });
  });

  test('a training that starts from the copy has seen it too', async () => {
    const child = await database.transact(async (tx) =>
      server.services.models.registerCheckpoint(
        tx,
        newCheckpoint({
          modelSlug: 'child',
          sourceRunId: await pretrainingRun(ids.version, ids.copy),
          initialCheckpointId: ids.copy,
        }),
      ),
    );
    ids.child = child.id;
    assert.deepEqual(await lineageOf(child.id), asTrained());
  });

  test('an untrained encoder is known to have seen nothing', async () => {
    const id = await database.transact(
      async (tx) =>
        (
          await server.services.models.registerCheckpoint(
            tx,
            newCheckpoint({ modelSlug: 'random', sourceRunId: await makeRun(database), step: 0 }),
          )
        ).id,
    );
    assert.deepEqual(await lineageOf(id), { isTrainingKnown: true, trainedOn: [], sameWeights: [] });
  });

  test('a leaderboard says that the copy has seen the images', async () => {
    const run = await database.db.run.create({ data: { title: 'made by a test', kind: 'EVALUATION', config: {} } });
    await database.db.evaluation.create({
      data: {
        checkpointId: ids.copy,
        datasetVersionId: ids.version,
        protocol: 'KNN',
        runId: run.id,
        seed: 1,
        options: {},
        split: {},
        baselines: [],
        metrics: { create: { position: 0, name: 'macroF1', value: 0.5 } },
      },
    });
    const answer = await server.ask(
      `query($id: ID!) { leaderboard(datasetVersionId: $id, protocol: KNN) { overlapsPretraining } }`,
      { id: ids.version },
    );
    assert.equal(at(answer, 'data.leaderboard.0.overlapsPretraining'), true);
    const { datasetId } = await database.db.datasetVersion.findUniqueOrThrow({ where: { id: ids.version } });
    const found = await server.ask(`query($id: ID!) { evaluations(filter: { datasetId: $id }) { nodes { id } } }`, {
      id: datasetId,
    });
    assert.equal(listAt(found, 'data.evaluations.nodes').length, 1, 'an evaluation is found by its dataset');
  });

  test('old checkpoints are read once in the background, and checkpoints trained from them inherit their data', async () => {
    await database.db.checkpoint.updateMany({ data: { tensorDigest: null } });
    await database.db.checkpointTrainedOn.deleteMany({ where: { checkpointId: { in: [ids.copy, ids.child] } } });
    assert.deepEqual(await lineageOf(ids.copy), { isTrainingKnown: false, trainedOn: [], sameWeights: [] });
    const unreadable: string[] = [];
    const fill = (signal = new AbortController().signal): Promise<number> =>
      fillTensorDigests(
        {
          db: database.db,
          transact: database.transact,
          readArtifact: server.store.read,
          onUnreadable: (id) => unreadable.push(id),
        },
        signal,
      );
    assert.equal(await fill(AbortSignal.abort()), 0, 'it ends when its signal is aborted');
    assert.equal(await fill(), 3, 'the trained one, its copy and the other weights');
    assert.equal(unreadable.length, 2, 'two checkpoints of this test have no bytes');
    assert.deepEqual(await lineageOf(ids.copy), asTrained(ids.trained));
    assert.deepEqual(at(await lineageOf(ids.child), 'trainedOn'), [{ id: ids.version }]);
    assert.equal(await fill(), 0);
    const { sha256 } = await database.db.checkpoint.findUniqueOrThrow({ where: { id: ids.copy } });
    const { tensorDigest } = await database.db.checkpoint.findUniqueOrThrow({ where: { id: ids.trained } });
    assert.equal(tensorDigestOf(readSafetensors(await server.store.read(String(sha256))).tensors), tensorDigest);
  });
});
