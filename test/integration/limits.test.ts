/** Limits on requests: their rate, size, duration and number. */
import assert from 'node:assert/strict';
import { createServer, get } from 'node:http';
import { connect, Socket } from 'node:net';
import { after, before, describe, test } from 'node:test';
import { createClient } from 'graphql-ws';
import { WebSocket } from 'ws';
import { DEFAULT_RATE_LIMITS } from '../../src/api/rate-limit.ts';
import { createSenderReader } from '../../src/api/sender.ts';
import { limitConnections, DEFAULT_TIMEOUTS } from '../../src/api/slow-clients.ts';
import { MAX_OPERATIONS_PER_SOCKET } from '../../src/api/subscriptions.ts';
import { at } from '../support/catalogue.ts';
import { makeRun, newCheckpoint } from '../support/checkpoints.ts';
import { eventually } from '../support/eventually.ts';
import { openTestDatabase, type TestDatabase } from '../support/database.ts';
import { startTestServer, type TestServer } from '../support/server.ts';

let database: TestDatabase;
let server: TestServer;
const timeouts = { ...DEFAULT_TIMEOUTS, headersMs: 300, bodyMs: 300, requestMs: 700, pingMs: 200, recheckMs: 100 };

before(async () => {
  database = await openTestDatabase();
  server = await startTestServer(database, { timeouts });
});
after(async () => {
  await server.close();
  await database.close();
});

async function post(to: TestServer, query: string, headers: Record<string, string> = {}): Promise<Response> {
  return fetch(`${to.url}/graphql`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: JSON.stringify({ query }),
  });
}

/** What the server sends until it closes the connection. */
async function rawAnswer(to: TestServer, text: string): Promise<string> {
  const socket = connect(Number(new URL(to.url).port), '127.0.0.1', () => socket.write(text));
  const chunks: Buffer[] = [];
  socket.on('data', (chunk: Buffer) => chunks.push(chunk));
  await new Promise<void>((resolve) => {
    socket.once('close', () => resolve());
    socket.once('error', () => resolve());
  });
  return Buffer.concat(chunks).toString('latin1');
}

