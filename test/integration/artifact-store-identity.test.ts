/** A registry identifies its artifact store: a server with another store is refused. */
import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { after, before, beforeEach, test } from 'node:test';
import { adoptArtifactStore, claimArtifactStore, requireArtifactStore } from '../../src/modules/artifacts/index.ts';
import { openArtifactStore } from '../../src/platform/artifact-store/index.ts';
import { openTestDatabase, type TestDatabase } from '../support/database.ts';
import { temporaryFolder } from '../support/shards.ts';

let database: TestDatabase;
before(async () => {
  database = await openTestDatabase();
});
after(() => database.close());
beforeEach(async () => {
  await database.db.artifactStoreIdentity.deleteMany();
  await database.db.artifact.deleteMany();
});

const at = (folder: string) => ({ db: database.db, store: openArtifactStore(folder) });
const CONFLICT = { code: 'CONFLICT', message: /is not the artifact store of this registry/ };

test('the first server gives database and store the same identity, and later servers find it', async (context) => {
  const folder = await temporaryFolder(context);
  await requireArtifactStore(at(folder));
  await claimArtifactStore(at(folder));
  const identity = await readFile(path.join(folder, 'store-id'), 'utf8');
  await claimArtifactStore(at(folder));
  await requireArtifactStore(at(folder));
  assert.equal(await readFile(path.join(folder, 'store-id'), 'utf8'), identity);
  assert.equal((await database.db.artifactStoreIdentity.findFirstOrThrow()).storeId, identity.trim());
});

test('servers refuse the store of another registry, and a store without any of the artifacts', async (context) => {
  const [own, other, empty] = await Promise.all([1, 2, 3].map(() => temporaryFolder(context)));
  assert.ok(own !== undefined && other !== undefined && empty !== undefined);
  await claimArtifactStore(at(own));
  const { sha256, byteSize } = await openArtifactStore(own).put(Buffer.from('bytes'));
  await database.db.artifact.create({ data: { sha256, byteSize, mediaType: 'text/plain' } });
  await writeFile(path.join(other, 'store-id'), '00000000-0000-4000-8000-000000000000\n');
  for (const folder of [other, empty]) {
    await assert.rejects(claimArtifactStore(at(folder)), CONFLICT);
    await assert.rejects(requireArtifactStore(at(folder)), CONFLICT);
  }
  await writeFile(path.join(other, 'store-id'), 'damaged');
  await assert.rejects(requireArtifactStore(at(other)), /does not contain the identity of an artifact store/);
});

test('artifacts that were moved without the identity file are recognised by their content, and a restore adopts the store that it filled', async (context) => {
  const [own, moved, restored] = await Promise.all([1, 2, 3].map(() => temporaryFolder(context)));
  assert.ok(own !== undefined && moved !== undefined && restored !== undefined);
  await claimArtifactStore(at(own));
  const { sha256, byteSize } = await openArtifactStore(moved).put(Buffer.from('bytes'));
  await database.db.artifact.create({ data: { sha256, byteSize, mediaType: 'text/plain' } });
  await claimArtifactStore(at(moved));
  await adoptArtifactStore(at(restored));
  for (const folder of [moved, restored]) await requireArtifactStore(at(folder));
});
