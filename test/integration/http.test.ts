/** The HTTP interface from a client's point of view. */
import assert from 'node:assert/strict';
import { request, type IncomingHttpHeaders } from 'node:http';
import { connect } from 'node:net';
import { text } from 'node:stream/consumers';
import { after, before, describe, test } from 'node:test';
import { ROUTES } from '../../attack/raw-sockets.ts';
import { at } from '../support/catalogue.ts';
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

interface Answer {
  readonly status: number;
  readonly headers: Headers;
  readonly body: unknown;
}

async function post(body: string, headers: Readonly<Record<string, string>> = {}): Promise<Answer> {
  const response = await fetch(`${server.url}/graphql`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body,
  });
  return { status: response.status, headers: response.headers, body: await response.json() };
}

const query = (words: string, variables: object = {}): string => JSON.stringify({ query: words, variables });

/** The only error of a response: its code and a request id, which the header repeats, without internal details. */
function assertOneError(
  { body, headers, status }: Answer,
  expected: { readonly code: string; readonly status: number },
): void {
  assert.equal(status, expected.status, JSON.stringify(body));
  assert.equal(at(body, 'errors.length'), 1, JSON.stringify(body));
  assert.equal(at(body, 'errors.0.extensions.code'), expected.code);
  assert.equal(at(body, 'errors.0.extensions.requestId'), headers.get('x-request-id'));
  assert.equal(at(body, 'errors.0.extensions.stacktrace'), undefined);
}

describe('GraphQL', () => {
  test('answers over POST and GET', async () => {
    const { status, body } = await post(query('{ datasets(first: 1) { totalCount } }'));
    assert.equal(status, 200);
    assert.equal(at(body, 'data.datasets.totalCount'), 57);
    const response = await fetch(`${server.url}/graphql?query=${encodeURIComponent('{ viewer { role } }')}`, {
      headers: { 'apollo-require-preflight': '1' },
    });
    assert.deepEqual(await response.json(), { data: { viewer: { role: 'ANONYMOUS' } } });
  });

  test('can be introspected completely', async () => {
    const { getIntrospectionQuery } = await import('graphql');
    const { body } = await post(query(getIntrospectionQuery()));
    assert.equal(at(body, 'data.__schema.queryType.name'), 'Query', JSON.stringify(body).slice(0, 500));
  });

  test('keeps a safe request id, and replaces any other', async () => {
    const kept = await post(query('{ viewer { role } }'), { 'x-request-id': 'notebook-17.cell-3' });
    assert.equal(kept.headers.get('x-request-id'), 'notebook-17.cell-3');
    const replaced = await post(query('{ viewer { role } }'), { 'x-request-id': 'x"; drop' });
    assert.match(replaced.headers.get('x-request-id') ?? '', /^[0-9a-f-]{36}$/);
  });

  const broken: readonly [string, string, { code: string; status: number }, Record<string, string>?][] = [
    ['a document that does not parse', query('{ datasets('), { code: 'GRAPHQL_PARSE_FAILED', status: 400 }],
    ['an unknown field', query('{ slides }'), { code: 'GRAPHQL_VALIDATION_FAILED', status: 400 }],
    [
      'an unknown enum value',
      query('{ checkpoints(filter: { encoder: VGG16 }) { totalCount } }'),
      { code: 'GRAPHQL_VALIDATION_FAILED', status: 400 },
    ],
    [
      'an unknown enum value in a variable',
      query('query($f: CheckpointFilter) { checkpoints(filter: $f) { totalCount } }', { f: { encoder: 'VGG16' } }),
      { code: 'BAD_USER_INPUT', status: 400 },
    ],
    ['no query', '{}', { code: 'BAD_REQUEST', status: 400 }],
    [
      'an operation that is not in the document',
      JSON.stringify({ query: 'query a { viewer { role } }', operationName: 'b' }),
      { code: 'OPERATION_RESOLUTION_FAILURE', status: 400 },
    ],
    ['a body that is not JSON', '{"query": ', { code: 'BAD_REQUEST', status: 400 }],
    ['a batch', `[${query('{ viewer { role } }')}]`, { code: 'BAD_REQUEST', status: 400 }],
    [
      'a body over a megabyte',
      query(`{ viewer { role } } # ${'x'.repeat(1_000_000)}`),
      { code: 'BAD_REQUEST', status: 413 },
    ],
    [
      'a document of too many tokens',
      query(`{ ${'viewer { role } '.repeat(2_000)} }`),
      { code: 'GRAPHQL_PARSE_FAILED', status: 400 },
    ],
    [
      'lists within lists within lists',
      query('{ models(first: 200) { nodes { checkpoints(first: 200) { nodes { id } } } } }'),
      { code: 'OPERATION_TOO_LARGE', status: 400 },
    ],
    [
      'a form, as any page may send it',
      'query=1',
      { code: 'BAD_REQUEST', status: 400 },
      { 'content-type': 'text/plain' },
    ],
    [
      'an invalid key',
      query('{ viewer { role } }'),
      { code: 'UNAUTHENTICATED', status: 401 },
      { authorization: 'Bearer sesame' },
    ],
    [
      'another scheme',
      query('{ viewer { role } }'),
      { code: 'UNAUTHENTICATED', status: 401 },
      { authorization: 'Basic YTpi' },
    ],
  ];
  for (const [what, body, expected, headers] of broken) {
    test(`refuses ${what}`, async () => {
      assertOneError(await post(body, headers), expected);
    });
  }

  test('does not repeat an invalid value of a megabyte', async () => {
    const { body } = await post(
      query('query($f: Int) { models(first: $f) { totalCount } }', { f: 'x'.repeat(500_000) }),
    );
    assert.ok(JSON.stringify(body).length < 2_000);
  });

  test('hides internal errors, but returns a request id', async () => {
    await database.db.$executeRawUnsafe('ALTER TABLE "Model" RENAME TO "Model_away"');
    try {
      const answer = await post(query('{ models { nodes { id } } }'));
      assertOneError(answer, { code: 'INTERNAL', status: 200 });
      assert.doesNotMatch(JSON.stringify(answer.body), /Model_away|prisma|SELECT|\.ts/i);
    } finally {
      await database.db.$executeRawUnsafe('ALTER TABLE "Model_away" RENAME TO "Model"');
    }
  });

  test('lets an anonymous client read, and requires a key for writing', async () => {
    const mutation = query(
      'mutation { createModel(input: { slug: "anon", name: "Anon" }) { model { id } userErrors { code } } }',
    );
    assertOneError(await post(mutation), { code: 'UNAUTHENTICATED', status: 200 });
    const { body } = await post(mutation, { authorization: `Bearer ${server.adminKey}` });
    assert.deepEqual(at(body, 'data.createModel.userErrors'), []);
  });
});