describe('requests', () => {
  test('of one sender are counted, reported, and refused above the limit', async () => {
    const other = await startTestServer(database, { rateLimits: { ...DEFAULT_RATE_LIMITS, requestsPerMinute: 3 } });
    try {
      const statuses: number[] = [];
      for (let count = 0; count < 3; count += 1) {
        const response = await post(other, '{ viewer { role } }');
        statuses.push(response.status);
        assert.equal(response.headers.get('ratelimit-policy'), '"requests";q=3;w=60');
        assert.match(response.headers.get('ratelimit') ?? '', new RegExp(`^"requests";r=${2 - count};t=\\d+$`));
        assert.equal(response.headers.get('retry-after'), null);
      }
      assert.deepEqual(statuses, [200, 200, 200]);
      const refused = await post(other, '{ viewer { role } }');
      assert.equal(refused.status, 429);
      assert.match(refused.headers.get('retry-after') ?? '', /^[1-6]?\d$/);
      assert.equal(at(await refused.json(), 'errors.0.extensions.code'), 'RATE_LIMITED');
      assert.equal((await fetch(`${other.url}/metrics`)).status, 429);
      assert.equal((await fetch(`${other.url}/healthz`)).status, 200);
    } finally {
      await other.close();
    }
  });

  test('with wrong keys soon have to wait, and do not affect senders with valid keys', async () => {
    const rateLimits = { ...DEFAULT_RATE_LIMITS, refusalsPerMinute: 2 };
    const other = await startTestServer(database, { rateLimits });
    const made = await server.ask('mutation { createKey(input: { name: "k", owner: "o", role: READER }) { secret } }');
    const valid = { authorization: `Bearer ${String(at(made, 'data.createKey.secret'))}` };
    try {
      const before = await database.db.auditEntry.count();
      const statuses: number[] = [];
      for (let count = 0; count < 4; count += 1)
        statuses.push((await post(other, '{ viewer { role } }', { authorization: 'Bearer sesame' })).status);
      assert.deepEqual(statuses, [401, 401, 429, 429]);
      // Requests without a key that need one: from here on such refusals are not recorded in the audit log.
      for (let count = 0; count < 20; count += 1)
        assert.equal(
          at(await (await post(other, '{ keys { totalCount } }')).json(), 'errors.0.extensions.code'),
          'UNAUTHENTICATED',
        );
      assert.equal((await post(other, '{ datasets { totalCount } }', valid)).status, 200);
      assert.equal((await post(other, '{ datasets { totalCount } }')).status, 200);
      assert.equal(await database.db.auditEntry.count(), before + 2);
    } finally {
      await other.close();
    }
  });

  test('without a valid key leave a limited number of entries in the audit log, from however many addresses', async () => {
    const rateLimits = { ...DEFAULT_RATE_LIMITS, refusalsPerMinute: 2, anonymousRefusalsPerMinute: 5 };
    const senderOf = createSenderReader({ host: '127.0.0.1', trustedProxies: ['127.0.0.1'] });
    const other = await startTestServer(database, { rateLimits, senderOf });
    try {
      const before = await database.db.auditEntry.count();
      for (let count = 0; count < 20; count += 1) {
        const from = { authorization: 'Bearer sesame', 'x-forwarded-for': `2001:db8:${count}::1` };
        assert.equal((await post(other, '{ viewer { role } }', from)).status, 401);
      }
      assert.equal(await database.db.auditEntry.count(), before + 5);
    } finally {
      await other.close();
    }
  });

  test('of a page of another site are refused, and neither counted nor logged', async () => {
    const rateLimits = { ...DEFAULT_RATE_LIMITS, requestsPerMinute: 3, refusalsPerMinute: 2 };
    const other = await startTestServer(database, { rateLimits });
    try {
      const before = await database.db.auditEntry.count();
      const foreign: readonly Record<string, string>[] = [
        { 'sec-fetch-site': 'cross-site' },
        { 'sec-fetch-site': 'same-site', origin: 'http://127.0.0.1:1' },
        { origin: 'https://elsewhere.example' },
        { origin: 'null' },
      ];
      for (const headers of foreign) {
        for (const path of ['/graphql', '/metrics', '/uploads', '/healthz']) {
          for (const method of path === '/graphql' ? ['GET', 'POST', 'OPTIONS'] : ['GET', 'POST']) {
            const body = method === 'POST' ? { body: '{ keys { totalCount } }' } : {};
            const { status } = await fetch(other.url + path, { method, headers, ...body });
            assert.equal(status, 403, `${method} ${path} ${JSON.stringify(headers)}`);
          }
        }
      }
      assert.equal((await post(other, '{ datasets { totalCount } }')).status, 200);
      assert.equal(await database.db.auditEntry.count(), before);
    } finally {
      await other.close();
    }
  });

  test('that follow a link from another site reach the pages, and nothing that needs a key', async () => {
    const headers = { 'sec-fetch-site': 'cross-site', 'sec-fetch-mode': 'navigate', 'sec-fetch-dest': 'document' };
    const statusOf = (path: string): Promise<number> =>
      new Promise((resolve, reject) => {
        // fetch sets Sec-Fetch-Mode by itself.
        get(server.url + path, { headers }, (response) => resolve(response.resume().statusCode ?? 0)).on(
          'error',
          reject,
        );
      });
    assert.equal(await statusOf('/'), 200);
    assert.equal(await statusOf('/metrics'), 401);
  });
});

