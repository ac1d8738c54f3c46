/** A registry whose bytes are in a bucket: moved there and back, checked, backed up, restored, and downloaded. */
import assert from 'node:assert/strict';
import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { createHash, randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, afterEach, before, beforeEach, describe, test } from 'node:test';
import { promisify } from 'node:util';
import { childEnvironment } from '../../src/env.ts';
import { adoptArtifactStore, claimArtifactStore, requireArtifactStore } from '../../src/modules/artifacts/index.ts';
import {
  openArtifactStore,
  openS3Store,
  verifyArtifact,
  type LocalArtifactStore,
  type S3Place,
} from '../../src/platform/artifact-store/index.ts';
import { nameOf, useS3 } from '../support/artifact-stage.ts';
import { at } from '../support/catalogue.ts';
import { claimIdleImport } from '../support/claimed-run.ts';
import { openTestDatabase, type TestDatabase } from '../support/database.ts';
import { eventually } from '../support/eventually.ts';
import { keysBelow, putRaw } from '../support/s3-server.ts';
import { startTestServer, type TestServer } from '../support/server.ts';

const run = promisify(execFile);
const ROOT = path.resolve(import.meta.dirname, '../..');
/** Of which one is larger than a part of a multipart upload. */
const CONTENTS = ['manifest', 'shard', 'state of step 7'].map((text) => Buffer.from(text));
const LARGE = Buffer.alloc(9_000_000, 'weights');
const sha256Of = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

const s3 = useS3();
let base = '';
let database: TestDatabase;
let local: LocalArtifactStore;
let sha256s: string[] = [];

before(async () => {
  database = await openTestDatabase();
});
after(() => database.close());
beforeEach(async () => {
  base = await mkdtemp(path.join(tmpdir(), 'paraffin-bucket-'));
  await database.db.artifactStoreIdentity.deleteMany();
  await database.db.artifact.deleteMany();
  local = openArtifactStore(path.join(base, 'data', 'artifacts'));
  sha256s = [];
  for (const bytes of [...CONTENTS, LARGE]) {
    const { sha256, byteSize } = await local.put(bytes);
    await database.db.artifact.create({ data: { sha256, byteSize, mediaType: 'text/plain' } });
    sha256s.push(sha256);
  }
  await claimArtifactStore({ db: database.db, store: local });
});
afterEach(async () => {
  s3().proxy.fault = () => undefined;
  await rm(base, { recursive: true, force: true });
});

const urlOf = ({ bucket, prefix }: S3Place): string => `s3://${bucket}/${prefix}`;
const newPlace = (): S3Place => s3().server.newPlace(s3().proxy.endpoint);

interface Ended {
  readonly code: number;
  readonly stdout: string;
  /** Standard output and standard error. */
  readonly output: string;
}

/** A command of the registry, whose bytes are in a bucket if one is given. */
async function paraffin(place: S3Place | undefined, ...args: string[]): Promise<Ended> {
  return program(
    {
      PARAFFIN_DATABASE_URL: database.url,
      PARAFFIN_DATA_DIR: path.join(base, 'data'),
      ...(place === undefined ? {} : { PARAFFIN_ARTIFACTS_URL: urlOf(place) }),
    },
    ...args,
  );
}

const inProxiedBucket = (env: Readonly<Record<string, string>>): Record<string, string> =>
  childEnvironment({ PARAFFIN_S3_ENDPOINT: s3().proxy.endpoint, PARAFFIN_S3_REGION: 'us-east-1', ...env });

const start = (env: Readonly<Record<string, string>>, ...args: string[]): ChildProcess =>
  spawn(process.execPath, ['src/cli/main.ts', ...args], { cwd: ROOT, env: inProxiedBucket(env), stdio: 'ignore' });

async function program(env: Readonly<Record<string, string>>, ...args: string[]): Promise<Ended> {
  return run(process.execPath, ['src/cli/main.ts', ...args], { cwd: ROOT, env: inProxiedBucket(env) }).then(
    ({ stdout, stderr }) => ({ code: 0, stdout, output: `${stdout}${stderr}` }),
    (error: Error & { code?: number; stdout?: string; stderr?: string }) => ({
      code: error.code ?? 1,
      stdout: error.stdout ?? '',
      output: `${error.stdout ?? ''}${error.stderr ?? ''}`,
    }),
  );
}

/** Moves the registry into a new bucket. */
async function moved(): Promise<S3Place> {
  const place = newPlace();
  const { code, output } = await paraffin(undefined, 'artifacts', 'copy', '--to', urlOf(place));
  assert.equal(code, 0, output);
  return place;
}

const artifactNames = async (place: S3Place): Promise<string[]> =>
  (await keysBelow(s3().server, place.prefix)).filter((name) => name.startsWith('sha256/')).sort();

