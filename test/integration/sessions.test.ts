/** Signing in at a browser, over real HTTP: what the cookie opens, what it never opens, and every way it ends. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { get } from 'node:http';
import { after, before, describe, test } from 'node:test';
import { WebSocket } from 'ws';
import { DEFAULT_RATE_LIMITS } from '../../src/api/rate-limit.ts';
import { createSenderReader } from '../../src/api/sender.ts';
import { DEFAULT_TIMEOUTS } from '../../src/api/slow-clients.ts';
import { createAccessService, SESSIONS_PER_KEY_MAX } from '../../src/modules/access/index.ts';
import type { AuditRecord } from '../../src/modules/audit/index.ts';
import { at, listAt } from '../support/catalogue.ts';
import { makeRun, newCheckpoint } from '../support/checkpoints.ts';
import { openTestDatabase, type TestDatabase } from '../support/database.ts';
import { startTestServer, type TestServer } from '../support/server.ts';
import { keyHolder } from '../support/viewers.ts';

const ADMIN = keyHolder('ADMIN');
const VIEWER = { query: '{ viewer { role } }' };
const NOBODY = '00000000-0000-7000-8000-000000000000';
const BYTES = Buffer.from('weights that only those who may read have');
const SHA256 = createHash('sha256').update(BYTES).digest('hex');

let database: TestDatabase;
/** Bound beyond this machine: nobody reads without a key or a session. */
let server: TestServer;
let checkpointId: string;

before(async () => {
  database = await openTestDatabase();
  server = await startTestServer(database, {
    senderOf: createSenderReader({ host: '0.0.0.0', trustedProxies: [] }),
    timeouts: { ...DEFAULT_TIMEOUTS, recheckMs: 100 },
    // All that is refused here comes from one address.
    rateLimits: { ...DEFAULT_RATE_LIMITS, refusalsPerMinute: 100_000, anonymousRefusalsPerMinute: 100_000 },
  });
  await server.store.put(BYTES);
  checkpointId = await database.transact(async (tx) => {
    const facts = { modelSlug: 'tissue', sourceRunId: await makeRun(database), sha256: SHA256, byteSize: BYTES.length };
    return (await server.services.models.registerCheckpoint(tx, newCheckpoint(facts))).id;
  });
});
after(async () => {
  await server.close();
  await database.close();
});

interface Key {
  readonly id: string;
  readonly secret: string;
}

async function newKey(facts: Readonly<Record<string, unknown>> = {}): Promise<Key> {
  const { key, secret } = await server.access.createKey(ADMIN, { name: 'k', owner: 'Ada', role: 'READER', ...facts });
  return { id: key.id, secret };
}

function signIn(secret: string, headers: Record<string, string> = {}, to = server): Promise<Response> {
  return fetch(`${to.url}/session`, { method: 'POST', headers: { authorization: `Bearer ${secret}`, ...headers } });
}

/** `name=token`, as a browser sends it back. */
function cookieOf(response: Response): string {
  const [cookie = ''] = response.headers.getSetCookie();
  return cookie.slice(0, cookie.indexOf(';'));
}

async function signedIn(secret: string): Promise<string> {
  const response = await signIn(secret);
  assert.equal(response.status, 201, await response.text());
  return cookieOf(response);
}

/** What a browser says with everything but plain reads that a page of this server sends. */
const ofOwnPage = (to = server): Record<string, string> => ({ origin: to.url });

async function ask(cookie: string, query: string, headers = ofOwnPage(), to = server): Promise<unknown> {
  const response = await fetch(`${to.url}/graphql`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', cookie, ...headers },
    body: JSON.stringify({ query }),
  });
  return response.json();
}

async function roleOf(cookie: string, headers = ofOwnPage(), to = server): Promise<unknown> {
  const answer = await ask(cookie, '{ viewer { role } }', headers, to);
  return at(answer, 'data.viewer.role') ?? at(answer, 'errors.0.extensions.code');
}

async function latestActs(count: number): Promise<AuditRecord[]> {
  return (await server.services.audit.list(ADMIN, { first: count }, {})).edges.map((edge) => edge.node);
}