describe('invalid input', () => {
  test('more invalid variables than GraphQL lists are an error of the request', async () => {
    const many = { input: Object.fromEntries(Array.from({ length: 80 }, (_, index) => [`unknown${index}`, index])) };
    const answer = await post(
      query('mutation($input: CreateModelInput!) { createModel(input: $input) { model { id } } }', many),
      { authorization: `Bearer ${server.adminKey}` },
    );
    const errors = at(answer.body, 'errors');
    assert.ok(Array.isArray(errors) && errors.length > 1);
    for (const error of errors) assert.equal(at(error, 'extensions.code'), 'BAD_USER_INPUT', JSON.stringify(error));
  });

  test('an expiry is returned as the date that was given', async () => {
    const expiresAt = '9999-12-31T23:59:59.000Z';
    const answer = await post(
      query(
        'mutation($at: DateTime) { createKey(input: { name: "k", owner: "o", role: READER, expiresAt: $at }) { key { id expiresAt } } }',
        { at: expiresAt },
      ),
      { authorization: `Bearer ${server.adminKey}` },
    );
    assert.equal(at(answer.body, 'data.createKey.key.expiresAt'), expiresAt);
    const { body } = await post(query('{ keys(first: 1) { nodes { expiresAt } } }'), {
      authorization: `Bearer ${server.adminKey}`,
    });
    assert.equal(at(body, 'data.keys.nodes.0.expiresAt'), expiresAt);
  });

  test('a control character in a path gets an answer on every route', async () => {
    for (const route of ROUTES) {
      const segments = route.split('/');
      for (const wrong of ['%00', '%1b%5b31m', '%ed%a0%80', '%ff', '%c0%ae']) {
        const address = segments.map((segment) => (/^0{3}/.test(segment) ? wrong : segment)).join('/');
        const { status } = await fetch(server.url + address, {
          headers: { authorization: `Bearer ${server.adminKey}` },
        });
        assert.ok(status < 500, `${address} ${status}`);
      }
    }
  });
});

describe('local senders', () => {
  const elsewhere: readonly [string, Record<string, string>][] = [
    ['a request through a proxy', { 'x-forwarded-for': '203.0.113.9' }],
    ['a name that was made to point here', { host: 'attacker.example' }],
  ];
  for (const [what, headers] of elsewhere) {
    test(`not ${what}`, async () => {
      const status = await new Promise<string>((resolve, reject) => {
        const { port } = new URL(server.url);
        const all = { host: `127.0.0.1:${port}`, connection: 'close', ...headers };
        const socket = connect(Number(port), '127.0.0.1', () => {
          socket.write(
            `GET /metrics HTTP/1.1\r\n${Object.entries(all)
              .map(([name, value]) => `${name}: ${value}`)
              .join('\r\n')}\r\n\r\n`,
          );
        });
        socket.once('data', (chunk) => resolve(chunk.toString('latin1').split('\r\n', 1).join('')));
        socket.once('error', reject);
      });
      assert.equal(status, 'HTTP/1.1 401 Unauthorized');
    });
  }
});

