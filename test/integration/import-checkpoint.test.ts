/**
 * Import of checkpoints through the API: the imported weights equal those of the file, and a failed import leaves
 * nothing behind.
 */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import {
  readForeignSafetensors,
  readSafetensors,
  writeSafetensors,
  type SafetensorsTensor,
} from '../../src/formats/safetensors.ts';
import { embedPixels } from '../../workers/engine/embed.ts';
import { encoderFromWeights } from '../../workers/engine/encoders/resnet/network.ts';
import { at, CONTRIBUTOR, listAt } from '../support/catalogue.ts';
import { openTestDatabase, type TestDatabase } from '../support/database.ts';
import { halfFile, halves, lightningFile, renamed, someEncoder } from '../support/encoder-files.ts';
import { startTestServer, type TestServer } from '../support/server.ts';

const CONTRACT = { imageSizePx: 64, channelMean: [0.485, 0.456, 0.406], channelStd: [0.229, 0.224, 0.225] };
const IMPORT = `mutation($input: ImportCheckpointInput!) { importCheckpoint(input: $input) {
  checkpoint {
    id version encoder embeddingDim sha256 byteSize formats golden publishedSlug trainingFacts { name } model { slug name licence }
    inputContract { imageSizePx resizeRule channelOrder valueRange channelMean channelStd embeddingLayer micronsPerPixelMin micronsPerPixelMax }
    importedFrom { url fileName byteSize sha256 licence contents { format keyPrefix inertGlobals projectionHead { hiddenDim projectionDim } classifier { classCount } ignoredParts scalars } }
  }
  userErrors { code field message hint }
} }`;

let database: TestDatabase;
let server: TestServer;
const weights = someEncoder('RESNET18');

before(async () => {
  database = await openTestDatabase();
  server = await startTestServer(database);
});
after(async () => {
  await server.close();
  await database.close();
});

async function put(name: string, bytes: Uint8Array): Promise<string> {
  const file = path.join(server.folder, name);
  await writeFile(file, bytes);
  return file;
}

async function importFile(input: object): Promise<unknown> {
  const answer = await server.ask(IMPORT, { input: { modelSlug: 'imported', inputContract: CONTRACT, ...input } });
  assert.equal(at(answer, 'errors'), undefined, JSON.stringify(answer));
  return at(answer, 'data.importCheckpoint');
}

async function imported(input: object): Promise<unknown> {
  const answer = await importFile(input);
  assert.deepEqual(at(answer, 'userErrors'), [], JSON.stringify(answer));
  return at(answer, 'checkpoint');
}

async function faultOf(input: object): Promise<{ code: unknown; field: unknown; message: string }> {
  const answer = await importFile(input);
  assert.equal(at(answer, 'checkpoint'), null);
  const [error] = listAt(answer, 'userErrors');
  return { code: at(error, 'code'), field: at(error, 'field'), message: String(at(error, 'message')) };
}

const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

/** sha256 of each tensor's numbers, by name. */
function digests(tensors: readonly SafetensorsTensor[]): Map<string, string> {
  return new Map(
    tensors
      .map(({ name, data }) => [name, sha256(new Uint8Array(data.buffer, data.byteOffset, data.byteLength))] as const)
      .sort(([a], [b]) => (a < b ? -1 : 1)),
  );
}

async function download(checkpoint: unknown): Promise<Buffer> {
  const response = await fetch(`${server.url}/checkpoints/${String(at(checkpoint, 'id'))}/download`);
  return Buffer.from(await response.arrayBuffer());
}

