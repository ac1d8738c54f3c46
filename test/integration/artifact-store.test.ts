/** The artifact store on a real disk. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { appendFile, readdir, rm, writeFile, stat } from 'node:fs/promises';
import path from 'node:path';
import { Readable } from 'node:stream';
import { describe, test, type TestContext } from 'node:test';
import { openArtifactStore, type LocalArtifactStore } from '../../src/platform/artifact-store/index.ts';
import { temporaryFolder } from '../support/shards.ts';

async function newStore(context: TestContext): Promise<{ folder: string; store: LocalArtifactStore }> {
  const folder = await temporaryFolder(context);
  return { folder, store: openArtifactStore(folder) };
}

async function filesBelow(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true }).catch(() => []);
  return entries
    .filter((entry) => entry.isFile())
    .map((entry) => path.relative(folder, path.join(entry.parentPath, entry.name)));
}

const sha256Of = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');
const BYTES = Buffer.from('weights of an encoder');

describe('put', () => {
  test('names bytes by their sha256, from any kind of source', async (context) => {
    const { folder, store } = await newStore(context);
    const sha256 = sha256Of(BYTES);
    const expected = { sha256, byteSize: BYTES.length };
    assert.deepEqual(await store.put(BYTES), expected);
    assert.deepEqual(await store.put(Readable.from([BYTES.subarray(0, 5), BYTES.subarray(5)])), expected);
    assert.deepEqual(
      await filesBelow(folder),
      [path.join('sha256', sha256.slice(0, 2), sha256)],
      'the same bytes are one file',
    );
    assert.deepEqual(await store.read(sha256), BYTES);
    assert.equal((await store.stat(sha256))?.byteSize, BYTES.length);
  });

  test('the same bytes stored simultaneously are one artifact', async (context) => {
    const { folder, store } = await newStore(context);
    const stored = await Promise.all(Array.from({ length: 8 }, () => store.put(BYTES)));
    assert.equal(new Set(stored.map(({ sha256 }) => sha256)).size, 1);
    assert.equal((await filesBelow(folder)).length, 1);
  });

  test('stores empty content, and content of many chunks', async (context) => {
    const { store } = await newStore(context);
    assert.equal((await store.put(new Uint8Array())).byteSize, 0);
    const large = Buffer.alloc(3_000_000, 'tissue');
    const { sha256 } = await store.put(
      Readable.from(Array.from({ length: 30 }, (_, index) => large.subarray(index * 100_000, (index + 1) * 100_000))),
    );
    assert.equal(sha256, sha256Of(large));
    assert.ok((await store.read(sha256)).equals(large));
  });

  test('files are readable only by their owner', async (context) => {
    const folder = await temporaryFolder(context);
    const store = openArtifactStore(path.join(folder, 'artifacts'));
    const { sha256 } = await store.put(Buffer.from('weights'));
    const modeOf = async (file: string): Promise<number> => (await stat(file)).mode & 0o777;
    assert.equal(await modeOf(store.pathOf(sha256)), 0o600);
    for (let at = path.dirname(store.pathOf(sha256)); at !== folder; at = path.dirname(at))
      assert.equal(await modeOf(at), 0o700, at);
  });

  test('a source that fails leaves nothing behind', async (context) => {
    const { folder, store } = await newStore(context);
    const failing = async function* (): AsyncGenerator<Uint8Array> {
      yield BYTES;
      throw new Error('the upload broke off');
    };
    await assert.rejects(store.put(failing()), /the upload broke off/);
    assert.deepEqual(await filesBelow(folder), []);
  });
});

describe('read', () => {
  test('detects that a file has changed on disk', async (context) => {
    const { store } = await newStore(context);
    const { sha256 } = await store.put(BYTES);
    await appendFile(store.pathOf(sha256), '.');
    await assert.rejects(store.read(sha256), { code: 'ARTIFACT_CORRUPT' });
    await writeFile(store.pathOf(sha256), '');
    await assert.rejects(store.read(sha256), { code: 'ARTIFACT_CORRUPT' });
  });

  test('reports that an artifact is missing', async (context) => {
    const { store } = await newStore(context);
    const { sha256 } = await store.put(BYTES);
    await rm(store.pathOf(sha256));
    await assert.rejects(store.read(sha256), { code: 'ARTIFACT_NOT_FOUND' });
    assert.equal(await store.stat(sha256), undefined);
  });

  const names = [
    '',
    'a'.repeat(63),
    'A'.repeat(64),
    'g'.repeat(64),
    '../'.repeat(21) + 'a',
    `${'a'.repeat(64)}/../x`,
    `${'a'.repeat(64)}\n`,
    '\0'.repeat(64),
  ];
  for (const name of names) {
    test(`takes no path for a name: ${JSON.stringify(name)}`, async (context) => {
      const { store } = await newStore(context);
      await assert.rejects(store.read(name), { code: 'ARTIFACT_NOT_FOUND', field: 'sha256' });
      await assert.rejects(store.stat(name), { code: 'ARTIFACT_NOT_FOUND' });
      assert.throws(() => store.pathOf(name), { code: 'ARTIFACT_NOT_FOUND' });
    });
  }
});
