/** Keys: the first key, and every kind of invalid key. */
import assert from 'node:assert/strict';
import { chmod, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { DomainError } from '../../src/errors.ts';
import {
  authorise,
  createAccessService,
  personOf,
  UNLIMITED,
  type AccessService,
  type Viewer,
} from '../../src/modules/access/index.ts';
import { at } from '../support/catalogue.ts';
import { openTestDatabase, type TestDatabase } from '../support/database.ts';
import { keyHolder } from '../support/viewers.ts';

let database: TestDatabase;
let folder: string;
let file: string;
let nowMs = Date.UTC(2026, 0, 1);

const LOCAL = { isLocal: () => true };
const REMOTE = { isLocal: () => false };

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
  test('is created once, even by many servers at the same time', async () => {
    const states = await Promise.all(Array.from({ length: 4 }, () => service().ensureAdminKey(file)));
    assert.deepEqual(states.map((state) => state.kind).toSorted(), ['MADE', 'PRESENT', 'PRESENT', 'PRESENT']);
    assert.equal(await database.db.accessKey.count(), 1);
  });

  test('is readable only by its owner, and not stored in the database', async () => {
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

  test('is not created again if its file is lost or contains another key; the hint says how to get a new one', async () => {
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
  test('without a key may only read, and only from this machine', async () => {
    const local = await service().viewerOf(undefined, LOCAL);
    authorise(local, 'READER');
    assert.throws(() => authorise(local, 'CONTRIBUTOR'), isRefusal('UNAUTHENTICATED', /needs a key/));
    for (const viewer of [
      await service().viewerOf(undefined, REMOTE),
      await service(true).viewerOf(undefined, LOCAL),
    ]) {
      assert.throws(() => authorise(viewer, 'READER'), isRefusal('UNAUTHENTICATED', /needs a key/));
    }
  });

  test('with a lower role is refused with the role that is needed', () => {
    const viewer: Viewer = {
      kind: 'KEY',
      keyId: '0',
      name: 'notebook',
      owner: 'Ada',
      role: 'CONTRIBUTOR',
      scopes: UNLIMITED,
    };
    authorise(viewer, 'READER');
    assert.throws(
      () => authorise(viewer, 'OPERATOR'),
      isRefusal('FORBIDDEN', /needs the role OPERATOR; the key "notebook" has CONTRIBUTOR/),
    );
  });

  test('with a wrong key is refused, even to read', async () => {
    const key = await adminKey();
    const flipped = `${key.slice(0, -1)}${key.endsWith('A') ? 'B' : 'A'}`;
    const unknownId = key.replace(/^pfn_.{32}/, `pfn_${'0'.repeat(32)}`);
    const wrong = [
      '',
      'Bearer',
      'Bearer ',
      `Basic ${key}`,
      key,
      'Bearer pfn_1_2',
      `Bearer ${key}x`,
      `Bearer ${flipped}`,
      `Bearer ${unknownId}`,
      `Bearer ${key} ${key}`,
      `Bearer ${'x'.repeat(10_000)}`,
    ];
    for (const header of wrong) {
      await assert.rejects(
        service().viewerOf(header, LOCAL),
        isRefusal('UNAUTHENTICATED', /does not contain a key|unknown or wrong/),
        header,
      );
    }
  });

  test('with an expired key is refused from that moment on', async () => {
    const access = service();
    await database.db.accessKey.updateMany({
      where: { revokedAt: null },
      data: { expiresAt: new Date(nowMs + 3_000) },
    });
    const header = `Bearer ${await adminKey()}`;
    await access.viewerOf(header, LOCAL);
    nowMs += 3_000;
    await assert.rejects(access.viewerOf(header, LOCAL), isRefusal('UNAUTHENTICATED', /expired/));
    await database.db.accessKey.updateMany({ where: { revokedAt: null }, data: { expiresAt: null } });
  });

  test('is cached for a short time, and its use is recorded at most once a minute', async () => {
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

describe('keys', () => {
  const ADMIN = keyHolder('ADMIN');
  const input = { name: ' notebook ', owner: 'Ada', role: 'CONTRIBUTOR' };

  test('are created with a secret that is shown once, and store their owner and their permissions', async () => {
    const access = service();
    const { key, secret } = await access.createKey(ADMIN, {
      ...input,
      actions: ['READ', 'IMPORT'],
      resources: ['dataset:bach', 'model:*'],
      expiresAt: null,
    });
    assert.deepEqual([key.name, key.owner, key.role, key.expiresAt], ['notebook', 'Ada', 'CONTRIBUTOR', null]);
    const viewer = await access.viewerOf(`Bearer ${secret}`, REMOTE);
    assert.deepEqual(viewer, {
      kind: 'KEY',
      keyId: key.id,
      name: 'notebook',
      owner: 'Ada',
      role: 'CONTRIBUTOR',
      scopes: { actions: ['READ', 'IMPORT'], resources: ['dataset:bach', 'model:*'] },
    });
    assert.equal(personOf(viewer), 'Ada');
    const listed = (await access.keys(ADMIN, {}, {})).edges.map((edge) => edge.node);
    assert.ok(listed.some((each) => each.id === key.id));
    assert.ok(!JSON.stringify(listed).includes(secret.slice(-43)));
    assert.ok(listed.every((each) => !('hash' in each) && !('salt' in each)));
  });

  test('two keys of one person are independent, with separate salts', async () => {
    const [one, two] = [await service().createKey(ADMIN, input), await service().createKey(ADMIN, input)];
    const rows = await database.db.accessKey.findMany({ where: { id: { in: [one.key.id, two.key.id] } } });
    assert.equal(new Set(rows.flatMap((row) => [row.salt, row.hash])).size, 4);
  });

  test('are valid for a year by default', async () => {
    const { key } = await service().createKey(ADMIN, input);
    assert.equal(key.expiresAt?.getTime(), nowMs + 365 * 86_400_000);
    const soon = new Date(nowMs + 5_000);
    const access = service();
    const { secret } = await access.createKey(ADMIN, { ...input, expiresAt: soon });
    await access.viewerOf(`Bearer ${secret}`, REMOTE);
    nowMs += 5_000;
    await assert.rejects(access.viewerOf(`Bearer ${secret}`, REMOTE), isRefusal('UNAUTHENTICATED', /expired/));
  });

  const wrong: readonly [string, object, string][] = [
    ['without a name', { ...input, name: ' ' }, 'input.name'],
    ['without an owner', { name: 'n', role: 'READER' }, 'input.owner'],
    ['of an unknown role', { ...input, role: 'ROOT' }, 'input.role'],
    ['limited to no action', { ...input, actions: [] }, 'input.actions'],
    [
      'limited to something that is not a resource',
      { ...input, resources: ['dataset:bach', 'slide:1'] },
      'input.resources.1',
    ],
    ['limited to half a pattern', { ...input, resources: ['dataset:ba*'] }, 'input.resources.0'],
    ['that has expired already', { ...input, expiresAt: new Date(0) }, 'input.expiresAt'],
    ['with a line break in its name', { ...input, name: 'a\nb' }, 'input.name'],
    ['with a secret of their own', { ...input, secret: 'x' }, 'input'],
  ];
  for (const [what, facts, field] of wrong) {
    test(`${what} are not made`, async () => {
      await assert.rejects(
        service().createKey(ADMIN, facts),
        (error) => isRefusal('BAD_INPUT', /./)(error) && at(error, 'field') === field,
      );
    });
  }

  test('once revoked are refused, at once on this server; revoking again is not an error', async () => {
    const access = service();
    const { key, secret } = await access.createKey(ADMIN, input);
    await access.viewerOf(`Bearer ${secret}`, REMOTE);
    const revoked = await access.revokeKey(ADMIN, key.id);
    assert.deepEqual(revoked.revokedAt, new Date(nowMs));
    await assert.rejects(access.viewerOf(`Bearer ${secret}`, REMOTE), isRefusal('UNAUTHENTICATED', /revoked/));
    nowMs += 1_000;
    assert.deepEqual(await access.revokeKey(ADMIN, key.id), revoked);
    for (const id of ['00000000-0000-7000-8000-000000000000', 'x'])
      await assert.rejects(access.revokeKey(ADMIN, id), isRefusal('NOT_FOUND', /No key/));
  });

  test('the last key of an administrator cannot be revoked, not even by two requests at once', async () => {
    const access = service();
    await database.db.accessKey.updateMany({ where: { role: 'ADMIN' }, data: { revokedAt: new Date(nowMs) } });
    const one = await access.createKey(ADMIN, { ...input, role: 'ADMIN' });
    // Neither of these could make another key.
    await access.createKey(ADMIN, { ...input, role: 'ADMIN', actions: ['IMPORT'] });
    await access.createKey(ADMIN, { ...input, role: 'ADMIN', resources: ['model:*'] });
    await assert.rejects(access.revokeKey(ADMIN, one.key.id), isRefusal('CONFLICT', /the last valid ADMIN key/));
    const two = await access.createKey(ADMIN, { ...input, role: 'ADMIN', actions: ['ADMINISTER'] });
    const outcomes = await Promise.allSettled([
      access.revokeKey(ADMIN, one.key.id),
      service().revokeKey(ADMIN, two.key.id),
    ]);
    assert.deepEqual(outcomes.map((outcome) => outcome.status).toSorted(), ['fulfilled', 'rejected']);
  });

  test('are listed by owner, and by whether they are valid', async () => {
    const access = service();
    const { key } = await access.createKey(ADMIN, { ...input, owner: 'Grace' });
    const count = async (filter: object): Promise<number> => (await access.keys(ADMIN, {}, filter)).totalCount();
    assert.equal(await count({ owner: 'Grace' }), 1);
    await access.revokeKey(ADMIN, key.id);
    assert.deepEqual(
      [await count({ owner: 'Grace', usable: true }), await count({ owner: 'Grace', usable: false })],
      [0, 1],
    );
    assert.equal((await count({ usable: true })) + (await count({ usable: false })), await count({}));
    const page = await access.keys(ADMIN, { first: 1 }, {});
    const next = await access.keys(ADMIN, { first: 1, after: page.pageInfo.endCursor }, {});
    assert.notEqual(next.edges[0]?.node.id, page.edges[0]?.node.id);
  });

  test('are managed only by ADMINs', async () => {
    const operator = keyHolder('OPERATOR');
    const access = service();
    await assert.rejects(access.keys(operator, {}, {}), isRefusal('FORBIDDEN', /ADMIN/));
    await assert.rejects(access.createKey(operator, input), isRefusal('FORBIDDEN', /ADMIN/));
    await assert.rejects(access.revokeKey(operator, 'x'), isRefusal('FORBIDDEN', /ADMIN/));
  });
});