describe('an operation that takes too long', () => {
  const SLOW = '{ datasets { totalCount } }';

  async function whileLocked(work: () => Promise<void>): Promise<void> {
    const held = Promise.withResolvers<undefined>();
    const locked = Promise.withResolvers<undefined>();
    const holder = database.db.$transaction(
      async (tx) => {
        await tx.$executeRawUnsafe('LOCK TABLE "Dataset" IN ACCESS EXCLUSIVE MODE');
        locked.resolve(undefined);
        await held.promise;
      },
      { timeout: 30_000 },
    );
    await locked.promise;
    try {
      await work();
    } finally {
      held.resolve(undefined);
      await holder;
    }
  }

  test('is reported as such over HTTP', () =>
    whileLocked(async () => {
      const response = await post(server, SLOW);
      assert.equal(response.status, 503);
      assert.equal(at(await response.json(), 'errors.0.extensions.code'), 'TIMED_OUT');
    }));

  test('is reported as such over a socket', () =>
    whileLocked(async () => {
      const client = createClient({
        url: `${server.url.replace('http', 'ws')}/graphql`,
        webSocketImpl: WebSocket,
        retryAttempts: 0,
      });
      const answer = await client
        .iterate({ query: SLOW })
        .next()
        .then(
          ({ value }) => ({ errors: at(value, 'errors') }),
          (errors: unknown) => ({ errors }),
        );
      assert.equal(at(answer, 'errors.0.extensions.code'), 'TIMED_OUT', JSON.stringify(answer));
      await client.dispose();
    }));
});

describe('a busy server', () => {
  const NOBODY = '00000000-0000-7000-8000-000000000000';
  const queueLimits = { total: 8, perSender: 1, waitingPerSender: 0, waitMs: 60_000 };

  test('says so with 503, OVERLOADED and Retry-After, in GraphQL and on every route that uses the database', async () => {
    const held = Promise.withResolvers<Readonly<Record<string, number>>>();
    const statusRequested = Promise.withResolvers<undefined>();
    const runCounts = (): Promise<Readonly<Record<string, number>>> => (
      statusRequested.resolve(undefined),
      held.promise
    );
    const other = await startTestServer(database, { queueLimits, runCounts });
    const routes: readonly (readonly [path: string, statusBefore: number])[] = [
      ['/metrics', 200],
      [`/artifacts/${'0'.repeat(64)}`, 404],
      [`/checkpoints/${NOBODY}/download`, 404],
      [`/checkpoints/${NOBODY}/download?format=onnx`, 404],
      [`/checkpoints/${NOBODY}/README.md`, 404],
      [`/datasets/${NOBODY}/croissant.json`, 404],
      [`/datasets/${NOBODY}/thumbnails/0.webp`, 404],
      [`/embeddings/${NOBODY}.npy`, 404],
      [`/embeddings/${NOBODY}.csv`, 404],
    ];
    try {
      const holder = fetch(`${other.url}/metrics`);
      await statusRequested.promise;
      const refused = await post(other, '{ datasets { totalCount } }');
      assert.deepEqual([refused.status, refused.headers.get('retry-after')], [503, '1']);
      const body: unknown = await refused.json();
      assert.equal(at(body, 'errors.0.extensions.code'), 'OVERLOADED');
      assert.equal(at(body, 'errors.0.extensions.retryable'), true);
      for (const [path] of routes) {
        const answer = await fetch(other.url + path);
        assert.deepEqual([answer.status, answer.headers.get('retry-after')], [503, '1'], path);
        assert.equal(at(await answer.json(), 'code'), 'OVERLOADED', path);
      }
      // Neither requests without database access nor other clients are slowed down.
      assert.equal((await fetch(`${other.url}/healthz`)).status, 200);
      const key = { authorization: `Bearer ${server.adminKey}` };
      assert.equal((await post(other, '{ datasets { totalCount } }', key)).status, 200);
      held.resolve({});
      assert.equal((await holder).status, 200);
      assert.equal((await post(other, '{ datasets { totalCount } }')).status, 200);
      for (const [path, status] of routes) assert.equal((await fetch(other.url + path)).status, status, path);
    } finally {
      held.resolve({});
      await other.close();
    }
  });

  test('holds no slot for a download that waits for its export', async () => {
    const other = await startTestServer(database, { queueLimits }, { patience: { fileMs: 60_000, workerMs: 60_000 } });
    const leaving = new AbortController();
    try {
      const checkpoint = await database.transact(async (tx) =>
        other.services.models.registerCheckpoint(
          tx,
          newCheckpoint({
            modelSlug: 'busy',
            sourceRunId: await makeRun(database),
            sha256: 'b'.repeat(64),
            byteSize: 8,
          }),
        ),
      );
      const left = assert.rejects(
        fetch(`${other.url}/checkpoints/${checkpoint.id}/download?format=onnx`, { signal: leaving.signal }),
      );
      await eventually('the run that is to make the file', async () =>
        (await database.db.run.count({ where: { kind: 'EXPORT' } })) > 0 ? true : undefined,
      );
      await eventually('a turn for the next request of the same sender', async () =>
        (await post(other, '{ datasets { totalCount } }')).status === 200 ? true : undefined,
      );
      leaving.abort();
      await left;
    } finally {
      leaving.abort();
      await other.close();
    }
  });
});