describe('artifacts copy', () => {
  test('moves a registry into a bucket and back, every byte verified, and gives both its identity', async () => {
    const place = await moved();
    assert.deepEqual(await artifactNames(place), sha256s.map(nameOf).sort());
    const bucket = openS3Store(place);
    await requireArtifactStore({ db: database.db, store: bucket });
    for (const sha256 of sha256s) await verifyArtifact(bucket, sha256);
    const folder = path.join(base, 'back', 'artifacts');
    const { code, stdout, output } = await paraffin(place, 'artifacts', 'copy', '--to', folder, '--json');
    assert.equal(code, 0, output);
    assert.deepEqual(at(JSON.parse(stdout), 'copied.count'), 4);
    const back = openArtifactStore(folder);
    for (const sha256 of sha256s) await verifyArtifact(back, sha256);
    await requireArtifactStore({ db: database.db, store: back });
  });

  test('continues after an interruption, and copies nothing twice', async () => {
    const place = newPlace();
    const large = nameOf(sha256Of(LARGE));
    // The bucket is out of reach from the moment at which the large artifact would be published.
    let isDown = false;
    s3().proxy.fault = ({ method, path: key, query, headers }) => {
      const isPublished = headers['x-amz-copy-source'] !== undefined || (method === 'POST' && query.has('uploadId'));
      if (isPublished && key.endsWith(large)) isDown = true;
      return isDown ? { kind: 'ERROR', status: 503, code: 'SlowDown' } : undefined;
    };
    const broken = await paraffin(undefined, 'artifacts', 'copy', '--to', urlOf(place));
    assert.notEqual(broken.code, 0);
    assert.match(broken.output, /did not answer/);
    s3().proxy.fault = () => undefined;
    const before = await artifactNames(place);
    assert.ok(before.length > 0 && !before.includes(large), 'the large one is not there, not even in part');
    const again = await paraffin(undefined, 'artifacts', 'copy', '--to', urlOf(place), '--json');
    assert.equal(again.code, 0, again.output);
    const report: unknown = JSON.parse(again.stdout);
    assert.deepEqual([at(report, 'present.count'), at(report, 'copied.count')], [before.length, 4 - before.length]);
    assert.deepEqual(await artifactNames(place), sha256s.map(nameOf).sort());
  });

  test('reports damage, and copies the rest', async () => {
    const place = newPlace();
    const [damaged = '', missing = '', ...rest] = sha256s;
    await writeFile(local.pathOf(damaged), 'MANIFEST');
    await rm(local.pathOf(missing));
    const { code, stdout, output } = await paraffin(undefined, 'artifacts', 'copy', '--to', urlOf(place), '--json');
    assert.equal(code, 3, output);
    assert.deepEqual(at(JSON.parse(stdout), 'damaged'), [damaged, missing].sort());
    assert.deepEqual(await artifactNames(place), rest.map(nameOf).sort());
  });

  test('refuses the bucket of another registry, the store itself, and what is not an address', async () => {
    const place = newPlace();
    await putRaw(s3().server, `${place.prefix}/store-id`, Buffer.from(`${randomUUID()}\n`));
    for (const [target, words] of [
      [urlOf(place), /is not the artifact store of this registry/],
      [path.join(base, 'data', 'artifacts'), /are in .* already/],
      ['s3://UPPER', /is not the address of a bucket/],
      ['s3://no-such-bucket/x', /The bucket no-such-bucket does not exist/],
    ] as const) {
      const { code, output } = await paraffin(undefined, 'artifacts', 'copy', '--to', target);
      assert.notEqual(code, 0);
      assert.match(output, words);
    }
    assert.deepEqual(await artifactNames(place), []);
  });
});

