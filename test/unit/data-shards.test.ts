import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, test, type TestContext } from 'node:test';
import { ImageDataError, type ImageDataErrorCode } from '../../workers/engine/data/errors.ts';
import { indexShard } from '../../workers/engine/data/shards.ts';
import { createShardWriter } from '../../workers/imaging/shard-writer.ts';
import { storedBytes, tarBytes, temporaryFolder, writeShard } from '../support/shards.ts';

const LONG_KEY = `${'patch-of-a-long-name-'.repeat(6)}é`;
const MEMBERS = [
  { name: 'a.png', bytes: Buffer.from('first') },
  { name: 'a.json', bytes: Buffer.from('{}') },
  { name: 'b.v2.JPG', bytes: Buffer.alloc(1500, 7) },
  { name: `${LONG_KEY}.webp`, bytes: Buffer.from('third') },
];

const isFault =
  (code: ImageDataErrorCode, words: RegExp) =>
  (error: unknown): boolean =>
    error instanceof ImageDataError && error.code === code && words.test(error.message);

/** Writes the bytes, and expects the reader to refuse them. */
async function assertRefused(
  context: TestContext,
  bytes: Buffer,
  code: ImageDataErrorCode,
  words: RegExp,
): Promise<void> {
  const path = join(await temporaryFolder(context), 'shard-0.tar');
  await writeFile(path, bytes);
  assert.throws(() => indexShard(path), isFault(code, words));
}

/** Sets a field of the first header and corrects the checksum. */
function withHeaderField(bytes: Buffer, start: number, text: string): Buffer {
  const changed = Buffer.from(bytes);
  changed.write(text, start, 'latin1');
  changed.fill(' ', 148, 156);
  const sum = changed.subarray(0, 512).reduce((total, byte) => total + byte, 0);
  changed.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
  return changed;
}

describe('indexShard', () => {
  test('lists images in order with their bytes, long and dotted names included', async (context) => {
    const path = await writeShard(await temporaryFolder(context), 'shard-0.tar', MEMBERS);
    const index = indexShard(path);
    assert.deepEqual(
      index.images.map((image) => image.key),
      ['a', 'b.v2', LONG_KEY],
    );
    assert.deepEqual(await Promise.all(index.images.map((image) => storedBytes(path, image))), [
      MEMBERS[0]?.bytes,
      MEMBERS[2]?.bytes,
      MEMBERS[3]?.bytes,
    ]);
  });

  test('reads what the import writes', async (context) => {
    const path = join(await temporaryFolder(context), 'shard-0.tar');
    const put = async (source: Buffer | NodeJS.ReadableStream): Promise<{ sha256: string; byteSize: number }> => {
      await writeFile(path, source);
      return { sha256: 'ab'.repeat(32), byteSize: 0 };
    };
    const writer = createShardWriter({ put });
    const images = ['first', 'second'].map((key) => ({ key, bytes: Buffer.from(`${key} image`) }));
    for (const { key, bytes } of images) await writer.write(key, 'jpg', bytes, { label: 'normal' });
    await writer.finish();
    const read = indexShard(path).images.map(async (image) => ({
      key: image.key,
      bytes: await storedBytes(path, image),
    }));
    assert.deepEqual(await Promise.all(read), images);
  });

  test('an empty archive has no images', async (context) => {
    const path = await writeShard(await temporaryFolder(context), 'shard-0.tar', []);
    assert.deepEqual(indexShard(path).images, []);
  });

  test('a missing file', () => {
    assert.throws(
      () => indexShard('/nowhere/shard-9.tar'),
      isFault('SHARD_UNREADABLE', /shard-9\.tar cannot be opened/),
    );
  });

  test('cut off within a member', async (context) => {
    await assertRefused(
      context,
      (await tarBytes(MEMBERS)).subarray(0, 512 * 6),
      'SHARD_TRUNCATED',
      /member "b\.v2\.JPG" needs 1500 bytes/,
    );
  });

  test('cut off between members', async (context) => {
    await assertRefused(context, (await tarBytes(MEMBERS)).subarray(0, 1024), 'SHARD_TRUNCATED', /no end mark/);
  });

  test('an empty file', async (context) => {
    await assertRefused(context, Buffer.alloc(0), 'SHARD_TRUNCATED', /no end mark/);
  });

  test('a header whose checksum is wrong', async (context) => {
    const bytes = await tarBytes(MEMBERS);
    bytes[3] = 65;
    await assertRefused(context, bytes, 'SHARD_CORRUPT', /checksum is wrong at byte 0/);
  });

  test('bytes that are not a tar archive at all', async (context) => {
    await assertRefused(context, Buffer.alloc(4096, 'no tar '), 'SHARD_CORRUPT', /checksum/);
  });

  test('a header without the magic', async (context) => {
    await assertRefused(
      context,
      withHeaderField(await tarBytes(MEMBERS), 257, 'other'),
      'SHARD_CORRUPT',
      /ustar magic/,
    );
  });

  test('a size that is not a number', async (context) => {
    await assertRefused(
      context,
      withHeaderField(await tarBytes(MEMBERS), 124, 'manybytes..'),
      'SHARD_CORRUPT',
      /size that is not a number/,
    );
  });

  test('a member that is not a file', async (context) => {
    await assertRefused(context, withHeaderField(await tarBytes(MEMBERS), 156, '2'), 'SHARD_CORRUPT', /type "2"/);
  });

  test('an extended header that does not parse', async (context) => {
    const bytes = await tarBytes([{ name: 'x', bytes: Buffer.from('99 path=a\n') }]);
    await assertRefused(context, withHeaderField(bytes, 156, 'x'), 'SHARD_CORRUPT', /does not parse/);
  });

  test('an extended header without a member', async (context) => {
    const bytes = await tarBytes([{ name: 'x', bytes: Buffer.from('10 path=a\n') }]);
    await assertRefused(context, withHeaderField(bytes, 156, 'x'), 'SHARD_CORRUPT', /without its member/);
  });

  test('an extended header larger than any of ours', async (context) => {
    const bytes = await tarBytes([{ name: 'x', bytes: Buffer.alloc(70_000, 'a') }]);
    await assertRefused(context, withHeaderField(bytes, 156, 'x'), 'SHARD_CORRUPT', /extended header of 70000 bytes/);
  });

  test('a key twice', async (context) => {
    await assertRefused(
      context,
      await tarBytes([...MEMBERS, { name: 'a.jpg', bytes: Buffer.from('again') }]),
      'IMAGE_DUPLICATE',
      /image a twice/,
    );
  });
});
