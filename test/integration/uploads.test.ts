/**
 * Uploads by the tus protocol over real HTTP: a complete upload becomes a checkpoint exactly once, an incomplete one
 * never.
 */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, openAsBlob } from 'node:fs';
import { mkdir, mkdtemp, readdir, rename, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { request as httpRequest, type ClientRequest } from 'node:http';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, afterEach, before, describe, test } from 'node:test';
import { upload as uploadByCommandLine } from '../../src/cli/client/bytes.ts';
import { openRegistry } from '../../src/cli/client/connection.ts';
import { DomainError } from '../../src/errors.ts';
import { readSafetensors, writeSafetensors } from '../../src/formats/safetensors.ts';
import type { AccessRole } from '../../src/modules/access/index.ts';
import { clearUploads, openUploadStore } from '../../src/platform/upload-store.ts';
import { at } from '../support/catalogue.ts';
import { openTestDatabase, type TestDatabase } from '../support/database.ts';
import { lightningFile, someEncoder } from '../support/encoder-files.ts';
import { eventually } from '../support/eventually.ts';
import { ADMIN } from '../support/registry.ts';
import { startTestServer, type TestServer } from '../support/server.ts';
import { startTcpProxy } from '../support/tcp-proxy.ts';

const CONTRACT = { imageSizePx: 64, channelMean: [0.5, 0.5, 0.5], channelStd: [0.5, 0.5, 0.5] };
const IMPORT = `mutation($input: ImportCheckpointInput!) { importCheckpoint(input: $input) {
  checkpoint { id version encoder sha256 model { slug } importedFrom { url fileName byteSize sha256 contents { format inertGlobals } } }
  userErrors { code field message hint }
} }`;

let database: TestDatabase;
let server: TestServer;
/** Keys by role; `other` is a CONTRIBUTOR, too. */
const keys: Record<'contributor' | 'other' | 'reader', string> = { contributor: '', other: '', reader: '' };
const weights = someEncoder('RESNET18');
const FILE = lightningFile(weights, 'model.resnet.');
const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');
const SHA256 = sha256(FILE);
/** Bytes that are not a checkpoint, for tests of the upload only. */
const BYTES = Buffer.from(Uint8Array.from({ length: 4_000_000 }, (_, index) => (index * 31) % 251));
const FOREIGN = Buffer.from(
  writeSafetensors([{ name: 'transformer.weight', shape: [1], dtype: 'F32', data: new Float32Array(1) }]),
);

async function makeKey(role: AccessRole): Promise<string> {
  return (await server.access.createKey(ADMIN, { name: role.toLowerCase(), owner: 'Ada', role })).secret;
}

before(async () => {
  database = await openTestDatabase();
  server = await startTestServer(database);
  keys.contributor = await makeKey('CONTRIBUTOR');
  keys.other = (await server.access.createKey(ADMIN, { name: 'other', owner: 'Grace', role: 'CONTRIBUTOR' })).secret;
  keys.reader = await makeKey('READER');
});
afterEach(async () => {
  // A failed test must not make the following ones fail.
  for (const name of await uploadsLeft()) await rm(path.join(server.folder, 'uploads', name), { force: true });
});
after(async () => {
  await server.close();
  await database.close();
});

const base64 = (text: string): string => Buffer.from(text).toString('base64');

function ask(
  method: string,
  address: string,
  headers: Readonly<Record<string, string>> = {},
  body?: Uint8Array<ArrayBuffer>,
  key = keys.contributor,
): Promise<Response> {
  const sent = { 'tus-resumable': '1.0.0', ...(key === '' ? {} : { authorization: `Bearer ${key}` }), ...headers };
  return fetch(new URL(address, server.url), { method, headers: sent, ...(body === undefined ? {} : { body }) });
}

/** A request that is to append all of BYTES; its body is not sent yet. */
function beginPatch(address: string): ClientRequest {
  return httpRequest(new URL(address, server.url), {
    method: 'PATCH',
    headers: {
      authorization: `Bearer ${keys.contributor}`,
      'tus-resumable': '1.0.0',
      'upload-offset': '0',
      'content-type': 'application/offset+octet-stream',
      'content-length': BYTES.length,
    },
  });
}

