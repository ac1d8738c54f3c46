/**
 * A bucket behind a connection that fails in every way: nothing half-written is ever visible, nothing wrong is ever
 * read, and every failure says what to do.
 */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import path from 'node:path';
import { Readable } from 'node:stream';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { DomainError, type ErrorCode } from '../../src/errors.ts';
import {
  openLocalFiles,
  openS3Store,
  type ArtifactStore,
  type S3Place,
} from '../../src/platform/artifact-store/index.ts';
import { nameOf, useS3 } from '../support/artifact-stage.ts';
import type { Fault, SeenRequest } from '../support/s3-proxy.ts';
import { getRaw, keysBelow, putRaw, unfinishedUploads } from '../support/s3-server.ts';
import { temporaryFolder } from '../support/shards.ts';

const s3 = useS3();
beforeEach(() => {
  s3().proxy.checksUploads = true;
});
afterEach(() => {
  s3().proxy.fault = () => undefined;
});

const sha256Of = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');
const SMALL = Buffer.from('weights of an encoder');
/** Two parts of a multipart upload. */
const LARGE = Buffer.concat(Array.from({ length: 9 }, (_, index) => Buffer.alloc(1_000_003, index + 1)));
const LARGE_SHA256 = sha256Of(LARGE);
const FAR_FUTURE = new Date('2100-01-01T00:00:00Z');

/** A store behind the proxy that has made its probe already. */
async function openProbed(): Promise<{ readonly store: ArtifactStore; readonly place: S3Place }> {
  const { server, proxy } = s3();
  const place = server.newPlace(proxy.endpoint);
  const store = openS3Store(place, { writer: 'test' });
  await store.abilities();
  return { store, place };
}

/** What anyone sees under the names of artifacts must be what the names say. */
async function requireNothingWrong(place: S3Place): Promise<void> {
  const { server } = s3();
  for (const name of await keysBelow(server, place.prefix)) {
    if (!name.startsWith('sha256/')) continue;
    assert.equal(nameOf(sha256Of(await getRaw(server, `${place.prefix}/${name}`))), name);
  }
}

/** Makes the fault at one request of those that follow, counted from 0. */
function faultAt(index: number, fault: Fault): void {
  let count = 0;
  s3().proxy.fault = () => {
    count += 1;
    return count - 1 === index ? fault : undefined;
  };
}

async function requestsOf(work: () => Promise<unknown>): Promise<SeenRequest[]> {
  const { seen } = s3().proxy;
  const before = seen.length;
  await work();
  return seen.slice(before);
}

const isStoreError = (error: unknown): boolean =>
  error instanceof DomainError && error.code.startsWith('STORE_') && error.hint !== undefined;

