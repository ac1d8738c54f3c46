/** A registry identifies its artifact store: a worker with another store is refused before it takes a run. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { after, before, beforeEach, test } from 'node:test';
import { childEnvironment } from '../../src/env.ts';
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

test('servers and workers refuse the store of another registry, and a store without any of the artifacts', async (context) => {
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

test('a worker with another store ends at its start and says what to do', async (context) => {
  const [own, dataDir] = await Promise.all([1, 2].map(() => temporaryFolder(context)));
  assert.ok(own !== undefined && dataDir !== undefined);
  await claimArtifactStore(at(own));
  await rm(path.join(dataDir, 'artifacts'), { recursive: true, force: true });
  const worker = spawn(process.execPath, [path.resolve(import.meta.dirname, '../../workers/main.ts')], {
    env: childEnvironment({ PARAFFIN_DATABASE_URL: database.url, PARAFFIN_DATA_DIR: dataDir }),
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let said = '';
  for (const stream of [worker.stdout, worker.stderr])
    stream.on('data', (chunk: Buffer) => (said += chunk.toString('utf8')));
  const [code] = await once(worker, 'close');
  assert.equal(code, 2, said);
  assert.match(said, /is not the artifact store of this registry.*Set PARAFFIN_DATA_DIR/);
});
