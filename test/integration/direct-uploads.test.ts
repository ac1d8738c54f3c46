/** Artifacts that a worker sends straight to the bucket: nothing is visible before the server has verified it. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { after, afterEach, before, beforeEach, describe, test, type TestContext } from 'node:test';
import { createLedger } from '../../src/modules/runs/index.ts';
import { removeUploadsOfLostRuns } from '../../src/modules/workers/index.ts';
import { checksumOf, openS3Store, type S3Place } from '../../src/platform/artifact-store/index.ts';
import { directUploadAnswerSchema, signedPartSchema } from '../../src/protocol/artifacts.ts';
import type { ClaimedRun } from '../../src/protocol/worker-calls.ts';
import { createHttpArtifacts } from '../../workers/registry/artifacts.ts';
import { nameOf, useS3 } from '../support/artifact-stage.ts';
import { at } from '../support/catalogue.ts';
import { claimIdleImport } from '../support/claimed-run.ts';
import { openTestDatabase, type TestDatabase } from '../support/database.ts';
import type { SeenRequest } from '../support/s3-proxy.ts';
import { keysBelow } from '../support/s3-server.ts';
import { startTestServer, type TestServer } from '../support/server.ts';
import { temporaryFolder } from '../support/shards.ts';

const MIB = 1024 * 1024;
const PART_BYTES = 8 * MIB;

const s3 = useS3();
let database: TestDatabase;
let place: S3Place;
let server: TestServer;
let claimed: ClaimedRun;

const startServer = (redirectDownloads: boolean): Promise<TestServer> =>
  startTestServer(database, { artifacts: openS3Store(place), redirectDownloads });

before(async () => {
  database = await openTestDatabase();
});
after(() => database.close());
beforeEach(async () => {
  place = s3().server.newPlace(s3().proxy.endpoint);
  // The probe of the store checks whether uploads are checked.
  s3().proxy.checksUploads = true;
  server = await startServer(true);
  claimed = await claimIdleImport(database, server);
});
afterEach(async () => {
  s3().proxy.fault = () => undefined;
  s3().proxy.checksUploads = false;
  await server.close();
});

/** Of which each part differs. */
function bytesOf(byteSize: number): Buffer {
  const bytes = Buffer.alloc(byteSize, 'tissue');
  for (let first = 0; first < byteSize; first += MIB) bytes.writeUInt32LE(first, first);
  return bytes;
}

const LARGE = bytesOf(2 * PART_BYTES + MIB);
const sha256Of = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');
const SHA256 = sha256Of(LARGE);
const STORED = { sha256: SHA256, byteSize: LARGE.length };

/** Of whoever has an address, and not of the server. */
const isSigned = ({ query, headers }: SeenRequest): boolean =>
  query.has('X-Amz-Signature') && headers['if-match'] === undefined;
const partOf = ({ query }: SeenRequest): string | null => query.get('partNumber');

const keys = (): Promise<string[]> => keysBelow(s3().server, place.prefix);

interface Worker {
  readonly artifacts: ReturnType<typeof createHttpArtifacts>;
  /** How often the way to the bucket was given up. */
  readonly closedCount: () => number;
  /** The requests with bytes that the registry got, as `method path`. */
  readonly byRegistry: readonly string[];
}

async function worker(context: TestContext, { url, http }: TestServer): Promise<Worker> {
  let closedCount = 0;
  const byRegistry: string[] = [];
  const listener = ({ method = '', url: path = '' }: { method?: string; url?: string }): void => {
    if (method === 'PUT' || method === 'PATCH') byRegistry.push(`${method} ${path}`);
  };
  http.server.prependListener('request', listener);
  const artifacts = createHttpArtifacts({
    door: { url, token: claimed.token },
    runId: claimed.run.id,
    workDir: await temporaryFolder(context),
    patience: {},
    onBucketClosed: () => (closedCount += 1),
  });
  return { artifacts, closedCount: () => closedCount, byRegistry };
}

/** The parts that arrived at the proxy, in order. */
const sentParts = (): (string | null)[] =>
  s3()
    .proxy.seen.filter(
      (request) => request.method === 'PUT' && request.path.includes(place.prefix) && isSigned(request),
    )
    .map(partOf)
    .sort();