async function begin(byteSize: number, metadata: Readonly<Record<string, string>> = {}, key?: string): Promise<string> {
  const pairs = Object.entries(metadata)
    .map(([name, value]) => `${name} ${base64(value)}`)
    .join(',');
  const response = await ask(
    'POST',
    '/uploads',
    { 'upload-length': String(byteSize), ...(pairs === '' ? {} : { 'upload-metadata': pairs }) },
    undefined,
    key,
  );
  assert.equal(response.status, 201, await response.text());
  const location = response.headers.get('location') ?? '';
  assert.match(location, /^\/uploads\/[0-9a-f]{32}$/, 'a name of the server, on no host that a client could make up');
  assert.ok(Date.parse(response.headers.get('upload-expires') ?? '') > Date.now());
  return location;
}

const send = (address: string, offset: number, bytes: Uint8Array, key?: string): Promise<Response> =>
  ask(
    'PATCH',
    address,
    { 'upload-offset': String(offset), 'content-type': 'application/offset+octet-stream' },
    new Uint8Array(bytes),
    key,
  );

async function offsetOf(address: string): Promise<number> {
  const response = await ask('HEAD', address);
  assert.equal(response.status, 200);
  return Number(response.headers.get('upload-offset'));
}

async function upload(bytes: Uint8Array, metadata?: Readonly<Record<string, string>>, key?: string): Promise<string> {
  const address = await begin(bytes.length, metadata, key);
  assert.equal((await send(address, 0, bytes, key)).status, 204);
  return address;
}

const idOf = (address: string): string => address.slice('/uploads/'.length);

async function answerTo(input: object, key = keys.contributor): Promise<unknown> {
  const response = await fetch(`${server.url}/graphql`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', authorization: `Bearer ${key}` },
    body: JSON.stringify({
      query: IMPORT,
      variables: { input: { modelSlug: 'uploaded', inputContract: CONTRACT, ...input } },
    }),
  });
  return response.json();
}

async function importUpload(input: object, key?: string): Promise<unknown> {
  const answer = await answerTo(input, key);
  assert.equal(at(answer, 'errors'), undefined, JSON.stringify(answer));
  return at(answer, 'data.importCheckpoint');
}

/** Code and field of an error, from the mutation or from the validation of its input. */
async function faultOf(input: object, key?: string): Promise<unknown[]> {
  const answer = await answerTo(input, key);
  const refused = at(answer, 'errors.0.extensions');
  if (refused !== undefined) return [at(refused, 'code'), at(refused, 'field')];
  assert.equal(at(answer, 'data.importCheckpoint.checkpoint'), null, JSON.stringify(answer));
  return ['code', 'field'].map((name) => at(answer, `data.importCheckpoint.userErrors.0.${name}`));
}

const uploadsLeft = async (): Promise<string[]> =>
  (await readdir(path.join(server.folder, 'uploads'), { recursive: true })).filter((name) => name !== 'consumed');