describe('a slow client', () => {
  test('that never ends its headers is disconnected', async () => {
    assert.match(await rawAnswer(server, 'POST /graphql HTTP/1.1\r\nHost: 127.0.0.1\r\nX-A: '), /^HTTP\/1\.1 408 /);
  });
  test('that never sends its body is disconnected', async () => {
    for (const path of ['/graphql', '/healthz-not', '/uploads/x']) {
      const answer = await rawAnswer(
        server,
        `POST ${path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{`,
      );
      assert.match(answer, /^HTTP\/1\.1 (408|404|405) /, path);
    }
  });
  test('does not delay others', async () => {
    const slow = Array.from({ length: 200 }, () => rawAnswer(server, 'GET / HTTP/1.1\r\nX-Slow: '));
    assert.equal((await post(server, '{ viewer { role } }')).status, 200);
    const answers = await Promise.all(slow);
    assert.equal(answers.filter((answer) => answer.startsWith('HTTP/1.1 408')).length, 200);
  });
});

test('an address may hold a limited number of connections, and may open new ones after closing some', async () => {
  const http = createServer((_request, response) => response.end('here'));
  limitConnections(http, 3);
  await new Promise<void>((resolve) => http.listen(0, '127.0.0.1', resolve));
  const address = http.address();
  const port = typeof address === 'object' && address !== null ? address.port : 0;
  const answerOn = async (socket: Socket): Promise<string> => {
    const answered = new Promise<string>((resolve) => {
      socket.once('data', (data) => resolve(data.toString('latin1')));
      socket.once('close', () => resolve(''));
      socket.once('error', () => resolve(''));
    });
    socket.write('GET / HTTP/1.1\r\nHost: x\r\n\r\n');
    return answered;
  };
  const open = (): Socket => connect(port, '127.0.0.1');
  try {
    const held = [open(), open(), open()];
    for (const socket of held) assert.match(await answerOn(socket), /^HTTP\/1\.1 200 /);
    assert.equal(await answerOn(open()), '');
    held[0]?.destroy();
    await eventually('the place of the one that closed', async () => {
      const socket = open();
      held.push(socket);
      return (await answerOn(socket)) === '' ? undefined : true;
    });
    for (const socket of held) socket.destroy();
  } finally {
    http.closeAllConnections();
    await new Promise((resolve) => http.close(resolve));
  }
});

test('an owner of many IPv6 addresses gets no more connections than the owner of one', () => {
  const http = createServer();
  limitConnections(http, 2);
  const connectFrom = (remoteAddress: string): boolean => {
    const socket = Object.defineProperty(new Socket(), 'remoteAddress', { value: remoteAddress });
    http.emit('connection', socket);
    return !socket.destroyed;
  };
  assert.deepEqual(['2001:db8::1', '2001:db8::2', '2001:db8:0:0:ffff::3'].map(connectFrom), [true, true, false]);
  assert.equal(connectFrom('2001:db8:0:1::1'), true);
});

