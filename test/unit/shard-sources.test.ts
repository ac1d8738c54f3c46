/** A run asks for a shard, and for its part of the manifest, when it needs it; both kinds of manifest give the same. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, test, type TestContext } from 'node:test';
import { ManifestError, openManifest } from '../../src/formats/manifest/index.ts';
import { accessBytes, type RandomAccess } from '../../src/formats/random-access.ts';
import { openShardSources } from '../../workers/tasks/shard-sources.ts';
import { TaskStopped } from '../../workers/tasks/task.ts';
import type { VersionWithManifest } from '../../workers/tasks/version-manifest.ts';
import { manifestBytes, manifestRow, manifestRows, shardByteSizesOf } from '../support/manifests.ts';
import { imagesOf, placesOf, tarBytes, temporaryFolder } from '../support/shards.ts';

const SHARDS = 4;
const IMAGES_PER_SHARD = 3;

interface Opened {
  readonly version: VersionWithManifest;
  /** Artifacts in the order in which they were asked for. */
  readonly fetched: string[];
  readonly pathOf: (sha256: string) => string;
  readonly localFile: Parameters<typeof openShardSources>[0]['localFile'];
}

/** Four shards of three images each, under a manifest of either kind. */
async function openVersion(context: TestContext, format: 'PARQUET' | 'JSON_LINES'): Promise<Opened> {
  const folder = await temporaryFolder(context);
  const store = async (bytes: Buffer): Promise<string> => {
    const sha256 = createHash('sha256').update(bytes).digest('hex');
    await writeFile(path.join(folder, sha256), bytes);
    return sha256;
  };
  const pathOf = (sha256: string): string => path.join(folder, sha256);
  const keyOf = (row: number): string => String(row).padStart(9, '0');
  const shards: string[] = [];
  const rows = [];
  for (let shard = 0; shard < SHARDS; shard += 1) {
    const numbers = Array.from({ length: IMAGES_PER_SHARD }, (_, index) => shard * IMAGES_PER_SHARD + index);
    const sha256 = await store(
      await tarBytes(numbers.map((row) => ({ name: `${keyOf(row)}.png`, bytes: Buffer.alloc(700 + row, row) }))),
    );
    shards.push(sha256);
    for (const [index, { byteOffset, byteLength }] of (await imagesOf(pathOf(sha256))).entries())
      rows.push({ ...manifestRow(numbers[index] ?? 0), shard, byteOffset, byteLength });
  }
  const jsonLines = rows.map(({ key, shard, byteLength }) =>
    JSON.stringify({
      ...{ key, sha256: 'ab'.repeat(32), label: null, group: null, split: null, width: 8, height: 8 },
      ...{ shard, byteSize: byteLength, sourcePath: null },
    }),
  );
  const manifest = format === 'PARQUET' ? await manifestBytes(rows) : Buffer.from(`${jsonLines.join('\n')}\n`);
  const fetched: string[] = [];
  return {
    version: {
      manifestSha256: await store(manifest),
      imageHashesSha256: null,
      imageCount: rows.length,
      shards: await Promise.all(
        shards.map(async (sha256) => ({
          sha256,
          byteSize: (await stat(pathOf(sha256))).size,
          imageCount: IMAGES_PER_SHARD,
        })),
      ),
    },
    fetched,
    pathOf,
    localFile: async (sha256) => {
      fetched.push(sha256);
      const release = async (): Promise<void> => undefined;
      return { path: pathOf(sha256), release, [Symbol.asyncDispose]: release };
    },
  };
}

const goOn = (): void => undefined;

describe('openShardSources', () => {
  for (const format of ['PARQUET', 'JSON_LINES'] as const)
    test(`gives each shard its own places by a manifest of kind ${format}`, async (context) => {
      const { version, pathOf, localFile } = await openVersion(context, format);
      await using sources = openShardSources({ localFile, throwIfStopped: goOn }, version);
      const opened = await Promise.all(sources.shards.map((source) => source.open()));
      for (const [shard, { sha256 }] of version.shards.entries()) {
        assert.equal(opened[shard]?.path, pathOf(sha256));
        assert.deepEqual(opened[shard]?.places, await placesOf(pathOf(sha256)));
      }
    });

  test('fetches nothing before a shard is opened, and then that shard and the manifest alone', async (context) => {
    const { version, fetched, localFile } = await openVersion(context, 'PARQUET');
    const counts = { pendingCount: 0, readyCount: 0 };
    await using sources = openShardSources({ localFile, throwIfStopped: goOn }, version, counts);
    assert.deepEqual(fetched, []);
    const opening = sources.shards[2]?.open();
    assert.deepEqual(counts, { pendingCount: 1, readyCount: 0 });
    await opening;
    assert.deepEqual(fetched.toSorted(), [version.shards[2]?.sha256, version.manifestSha256].toSorted());
    await sources.shards[0]?.open();
    assert.equal(fetched.filter((sha256) => sha256 === version.manifestSha256).length, 1);
    assert.deepEqual(counts, { pendingCount: 0, readyCount: 2 });
  });

  test('a manifest whose shards are not those of the version', async (context) => {
    const { version, localFile } = await openVersion(context, 'PARQUET');
    const shards = version.shards.map((shard, index) => ({ ...shard, imageCount: index === 0 ? 4 : 3 }));
    await using sources = openShardSources({ localFile, throwIfStopped: goOn }, { ...version, shards });
    await assert.rejects(
      Promise.resolve(sources.shards[0]?.open()),
      (error) =>
        error instanceof ManifestError &&
        error.code === 'MANIFEST_ROW_INVALID' &&
        /^Row 3 of the manifest: it lies in shard 1/.test(error.message),
    );
  });

  test('opens no shard once a stop was requested', async (context) => {
    const { version, fetched, localFile } = await openVersion(context, 'PARQUET');
    const throwIfStopped = (): void => {
      throw new TaskStopped('CANCEL');
    };
    await using sources = openShardSources({ localFile, throwIfStopped }, version);
    await assert.rejects(Promise.resolve(sources.shards[0]?.open()), TaskStopped);
    assert.deepEqual(fetched, []);
  });
});

test('rows from the middle of a manifest are read without the row groups before them', async () => {
  const rows = manifestRows(70_000, 10_000);
  const bytes = await manifestBytes(rows);
  let byteCount = 0;
  const whole = accessBytes(bytes);
  const source: RandomAccess = {
    byteSize: whole.byteSize,
    read: (offset, length, into) => {
      byteCount += length;
      return whole.read(offset, length, into);
    },
  };
  const manifest = await openManifest(source, { imageCount: rows.length, shardByteSizes: shardByteSizesOf(rows) });
  const readFrom = async (fromRow: number): Promise<{ firstRow: number; shard: number | undefined; cost: number }> => {
    byteCount = 0;
    for await (const { firstRow, columns } of manifest.rows(['shard', 'byteOffset', 'byteLength'], fromRow))
      return { firstRow, shard: columns.shard[fromRow - firstRow], cost: byteCount };
    return assert.fail('no rows');
  };
  const first = await readFrom(12_345);
  const last = await readFrom(69_999);
  assert.deepEqual([first.firstRow, first.shard], [0, 1]);
  assert.ok(last.firstRow > 60_000 && last.shard === 6);
  assert.ok(last.cost < first.cost / 2, `${last.cost} bytes against ${first.cost}`);
});