describe('a registry in a bucket', () => {
  test('belongs to one registry: the second one that claims its prefix is refused', async () => {
    const store = openS3Store(await moved());
    await claimArtifactStore({ db: database.db, store });
    await database.db.artifactStoreIdentity.deleteMany();
    await database.db.artifactStoreIdentity.create({ data: { storeId: randomUUID() } });
    for (const claim of [claimArtifactStore, requireArtifactStore, adoptArtifactStore])
      await assert.rejects(claim({ db: database.db, store }), { code: 'CONFLICT', field: 'PARAFFIN_ARTIFACTS_URL' });
  });

  test('that another server claims at the same moment belongs to the other server', async () => {
    const place = newPlace();
    const other = randomUUID();
    // A store that keeps what exists; the other server writes its identity between our look and our claim.
    let hasClaimed = false;
    s3().proxy.fault = async ({ method, path: key, headers }) => {
      if (method !== 'PUT' || headers['if-none-match'] !== '*') return undefined;
      if (key.endsWith('/store-id')) {
        hasClaimed = true;
        await putRaw(s3().server, `${place.prefix}/store-id`, Buffer.from(`${other}\n`));
      }
      return { kind: 'ERROR', status: 412, code: 'PreconditionFailed' };
    };
    const store = openS3Store(place);
    await database.db.artifact.deleteMany();
    await assert.rejects(claimArtifactStore({ db: database.db, store }), {
      code: 'CONFLICT',
      field: 'PARAFFIN_ARTIFACTS_URL',
    });
    assert.ok(hasClaimed);
    assert.equal(await store.upkeep.readIdentity(), other);
  });

  test('is checked and cleaned by the same commands', async () => {
    const place = await moved();
    const [damaged = ''] = sha256s;
    await putRaw(s3().server, `${place.prefix}/${nameOf(damaged)}`, Buffer.from('MANIFEST'));
    const fsck = await paraffin(place, 'fsck', '--json');
    assert.equal(fsck.code, 3, fsck.output);
    const report: unknown = JSON.parse(fsck.stdout);
    assert.deepEqual(at(report, 'checked.count'), 4);
    assert.deepEqual(at(report, 'damaged.0.damage'), 'CORRUPT');
    assert.deepEqual(at(report, 'quarantined'), { count: 1, byteSize: 8 });
    await database.db.artifact.updateMany({ data: { recordedAt: new Date('2020-01-01T00:00:00Z') } });
    for (const sha256 of sha256s)
      s3().proxy.setWrittenAt(`${place.bucket}/${place.prefix}/${nameOf(sha256)}`, new Date('2020-01-01T00:00:00Z'));
    const gc = await paraffin(place, 'gc');
    assert.equal(gc.code, 0, gc.output);
    assert.deepEqual(await artifactNames(place), [], 'no object of this registry refers to them');
  });

  test('is backed up, and restored into another bucket; one that is not empty is refused', async () => {
    const place = await moved();
    const file = path.join(base, 'registry.tar');
    const backup = await paraffin(place, 'backup', file);
    assert.equal(backup.code, 0, backup.output);
    const target = newPlace();
    const into = (to: S3Place, name: string, from = file): Promise<Ended> =>
      program(
        { PARAFFIN_DATABASE_URL: '', PARAFFIN_ARTIFACTS_URL: urlOf(to) },
        ...['restore', from, '--data-dir', path.join(base, name)],
      );
    const restored = await into(target, 'restored');
    assert.equal(restored.code, 0, restored.output);
    assert.deepEqual(await artifactNames(target), sha256s.map(nameOf).sort());
    for (const sha256 of sha256s) await verifyArtifact(openS3Store(target), sha256);
    assert.ok(!(await readdir(path.join(base, 'restored'))).includes('artifacts'), 'the bytes are in the bucket only');

    const refused = await into(target, 'refused');
    assert.match(refused.output, /is not empty/);
    assert.deepEqual(await artifactNames(target), sha256s.map(nameOf).sort(), 'and keeps what it holds');
  });

  test('whose restore was killed is restored by the same command, which finds what the killed one left', async () => {
    const place = await moved();
    const file = path.join(base, 'registry.tar');
    const backup = await paraffin(place, 'backup', file);
    assert.equal(backup.code, 0, backup.output);
    const target = newPlace();
    const args = ['restore', file, '--data-dir', path.join(base, 'restored')];
    const env = { PARAFFIN_DATABASE_URL: '', PARAFFIN_ARTIFACTS_URL: urlOf(target) };
    // Nothing answers from the second part of the large artifact on.
    const isStuck = new Promise<void>((resolve) => {
      s3().proxy.fault = ({ query }) => {
        if (query.get('partNumber') !== '2') return undefined;
        resolve();
        return { kind: 'SILENCE' };
      };
    });
    const killed = start(env, ...args);
    const ended = once(killed, 'exit');
    await isStuck;
    killed.kill('SIGKILL');
    await ended;
    s3().proxy.fault = () => undefined;
    const left = await keysBelow(s3().server, target.prefix);
    assert.ok(left.includes('restoring') && !left.includes('store-id'), left.join(' '));
    assert.ok(left.some((name) => name.startsWith('tmp/restore/')));

    // A process of its own stops the PostgreSQL of the killed one, and empties the folder.
    await eventually(
      'the folder to be empty',
      async () => ((await readdir(path.join(base, 'restored'))).length === 0 ? true : undefined),
      60_000,
    );
    const again = await program(env, ...args);
    assert.equal(again.code, 0, again.output);
    assert.deepEqual(
      (await keysBelow(s3().server, target.prefix)).sort(),
      [...sha256s.map(nameOf), 'store-id'].sort(),
      'no mark, and nothing unfinished',
    );
    for (const sha256 of sha256s) await verifyArtifact(openS3Store(target), sha256);
  });
});

