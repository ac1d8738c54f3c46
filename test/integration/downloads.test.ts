/** Downloads by real HTTP, with fetch, raw sockets and curl. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, readFile, readdir, readlink, rm, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { createEmbeddingCache } from '../../src/modules/embeddings/index.ts';
import { promisify } from 'node:util';
import { nameOf } from '../support/artifact-stage.ts';
import { openArtifactStore, type LocalArtifactStore } from '../../src/platform/artifact-store/index.ts';
import { at } from '../support/catalogue.ts';
import { makeRun, newCheckpoint } from '../support/checkpoints.ts';
import { openTestDatabase, type TestDatabase } from '../support/database.ts';
import { eventually } from '../support/eventually.ts';
import { startTestServer, type TestServer } from '../support/server.ts';

const run = promisify(execFile);
/** More than sockets and pipes can buffer, so that sending an unread response has to wait. */
const BYTES = Buffer.alloc(24_000_000, 'paraffin weights, ');
const SHA256 = createHash('sha256').update(BYTES).digest('hex');
const ETAG = `"${SHA256}"`;
const DIGEST = `sha-256=:${Buffer.from(SHA256, 'hex').toString('base64')}:`;
const STALL_TIMEOUT_MS = 2_000;

let database: TestDatabase;
let server: TestServer;
let checkpointId: string;
let address: string;

before(async () => {
  database = await openTestDatabase();
  server = await startTestServer(database, { stallTimeoutMs: STALL_TIMEOUT_MS });
  await server.store.put(BYTES);
  checkpointId = await register(SHA256, BYTES.length);
  address = `${server.url}/checkpoints/${checkpointId}/download?format=safetensors`;
});
after(async () => {
  await server.close();
  await database.close();
});

async function register(sha256: string, byteSize: number): Promise<string> {
  const sourceRunId = await makeRun(database);
  const checkpoint = await database.transact((tx) =>
    server.services.models.registerCheckpoint(
      tx,
      newCheckpoint({ modelSlug: 'tissue', sourceRunId, sha256, byteSize }),
    ),
  );
  return checkpoint.id;
}

async function get(
  headers: Readonly<Record<string, string>> = {},
  method = 'GET',
): Promise<{ status: number; headers: Headers; bytes: Buffer }> {
  const response = await fetch(address, { method, headers });
  return { status: response.status, headers: response.headers, bytes: Buffer.from(await response.arrayBuffer()) };
}