describe('every route', () => {
  const answerOf = (
    path: string,
    headers: Record<string, string> = {},
  ): Promise<{ headers: IncomingHttpHeaders; text: string }> =>
    new Promise((resolve, reject) => {
      request(server.url + path, { headers }, (response) => {
        text(response).then((body) => resolve({ headers: response.headers, text: body }), reject);
      })
        .on('error', reject)
        .end();
    });

  test('every response has the security headers, whatever its status', async () => {
    const { body } = await post(query('{ dataset(slug: "bach") { id } }'));
    for (const path of [...ROUTES, `/datasets/${String(at(body, 'data.dataset.id'))}/croissant.json`]) {
      const { headers } = await answerOf(path);
      const wanted = {
        'x-content-type-options': 'nosniff',
        'cross-origin-resource-policy': 'same-origin',
        'cross-origin-opener-policy': 'same-origin',
        'x-frame-options': 'DENY',
        'referrer-policy': 'no-referrer',
      };
      assert.deepEqual(Object.fromEntries(Object.keys(wanted).map((name) => [name, headers[name]])), wanted, path);
      assert.match(String(headers['content-security-policy']), /frame-ancestors 'none'/, path);
      assert.equal(headers['access-control-allow-origin'], undefined, path);
      assert.equal(headers['x-powered-by'], undefined, path);
    }
  });

  test('no response contains the Host header', async () => {
    const { body } = await post(query('{ dataset(slug: "bach") { id } }'));
    const host = 'reflected.example';
    const authorization = `Bearer ${server.adminKey}`;
    const card = `/datasets/${String(at(body, 'data.dataset.id'))}/croissant.json`;
    for (const path of [...ROUTES, card]) {
      const answer = await answerOf(path, { host, authorization });
      assert.doesNotMatch(answer.text + JSON.stringify(answer.headers), /reflected/, path);
    }
    assert.ok((await answerOf(card, { host, authorization })).text.includes(server.url));
  });
});

describe('beside GraphQL', () => {
  test('a page that loads nothing from other sites', async () => {
    const response = await fetch(server.url);
    assert.match(response.headers.get('content-type') ?? '', /text\/html/);
    const page = await response.text();
    assert.doesNotMatch(page, /<script|src=|@import|https:/);
    assert.match(page, /\/graphql/);
  });

  test('health, readiness and metrics', async () => {
    assert.deepEqual(await (await fetch(`${server.url}/healthz`)).json(), { status: 'ok' });
    assert.deepEqual(await (await fetch(`${server.url}/readyz`)).json(), { status: 'ready' });
    const metrics = await (await fetch(`${server.url}/metrics`)).text();
    assert.match(metrics, /^paraffin_runs\{status="QUEUED"\} 0$/m);
    assert.match(
      metrics,
      /^paraffin_http_request_duration_seconds_count\{method="POST",route="\/graphql",status="200"\} \d+$/m,
    );
    assert.match(metrics, /^process_resident_memory_bytes \d+$/m);
  });

  test('is not ready while the database does not answer', async () => {
    for (const isReady of [() => Promise.resolve(false), () => Promise.reject(new Error('no connection'))]) {
      const other = await startTestServer(database, { isReady });
      const response = await fetch(`${other.url}/readyz`);
      assert.equal(response.status, 503);
      assert.deepEqual(await response.json(), { status: 'not ready' });
      await other.close();
    }
  });

  test('unknown and malformed addresses', async () => {
    const unknown = await fetch(`${server.url}/slides/1`);
    assert.equal(unknown.status, 404);
    assert.equal(at(await unknown.json(), 'code'), 'NOT_FOUND');
    const malformed = await fetch(`${server.url}/artifacts/%E0%A4%A`);
    assert.equal(malformed.status, 400);
    assert.equal(at(await malformed.json(), 'code'), 'BAD_REQUEST');
  });
});

describe('draining', () => {
  test('lets a request end, accepts no new one, and leaves no connection', async () => {
    let release: (() => void) | undefined;
    const held = new Promise<boolean>((resolve) => {
      release = () => resolve(true);
    });
    const statusRequested = Promise.withResolvers<undefined>();
    const other = await startTestServer(database, {
      isReady: () => {
        statusRequested.resolve(undefined);
        return held;
      },
    });
    const pending = fetch(`${other.url}/readyz`);
    await statusRequested.promise;
    // Far longer than this test may take: an idle connection that is not closed at once fails it.
    const drained = other.http.drain(3_600_000);
    await assert.rejects(fetch(`${other.url}/healthz`));
    release?.();
    assert.equal((await pending).status, 503);
    await drained;
    await other.close();
  });

  test('closes connections that do not end in time', async () => {
    const statusRequested = Promise.withResolvers<undefined>();
    const other = await startTestServer(database, {
      runCounts: () => (statusRequested.resolve(undefined), new Promise(() => undefined)),
    });
    const pending = assert.rejects(fetch(`${other.url}/metrics`));
    await statusRequested.promise;
    await other.http.drain(100);
    await pending;
    await other.close();
  });
});
