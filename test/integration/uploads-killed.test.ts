/**
 * The server dies in the middle of an upload, as in a power cut; the next server continues the upload, and only the
 * complete file becomes a checkpoint.
 */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdtemp, readdir, readFile, rm, stat } from 'node:fs/promises';
import { request as httpRequest } from 'node:http';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { at } from '../support/catalogue.ts';
import { openTestDatabase, type TestDatabase } from '../support/database.ts';
import { lightningFile, someEncoder } from '../support/encoder-files.ts';
import { eventually } from '../support/eventually.ts';
import { startServerProcess, type ServerProcess } from '../support/server-process.ts';

const FILE = Buffer.from(lightningFile(someEncoder('RESNET18'), 'model.resnet.'));
/** The rest of another file of the same length, with which a client wrongly resumes the upload. */
const OTHER_FILE = Buffer.from(FILE).fill(7, FILE.length - 1000, FILE.length - 500);
const SHA256 = createHash('sha256').update(FILE).digest('hex');
const HALF_BYTES = FILE.length >> 1;

let database: TestDatabase;
let dataDir = '';
let server: ServerProcess;
let key = '';

before(async () => {
  database = await openTestDatabase();
  dataDir = await mkdtemp(path.join(tmpdir(), 'paraffin-killed-'));
  server = await startServer();
  key = (await readFile(path.join(dataDir, 'admin-key'), 'utf8')).trim();
});
after(async () => {
  server.child.kill('SIGTERM');
  await server.gone;
  await database.close();
  await rm(dataDir, { recursive: true, force: true });
});

const startServer = (): Promise<ServerProcess> =>
  startServerProcess({
    dataDir,
    databaseUrl: database.url,
    env: { PARAFFIN_WORKER: 'false', PARAFFIN_LOG_LEVEL: 'warn' },
  });

/**
 * Uses a new connection for each request: on a busy machine a kept one might be reused just when it is closed because
 * it is idle.
 */
function headersOf(more: Readonly<Record<string, string>>): Record<string, string> {
  return { connection: 'close', authorization: `Bearer ${key}`, ...more };
}

const tusHeaders = (more: Readonly<Record<string, string>>): Record<string, string> =>
  headersOf({ 'tus-resumable': '1.0.0', ...more });

async function begin(): Promise<string> {
  const metadata = `filename ${Buffer.from('weights.ckpt').toString('base64')},sha256 ${Buffer.from(SHA256).toString('base64')}`;
  const response = await fetch(`${server.url}/uploads`, {
    method: 'POST',
    headers: tusHeaders({ 'upload-length': String(FILE.length), 'upload-metadata': metadata }),
  });
  assert.equal(response.status, 201);
  return response.headers.get('location') ?? '';
}

const pathOf = (address: string): string => path.join(dataDir, 'uploads', path.basename(address));

/** Sends half of the file and keeps the request open; resolves when some of it is on the disk. */
async function sendHalf(address: string): Promise<void> {
  const request = httpRequest(`${server.url}${address}`, {
    method: 'PATCH',
    headers: tusHeaders({
      'upload-offset': '0',
      'content-type': 'application/offset+octet-stream',
      'content-length': String(FILE.length),
    }),
  });
  // The server dies during the request.
  request.on('error', () => undefined);
  request.write(FILE.subarray(0, HALF_BYTES));
  await eventually(
    'bytes on the disk',
    async () => ((await stat(pathOf(address))).size > 1_000_000 ? true : undefined),
    30_000,
  );
}

/** Continues as a client does after an interruption: requests the offset and sends the remaining bytes. */
async function resumeUpload(address: string, file: Buffer<ArrayBuffer>): Promise<number> {
  const head = await fetch(`${server.url}${address}`, { method: 'HEAD', headers: tusHeaders({}) });
  const offset = Number(head.headers.get('upload-offset'));
  const response = await fetch(`${server.url}${address}`, {
    method: 'PATCH',
    headers: tusHeaders({ 'upload-offset': String(offset), 'content-type': 'application/offset+octet-stream' }),
    body: file.subarray(offset),
  });
  assert.deepEqual(
    [head.status, response.status, response.headers.get('upload-offset')],
    [200, 204, String(file.length)],
  );
  return offset;
}

async function importUpload(address: string): Promise<unknown> {
  const query =
    'mutation ($input: ImportCheckpointInput!) { importCheckpoint(input: $input) { checkpoint { encoder importedFrom { fileName byteSize sha256 } } userErrors { code } } }';
  const input = {
    uploadId: path.basename(address),
    modelSlug: 'survived',
    inputContract: { imageSizePx: 64, channelMean: [0.5, 0.5, 0.5], channelStd: [0.5, 0.5, 0.5] },
  };
  const response = await fetch(`${server.url}/graphql`, {
    method: 'POST',
    headers: headersOf({ 'content-type': 'application/json' }),
    body: JSON.stringify({ query, variables: { input } }),
  });
  return at(await response.json(), 'data.importCheckpoint');
}

test('a killed server finds its uploads again: they continue from the bytes on disk, and are verified by sha256', async () => {
  const [address, confused] = [await begin(), await begin()];
  await Promise.all([sendHalf(address), sendHalf(confused)]);
  assert.ok(!server.log().includes('was killed'), 'no server was killed before');
  server.child.kill('SIGKILL');
  await server.gone;
  server = await startServer();
  await eventually('the report of what the kill cost', () => (server.log().includes('was killed') ? true : undefined));
  assert.match(
    server.log(),
    /The server that started at \d{4}-\S+Z was killed: 0 runs were running .*\(0 training steps .*0 downloads and 0 imports/,
  );

  const onDisk = await readFile(pathOf(address));
  assert.ok(onDisk.equals(FILE.subarray(0, onDisk.length)), 'the received bytes are the beginning of the file');
  assert.deepEqual(await importUpload(address), { checkpoint: null, userErrors: [{ code: 'UPLOAD_INCOMPLETE' }] });
  const offset = await resumeUpload(address, FILE);
  assert.ok(offset === onDisk.length && offset > 0 && offset <= HALF_BYTES, `continued from ${offset}`);
  assert.deepEqual(await importUpload(address), {
    checkpoint: {
      encoder: 'RESNET18',
      importedFrom: { fileName: 'weights.ckpt', byteSize: FILE.length, sha256: SHA256 },
    },
    userErrors: [],
  });

  await resumeUpload(confused, OTHER_FILE);
  assert.deepEqual(await importUpload(confused), { checkpoint: null, userErrors: [{ code: 'DIGEST_MISMATCH' }] });
  assert.deepEqual(await readdir(path.join(dataDir, 'uploads')), ['consumed'], 'neither upload remains');
  assert.equal(await database.db.checkpoint.count({ where: { model: { slug: 'survived' } } }), 1);
});
