/**
 * The verification of a checkpoint's exported weights with the real engine: exports that pass are served, others never.
 */
import '../support/without-onednn.ts';
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { DomainError } from '../../src/errors.ts';
import type { EncoderExport } from '../../src/formats/encoder-export.ts';
import { resnetArchitecture } from '../../src/formats/encoders/resnet/specification.ts';
import { writeExport } from '../../src/formats/export-formats.ts';
import { writeSafetensors, type SafetensorsTensor } from '../../src/formats/safetensors.ts';
import { embedPixels } from '../../workers/engine/embed.ts';
import { goldenPixels } from '../../workers/engine/golden-image.ts';
import { encoderFromWeights } from '../../workers/engine/encoders/resnet/network.ts';
import { checkReference, type CheckReference } from '../../workers/exports/check.ts';
import { exportTask, provenExport } from '../../workers/tasks/export.ts';
import { at, listAt } from '../support/catalogue.ts';
import { archive, op, stateDict, tensor } from '../fixtures/hostile/torch-files.ts';
import { openTestDatabase, type TestDatabase } from '../support/database.ts';
import { EXPORT_CONTRACT } from '../support/encoder-export.ts';
import { someEncoder } from '../support/encoder-files.ts';
import { startTestWorker } from '../support/processes.ts';
import { startTestServer, type TestServer } from '../support/server.ts';
import { createTaskRunner, type TaskRunner } from '../support/task-runner.ts';
import { EXPORT_FORMATS, MAX_RELATIVE_DIFFERENCE } from '../../src/protocol/export.ts';

/** Mean and deviation differ by channel, so that a preparation that confuses channels is detected. */
const CONTRACT = { imageSizePx: 32, channelMean: [0.7, 0.5, 0.65], channelStd: [0.2, 0.25, 0.15] };
const NORMALISATION = { channelMean: [0.7, 0.5, 0.65], channelStd: [0.2, 0.25, 0.15] } as const;
const IMPORT =
  'mutation ($input: ImportCheckpointInput!) { importCheckpoint(input: $input) { checkpoint { id golden } userErrors { code message } } }';

let database: TestDatabase;
let server: TestServer;
/** Executes the runs that the server launches. */
let runner: TaskRunner;
const weights = someEncoder('RESNET18');
/** Of `weights` under CONTRACT. */
let checkpointId = '';

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

async function importWeights(tensors = weights): Promise<string> {
  const file = path.join(server.folder, 'weights.safetensors');
  await writeFile(file, writeSafetensors(tensors));
  const answer = await server.ask(IMPORT, { input: { modelSlug: 'exported', path: file, inputContract: CONTRACT } });
  assert.deepEqual(at(answer, 'data.importCheckpoint.userErrors'), [], JSON.stringify(answer));
  return String(at(answer, 'data.importCheckpoint.checkpoint.id'));
}

/** Newest first. */
async function exportRuns(): Promise<unknown[]> {
  return listAt(
    await server.ask('{ runs(filter: { kinds: [EXPORT] }) { nodes { id status queuePosition config } } }'),
    'data.runs.nodes',
  );
}

/** Does what a worker would do with the waiting run. */
async function executeNewest(): Promise<void> {
  const [run] = await exportRuns();
  await (await runner.claim(exportTask, String(at(run, 'id')))).execute();
}

async function goldenOf(id: string): Promise<unknown> {
  return at(await server.ask('query ($id: ID!) { checkpoint(id: $id) { golden } }', { id }), 'data.checkpoint.golden');
}

async function checkpointOf(id: string): Promise<unknown> {
  return at(
    await server.ask(
      'query ($id: ID!) { checkpoint(id: $id) { formats downloadUrl(format: ONNX) exports { format status sha256 byteSize maxRelativeDifference reason run { kind } } } }',
      { id },
    ),
    'data.checkpoint',
  );
}

const urlOf = (format: string, base = server.url): string =>
  `${base}/checkpoints/${checkpointId}/download?format=${format.toLowerCase()}`;
const sha256Of = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

describe('the golden embedding of an imported checkpoint', () => {
  test('is requested once, in the transaction of the import', async () => {
    checkpointId = await importWeights();
    assert.equal(await importWeights(), checkpointId);
    assert.deepEqual(
      (await exportRuns()).map((run) => [at(run, 'status'), at(run, 'queuePosition'), at(run, 'config.checkpointId')]),
      [['QUEUED', 1, checkpointId]],
    );
  });

  test("is measured under the checkpoint's own contract", async () => {
    await executeNewest();
    const golden = await goldenOf(checkpointId);
    const pixels = goldenPixels(CONTRACT.imageSizePx);
    assert.equal(at(golden, 'images'), Buffer.from(pixels).toString('base64'));
    const encoder = encoderFromWeights('RESNET18', weights);
    const expected = embedPixels(encoder, pixels, 1, CONTRACT.imageSizePx, NORMALISATION);
    encoder.dispose();
    assert.deepEqual(Float32Array.from(listAt(golden, 'embeddings.0').map(Number)), expected);
  });

  test('is not measured again', async () => {
    await importWeights();
    assert.equal((await exportRuns()).length, 1);
  });
});

