/** Keys: the first one, and every way in which one can be wrong. */
import assert from 'node:assert/strict';
import { chmod, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { DomainError } from '../../src/errors.ts';
import { authorise, createAccessService, type AccessService, type Viewer } from '../../src/modules/access/index.ts';
import { openTestDatabase, type TestDatabase } from '../support/database.ts';

let database: TestDatabase;
let folder: string;
let file: string;
let nowMs = Date.UTC(2026, 0, 1);

const LOCAL = { isLoopback: true };
const REMOTE = { isLoopback: false };

before(async () => {
  database = await openTestDatabase();
  folder = await mkdtemp(path.join(tmpdir(), 'paraffin-access-'));
  file = path.join(folder, 'admin-key');
});
after(async () => {
  await database.close();
  await rm(folder, { recursive: true, force: true });
});

function service(requireAuth = false): AccessService {
  return createAccessService({ db: database.db, transact: database.transact, requireAuth, now: () => new Date(nowMs) });
}

function isRefusal(code: string, message: RegExp): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof DomainError);
    assert.equal(error.code, code);
    assert.match(error.message, message);
    return true;
  };
}

const adminKey = async (): Promise<string> => (await readFile(file, 'utf8')).trim();

describe('the first key', () => {
  test('is made once, even by many servers at the same time', async () => {
    const states = await Promise.all(Array.from({ length: 4 }, () => service().ensureAdminKey(file)));
    assert.deepEqual(states.map((state) => state.kind).toSorted(), ['MADE', 'PRESENT', 'PRESENT', 'PRESENT']);
    assert.equal(await database.db.accessKey.count(), 1);
  });

  test('is readable by its owner alone, and not in the database', async () => {
    assert.equal((await stat(file)).mode & 0o777, 0o600);
    const key = await adminKey();
    assert.match(key, /^pfn_[0-9a-f]{32}_[A-Za-z0-9_-]{43}$/);
    const secret = key.slice(-43);
    assert.ok(!JSON.stringify(await database.db.accessKey.findMany()).includes(secret));
  });

  test('lets its holder do everything', async () => {
    const viewer = await service().viewerOf(`Bearer ${await adminKey()}`, REMOTE);
    assert.deepEqual([viewer.kind, viewer.kind === 'KEY' ? viewer.role : ''], ['KEY', 'ADMIN']);
    authorise(viewer, 'ADMIN');
  });

  test('is not made again when its file is lost or holds another key; the hint says how to have a new one', async () => {
    const key = await adminKey();
    await writeFile(file, 'pfn_something else');
    const other = await service().ensureAdminKey(file);
    assert.equal(other.kind, 'UNUSABLE');
    await rm(file);
    const lost = await service().ensureAdminKey(file);
    assert.ok(lost.kind === 'UNUSABLE');
    const [, statement] = /: (UPDATE .*)\.$/.exec(lost.hint) ?? [];
    assert.ok(statement !== undefined, lost.hint);
    await database.db.$executeRawUnsafe(statement);
    assert.equal((await service().ensureAdminKey(file)).kind, 'MADE');
    assert.notEqual(await adminKey(), key);
    await assert.rejects(service().viewerOf(`Bearer ${key}`, LOCAL), isRefusal('UNAUTHENTICATED', /revoked/));
  });

  test('is written with mode 0600 even over a file that was open to all', async () => {
    const open = path.join(folder, 'open-key');
    await writeFile(`${open}.unfinished`, 'left by a crash');
    await chmod(`${open}.unfinished`, 0o644);
    await database.db.accessKey.updateMany({ data: { revokedAt: new Date(nowMs) } });
    await service().ensureAdminKey(open);
    assert.equal((await stat(open)).mode & 0o777, 0o600);
    file = open;
  });
});

describe('a sender', () => {
  test('without a key may read from this machine, and nothing else', async () => {
    const local = await service().viewerOf(undefined, LOCAL);
    authorise(local, 'READER');
    assert.throws(() => authorise(local, 'CONTRIBUTOR'), isRefusal('UNAUTHENTICATED', /needs a key/));
    for (const viewer of [await service().viewerOf(undefined, REMOTE), await service(true).viewerOf(undefined, LOCAL)]) {
      assert.throws(() => authorise(viewer, 'READER'), isRefusal('UNAUTHENTICATED', /needs a key/));
    }
  });

  test('with a lower role is told which one is needed', () => {
    const viewer: Viewer = { kind: 'KEY', keyId: '0', name: 'notebook', role: 'CONTRIBUTOR' };
    authorise(viewer, 'READER');
    assert.throws(() => authorise(viewer, 'OPERATOR'), isRefusal('FORBIDDEN', /needs the role OPERATOR; the key "notebook" has CONTRIBUTOR/));
  });

  test('with a wrong key is refused, even to read', async () => {
    const key = await adminKey();
    const flipped = `${key.slice(0, -1)}${key.endsWith('A') ? 'B' : 'A'}`;
    const unknownId = key.replace(/^pfn_.{32}/, `pfn_${'0'.repeat(32)}`);
    const wrong = ['', 'Bearer', 'Bearer ', `Basic ${key}`, key, 'Bearer pfn_1_2', `Bearer ${key}x`, `Bearer ${flipped}`, `Bearer ${unknownId}`, `Bearer ${key} ${key}`, `Bearer ${'x'.repeat(10_000)}`];
    for (const header of wrong) {
      await assert.rejects(service().viewerOf(header, LOCAL), isRefusal('UNAUTHENTICATED', /holds no key|not known/), header);
    }
  });

  test('with an expired key is refused from that moment on', async () => {
    const access = service();
    await database.db.accessKey.updateMany({ where: { revokedAt: null }, data: { expiresAt: new Date(nowMs + 3_000) } });
    const header = `Bearer ${await adminKey()}`;
    await access.viewerOf(header, LOCAL);
    nowMs += 3_000;
    await assert.rejects(access.viewerOf(header, LOCAL), isRefusal('UNAUTHENTICATED', /expired/));
    await database.db.accessKey.updateMany({ where: { revokedAt: null }, data: { expiresAt: null } });
  });

  test('is remembered for a short while, and its use noted at most once a minute', async () => {
    const access = service();
    const header = `bearer ${await adminKey()}`;
    await access.viewerOf(header, LOCAL);
    const firstUse = await database.db.accessKey.findFirst({ where: { revokedAt: null } });
    await database.db.accessKey.updateMany({ where: { revokedAt: null }, data: { revokedAt: new Date(nowMs) } });
    await access.viewerOf(header, LOCAL);
    nowMs += 10_001;
    await assert.rejects(access.viewerOf(header, LOCAL), isRefusal('UNAUTHENTICATED', /revoked/));
    await database.db.accessKey.updateMany({ where: { id: firstUse?.id ?? '' }, data: { revokedAt: null } });
    await access.viewerOf(header, LOCAL);
    const secondUse = await database.db.accessKey.findUnique({ where: { id: firstUse?.id ?? '' } });
    assert.deepEqual(secondUse?.lastUsedAt, firstUse?.lastUsedAt);
    nowMs += 60_000;
    await access.viewerOf(header, LOCAL);
    const thirdUse = await database.db.accessKey.findUnique({ where: { id: firstUse?.id ?? '' } });
    assert.deepEqual(thirdUse?.lastUsedAt, new Date(nowMs));
  });
});
