/** Which images and patients of a version are in others, from manifests of several row groups. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { ManifestRow } from '../../src/formats/manifest/index.ts';
import { findSamePictures, findSamePixels, identitiesOf } from '../../workers/tasks/evaluation/seen-images.ts';
import { manifestBytes, manifestRow, shardByteSizesOf } from '../support/manifests.ts';

/** More than a row group. */
const LARGE_COUNT = 66_000;

const digest = (text: string): Buffer => createHash('sha256').update(text).digest();
/** Of a picture: 63 random signs. */
const pictureHash = (text: string): Buffer => {
  const hash = digest(text).subarray(0, 8);
  hash[0] = (hash[0] ?? 0) & 254;
  return hash;
};
const row = (index: number, facts: Partial<ManifestRow>): ManifestRow => ({ ...manifestRow(index), ...facts });

let folder: string;
let readings = 0;
const context = {
  localFile: async (sha256: string) => {
    const release = (): Promise<void> => Promise.resolve();
    return { path: path.join(folder, sha256), release, [Symbol.asyncDispose]: release };
  },
  throwIfStopped: (): void => undefined,
};
const progress = {
  onRowsRead: async (rowCount: number): Promise<void> => void (readings += rowCount),
  onSearched: (): Promise<void> => Promise.resolve(),
};

async function versionOf(datasetId: string, rows: readonly ManifestRow[]) {
  const bytes = await manifestBytes(rows);
  const manifestSha256 = digest(`${datasetId} ${rows.length}`).toString('hex');
  await writeFile(path.join(folder, manifestSha256), bytes);
  const shards = shardByteSizesOf(rows).map((byteSize) => ({ sha256: '', byteSize, imageCount: 0 }));
  return { datasetId, manifestSha256, imageHashesSha256: null, imageCount: rows.length, shards };
}

before(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'paraffin-seen-'));
});
after(() => rm(folder, { recursive: true }));

describe('of some images of a version', () => {
  test('those with the pixels and pictures of other versions are found, across row groups', async () => {
    const facts = (name: string): Partial<ManifestRow> => ({
      pixelDigest: digest(name),
      perceptualHash: pictureHash(name),
    });
    const large = await versionOf(
      'large',
      Array.from({ length: LARGE_COUNT }, (_, index) => row(index, facts(`large ${index}`))),
    );
    const near = pictureHash('large 65999');
    near[7] = (near[7] ?? 0) ^ 0b10101;
    const first = await versionOf('first', [row(0, facts('large 3')), row(1, facts('other'))]);
    const second = await versionOf('second', [row(0, { pixelDigest: digest('changed'), perceptualHash: near })]);

    const tested = { version: large, rows: Int32Array.of(3, 4, 65_534, 65_999) };
    assert.deepEqual([...(await findSamePixels(context, tested, [first, second], progress))], [1, 0, 0, 0]);
    assert.deepEqual([...(await findSamePictures(context, tested, [first, second], progress))], [1, 0, 0, 1]);

    const others = { version: first, rows: Int32Array.of(0, 1) };
    assert.deepEqual([...(await findSamePixels(context, others, [large], progress))], [1, 0]);
    assert.deepEqual([...(await findSamePictures(context, others, [large], progress))], [1, 0]);
    readings = 0;
    await findSamePixels(context, { version: second, rows: Int32Array.of() }, [large], progress);
    assert.equal(readings, 1 + LARGE_COUNT);
  });

  test('none is searched further once the run must stop', async () => {
    const version = await versionOf('stopped', [row(0, {})]);
    const stopped = new Error('stop');
    const stopping = {
      ...context,
      throwIfStopped: () => {
        throw stopped;
      },
    };
    const wanted = { version, rows: Int32Array.of(0) };
    await assert.rejects(findSamePixels(stopping, wanted, [version], progress), stopped);
    await assert.rejects(findSamePictures(stopping, wanted, [version], progress), stopped);
    await assert.rejects(identitiesOf(stopping, wanted, progress), stopped);
  });
});

describe('patients and slides', () => {
  test('are groups of their dataset, TCGA patients of any, and unknown without either', async () => {
    const version = await versionOf('d', [
      row(0, { group: 'patient 1', sourcePath: 'a.png' }),
      row(1, { group: 'patient 1', sourcePath: 'b.png' }),
      row(2, { group: null, sourcePath: 'c.png' }),
      row(3, { group: null, sourcePath: 'TCGA-AB-1234-01Z-00-DX1/d.png' }),
      row(4, { group: 'slide 7', sourcePath: 'TCGA-AB-9999-01Z-00-DX1/e.png' }),
      row(5, { group: 'TCGA-CD-5678', sourcePath: 'f.png' }),
      row(6, { group: null, sourcePath: null }),
    ]);
    assert.deepEqual([...(await identitiesOf(context, { version, rows: 'ALL' }, progress))].sort(), [
      'TCGA-AB-1234',
      'TCGA-AB-9999',
      'TCGA-CD-5678',
      'd patient 1',
    ]);
    const some = { version, rows: Int32Array.of(1, 2, 5) };
    assert.deepEqual([...(await identitiesOf(context, some, progress))].sort(), ['TCGA-CD-5678', 'd patient 1']);
  });
});
