/** A disk that is nearly full: no operation uses the space that is reserved for the database. */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, open, readdir, rm, stat, statfs, writeFile } from 'node:fs/promises';
import { createServer, IncomingMessage, request } from 'node:http';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { json } from 'node:stream/consumers';
import { after, before, test, type TestContext } from 'node:test';
import { openArtifactStore, verifyArtifact } from '../../src/platform/artifact-store/index.ts';
import { writeBackup } from '../../src/platform/backup.ts';
import { readEncoderFileInSandbox } from '../../src/modules/models/encoder-process.ts';
import { freeBytesOf, requireSpace } from '../../src/platform/free-space.ts';
import { fetchRemoteFile } from '../../src/platform/remote-file.ts';
import { clearUploads, openUploadStore } from '../../src/platform/upload-store.ts';
import { createHttpArtifacts } from '../../workers/registry/artifacts.ts';
import { at } from '../support/catalogue.ts';
import { claimIdleImport } from '../support/claimed-run.ts';
import { INPUT_CONTRACT } from '../support/checkpoints.ts';
import { openTestDatabase, type TestDatabase } from '../support/database.ts';
import { lightningFile, someEncoder } from '../support/encoder-files.ts';
import { temporaryFolder } from '../support/shards.ts';
import { startTestServer } from '../support/server.ts';

const DISK_BYTES = 64 * 1024 * 1024;
const FULL = { code: 'STORAGE_FULL' };

let database: TestDatabase;
before(async () => {
  database = await openTestDatabase();
});
after(async () => {
  await database.close();
});

/** Free space above the disk's reserve: less than the incoming data, and more than is written between two checks. */
const LEFT_BYTES = 10 * 1024 * 1024;
const TOO_MUCH = Buffer.alloc(16 * 1024 * 1024, 'bytes ');

/** A file system in memory that is nearly full. Only root may mount one: undefined for other users. */
async function nearlyFullDisk(context: TestContext): Promise<string | undefined> {
  const folder = await mkdtemp(path.join(tmpdir(), 'paraffin-disk-'));
  if (spawnSync('mount', ['-t', 'tmpfs', '-o', `size=${DISK_BYTES}`, 'paraffin-test', folder]).status !== 0) {
    context.diagnostic('No disk can be mounted here.');
    await rm(folder, { recursive: true });
    return undefined;
  }
  context.after(async () => {
    execFileSync('umount', ['-l', folder]);
    await rm(folder, { recursive: true });
  });
  await writeFile(path.join(folder, 'filler'), Buffer.alloc((await freeBytesOf(folder)) - LEFT_BYTES));
  return folder;
}

test('a full disk, and a request for more than any disk has', async (context) => {
  assert.equal(await freeBytesOf('/proc'), 0);
  await assert.rejects(requireSpace('/proc', 1), FULL);
  const folder = await temporaryFolder(context);
  await assert.rejects(requireSpace(path.join(folder, 'not', 'there', 'yet'), Number.MAX_SAFE_INTEGER), FULL);
  await requireSpace(folder, 0);
  const uploads = await openUploadStore({ folder, maxBytes: Number.MAX_SAFE_INTEGER });
  const begun = uploads.begin({ person: 'Ada', byteSize: Number.MAX_SAFE_INTEGER }, () => assert.fail('it began'));
  await assert.rejects(begun, FULL);
});