describe('a checkpoint', () => {
  test('is sent as a whole, with everything that a client needs to verify and resume it', async () => {
    const { status, headers, bytes } = await get();
    assert.equal(status, 200);
    assert.ok(bytes.equals(BYTES));
    assert.equal(headers.get('etag'), ETAG);
    assert.equal(headers.get('repr-digest'), DIGEST);
    assert.equal(headers.get('accept-ranges'), 'bytes');
    assert.equal(headers.get('content-length'), String(BYTES.length));
    assert.equal(headers.get('content-type'), 'application/octet-stream');
    assert.equal(headers.get('content-disposition'), 'attachment; filename="tissue-v1-resnet18.safetensors"');
    assert.equal(headers.get('x-content-type-options'), 'nosniff');
  });

  test('has the same headers for HEAD, and no body; a range means nothing there', async () => {
    const { status, headers, bytes } = await get({ range: 'bytes=0-1' }, 'HEAD');
    assert.deepEqual(
      [status, bytes.length, headers.get('content-length'), headers.get('etag')],
      [200, 0, String(BYTES.length), ETAG],
    );
  });

  test('is sent in parts that make up the whole', async () => {
    const half = await get({ range: `bytes=12000000-`, 'if-range': ETAG });
    assert.equal(half.status, 206);
    assert.equal(half.headers.get('content-range'), `bytes 12000000-${BYTES.length - 1}/${BYTES.length}`);
    assert.equal(half.headers.get('repr-digest'), DIGEST);
    assert.ok(half.bytes.equals(BYTES.subarray(12_000_000)));
    const few = await get({ range: 'bytes=7-7' });
    assert.deepEqual([few.status, few.bytes.toString()], [206, BYTES.subarray(7, 8).toString()]);
  });

  test('is sent as a whole to a client with a part of other bytes', async () => {
    const { status, bytes } = await get({ range: 'bytes=12000000-', 'if-range': `"${'0'.repeat(64)}"` });
    assert.deepEqual([status, bytes.length], [200, BYTES.length]);
  });

  for (const range of ['bytes=abc', 'bytes=5-2', 'bytes=0-1,5-6', 'pages=1-2']) {
    test(`comes whole when asked for "${range}"`, async () => {
      const { status, headers, bytes } = await get({ range });
      assert.deepEqual([status, bytes.length, headers.get('content-range')], [200, BYTES.length, null]);
    });
  }

  test('has no range beyond its end', async () => {
    const { status, headers, bytes } = await get({ range: `bytes=${BYTES.length}-` });
    assert.equal(status, 416);
    assert.equal(headers.get('content-range'), `bytes */${BYTES.length}`);
    assert.equal(headers.get('cache-control'), null);
    assert.equal(at(JSON.parse(bytes.toString()), 'code'), 'RANGE_NOT_SATISFIABLE');
  });

  test('is not sent to a client that has it, nor to one that requires another', async () => {
    const known = await get({ 'if-none-match': `W/${ETAG}`, range: 'bytes=0-1' });
    assert.deepEqual([known.status, known.bytes.length, known.headers.get('etag')], [304, 0, ETAG]);
    const other = await get({ 'if-match': '"0"' });
    assert.equal(other.status, 412);
    assert.equal(at(JSON.parse(other.bytes.toString()), 'code'), 'PRECONDITION_FAILED');
  });

  test('cannot be written to', async () => {
    const response = await fetch(address, { method: 'PUT', body: 'x' });
    assert.deepEqual([response.status, response.headers.get('allow')], [405, 'GET, HEAD']);
  });

  test('resumes with curl, and curl knows when it has all', async (context) => {
    const folder = await mkdtemp(path.join(tmpdir(), 'paraffin-curl-'));
    context.after(() => rm(folder, { recursive: true }));
    const file = path.join(folder, 'encoder.safetensors');
    await writeFile(file, BYTES.subarray(0, 5_000_001));
    for (let attempt = 0; attempt < 2; attempt += 1) {
      await run('curl', ['-sS', '--fail', '-C', '-', '-o', file, address]).catch((error: unknown) => {
        // Older versions of curl report error 22 if nothing is left to send, although the file is complete.
        if (attempt === 0) throw error;
      });
      assert.equal(
        createHash('sha256')
          .update(await readFile(file))
          .digest('hex'),
        SHA256,
      );
    }
  });
});

