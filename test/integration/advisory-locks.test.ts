/** Advisory locks in PostgreSQL: each has its own number, and a long job does not block urgent operations. */
import assert from 'node:assert/strict';
import { globSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { createAccessService } from '../../src/modules/access/index.ts';
import { loadCatalogue, seedCatalogue } from '../../src/modules/datasets/index.ts';
import { loadPublishedCheckpoints, seedPublishedCheckpoints } from '../../src/modules/models/index.ts';
import { ADVISORY_LOCKS, withStoredBytesLock } from '../../src/platform/advisory-lock.ts';
import { applyMigrations, readMigrations } from '../../src/platform/migrate.ts';
import { openTestDatabase, type TestDatabase } from '../support/database.ts';
import { ADMIN } from '../support/registry.ts';
import { temporaryFolder } from '../support/shards.ts';

const ROOT = path.resolve(import.meta.dirname, '../..');

let database: TestDatabase;
before(async () => {
  database = await openTestDatabase();
});
after(() => database.close());

test('no two locks share a number, and every lock that is taken is one of them', () => {
  const numbers = Object.values(ADVISORY_LOCKS);
  assert.equal(new Set(numbers).size, numbers.length);
  const taken = globSync('{src,workers}/**/*.{ts,sql}', { cwd: ROOT, exclude: ['src/generated/**'] }).flatMap((file) =>
    [...readFileSync(path.join(ROOT, file), 'utf8').matchAll(/pg_(?:try_)?advisory\w*\(([^)]*)/g)].map(
      ([, lock = '']) => ({ file, lock }),
    ),
  );
  assert.ok(taken.length >= 6, `${taken.length} places take a lock`);
  for (const { file, lock } of taken) {
    // Found by name if the statement contains it, otherwise as the parameter of a call that names it.
    const named = lock.startsWith('$1') ? readFileSync(path.join(ROOT, file), 'utf8') : lock;
    assert.match(named, /ADVISORY_LOCKS\.[A-Z_]+/, `${file}: ${lock}`);
  }
});

test('while stored bytes are locked by a backup or a garbage collection, a key is revoked and a server starts', async (context) => {
  const { db, transact, url } = database;
  const access = createAccessService({ db, transact, requireAuth: false });
  const keyFile = path.join(await temporaryFolder(context), 'admin-key');
  for (const mode of ['SHARED', 'EXCLUSIVE'] as const) {
    // The lock is released only after this query, so a query that waited for it would never end.
    await withStoredBytesLock(url, mode, async () => {
      await applyMigrations(url, await readMigrations(path.join(ROOT, 'prisma/migrations')));
      await seedCatalogue(db, await loadCatalogue());
      await seedPublishedCheckpoints(db, await loadPublishedCheckpoints());
      await access.ensureAdminKey(keyFile);
      const { key } = await access.createKey(ADMIN, { name: `of ${mode}`, owner: 'test', role: 'CONTRIBUTOR' });
      assert.notEqual((await access.revokeKey(ADMIN, key.id)).revokedAt, null);
    });
  }
});
