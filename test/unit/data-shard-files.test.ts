/** Shards are opened when they are needed, few at a time, and what a manifest says about them is checked. */
import assert from 'node:assert/strict';
import { readdir, readlink, truncate } from 'node:fs/promises';
import path from 'node:path';
import { describe, test, type TestContext } from 'node:test';
import { ImageDataError, type ImageDataErrorCode } from '../../workers/engine/data/errors.ts';
import type { ShardSource } from '../../workers/engine/data/opened-shard.ts';
import { openShardFiles, type ShardFiles } from '../../workers/engine/data/shard-files.ts';
import { eventually } from '../support/eventually.ts';
import { imagesOf, placesOf, sourceOf, temporaryFolder, writeShard } from '../support/shards.ts';

const LONG_KEY = 'patch-of-a-long-name-'.repeat(6);
const MEMBERS = [
  { name: 'a.png', bytes: Buffer.from('first') },
  { name: 'a.json', bytes: Buffer.from('{}') },
  { name: 'b.v2.JPG', bytes: Buffer.alloc(1500, 7) },
  { name: `${LONG_KEY}.webp`, bytes: Buffer.from('third') },
];
const IMAGES = MEMBERS.filter(({ name }) => !name.endsWith('.json'));

const isFault =
  (code: ImageDataErrorCode, words: RegExp) =>
  (error: unknown): boolean =>
    error instanceof ImageDataError && error.code === code && words.test(error.message);

/** The bytes and the key of an image of shard 0. */
async function readOf(files: ShardFiles, image: number, shard = 0): Promise<{ bytes: Buffer; key: string | null }> {
  return files.use(shard, async (opened) => {
    const placed = opened.place(image, null);
    const bytes = Buffer.alloc(placed.byteSize);
    return { key: await opened.read(placed, bytes), bytes };
  });
}

describe('a shard', () => {
  test('is read at the offsets of the manifest', async (context) => {
    const shardPath = await writeShard(await temporaryFolder(context), 's.tar', MEMBERS);
    const files = openShardFiles([await sourceOf(shardPath)]);
    const read = await Promise.all(IMAGES.map((_, index) => readOf(files, index)));
    assert.deepEqual(
      read.map(({ bytes }) => bytes),
      IMAGES.map(({ bytes }) => bytes),
    );
    // The header of a member with a long name does not have that name.
    assert.deepEqual(
      read.map(({ key }) => key),
      ['a', 'b.v2', null],
    );
    await files.close();
  });

  /** Opens one shard whose first image has another place in the manifest, and expects that image to be refused. */
  async function assertRefused(
    context: TestContext,
    [byteOffset, byteLength]: readonly [number, number],
    code: ImageDataErrorCode,
    words: RegExp,
  ): Promise<void> {
    const shardPath = await writeShard(await temporaryFolder(context), 's.tar', MEMBERS);
    const places = await placesOf(shardPath);
    const files = openShardFiles([
      await sourceOf(shardPath, {
        byteOffset: places.byteOffset.with(0, byteOffset),
        byteLength: places.byteLength.with(0, byteLength),
      }),
    ]);
    await assert.rejects(readOf(files, 0), isFault(code, words));
    await files.close();
  }

  test('that ends within an image', async (context) => {
    const shardPath = await writeShard(await temporaryFolder(context), 's.tar', MEMBERS);
    const files = openShardFiles([await sourceOf(shardPath)]);
    const [first] = await imagesOf(shardPath);
    assert.ok(first !== undefined);
    const refused = files.use(0, async (opened) => {
      const placed = opened.place(0, null);
      await truncate(shardPath, first.byteOffset + 2);
      return opened.read(placed, Buffer.alloc(placed.byteSize));
    });
    await assert.rejects(refused, isFault('SHARD_TRUNCATED', /s\.tar ends within the image at byte 512/));
    await files.close();
  });

  test('with an image whose place lies outside', async (context) => {
    const outside: readonly (readonly [number, number])[] = [
      [1_000_000, 5],
      [512, 1_000_000],
      [512, 2 ** 32 - 1],
      [0, 5],
      [-512, 5],
      [NaN, 5],
    ];
    for (const place of outside)
      await assertRefused(context, place, 'MANIFEST_INVALID', /By the manifest, the image at byte/);
  });

  test('with an image whose place is that of something else', async (context) => {
    const wrong: readonly (readonly [number, number])[] = [
      [513, 5],
      [1024, 5],
      [512, 6],
    ];
    for (const place of wrong)
      await assertRefused(
        context,
        place,
        'MANIFEST_INVALID',
        /an image of \d bytes begins at byte \d+ of shard s\.tar, and none does/,
      );
  });

  test('with a member that is not an image in the place of one', async (context) => {
    await assertRefused(context, [1536, 2], 'IMAGE_MISSING', /begins at byte 1536 of shard s\.tar, and "a\.json" does/);
  });

  test('with another number of images than its version lists', async (context) => {
    const shardPath = await writeShard(await temporaryFolder(context), 's.tar', MEMBERS);
    const files = openShardFiles([{ ...(await sourceOf(shardPath)), imageCount: 4 }]);
    await assert.rejects(readOf(files, 0), isFault('IMAGE_COUNT_MISMATCH', /should hold 4 images.*lists 3/));
    await files.close();
  });

  test('that is gone', async () => {
    const places = { byteOffset: Float64Array.of(512), byteLength: Uint32Array.of(5) };
    const files = openShardFiles([await sourceOf('/nowhere/shard-9.tar', places)]);
    await assert.rejects(readOf(files, 0), isFault('SHARD_UNREADABLE', /shard-9\.tar cannot be opened/));
    await files.close();
  });

  test('that the version does not have', async () => {
    const files = openShardFiles([]);
    await assert.rejects(readOf(files, 3, 3), isFault('IMAGE_MISSING', /names shard 3, which is not there/));
    await files.close();
  });
});

