/** The artifact store on a real disk and in a bucket: the same promises on both. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { Readable } from 'node:stream';
import { describe, test, type TestContext } from 'node:test';
import { openArtifactStore, verifyArtifact, type StoredFile } from '../../src/platform/artifact-store/index.ts';
import { nameOf, openStoreStage, STORE_KINDS, useS3, type StoreStage } from '../support/artifact-stage.ts';
import { temporaryFolder } from '../support/shards.ts';

const s3 = useS3();
const sha256Of = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');
const BYTES = Buffer.from('weights of an encoder');
const FAR_FUTURE = new Date('2100-01-01T00:00:00Z');
/** More than two parts of a multipart upload, and not a multiple of their size. */
const LARGE = Buffer.concat(Array.from({ length: 21 }, (_, index) => Buffer.alloc(1_000_003, index)));
const chunksOf = (bytes: Buffer): Readable =>
  Readable.from(
    Array.from({ length: Math.ceil(bytes.length / 300_007) }, (_, index) =>
      bytes.subarray(index * 300_007, (index + 1) * 300_007),
    ),
  );

async function listed(stage: StoreStage): Promise<StoredFile[]> {
  const files: StoredFile[] = [];
  for await (const file of stage.store.list()) files.push(file);
  return files;
}

for (const kind of STORE_KINDS) {
  describe(`a ${kind}`, () => {
    const open = (context: TestContext): Promise<StoreStage> => openStoreStage(kind, context, s3);

    describe('put', () => {
      test('names bytes by their sha256, from any kind of source', async (context) => {
        const stage = await open(context);
        const sha256 = sha256Of(BYTES);
        const expected = { sha256, byteSize: BYTES.length };
        assert.deepEqual(await stage.store.put(BYTES), expected);
        assert.deepEqual(await stage.store.put(Readable.from([BYTES.subarray(0, 5), BYTES.subarray(5)])), expected);
        const file = path.join(await temporaryFolder(context), 'weights');
        await writeFile(file, BYTES);
        assert.deepEqual(await stage.store.put({ file }), expected);
        assert.deepEqual(await stage.names(), [nameOf(sha256)], 'the same bytes are one file');
        assert.deepEqual(await stage.store.read(sha256), BYTES);
        assert.equal((await stage.store.stat(sha256))?.byteSize, BYTES.length);
      });

      test('the same bytes stored simultaneously are one artifact', async (context) => {
        const stage = await open(context);
        const stored = await Promise.all(Array.from({ length: 8 }, () => stage.store.put(BYTES)));
        assert.equal(new Set(stored.map(({ sha256 }) => sha256)).size, 1);
        assert.equal((await stage.names()).length, 1);
      });

      test('stores empty content, and content of many chunks', async (context) => {
        const stage = await open(context);
        const empty = await stage.store.put(new Uint8Array());
        assert.equal(empty.byteSize, 0);
        assert.equal((await stage.store.read(empty.sha256)).length, 0);
        const { sha256, byteSize } = await stage.store.put(chunksOf(LARGE));
        assert.deepEqual([sha256, byteSize], [sha256Of(LARGE), LARGE.length]);
        assert.ok((await stage.store.read(sha256)).equals(LARGE));
        assert.equal((await stage.names()).length, 2, 'nothing temporary is left');
      });

      test('a source that fails leaves nothing behind', async (context) => {
        const stage = await open(context);
        const failing = async function* (bytes: Buffer): AsyncGenerator<Uint8Array> {
          yield* chunksOf(bytes);
          throw new Error('the upload broke off');
        };
        for (const bytes of [BYTES, LARGE])
          await assert.rejects(stage.store.put(failing(bytes)), /the upload broke off/);
        assert.deepEqual(await stage.names(), []);
      });

      test('storing the same bytes again repairs a damaged artifact and renews its time', async (context) => {
        const stage = await open(context);
        const { sha256 } = await stage.store.put(BYTES);
        await stage.setWrittenAt(sha256, new Date('2020-01-01T00:00:00Z'));
        assert.equal((await stage.store.stat(sha256))?.writtenAt.getUTCFullYear(), 2020);
        await stage.write(nameOf(sha256), 'weights of another one');
        await stage.setWrittenAt(sha256, new Date('2020-01-01T00:00:00Z'));
        await stage.store.put(BYTES);
        await verifyArtifact(stage.store, sha256);
        assert.notEqual((await stage.store.stat(sha256))?.writtenAt.getUTCFullYear(), 2020);
      });
    });

    describe('open', () => {
      test('reads the whole, and any range', async (context) => {
        const stage = await open(context);
        const { sha256 } = await stage.store.put(chunksOf(LARGE));
        for (const [first, last] of [
          [0, 0],
          [0, LARGE.length - 1],
          [LARGE.length - 1, LARGE.length - 1],
          [8_388_600, 8_388_620],
          [1, 9_000_001],
        ] as const) {
          const bytes = Buffer.concat(await (await stage.store.open(sha256, { first, last })).toArray());
          assert.ok(bytes.equals(LARGE.subarray(first, last + 1)), `${first} to ${last}`);
        }
      });

      test('a reader may stop in the middle', async (context) => {
        const stage = await open(context);
        const { sha256 } = await stage.store.put(chunksOf(LARGE));
        for await (const chunk of await stage.store.open(sha256)) {
          assert.ok(Buffer.isBuffer(chunk));
          break;
        }
        (await stage.store.open(sha256)).destroy();
        await verifyArtifact(stage.store, sha256);
      });
    });

    describe('read', () => {
      test('detects that an artifact has changed in the store', async (context) => {
        const stage = await open(context);
        const { sha256 } = await stage.store.put(BYTES);
        for (const changed of ['weights of an encoder.', 'weights', '', 'weights of an encodeR']) {
          await stage.write(nameOf(sha256), changed);
          await assert.rejects(stage.store.read(sha256), { code: 'ARTIFACT_CORRUPT' });
          await assert.rejects(verifyArtifact(stage.store, sha256), { code: 'ARTIFACT_CORRUPT' });
        }
      });

      test('reports that an artifact is missing', async (context) => {
        const stage = await open(context);
        const { sha256 } = await stage.store.put(BYTES);
        await stage.erase(nameOf(sha256));
        await assert.rejects(stage.store.read(sha256), { code: 'ARTIFACT_NOT_FOUND' });
        await assert.rejects(stage.store.open(sha256), { code: 'ARTIFACT_NOT_FOUND' });
        await assert.rejects(verifyArtifact(stage.store, sha256), { code: 'ARTIFACT_NOT_FOUND' });
        assert.equal(await stage.store.stat(sha256), undefined);
      });

      test('refuses a name that is not a digest', async (context) => {
        const { store } = await open(context);
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
          await assert.rejects(store.read(name), { code: 'ARTIFACT_NOT_FOUND', field: 'sha256' }, JSON.stringify(name));
          await assert.rejects(store.stat(name), { code: 'ARTIFACT_NOT_FOUND' });
          await assert.rejects(store.open(name), { code: 'ARTIFACT_NOT_FOUND' });
          await assert.rejects(store.delete(name, FAR_FUTURE), { code: 'ARTIFACT_NOT_FOUND' });
          await assert.rejects(store.upkeep.quarantine(name), { code: 'ARTIFACT_NOT_FOUND' });
        }
      });
    });

    describe('list and delete', () => {
      test('list names every artifact with its size, and what is not an artifact', async (context) => {
        const stage = await open(context);
        assert.deepEqual(await listed(stage), [], 'a new store is empty');
        const { sha256 } = await stage.store.put(BYTES);
        await stage.write('sha256/ab/notes.txt', 'mine');
        const files = await listed(stage);
        assert.deepEqual(
          files.map(({ sha256: name, byteSize }) => [name, byteSize]).sort(),
          [
            [sha256, BYTES.length],
            [undefined, 4],
          ].sort(),
        );
        for (const file of files) {
          assert.ok(file.path.startsWith(stage.store.location), file.path);
          assert.ok(Math.abs(Date.now() - file.writtenAt.getTime()) < 600_000);
        }
      });

      test('delete keeps what was written since', async (context) => {
        const stage = await open(context);
        const { sha256 } = await stage.store.put(BYTES);
        assert.equal(await stage.store.delete(sha256, new Date('2020-01-01T00:00:00Z')), false);
        await verifyArtifact(stage.store, sha256);
        assert.equal(await stage.store.delete(sha256, FAR_FUTURE), true);
        assert.equal(await stage.store.stat(sha256), undefined);
        assert.equal(await stage.store.delete(sha256, FAR_FUTURE), false, 'twice is not an error');
        assert.deepEqual(await stage.names(), []);
      });
    });

    describe('upkeep', () => {
      test('quarantines damage once, and nothing else', async (context) => {
        const stage = await open(context);
        const { sha256 } = await stage.store.put(BYTES);
        assert.equal(await stage.store.upkeep.quarantine(sha256), false, 'an intact artifact stays');
        await stage.write(nameOf(sha256), 'damaged');
        const moved = await Promise.all([1, 2].map(() => stage.another().upkeep.quarantine(sha256)));
        assert.ok(moved.includes(true));
        assert.equal((await stage.read(`quarantine/${sha256}`)).toString('utf8'), 'damaged');
        assert.deepEqual(await stage.store.upkeep.quarantined(), { fileCount: 1, byteSize: 7 });
        await assert.rejects(stage.store.read(sha256), { code: 'ARTIFACT_CORRUPT' });
        assert.equal(await stage.store.upkeep.quarantine('a'.repeat(64)), false, 'a missing artifact');
        await stage.store.put(BYTES);
        assert.deepEqual(await stage.store.read(sha256), BYTES);
      });

      test('keeps an identity', async (context) => {
        const { store } = await open(context);
        assert.equal(await store.upkeep.readIdentity(), undefined);
        await store.upkeep.writeIdentity('6f1f9b0e-0000-4000-8000-000000000000');
        assert.equal(await store.upkeep.readIdentity(), '6f1f9b0e-0000-4000-8000-000000000000');
      });

      test('removes the unfinished files of a writer that has ended, and no others', async (context) => {
        const stage = await open(context);
        await stage.write('tmp/run-1/half', 'half an artifact');
        await stage.write('tmp/run-2/half', 'half an artifact');
        const { upkeep } = stage.another();
        assert.deepEqual((await upkeep.unfinishedWriters()).sort(), ['run-1', 'run-2']);
        await upkeep.removeUnfinished('run-1');
        await upkeep.removeAbandoned();
        assert.deepEqual(await stage.names(), ['tmp/run-2/half']);
      });
    });
  });
}

test('files on a disk are readable only by their owner', async (context) => {
  const folder = await temporaryFolder(context);
  const store = openArtifactStore(path.join(folder, 'artifacts'));
  const { sha256 } = await store.put(Buffer.from('weights'));
  const modeOf = async (file: string): Promise<number> => (await stat(file)).mode & 0o777;
  assert.equal(await modeOf(store.pathOf(sha256)), 0o600);
  for (let at = path.dirname(store.pathOf(sha256)); at !== folder; at = path.dirname(at))
    assert.equal(await modeOf(at), 0o700, at);
});
