/** What is proven of a checkpoint's weights, by a real worker with the real engine. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { writeSafetensors } from '../../src/formats/safetensors.ts';
import { embedPixels } from '../../workers/engine/embed.ts';
import { goldenPixels } from '../../workers/engine/golden-image.ts';
import { maxRelativeDifference } from '../../workers/exports/difference.ts';
import { encoderFromWeights } from '../../workers/engine/models/resnet.ts';
import { at, listAt } from '../support/catalogue.ts';
import { openTestDatabase, type TestDatabase } from '../support/database.ts';
import { someEncoder } from '../support/encoder-files.ts';
import { eventually } from '../support/eventually.ts';
import { startTestWorker, type TestWorker } from '../support/processes.ts';
import { startTestServer, type TestServer } from '../support/server.ts';

/** Mean and deviation differ by channel: a preparation that mixes them up is seen. */
const CONTRACT = { imageSizePx: 32, channelMean: [0.7, 0.5, 0.65], channelStd: [0.2, 0.25, 0.15] };
/** Two busy cores, and TensorFlow to load. */
const RUN_DEADLINE_MS = 180_000;
const IMPORT = 'mutation ($input: ImportCheckpointInput!) { importCheckpoint(input: $input) { checkpoint { id golden } userErrors { code message } } }';

let database: TestDatabase;
let server: TestServer;
let worker: TestWorker | undefined;
const weights = someEncoder('RESNET18');

before(async () => {
  database = await openTestDatabase();
  server = await startTestServer(database);
});
after(async () => {
  worker?.signal('SIGTERM');
  await worker?.gone;
  await server.close();
  await database.close();
});

async function importWeights(tensors = weights): Promise<string> {
  const file = path.join(server.folder, 'weights.safetensors');
  await writeFile(file, writeSafetensors(tensors));
  const answer = await server.ask(IMPORT, { input: { modelSlug: 'exported', path: file, inputContract: CONTRACT } });
  assert.deepEqual(at(answer, 'data.importCheckpoint.userErrors'), [], JSON.stringify(answer));
  return String(at(answer, 'data.importCheckpoint.checkpoint.id'));
}

async function exportRuns(): Promise<unknown[]> {
  return listAt(await server.ask('{ runs(filter: { kinds: [EXPORT] }) { nodes { id status queuePosition config failure { code message } } } }'), 'data.runs.nodes');
}

async function ended(runId: unknown): Promise<unknown> {
  return eventually(
    'the export to end',
    async () => {
      const run = at(await server.ask('query ($id: ID!) { run(id: $id) { status environment failure { class code message } } }', { id: runId }), 'data.run');
      return ['SUCCEEDED', 'FAILED', 'CANCELED'].includes(String(at(run, 'status'))) ? run : undefined;
    },
    RUN_DEADLINE_MS,
  );
}

describe('the golden embedding of an imported checkpoint', () => {
  let checkpointId = '';

  test('is asked for in the transaction of the import, once', async () => {
    checkpointId = await importWeights();
    assert.equal(await importWeights(), checkpointId);
    const runs = await exportRuns();
    assert.deepEqual(runs.map((run) => [at(run, 'status'), at(run, 'queuePosition'), at(run, 'config.checkpointId')]), [['QUEUED', 1, checkpointId]]);
  });

  test('is measured by a worker under the own contract of the checkpoint', async () => {
    worker = await startTestWorker({ databaseUrl: database.url, dataDir: server.folder, name: 'export-test' });
    const [run] = await exportRuns();
    assert.equal(at(await ended(at(run, 'id')), 'status'), 'SUCCEEDED');
    const golden = at(await server.ask('query ($id: ID!) { checkpoint(id: $id) { golden } }', { id: checkpointId }), 'data.checkpoint.golden');
    const pixels = goldenPixels(CONTRACT.imageSizePx);
    assert.equal(at(golden, 'images'), Buffer.from(pixels).toString('base64'));
    const encoder = encoderFromWeights('RESNET18', weights);
    const expected = embedPixels(encoder, pixels, 1, CONTRACT.imageSizePx, { channelMean: [0.7, 0.5, 0.65], channelStd: [0.2, 0.25, 0.15] });
    encoder.dispose();
    // The worker computes without oneDNN, this process with it.
    const actual = Float32Array.from(listAt(golden, 'embeddings.0').map(Number));
    assert.equal(actual.length, 512);
    assert.ok(maxRelativeDifference(actual, expected) < 1e-5);
  });

  test('is not measured again', async () => {
    await importWeights();
    assert.equal((await exportRuns()).length, 1);
  });

  test('weights that give no numbers fail with a word, and have none', async () => {
    const poisoned = weights.map((tensor) => (tensor.name === 'bn1.weight' && tensor.dtype === 'F32' ? { ...tensor, data: tensor.data.map(() => 3e38) } : tensor));
    const id = await importWeights(poisoned);
    const [run] = await exportRuns();
    assert.equal(at(run, 'config.checkpointId'), id);
    const end = await ended(at(run, 'id'));
    assert.deepEqual([at(end, 'status'), at(end, 'failure.class'), at(end, 'failure.code')], ['FAILED', 'USER', 'CHECKPOINT_INCOMPATIBLE']);
    assert.equal(at(await server.ask('query ($id: ID!) { checkpoint(id: $id) { golden } }', { id }), 'data.checkpoint.golden'), null);
  });
});