describe('importCheckpoint', () => {
  test('accepts a safetensors file, and returns the same weights with everything needed to use them', async () => {
    const bytes = writeSafetensors(weights, { made: 'elsewhere' });
    const checkpoint = await imported({
      path: await put('own.safetensors', bytes),
      name: 'From elsewhere',
      licence: 'MIT',
      sha256: sha256(bytes).toUpperCase(),
      encoder: 'RESNET18',
    });
    const stored = await download(checkpoint);
    assert.equal(sha256(stored), at(checkpoint, 'sha256'));
    assert.deepEqual(digests(readSafetensors(stored).tensors), digests(weights));
    assert.deepEqual(
      ['version', 'encoder', 'embeddingDim', 'formats', 'golden', 'publishedSlug', 'trainingFacts', 'model'].map(
        (field) => at(checkpoint, field),
      ),
      [
        1,
        'RESNET18',
        512,
        ['SAFETENSORS', 'PYTORCH', 'ONNX', 'TFJS'],
        null,
        null,
        [],
        { slug: 'imported', name: 'From elsewhere', licence: 'MIT' },
      ],
    );
    assert.deepEqual(at(checkpoint, 'inputContract'), {
      ...CONTRACT,
      resizeRule: 'SHORT_SIDE_THEN_CENTRE_CROP',
      channelOrder: 'RGB',
      valueRange: [0, 1],
      embeddingLayer: 'avgpool',
      micronsPerPixelMin: null,
      micronsPerPixelMax: null,
    });
    assert.deepEqual(at(checkpoint, 'importedFrom'), {
      url: null,
      fileName: 'own.safetensors',
      byteSize: bytes.length,
      sha256: sha256(bytes),
      licence: 'MIT',
      contents: {
        format: 'SAFETENSORS',
        keyPrefix: '',
        inertGlobals: [],
        projectionHead: null,
        classifier: null,
        ignoredParts: [],
        scalars: [{ path: 'made', value: 'elsewhere' }],
      },
    });
  });

  test('accepts a Lightning file without running it: the same weights are the same checkpoint', async () => {
    const file = lightningFile(weights, 'model.resnet.');
    const again = await imported({ path: await put('lightning.ckpt', file) });
    assert.equal(at(again, 'version'), 1, 'registered once in this model');
    const elsewhere = await imported({ path: path.join(server.folder, 'lightning.ckpt'), modelSlug: 'lightning' });
    assert.equal(at(elsewhere, 'sha256'), at(again, 'sha256'), 'whatever file they came in');
    assert.deepEqual(at(elsewhere, 'importedFrom.contents'), {
      format: 'TORCH_ZIP',
      keyPrefix: 'model.resnet.',
      inertGlobals: ['posix.system'],
      projectionHead: null,
      classifier: null,
      ignoredParts: ['callbacks: 0 tensors'],
      scalars: [{ path: 'epoch', value: 9 }],
    });
  });

  test('half precision is stored as it came, and is told', async () => {
    const checkpoint = await imported({
      path: await put('half.safetensors', halfFile('BF16', weights)),
      modelSlug: 'half',
    });
    const stored = readForeignSafetensors(await download(checkpoint));
    for (const { name, dtype, data } of weights) {
      const found = stored.tensors.find((tensor) => tensor.name === name);
      assert.deepEqual(found?.data, dtype === 'F32' ? halves('BF16', data) : data, name);
    }
    assert.match(stored.metadata['inputContract'] ?? '', /"weightsDtype":"BFLOAT16"/);
    const answer = await server.ask(
      'query ($id: ID!) { checkpoint(id: $id) { inputContract { weightsDtype } precision { dtype rounding { dtype } sentence } } }',
      { id: at(checkpoint, 'id') },
    );
    assert.deepEqual(at(answer, 'data.checkpoint'), {
      inputContract: { weightsDtype: 'BFLOAT16' },
      precision: { dtype: 'BFLOAT16', rounding: null, sentence: 'The weights are bfloat16, computed in float32.' },
    });
  });

  test('shards, by the index beside them: the same checkpoint as in one file', async () => {
    await put('model-00001-of-00002.safetensors', writeSafetensors(weights.slice(0, 50)));
    await put('model-00002-of-00002.safetensors', writeSafetensors(weights.slice(50)));
    const weightMap = Object.fromEntries(
      weights.map(({ name }, index) => [name, `model-0000${index < 50 ? 1 : 2}-of-00002.safetensors`]),
    );
    const index = await put('model.safetensors.index.json', Buffer.from(JSON.stringify({ weight_map: weightMap })));
    const first = await imported({ path: path.join(server.folder, 'own.safetensors') });
    const checkpoint = await imported({ path: index, modelSlug: 'shards' });
    assert.deepEqual(
      ['sha256', 'importedFrom.fileName', 'importedFrom.contents.format'].map((field) => at(checkpoint, field)),
      [at(first, 'sha256'), 'model.safetensors.index.json', 'SAFETENSORS'],
    );
    const absent = { weight_map: { ...weightMap, more: 'model-00003-of-00002.safetensors' } };
    const fault = await faultOf({
      path: await put('absent.safetensors.index.json', Buffer.from(JSON.stringify(absent))),
      modelSlug: 'refused',
    });
    assert.deepEqual([fault.code, fault.field], ['IMPORT_PATH_NOT_FOUND', 'input.path']);
  });

  test('an export can be imported again, also on another server', async () => {
    const first = await imported({ path: path.join(server.folder, 'own.safetensors') });
    const checkpoint = await imported({
      path: await put('exported.safetensors', await download(first)),
      modelSlug: 'second-lab',
    });
    assert.equal(at(checkpoint, 'sha256'), at(first, 'sha256'));
  });

  test('leaves out a projection head and a classifier, and says so', async () => {
    const linear = (name: string, shape: number[]): SafetensorsTensor => ({
      name,
      shape,
      dtype: 'F32',
      data: new Float32Array(shape.reduce((product, size) => product * size, 1)),
    });
    const bytes = writeSafetensors([
      ...renamed(weights, 'module.'),
      linear('module.fc.1.weight', [16, 512]),
      linear('module.fc.3.weight', [8, 16]),
    ]);
    const checkpoint = await imported({ path: await put('head.safetensors', bytes), modelSlug: 'with-head' });
    assert.deepEqual(at(checkpoint, 'importedFrom.contents.projectionHead'), { hiddenDim: 16, projectionDim: 8 });
    assert.deepEqual(digests(readSafetensors(await download(checkpoint)).tensors), digests(weights));
  });

  test('two simultaneous imports make one checkpoint', async () => {
    const input = { path: path.join(server.folder, 'own.safetensors'), modelSlug: 'race' };
    const [first, second] = await Promise.all([imported(input), imported(input)]);
    assert.equal(at(first, 'id'), at(second, 'id'));
    assert.equal(await database.db.checkpoint.count({ where: { model: { slug: 'race' } } }), 1);
  });

  test('the engine computes with it what it computes with the original', async () => {
    const checkpoint = await imported({ path: path.join(server.folder, 'own.safetensors') });
    const pixels = Uint8Array.from({ length: 64 * 64 * 3 }, (_, index) => (index * 37) % 256);
    const embeddingBy = (tensors: readonly SafetensorsTensor[]): Float32Array => {
      const encoder = encoderFromWeights('RESNET18', tensors);
      const embedding = embedPixels(encoder, pixels, 1, 64, {
        channelMean: [0.485, 0.456, 0.406],
        channelStd: [0.229, 0.224, 0.225],
      });
      encoder.dispose();
      return embedding;
    };
    assert.deepEqual(embeddingBy(readSafetensors(await download(checkpoint)).tensors), embeddingBy(weights));
  });

  test('evaluations and trainings can start from it', async () => {
    const checkpointId = at(await imported({ path: path.join(server.folder, 'own.safetensors') }), 'id');
    const dataset = await database.db.dataset.create({
      data: { slug: 'for-import', name: 'For import', imageKind: 'PATCH', synthetic: true },
    });
    await database.db.artifact.create({
      data: { sha256: 'ab'.repeat(32), byteSize: 10, mediaType: 'application/jsonl' },
    });
    const version = await database.db.datasetVersion.create({
      data: {
        datasetId: dataset.id,
        version: 1,
        status: 'SEALED',
        digest: 'd',
        manifestSha256: 'ab'.repeat(32),
        imageCount: 40,
        labelNames: ['a', 'b'],
        groupCount: 40,
      },
    });
    const answer = await server.ask(
      `mutation($evaluation: LaunchEvaluationInput!, $training: LaunchPretrainingInput!) {
        launchEvaluation(input: $evaluation) { run { status } userErrors { code message } }
        launchPretraining(input: $training) { run { status config } userErrors { code message } }
      }`,
      {
        evaluation: { checkpointId, datasetVersionId: version.id },
        training: {
          modelSlug: 'goes-on',
          datasets: [{ datasetVersionId: version.id }],
          batchSize: 4,
          steps: 2,
          imageSizePx: 64,
          initialCheckpointId: checkpointId,
        },
      },
    );
    assert.deepEqual(
      at(answer, 'data.launchEvaluation'),
      { run: { status: 'QUEUED' }, userErrors: [] },
      JSON.stringify(answer),
    );
    assert.equal(
      at(answer, 'data.launchPretraining.run.config.initialCheckpointId'),
      checkpointId,
      JSON.stringify(answer),
    );
  });
});

