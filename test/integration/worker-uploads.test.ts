/** Large artifacts of a run: an upload goes on where it ended, belongs to one lease, and leaves nothing behind. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readdir, stat } from 'node:fs/promises';
import path from 'node:path';
import { after, before, test, type TestContext } from 'node:test';
import { removeUploadsOfLostRuns } from '../../src/modules/workers/index.ts';
import { createLedger } from '../../src/modules/runs/index.ts';
import { openUploadStore } from '../../src/platform/upload-store.ts';
import { bytesHeaders, creationHeaders } from '../../src/protocol/tus.ts';
import type { ClaimedRun } from '../../src/protocol/worker-calls.ts';
import { createHttpArtifacts } from '../../workers/registry/artifacts.ts';
import { at } from '../support/catalogue.ts';
import { claimIdleImport } from '../support/claimed-run.ts';
import { openTestDatabase, type TestDatabase } from '../support/database.ts';
import { eventually } from '../support/eventually.ts';
import { startTestServer, type TestServer } from '../support/server.ts';
import { temporaryFolder } from '../support/shards.ts';
import { startTcpProxy, type TcpProxy } from '../support/tcp-proxy.ts';

const MIB = 1024 * 1024;
const portOf = ({ url }: TestServer): Promise<number> => Promise.resolve(Number(new URL(url).port));

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

/** Bytes that no other test has stored. */
function bytesOf(byteSize: number, seed: number): Buffer {
  const block = Buffer.alloc(64 * 1024);
  for (let index = 0; index < block.length; index += 4)
    block.writeUInt32LE(Math.imul(index + seed, 2_654_435_761) >>> 0, index);
  const bytes = Buffer.alloc(byteSize);
  for (let first = 0; first < byteSize; first += block.length) {
    block.copy(bytes, first);
    bytes.writeUInt32LE(first, Math.min(first, byteSize - 4));
  }
  return bytes;
}

const sha256Of = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');

const uploadsOf = async ({ folder }: TestServer): Promise<string[]> =>
  (await readdir(path.join(folder, 'uploads'))).filter((name) => name !== 'consumed');

async function proxyTo(context: TestContext, upstreamPort: () => Promise<number>): Promise<TcpProxy> {
  const proxy = await startTcpProxy(upstreamPort);
  context.after(() => proxy.close());
  return proxy;
}

async function artifactsThrough(context: TestContext, proxy: TcpProxy, { run, token }: ClaimedRun) {
  let waitCount = 0;
  const artifacts = createHttpArtifacts({
    door: { url: `http://127.0.0.1:${proxy.port}`, token },
    runId: run.id,
    workDir: await temporaryFolder(context),
    patience: { onWait: () => (waitCount += 1) },
  });
  return { artifacts, waitCount: () => waitCount };
}

test('an upload and a download get through a network that breaks every connection after a third of the bytes', async (context) => {
  const claimed = await claimIdleImport(database, server);
  const proxy = await proxyTo(context, () => portOf(server));
  const { artifacts } = await artifactsThrough(context, proxy, claimed);
  const bytes = bytesOf(15 * MIB, 1);
  // More often in a row than a transfer that makes no progress is tried again.
  proxy.resetAfter(() => 5 * MIB);
  const stream = async function* (): AsyncGenerator<Buffer> {
    for (let first = 0; first < bytes.length; first += MIB) yield bytes.subarray(first, first + MIB);
  };
  assert.deepEqual(await artifacts.put(stream()), { sha256: sha256Of(bytes), byteSize: bytes.length });
  const resetsOfUpload = proxy.resetCount();
  assert.ok(resetsOfUpload >= 2, `${resetsOfUpload} connections broke`);
  assert.ok((await server.store.read(sha256Of(bytes))).equals(bytes));
  assert.deepEqual(await uploadsOf(server), []);
  assert.ok((await artifacts.read(sha256Of(bytes))).equals(bytes));
  assert.ok(proxy.resetCount() - resetsOfUpload >= 2, 'the download was broken as often');
});

