import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, test, type TestContext } from 'node:test';
import { ManifestError } from '../../src/formats/manifest/index.ts';
import { createShardWriter } from '../../workers/imaging/shard-writer.ts';
import { imagesOf, storedBytes, tarBytes, temporaryFolder, writeShard } from '../support/shards.ts';

const LONG_KEY = `${'patch-of-a-long-name-'.repeat(6)}é`;
const MEMBERS = [
  { name: 'a.png', bytes: Buffer.from('first') },
  { name: 'a.json', bytes: Buffer.from('{}') },
  { name: 'b.v2.JPG', bytes: Buffer.alloc(1500, 7) },
  { name: `${LONG_KEY}.webp`, bytes: Buffer.from('third') },
];

const isFault =
  (words: RegExp) =>
  (error: unknown): boolean =>
    error instanceof ManifestError && error.code === 'MANIFEST_SHARD_INVALID' && words.test(error.message);

/** Writes the bytes, and expects the reader to refuse them. */
async function assertRefused(context: TestContext, bytes: Buffer, words: RegExp): Promise<void> {
  const path = join(await temporaryFolder(context), 'shard-0.tar');
  await writeFile(path, bytes);
  await assert.rejects(imagesOf(path), isFault(words));
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

describe('walkShard', () => {
  test('lists images in order with their bytes, long and dotted names included', async (context) => {
    const path = await writeShard(await temporaryFolder(context), 'shard-0.tar', MEMBERS);
    const images = await imagesOf(path);
    assert.deepEqual(
      images.map((image) => image.key),
      ['a', 'b.v2', LONG_KEY],
    );
    assert.deepEqual(await Promise.all(images.map((image) => storedBytes(path, image))), [
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
    const read = (await imagesOf(path)).map(async (image) => ({
      key: image.key,
      bytes: await storedBytes(path, image),
    }));
    assert.deepEqual(await Promise.all(read), images);
  });

  test('an empty archive has no images', async (context) => {
    const path = await writeShard(await temporaryFolder(context), 'shard-0.tar', []);
    assert.deepEqual(await imagesOf(path), []);
  });

  test('cut off within a member', async (context) => {
    await assertRefused(
      context,
      (await tarBytes(MEMBERS)).subarray(0, 512 * 6),
      /a member of 1500 bytes where \d+ are left/,
    );
  });

  test('cut off between members', async (context) => {
    await assertRefused(context, (await tarBytes(MEMBERS)).subarray(0, 1024), /no end mark/);
  });

  test('an empty file', async (context) => {
    await assertRefused(context, Buffer.alloc(0), /no end mark/);
  });

  test('a header whose checksum is wrong', async (context) => {
    const bytes = await tarBytes(MEMBERS);
    bytes[3] = 65;
    await assertRefused(context, bytes, /wrong checksum at byte 0/);
  });

  test('bytes that are not a tar archive at all', async (context) => {
    await assertRefused(context, Buffer.alloc(4096, 'no tar '), /checksum/);
  });

  test('a header without the magic', async (context) => {
    await assertRefused(context, withHeaderField(await tarBytes(MEMBERS), 257, 'other'), /ustar magic/);
  });

  test('a size that is not a number', async (context) => {
    await assertRefused(
      context,
      withHeaderField(await tarBytes(MEMBERS), 124, 'manybytes..'),
      /size that is not a number/,
    );
  });

  test('a member that is not a file', async (context) => {
    await assertRefused(context, withHeaderField(await tarBytes(MEMBERS), 156, '2'), /type "2"/);
  });

  test('an extended header that does not parse', async (context) => {
    const bytes = await tarBytes([{ name: 'x', bytes: Buffer.from('99 path=a\n') }]);
    await assertRefused(context, withHeaderField(bytes, 156, 'x'), /does not parse/);
  });

  test('an extended header without a member', async (context) => {
    const bytes = await tarBytes([{ name: 'x', bytes: Buffer.from('10 path=a\n') }]);
    await assertRefused(context, withHeaderField(bytes, 156, 'x'), /without its member/);
  });

  test('an extended header larger than any of ours', async (context) => {
    const bytes = await tarBytes([{ name: 'x', bytes: Buffer.alloc(70_000, 'a') }]);
    await assertRefused(context, withHeaderField(bytes, 156, 'x'), /extended header of 70000 bytes/);
  });
});
