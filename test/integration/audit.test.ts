/** The audit log: its contents, and that every change to it is detected. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { createAuditService, verifyAuditLog, type AuditRecord } from '../../src/modules/audit/index.ts';
import { at, listAt } from '../support/catalogue.ts';
import { openTestDatabase, type TestDatabase } from '../support/database.ts';
import { assertTakenSince } from '../support/instants.ts';
import { startTestServer, type TestServer } from '../support/server.ts';
import { keyHolder } from '../support/viewers.ts';

let database: TestDatabase;
let server: TestServer;

before(async () => {
  database = await openTestDatabase();
  server = await startTestServer(database);
});
after(async () => {
  await server.close();
  await database.close();
});

const ADMIN = keyHolder('ADMIN');
const CREATE =
  'mutation($slug: String!) { createModel(input: { slug: $slug, name: "m" }) { model { id } userErrors { code } } }';

async function latest(count: number): Promise<AuditRecord[]> {
  return (await server.services.audit.list(ADMIN, { first: count }, {})).edges.map((edge) => edge.node);
}

async function post(headers: Record<string, string>, query: string): Promise<Response> {
  return fetch(`${server.url}/graphql`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: JSON.stringify({ query }),
  });
}

describe('an entry', () => {
  test('states who did what to which object, when, and from where', async () => {
    const beganMs = Date.now();
    const model = at(await server.ask(CREATE, { slug: 'first' }), 'data.createModel.model.id');
    const [entry] = await latest(1);
    assert.ok(entry !== undefined);
    const { at: instant, hash, previousHash, keyId, requestId, sequence, ...facts } = entry;
    assert.deepEqual(facts, {
      person: 'admin',
      keyName: 'admin',
      address: '127.0.0.1',
      action: 'Mutation.createModel',
      subject: model,
      outcome: 'DONE',
      code: null,
    });
    assertTakenSince(beganMs, instant);
    assert.ok(sequence >= 1);
    assert.match(
      `${keyId} ${requestId} ${hash} ${previousHash}`,
      /^[0-9a-f-]{36} [0-9a-f-]{36} [0-9a-f]{64} [0-9a-f]{64}$/,
    );
  });

  test('is written for what was rejected, and for what was denied', async () => {
    await server.ask(CREATE, { slug: 'first' });
    await post({}, 'mutation { createModel(input: { slug: "anon", name: "m" }) { model { id } } }');
    await post({}, '{ keys { totalCount } }');
    await post({ authorization: `Bearer pfn_${'ab'.repeat(16)}_${'x'.repeat(43)}` }, '{ viewer { role } }');
    await fetch(`${server.url}/metrics?token=hush`, { headers: { 'x-forwarded-for': '203.0.113.9' } });
    const facts = (await latest(5)).map(({ action, subject, outcome, code, person }) => [
      action,
      subject,
      outcome,
      code,
      person,
    ]);
    assert.deepEqual(facts, [
      ['GET /metrics', null, 'DENIED', 'UNAUTHENTICATED', null],
      ['POST /graphql', 'abababab-abab-abab-abab-abababababab', 'DENIED', 'UNAUTHENTICATED', null],
      ['Query.keys', null, 'DENIED', 'UNAUTHENTICATED', null],
      ['Mutation.createModel', 'anon', 'DENIED', 'UNAUTHENTICATED', null],
      ['Mutation.createModel', 'first', 'REJECTED', 'SLUG_TAKEN', 'admin'],
    ]);
  });

  test('is not written for reading', async () => {
    const [before] = await latest(1);
    await server.ask('{ viewer { role } datasets { totalCount } }');
    assert.deepEqual(await latest(1), [before]);
  });

  test('contains no secret, not even that of a created key', async () => {
    const secret = String(
      at(
        await server.ask(
          'mutation { createKey(input: { name: "k", owner: "Ada", role: READER }) { key { id } secret } }',
        ),
        'data.createKey.secret',
      ),
    );
    await post({ authorization: `Bearer ${secret}` }, '{ keys { totalCount } }');
    const all = JSON.stringify(await latest(200));
    assert.ok(!all.includes(secret.slice(-43)) && !all.includes(server.adminKey.slice(-43)));
    const [denied, made] = await latest(2);
    assert.deepEqual(
      [denied?.person, denied?.code, made?.action, made?.subject],
      ['Ada', 'FORBIDDEN', 'Mutation.createKey', denied?.keyId],
    );
  });

  test('and its change are committed together or not at all', async () => {
    const audit = createAuditService({ db: database.db, transact: database.transact });
    const act = { viewer: ADMIN, address: null, requestId: 'r', action: 'Mutation.test', subject: null };
    await assert.rejects(
      audit.record(act, () =>
        audit.transact(async (tx) => {
          await tx.model.create({ data: { slug: 'half', name: 'half' } });
          throw new Error('no');
        }),
      ),
      /no/,
    );
    assert.equal(await database.db.model.count({ where: { slug: 'half' } }), 0);
    assert.deepEqual(
      (await latest(1)).map(({ outcome, code }) => [outcome, code]),
      [['FAILED', 'INTERNAL']],
    );
    await database.db.$executeRawUnsafe('ALTER TABLE "AuditEntry" RENAME TO "AuditEntry_away"');
    try {
      await assert.rejects(
        audit.record(act, () => audit.transact((tx) => tx.model.create({ data: { slug: 'unseen', name: 'unseen' } }))),
      );
    } finally {
      await database.db.$executeRawUnsafe('ALTER TABLE "AuditEntry_away" RENAME TO "AuditEntry"');
    }
    assert.equal(await database.db.model.count({ where: { slug: 'unseen' } }), 0);
  });
});

test('changes made at the same moment form one chain', async () => {
  const [before] = await latest(1);
  await Promise.all(Array.from({ length: 12 }, (_, index) => server.ask(CREATE, { slug: `parallel-${index}` })));
  const { fault, head, entryCount } = await server.services.audit.verify(ADMIN);
  assert.equal(fault, null);
  assert.deepEqual([head.sequence, entryCount], [(before?.sequence ?? 0) + 12, head.sequence]);
});

test('the log is listed by person, key, action, outcome and time, in pages', async () => {
  const list = async (filter: string, page = 'first: 200'): Promise<unknown> =>
    server.ask(
      `{ auditLog(${page}, filter: ${filter}) { totalCount pageInfo { endCursor hasNextPage } nodes { sequence person action outcome } } }`,
    );
  const denied = listAt(await list('{ outcome: DENIED }'), 'data.auditLog.nodes');
  assert.ok(denied.length >= 4 && denied.every((entry) => at(entry, 'outcome') === 'DENIED'));
  assert.equal(at(await list('{ person: "Ada" }'), 'data.auditLog.totalCount'), 1);
  assert.equal(at(await list('{ until: "2020-01-01T00:00:00Z" }'), 'data.auditLog.totalCount'), 0);
  const first = await list('{ action: "Mutation.createModel" }', 'first: 3');
  const next = await list(
    '{ action: "Mutation.createModel" }',
    `first: 3, after: "${String(at(first, 'data.auditLog.pageInfo.endCursor'))}"`,
  );
  assert.equal(
    Number(at(next, 'data.auditLog.nodes.0.sequence')) < Number(at(first, 'data.auditLog.nodes.2.sequence')),
    true,
  );
  assert.equal(at(await list('{}', 'after: "WyJ4Il0"'), 'errors.0.extensions.code'), 'CURSOR_INVALID');
});

describe('the log', () => {
  const changes: readonly [string, string][] = [
    ['changed', `UPDATE "AuditEntry" SET person = 'nobody' WHERE sequence = 2`],
    ['taken from', 'DELETE FROM "AuditEntry" WHERE sequence = 2'],
    ['emptied', 'TRUNCATE "AuditEntry"'],
  ];
  for (const [what, statement] of changes) {
    test(`cannot be ${what}`, async () => {
      await assert.rejects(database.db.$executeRawUnsafe(statement), /append-only/);
    });
  }

  /** As the owner of the database could. */
  async function force(statement: string): Promise<void> {
    await database.db.$transaction(async (tx) => {
      await tx.$executeRawUnsafe('ALTER TABLE "AuditEntry" DISABLE TRIGGER USER');
      await tx.$executeRawUnsafe(statement);
      await tx.$executeRawUnsafe('ALTER TABLE "AuditEntry" ENABLE TRIGGER USER');
    });
  }

  test('shows where it was changed despite its triggers', async () => {
    const { head } = await verifyAuditLog(database.db);
    assert.equal((await verifyAuditLog(database.db, head)).hasKept, true);
    await force(`DELETE FROM "AuditEntry" WHERE sequence = ${head.sequence}`);
    // The chain alone cannot show that its last entries are missing; a head that is stored elsewhere can.
    const cut = await verifyAuditLog(database.db, head);
    assert.deepEqual([cut.fault, cut.hasKept], [null, false]);
    await force(`UPDATE "AuditEntry" SET person = 'nobody' WHERE sequence = 3`);
    assert.deepEqual((await verifyAuditLog(database.db)).fault, {
      sequence: 3,
      message: 'Entry 3 was changed after it was written.',
    });
    await force('DELETE FROM "AuditEntry" WHERE sequence = 2');
    const broken = await server.ask('{ verifyAudit { entryCount head { sequence } fault { sequence message } } }');
    assert.deepEqual(at(broken, 'data.verifyAudit'), {
      entryCount: 1,
      head: { sequence: 1 },
      fault: { sequence: 3, message: 'Entry 2 is missing.' },
    });
  });
});