describe('an upload', () => {
  const faults: readonly Fault[] = [
    { kind: 'ERROR', status: 503, code: 'SlowDown' },
    { kind: 'CUT_ANSWER', afterBytes: 0 },
    { kind: 'CUT_REQUEST', afterBytes: 5 },
    { kind: 'LOST_ANSWER' },
    { kind: 'WRONG_REQUEST_BYTES' },
  ];
  for (const [what, bytes, sourceOf, checksUploads, named] of [
    ['of one part', SMALL, () => SMALL, true],
    ['of several parts', LARGE, () => LARGE, true],
    ['of several parts whose name is known', LARGE, () => LARGE, true, LARGE_SHA256],
    ['of a stream', LARGE, () => Readable.from([LARGE]), true],
    ['of a stream whose name is known', LARGE, () => Readable.from([LARGE]), true, LARGE_SHA256],
    ['of one part to a store that checks nothing', SMALL, () => SMALL, false],
    ['of several parts to a store that checks nothing', LARGE, () => LARGE, false],
  ] as const) {
    for (const fault of faults) {
      test(`${what} with ${fault.kind} at any of its requests stores what was sent or nothing`, async () => {
        s3().proxy.checksUploads = checksUploads;
        const { store, place } = await openProbed();
        const requestCount = (await requestsOf(() => store.put(sourceOf(), named))).length;
        await store.delete(sha256Of(bytes), FAR_FUTURE);
        for (let index = 0; index < requestCount; index += 1) {
          faultAt(index, fault);
          const stored = await store.put(sourceOf(), named).catch((error: unknown) => {
            assert.ok(isStoreError(error), `at request ${index}: ${String(error)}`);
            return undefined;
          });
          s3().proxy.fault = () => undefined;
          await requireNothingWrong(place);
          if (stored !== undefined) assert.ok((await store.read(stored.sha256)).equals(bytes));
          await store.delete(sha256Of(bytes), FAR_FUTURE);
        }
        await store.upkeep.removeUnfinished('test');
        assert.deepEqual(await keysBelow(s3().server, place.prefix), [], 'nothing is left');
        assert.equal((await unfinishedUploads(s3().server, place.prefix)) ?? 0, 0);
      });
    }
  }

  test('with a single failed request is repeated without the caller noticing', async () => {
    const { store } = await openProbed();
    for (const fault of faults.slice(0, 4)) {
      let isLeft = true;
      s3().proxy.fault = ({ method, query }) => {
        if (!isLeft || method !== 'PUT' || !query.has('partNumber')) return undefined;
        isLeft = false;
        return fault;
      };
      assert.equal((await store.put(LARGE)).sha256, LARGE_SHA256, fault.kind);
    }
  });

  test('whose credentials expire in the middle leaves nothing visible', async () => {
    const { store, place } = await openProbed();
    s3().proxy.fault = ({ query }) =>
      query.get('partNumber') === '2' ? { kind: 'ERROR', status: 400, code: 'ExpiredToken' } : undefined;
    await assert.rejects(store.put(LARGE), {
      code: 'STORE_CREDENTIALS_EXPIRED',
      message: `The credentials for bucket ${place.bucket} have expired.`,
    });
    s3().proxy.fault = () => undefined;
    assert.deepEqual(await keysBelow(s3().server, place.prefix), []);
  });

  test('into a full bucket leaves nothing visible', async () => {
    const { store, place } = await openProbed();
    s3().proxy.fault = ({ method, query }) =>
      method === 'POST' && query.has('uploadId') ? { kind: 'ERROR', status: 403, code: 'QuotaExceeded' } : undefined;
    await assert.rejects(store.put(LARGE), { code: 'STORAGE_FULL', message: /bucket .* is full/ });
    s3().proxy.fault = () => undefined;
    assert.deepEqual(await keysBelow(s3().server, place.prefix), []);
  });

  test('of a stream that cannot begin ends the stream', async () => {
    const { store } = await openProbed();
    s3().proxy.fault = ({ method, query }) =>
      method === 'POST' && query.has('uploads') ? { kind: 'ERROR', status: 403, code: 'AccessDenied' } : undefined;
    const source = Readable.from([LARGE, LARGE]);
    await assert.rejects(store.put(source), { code: 'STORE_ACCESS_DENIED' });
    assert.ok(source.destroyed);
  });

  test('that another process ended may be tried again', async () => {
    const { store, place } = await openProbed();
    s3().proxy.fault = ({ query }) =>
      query.get('partNumber') === '2' ? { kind: 'ERROR', status: 404, code: 'NoSuchUpload' } : undefined;
    await assert.rejects(store.put(LARGE), {
      code: 'STORE_UNREACHABLE',
      message: /no longer knows the upload/,
      retryable: true,
    });
    s3().proxy.fault = () => undefined;
    assert.deepEqual(await keysBelow(s3().server, place.prefix), []);
  });

  for (const [what, sourceOf, folder] of [
    ['a buffer', () => LARGE, '/sha256/'],
    ['a stream', () => Readable.from([LARGE]), '/tmp/'],
  ] as const)
    test(`of ${what} is not kept when the store dropped a part of it`, async () => {
      const { store, place } = await openProbed();
      s3().proxy.fault = async ({ method, path, query }) => {
        if (method === 'HEAD' && path.includes(folder) && query.size === 0)
          await putRaw(s3().server, path.slice(place.bucket.length + 1), LARGE.subarray(0, 4_000_000));
        return undefined;
      };
      await assert.rejects(store.put(sourceOf()), {
        code: 'STORE_UNREACHABLE',
        message: /which was therefore not published/,
      });
      s3().proxy.fault = () => undefined;
      assert.deepEqual(await keysBelow(s3().server, place.prefix), []);
    });

  test('of a file sends each byte once; a file that changes while it is stored is refused, or ends too early', async (context) => {
    const { store, place } = await openProbed();
    const file = path.join(await temporaryFolder(context), 'weights');
    await writeFile(file, LARGE);
    const requests = await requestsOf(async () =>
      assert.deepEqual(await store.put({ file }), { sha256: LARGE_SHA256, byteSize: LARGE.length }),
    );
    assert.ok((await store.read(LARGE_SHA256)).equals(LARGE));
    assert.ok(!requests.some(({ headers }) => headers['x-amz-copy-source'] !== undefined), 'the store copies nothing');
    const parts = requests.filter(({ method, query }) => method === 'PUT' && query.has('partNumber'));
    assert.deepEqual(
      parts.reduce((sum, { headers }) => sum + Number(headers['content-length']), 0),
      LARGE.length,
    );
    await store.delete(LARGE_SHA256, FAR_FUTURE);
    // The name is known when the upload begins; then the file becomes another one.
    for (const [changed, message] of [
      [Buffer.alloc(LARGE.length, 7), /received other bytes than were sent/],
      [LARGE.subarray(0, 9_000_000), /has become shorter while it was stored/],
    ] as const) {
      await writeFile(file, LARGE);
      s3().proxy.fault = async ({ method, query }) => {
        if (method === 'POST' && query.has('uploads')) await writeFile(file, changed);
        return undefined;
      };
      await assert.rejects(store.put({ file }), { message });
      s3().proxy.fault = () => undefined;
      assert.deepEqual(await keysBelow(s3().server, place.prefix), [], 'nothing is left');
    }
  });

  test('of a file whose name is known stores what is read, and nothing if that is not what the name says', async (context) => {
    const { store, place } = await openProbed();
    const file = path.join(await temporaryFolder(context), 'file');
    const changed = Buffer.concat([LARGE.subarray(0, LARGE.length - 1), Buffer.from([1 + (LARGE.at(-1) ?? 0)])]);
    await writeFile(file, changed);
    assert.equal((await store.put({ file }, LARGE_SHA256)).sha256, sha256Of(changed));
    await writeFile(file, LARGE);
    s3().proxy.fault = async ({ method, query }) => {
      if (method === 'POST' && query.has('uploads')) await writeFile(file, LARGE.subarray(0, 9_000_000));
      return undefined;
    };
    await assert.rejects(store.put({ file }, LARGE_SHA256), { message: /has become shorter while it was stored/ });
    s3().proxy.fault = () => undefined;
    assert.deepEqual(await keysBelow(s3().server, place.prefix), [], 'nothing is left');
    await writeFile(file, LARGE);
    assert.deepEqual(await store.put({ file }, LARGE_SHA256), { sha256: LARGE_SHA256, byteSize: LARGE.length });
    assert.ok((await store.read(LARGE_SHA256)).equals(LARGE));
  });

  test('of a stream whose name is known is sent once, and not copied', async () => {
    const { store } = await openProbed();
    const requests = await requestsOf(() => store.put(Readable.from([LARGE]), LARGE_SHA256));
    const sent = requests.filter(({ method }) => method === 'PUT');
    assert.equal(sent.filter(({ query }) => query.has('partNumber')).length, 2);
    assert.ok(sent.every(({ headers }) => headers['x-amz-copy-source'] === undefined));
  });

  for (const checksUploads of [true, false])
    for (const [what, bytes] of [
      ['a stream', LARGE],
      ['a short stream', SMALL],
    ] as const)
      test(`of ${what} under the name of other bytes leaves nothing, ${checksUploads ? 'and' : 'also if the store checks nothing, and'} says which bytes they are`, async () => {
        s3().proxy.checksUploads = checksUploads;
        const { store, place } = await openProbed();
        for (const sourceOf of [() => Readable.from([bytes]), () => bytes])
          for (const name of [sha256Of(Buffer.from('others')), 'no digest']) {
            const stored = await store.put(sourceOf(), name);
            assert.deepEqual(stored, { sha256: sha256Of(bytes), byteSize: bytes.length });
          }
        assert.deepEqual(await keysBelow(s3().server, place.prefix), []);
        assert.equal((await unfinishedUploads(s3().server, place.prefix)) ?? 0, 0);
      });

  test('that was killed is found by its note, although the store does not list it', async () => {
    const { store, place } = await openProbed();
    // The process ends after the first part: it neither completes nor aborts.
    const gone = new Promise<void>((resolve) => {
      s3().proxy.fault = ({ method, query }) => {
        if (method !== 'PUT' || query.get('partNumber') !== '2') return undefined;
        resolve();
        return { kind: 'SILENCE' };
      };
    });
    const abandoned = store.put(LARGE);
    abandoned.catch(() => undefined);
    await gone;
    const [note = ''] = await keysBelow(s3().server, place.prefix);
    assert.match(note, /^tmp\/test\/.*\.upload$/);
    s3().proxy.fault = () => undefined;
    const cleaner = openS3Store(place, { writer: 'another' });
    assert.deepEqual(await cleaner.upkeep.unfinishedWriters(), ['test']);
    const requests = await requestsOf(() => cleaner.upkeep.removeUnfinished('test'));
    assert.ok(
      requests.some(
        ({ method, path: key, query }) =>
          method === 'DELETE' &&
          query.has('uploadId') &&
          key === `${place.bucket}/${place.prefix}/${nameOf(LARGE_SHA256)}`,
      ),
      'the upload is aborted',
    );
    assert.deepEqual(await keysBelow(s3().server, place.prefix), []);
  });
});