describe('missing downloads', () => {
  const cases: readonly [string, () => string, number, string][] = [
    ['an unknown format', () => `/checkpoints/${checkpointId}/download?format=pickle`, 400, 'BAD_INPUT'],
    [
      'two formats at once',
      () => `/checkpoints/${checkpointId}/download?format=onnx&format=safetensors`,
      400,
      'BAD_INPUT',
    ],
    [
      'an unknown checkpoint',
      () => '/checkpoints/00000000-0000-7000-8000-000000000000/download',
      404,
      'CHECKPOINT_NOT_FOUND',
    ],
    ['an invalid id', () => '/checkpoints/champion/download', 404, 'CHECKPOINT_NOT_FOUND'],
    ['an unknown artifact', () => `/artifacts/${'0'.repeat(64)}`, 404, 'ARTIFACT_NOT_FOUND'],
    ['a path that leaves the folder', () => '/artifacts/..%2f..%2fadmin-key', 404, 'ARTIFACT_NOT_FOUND'],
    [
      'a thumbnail of nothing',
      () => '/datasets/00000000-0000-7000-8000-000000000000/thumbnails/0.webp',
      404,
      'NOT_FOUND',
    ],
    [
      'a thumbnail without a number',
      () => '/datasets/00000000-0000-7000-8000-000000000000/thumbnails/first.webp',
      404,
      'NOT_FOUND',
    ],
  ];
  for (const [what, place, status, code] of cases) {
    test(what, async () => {
      const response = await fetch(`${server.url}${place()}`);
      const body: unknown = await response.json();
      assert.deepEqual([response.status, at(body, 'code')], [status, code]);
      assert.equal(at(body, 'requestId'), response.headers.get('x-request-id'));
    });
  }

  test('bytes that are gone from the disk, or cut short', async () => {
    const { sha256 } = await server.store.put(Buffer.from('soon gone'));
    const id = await register(sha256, 9);
    await server.stored.write(nameOf(sha256), 'soon');
    const short = await fetch(`${server.url}/checkpoints/${id}/download`);
    assert.deepEqual(
      [short.status, at(await short.json(), 'code'), short.headers.get('etag')],
      [500, 'ARTIFACT_CORRUPT', null],
    );
    await server.store.put(Buffer.from('soon gone'));
    await server.stored.erase(nameOf(sha256));
    await server.stored.erase(`quarantine/${sha256}`);
    const gone = await fetch(`${server.url}/checkpoints/${id}/download`);
    assert.deepEqual([gone.status, at(await gone.json(), 'code')], [404, 'ARTIFACT_NOT_FOUND']);
  });

  describe('bytes that changed on the disk without a change of size', () => {
    const size = 3_000_000;
    let sha256 = '';
    let id = '';
    before(async () => {
      sha256 = (await server.store.put(Buffer.alloc(size, 'sound'))).sha256;
      id = await register(sha256, size);
      const bytes = Buffer.alloc(size, 'sound');
      bytes.write('X', 10);
      await server.stored.write(nameOf(sha256), bytes);
    });

    test('are never delivered as complete: the response breaks off before its announced end', async () => {
      const response = await fetch(`${server.url}/checkpoints/${id}/download`);
      assert.deepEqual([response.status, response.headers.get('content-length')], [200, String(size)]);
      await assert.rejects(response.arrayBuffer());
    });

    test('are in quarantine afterwards, which every later request reports', async () => {
      await eventually('the row to be marked', async () =>
        (await database.db.artifact.findUniqueOrThrow({ where: { sha256 } })).damagedAt === null ? undefined : true,
      );
      assert.equal((await server.store.upkeep.quarantined()).byteSize, size);
      for (const headers of [{}, { range: 'bytes=0-9' }]) {
        const response = await fetch(`${server.url}/checkpoints/${id}/download`, { headers });
        assert.deepEqual([response.status, at(await response.json(), 'code')], [500, 'ARTIFACT_CORRUPT']);
      }
    });

    test('are delivered again once they are restored', async () => {
      await server.store.put(Buffer.alloc(size, 'sound'));
      const response = await fetch(`${server.url}/checkpoints/${id}/download`);
      assert.equal((await response.arrayBuffer()).byteLength, size);
    });
  });

  test('weights that were never stored, only their source', async () => {
    const model = await database.db.model.create({ data: { slug: 'published', name: 'Published' } });
    const { INPUT_CONTRACT } = await import('../support/checkpoints.ts');
    const { id } = await database.db.checkpoint.create({
      data: {
        modelId: model.id,
        version: 1,
        encoder: 'RESNET18',
        embeddingDim: 512,
        inputContract: INPUT_CONTRACT,
        importedFrom: { url: 'https://example.org/w.ckpt' },
      },
    });
    const response = await fetch(`${server.url}/checkpoints/${id}/download`);
    assert.deepEqual([response.status, at(await response.json(), 'code')], [404, 'CHECKPOINT_NOT_DOWNLOADABLE']);
  });
});

describe('an artifact', () => {
  test('may be cached for ever, because its address identifies its bytes', async () => {
    const response = await fetch(`${server.url}/artifacts/${SHA256}`, { method: 'HEAD' });
    assert.equal(response.status, 200);
    assert.equal(response.headers.get('cache-control'), 'private, max-age=31536000, immutable');
    assert.equal(response.headers.get('etag'), ETAG);
  });

  test('of zero bytes', async () => {
    const { sha256 } = await server.store.put(new Uint8Array(0));
    await database.transact((tx) =>
      server.services.artifacts.record(tx, { sha256, byteSize: 0, mediaType: 'application/octet-stream' }),
    );
    const response = await fetch(`${server.url}/artifacts/${sha256}`);
    assert.deepEqual([response.status, response.headers.get('content-length'), await response.text()], [200, '0', '']);
  });

  test('needs a key from another machine', async () => {
    const response = await fetch(`${server.url}/artifacts/${SHA256}`, {
      headers: { 'x-forwarded-for': '203.0.113.9' },
    });
    assert.deepEqual([response.status, response.headers.get('www-authenticate')], [401, 'Bearer']);
    await response.body?.cancel();
    const withKey = await fetch(`${server.url}/artifacts/${SHA256}`, {
      method: 'HEAD',
      headers: { 'x-forwarded-for': '203.0.113.9', authorization: `Bearer ${server.adminKey}` },
    });
    assert.equal(withKey.status, 200);
  });
});

