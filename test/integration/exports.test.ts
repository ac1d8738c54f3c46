/** What is proven of a checkpoint's weights, by a real worker with the real engine. */
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { writeSafetensors } from '../../src/formats/safetensors.ts';
import { embedPixels } from '../../workers/engine/embed.ts';
import { goldenPixels } from '../../workers/engine/golden-image.ts';
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
const RUN_DEADLINE_MS = 90_000;
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
    assert.deepEqual(at(golden, 'embeddings'), [[...expected]]);
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
