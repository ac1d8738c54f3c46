/** GraphQL over WebSocket with real sockets. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { after, before, describe, test } from 'node:test';
import { createClient, type Client } from 'graphql-ws';
import { WebSocket, type ClientOptions } from 'ws';
import { at } from '../support/catalogue.ts';
import { makeRun } from '../support/checkpoints.ts';
import { openTestDatabase, type TestDatabase } from '../support/database.ts';
import { startTestServer, type TestServer } from '../support/server.ts';

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

const EVENTS =
  'subscription($id: ID!, $after: Int) { runEvents(runId: $id, afterSequence: $after) { sequence kind status } }';

function client(connectionParams: Record<string, unknown> = {}, to = server): Client {
  return createClient({
    url: to.url.replace('http', 'ws') + '/graphql',
    webSocketImpl: WebSocket,
    connectionParams,
    retryAttempts: 0,
    lazy: true,
  });
}

/**
 * All results of one operation, until it is complete. Rejects with the reason why the socket was closed, or with the
 * errors of a refused operation.
 */
async function all(
  query: string,
  variables: Record<string, unknown> = {},
  connectionParams: Record<string, unknown> = {},
): Promise<unknown[]> {
  const own = client(connectionParams);
  try {
    const answers: unknown[] = [];
    for await (const answer of own.iterate({ query, variables })) answers.push(JSON.parse(JSON.stringify(answer)));
    return answers;
  } finally {
    await own.dispose();
  }
}

async function finishedRun(): Promise<string> {
  const id = await makeRun(database);
  const kinds = ['QUEUED', 'STARTED', 'SUCCEEDED'] as const;
  await database.db.runEvent.createMany({
    data: kinds.map((kind, index) => ({ runId: id, sequence: index + 1, kind })),
  });
  await database.db.run.update({ where: { id }, data: { status: 'SUCCEEDED' } });
  return id;
}

describe('a subscription', () => {
  test('replays the events from where the client left off, and ends with the run', async () => {
    const id = await finishedRun();
    const sequences = (answers: unknown[]): unknown[] => answers.map((answer) => at(answer, 'data.runEvents.sequence'));
    assert.deepEqual(sequences(await all(EVENTS, { id })), [1, 2, 3]);
    assert.deepEqual(sequences(await all(EVENTS, { id, after: 2 })), [3]);
  });

  test('of an unknown run is a clear error', async () => {
    const failure = await all(EVENTS, { id: '00000000-0000-7000-8000-000000000000' }).catch(
      (errors: unknown) => errors,
    );
    assert.equal(at(failure, '0.extensions.code'), 'RUN_NOT_FOUND', JSON.stringify(failure));
    assert.match(String(at(failure, '0.extensions.requestId')), /^[0-9a-f-]{36}$/);
  });
});

describe('an operation over the socket', () => {
  test('may be a query, under the same limits as over HTTP', async () => {
    assert.deepEqual(await all('{ viewer { role } }'), [{ data: { viewer: { role: 'ANONYMOUS' } } }]);
    const tooMuch: readonly [string, string][] = [
      ['{ datasets(', 'GRAPHQL_PARSE_FAILED'],
      ['{ slides }', 'GRAPHQL_VALIDATION_FAILED'],
      [`{ ${'viewer { role } '.repeat(2_000)} }`, 'GRAPHQL_PARSE_FAILED'],
      ['{ models(first: 200) { nodes { checkpoints(first: 200) { nodes { id } } } } }', 'OPERATION_TOO_LARGE'],
    ];
    for (const [query, code] of tooMuch) {
      const failure = await all(query).catch((errors: unknown) => errors);
      assert.equal(at(failure, '0.extensions.code'), code, JSON.stringify(failure));
    }
  });

  test('with an invalid variable is an error of the request', async () => {
    const [answer] = await all('query($first: Int) { models(first: $first) { totalCount } }', { first: 'ten' });
    assert.equal(at(answer, 'errors.0.extensions.code'), 'BAD_USER_INPUT', JSON.stringify(answer));
  });

  test('hides internal errors', async () => {
    await database.db.$executeRawUnsafe('ALTER TABLE "Model" RENAME TO "Model_away"');
    try {
      const [answer] = await all('{ models { totalCount nodes { id } } }');
      assert.equal(at(answer, 'errors.0.extensions.code'), 'INTERNAL');
      assert.doesNotMatch(JSON.stringify(answer), /Model_away|prisma|SELECT|\.ts/i);
    } finally {
      await database.db.$executeRawUnsafe('ALTER TABLE "Model_away" RENAME TO "Model"');
    }
  });

  test('has the permissions of the key that the connection sent', async () => {
    assert.deepEqual(await all('{ viewer { role } }', {}, { authorization: `Bearer ${server.adminKey}` }), [
      { data: { viewer: { role: 'ADMIN' } } },
    ]);
  });
});