describe('a download from a bucket', () => {
  let server: TestServer;
  let streaming: TestServer;
  let place: S3Place;

  before(async () => {
    place = newPlace();
    const store = openS3Store(place);
    await store.put(LARGE);
    server = await startTestServer(database, { artifacts: store, redirectDownloads: true });
    streaming = await startTestServer(database, { artifacts: store });
  });
  after(async () => {
    await server.close();
    await streaming.close();
  });

  const get = (
    from: TestServer,
    headers: Readonly<Record<string, string>> = {},
    others: RequestInit = {},
    bytes: Uint8Array = LARGE,
  ): Promise<Response> => fetch(`${from.url}/artifacts/${sha256Of(bytes)}`, { headers, ...others });
  const digest = `sha-256=:${createHash('sha256').update(LARGE).digest('base64')}:`;
  const etag = `"${sha256Of(LARGE)}"`;

  test('passes through the server by default, whole and in parts, with ETag and Repr-Digest', async () => {
    const whole = await get(streaming);
    assert.deepEqual([whole.status, whole.redirected], [200, false]);
    assert.deepEqual([whole.headers.get('etag'), whole.headers.get('repr-digest')], [etag, digest]);
    assert.ok(Buffer.from(await whole.arrayBuffer()).equals(LARGE));
    const part = await get(streaming, { range: 'bytes=8388600-8388619', 'if-range': etag });
    assert.equal(part.status, 206);
    assert.ok(Buffer.from(await part.arrayBuffer()).equals(LARGE.subarray(8_388_600, 8_388_620)));
  });

  test('is redirected to the bucket when this is set, with the same bytes, range, type and digest', async () => {
    const first = await get(server, {}, { redirect: 'manual' });
    assert.equal(first.status, 302);
    assert.deepEqual([first.headers.get('etag'), first.headers.get('repr-digest')], [etag, digest]);
    assert.equal(first.headers.get('cache-control'), 'private, no-store');
    assert.ok(first.headers.get('location')?.startsWith(`${s3().proxy.endpoint}/${place.bucket}/`));
    const whole = await get(server);
    assert.deepEqual([whole.status, whole.redirected], [200, true]);
    assert.ok(Buffer.from(await whole.arrayBuffer()).equals(LARGE));
    const part = await get(server, { range: 'bytes=100-199' });
    assert.deepEqual([part.status, part.headers.get('content-range')], [206, `bytes 100-199/${LARGE.length}`]);
    assert.ok(Buffer.from(await part.arrayBuffer()).equals(LARGE.subarray(100, 200)));
  });

  test('of a worker passes through the server too, which it can always reach, unless this is set', async () => {
    const { run: claimed, token } = await claimIdleImport(database, server);
    const read = async (from: TestServer): Promise<Response> =>
      fetch(`${from.url}/worker/runs/${claimed.id}/artifacts/${sha256Of(LARGE)}`, {
        headers: { authorization: `Bearer ${token}` },
      });
    for (const [from, isRedirected] of [
      [streaming, false],
      [server, true],
    ] as const) {
      const response = await read(from);
      assert.deepEqual([response.status, response.redirected], [200, isRedirected]);
      assert.ok(Buffer.from(await response.arrayBuffer()).equals(LARGE));
    }
  });

  test('is never redirected where the store would decide by its own ETag, or there is nothing to save', async () => {
    const same = async (headers: Readonly<Record<string, string>>, others: RequestInit = {}): Promise<void> => {
      const [here, there] = await Promise.all([get(server, headers, others), get(streaming, headers, others)]);
      assert.equal(here.redirected, false);
      assert.equal(here.status, there.status);
      for (const name of ['etag', 'repr-digest', 'content-range', 'content-length'])
        assert.equal(here.headers.get(name), there.headers.get(name), name);
      // An error names the request that it answers.
      if (here.ok) assert.deepEqual(await here.arrayBuffer(), await there.arrayBuffer());
    };
    await same({ 'if-none-match': etag });
    await same({ 'if-match': etag });
    await same({ 'if-match': '"other"' });
    await same({ range: 'bytes=5-9', 'if-range': etag });
    await same({ range: 'bytes=5-9', 'if-range': '"other"' });
    await same({ range: `bytes=${LARGE.length}-` });
    await same({}, { method: 'HEAD' });
  });

  test('of a damaged object ends early when the server sends it, and never looks whole', async () => {
    const key = `${place.prefix}/${nameOf(sha256Of(LARGE))}`;
    await putRaw(s3().server, key, Buffer.alloc(LARGE.length, 'WEIGHTS'));
    await assert.rejects(get(streaming).then((response) => response.arrayBuffer()));
    await putRaw(s3().server, key, Buffer.from('cut short'));
    const short = await get(streaming);
    assert.equal(short.status, 500);
    assert.match(await short.text(), /ARTIFACT_CORRUPT/);
  });
});