describe('an upload', () => {
  test('arrives in pieces, becomes a checkpoint once, and is removed', async () => {
    const address = await begin(FILE.length, { filename: 'tenpercent.ckpt', sha256: SHA256 });
    const half = Math.floor(FILE.length / 2);
    const first = await send(address, 0, FILE.subarray(0, half));
    assert.deepEqual([first.status, first.headers.get('upload-offset')], [204, String(half)]);
    assert.deepEqual(
      await faultOf({ uploadId: idOf(address) }),
      ['UPLOAD_INCOMPLETE', 'input.uploadId'],
      'half of it is not a checkpoint',
    );
    assert.equal(await offsetOf(address), half, 'and it is still there to continue with');
    assert.equal((await send(address, half, FILE.subarray(half))).status, 204);

    const answer = await importUpload({ uploadId: idOf(address) });
    assert.deepEqual(at(answer, 'userErrors'), [], JSON.stringify(answer));
    assert.deepEqual(at(answer, 'checkpoint.importedFrom'), {
      url: null,
      fileName: 'tenpercent.ckpt',
      byteSize: FILE.length,
      sha256: SHA256,
      contents: { format: 'TORCH_ZIP', inertGlobals: ['posix.system'] },
    });
    const stored = await fetch(`${server.url}/checkpoints/${String(at(answer, 'checkpoint.id'))}/download`);
    const { tensors } = readSafetensors(Buffer.from(await stored.arrayBuffer()));
    for (const { name, data } of weights)
      assert.deepEqual(tensors.find((tensor) => tensor.name === name)?.data, data, name);

    assert.deepEqual(await faultOf({ uploadId: idOf(address) }), ['UPLOAD_NOT_FOUND', 'input.uploadId']);
    assert.equal((await ask('HEAD', address)).status, 404);
    assert.deepEqual(await uploadsLeft(), []);
  });

  test('with another sha256 than announced is discarded, and nothing of it is imported', async () => {
    const before = await database.db.checkpoint.count();
    for (const [metadata, input] of [
      [{ sha256: '0'.repeat(64) }, {}],
      [{}, { sha256: '0'.repeat(64) }],
    ] as const) {
      const address = await upload(BYTES, metadata);
      assert.deepEqual(await faultOf({ uploadId: idOf(address), ...input }), ['DIGEST_MISMATCH', 'input.uploadId']);
      assert.equal((await ask('HEAD', address)).status, 404);
    }
    assert.equal(await database.db.checkpoint.count(), before);
    assert.deepEqual(await uploadsLeft(), []);
  });

  test('is not imported without a sha256, or with two different ones, and stays for a corrected request', async () => {
    const address = await upload(FOREIGN);
    assert.deepEqual(await faultOf({ uploadId: idOf(address) }), ['BAD_INPUT', 'input.sha256']);
    assert.deepEqual(await faultOf({ uploadId: idOf(address), sha256: sha256(FOREIGN), path: '/x' }), [
      'BAD_INPUT',
      'input.uploadId',
    ]);
    assert.deepEqual(await faultOf({ uploadId: idOf(address), sha256: sha256(FOREIGN) }), [
      'CHECKPOINT_KEYS_MISMATCH',
      'input.uploadId',
    ]);
    assert.equal(await offsetOf(address), FOREIGN.length);
    const other = await upload(FOREIGN, { sha256: sha256(FOREIGN) });
    assert.deepEqual(await faultOf({ uploadId: idOf(other), sha256: '0'.repeat(64) }), ['BAD_INPUT', 'input.sha256']);
    for (const each of [address, other]) assert.equal((await ask('DELETE', each)).status, 204);
    assert.deepEqual(await uploadsLeft(), []);
  });

  test('is imported by one of two simultaneous requests', async () => {
    const address = await upload(FILE, { sha256: SHA256 });
    const answers = await Promise.all(
      [1, 2].map(() => importUpload({ uploadId: idOf(address), modelSlug: 'race-of-uploads' })),
    );
    assert.deepEqual(answers.map((answer) => at(answer, 'userErrors.0.code') ?? 'taken').sort(), [
      'UPLOAD_NOT_FOUND',
      'taken',
    ]);
  });

  test('whose connection breaks keeps the received bytes, and continues from there', async () => {
    const address = await begin(BYTES.length, { sha256: sha256(BYTES) });
    const broken = beginPatch(address);
    broken.on('error', () => undefined);
    broken.write(BYTES.subarray(0, 3_000_000));
    const file = path.join(server.folder, 'uploads', idOf(address));
    await eventually('the first bytes on disk', async () => ((await stat(file)).size >= 1_000_000 ? true : undefined));
    broken.destroy();
    const offset = await offsetOf(address);
    assert.ok(offset >= 1_000_000 && offset <= 3_000_000, String(offset));
    assert.deepEqual(await faultOf({ uploadId: idOf(address) }), ['UPLOAD_INCOMPLETE', 'input.uploadId']);
    assert.equal((await send(address, offset, BYTES.subarray(offset))).status, 204);
    assert.deepEqual(
      await faultOf({ uploadId: idOf(address) }),
      ['FORMAT_INVALID', 'input.uploadId'],
      'the bytes are the right ones, though no weights',
    );
    assert.equal((await ask('DELETE', address)).status, 204);
  });

  test('of the command line continues after each break, and after a short time without an answer', async () => {
    const file = path.join(server.folder, 'tenpercent.ckpt');
    await writeFile(file, FILE);
    const proxy = await startTcpProxy(() => Promise.resolve(Number(new URL(server.url).port)));
    try {
      proxy.resetAfter(() => 10_000_000);
      const uploading = uploadByCommandLine(
        openRegistry(`http://127.0.0.1:${proxy.port}`, keys.contributor),
        { quiet: true },
        { name: path.basename(file), blob: await openAsBlob(file) },
      );
      await eventually('a break', () => (proxy.resetCount() > 0 ? true : undefined));
      proxy.disconnect();
      await eventually('what is tried meanwhile', () => (proxy.refusedCount() > 1 ? true : undefined));
      proxy.restore();
      const { uploadId, forget } = await uploading;
      await forget();
      const answer = await importUpload({ uploadId });
      assert.equal(at(answer, 'checkpoint.importedFrom.sha256'), SHA256, JSON.stringify(answer));
    } finally {
      await proxy.close();
    }
  });

  test('that hangs in a silent network is taken over by the next request', async () => {
    const address = await begin(BYTES.length, { sha256: sha256(BYTES) });
    const hanging = beginPatch(address);
    const ended = once(hanging, 'close');
    hanging.on('error', () => undefined);
    hanging.write(BYTES.subarray(0, 1_000_000));
    const file = path.join(server.folder, 'uploads', idOf(address));
    await eventually('the first bytes on disk', async () => ((await stat(file)).size >= 500_000 ? true : undefined));
    const offset = await offsetOf(address);
    assert.equal((await send(address, offset, BYTES.subarray(offset))).status, 204);
    hanging.destroy();
    await ended;
    assert.equal(await offsetOf(address), BYTES.length);
    assert.equal((await ask('DELETE', address)).status, 204);
  });
});