/**
 * The answer to the query, or the code with which the socket was closed.
 * @param onOpen called once the socket may be used; without a query it then waits.
 */
async function socketWith(
  headers: Record<string, string>,
  { query, onOpen }: { readonly query?: string; readonly onOpen?: () => Promise<unknown> },
): Promise<unknown> {
  const socket = new WebSocket(`${server.url.replace('http', 'ws')}/graphql`, 'graphql-transport-ws', { headers });
  const { promise, resolve } = Promise.withResolvers<unknown>();
  socket.on('error', (error) => resolve(error.message));
  socket.on('close', (code) => resolve(code));
  socket.on('open', () => socket.send(JSON.stringify({ type: 'connection_init' })));
  socket.on('message', (data) => {
    const message: unknown = JSON.parse(String(data));
    if (at(message, 'type') === 'connection_ack') {
      onOpen?.().catch(resolve);
      if (query !== undefined) socket.send(JSON.stringify({ id: '1', type: 'subscribe', payload: { query } }));
    }
    if (at(message, 'type') === 'next' || at(message, 'type') === 'error') resolve(at(message, 'payload'));
  });
  try {
    return await promise;
  } finally {
    socket.terminate();
  }
}

describe('signing in', () => {
  test('exchanges a key for a cookie that no page can read and that is not sent from other sites', async () => {
    const { secret, id } = await newKey();
    const response = await signIn(secret);
    assert.equal(response.status, 201);
    assert.equal(response.headers.get('cache-control'), 'no-store');
    const [header = '', ...others] = response.headers.getSetCookie();
    assert.deepEqual(others, []);
    const { port } = new URL(server.url);
    const [, token = '', seconds] =
      new RegExp(`^paraffin-${port}=([A-Za-z0-9_-]{43}); Path=/; HttpOnly; SameSite=Strict; Max-Age=(\\d+)$`).exec(
        header,
      ) ?? [];
    assert.ok(Number(seconds) > 43_000 && Number(seconds) <= 43_200, header);
    // 256 random bits, of which the database knows a digest.
    assert.equal(Buffer.from(token, 'base64url').length, 32);
    const row = await database.db.session.findFirstOrThrow({ where: { keyId: id } });
    assert.equal(row.tokenDigest, createHash('sha256').update(token).digest('hex'));
    assert.ok(!JSON.stringify(row).includes(token));
    assert.deepEqual(await response.json(), { id: row.id, expiresAt: row.expiresAt.toISOString() });
    assert.notEqual(cookieOf(await signIn(secret)), `paraffin-${port}=${token}`);
  });

  test('over HTTPS, as reported by a declared proxy, gives a cookie only for HTTPS; no other sender can claim that', async () => {
    const { secret } = await newKey();
    const behindProxy = await startTestServer(database, {
      senderOf: createSenderReader({ host: '0.0.0.0', trustedProxies: ['127.0.0.1'] }),
    });
    const host = 'registry.example';
    const secure = { 'x-forwarded-for': '203.0.113.9', 'x-forwarded-host': host, 'x-forwarded-proto': 'https' };
    const fromPage = { ...secure, origin: `https://${host}` };
    try {
      const response = await signIn(secret, fromPage, behindProxy);
      assert.match(
        String(response.headers.getSetCookie()),
        /^__Host-paraffin-\d+=[^;]+; Path=\/; HttpOnly; SameSite=Strict; Max-Age=\d+; Secure$/,
      );
      const cookie = cookieOf(response);
      assert.equal(await roleOf(cookie, fromPage, behindProxy), 'READER');
      // A cookie without the prefix is ignored, because another site of the domain could have set it by http.
      assert.equal(await roleOf(cookie.replace('__Host-', ''), fromPage, behindProxy), 'ANONYMOUS');
      const plain = await signIn(secret, { ...secure, 'x-forwarded-proto': 'http' }, behindProxy);
      assert.doesNotMatch(String(plain.headers.getSetCookie()), /Secure|__Host/);
    } finally {
      await behindProxy.close();
    }
    assert.doesNotMatch(
      String((await signIn(secret, { 'x-forwarded-proto': 'https' })).headers.getSetCookie()),
      /Secure|__Host/,
    );
  });

  test('needs a valid key: nothing else begins or prolongs a session', async () => {
    const { secret, id } = await newKey();
    const cookie = await signedIn(secret);
    const count = await database.db.session.count();
    const wrong: readonly Record<string, string>[] = [
      {},
      { cookie, ...ofOwnPage() },
      { authorization: 'Bearer sesame' },
      { authorization: `Basic ${secret}` },
      { authorization: `Bearer ${cookie.split('=').at(1) ?? ''}` },
      { authorization: `Bearer ${secret.slice(0, -1)}`, cookie, ...ofOwnPage() },
    ];
    for (const headers of wrong) {
      const response = await fetch(`${server.url}/session`, { method: 'POST', headers });
      assert.equal(response.status, 401, JSON.stringify(headers));
      assert.equal(at(await response.json(), 'code'), 'UNAUTHENTICATED');
      assert.deepEqual(response.headers.getSetCookie(), [], JSON.stringify(headers));
    }
    await server.access.revokeKey(ADMIN, id);
    assert.equal((await signIn(secret)).status, 401);
    assert.equal(await database.db.session.count(), count - 1);
    const other = await fetch(`${server.url}/session`);
    assert.deepEqual([other.status, other.headers.get('allow')], [405, 'DELETE, POST']);
  });

  test('with wrong keys soon has to wait, which does not affect senders with valid keys', async () => {
    const rateLimits = { ...DEFAULT_RATE_LIMITS, refusalsPerMinute: 2 };
    const limited = await startTestServer(database, { rateLimits });
    const { secret } = await newKey();
    try {
      const statuses: number[] = [];
      for (let count = 0; count < 4; count += 1) statuses.push((await signIn('sesame', {}, limited)).status);
      assert.deepEqual(statuses, [401, 401, 429, 429]);
      assert.match((await signIn('sesame', {}, limited)).headers.get('retry-after') ?? '', /^[1-6]?\d$/);
      const valid = await signIn(secret, {}, limited);
      assert.equal(valid.status, 201);
      assert.equal(await roleOf(cookieOf(valid), ofOwnPage(limited), limited), 'READER');
    } finally {
      await limited.close();
    }
  });

  test('again in the same browser ends the earlier session; one key has a limited number of sessions', async () => {
    const { secret, id } = await newKey();
    const first = await signedIn(secret);
    assert.equal(await roleOf(first), 'READER');
    const second = cookieOf(await signIn(secret, { cookie: first, ...ofOwnPage() }));
    assert.deepEqual([await roleOf(first), await roleOf(second)], ['UNAUTHENTICATED', 'READER']);
    for (let count = 1; count < SESSIONS_PER_KEY_MAX; count += 1) await signedIn(secret);
    assert.equal(await database.db.session.count({ where: { keyId: id } }), SESSIONS_PER_KEY_MAX);
    const newest = await signedIn(secret);
    assert.equal(await database.db.session.count({ where: { keyId: id } }), SESSIONS_PER_KEY_MAX);
    assert.equal(await roleOf(newest), 'READER');
  });
});