interface Watched {
  readonly sources: readonly ShardSource[];
  /** Shards in the order in which they were opened. */
  readonly opened: readonly number[];
  readonly released: readonly number[];
}

async function watchedShards(context: TestContext, count: number): Promise<Watched & { readonly folder: string }> {
  const folder = await temporaryFolder(context);
  const opened: number[] = [];
  const released: number[] = [];
  const sources = await Promise.all(
    Array.from({ length: count }, async (_, shard): Promise<ShardSource> => {
      const bytes = Buffer.from(`image of ${shard}`);
      const shardPath = await writeShard(folder, `${shard}.tar`, [{ name: `${shard}.png`, bytes }]);
      const source = await sourceOf(shardPath);
      return {
        ...source,
        open: async () => {
          opened.push(shard);
          return { ...(await source.open()), release: async () => void released.push(shard) };
        },
      };
    }),
  );
  return { folder, sources, opened, released };
}

/** Files of the folder that this process has open, as the kernel lists them. */
async function openIn(folder: string): Promise<string[]> {
  const descriptors = await readdir('/proc/self/fd');
  const targets = await Promise.all(descriptors.map((fd) => readlink(`/proc/self/fd/${fd}`).catch(() => '')));
  return targets.filter((target) => target.startsWith(`${folder}${path.sep}`)).map((target) => path.basename(target));
}

describe('the open shards of a reading', () => {
  test('never exceed their limit, whatever is read at once', async (context) => {
    const { folder, sources, released } = await watchedShards(context, 12);
    const files = openShardFiles(sources, 3);
    let most = 0;
    const reads = Array.from({ length: 60 }, async (_, index) => {
      const shard = (index * 7) % 12;
      const { bytes } = await readOf(files, 0, shard);
      most = Math.max(most, (await openIn(folder)).length);
      assert.equal(bytes.toString(), `image of ${shard}`);
    });
    await Promise.all(reads);
    assert.ok(most > 0 && most <= 3, `${most} open`);
    await files.close();
    assert.deepEqual(await openIn(folder), []);
    assert.ok(released.length >= 12);
  });

  test('are opened ahead in the given order, and closed when they have not been wanted for some batches', async (context) => {
    const { folder, sources, opened } = await watchedShards(context, 6);
    const files = openShardFiles(sources);
    files.openAhead([4, 1, 2]);
    await eventually('three open shards', async () => (opened.length === 3 ? true : undefined));
    assert.deepEqual(opened, [4, 1, 2]);
    for (let batch = 0; batch < 20; batch += 1) files.openAhead([2, 5]);
    await eventually('the window', async () =>
      (await openIn(folder)).toSorted().join() === '2.tar,5.tar' ? true : undefined,
    );
    await files.close();
  });

  test('a shard that cannot be opened ahead fails only the image that needs it, and is tried again for it', async (context) => {
    const { sources, opened } = await watchedShards(context, 2);
    let tries = 0;
    const [good, other] = sources;
    assert.ok(good !== undefined && other !== undefined);
    const damaged: ShardSource = {
      imageCount: 1,
      open: async () => {
        tries += 1;
        if (tries < 3) throw new Error('not there yet');
        return other.open();
      },
    };
    const files = openShardFiles([good, damaged]);
    for (let batch = 0; batch < 5; batch += 1) files.openAhead([1, 0]);
    await eventually('the next shard', async () => (opened.includes(0) ? true : undefined));
    assert.equal(tries, 1, 'a damaged shard must not be verified again and again');
    await assert.rejects(readOf(files, 0, 1), /not there yet/);
    assert.equal((await readOf(files, 0, 1)).bytes.toString(), 'image of 1');
    await files.close();
  });

  test('close waits for reads, and refuses later ones', async (context) => {
    const { folder, sources } = await watchedShards(context, 2);
    const files = openShardFiles(sources);
    const gate = Promise.withResolvers<void>();
    const reading = files.use(0, async () => {
      await gate.promise;
      return openIn(folder);
    });
    const closed = files.close();
    await assert.rejects(readOf(files, 0, 1), isFault('READER_CLOSED', /closed/));
    gate.resolve();
    assert.deepEqual(await reading, ['0.tar']);
    await closed;
    assert.deepEqual(await openIn(folder), []);
  });
});