describe('a download', () => {
  const faults: readonly Fault[] = [
    { kind: 'ERROR', status: 500, code: 'InternalError' },
    { kind: 'CUT_ANSWER', afterBytes: 0 },
    { kind: 'CUT_ANSWER', afterBytes: 3_000_000 },
    { kind: 'TRUNCATED_ANSWER', afterBytes: 2_000_000 },
    { kind: 'WRONG_ANSWER_BYTES' },
    { kind: 'LOST_ANSWER' },
  ];
  for (const fault of faults) {
    test(`with ${fault.kind}${'afterBytes' in fault ? ` after ${fault.afterBytes} bytes` : ''} returns the right bytes in the end`, async () => {
      const { store } = await openProbed();
      await store.put(LARGE);
      faultAt(0, fault);
      assert.ok((await store.read(LARGE_SHA256)).equals(LARGE));
    });
  }

  for (const fault of faults) {
    test(`into the cache with ${fault.kind}${'afterBytes' in fault ? ` after ${fault.afterBytes} bytes` : ''} at any of its requests gives the right file`, async (context) => {
      const { store } = await openProbed();
      await store.put(LARGE);
      const download = async (): Promise<void> => {
        const folder = await temporaryFolder(context);
        const files = openLocalFiles({ store, folder, maxBytes: 2 * LARGE.length });
        try {
          await using held = await files.hold(LARGE_SHA256);
          assert.ok((await readFile(held.path)).equals(LARGE));
        } finally {
          await files.close();
        }
      };
      const requestCount = (await requestsOf(download)).length;
      assert.ok(requestCount >= 2);
      for (let index = 0; index < requestCount; index += 1) {
        let count = 0;
        s3().proxy.fault = ({ method }) => {
          count += 1;
          // An answer to HEAD has no body that could be cut short.
          const isPossible = method === 'GET' || fault.kind !== 'TRUNCATED_ANSWER';
          return count - 1 === index && isPossible ? fault : undefined;
        };
        await download();
      }
    });
  }

  test('into the cache sends one request for the bytes, and continues it where the connection broke', async (context) => {
    const { store } = await openProbed();
    await store.put(LARGE);
    const files = openLocalFiles({ store, folder: await temporaryFolder(context), maxBytes: 2 * LARGE.length });
    context.after(() => files.close());
    let isFirst = true;
    const requests = await requestsOf(async () => {
      s3().proxy.fault = ({ method }) => {
        if (method !== 'GET' || !isFirst) return undefined;
        isFirst = false;
        return { kind: 'CUT_ANSWER', afterBytes: 3_000_000 };
      };
      await using held = await files.hold(LARGE_SHA256);
      assert.ok((await readFile(held.path)).equals(LARGE));
    });
    const gets = requests.filter(({ method }) => method === 'GET');
    assert.equal(gets.length, 2);
    assert.match(String(gets[1]?.headers.range), /^bytes=[1-9]\d*-9000026$/);
  });

  test('continues after each of several broken connections, and reads no byte twice', async () => {
    const { store } = await openProbed();
    await store.put(LARGE);
    let sentBytes = 0;
    const ranges = await requestsOf(async () => {
      s3().proxy.fault = () => (sentBytes < 6_000_000 ? { kind: 'CUT_ANSWER', afterBytes: 1_000_000 } : undefined);
      const hash = createHash('sha256');
      for await (const chunk of await store.open(LARGE_SHA256)) {
        hash.update(chunk);
        sentBytes += chunk.length;
      }
      assert.equal(hash.digest('hex'), LARGE_SHA256);
      assert.equal(sentBytes, LARGE.length);
    });
    assert.ok(ranges.length > 5);
    for (const { headers } of ranges.slice(1)) assert.match(String(headers.range), /^bytes=[1-9]\d*-9000026$/);
  });

  test('always wrong bytes are damage, and never returned', async () => {
    const { store } = await openProbed();
    await store.put(SMALL);
    s3().proxy.fault = ({ method }) => (method === 'GET' ? { kind: 'WRONG_ANSWER_BYTES' } : undefined);
    await assert.rejects(store.read(sha256Of(SMALL)), { code: 'ARTIFACT_CORRUPT' });
  });

  test('an object that is replaced while it is read is damage, and bytes of both are never mixed', async () => {
    const { store, place } = await openProbed();
    await store.put(LARGE);
    let requestCount = 0;
    s3().proxy.fault = async () => {
      requestCount += 1;
      if (requestCount === 1) return { kind: 'CUT_ANSWER', afterBytes: 2_000_000 };
      await putRaw(s3().server, `${place.prefix}/${nameOf(LARGE_SHA256)}`, Buffer.alloc(LARGE.length, 7));
      return undefined;
    };
    const reading = async (): Promise<number> => {
      let total = 0;
      for await (const chunk of await store.open(LARGE_SHA256)) total += chunk.length;
      return total;
    };
    await assert.rejects(reading(), { code: 'ARTIFACT_CORRUPT' });
    requestCount = 0;
    await putRaw(s3().server, `${place.prefix}/${nameOf(LARGE_SHA256)}`, LARGE);
    // The first request of a scan asks for the size.
    await assert.rejects(
      store.scan(LARGE_SHA256, () => undefined),
      { code: 'ARTIFACT_CORRUPT' },
    );
  });

  test('a store that breaks every connection is given up after a bounded number of attempts', async () => {
    const { store } = await openProbed();
    await store.put(LARGE);
    const attempts = await requestsOf(async () => {
      s3().proxy.fault = () => ({ kind: 'CUT_ANSWER', afterBytes: 0 });
      await assert.rejects(store.read(LARGE_SHA256), { code: 'STORE_UNREACHABLE', retryable: true });
    });
    assert.ok(attempts.length < 50, `${attempts.length} attempts`);
  });

  test('a connection on which nothing comes is given up', async () => {
    const { proxy, server } = s3();
    const store = openS3Store(server.newPlace(proxy.endpoint), { stallTimeoutMs: 100 });
    await store.put(SMALL);
    let isFirst = true;
    proxy.fault = () => {
      const fault: Fault | undefined = isFirst ? { kind: 'SILENCE' } : undefined;
      isFirst = false;
      return fault;
    };
    assert.deepEqual(await store.read(sha256Of(SMALL)), SMALL, 'the request is repeated');
    proxy.fault = () => ({ kind: 'SILENCE' });
    await assert.rejects(store.read(sha256Of(SMALL)), { code: 'STORE_UNREACHABLE' });
  });
});