describe('a download that cannot be served yet', () => {
  for (const [what, patience, engineHint, code] of [
    ['no worker takes it', { workerMs: 0 }, null, 'WORKER_MISSING'],
    ['the engine is missing', { workerMs: 0 }, 'Run this.', 'ENGINE_MISSING'],
    ['it takes long', { fileMs: 100 }, null, 'EXPORT_PENDING'],
  ] as const) {
    test(`is answered with 503, Retry-After and the reason: ${what}`, async () => {
      const other = await startTestServer(database, {}, { patience, engineHint: () => engineHint });
      try {
        const response = await fetch(urlOf('ONNX', other.url));
        assert.deepEqual([response.status, response.headers.get('retry-after')], [503, '15']);
        const body: unknown = await response.json();
        assert.equal(at(body, 'code'), code);
        const [waiting] = await exportRuns();
        assert.ok(String(at(body, 'message')).includes(String(at(waiting, 'id'))), JSON.stringify(body));
      } finally {
        await other.close();
      }
    });
  }

  test('is served when its run has ended: one run for any number of requests', async () => {
    const waiting = (await exportRuns()).filter((run) => at(run, 'status') === 'QUEUED');
    assert.deepEqual(
      waiting.map((run) => at(run, 'config.formats')),
      [['ONNX']],
    );
    await executeNewest();
    assert.equal((await fetch(urlOf('ONNX'), { method: 'HEAD' })).status, 200);
  });
});

describe('files for other frameworks', () => {
  const FILES = [
    ['PYTORCH', 'pt', [0x50, 0x4b]],
    ['ONNX', 'onnx', [0x08, 0x08]],
    ['TFJS', 'tfjs.zip', [0x50, 0x4b]],
  ] as const;

  test('are all made by one request for all formats, and have the same bytes if they are made again', async () => {
    const before = at(await checkpointOf(checkpointId), 'exports.0.sha256');
    const answer = await server.ask(
      'mutation ($input: ExportCheckpointInput!) { exportCheckpoint(input: $input) { run { id kind title } userErrors { code } } }',
      { input: { checkpointId } },
    );
    assert.deepEqual(
      [at(answer, 'data.exportCheckpoint.run.kind'), at(answer, 'data.exportCheckpoint.userErrors')],
      ['EXPORT', []],
    );
    assert.match(String(at(answer, 'data.exportCheckpoint.run.title')), /^[a-z0-9-]+@1 as PyTorch, ONNX, TF\.js$/);
    await executeNewest();
    const exports = listAt(await checkpointOf(checkpointId), 'exports');
    assert.deepEqual(
      exports.map((made) => [at(made, 'format'), at(made, 'status'), at(made, 'reason'), at(made, 'run.kind')]),
      FILES.map(([format]) => [format, 'AVAILABLE', null, 'EXPORT']),
    );
    for (const made of exports) assert.ok(Number(at(made, 'maxRelativeDifference')) <= MAX_RELATIVE_DIFFERENCE);
    assert.equal(at(exports[1], 'sha256'), before);
  });

  for (const [format, ending, magic] of FILES) {
    test(`${format} is served as it was proven, in parts, too`, async () => {
      const response = await fetch(urlOf(format));
      const bytes = Buffer.from(await response.arrayBuffer());
      const sha256 = sha256Of(bytes);
      assert.deepEqual([...bytes.subarray(0, 2)], magic);
      assert.equal(response.headers.get('etag'), `"${sha256}"`);
      assert.equal(
        response.headers.get('content-disposition'),
        `attachment; filename="exported-v1-resnet18.${ending}"`,
      );
      assert.equal(
        (
          await database.db.checkpointExport.findUniqueOrThrow({
            where: { checkpointId_format: { checkpointId, format } },
          })
        ).sha256,
        sha256,
      );
      const part = await fetch(urlOf(format), { headers: { range: 'bytes=10-19', 'if-range': `"${sha256}"` } });
      assert.deepEqual([part.status, Buffer.from(await part.arrayBuffer())], [206, bytes.subarray(10, 20)]);
    });
  }

  test('are made by a worker for waiting downloads, by one run for all of them', async () => {
    const key = { checkpointId_format: { checkpointId, format: 'TFJS' } } as const;
    const { sha256 } = await database.db.checkpointExport.delete({ where: key });
    const runsBefore = (await exportRuns()).length;
    const worker = await startTestWorker({ databaseUrl: database.url, dataDir: server.folder, name: 'export-test' });
    try {
      const answers = await Promise.all([
        fetch(urlOf('TFJS')),
        fetch(urlOf('TFJS')),
        fetch(urlOf('TFJS'), { method: 'HEAD' }),
      ]);
      assert.deepEqual(
        answers.map(({ status, headers }) => [status, headers.get('etag')]),
        answers.map(() => [200, `"${sha256}"`]),
      );
      for (const answer of answers) await answer.body?.cancel();
      assert.equal((await exportRuns()).length, runsBefore + 1);
    } finally {
      worker.signal('SIGTERM');
      await worker.gone;
    }
  });
});