test('a leaderboard does not claim to know what an imported encoder has seen', async () => {
  const checkpointId = String(at(await imported({ path: path.join(server.folder, 'own.safetensors') }), 'id'));
  const { db } = database;
  const dataset = await db.dataset.create({ data: { slug: 'seen', name: 'Seen', imageKind: 'PATCH' } });
  const version = await db.datasetVersion.create({ data: { datasetId: dataset.id, version: 1 } });
  const run = await db.run.create({ data: { title: 'made by a test', kind: 'EVALUATION', config: {} } });
  await db.evaluation.create({
    data: {
      checkpointId,
      datasetVersionId: version.id,
      protocol: 'LINEAR_PROBE',
      runId: run.id,
      seed: 1,
      options: {},
      split: {},
      baselines: [],
      metrics: { create: { position: 0, name: 'macroF1', value: 0.5 } },
    },
  });
  const answer = await server.ask(
    'query($id: ID!) { leaderboard(datasetVersionId: $id, protocol: LINEAR_PROBE) { rank overlapsPretraining checkpoint { id } } }',
    { id: version.id },
  );
  assert.deepEqual(
    at(answer, 'data.leaderboard'),
    [{ rank: 1, overlapsPretraining: null, checkpoint: { id: checkpointId } }],
    JSON.stringify(answer),
  );
});