describe('at the start, a server that cannot use its bucket learns why', () => {
  const answers: readonly (readonly [number, string, ErrorCode, RegExp])[] = [
    [404, 'NoSuchBucket', 'STORE_BUCKET_NOT_FOUND', /The bucket \S+ does not exist at http/],
    [301, 'PermanentRedirect', 'STORE_REGION_MISMATCH', /is in another region than us-east-1/],
    [400, 'AuthorizationHeaderMalformed', 'STORE_REGION_MISMATCH', /is in another region/],
    [
      403,
      'AccessDenied',
      'STORE_ACCESS_DENIED',
      /may not write \S+probe\S+ in bucket \S+; the bucket may be read-only/,
    ],
    [405, 'MethodNotAllowed', 'STORE_ACCESS_DENIED', /may be read-only/],
    [403, 'InvalidAccessKeyId', 'STORE_CREDENTIALS_INVALID', /does not accept the access key/],
    [403, 'SignatureDoesNotMatch', 'STORE_CREDENTIALS_INVALID', /does not accept the access key/],
    [400, 'ExpiredToken', 'STORE_CREDENTIALS_EXPIRED', /have expired/],
    [403, 'RequestTimeTooSkewed', 'STORE_CLOCK_SKEWED', /The clock of this machine differs too much/],
    [403, 'QuotaExceeded', 'STORAGE_FULL', /is full/],
    [507, 'InsufficientStorage', 'STORAGE_FULL', /is full/],
    [501, 'NotImplemented', 'STORE_INCOMPATIBLE', /NotImplemented/],
    [500, 'InternalError', 'STORE_UNREACHABLE', /did not answer/],
  ];
  for (const [status, code, expected, message] of answers) {
    test(`${status} ${code}`, async () => {
      const { proxy, server } = s3();
      proxy.fault = ({ method }) => (method === 'PUT' ? { kind: 'ERROR', status, code } : undefined);
      const store = openS3Store(server.newPlace(proxy.endpoint));
      await assert.rejects(store.upkeep.requireUsable(), (error: unknown) => {
        assert.ok(error instanceof DomainError);
        assert.equal(error.code, expected);
        assert.match(error.message, message);
        assert.equal(error.field, 'PARAFFIN_ARTIFACTS_URL');
        assert.ok((error.hint ?? '').length > 20);
        return true;
      });
      proxy.fault = () => undefined;
      await store.upkeep.requireUsable();
    });
  }

  test('a bucket that does not exist', async () => {
    const { server } = s3();
    const store = openS3Store({ ...server.newPlace(), bucket: 'no-such-bucket' });
    await assert.rejects(store.upkeep.requireUsable(), { code: 'STORE_BUCKET_NOT_FOUND', message: /no-such-bucket/ });
  });

  test('an address at which nothing listens', async () => {
    const listener = createServer().listen(0, '127.0.0.1');
    await new Promise((resolve) => listener.once('listening', resolve));
    const address = listener.address();
    assert.ok(typeof address === 'object' && address !== null);
    await new Promise((resolve) => listener.close(resolve));
    const endpoint = `http://127.0.0.1:${address.port}`;
    const store = openS3Store({ ...s3().server.newPlace(), endpoint });
    await assert.rejects(store.upkeep.requireUsable(), {
      code: 'STORE_UNREACHABLE',
      message: new RegExp(`${endpoint} did not answer`),
      retryable: true,
    });
  });

  test('a proxy that removes Range', async () => {
    const { proxy, server } = s3();
    proxy.fault = ({ headers }) => {
      delete headers.range;
      return undefined;
    };
    const store = openS3Store(server.newPlace(proxy.endpoint));
    await assert.rejects(store.upkeep.requireUsable(), (error: unknown) => {
      // A store that checks signatures notices the missing header itself.
      assert.ok(error instanceof DomainError);
      assert.match(error.message, /does not send parts of objects|SignatureDoesNotMatch/);
      return true;
    });
  });
});

