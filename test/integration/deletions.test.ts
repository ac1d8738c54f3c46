/** Deletions: what may be deleted, what may not, and what remains on record. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { at, listAt } from '../support/catalogue.ts';
import { INPUT_CONTRACT, makeRun } from '../support/checkpoints.ts';
import { openTestDatabase, type TestDatabase } from '../support/database.ts';
import { assertTakenSince } from '../support/instants.ts';
import { startTestServer, type TestServer } from '../support/server.ts';

let database: TestDatabase;
let server: TestServer;
let count = 0;

before(async () => {
  database = await openTestDatabase();
  server = await startTestServer(database);
});
after(async () => {
  await server.close();
  await database.close();
});

type Kind = 'Dataset' | 'DatasetVersion' | 'Model' | 'Checkpoint' | 'Run';
const REASON = 'A patient asked for it.';

async function remove(kind: Kind, id: string, reason = REASON): Promise<unknown> {
  return server.ask(
    `mutation($input: DeleteInput!) { delete${kind}(input: $input) { tombstone { id kind name digest reason deletedBy deletedAt } userErrors { code field message hint } } }`,
    { input: { id, reason } },
  );
}

async function codeOf(kind: Kind, id: string, reason = REASON): Promise<unknown> {
  const answer = await remove(kind, id, reason);
  return at(answer, `data.delete${kind}.userErrors.0.code`) ?? at(answer, 'errors.0.extensions.code');
}

async function makeArtifact(): Promise<string> {
  count += 1;
  const sha256 = count.toString(16).padStart(64, '0');
  await database.db.artifact.create({ data: { sha256, byteSize: 1n, mediaType: 'application/octet-stream' } });
  return sha256;
}

async function makeVersion(): Promise<{ datasetId: string; id: string }> {
  count += 1;
  const { id: datasetId } = await database.db.dataset.create({
    data: { slug: `set-${count}`, name: 'A set', imageKind: 'PATCH' },
  });
  const { id } = await database.db.datasetVersion.create({
    data: {
      datasetId,
      version: 1,
      shards: { create: { position: 0, sha256: await makeArtifact(), byteSize: 1n, imageCount: 1 } },
    },
  });
  await database.db.datasetVersion.update({ where: { id }, data: { status: 'SEALED', digest: 'cd'.repeat(32) } });
  return { datasetId, id };
}

async function makeCheckpoint(): Promise<{ modelId: string; slug: string; id: string; sha256: string }> {
  count += 1;
  const slug = `model-${count}`;
  const { id: modelId } = await database.db.model.create({ data: { slug, name: 'A model' } });
  const sha256 = await makeArtifact();
  const { id } = await database.db.checkpoint.create({
    data: {
      modelId,
      version: 1,
      encoder: 'RESNET18',
      embeddingDim: 512,
      inputContract: {
        ...INPUT_CONTRACT,
        valueRange: [...INPUT_CONTRACT.valueRange],
        channelMean: [...INPUT_CONTRACT.channelMean],
        channelStd: [...INPUT_CONTRACT.channelStd],
      },
      sha256,
      byteSize: 1n,
    },
  });
  return { modelId, slug, id, sha256 };
}

async function makeEvaluation(checkpointId: string, datasetVersionId: string): Promise<string> {
  const { id: runId } = await database.db.run.create({
    data: {
      title: 'made by a test',
      kind: 'EVALUATION',
      status: 'SUCCEEDED',
      config: { checkpointId, datasetVersionId },
    },
  });
  await database.db.evaluation.create({
    data: {
      checkpointId,
      datasetVersionId,
      runId,
      protocol: 'LINEAR_PROBE',
      seed: 1,
      options: {},
      split: {},
      baselines: [],
      metrics: { create: { position: 0, name: 'accuracy', value: 1 } },
    },
  });
  return runId;
}

describe('what is deleted', () => {
  test('disappears with its parts, and a tombstone records who deleted it, when, why, and what it was', async () => {
    const checkpoint = await makeCheckpoint();
    const beganMs = Date.now();
    const answer = await remove('Checkpoint', checkpoint.id);
    const { deletedAt, ...tombstone } = Object.fromEntries(
      Object.entries(Object(at(answer, 'data.deleteCheckpoint.tombstone'))),
    );
    assert.deepEqual(
      tombstone,
      {
        id: checkpoint.id,
        kind: 'CHECKPOINT',
        name: `${checkpoint.slug} version 1`,
        digest: checkpoint.sha256,
        reason: REASON,
        deletedBy: 'admin',
      },
      JSON.stringify(answer),
    );
    assertTakenSince(beganMs, new Date(String(deletedAt)));
    assert.equal(
      at(await server.ask('query($id: ID!) { checkpoint(id: $id) { id } }', { id: checkpoint.id }), 'data.checkpoint'),
      null,
    );
    assert.equal(
      at(
        await server.ask('query($id: ID!) { tombstone(id: $id) { name reason } }', { id: checkpoint.id }),
        'data.tombstone.reason',
      ),
      REASON,
    );
    assert.equal(
      at(
        await server.ask(
          '{ auditLog(first: 1, filter: { action: "Mutation.deleteCheckpoint" }) { nodes { subject outcome } } }',
        ),
        'data.auditLog.nodes.0.subject',
      ),
      checkpoint.id,
    );
    assert.equal(
      await database.db.artifact.count({ where: { sha256: checkpoint.sha256 } }),
      1,
      'bytes are left to garbage collection',
    );
  });

  test('of every kind: run with its evaluation, version with its shards, dataset, model', async () => {
    const version = await makeVersion();
    const checkpoint = await makeCheckpoint();
    const runId = await makeEvaluation(checkpoint.id, version.id);
    for (const [kind, id] of [
      ['Run', runId],
      ['DatasetVersion', version.id],
      ['Dataset', version.datasetId],
      ['Checkpoint', checkpoint.id],
      ['Model', checkpoint.modelId],
    ] as const) {
      assert.equal(await codeOf(kind, id), undefined, kind);
    }
    const { db } = database;
    const left = [
      await db.evaluation.count({ where: { runId } }),
      await db.run.count({ where: { id: runId } }),
      await db.datasetShard.count({ where: { datasetVersionId: version.id } }),
      await db.dataset.count({ where: { id: version.datasetId } }),
      await db.model.count({ where: { id: checkpoint.modelId } }),
    ];
    assert.deepEqual(left, [0, 0, 0, 0, 0]);
    const listed = listAt(
      await server.ask('{ tombstones(first: 5) { totalCount nodes { kind } } }'),
      'data.tombstones.nodes',
    ).map((node) => at(node, 'kind'));
    assert.deepEqual(listed, ['MODEL', 'CHECKPOINT', 'DATASET', 'DATASET_VERSION', 'RUN']);
  });

  test('can be deleted again: the existing tombstone stays', async () => {
    const { modelId, id } = await makeCheckpoint();
    await remove('Checkpoint', id, 'The first reason.');
    assert.equal(
      at(await remove('Checkpoint', id, 'Another reason.'), 'data.deleteCheckpoint.tombstone.reason'),
      'The first reason.',
    );
    assert.equal(await codeOf('Run', id), 'RUN_NOT_FOUND', 'of another kind');
    await Promise.all([remove('Model', modelId), remove('Model', modelId)]);
    assert.equal(await database.db.tombstone.count({ where: { id: modelId } }), 1);
  });

  test('leaves a version number that is not reused', async () => {
    const { slug, id } = await makeCheckpoint();
    await remove('Checkpoint', id);
    const next = await database.transact(async (tx) =>
      server.services.models.registerCheckpoint(tx, {
        modelSlug: slug,
        sourceRunId: await makeRun(database),
        encoder: 'RESNET18',
        embeddingDim: 512,
        inputContract: INPUT_CONTRACT,
        step: 1,
        epoch: 1,
        sha256: await makeArtifact(),
        byteSize: 1,
        tensorDigest: 'ab'.repeat(32),
        probe: null,
        golden: null,
        trainedOnVersionIds: [],
        initialCheckpointId: null,
      }),
    );
    assert.equal(next.version, 2);
  });

  test('stays on record: a tombstone cannot be changed, deleted or emptied', async () => {
    await remove('Checkpoint', (await makeCheckpoint()).id);
    for (const statement of [
      `UPDATE "Tombstone" SET reason = 'none'`,
      'DELETE FROM "Tombstone"',
      'TRUNCATE "Tombstone"',
    ])
      await assert.rejects(database.db.$executeRawUnsafe(statement), /stay as they are/);
  });

  test('is listed in pages', async () => {
    const first = await server.ask('{ tombstones(first: 2) { pageInfo { endCursor hasNextPage } nodes { id } } }');
    const second = await server.ask('query($after: String) { tombstones(first: 2, after: $after) { nodes { id } } }', {
      after: at(first, 'data.tombstones.pageInfo.endCursor'),
    });
    const ids = [...listAt(first, 'data.tombstones.nodes'), ...listAt(second, 'data.tombstones.nodes')].map((node) =>
      at(node, 'id'),
    );
    assert.equal(new Set(ids).size, 4);
    assert.equal(
      at(await server.ask('{ tombstones(after: "WyJ4Il0") { totalCount } }'), 'errors.0.extensions.code'),
      'CURSOR_INVALID',
    );
  });
});

describe('what is still in use is not deleted, and the answer names what uses it', () => {
  const refused = async (kind: Kind, id: string, why: RegExp): Promise<void> => {
    const answer = await remove(kind, id);
    assert.equal(at(answer, `data.delete${kind}.userErrors.0.code`), 'CONFLICT', JSON.stringify(answer));
    assert.match(String(at(answer, `data.delete${kind}.userErrors.0.message`)), why);
    assert.equal(await database.db.tombstone.count({ where: { id } }), 0);
  };

  test('a dataset with versions; one of the catalogue', async () => {
    await refused('Dataset', (await makeVersion()).datasetId, /needed by 1 version/);
    await refused(
      'Dataset',
      (await database.db.dataset.findFirstOrThrow({ where: { catalogueDigest: { not: null } } })).id,
      /catalogue/,
    );
  });
  test('a version that was trained on or tested on, or that a waiting run names', async () => {
    const [version, checkpoint] = [await makeVersion(), await makeCheckpoint()];
    await makeEvaluation(checkpoint.id, version.id);
    await database.db.checkpointTrainedOn.create({
      data: { checkpointId: checkpoint.id, datasetVersionId: version.id },
    });
    await refused('DatasetVersion', version.id, /1 checkpoint, 1 evaluation/);
    const { id } = await makeVersion();
    const waiting = await database.db.run.create({
      data: { title: 'made by a test', kind: 'PRETRAINING', config: { datasets: [{ datasetVersionId: id }] } },
    });
    await refused('DatasetVersion', id, /1 run that has not ended/);
    await database.db.run.update({ where: { id: waiting.id }, data: { status: 'CANCELED' } });
    assert.equal(await codeOf('DatasetVersion', id), undefined);
  });
  test('a model with checkpoints; a checkpoint with evaluations and aliases', async () => {
    const [version, checkpoint] = [await makeVersion(), await makeCheckpoint()];
    await refused('Model', checkpoint.modelId, /1 checkpoint/);
    await makeEvaluation(checkpoint.id, version.id);
    await database.db.modelAlias.create({
      data: { modelId: checkpoint.modelId, name: 'champion', checkpointId: checkpoint.id },
    });
    await refused('Checkpoint', checkpoint.id, /1 evaluation, 1 alias/);
  });
  test('a checkpoint that another was trained from', async () => {
    const [first, second] = [await makeCheckpoint(), await makeCheckpoint()];
    const { id: runId } = await database.db.run.create({
      data: {
        title: 'made by a test',
        kind: 'PRETRAINING',
        status: 'SUCCEEDED',
        config: { initialCheckpointId: first.id },
      },
    });
    await database.db.checkpoint.update({ where: { id: second.id }, data: { sourceRunId: runId } });
    await refused('Checkpoint', first.id, /1 checkpoint that was trained from it/);
    assert.equal(await codeOf('Checkpoint', second.id), undefined);
    assert.equal(await codeOf('Checkpoint', first.id), undefined);
  });
  test('a run that has not ended, and one that made a checkpoint', async () => {
    const runId = await makeRun(database);
    await refused('Run', runId, /is queued or running/);
    const { id } = await makeCheckpoint();
    await database.db.run.update({ where: { id: runId }, data: { status: 'FAILED' } });
    await database.db.checkpoint.update({ where: { id }, data: { sourceRunId: runId } });
    await refused('Run', runId, /1 checkpoint/);
  });
});

test('a deletion needs an id, a reason, and a key with the permission', async () => {
  const { id } = await makeCheckpoint();
  assert.equal(await codeOf('Checkpoint', id, ' '), 'BAD_INPUT');
  assert.equal(await codeOf('Checkpoint', 'x'), 'BAD_INPUT');
  assert.equal(await codeOf('Checkpoint', '00000000-0000-7000-8000-000000000000'), 'CHECKPOINT_NOT_FOUND');
  const made = await server.ask(
    'mutation { createKey(input: { name: "k", owner: "o", role: CONTRIBUTOR }) { secret } }',
  );
  const response = await fetch(`${server.url}/graphql`, {
    method: 'POST',
    headers: {
      'content-type': 'application/json',
      authorization: `Bearer ${String(at(made, 'data.createKey.secret'))}`,
    },
    body: JSON.stringify({
      query: `mutation { deleteCheckpoint(input: { id: "${id}", reason: "x" }) { tombstone { id } } }`,
    }),
  });
  assert.equal(at(await response.json(), 'errors.0.extensions.code'), 'FORBIDDEN');
});