describe('importCheckpoint refuses', () => {
  const files: Readonly<Record<string, () => Uint8Array>> = {
    'no-weights.bin': () => Buffer.from('not a file of weights at all'),
    'empty.bin': () => Buffer.alloc(0),
    'torn.safetensors': () => writeSafetensors(weights.slice(0, 3)).subarray(0, 1000),
    'torn.ckpt': () => lightningFile(weights.slice(0, 3), '').subarray(0, 5000),
    'foreign.safetensors': () =>
      writeSafetensors([{ name: 'transformer.weight', shape: [1], dtype: 'F32', data: new Float32Array(1) }]),
    'odd-prefix.safetensors': () => writeSafetensors(renamed(weights, 'pupil.')),
    'gaps.safetensors': () =>
      writeSafetensors([...weights.slice(1), { name: 'extra', shape: [1], dtype: 'F32', data: new Float32Array(1) }]),
    'narrow.safetensors': () =>
      writeSafetensors(
        weights.map((each) =>
          each.name === 'bn1.bias' ? { name: each.name, shape: [2], dtype: 'F32', data: new Float32Array(2) } : each,
        ),
      ),
    'diverged.safetensors': () =>
      writeSafetensors(
        weights.map((each) =>
          each.name === 'bn1.bias'
            ? { name: each.name, shape: [64], dtype: 'F32', data: new Float32Array(64).fill(NaN) }
            : each,
        ),
      ),
    'whole.safetensors': () => writeSafetensors(weights),
  };
  before(async () => {
    for (const [name, bytes] of Object.entries(files)) await put(name, bytes());
  });

  const inFile =
    (name: string, more: object = {}) =>
    () => ({ path: path.join(server.folder, name), ...more });
  const wrong: readonly (readonly [string, () => object, string, string, RegExp?])[] = [
    ['text', inFile('no-weights.bin'), 'FORMAT_INVALID', 'input.path'],
    ['nothing', inFile('empty.bin'), 'FORMAT_INVALID', 'input.path'],
    ['a cut safetensors file', inFile('torn.safetensors'), 'FORMAT_INVALID', 'input.path'],
    ['a cut PyTorch file', inFile('torn.ckpt'), 'FORMAT_INVALID', 'input.path'],
    ['another network', inFile('foreign.safetensors'), 'CHECKPOINT_KEYS_MISMATCH', 'input.path', /transformer\.weight/],
    [
      'an unusual prefix that was not stated',
      inFile('odd-prefix.safetensors'),
      'CHECKPOINT_KEYS_MISMATCH',
      'input.path',
      /"pupil\."/,
    ],
    [
      'a stated prefix that is not there',
      inFile('whole.safetensors', { keyPrefix: 'model.' }),
      'CHECKPOINT_KEYS_MISMATCH',
      'input.path',
      /missing \(model\.conv1\.weight/,
    ],
    [
      'missing and unexpected keys, each by name',
      inFile('gaps.safetensors'),
      'CHECKPOINT_KEYS_MISMATCH',
      'input.path',
      /1 missing \(conv1\.weight\), 1 unexpected \(extra\)/,
    ],
    [
      'a key of another shape',
      inFile('narrow.safetensors'),
      'CHECKPOINT_KEYS_MISMATCH',
      'input.path',
      /1 mismatched \(bn1\.bias: expected floating point \[64\], got F32 \[2\]\)/,
    ],
    ['numbers that are not finite', inFile('diverged.safetensors'), 'FORMAT_INVALID', 'input.path', /bn1\.bias/],
    [
      'another encoder than stated',
      inFile('whole.safetensors', { encoder: 'RESNET50' }),
      'CHECKPOINT_INCOMPATIBLE',
      'input.encoder',
      /RESNET18/,
    ],
    [
      'another file than expected',
      inFile('whole.safetensors', { sha256: '0'.repeat(64) }),
      'DIGEST_MISMATCH',
      'input.path',
    ],
    ['an invalid sha256', inFile('whole.safetensors', { sha256: 'abc' }), 'BAD_INPUT', 'input.sha256'],
    ['no contract', inFile('whole.safetensors', { inputContract: null }), 'BAD_INPUT', 'input.inputContract'],
    [
      'a standard deviation of 0',
      inFile('whole.safetensors', { inputContract: { ...CONTRACT, channelStd: [0, 1, 1] } }),
      'BAD_INPUT',
      'input.inputContract.channelStd.0',
    ],
    [
      'a mean of 0..255 under a value range of 0..1',
      inFile('whole.safetensors', { inputContract: { ...CONTRACT, channelMean: [123.7, 116.3, 103.5] } }),
      'BAD_INPUT',
      'input.inputContract.channelMean',
      /123\.7.*outside the value range 0\.\.1/,
    ],
    [
      'a mean below the value range',
      inFile('whole.safetensors', { inputContract: { ...CONTRACT, channelMean: [0.5, -0.2, 0.5] } }),
      'BAD_INPUT',
      'input.inputContract.channelMean',
    ],
    [
      'a standard deviation of 0..255',
      inFile('whole.safetensors', { inputContract: { ...CONTRACT, channelStd: [58.4, 57.1, 57.4] } }),
      'BAD_INPUT',
      'input.inputContract.channelStd',
    ],
    [
      'a standard deviation near 0',
      inFile('whole.safetensors', { inputContract: { ...CONTRACT, channelStd: [0.2, 0.000_1, 0.2] } }),
      'BAD_INPUT',
      'input.inputContract.channelStd',
      /too close to 0/,
    ],
    [
      'two channels',
      inFile('whole.safetensors', { inputContract: { ...CONTRACT, channelMean: [0, 1] } }),
      'BAD_INPUT',
      'input.inputContract.channelMean',
    ],
    [
      'a value range that the engine does not keep',
      inFile('whole.safetensors', { inputContract: { ...CONTRACT, valueRange: [0, 255] } }),
      'CHECKPOINT_INCOMPATIBLE',
      'input.inputContract.valueRange',
    ],
    [
      'a channel order that the engine does not keep',
      inFile('whole.safetensors', { inputContract: { ...CONTRACT, channelOrder: 'BGR' } }),
      'CHECKPOINT_INCOMPATIBLE',
      'input.inputContract.channelOrder',
    ],
    [
      'a resize rule that the engine does not keep',
      inFile('whole.safetensors', { inputContract: { ...CONTRACT, resizeRule: 'STRETCH' } }),
      'CHECKPOINT_INCOMPATIBLE',
      'input.inputContract.resizeRule',
    ],
    [
      'a layer that is not an embedding here',
      inFile('whole.safetensors', { inputContract: { ...CONTRACT, embeddingLayer: 'layer3' } }),
      'CHECKPOINT_INCOMPATIBLE',
      'input.inputContract.embeddingLayer',
    ],
    ['a path and a url', inFile('whole.safetensors', { url: 'https://example.org/w' }), 'BAD_INPUT', 'input.url'],
    ['neither path nor url', () => ({}), 'BAD_INPUT', 'input.path'],
    ['no model', inFile('whole.safetensors', { modelSlug: null }), 'BAD_INPUT', 'input.modelSlug'],
    ['a slug in capitals', inFile('whole.safetensors', { modelSlug: 'Mine' }), 'BAD_INPUT', 'input.modelSlug'],
    ['a prefix without its dot', inFile('whole.safetensors', { keyPrefix: 'model' }), 'BAD_INPUT', 'input.keyPrefix'],
    ['a path outside of the roots', () => ({ path: '/etc/passwd' }), 'IMPORT_PATH_NOT_ALLOWED', 'input.path'],
    ['a file that is not there', inFile('gone.safetensors'), 'IMPORT_PATH_NOT_FOUND', 'input.path'],
    [
      'an unknown published checkpoint',
      () => ({ modelSlug: null, inputContract: null, publishedCheckpoint: 'no-such' }),
      'CHECKPOINT_NOT_FOUND',
      'input.publishedCheckpoint',
    ],
  ];
  for (const [what, input, code, field, message = /./] of wrong) {
    test(what, async () => {
      const artifactsBefore = await database.db.artifact.count();
      const fault = await faultOf({ modelSlug: 'refused', ...input() });
      assert.deepEqual([fault.code, fault.field], [code, field], fault.message);
      assert.match(fault.message, message);
      assert.equal(await database.db.model.count({ where: { slug: 'refused' } }), 0, 'nothing is left half-written');
      assert.equal(await database.db.artifact.count(), artifactsBefore);
    });
  }

  test('the same during validation only, which imports nothing if nothing is wrong', async () => {
    const validate = (input: object): Promise<unknown> =>
      importFile({ modelSlug: 'not-yet', validateOnly: true, ...input });
    assert.deepEqual(await validate({}), { checkpoint: null, userErrors: [] });
    const refused = await validate({ inputContract: { ...CONTRACT, channelMean: [123.7, 116.3, 103.5] } });
    assert.equal(at(refused, 'userErrors.0.field'), 'input.inputContract.channelMean');
    assert.match(String(at(refused, 'userErrors.0.hint')), /0\.485, 0\.456, 0\.406/, 'says what may have been meant');
    assert.equal(await database.db.model.count({ where: { slug: 'not-yet' } }), 0);
  });

  test('a file of two networks, until the caller says which one; the other is listed as left out', async () => {
    const other = someEncoder('RESNET18', 2);
    const file = await put(
      'momentum.safetensors',
      writeSafetensors([...renamed(weights, 'backbone.'), ...renamed(other, 'momentum_backbone.')]),
    );
    const fault = await faultOf({ path: file, modelSlug: 'refused' });
    assert.match(fault.message, /more than one network.*backbone\..*momentum_backbone\./);
    for (const [keyPrefix, numbers, ignored] of [
      ['backbone.', weights, 'momentum_backbone: 120 tensors'],
      ['momentum_backbone.', other, 'backbone: 120 tensors'],
    ] as const) {
      const checkpoint = await imported({ path: file, modelSlug: 'momentum', keyPrefix });
      assert.deepEqual(at(checkpoint, 'importedFrom.contents.ignoredParts'), [ignored]);
      assert.deepEqual(digests(readSafetensors(await download(checkpoint)).tensors), digests(numbers));
    }
  });

  test('a batch count that is not a whole number; one that is passes in any type', async () => {
    const counted = (count: number): SafetensorsTensor[] =>
      weights.map((each) =>
        each.name === 'bn1.num_batches_tracked'
          ? { name: each.name, shape: [1], dtype: 'F32', data: Float32Array.of(count) }
          : each,
      );
    const half = await put('half-a-batch.safetensors', writeSafetensors(counted(7.5)));
    const fault = await faultOf({ path: half, modelSlug: 'refused' });
    assert.deepEqual(
      [fault.code, fault.message],
      ['FORMAT_INVALID', 'bn1.num_batches_tracked is 7.5, which is not a whole number.'],
    );
    const whole = await put('seven-batches.safetensors', writeSafetensors(counted(7)));
    const checkpoint = await imported({ path: whole, modelSlug: 'counted' });
    assert.deepEqual(digests(readSafetensors(await download(checkpoint)).tensors), digests(weights));
  });

  for (const [name, content, message] of [
    ['shards.json', '{"metadata": {}, "weight_map": {"conv1.weight": "a"}}', /index of a checkpoint/],
    [
      'odd.safetensors.index.json',
      '{"weight_map": {"conv1.weight": "../a.safetensors"}}',
      /not a safetensors file beside it/,
    ],
    ['no.safetensors.index.json', '{"weights": {}}', /has no "weight_map"/],
    ['model.h5', '\x89HDF\r\n\x1a\n', /HDF5/],
    ['pointer.pt', 'version https://git-lfs.github.com/spec/v1\n', /Git LFS pointer/],
  ] as const) {
    test(`${name} by what it really is`, async () => {
      const fault = await faultOf({ path: await put(name, Buffer.from(content, 'latin1')), modelSlug: 'refused' });
      assert.equal(fault.code, 'FORMAT_INVALID');
      assert.match(fault.message, message);
    });
  }

  test('a shard of several by its name', async () => {
    const name = 'model-00001-of-00002.safetensors';
    const fault = await faultOf({
      path: await put(name, writeSafetensors(weights.slice(0, 60))),
      modelSlug: 'refused',
    });
    assert.match(fault.message, /shard 1 of 2/);
  });

  test('an unusual prefix, unless it is stated', async () => {
    const checkpoint = await imported({
      path: path.join(server.folder, 'odd-prefix.safetensors'),
      modelSlug: 'pupil',
      keyPrefix: 'pupil.',
    });
    assert.equal(at(checkpoint, 'importedFrom.contents.keyPrefix'), 'pupil.');
  });

  test('every sender that is not an OPERATOR', async () => {
    await assert.rejects(
      server.services.checkpointImports.importCheckpoint(CONTRIBUTOR, {
        modelSlug: 'refused',
        inputContract: CONTRACT,
        ...inFile('whole.safetensors')(),
      }),
      /needs the role OPERATOR/,
    );
  });

  test('and leaves no file behind', async () => {
    assert.deepEqual(
      (await server.stored.names()).filter((name) => name.startsWith('tmp/')),
      [],
    );
  });
});