test('a clock that is wrong by an hour is corrected by the clock of the store', async () => {
  const { store } = await openProbed();
  const serverTime = new Date(Date.now() + 3_600_000);
  let requestCount = 0;
  const requests = await requestsOf(async () => {
    s3().proxy.fault = () => {
      requestCount += 1;
      return requestCount === 1
        ? { kind: 'ERROR', status: 403, code: 'RequestTimeTooSkewed', serverTime }
        : { kind: 'ERROR', status: 404, code: 'NoSuchKey', serverTime };
    };
    await assert.rejects(store.open(sha256Of(SMALL)), { code: 'ARTIFACT_NOT_FOUND' });
  });
  const [, signedAgain] = requests;
  const [, day, hour] = /^(\d{8}T)(\d{2})/.exec(String(signedAgain?.headers['x-amz-date'])) ?? [];
  const expected = serverTime.toISOString().replaceAll('-', '');
  assert.equal(`${day}${hour}`, expected.slice(0, 11), 'signed again, with the time of the store');
});

test('bytes that are stored again while a garbage collection deletes them stay', async () => {
  const { server, proxy } = s3();
  const place = server.newPlace(proxy.endpoint);
  const collector = openS3Store(place);
  const writer = openS3Store(place);
  const { sha256 } = await writer.put(SMALL);
  await collector.abilities();
  const key = `${place.bucket}/${place.prefix}/${nameOf(sha256)}`;
  let storing: Promise<unknown> | undefined;
  proxy.fault = async ({ method, path }) => {
    if (method !== 'DELETE' || path !== key || storing !== undefined) return undefined;
    // The collection has looked at the old object and is about to delete it; the deletion waits for the new one.
    const isPublished = new Promise<void>((resolve) => {
      proxy.fault = (other) => {
        if (other.method === 'HEAD' && other.path.includes('/doomed/')) resolve();
        return undefined;
      };
    });
    storing = writer.put(SMALL);
    await isPublished;
    return undefined;
  };
  assert.equal(await collector.delete(sha256, FAR_FUTURE), true);
  await storing;
  assert.deepEqual(await writer.read(sha256), SMALL);
  assert.deepEqual(await keysBelow(server, place.prefix), [nameOf(sha256)], 'no mark is left');
});