describe('by configuration', () => {
  test('introspection is refused, over HTTP and over a socket', async () => {
    const other = await startTestServer(database, { introspection: false });
    try {
      assert.equal(
        at(await (await post(other, '{ __schema { queryType { name } } }')).json(), 'errors.0.extensions.code'),
        'GRAPHQL_VALIDATION_FAILED',
      );
      const client = createClient({
        url: `${other.url.replace('http', 'ws')}/graphql`,
        webSocketImpl: WebSocket,
        retryAttempts: 0,
      });
      await assert.rejects(client.iterate({ query: '{ __schema { queryType { name } } }' }).next());
      await client.dispose();
    } finally {
      await other.close();
    }
  });
  test('there is no page at /', async () => {
    const other = await startTestServer(database, { landingPage: false });
    assert.equal((await fetch(other.url)).status, 404);
    await other.close();
  });
});

test('a page of another site cannot send a request that browsers allow without a preflight', async () => {
  for (const type of ['text/plain', 'application/x-www-form-urlencoded', 'multipart/form-data; boundary=x']) {
    assert.equal(
      (
        await fetch(`${server.url}/graphql`, {
          method: 'POST',
          headers: { 'content-type': type },
          body: '{"query":"{ viewer { role } }"}',
        })
      ).status,
      400,
      type,
    );
  }
  assert.equal((await fetch(`${server.url}/graphql?query=${encodeURIComponent('{ viewer { role } }')}`)).status, 400);
});

describe('a socket', () => {
  const open = async (authorization?: string): Promise<{ socket: WebSocket; closed: Promise<number> }> => {
    const socket = new WebSocket(`${server.url.replace('http', 'ws')}/graphql`, 'graphql-transport-ws', {
      autoPong: false,
    });
    const closed = new Promise<number>((resolve) => socket.once('close', resolve));
    await new Promise((resolve) => socket.once('open', resolve));
    socket.send(
      JSON.stringify({ type: 'connection_init', payload: authorization === undefined ? {} : { authorization } }),
    );
    await new Promise((resolve) => socket.once('message', resolve));
    return { socket, closed };
  };

  test('that does not answer a ping is closed', async () => assert.equal(await (await open()).closed, 1006));

  test('opened with a key that was then revoked is closed', async () => {
    const made = await server.ask(
      'mutation { createKey(input: { name: "k", owner: "o", role: READER }) { key { id } secret } }',
    );
    const { socket, closed } = await open(`Bearer ${String(at(made, 'data.createKey.secret'))}`);
    socket.on('ping', () => socket.pong());
    await server.ask('mutation($id: ID!) { revokeKey(id: $id) { key { revokedAt } } }', {
      id: at(made, 'data.createKey.key.id'),
    });
    assert.equal(await closed, 4403);
  });

  test('carries a limited number of operations', async () => {
    const id = await makeRun(database);
    const { socket, closed } = await open();
    socket.on('ping', () => socket.pong());
    const refused = new Promise<unknown>((resolve) =>
      socket.on('message', (data) => {
        const message: unknown = JSON.parse(String(data));
        if (at(message, 'type') === 'error') resolve(message);
      }),
    );
    for (let count = 0; count <= MAX_OPERATIONS_PER_SOCKET; count += 1) {
      socket.send(
        JSON.stringify({
          id: `s${count}`,
          type: 'subscribe',
          payload: { query: 'subscription($id: ID!) { runEvents(runId: $id) { sequence } }', variables: { id } },
        }),
      );
    }
    assert.deepEqual(
      [at(await refused, 'id'), at(await refused, 'payload.0.extensions.code')],
      [`s${MAX_OPERATIONS_PER_SOCKET}`, 'RATE_LIMITED'],
    );
    socket.close();
    await closed;
  });
});