describe('a session', () => {
  /** Routes that are requested without further headers, as by `<img>` and `<a download>`; a 404 is not a refusal. */
  const reads = (): readonly string[] => [
    '/metrics',
    `/artifacts/${SHA256}`,
    `/checkpoints/${checkpointId}/download`,
    `/checkpoints/${checkpointId}/README.md`,
    `/datasets/${NOBODY}/croissant.json`,
    `/datasets/${NOBODY}/thumbnails/0.webp`,
    `/embeddings/${NOBODY}.npy`,
    `/embeddings/${NOBODY}.csv`,
  ];

  test('opens every route that takes a key; from another machine no route is open without one', async () => {
    const cookie = await signedIn((await newKey()).secret);
    for (const path of reads()) {
      assert.equal((await fetch(server.url + path)).status, 401, path);
      const { status } = await fetch(server.url + path, { headers: { cookie } });
      assert.equal(status, path.includes(NOBODY) ? 404 : 200, path);
    }
    for (const path of [`/artifacts/${SHA256}`, `/checkpoints/${checkpointId}/download`]) {
      const response = await fetch(server.url + path, { headers: { cookie } });
      assert.ok(BYTES.equals(Buffer.from(await response.arrayBuffer())), path);
      // What the browser keeps of it is of use with this very cookie alone.
      assert.equal(response.headers.get('vary'), 'Authorization, Cookie');
    }
    assert.equal(at(await ask(cookie, '{ datasets { totalCount } }'), 'data.datasets.totalCount'), 57);
    assert.equal(at(await ask('', '{ datasets { totalCount } }'), 'errors.0.extensions.code'), 'UNAUTHENTICATED');
    assert.deepEqual(await socketWith({ cookie, ...ofOwnPage() }, VIEWER), {
      data: { viewer: { role: 'READER' } },
    });
    assert.deepEqual(await socketWith(ofOwnPage(), VIEWER), { data: { viewer: { role: 'ANONYMOUS' } } });
  });

  test('allows what its key allows, and no more', async () => {
    const make =
      'mutation { createModel(input: { slug: "by-session", name: "m" }) { model { slug } userErrors { code } } }';
    const reader = await signedIn((await newKey()).secret);
    assert.equal(at(await ask(reader, make), 'errors.0.extensions.code'), 'FORBIDDEN');
    const contributor = await newKey({ role: 'CONTRIBUTOR' });
    const cookie = await signedIn(contributor.secret);
    assert.equal(at(await ask(cookie, make), 'data.createModel.model.slug'), 'by-session');
    // An upload belongs to the key: it may be continued with the session, or by a program with the key itself.
    const tus = { 'tus-resumable': '1.0.0', 'upload-length': '3' };
    const begun = await fetch(`${server.url}/uploads`, { method: 'POST', headers: { cookie, ...ofOwnPage(), ...tus } });
    assert.equal(begun.status, 201);
    const location = server.url + String(begun.headers.get('location'));
    const byKey = await fetch(location, {
      method: 'HEAD',
      headers: { authorization: `Bearer ${contributor.secret}`, 'tus-resumable': '1.0.0' },
    });
    assert.deepEqual([byKey.status, byKey.headers.get('upload-offset')], [200, '0']);
    const noImports = await signedIn((await newKey({ role: 'ADMIN', actions: ['READ'] })).secret);
    const refused = await fetch(`${server.url}/uploads`, {
      method: 'POST',
      headers: { cookie: noImports, ...ofOwnPage(), ...tus },
    });
    assert.equal(refused.status, 403);
  });

  test('is overridden by a key in the request', async () => {
    const cookie = await signedIn((await newKey()).secret);
    const key = await newKey({ role: 'OPERATOR' });
    assert.equal(await roleOf(cookie, { ...ofOwnPage(), authorization: `Bearer ${key.secret}` }), 'OPERATOR');
    assert.equal(await roleOf(cookie, { ...ofOwnPage(), authorization: 'Bearer sesame' }), 'UNAUTHENTICATED');
  });

  test('never authorises a request that another site may have caused', async () => {
    const cookie = await signedIn((await newKey({ role: 'ADMIN' })).secret);
    const count = await database.db.session.count();
    const port = Number(new URL(server.url).port);
    const foreign: readonly Record<string, string>[] = [
      { 'sec-fetch-site': 'cross-site' },
      { 'sec-fetch-site': 'same-site' },
      { 'sec-fetch-site': 'cross-site', origin: server.url },
      { origin: 'https://elsewhere.example' },
      { origin: `http://127.0.0.1:${port + 1}` },
      { origin: 'null' },
    ];
    for (const from of foreign) {
      const headers = { cookie, ...from };
      const what = JSON.stringify(from);
      for (const path of reads()) assert.equal((await fetch(server.url + path, { headers })).status, 403, path + what);
      assert.equal(at(await ask(cookie, '{ keys { totalCount } }', from), 'code'), 'ORIGIN_NOT_ALLOWED', what);
      for (const [method, path] of [
        ['DELETE', '/session'],
        ['POST', '/session'],
        ['POST', '/uploads'],
        ['PATCH', `/uploads/${'0'.repeat(32)}`],
      ] as const)
        assert.equal((await fetch(server.url + path, { method, headers })).status, 403, method + path + what);
      assert.match(String(await socketWith(headers, VIEWER)), /403/, what);
    }
    // A link from elsewhere may be followed, but the cookie is not taken with it.
    for (const site of ['cross-site', 'same-site']) {
      const followed = { 'sec-fetch-site': site, 'sec-fetch-mode': 'navigate', 'sec-fetch-dest': 'document' };
      const status = await new Promise((resolve, reject) => {
        // fetch sets Sec-Fetch-Mode by itself.
        get(`${server.url}/artifacts/${SHA256}`, { headers: { cookie, ...followed } }, (response) =>
          resolve(response.resume().statusCode),
        ).on('error', reject);
      });
      assert.equal(status, 401, site);
    }
    assert.equal(await database.db.session.count(), count);
    assert.equal(await roleOf(cookie), 'ADMIN');
  });

  test('changes nothing, and opens no socket, unless the browser states that a page of this server sent the request', async () => {
    const cookie = await signedIn((await newKey({ role: 'ADMIN' })).secret);
    assert.equal(await roleOf(cookie, {}), 'ANONYMOUS');
    assert.equal(await roleOf(cookie, { 'sec-fetch-site': 'none' }), 'ANONYMOUS');
    assert.equal(await roleOf(cookie, { 'sec-fetch-site': 'same-origin' }), 'ADMIN');
    assert.deepEqual(await socketWith({ cookie }, VIEWER), { data: { viewer: { role: 'ANONYMOUS' } } });
    assert.equal((await fetch(`${server.url}/session`, { method: 'DELETE', headers: { cookie } })).status, 401);
    const upload = { 'tus-resumable': '1.0.0', 'upload-length': '3', cookie };
    assert.equal((await fetch(`${server.url}/uploads`, { method: 'POST', headers: upload })).status, 401);
    assert.equal(await roleOf(cookie), 'ADMIN');
  });
});