describe('idempotencyKey', () => {
  test('the same input again gives the same checkpoint, although its upload was removed; another input is an error', async () => {
    const address = await upload(FILE, { sha256: SHA256 });
    const input = { uploadId: idOf(address), modelSlug: 'once', idempotencyKey: 'one import' };
    const [first, second] = await Promise.all([importUpload(input), importUpload(input)]);
    assert.deepEqual(at(first, 'userErrors'), [], JSON.stringify(first));
    assert.equal(at(second, 'checkpoint.id'), at(first, 'checkpoint.id'));
    assert.equal(at(await importUpload(input), 'checkpoint.id'), at(first, 'checkpoint.id'));
    assert.equal(await database.db.checkpoint.count({ where: { model: { slug: 'once' } } }), 1);
    assert.deepEqual(await faultOf({ ...input, modelSlug: 'twice' }), [
      'IDEMPOTENCY_KEY_REUSED',
      'input.idempotencyKey',
    ]);
    assert.equal(await database.db.model.count({ where: { slug: 'twice' } }), 0);
  });

  test('works for files too, and a failed import leaves its key unused', async () => {
    const file = path.join(server.folder, 'keyed.safetensors');
    await writeFile(file, writeSafetensors(weights));
    const input = { modelSlug: 'keyed', path: file, idempotencyKey: 'from a file' };
    assert.deepEqual(await faultOf({ ...input, sha256: '0'.repeat(64) }, server.adminKey), [
      'DIGEST_MISMATCH',
      'input.path',
    ]);
    const first = await importUpload(input, server.adminKey);
    assert.deepEqual(at(first, 'userErrors'), [], JSON.stringify(first));
    await rm(file);
    assert.equal(at(await importUpload(input, server.adminKey), 'checkpoint.id'), at(first, 'checkpoint.id'));
    const elsewhere = { ...input, idempotencyKey: 'with\u0000nul' };
    assert.deepEqual(await faultOf(elsewhere, server.adminKey), ['BAD_INPUT', 'input.idempotencyKey']);
  });
});