test('an upload goes on behind what the server had when it restarted', async (context) => {
  const claimed = await claimIdleImport(database, server);
  let current = server;
  const proxy = await proxyTo(context, () => portOf(current));
  const { artifacts, waitCount } = await artifactsThrough(context, proxy, claimed);
  const bytes = bytesOf(12 * MIB, 2);
  proxy.limitRate(4 * MIB);
  const putting = artifacts.put(bytes);
  const folder = path.join(server.folder, 'uploads');
  const receivedBytes = async (): Promise<number> => {
    const sizes = (await uploadsOf(server)).map(async (name) =>
      name.endsWith('.json') ? 0 : (await stat(path.join(folder, name))).size,
    );
    return Math.max(0, ...(await Promise.all(sizes)));
  };
  await eventually('some bytes', async () => ((await receivedBytes()) > MIB ? true : undefined));
  proxy.disconnect();
  const before = await receivedBytes();
  assert.ok(before < bytes.length);
  const patched: number[] = [];
  const restarted = await startTestServer(database, {
    uploads: await openUploadStore({ folder, maxBytes: 1 }),
    artifacts: server.store,
  });
  context.after(() => restarted.close());
  restarted.http.server.prependListener('request', ({ method, headers }) => {
    if (method === 'PATCH') patched.push(Number(headers['upload-offset']));
  });
  current = restarted;
  proxy.restore();
  assert.deepEqual(await putting, { sha256: sha256Of(bytes), byteSize: bytes.length });
  assert.ok((await server.store.read(sha256Of(bytes))).equals(bytes));
  assert.ok(waitCount() > 0);
  assert.ok(patched[0] !== undefined && patched[0] > MIB, `it went on at ${patched[0]}`);
});

/** Sends the first bytes of an upload with the token of a run. @returns its path. */
async function beginUpload(token: string, bytes: Buffer, sentBytes: number): Promise<string> {
  const authorization = `Bearer ${token}`;
  const begun = await fetch(`${server.url}/uploads`, {
    method: 'POST',
    headers: { authorization, ...creationHeaders(bytes.length, {}) },
  });
  assert.equal(begun.status, 201);
  const where = begun.headers.get('location') ?? '';
  const sent = await fetch(`${server.url}${where}`, {
    method: 'PATCH',
    headers: { authorization, ...bytesHeaders(0) },
    body: new Uint8Array(bytes.subarray(0, sentBytes)),
  });
  assert.equal(sent.status, 204);
  return where;
}

async function store({ run, token }: ClaimedRun, where: string, sha256: string): Promise<unknown[]> {
  const response = await fetch(`${server.url}/worker/runs/${run.id}/artifacts/${sha256}`, {
    method: 'POST',
    headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
    body: JSON.stringify({ uploadId: path.posix.basename(where) }),
  });
  return [response.status, at(await response.json(), 'code')];
}

test('an upload with other bytes than named, or with a part of them, is not stored under that name', async () => {
  const claimed = await claimIdleImport(database, server);
  const bytes = bytesOf(MIB, 3);
  const part = await beginUpload(claimed.token, bytes, 1000);
  assert.deepEqual(await store(claimed, part, sha256Of(bytes)), [400, 'UPLOAD_INCOMPLETE']);
  const whole = await beginUpload(claimed.token, bytes, bytes.length);
  assert.deepEqual(await store(claimed, whole, 'e'.repeat(64)), [400, 'DIGEST_MISMATCH']);
  assert.equal(await server.store.stat('e'.repeat(64)), undefined);
  assert.deepEqual(await store(claimed, whole, sha256Of(bytes)), [404, 'UPLOAD_NOT_FOUND'], 'wrong bytes are deleted');
});

test('the upload of a run is nothing to the token of another run, or to a key', async () => {
  const [own, other] = [await claimIdleImport(database, server), await claimIdleImport(database, server)];
  const bytes = bytesOf(MIB, 4);
  const where = await beginUpload(own.token, bytes, bytes.length);
  for (const token of [other.token, server.adminKey]) {
    const headers = { authorization: `Bearer ${token}` };
    const answers = [
      await fetch(`${server.url}${where}`, { method: 'HEAD', headers }),
      await fetch(`${server.url}${where}`, { method: 'DELETE', headers }),
    ];
    assert.deepEqual(
      answers.map(({ status }) => status),
      [404, 404],
    );
  }
  assert.deepEqual(await store(other, where, sha256Of(bytes)), [404, 'UPLOAD_NOT_FOUND']);
  assert.deepEqual(await store(own, where, sha256Of(bytes)), [200, undefined]);
});

test('the unfinished uploads of a run that was lost are removed, and those of others stay', async () => {
  const [lost, alive] = [await claimIdleImport(database, server), await claimIdleImport(database, server)];
  const bytes = bytesOf(MIB, 5);
  const ledger = createLedger(database.db, database.transact);
  const paths = [await beginUpload(lost.token, bytes, 1000), await beginUpload(alive.token, bytes, 1000)];
  await ledger.release(lost.lease, 'Its worker stopped.');
  const headers = { authorization: `Bearer ${lost.token}` };
  assert.notEqual(
    (await fetch(`${server.url}${paths[0]}`, { method: 'HEAD', headers })).status,
    200,
    'its token is void',
  );
  await removeUploadsOfLostRuns({ uploads: server.uploads, store: server.store, ledger });
  const left = await uploadsOf(server);
  assert.deepEqual(
    paths.map((where) => left.includes(path.posix.basename(where))),
    [false, true],
  );
});