describe('the end of a session', () => {
  /** The cookie is refused at once, and the response deletes it in the browser. */
  async function assertEnded(cookie: string): Promise<void> {
    const response = await fetch(`${server.url}/artifacts/${SHA256}`, { headers: { cookie } });
    assert.equal(response.status, 401);
    const [name = ''] = cookie.split('=');
    assert.deepEqual(response.headers.getSetCookie(), [`${name}=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0`]);
    assert.equal(await roleOf(cookie), 'UNAUTHENTICATED');
  }

  test('comes with a sign-out, which clears the cookie', async () => {
    const { secret } = await newKey();
    const [cookie, other] = [await signedIn(secret), await signedIn(secret)];
    assert.equal(await roleOf(cookie), 'READER');
    const response = await fetch(`${server.url}/session`, { method: 'DELETE', headers: { cookie, ...ofOwnPage() } });
    assert.equal(response.status, 204);
    assert.match(
      String(response.headers.getSetCookie()),
      /^paraffin-\d+=; Path=\/; HttpOnly; SameSite=Strict; Max-Age=0$/,
    );
    await assertEnded(cookie);
    assert.equal(await roleOf(other), 'READER');
    const again = await fetch(`${server.url}/session`, { method: 'DELETE', headers: { cookie, ...ofOwnPage() } });
    assert.equal(again.status, 401);
  });

  test('comes after its lifetime', async () => {
    const { secret, id } = await newKey();
    const cookie = await signedIn(secret);
    await database.db.session.updateMany({ where: { keyId: id }, data: { expiresAt: new Date(Date.now() - 1) } });
    await assertEnded(cookie);
    // The next sign-in of anybody clears it away.
    await signedIn((await newKey()).secret);
    assert.equal(await database.db.session.count({ where: { keyId: id } }), 0);
  });

  test('comes with the end of its key, by revocation or expiry', async () => {
    const revoked = await newKey();
    const cookie = await signedIn(revoked.secret);
    assert.equal(await roleOf(cookie), 'READER');
    await server.access.revokeKey(ADMIN, revoked.id);
    await assertEnded(cookie);
    assert.equal(await database.db.session.count({ where: { keyId: revoked.id } }), 0);

    const expired = await newKey();
    const other = await signedIn(expired.secret);
    await database.db.accessKey.update({ where: { id: expired.id }, data: { expiresAt: new Date(Date.now() - 1) } });
    await assertEnded(other);
  });

  test('never comes after the end of its key', async () => {
    let nowMs = Date.UTC(2030, 0, 1);
    const access = createAccessService({
      db: database.db,
      transact: database.transact,
      requireAuth: false,
      sessionLifetimeMs: 60_000,
      now: () => new Date(nowMs),
    });
    for (const [keyLastsMs, sessionLastsMs] of [
      [30_000, 30_000],
      [90_000, 60_000],
    ] as const) {
      const expiresAt = new Date(nowMs + keyLastsMs);
      const { secret } = await access.createKey(ADMIN, { name: 'k', owner: 'o', role: 'READER', expiresAt });
      const viewer = await access.viewerOf(`Bearer ${secret}`, { isLocal: () => false });
      const { session, token } = await access.sessions.signIn(viewer, null);
      assert.equal(session.expiresAt.getTime(), nowMs + sessionLastsMs);
      assert.deepEqual(await access.sessions.viewerOf(token), viewer);
      nowMs += sessionLastsMs - 1;
      assert.deepEqual(await access.sessions.viewerOf(token), viewer);
      nowMs += 1;
      await assert.rejects(access.sessions.viewerOf(token), { code: 'UNAUTHENTICATED' });
    }
  });

  test('is noticed by another server within ten seconds', async () => {
    let nowMs = Date.now();
    const parts = { db: database.db, transact: database.transact, requireAuth: false, now: () => new Date(nowMs) };
    const [here, there] = [createAccessService(parts), createAccessService(parts)];
    const viewer = await here.viewerOf(`Bearer ${(await newKey()).secret}`, { isLocal: () => false });
    const { token } = await here.sessions.signIn(viewer, null);
    assert.deepEqual(await there.sessions.viewerOf(token), viewer);
    await here.sessions.signOut(token);
    await assert.rejects(here.sessions.viewerOf(token), { code: 'UNAUTHENTICATED' });
    assert.deepEqual(await there.sessions.viewerOf(token), viewer);
    nowMs += 10_001;
    await assert.rejects(there.sessions.viewerOf(token), { code: 'UNAUTHENTICATED' });
  });

  test('can be ordered by an ADMIN, who sees who is signed in, from where and until when', async () => {
    const { secret, id } = await newKey({ owner: 'Grace', name: 'microscope' });
    const cookies = [await signedIn(secret), await signedIn(secret)];
    for (const cookie of cookies) assert.equal(await roleOf(cookie), 'READER');
    const list =
      '{ sessions(filter: { owner: "Grace" }) { totalCount nodes { id address createdAt lastUsedAt expiresAt key { id name } } } }';
    const listed = await server.ask(list);
    const nodes = listAt(listed, 'data.sessions.nodes');
    assert.equal(nodes.length, 2, JSON.stringify(listed));
    for (const node of nodes) {
      assert.deepEqual([at(node, 'address'), at(node, 'key')], ['127.0.0.1', { id, name: 'microscope' }]);
      const [from, until] = [Date.parse(String(at(node, 'createdAt'))), Date.parse(String(at(node, 'expiresAt')))];
      assert.ok(Math.abs(until - from - 43_200_000) < 5_000);
      assert.ok(Math.abs(Date.parse(String(at(node, 'lastUsedAt'))) - from) < 60_000);
    }
    const first = await server.ask(
      '{ sessions(first: 1, filter: { owner: "Grace" }) { nodes { id } pageInfo { endCursor } } }',
    );
    const next = await server.ask(
      `{ sessions(first: 1, after: "${String(at(first, 'data.sessions.pageInfo.endCursor'))}", filter: { owner: "Grace" }) { nodes { id } } }`,
    );
    assert.deepEqual(
      [at(first, 'data.sessions.nodes.0.id'), at(next, 'data.sessions.nodes.0.id')],
      nodes.map((node) => at(node, 'id')),
    );
    const revoke = (session: unknown): Promise<unknown> =>
      server.ask(`mutation { revokeSession(id: "${String(session)}") { session { id } userErrors { code field } } }`);
    // Newest first.
    const wanted = at(nodes[1], 'id');
    assert.equal(at(await revoke(wanted), 'data.revokeSession.session.id'), wanted);
    await assertEnded(cookies[0] ?? '');
    assert.equal(await roleOf(cookies[1] ?? ''), 'READER');
    for (const id of [wanted, NOBODY, 'x'])
      assert.deepEqual(at(await revoke(id), 'data.revokeSession.userErrors'), [{ code: 'NOT_FOUND', field: 'id' }]);
    assert.equal(at(await server.ask(list), 'data.sessions.totalCount'), 1);
  });

  test('closes the sockets that it had opened', async () => {
    const response = await signIn((await newKey()).secret);
    const session = String(at(await response.json(), 'id'));
    const closed = socketWith(
      { cookie: cookieOf(response), ...ofOwnPage() },
      { onOpen: () => server.access.sessions.revoke(ADMIN, session) },
    );
    assert.equal(await closed, 4403);
  });

  test('leaves a browser on this machine the access that it has without a key', async () => {
    const local = await startTestServer(database);
    const cookie = `paraffin-${new URL(local.url).port}=${'x'.repeat(43)}`;
    try {
      assert.equal((await fetch(`${local.url}/artifacts/${SHA256}`, { headers: { cookie } })).status, 401);
      // The cookie is gone, as that answer said.
      assert.equal((await fetch(`${local.url}/metrics`)).status, 200);
    } finally {
      await local.close();
    }
  });

  for (const [what, token] of [
    ['a token that was never given out', 'x'.repeat(43)],
    ['a token of the wrong length', 'x'.repeat(42)],
    ['an empty one', ''],
    ['a long one', 'x'.repeat(4_000)],
    ['one with NUL and quotes', '%00"\'\\'],
  ] as const)
    test(`${what} opens nothing`, () => assertEnded(`paraffin-${new URL(server.url).port}=${token}`));

  test('of another registry on the same machine is unaffected, and its cookie is invalid here', async () => {
    const { port } = new URL(server.url);
    const token = (await signedIn((await newKey()).secret)).split('=').at(1) ?? '';
    for (const name of [
      `paraffin-${Number(port) + 1}`,
      `xparaffin-${port}`,
      `paraffin-${port}x`,
      `__Host-paraffin-${port}`,
    ]) {
      const response = await fetch(`${server.url}/metrics`, { headers: { cookie: `a=b; ${name}=${token}` } });
      assert.equal(response.status, 401, name);
      assert.deepEqual(response.headers.getSetCookie(), [], name);
    }
    const among = { cookie: `a=b;paraffin-1=c; paraffin-${port}=${token} ;d=e` };
    assert.equal((await fetch(`${server.url}/metrics`, { headers: among })).status, 200);
  });
});