describe('a file that fails its check', () => {
  let reference: CheckReference;
  const source: EncoderExport = {
    architecture: resnetArchitecture('RESNET18'),
    tensors: weights,
    inputContract: { ...EXPORT_CONTRACT, ...NORMALISATION, imageSizePx: CONTRACT.imageSizePx },
    metadata: {},
  };
  /** Negates one filter of the last block, the smallest change that could matter. */
  const turned = weights.map((each): SafetensorsTensor =>
    each.name === 'layer4.1.conv2.weight' && each.dtype === 'F32'
      ? { ...each, data: each.data.map((value, index) => (index < 512 * 9 ? -value : value)) }
      : each,
  );
  const truncated = (bytes: Uint8Array): Uint8Array => bytes.subarray(0, bytes.length - 100);
  const overwritten = (bytes: Uint8Array): Uint8Array =>
    new Uint8Array(bytes).fill(0x3f, bytes.length >> 1, (bytes.length >> 1) + 4096);
  const TAMPERINGS: readonly (readonly [string, (format: (typeof EXPORT_FORMATS)[number]) => Uint8Array])[] = [
    ['with one filter changed', (format) => writeExport(format, { ...source, tensors: turned })],
    ['cut off', (format) => truncated(writeExport(format, source))],
    ['with a page overwritten', (format) => overwritten(writeExport(format, source))],
    ['that is empty', () => new Uint8Array()],
  ];

  before(() => {
    const encoder = encoderFromWeights('RESNET18', weights);
    reference = checkReference(encoder, source.architecture, {
      ...NORMALISATION,
      imageSizePx: CONTRACT.imageSizePx,
      pooling: 'AVGPOOL',
    });
    encoder.dispose();
  });

  async function refusal(format: (typeof EXPORT_FORMATS)[number], bytes: Uint8Array): Promise<string> {
    const file = path.join(server.folder, 'tampered');
    await writeFile(file, bytes);
    const made = await provenExport(format, file, reference, server.store);
    assert.ok(made.status === 'REFUSED', `${format} passed with ${String(made.maxRelativeDifference)}`);
    assert.equal(await server.store.stat(sha256Of(bytes)), undefined, 'it is kept nowhere');
    const run = await database.db.run.findFirstOrThrow({ where: { kind: 'EXPORT' } });
    await database.transact((tx) =>
      runner.services.exports.register(tx, { checkpointId, runId: run.id, exports: [made] }),
    );
    return made.reason;
  }

  for (const format of EXPORT_FORMATS) {
    for (const [what, tampered] of TAMPERINGS) {
      test(`${format} ${what} is refused, and not served`, async () => {
        const reason = await refusal(format, tampered(format));
        assert.match(
          reason,
          what === 'with one filter changed'
            ? /^The file's embeddings differ from the engine's by /
            : /^The file does not load: |differ|no finite numbers/,
        );
        const response = await fetch(urlOf(format));
        const body: unknown = await response.json();
        assert.deepEqual([response.status, at(body, 'code')], [409, 'EXPORT_CHECK_FAILED']);
        assert.ok(String(at(body, 'message')).includes(reason), JSON.stringify(body));
        const checkpoint = await checkpointOf(checkpointId);
        assert.ok(!listAt(checkpoint, 'formats').includes(format));
        assert.equal(at(checkpoint, 'downloadUrl') === null, !listAt(checkpoint, 'formats').includes('ONNX'));
      });
    }
  }

  test('PYTORCH that would run code is refused with the name of the global', async () => {
    const command = op.reduce(op.global('os', 'system'), op.text('echo this must never be printed'));
    assert.match(
      await refusal('PYTORCH', archive(stateDict(tensor(), op.text('hook'), command))),
      /weights_only=True\) would refuse the global os\.system/,
    );
  });

  test("PYTORCH with other keys than torchvision's is refused with those keys", async () => {
    assert.match(await refusal('PYTORCH', archive(stateDict())), /strict=True\) would refuse the keys: weight/);
  });
});

test('weights that yield NaN have no golden embedding, and the run says why', async () => {
  const poisoned = weights.map((each) =>
    each.name === 'bn1.weight' && each.dtype === 'F32' ? { ...each, data: each.data.map(() => 3e38) } : each,
  );
  const id = await importWeights(poisoned);
  const [run] = await exportRuns();
  assert.equal(at(run, 'config.checkpointId'), id);
  await assert.rejects(
    executeNewest(),
    (error) => error instanceof DomainError && error.code === 'CHECKPOINT_INCOMPATIBLE',
  );
  assert.equal(await goldenOf(id), null);
});