describe('embeddings', () => {
  const NUMBERS = Buffer.from('numbers');
  const IDS = Buffer.from('key,label\r\n');

  async function registerEmbeddings(): Promise<string> {
    const [rows, ids] = [await server.store.put(NUMBERS), await server.store.put(IDS)];
    const key = { encoderDigest: SHA256, datasetDigest: 'd'.repeat(64), preparationDigest: 'p'.repeat(64) };
    const set = {
      ...key,
      source: 'CHECKPOINT',
      imageCount: 0,
      embeddingDim: 512,
      rows,
      ids,
      engine: { library: 'test' },
    } as const;
    const embeddingCache = createEmbeddingCache(database.db);
    await database.transact((tx) => embeddingCache.register(tx, set));
    // Another worker with the same key: the set of the first one is kept.
    await database.transact((tx) => embeddingCache.register(tx, { ...set, rows: ids }));
    return (await database.db.embeddingSet.findFirstOrThrow({ where: key })).id;
  }

  test('are sent as .npy with the rows named in a .csv, at the addresses that the API returns', async () => {
    const id = await registerEmbeddings();
    const answer = await server.ask(
      'query ($id: ID!) { checkpoint(id: $id) { embeddings { id source embeddingDim sha256 byteSize npyUrl idsUrl } } }',
      { id: checkpointId },
    );
    const set = at(answer, 'data.checkpoint.embeddings.0');
    assert.deepEqual(set, {
      id,
      source: 'CHECKPOINT',
      embeddingDim: 512,
      sha256: createHash('sha256').update(NUMBERS).digest('hex'),
      byteSize: NUMBERS.length,
      npyUrl: `/embeddings/${id}.npy`,
      idsUrl: `/embeddings/${id}.csv`,
    });
    const npy = await fetch(`${server.url}/embeddings/${id}.npy`, { headers: { range: 'bytes=3-' } });
    assert.deepEqual(
      [npy.status, await npy.text(), npy.headers.get('content-disposition')],
      [206, 'bers', `attachment; filename="embeddings-${id}.npy"`],
    );
    const csv = await fetch(`${server.url}/embeddings/${id}.csv`);
    assert.deepEqual(
      [csv.status, await csv.text(), csv.headers.get('content-type')],
      [200, IDS.toString(), 'text/csv; charset=utf-8'],
    );
  });

  test('that do not exist, invalid ids and other extensions are not found', async () => {
    for (const name of [`${checkpointId}.npy`, 'latest.csv']) {
      const response = await fetch(`${server.url}/embeddings/${name}`);
      assert.deepEqual([response.status, at(await response.json(), 'code')], [404, 'EMBEDDINGS_NOT_FOUND']);
    }
    const other = await fetch(`${server.url}/embeddings/${checkpointId}.npz`);
    assert.equal(other.status, 404);
    await other.body?.cancel();
  });
});

describe('a client that disconnects', () => {
  /** A file can be seen to be open, so these bytes are in a folder, also when the other tests use a bucket. */
  let files: LocalArtifactStore;
  let sending: TestServer;

  before(async () => {
    files = openArtifactStore(path.join(server.folder, 'seen'));
    await files.put(BYTES);
    sending = await startTestServer(database, { stallTimeoutMs: STALL_TIMEOUT_MS, artifacts: files });
  });
  after(() => sending.close());

  /** How many descriptors of this process point at the stored file. */
  async function openCount(): Promise<number> {
    const names = await readdir('/proc/self/fd');
    const targets = await Promise.all(names.map((name) => readlink(`/proc/self/fd/${name}`).catch(() => '')));
    return targets.filter((target) => target === files.pathOf(SHA256)).length;
  }

  async function begin(): Promise<ReturnType<typeof connect>> {
    const { port, host } = new URL(sending.url);
    const { pathname } = new URL(address);
    const socket = connect(Number(port), '127.0.0.1');
    await once(socket, 'connect');
    socket.write(`GET ${pathname} HTTP/1.1\r\nHost: ${host}\r\n\r\n`);
    await once(socket, 'readable');
    return socket;
  }

  const released = (): Promise<true> =>
    eventually('the file to be closed', async () => ((await openCount()) === 0 ? true : undefined));

  test('releases the file when it hangs up', { skip: process.platform !== 'linux' }, async () => {
    const socket = await begin();
    assert.equal(await openCount(), 1);
    socket.destroy();
    await released();
  });

  test('releases the file when it stops reading', { skip: process.platform !== 'linux' }, async () => {
    const socket = await begin();
    socket.pause();
    assert.equal(await openCount(), 1);
    await released();
    socket.destroy();
  });

  test('does not affect others', async () => {
    const socket = await begin();
    const response = await fetch(`${sending.url}${new URL(address).pathname}`);
    assert.ok(Buffer.from(await response.arrayBuffer()).equals(BYTES));
    socket.destroy();
    await released();
  });
});