describe('the upload routes', () => {
  const codeOf = async (response: Response): Promise<unknown> => at(await response.json(), 'code');

  test('are closed without a key, and for a READER', async () => {
    for (const method of ['POST', 'OPTIONS'])
      assert.equal((await ask(method, '/uploads', { 'upload-length': '10' }, undefined, '')).status, 401, method);
    const response = await ask('POST', '/uploads', { 'upload-length': '10' }, undefined, keys.reader);
    assert.deepEqual([response.status, await codeOf(response)], [403, 'FORBIDDEN']);
    assert.deepEqual(await uploadsLeft(), []);
  });

  test('state what they accept', async () => {
    const response = await ask('OPTIONS', '/uploads');
    assert.equal(response.status, 204);
    assert.equal(response.headers.get('tus-version'), '1.0.0');
    assert.equal(response.headers.get('tus-max-size'), String(server.uploads.maxBytes));
    assert.equal(response.headers.get('access-control-allow-origin'), null, 'no other site may use it');
    assert.deepEqual(response.headers.get('tus-extension')?.split(',').sort(), [
      'creation',
      'creation-with-upload',
      'expiration',
      'termination',
    ]);
  });

  test('are closed to everyone but the owner, even to an ADMIN, whether or not the upload exists', async () => {
    const address = await begin(10);
    for (const key of [keys.other, server.adminKey]) {
      for (const method of ['HEAD', 'PATCH', 'DELETE', 'OPTIONS']) {
        const headers: Record<string, string> =
          method === 'PATCH' ? { 'upload-offset': '0', 'content-type': 'application/offset+octet-stream' } : {};
        const response = await ask(method, address, headers, method === 'PATCH' ? new Uint8Array(10) : undefined, key);
        assert.equal(response.status, method === 'OPTIONS' ? 204 : 404, method);
      }
      assert.deepEqual(await faultOf({ uploadId: idOf(address), sha256: SHA256 }, key), [
        'UPLOAD_NOT_FOUND',
        'input.uploadId',
      ]);
    }
    const own = await begin(10, {}, keys.other);
    const withOtherId = await send(`${own}?/${idOf(address)}`, 0, new Uint8Array(10), keys.other);
    assert.equal(withOtherId.status, 204);
    assert.equal(await offsetOf(address), 0, 'the query names no upload');
    assert.equal((await ask('DELETE', own, {}, undefined, keys.other)).status, 204);
    assert.equal((await ask('DELETE', address)).status, 204);
    assert.deepEqual(await uploadsLeft(), []);
  });

  test('never return uploaded bytes', async () => {
    const address = await upload(Buffer.from('#!/bin/sh\n'));
    for (const target of [address, '/uploads', `${address}.json`]) {
      const response = await ask('GET', target);
      assert.ok(response.status === 404 || response.status === 405, `${target}: ${response.status}`);
      assert.doesNotMatch(await response.text(), /bin/);
    }
    const { mode } = await stat(path.join(server.folder, 'uploads', idOf(address)));
    assert.equal(mode & 0o111, 0, 'nor can it be executed');
    assert.equal((await ask('DELETE', address)).status, 204);
  });

  test("never use a client's name as a path", async () => {
    const address = await begin(10, { filename: '../../../admin-key', filetype: 'text/html', ownerKeyId: 'another' });
    assert.deepEqual((await uploadsLeft()).sort(), [idOf(address), `${idOf(address)}.json`]);
    const echo = (await ask('HEAD', address)).headers.get('upload-metadata') ?? '';
    assert.match(echo, new RegExp(`filename ${base64('.._.._.._admin-key')}`));
    assert.doesNotMatch(echo, /filetype/);
    for (const name of [
      '..%2f..%2fadmin-key',
      'A'.repeat(32),
      `${idOf(address)}.json`,
      `${idOf(address)}%00`,
      'consumed',
    ]) {
      for (const method of ['HEAD', 'DELETE'])
        assert.ok([400, 404].includes((await ask(method, `/uploads/${name}`)).status), `${method} ${name}`);
      assert.deepEqual(await faultOf({ uploadId: decodeURIComponent(name).slice(0, 100), sha256: SHA256 }), [
        name.endsWith('%00') ? 'BAD_INPUT' : 'UPLOAD_NOT_FOUND',
        'input.uploadId',
      ]);
    }
    assert.ok(existsSync(path.join(server.folder, 'admin-key')));
    assert.equal((await ask('DELETE', address)).status, 204);
  });

  const wrong: readonly (readonly [string, Readonly<Record<string, string>>, number, string | undefined])[] = [
    ['a file over the cap', { 'upload-length': '200000001' }, 413, 'FILE_TOO_LARGE'],
    ['nothing', { 'upload-length': '0' }, 400, 'BAD_INPUT'],
    ['no length', {}, 400, undefined],
    ['a length to be given later', { 'upload-defer-length': '1' }, 501, undefined],
    ['a length below zero', { 'upload-length': '-5' }, 400, undefined],
    ['pieces to be joined', { 'upload-length': '5', 'upload-concat': 'partial' }, 501, undefined],
    ['invalid metadata', { 'upload-length': '5', 'upload-metadata': 'a b c' }, 400, 'BAD_INPUT'],
    ['an invalid sha256', { 'upload-length': '5', 'upload-metadata': `sha256 ${base64('abc')}` }, 400, 'BAD_INPUT'],
    ['another version of the protocol', { 'upload-length': '5', 'tus-resumable': '0.2.2' }, 400, undefined],
  ];
  for (const [what, headers, status, code] of wrong) {
    test(`refuse at creation: ${what}`, async () => {
      const response = await ask('POST', '/uploads', headers);
      assert.equal(response.status, status);
      if (code !== undefined) assert.equal(await codeOf(response), code);
      assert.deepEqual(await uploadsLeft(), []);
    });
  }

  test('accept no byte beyond the announced size, and none at another offset', async () => {
    const address = await begin(10);
    assert.equal((await send(address, 3, new Uint8Array(3))).status, 409);
    assert.equal((await send(address, 0, new Uint8Array(11))).status, 413);
    assert.equal(
      (await ask('PATCH', address, { 'upload-offset': '0', 'content-type': 'text/plain' }, new Uint8Array(3))).status,
      400,
    );
    assert.equal(await offsetOf(address), 0);
    assert.equal((await ask('DELETE', address)).status, 204);
  });

  test('accept a limited number of uploads of one person', async () => {
    const addresses = [];
    for (let count = 0; count < 20; count += 1) addresses.push(await begin(1));
    const response = await ask('POST', '/uploads', { 'upload-length': '1' });
    assert.deepEqual([response.status, await codeOf(response)], [429, 'TOO_MANY_UPLOADS']);
    const others = await begin(1, {}, keys.other);
    assert.equal((await ask('DELETE', others, {}, undefined, keys.other)).status, 204);
    for (const address of addresses) await ask('DELETE', address);
    assert.deepEqual(await uploadsLeft(), []);
  });
});