describe('a socket', () => {
  /** The close code and reason, or the HTTP status that refused it. */
  async function outcome(
    options: ClientOptions & { path?: string; protocol?: string; first?: string },
  ): Promise<string> {
    const { path = '/graphql', protocol = 'graphql-transport-ws', first, ...rest } = options;
    const socket = new WebSocket(server.url.replace('http', 'ws') + path, protocol, rest);
    return new Promise((resolve, reject) => {
      socket.once('open', () => first !== undefined && socket.send(first));
      socket.once('unexpected-response', (_request, response) => resolve(`HTTP ${response.statusCode}`));
      socket.once('close', (code) => resolve(String(code)));
      // The client also emits an error about a refused handshake.
      socket.once('error', (error) => /Unexpected server response|subprotocol/.test(error.message) || reject(error));
    });
  }

  const init = (payload: object): string => JSON.stringify({ type: 'connection_init', payload });

  test('with a wrong key is closed as forbidden', async () => {
    assert.equal(await outcome({ first: init({ authorization: 'Bearer sesame' }) }), '4403');
    assert.equal(await outcome({ first: init({}), headers: { authorization: 'Bearer sesame' } }), '4403');
  });
  test('from a page of another site is not opened', async () => {
    assert.equal(await outcome({ headers: { origin: 'https://attacker.example' } }), 'HTTP 403');
    assert.equal(await outcome({ headers: { origin: 'null' } }), 'HTTP 403');
  });
  test('at another path than /graphql is not opened', async () =>
    assert.equal(await outcome({ path: '/artifacts' }), 'HTTP 404'));
  test('with an invalid message is closed', async () => assert.equal(await outcome({ first: 'hello' }), '4400'));
  test('with a message over a megabyte is closed', async () =>
    assert.equal(await outcome({ first: init({ x: 'x'.repeat(1_000_001) }) }), '1009'));
  test('that sends an operation before its key is closed', async () => {
    assert.equal(
      await outcome({
        first: JSON.stringify({ id: '1', type: 'subscribe', payload: { query: '{ viewer { role } }' } }),
      }),
      '4401',
    );
  });
});

test('draining closes every socket with 1001, and the subscriptions with it', async () => {
  const other = await startTestServer(database);
  const id = await makeRun(database);
  await database.db.runEvent.create({ data: { runId: id, sequence: 1, kind: 'QUEUED' } });
  const own = client({}, other);
  const opened = Promise.withResolvers<WebSocket>();
  own.on('connected', (socket) =>
    socket instanceof WebSocket ? opened.resolve(socket) : opened.reject(new Error('no socket')),
  );
  const ended = Promise.withResolvers<unknown>();
  const first = Promise.withResolvers<undefined>();
  own.subscribe(
    { query: EVENTS, variables: { id } },
    { next: () => first.resolve(undefined), error: ended.resolve, complete: () => ended.resolve(undefined) },
  );
  const closed = once(await opened.promise, 'close');
  await first.promise;
  await other.http.drain(5_000);
  const [code]: unknown[] = await closed;
  assert.equal(code, 1001);
  await ended.promise;
  await own.dispose();
  await other.close();
});
