/** Models, aliases and checkpoints through the API and the workers' interface. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { DomainError } from '../../src/errors.ts';
import { at, listAt } from '../support/catalogue.ts';
import { INPUT_CONTRACT, makeRun, newCheckpoint } from '../support/checkpoints.ts';
import { openTestDatabase, type TestDatabase } from '../support/database.ts';
import { startTestServer, type TestServer } from '../support/server.ts';
import type { CheckpointRecord, NewCheckpoint } from '../../src/modules/models/index.ts';
import type { InputContract } from '../../src/protocol/checkpoint.ts';

let database: TestDatabase;
let server: TestServer;

before(async () => {
  database = await openTestDatabase();
  server = await startTestServer(database);
});
after(async () => {
  await server.close();
  await database.close();
});

function register(checkpoint: NewCheckpoint): Promise<CheckpointRecord> {
  return database.transact((tx) => server.services.models.registerCheckpoint(tx, checkpoint));
}

async function someVersion(): Promise<string> {
  const dataset = await database.db.dataset.findFirstOrThrow();
  const { datasets } = server.services;
  const draft = await database.transact((tx) => datasets.createDraftVersion(tx, { datasetId: dataset.id }));
  return draft.id;
}

const CREATE =
  'mutation($input: CreateModelInput!) { createModel(input: $input) { model { slug name licence } userErrors { code field message hint } } }';
const SET_ALIAS = `mutation($input: SetModelAliasInput!) {
  setModelAlias(input: $input) { model { aliases { name checkpoint { id version } } } userErrors { code field message hint } }
}`;

describe('createModel', () => {
  test('creates a model that is found by id and by slug', async () => {
    const made = await server.ask(CREATE, {
      input: { slug: 'tissue-resnet18', name: 'Tissue, ResNet-18 (Gewebe)', licence: 'MIT' },
    });
    assert.deepEqual(at(made, 'data.createModel'), {
      model: { slug: 'tissue-resnet18', name: 'Tissue, ResNet-18 (Gewebe)', licence: 'MIT' },
      userErrors: [],
    });
    const bySlug = await server.ask(
      '{ model(slug: "tissue-resnet18") { id aliases { name } checkpoints { totalCount nodes { id } } } }',
    );
    assert.equal(at(bySlug, 'data.model.checkpoints.totalCount'), 0);
    const byId = await server.ask('query($id: ID!) { model(id: $id) { slug } node(id: $id) { __typename id } }', {
      id: at(bySlug, 'data.model.id'),
    });
    assert.equal(at(byId, 'data.model.slug'), 'tissue-resnet18');
    assert.equal(at(byId, 'data.node.__typename'), 'Model');
  });

  const wrong: readonly [string, object, string, string][] = [
    ['a slug that is taken', { slug: 'tissue-resnet18', name: 'Again' }, 'SLUG_TAKEN', 'input.slug'],
    ['a slug in capitals', { slug: 'Tissue', name: 'x' }, 'BAD_INPUT', 'input.slug'],
    ['a slug with a path in it', { slug: '../x', name: 'x' }, 'BAD_INPUT', 'input.slug'],
    ['an empty slug', { slug: '', name: 'x' }, 'BAD_INPUT', 'input.slug'],
    ['a slug that is too long', { slug: 'a'.repeat(101), name: 'x' }, 'BAD_INPUT', 'input.slug'],
    ['a name of spaces', { slug: 'x', name: '   ' }, 'BAD_INPUT', 'input.name'],
    ['a name that is too long', { slug: 'x', name: 'x'.repeat(201) }, 'BAD_INPUT', 'input.name'],
    [
      'a description that is too long',
      { slug: 'x', name: 'x', description: 'x'.repeat(10_001) },
      'BAD_INPUT',
      'input.description',
    ],
    ['a licence that is too long', { slug: 'x', name: 'x', licence: 'x'.repeat(201) }, 'BAD_INPUT', 'input.licence'],
  ];
  for (const [what, input, code, field] of wrong) {
    test(`refuses ${what}`, async () => {
      const answer = await server.ask(CREATE, { input });
      assert.equal(at(answer, 'data.createModel.model'), null);
      assert.equal(at(answer, 'data.createModel.userErrors.0.code'), code, JSON.stringify(answer));
      assert.equal(at(answer, 'data.createModel.userErrors.0.field'), field);
    });
  }

  test('creates one model for many simultaneous requests', async () => {
    const answers = await Promise.all(
      Array.from({ length: 5 }, () => server.ask(CREATE, { input: { slug: 'race', name: 'Race' } })),
    );
    assert.equal(answers.filter((answer) => at(answer, 'data.createModel.userErrors.length') === 0).length, 1);
  });
});

describe('model and models', () => {
  for (const [what, text] of [
    ['neither id nor slug', '{ model { id } }'],
    ['both', '{ model(id: "x", slug: "y") { id } }'],
  ] as const) {
    test(`${what} is refused`, async () => {
      const answer = await server.ask(text);
      assert.equal(at(answer, 'errors.0.extensions.code'), 'BAD_INPUT');
      assert.equal(at(answer, 'errors.0.extensions.field'), 'id');
    });
  }

  test('an unknown model is null', async () => {
    const answer = await server.ask(
      '{ a: model(slug: "no-such") { id } b: model(id: "no-uuid") { id } c: model(id: "00000000-0000-7000-8000-000000000000") { id } d: checkpoint(id: "champion") { id } }',
    );
    assert.deepEqual(answer, { data: { a: null, b: null, c: null, d: null } });
  });

  test('pages cover the whole list, newest first, and search takes wildcards literally', async () => {
    for (const slug of ['page-a', 'page-b', 'page-c'])
      await server.ask(CREATE, { input: { slug, name: slug === 'page-b' ? '100%_Page' : slug } });
    const found: unknown[] = [];
    let after: unknown = null;
    for (;;) {
      const answer: unknown = await server.ask(
        'query($after: String) { models(first: 2, after: $after, filter: { search: "PAGE" }) { totalCount nodes { slug } pageInfo { hasNextPage endCursor } } }',
        { after },
      );
      assert.equal(at(answer, 'data.models.totalCount'), 3);
      found.push(...listAt(answer, 'data.models.nodes').map((model) => at(model, 'slug')));
      if (at(answer, 'data.models.pageInfo.hasNextPage') === false) break;
      after = at(answer, 'data.models.pageInfo.endCursor');
    }
    assert.deepEqual(found, ['page-c', 'page-b', 'page-a']);
    const percent = await server.ask('{ models(filter: { search: "%_p" }) { nodes { slug } } }');
    assert.deepEqual(at(percent, 'data.models.nodes'), [{ slug: 'page-b' }]);
  });

  for (const [what, page, code] of [
    ['a page of none', 'first: 0', 'BAD_INPUT'],
    ['a page of too many', 'first: 201', 'BAD_INPUT'],
    ['an invalid cursor', 'after: "x"', 'CURSOR_INVALID'],
    ['a cursor of another list', `after: "${Buffer.from('["a"]').toString('base64url')}"`, 'CURSOR_INVALID'],
  ] as const) {
    test(`${what} is refused`, async () => {
      for (const list of ['models', 'checkpoints']) {
        const answer = await server.ask(`{ ${list}(${page}) { nodes { id } } }`);
        assert.equal(at(answer, 'errors.0.extensions.code'), code, JSON.stringify(answer));
      }
    });
  }
});

describe('registering checkpoints', () => {
  test('a training that starts from a checkpoint has seen what that one had seen', async () => {
    const [early, late] = [await someVersion(), await someVersion()];
    const first = await register(
      newCheckpoint({ modelSlug: 'lineage', sourceRunId: await makeRun(database), trainedOnVersionIds: [early] }),
    );
    const second = await register(
      newCheckpoint({
        modelSlug: 'lineage',
        sourceRunId: await makeRun(database),
        trainedOnVersionIds: [late],
        initialCheckpointId: first.id,
      }),
    );
    const answer = await server.ask('query($id: ID!) { checkpoint(id: $id) { trainedOn { id } } }', { id: second.id });
    assert.deepEqual(
      new Set(JSON.stringify(at(answer, 'data.checkpoint.trainedOn')).match(/[0-9a-f-]{36}/g)),
      new Set([early, late]),
    );
  });

  test('creates a new model, and stores all facts of the checkpoint', async () => {
    const sourceRunId = await makeRun(database);
    const versionId = await someVersion();
    const golden = { images: 'AAEC', embeddings: [[0.5, -1]] };
    const { id } = await register(
      newCheckpoint({ modelSlug: 'simclr', sourceRunId, golden, trainedOnVersionIds: [versionId, versionId] }),
    );
    const answer = await server.ask(
      `query($id: ID!) { node(id: $id) { __typename } checkpoint(id: $id) {
        model { slug name } version encoder architecture { family name parameterCount specification } embeddingDim step epoch sha256 byteSize formats downloadUrl golden trainedOn { id }
        importedFrom { url } sourceRun { id }
        inputContract { imageSizePx resizeRule channelOrder valueRange channelMean channelStd embeddingLayer pooling interpolation weightsDtype micronsPerPixelMin micronsPerPixelMax }
      } }`,
      { id },
    );
    assert.deepEqual(at(answer, 'data'), {
      node: { __typename: 'Checkpoint' },
      checkpoint: {
        model: { slug: 'simclr', name: 'simclr' },
        version: 1,
        encoder: 'RESNET18',
        architecture: {
          family: 'RESNET',
          name: 'RESNET18',
          // torchvision's 11,689,512 without the 513,000 of fc.
          parameterCount: 11_176_512,
          specification: { block: 'BASIC', depths: [2, 2, 2, 2] },
        },
        embeddingDim: 512,
        step: 100,
        epoch: 1.5,
        sha256: 'ab'.repeat(32),
        byteSize: 45_000_000,
        formats: ['SAFETENSORS', 'PYTORCH', 'ONNX', 'TFJS'],
        downloadUrl: `/checkpoints/${id}/download?format=safetensors`,
        golden,
        trainedOn: [{ id: versionId }],
        importedFrom: null,
        sourceRun: { id: sourceRunId },
        inputContract: INPUT_CONTRACT,
      },
    });
  });

  test('numbers versions consecutively, even for simultaneous requests', async () => {
    const runIds = await Promise.all(Array.from({ length: 4 }, () => makeRun(database)));
    const made = await Promise.all(
      runIds.map((sourceRunId) => register(newCheckpoint({ modelSlug: 'busy', sourceRunId }))),
    );
    assert.deepEqual(made.map((checkpoint) => checkpoint.version).toSorted(), [1, 2, 3, 4]);
  });

  test('registers nothing twice for a run that was claimed twice', async () => {
    const sourceRunId = await makeRun(database);
    const [first, second] = await Promise.all(
      [1, 2].map(() => register(newCheckpoint({ modelSlug: 'twice', sourceRunId }))),
    );
    assert.deepEqual(second, first);
    const later = await register(newCheckpoint({ modelSlug: 'twice', sourceRunId, step: 200 }));
    assert.equal(later.version, 2);
  });

  test('refuses an incomplete input contract', async () => {
    const sourceRunId = await makeRun(database);
    const parts: readonly Partial<InputContract>[] = [
      { channelStd: [0.5, 0, 0.5] },
      { valueRange: [1, 0] },
      { imageSizePx: 0 },
      { micronsPerPixelMin: 2, micronsPerPixelMax: 1 },
    ];
    for (const part of parts) {
      await assert.rejects(
        register(newCheckpoint({ modelSlug: 'guess', sourceRunId, inputContract: { ...INPUT_CONTRACT, ...part } })),
      );
    }
    assert.equal(await database.db.model.count({ where: { slug: 'guess' } }), 0, 'nothing is left half-written');
  });

  test('needs its weights in the artifact store', async () => {
    const { models } = server.services;
    await assert.rejects(
      models.checkpointForUse('champion', 'input.checkpointId'),
      (error) =>
        error instanceof DomainError && error.code === 'CHECKPOINT_NOT_FOUND' && error.field === 'input.checkpointId',
    );
    const model = await database.db.model.create({ data: { slug: 'published', name: 'Published' } });
    const { id } = await database.db.checkpoint.create({
      data: {
        modelId: model.id,
        version: 1,
        encoder: 'RESNET18',
        embeddingDim: 512,
        inputContract: INPUT_CONTRACT,
        importedFrom: { url: 'https://example.org/w.ckpt', fileName: 'w.ckpt' },
      },
    });
    await assert.rejects(
      models.checkpointForUse(id, 'input.checkpointId'),
      (error) => error instanceof DomainError && error.code === 'CHECKPOINT_NOT_DOWNLOADABLE',
    );
    const answer = await server.ask(
      'query($id: ID!) { checkpoint(id: $id) { formats downloadUrl sha256 golden importedFrom { url fileName byteSize } } }',
      { id },
    );
    assert.deepEqual(at(answer, 'data.checkpoint'), {
      formats: [],
      downloadUrl: null,
      sha256: null,
      golden: null,
      importedFrom: { url: 'https://example.org/w.ckpt', fileName: 'w.ckpt', byteSize: null },
    });
  });
});

describe('checkpoints', () => {
  test('are found by encoder, model, run and what they were trained on', async () => {
    const sourceRunId = await makeRun(database);
    const versionId = await someVersion();
    const { datasetId } = await database.db.datasetVersion.findUniqueOrThrow({ where: { id: versionId } });
    const { id } = await register(
      newCheckpoint({
        modelSlug: 'deep',
        sourceRunId,
        encoder: 'RESNET50',
        embeddingDim: 2048,
        trainedOnVersionIds: [versionId],
      }),
    );
    for (const filter of [
      { encoder: 'RESNET50', published: false },
      { modelSlug: 'deep' },
      { sourceRunId },
      { trainedOnDatasetVersionId: versionId },
      { trainedOnDatasetId: datasetId, encoder: 'RESNET50' },
      { encoder: 'RESNET50', modelSlug: 'deep', sourceRunId },
    ]) {
      const answer = await server.ask(
        'query($filter: CheckpointFilter) { checkpoints(filter: $filter) { totalCount nodes { id } } }',
        { filter },
      );
      assert.deepEqual(at(answer, 'data.checkpoints'), { totalCount: 1, nodes: [{ id }] }, JSON.stringify(filter));
    }
    const none = await server.ask('query($filter: CheckpointFilter) { checkpoints(filter: $filter) { totalCount } }', {
      filter: { encoder: 'RESNET101', modelSlug: 'deep' },
    });
    assert.equal(at(none, 'data.checkpoints.totalCount'), 0);
  });

  test('each model of a list has its own newest, their count, and a cursor that continues', async () => {
    const sourceRunId = await makeRun(database);
    const ids = { even: new Array<string>(), odd: new Array<string>() };
    for (let step = 0; step < 5; step += 1) {
      const slug = step % 2 === 0 ? 'even' : 'odd';
      ids[slug].unshift((await register(newCheckpoint({ modelSlug: slug, sourceRunId, step }))).id);
    }
    const answer = await server.ask(`{ models(first: 2) { nodes { slug
      latest: checkpoints(first: 1) { totalCount nodes { id } pageInfo { hasNextPage hasPreviousPage endCursor } } all: checkpoints { nodes { id } pageInfo { hasNextPage } } } } }`);
    const of = (slug: 'even' | 'odd'): unknown => ({
      slug,
      latest: {
        totalCount: ids[slug].length,
        nodes: [{ id: ids[slug][0] }],
        pageInfo: { hasNextPage: true, hasPreviousPage: false, endCursor: cursor(slug) },
      },
      all: { nodes: ids[slug].map((id) => ({ id })), pageInfo: { hasNextPage: false } },
    });
    const cursor = (slug: 'even' | 'odd'): unknown =>
      at(
        listAt(answer, 'data.models.nodes').find((model) => at(model, 'slug') === slug),
        'latest.pageInfo.endCursor',
      );
    assert.deepEqual(at(answer, 'data.models.nodes'), [of('odd'), of('even')]);
    const rest = await server.ask(
      'query ($after: String) { model(slug: "even") { checkpoints(first: 1, after: $after) { totalCount nodes { id } pageInfo { hasPreviousPage } } } }',
      { after: cursor('even') },
    );
    assert.deepEqual(at(rest, 'data.model.checkpoints'), {
      totalCount: 3,
      nodes: [{ id: ids.even[1] }],
      pageInfo: { hasPreviousPage: true },
    });
    const wrong = await server.ask('{ models(first: 1) { nodes { checkpoints(first: 0) { totalCount } } } }');
    assert.deepEqual(
      [at(wrong, 'errors.0.extensions.code'), at(wrong, 'errors.0.extensions.field')],
      ['BAD_INPUT', 'first'],
    );
  });

  for (const [filter, code, field] of [
    ['{ modelSlug: "no-such" }', 'MODEL_NOT_FOUND', 'filter.modelSlug'],
    ['{ sourceRunId: "x" }', 'BAD_INPUT', 'filter.sourceRunId'],
    ['{ trainedOnDatasetVersionId: "x" }', 'BAD_INPUT', 'filter.trainedOnDatasetVersionId'],
    ['{ trainedOnDatasetId: "x" }', 'BAD_INPUT', 'filter.trainedOnDatasetId'],
  ] as const) {
    test(`${filter} is refused`, async () => {
      const answer = await server.ask(`{ checkpoints(filter: ${filter}) { totalCount } }`);
      assert.deepEqual(
        [at(answer, 'errors.0.extensions.code'), at(answer, 'errors.0.extensions.field')],
        [code, field],
      );
    });
  }
});

describe('setModelAlias', () => {
  test('sets, moves and removes an alias', async () => {
    const sourceRunId = await makeRun(database);
    const first = await register(newCheckpoint({ modelSlug: 'named', sourceRunId, step: 1 }));
    const second = await register(newCheckpoint({ modelSlug: 'named', sourceRunId, step: 2 }));
    const aliases = async (input: object): Promise<unknown> =>
      at(await server.ask(SET_ALIAS, { input }), 'data.setModelAlias');
    const pointing = (checkpoint: CheckpointRecord): object => ({
      model: { aliases: [{ name: 'champion', checkpoint: { id: checkpoint.id, version: checkpoint.version } }] },
      userErrors: [],
    });
    assert.deepEqual(await aliases({ modelSlug: 'named', name: 'champion', checkpointId: first.id }), pointing(first));
    assert.deepEqual(
      await aliases({ modelId: first.modelId, name: 'champion', checkpointId: second.id }),
      pointing(second),
    );
    assert.deepEqual(await aliases({ modelSlug: 'named', name: 'champion', checkpointId: null }), {
      model: { aliases: [] },
      userErrors: [],
    });
    assert.deepEqual(await aliases({ modelSlug: 'named', name: 'champion' }), {
      model: { aliases: [] },
      userErrors: [],
    });
  });

  test('points at one checkpoint after two simultaneous moves', async () => {
    const sourceRunId = await makeRun(database);
    const made = await Promise.all(
      [1, 2].map((step) => register(newCheckpoint({ modelSlug: 'tug', sourceRunId, step }))),
    );
    const answers = await Promise.all(
      made.map(({ id }) => server.ask(SET_ALIAS, { input: { modelSlug: 'tug', name: 'champion', checkpointId: id } })),
    );
    for (const answer of answers)
      assert.deepEqual(at(answer, 'data.setModelAlias.userErrors'), [], JSON.stringify(answer));
    assert.equal(await database.db.modelAlias.count({ where: { modelId: made[0]?.modelId ?? '' } }), 1);
  });

  const wrong: readonly [string, (ids: { own: string; foreign: string }) => object, string, string][] = [
    [
      'a checkpoint of another model',
      ({ foreign }) => ({ modelSlug: 'own', name: 'champion', checkpointId: foreign }),
      'CONFLICT',
      'input.checkpointId',
    ],
    [
      'an unknown checkpoint',
      () => ({ modelSlug: 'own', name: 'champion', checkpointId: '00000000-0000-7000-8000-000000000000' }),
      'CHECKPOINT_NOT_FOUND',
      'input.checkpointId',
    ],
    [
      'an invalid checkpoint id',
      () => ({ modelSlug: 'own', name: 'champion', checkpointId: 'best' }),
      'CHECKPOINT_NOT_FOUND',
      'input.checkpointId',
    ],
    [
      'an unknown model',
      ({ own }) => ({ modelSlug: 'no-such', name: 'champion', checkpointId: own }),
      'MODEL_NOT_FOUND',
      'input.modelSlug',
    ],
    [
      'an unknown model id',
      ({ own }) => ({ modelId: 'x', name: 'champion', checkpointId: own }),
      'MODEL_NOT_FOUND',
      'input.modelId',
    ],
    ['no model', ({ own }) => ({ name: 'champion', checkpointId: own }), 'BAD_INPUT', 'input.modelId'],
    ['an empty name', ({ own }) => ({ modelSlug: 'own', name: '', checkpointId: own }), 'BAD_INPUT', 'input.name'],
    [
      'a name in capitals',
      ({ own }) => ({ modelSlug: 'own', name: 'Champion', checkpointId: own }),
      'BAD_INPUT',
      'input.name',
    ],
    [
      'a name like a version',
      ({ own }) => ({ modelSlug: 'own', name: 'v2', checkpointId: own }),
      'BAD_INPUT',
      'input.name',
    ],
    [
      'a name that is too long',
      ({ own }) => ({ modelSlug: 'own', name: 'x'.repeat(51), checkpointId: own }),
      'BAD_INPUT',
      'input.name',
    ],
  ];
  for (const [what, inputOf, code, field] of wrong) {
    test(`refuses ${what}`, async () => {
      const sourceRunId = await makeRun(database);
      const own = await register(newCheckpoint({ modelSlug: 'own', sourceRunId, step: 1 }));
      const foreign = await register(newCheckpoint({ modelSlug: 'foreign', sourceRunId, step: 2 }));
      const answer = await server.ask(SET_ALIAS, { input: inputOf({ own: own.id, foreign: foreign.id }) });
      assert.deepEqual(
        [at(answer, 'data.setModelAlias.userErrors.0.code'), at(answer, 'data.setModelAlias.userErrors.0.field')],
        [code, field],
        JSON.stringify(answer),
      );
    });
  }
});