describe('an artifact of a worker', () => {
  test('goes to the bucket and comes from it, past the registry, and leaves nothing else there', async (context) => {
    const { artifacts, byRegistry } = await worker(context, server);
    const stream = async function* (): AsyncGenerator<Buffer> {
      for (let first = 0; first < LARGE.length; first += MIB) yield LARGE.subarray(first, first + MIB);
    };
    assert.deepEqual(await artifacts.put(stream()), STORED);
    assert.deepEqual([byRegistry, sentParts()], [[], ['1', '2', '3']]);
    assert.deepEqual(
      (await keys()).filter((name) => !name.startsWith('probe/')),
      [nameOf(SHA256)],
    );
    assert.ok((await openS3Store(place).read(SHA256)).equals(LARGE));
    assert.ok((await artifacts.read(SHA256)).equals(LARGE));
    const before = s3().proxy.seen.length;
    assert.deepEqual(await artifacts.put(LARGE), STORED, 'what is stored is not sent again');
    assert.ok(
      s3()
        .proxy.seen.slice(before)
        .every(({ method }) => method === 'HEAD'),
    );
  });

  test('that is small, or of a registry that keeps its bucket to itself, goes by way of the registry', async (context) => {
    const small = await worker(context, server);
    const bytes = LARGE.subarray(0, MIB);
    await small.artifacts.put(bytes);
    assert.deepEqual(small.byRegistry, [`PUT /worker/runs/${claimed.run.id}/artifacts/${sha256Of(bytes)}`]);
    const closed = await startServer(false);
    context.after(() => closed.close());
    const through = await worker(context, closed);
    assert.deepEqual(await through.artifacts.put(LARGE), STORED);
    assert.match(through.byRegistry.join(), /^PATCH \/uploads\//);
    assert.ok((await through.artifacts.read(SHA256)).equals(LARGE));
    assert.deepEqual([sentParts(), through.closedCount()], [[], 0]);
  });

  for (const [what, fault] of [
    ['whose address has expired', { kind: 'ERROR', status: 403, code: 'AccessDenied' }],
    ['whose bytes arrive as others', { kind: 'WRONG_REQUEST_BYTES' }],
    ['whose connection breaks', { kind: 'CUT_REQUEST', afterBytes: MIB }],
    ['whose answer is lost', { kind: 'LOST_ANSWER' }],
  ] as const)
    test(`of which a part ${what} goes on with a new address, and no other part is sent again`, async (context) => {
      const addresses: string[] = [];
      s3().proxy.fault = (request) => {
        if (!isSigned(request) || partOf(request) !== '2') return undefined;
        addresses.push(String(request.query));
        return addresses.length === 1 ? fault : undefined;
      };
      const { artifacts, byRegistry, closedCount } = await worker(context, server);
      assert.deepEqual(await artifacts.put(LARGE), STORED);
      assert.deepEqual([sentParts(), byRegistry, closedCount()], [['1', '2', '2', '3'], [], 0]);
      assert.notEqual(addresses[0], addresses[1], 'it was signed anew');
      assert.ok((await openS3Store(place).read(SHA256)).equals(LARGE));
    });

  test('whose parts were removed meanwhile is sent once more', async (context) => {
    let isFirst = true;
    s3().proxy.fault = ({ method, query }) => {
      if (method !== 'POST' || !query.has('uploadId') || !isFirst) return undefined;
      isFirst = false;
      return { kind: 'ERROR', status: 404, code: 'NoSuchUpload' };
    };
    const { artifacts, byRegistry } = await worker(context, server);
    assert.deepEqual(await artifacts.put(LARGE), STORED);
    assert.deepEqual([sentParts(), byRegistry], [['1', '1', '2', '2', '3', '3'], []]);
  });

  test('goes by way of the registry, as the next one does, if the bucket cannot be reached from there', async (context) => {
    s3().proxy.fault = (request) =>
      isSigned(request) ? { kind: 'ERROR', status: 403, code: 'FilteredByAProxy' } : undefined;
    const { artifacts, byRegistry, closedCount } = await worker(context, server);
    assert.deepEqual(await artifacts.put(LARGE), STORED);
    assert.equal(closedCount(), 1);
    assert.match(byRegistry.join(), /^PATCH \/uploads\/[0-9a-f]{32}$/);
    const attempts = sentParts().length;
    const next = bytesOf(PART_BYTES);
    await artifacts.put(next);
    assert.equal(sentParts().length, attempts, 'the next one does not try it again');
    for (const bytes of [LARGE, next]) assert.ok((await artifacts.read(sha256Of(bytes))).equals(bytes));
    const blocks: Buffer[] = [];
    await artifacts.scan(SHA256, (bytes) => void blocks.push(Buffer.from(bytes)));
    assert.ok(Buffer.concat(blocks).equals(LARGE));
  });
});

/** What a worker of another program sends. */
async function ask(
  step: string,
  input: object,
  { from = server, run = claimed, sha256 = SHA256 }: { from?: TestServer; run?: ClaimedRun; sha256?: string } = {},
): Promise<{ readonly status: number; readonly answer: unknown }> {
  const response = await fetch(`${from.url}/worker/runs/${run.run.id}/artifacts/${sha256}/direct/${step}`, {
    method: 'POST',
    headers: { authorization: `Bearer ${run.token}`, 'content-type': 'application/json' },
    body: JSON.stringify(input),
  });
  return { status: response.status, answer: await response.json() };
}

async function begin(bytes: Uint8Array): Promise<string> {
  const { answer } = await ask('begin', { byteSize: bytes.length });
  const begun = directUploadAnswerSchema.parse(answer);
  assert.ok(begun !== null);
  assert.deepEqual([begun.partBytes, begun.check], [PART_BYTES, 'CRC32']);
  return begun.uploadId;
}

/** @returns the response of the bucket. */
async function sendPart(uploadId: string, partNumber: number, bytes: Uint8Array): Promise<Response> {
  const { answer } = await ask('sign', { uploadId, partNumber, checksum: checksumOf(bytes, 'CRC32') });
  const { url, headers } = signedPartSchema.parse(answer);
  return fetch(url, { method: 'PUT', headers, body: new Uint8Array(bytes) });
}

async function sendParts(uploadId: string, bytes: Uint8Array): Promise<string[]> {
  const etags: string[] = [];
  for (let first = 0; first < bytes.length; first += PART_BYTES) {
    const response = await sendPart(uploadId, etags.length + 1, bytes.subarray(first, first + PART_BYTES));
    assert.equal(response.status, 200);
    etags.push(response.headers.get('etag') ?? '');
  }
  return etags;
}

const outcome = ({ status, answer }: { readonly status: number; readonly answer: unknown }): unknown[] => [
  status,
  at(answer, 'code'),
];

describe('an upload to the bucket', () => {
  test('with other bytes than named is not stored, under neither name, and is removed', async () => {
    const wrong = Buffer.from(LARGE);
    wrong[3 * MIB] = 1;
    const uploadId = await begin(wrong);
    const etags = await sendParts(uploadId, wrong);
    const refused = await ask('complete', { uploadId, etags, byteSize: LARGE.length });
    assert.deepEqual(outcome(refused), [400, 'DIGEST_MISMATCH']);
    assert.deepEqual(
      (await keys()).filter((name) => !name.startsWith('probe/')),
      [],
    );
    const again = await ask('complete', { uploadId, etags, byteSize: LARGE.length });
    assert.deepEqual(outcome(again), [404, 'UPLOAD_NOT_FOUND']);
  });

  test('with a part missing, or one that never arrived, is not completed, and can be completed afterwards', async () => {
    const uploadId = await begin(LARGE);
    const [first = '', second = ''] = await sendParts(uploadId, LARGE.subarray(0, 2 * PART_BYTES));
    for (const etags of [
      [first, second],
      [first, second, '"0123456789abcdef0123456789abcdef"'],
      [second, first, first],
    ])
      assert.deepEqual(outcome(await ask('complete', { uploadId, etags, byteSize: LARGE.length })), [
        400,
        'UPLOAD_INCOMPLETE',
      ]);
    assert.ok(!(await keys()).includes(nameOf(SHA256)));
    const third = await sendPart(uploadId, 3, LARGE.subarray(2 * PART_BYTES));
    const etags = [first, second, third.headers.get('etag')];
    assert.deepEqual(await ask('complete', { uploadId, etags, byteSize: LARGE.length }), {
      status: 200,
      answer: STORED,
    });
  });

  test('may be completed at another server of the registry, and twice, at once or after its answer was lost', async (context) => {
    const uploadId = await begin(LARGE);
    const etags = await sendParts(uploadId, LARGE);
    const other = await startServer(true);
    context.after(() => other.close());
    const complete = () => ask('complete', { uploadId, etags, byteSize: LARGE.length }, { from: other });
    for (const answered of [...(await Promise.all([complete(), complete()])), await complete()])
      assert.deepEqual(answered, { status: 200, answer: STORED });
    assert.ok((await openS3Store(place).read(SHA256)).equals(LARGE));
  });

  test('is nothing to the token of another run', async () => {
    const other = await claimIdleImport(database, server);
    const uploadId = await begin(LARGE);
    await sendParts(uploadId, LARGE);
    const etags = ['"1"', '"2"', '"3"'];
    const foreign = await ask('complete', { uploadId, etags, byteSize: LARGE.length }, { run: other });
    assert.ok(foreign.status >= 400, JSON.stringify(foreign.answer));
    assert.ok(!(await keys()).includes(nameOf(SHA256)));
  });

  test('refuses a step, an id, a size and a part that do not exist', async () => {
    const uploadId = await begin(LARGE);
    for (const [step, input, expected] of [
      ['begin', { byteSize: 0 }, [400, 'BAD_INPUT']],
      ['begin', { byteSize: 100_000 * PART_BYTES }, [413, 'FILE_TOO_LARGE']],
      ['sign', { uploadId, partNumber: 0, checksum: '' }, [400, 'BAD_INPUT']],
      ['sign', { uploadId, partNumber: 10_001, checksum: '' }, [400, 'BAD_INPUT']],
      ['sign', { uploadId: '../../store-id', partNumber: 1, checksum: '' }, [404, 'UPLOAD_NOT_FOUND']],
      ['complete', { uploadId, etags: [], byteSize: 1 }, [400, 'BAD_INPUT']],
      ['complete', { uploadId: 'x', etags: ['"1"'], byteSize: 1 }, [404, 'UPLOAD_NOT_FOUND']],
      ['end', {}, [404, 'NOT_FOUND']],
    ] as const)
      assert.deepEqual(outcome(await ask(step, input)), expected, `${step} ${JSON.stringify(input)}`);
  });

  test('of a worker that disappeared is removed with its lease, and that of a living one stays', async () => {
    const [lost, alive] = [claimed, await claimIdleImport(database, server)];
    const ledger = createLedger(database.db, database.transact);
    const ids: string[] = [];
    for (const run of [lost, alive]) {
      claimed = run;
      const uploadId = await begin(LARGE);
      await sendParts(uploadId, LARGE.subarray(0, PART_BYTES));
      ids.push(uploadId);
    }
    const joined = await begin(LARGE.subarray(0, PART_BYTES));
    await ledger.release(lost.lease, 'Its worker disappeared.');
    const { uploads } = server;
    await removeUploadsOfLostRuns({ uploads, store: openS3Store(place), ledger });
    const writers = new Set((await keys()).filter((name) => name.startsWith('tmp/')).map((name) => name.split('/')[1]));
    assert.deepEqual([...writers], [`run-${alive.run.id}-${alive.lease.epoch}`]);
    claimed = lost;
    const refused = await ask('sign', { uploadId: ids[0], partNumber: 2, checksum: '' });
    assert.equal(at(refused.answer, 'code'), 'LEASE_LOST');
    claimed = alive;
    assert.equal((await sendPart(ids[1] ?? '', 2, LARGE.subarray(PART_BYTES, 2 * PART_BYTES))).status, 200);
    assert.equal((await sendPart(joined, 1, LARGE.subarray(0, PART_BYTES))).status, 200);
  });
});