test('keep to that limit for simultaneous requests, with any keys of the person', async () => {
  const second = (await server.access.createKey(ADMIN, { name: 'second', owner: 'Ada', role: 'CONTRIBUTOR' })).secret;
  const answers = await Promise.all(
    Array.from({ length: 80 }, (_, index) =>
      ask('POST', '/uploads', { 'upload-length': '1' }, undefined, index % 2 === 0 ? keys.contributor : second),
    ),
  );
  const statuses = answers.map((answer) => answer.status);
  assert.deepEqual([...new Set(statuses)].sort(), [201, 429]);
  assert.equal(statuses.filter((status) => status === 201).length, 20);
  assert.equal((await uploadsLeft()).filter((name) => name.endsWith('.json')).length, 20);
});

describe('the folder of uploads', () => {
  test('is cleared without a server or a database, except for uploads in use by an import', async (context) => {
    const folder = await mkdtemp(path.join(tmpdir(), 'paraffin-uploads-'));
    context.after(() => rm(folder, { recursive: true, force: true }));
    await mkdir(path.join(folder, 'consumed'));
    const [idle, used] = ['ab'.repeat(16), 'cd'.repeat(16)];
    await writeFile(path.join(folder, idle), 'abc');
    await writeFile(path.join(folder, 'consumed', used), 'abc');
    for (const id of [idle, used]) await writeFile(path.join(folder, `${id}.json`), '{}');
    await writeFile(path.join(folder, 'notes.txt'), 'mine');
    assert.deepEqual(await clearUploads(folder), { count: 1, byteSize: 3 });
    assert.deepEqual((await readdir(folder)).sort(), ['consumed', `${used}.json`, 'notes.txt'].sort());
    assert.deepEqual(await clearUploads(path.join(folder, 'missing')), { count: 0, byteSize: 0 });
  });

  test('removes halves that a killed server left: a file without its facts, facts without their file', async (context) => {
    const folder = await mkdtemp(path.join(tmpdir(), 'paraffin-uploads-'));
    context.after(() => rm(folder, { recursive: true, force: true }));
    const whole = 'ef'.repeat(16);
    for (const name of ['ab'.repeat(16), `${'cd'.repeat(16)}.json`, whole, `${whole}.json`, 'notes.txt'])
      await writeFile(path.join(folder, name), '{}');
    await openUploadStore({ folder, maxBytes: 100 });
    assert.deepEqual((await readdir(folder)).sort(), ['consumed', whole, `${whole}.json`, 'notes.txt'].sort());
  });

  test('removes expired uploads, finished or not, and keeps the rest', async (context) => {
    const folder = await mkdtemp(path.join(tmpdir(), 'paraffin-uploads-'));
    context.after(() => rm(folder, { recursive: true, force: true }));
    const store = await openUploadStore({ folder, maxBytes: 100, expiryMs: 60_000 });
    const [old, young] = [store.newId(), store.newId()];
    for (const id of [old, young]) {
      await writeFile(path.join(folder, id), 'abc');
      await writeFile(path.join(folder, `${id}.json`), JSON.stringify({ id, size: 3, metadata: { ownerKeyId: 'me' } }));
    }
    await utimes(path.join(folder, `${old}.json`), new Date(), new Date(Date.now() - 61_000));
    assert.equal(await store.removeExpired(), 1);
    assert.deepEqual((await readdir(folder)).sort(), ['consumed', young, `${young}.json`].sort());
  });

  test('releases uploads that a killed server had in use', async (context) => {
    const folder = await mkdtemp(path.join(tmpdir(), 'paraffin-uploads-'));
    context.after(() => rm(folder, { recursive: true, force: true }));
    const id = 'ab'.repeat(16);
    await mkdir(path.join(folder, 'consumed'));
    await writeFile(path.join(folder, id), 'abc');
    await writeFile(path.join(folder, `${id}.json`), JSON.stringify({ id, size: 3, metadata: { ownerKeyId: 'me' } }));
    await rename(path.join(folder, id), path.join(folder, 'consumed', id));
    const store = await openUploadStore({ folder, maxBytes: 100 });
    const broken = new DomainError({ code: 'FORMAT_INVALID', message: 'no' });
    await assert.rejects(
      store.consume(id, 'me', async () => {
        throw broken;
      }),
      broken,
    );
    assert.equal(await store.consume(id, 'me', async (file) => (await stat(file.path)).size), 3);
    await assert.rejects(
      store.consume(id, 'me', async () => 0),
      (error) => error instanceof DomainError && error.code === 'UPLOAD_NOT_FOUND',
    );
  });
});