test('sign-in, sign-out and refusals are in the audit log, without the token', async () => {
  const { secret, id } = await newKey({ owner: 'Rosalind' });
  const response = await signIn(secret);
  const cookie = cookieOf(response);
  const session = at(await response.json(), 'id');
  await fetch(`${server.url}/session`, { method: 'DELETE', headers: { cookie, ...ofOwnPage() } });
  await fetch(`${server.url}/artifacts/${SHA256}`, { headers: { cookie } });
  await signIn(secret.replace(/.{43}$/, 'w'.repeat(43)));
  const acts = await latestActs(4);
  assert.deepEqual(
    acts.map(({ action, subject, outcome, code, person, address }) => [
      action,
      subject,
      outcome,
      code,
      person,
      address,
    ]),
    [
      ['POST /session', id, 'DENIED', 'UNAUTHENTICATED', null, '127.0.0.1'],
      [`GET /artifacts/${SHA256}`, null, 'DENIED', 'UNAUTHENTICATED', null, '127.0.0.1'],
      ['DELETE /session', session, 'DONE', null, 'Rosalind', '127.0.0.1'],
      ['POST /session', session, 'DONE', null, 'Rosalind', '127.0.0.1'],
    ],
  );
  const token = cookie.split('=').at(1) ?? '';
  const all = JSON.stringify(await latestActs(200));
  assert.ok(
    token.length === 43 && !all.includes(token) && !all.includes(createHash('sha256').update(token).digest('hex')),
  );
});
