/** Versions that were sealed when an image without a group still had its file as its group. */
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { fillGroupCounts } from '../../src/modules/datasets/index.ts';
import { openArtifactStore, type ArtifactStore } from '../../src/platform/artifact-store/index.ts';
import { artifactPlaceOf } from '../support/artifact-place.ts';
import { openTestDatabase, type TestDatabase } from '../support/database.ts';

let database: TestDatabase;
let folder = '';
let store: ArtifactStore;

before(async () => {
  database = await openTestDatabase();
  folder = await mkdtemp(path.join(tmpdir(), 'paraffin-group-counts-'));
  store = openArtifactStore(artifactPlaceOf(folder));
});
after(async () => {
  await database.close();
  await rm(folder, { recursive: true, force: true });
});

/** @param groups of each image; its path is `{place}.png`. */
async function sealOld(slug: string, groups: readonly (string | null)[]): Promise<string> {
  const lines = groups.map((group, place) =>
    JSON.stringify({
      ...{ key: String(place).padStart(9, '0'), sha256: 'ab'.repeat(32), label: 'gland', group, split: null },
      ...{ width: 8, height: 8, shard: 0, byteSize: 10, sourcePath: `${place}.png` },
    }),
  );
  const { sha256, byteSize } = await store.put(Buffer.from(lines.map((line) => `${line}\n`).join('')));
  await database.db.artifact.create({ data: { sha256, byteSize, mediaType: 'application/jsonl' } });
  const dataset = await database.db.dataset.create({ data: { slug, name: slug, imageKind: 'PATCH' } });
  const { id } = await database.db.datasetVersion.create({
    data: {
      ...{ datasetId: dataset.id, version: 1, status: 'SEALED', digest: sha256, manifestSha256: sha256 },
      ...{ imageCount: groups.length, groupCount: new Set(groups).size, sealedAt: new Date() },
    },
  });
  return id;
}

test('are counted once by their manifest: known groups, and images without one', async () => {
  const unknown = await sealOld('unknown', ['0.png', '1.png', '2.png']);
  const known = await sealOld('known', ['patient 1', 'patient 1', 'patient 2']);
  const partly = await sealOld('partly', ['patient 1', '1.png', null, 'patient 1']);
  const missing = await sealOld('missing', ['0.png']);
  const { manifestSha256 } = await database.db.datasetVersion.findUniqueOrThrow({ where: { id: missing } });
  assert.ok(await store.delete(manifestSha256 ?? '', new Date(Date.now() + 60_000)));
  const unreadable: string[] = [];
  const fill = (signal = new AbortController().signal): Promise<number> =>
    fillGroupCounts(
      {
        ...{ db: database.db, transact: database.transact, readArtifact: store.read },
        onUnreadable: (id) => unreadable.push(id),
      },
      signal,
    );
  assert.equal(await fill(AbortSignal.abort()), 0, 'it ends when it is told to');
  assert.equal(await fill(), 3);
  assert.deepEqual(unreadable, [missing]);
  const countsOf = async (id: string): Promise<readonly (number | null)[]> => {
    const version = await database.db.datasetVersion.findUniqueOrThrow({ where: { id } });
    return [version.groupCount, version.ungroupedImageCount];
  };
  assert.deepEqual(await countsOf(unknown), [0, 3]);
  assert.deepEqual(await countsOf(known), [2, 0]);
  assert.deepEqual(await countsOf(partly), [1, 2]);
  assert.deepEqual(await countsOf(missing), [1, null]);
  assert.equal(await fill(), 0, 'what is counted is not read again');
  await assert.rejects(
    database.db.datasetVersion.update({ where: { id: known }, data: { groupCount: 3 } }),
    /sealed/,
    'and never changes again',
  );
});