describe('files for other frameworks', () => {
  const FILES = [['PYTORCH', 'pt', [0x50, 0x4b]], ['ONNX', 'onnx', [0x08, 0x08]], ['TFJS', 'tfjs.zip', [0x50, 0x4b]]] as const;
  const checkpointOf = async (id: string): Promise<unknown> =>
    at(await server.ask('query ($id: ID!) { checkpoint(id: $id) { formats downloadUrl(format: ONNX) exports { format status sha256 byteSize maxRelativeDifference reason run { kind } } } }', { id }), 'data.checkpoint');
  let id = '';

  test('are made when they are asked for, by one run however many ask, and served only as they were proven', async () => {
    id = await importWeights();
    for (const [format, ending, magic] of FILES) {
      const url = `${server.url}/checkpoints/${id}/download?format=${format.toLowerCase()}`;
      const [first, second, head] = await Promise.all([fetch(url), fetch(url), fetch(url, { method: 'HEAD' })]);
      assert.deepEqual([first.status, second.status, head.status], [200, 200, 200], format);
      const bytes = Buffer.from(await first.arrayBuffer());
      const sha256 = createHash('sha256').update(bytes).digest('hex');
      assert.deepEqual([...bytes.subarray(0, 2)], magic);
      assert.equal(first.headers.get('etag'), `"${sha256}"`);
      assert.equal(first.headers.get('content-disposition'), `attachment; filename="exported-v1-resnet18.${ending}"`);
      assert.equal(createHash('sha256').update(Buffer.from(await second.arrayBuffer())).digest('hex'), sha256);
      const part = await fetch(url, { headers: { range: 'bytes=10-19', 'if-range': `"${sha256}"` } });
      assert.deepEqual([part.status, Buffer.from(await part.arrayBuffer())], [206, bytes.subarray(10, 20)]);
    }
    const runs = (await exportRuns()).filter((run) => at(run, 'config.checkpointId') === id);
    assert.deepEqual(runs.map((run) => at(run, 'config.formats')), [['TFJS'], ['ONNX'], ['PYTORCH'], []]);
    const exports = listAt(await checkpointOf(id), 'exports');
    assert.deepEqual(exports.map((made) => [at(made, 'format'), at(made, 'status'), at(made, 'reason'), at(made, 'run.kind')]), FILES.map(([format]) => [format, 'AVAILABLE', null, 'EXPORT']));
    for (const made of exports) assert.ok(Number(at(made, 'maxRelativeDifference')) <= 1e-4);
  });

  test('are the same bytes when they are made again', async () => {
    const before = listAt(await checkpointOf(id), 'exports').map((made) => at(made, 'sha256'));
    const answer = await server.ask('mutation ($input: ExportCheckpointInput!) { exportCheckpoint(input: $input) { run { id kind } userErrors { code } } }', { input: { checkpointId: id } });
    assert.equal(at(await ended(at(answer, 'data.exportCheckpoint.run.id')), 'status'), 'SUCCEEDED');
    assert.deepEqual(listAt(await checkpointOf(id), 'exports').map((made) => at(made, 'sha256')), before);
  });

  test('one that failed its check is not served, and says why', async () => {
    await database.db.checkpointExport.update({ where: { checkpointId_format: { checkpointId: id, format: 'ONNX' } }, data: { status: 'REFUSED', sha256: null, byteSize: null, maxRelativeDifference: 0.02, reason: 'Too far.' } });
    const response = await fetch(`${server.url}/checkpoints/${id}/download?format=onnx`);
    assert.equal(response.status, 409);
    const body: unknown = await response.json();
    assert.equal(at(body, 'code'), 'EXPORT_CHECK_FAILED');
    assert.match(String(at(body, 'message')), /2\.0e-2.*Too far/);
    const checkpoint = await checkpointOf(id);
    assert.deepEqual([at(checkpoint, 'formats'), at(checkpoint, 'downloadUrl')], [['SAFETENSORS', 'PYTORCH', 'TFJS'], null]);
  });
});

describe('a download that can not be served yet', () => {
  for (const [what, patience, engineHint, code] of [
    ['no worker takes it', { workerMs: 0 }, null, 'WORKER_MISSING'],
    ['the engine is missing', { workerMs: 0 }, 'Run this.', 'ENGINE_MISSING'],
    ['it takes long', { fileMs: 100 }, null, 'EXPORT_PENDING'],
  ] as const) {
    test(`says that ${what}, and when to ask again`, async () => {
      const lonely = await openTestDatabase();
      const other = await startTestServer(lonely, {}, { patience, engineHint: () => engineHint });
      try {
        const file = path.join(other.folder, 'weights.safetensors');
        await writeFile(file, writeSafetensors(weights));
        const answer = await other.ask(IMPORT, { input: { modelSlug: 'exported', path: file, inputContract: CONTRACT } });
        const response = await fetch(`${other.url}/checkpoints/${String(at(answer, 'data.importCheckpoint.checkpoint.id'))}/download?format=onnx`);
        assert.deepEqual([response.status, response.headers.get('retry-after')], [503, '15']);
        const body: unknown = await response.json();
        const waiting = await lonely.db.run.findFirst({ where: { kind: 'EXPORT' }, orderBy: { id: 'desc' } });
        assert.equal(at(body, 'code'), code);
        assert.ok(String(at(body, 'message')).includes(waiting?.id ?? 'no run'), JSON.stringify(body));
      } finally {
        await other.close();
        await lonely.close();
      }
    });
  }
});