test('no artifact, backup or downloaded file uses the reserve, and none leaves a partial file behind', async (context) => {
  const disk = await nearlyFullDisk(context);
  if (disk === undefined) return;
  const isUntouched = async (): Promise<void> => {
    const { blocks, bavail, bsize } = await statfs(disk);
    assert.ok(bavail * bsize >= (blocks * bsize) / 20, 'the reserve is there');
  };
  const store = openArtifactStore(path.join(disk, 'artifacts'));
  const { sha256 } = await store.put(Buffer.from('a small one still finds room'));
  await verifyArtifact(store, sha256);
  await assert.rejects(store.put(chunksOf(TOO_MUCH)), FULL);
  await isUntouched();
  assert.deepEqual(await readdir(path.join(disk, 'artifacts', 'tmp')), []);

  const elsewhere = openArtifactStore(path.join(await temporaryFolder(context), 'artifacts'));
  const large = await elsewhere.put(chunksOf(TOO_MUCH));
  await database.db.artifact.create({ data: { ...large, mediaType: 'application/octet-stream' } });
  const file = path.join(disk, 'backups', 'registry.tar');
  await assert.rejects(writeBackup({ databaseUrl: database.url, store: elsewhere, file, program: '9.9.9' }), FULL);
  await isUntouched();
  assert.deepEqual(await readdir(path.dirname(file)), []);
  await database.db.artifact.deleteMany();

  const server = createServer((request, response) => {
    if (request.url === '/told') response.setHeader('content-length', TOO_MUCH.length);
    response.end(TOO_MUCH);
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  context.after(() => {
    server.closeAllConnections();
    server.close();
  });
  const address = server.address();
  assert.ok(address !== null && typeof address === 'object');
  for (const place of ['told', 'untold']) {
    const destination = path.join(disk, 'fetched');
    const url = `http://127.0.0.1:${address.port}/${place}`;
    const fetching = fetchRemoteFile({ url, destination, maxBytes: 1e9, isAllowedAddress: () => true });
    await assert.rejects(fetching, FULL, place);
    await isUntouched();
    await assert.rejects(stat(destination), { code: 'ENOENT' });
  }
});

test('the weights of an imported checkpoint do not use the reserve', async (context) => {
  const disk = await nearlyFullDisk(context);
  if (disk === undefined) return;
  const file = path.join(await temporaryFolder(context), 'weights.ckpt');
  await writeFile(file, lightningFile(someEncoder('RESNET18'), ''));
  await using handle = await open(file);
  const task = {
    fileName: null,
    expectedSha256: null,
    expectedByteSize: null,
    encoder: null,
    network: null,
    keyPrefix: null,
    specification: null,
    inputContract: INPUT_CONTRACT,
  };
  const reading = readEncoderFileInSandbox([handle], task, path.join(disk, 'downloads'), () =>
    assert.fail('it was kept'),
  );
  await assert.rejects(reading, FULL);
  const { blocks, bavail, bsize } = await statfs(disk);
  assert.ok(bavail * bsize >= (blocks * bsize) / 20, 'the reserve is there');
  assert.deepEqual(await readdir(path.join(disk, 'downloads')), []);
});

test('uploads are refused at creation, counting those that are incomplete, and in the middle', async (context) => {
  const disk = await nearlyFullDisk(context);
  if (disk === undefined) return;
  const uploads = await openUploadStore({ folder: path.join(disk, 'uploads'), maxBytes: 1e9 });
  const server = await startTestServer(database, { uploads });
  context.after(() => server.close());
  const ask = async (
    method: string,
    address: string,
    headers: Record<string, string>,
    body?: Uint8Array<ArrayBuffer>,
  ) =>
    fetch(new URL(address, server.url), {
      method,
      headers: { 'tus-resumable': '1.0.0', authorization: `Bearer ${server.adminKey}`, ...headers },
      ...(body === undefined ? {} : { body }),
    });
  const begin = async (byteSize: number): Promise<Response> =>
    ask('POST', '/uploads', { 'upload-length': String(byteSize) });

  const refused = await begin(TOO_MUCH.length);
  assert.equal(refused.status, 507);
  assert.equal(at(await refused.json(), 'code'), 'STORAGE_FULL');
  const first = await begin(9_000_000);
  assert.equal(first.status, 201);
  assert.equal((await begin(9_000_000)).status, 507, 'there is room for one of two');

  // Another program fills the disk meanwhile.
  await writeFile(path.join(disk, 'more'), Buffer.alloc((await freeBytesOf(disk)) - 1_000_000));
  const sent = await ask(
    'PATCH',
    first.headers.get('location') ?? '',
    { 'upload-offset': '0', 'content-type': 'application/offset+octet-stream' },
    new Uint8Array(9_000_000),
  );
  assert.equal(sent.status, 507);
  assert.equal(at(await sent.json(), 'code'), 'STORAGE_FULL');
  const { blocks, bavail, bsize } = await statfs(disk);
  assert.ok(bavail * bsize >= (blocks * bsize) / 20, 'the reserve is there');
  // Space is freed without the database.
  assert.equal((await clearUploads(path.join(disk, 'uploads'))).count, 1);
});

test('the upload of a worker is refused in the middle, and the worker is told why', async (context) => {
  const disk = await nearlyFullDisk(context);
  if (disk === undefined) return;
  const server = await startTestServer(database, { artifacts: openArtifactStore(path.join(disk, 'artifacts')) });
  context.after(() => server.close());
  const { run, token } = await claimIdleImport(database, server);
  let waitCount = 0;
  const artifacts = createHttpArtifacts({
    door: { url: server.url, token },
    runId: run.id,
    workDir: server.folder,
    patience: { onWait: () => (waitCount += 1) },
  });
  await assert.rejects(artifacts.put(TOO_MUCH), FULL);
  assert.equal(waitCount, 0, 'it was not taken for a broken connection');
  assert.deepEqual(await readdir(path.join(disk, 'artifacts', 'tmp')), []);

  // A client that sends everything before it reads the answer: more than the buffers of a connection hold.
  const body = Buffer.alloc(4 * TOO_MUCH.length);
  const sending = request(`${server.url}/worker/runs/${run.id}/artifacts/${'0'.repeat(64)}`, {
    method: 'PUT',
    headers: { authorization: `Bearer ${token}`, 'content-length': body.length },
  });
  const [[response]] = await Promise.all([once(sending, 'response'), once(sending.end(body), 'finish')]);
  assert.ok(response instanceof IncomingMessage);
  assert.equal(response.statusCode, 507);
  assert.equal(at(await json(response), 'code'), 'STORAGE_FULL');
});

async function* chunksOf(bytes: Buffer): AsyncGenerator<Buffer> {
  for (let start = 0; start < bytes.length; start += 256 * 1024) yield bytes.subarray(start, start + 256 * 1024);
}
