/** Every role at every entry point: the server enforces the table in src/api/permissions.ts. */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { buildSchema } from 'graphql';
import { createClient } from 'graphql-ws';
import { WebSocket } from 'ws';
import { FIELD_RULES, type NeededRole } from '../../src/api/permissions.ts';
import { ACCESS_ACTIONS, ACCESS_ROLES } from '../../src/modules/access/index.ts';
import { at } from '../support/catalogue.ts';
import { makeRun } from '../support/checkpoints.ts';
import { openTestDatabase, type TestDatabase } from '../support/database.ts';
import { factsThroughPayload, rootOperations } from '../support/operations.ts';
import { actionOf, addressOf, methodOf, ROUTES } from '../support/routes.ts';
import { newKey } from '../support/keys.ts';
import { startTestServer, type TestServer } from '../support/server.ts';

const SENDERS = ['ANONYMOUS', ...ACCESS_ROLES] as const;
type Sender = (typeof SENDERS)[number];

let database: TestDatabase;
let server: TestServer;
const keys = new Map<Sender, string>();

before(async () => {
  database = await openTestDatabase();
  server = await startTestServer(database);
  for (const role of ACCESS_ROLES) keys.set(role, await newKey(server, { role }));
});
after(async () => {
  await server.close();
  await database.close();
});

/** Requests without a key come from another machine, because this machine may read some data without a key. */
function headersOf(key: string | undefined): Record<string, string> {
  return key === undefined ? { 'x-forwarded-for': '203.0.113.9' } : { authorization: `Bearer ${key}` };
}

async function ask(
  key: string | undefined,
  query: string,
  variables: Readonly<Record<string, unknown>> = {},
): Promise<unknown> {
  const response = await fetch(`${server.url}/graphql`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headersOf(key) },
    body: JSON.stringify({ query, variables }),
  });
  return response.json();
}

async function subscribe(key: string | undefined, query: string): Promise<unknown> {
  class Socket extends WebSocket {
    constructor(address: string, protocol: string) {
      super(address, protocol, { headers: headersOf(key) });
    }
  }
  const client = createClient({
    url: `${server.url.replace('http', 'ws')}/graphql`,
    webSocketImpl: Socket,
    retryAttempts: 0,
  });
  try {
    for await (const answer of client.iterate({ query })) return answer;
    return {};
  } catch (errors) {
    return { errors };
  } finally {
    await client.dispose();
  }
}

/** UNAUTHENTICATED, FORBIDDEN, or ALLOWED for any other result. */
function verdictOf(answer: unknown): string {
  const code = at(answer, 'errors.0.extensions.code');
  return code === 'UNAUTHENTICATED' || code === 'FORBIDDEN' ? code : 'ALLOWED';
}

function expected(sender: Sender, needed: NeededRole): string {
  if (needed === 'ANYONE') return 'ALLOWED';
  if (sender === 'ANONYMOUS') return 'UNAUTHENTICATED';
  return ACCESS_ROLES.indexOf(sender) >= ACCESS_ROLES.indexOf(needed) ? 'ALLOWED' : 'FORBIDDEN';
}

describe('every root field, for every role', async () => {
  const operations = rootOperations(
    buildSchema(await readFile(path.resolve(import.meta.dirname, '../../schema.graphql'), 'utf8')),
  );
  for (const sender of SENDERS) {
    test(`as ${sender}`, async () => {
      const seen: Record<string, string> = {};
      for (const { name, kind, document } of operations) {
        seen[name] = verdictOf(await (kind === 'subscription' ? subscribe : ask)(keys.get(sender), document));
      }
      assert.deepEqual(
        seen,
        Object.fromEntries(operations.map(({ name }) => [name, expected(sender, FIELD_RULES[name]?.role ?? 'ADMIN')])),
      );
    });
  }

  test('as the holder of a key only for imports', async () => {
    const key = await newKey(server, { role: 'ADMIN', actions: ['IMPORT'] });
    for (const { name, kind, document } of operations) {
      const rule = FIELD_RULES[name];
      const verdict = verdictOf(await (kind === 'subscription' ? subscribe : ask)(key, document));
      assert.equal(verdict, rule?.role === 'ANYONE' || rule?.action === 'IMPORT' ? 'ALLOWED' : 'FORBIDDEN', name);
    }
  });
});

describe('the answer of a mutation', async () => {
  const schema = buildSchema(await readFile(path.resolve(import.meta.dirname, '../../schema.graphql'), 'utf8'));
  const mutations = rootOperations(schema).filter(
    ({ name, kind }) => kind === 'mutation' && FIELD_RULES[name]?.role !== 'ADMIN',
  );
  for (const { name, document } of mutations) {
    test(`${name}: facts only for those who may read, and names for those who may call it`, async () => {
      const rule = FIELD_RULES[name];
      assert.ok(rule !== undefined);
      const writer = await newKey(server, { role: 'ADMIN', actions: [rule.action] });
      const both = await newKey(server, { role: 'ADMIN', actions: [rule.action, 'READ'] });
      assert.equal(verdictOf(await ask(writer, document)), 'ALLOWED');
      for (const hidden of factsThroughPayload(schema, name, document)) {
        assert.equal(verdictOf(await ask(writer, hidden)), 'FORBIDDEN', hidden);
        assert.equal(verdictOf(await ask(both, hidden)), 'ALLOWED', hidden);
      }
    });
  }
});

test('paths on the server are shown only to senders that may import', async () => {
  const { id } = await database.db.run.create({
    data: {
      title: 'made by a test',
      kind: 'IMPORT',
      config: { path: '/srv/private/slides', csv: ['/srv/a/b.csv'], seed: 1 },
    },
  });
  const configFor = async (sender: Sender): Promise<unknown> =>
    at(await ask(keys.get(sender), `{ run(id: "${id}") { config } }`), 'data.run.config');
  assert.deepEqual(await configFor('READER'), { path: '…/slides', csv: ['…/b.csv'], seed: 1 });
  assert.deepEqual(await configFor('CONTRIBUTOR'), { path: '/srv/private/slides', csv: ['/srv/a/b.csv'], seed: 1 });
});

describe('every route beside GraphQL', () => {
  test('is in the table', () => {
    assert.deepEqual(routesOf(server.http.app.router), Object.keys(ROUTES).toSorted());
  });
  for (const [route, needed] of Object.entries(ROUTES)) {
    test(`${route} is open to ${needed}`, async () => {
      const verdict = async (key: string | undefined): Promise<string> => {
        const headers = { ...headersOf(key), ...(needed === 'CONTRIBUTOR' ? { 'tus-resumable': '1.0.0' } : {}) };
        const { status } = await fetch(server.url + addressOf(route), { method: methodOf(route), headers });
        return status === 401 ? 'UNAUTHENTICATED' : status === 403 ? 'FORBIDDEN' : 'ALLOWED';
      };
      const seen: Record<string, string> = {};
      for (const sender of SENDERS) seen[sender] = await verdict(keys.get(sender));
      assert.deepEqual(
        seen,
        Object.fromEntries(
          SENDERS.map((sender) => [
            sender,
            needed === 'RUN_TOKEN' ? 'UNAUTHENTICATED' : expected(sender, needed === 'KEY' ? 'READER' : needed),
          ]),
        ),
      );
      // No key opens it, whatever its actions.
      if (needed === 'RUN_TOKEN') return;
      const others = ACCESS_ACTIONS.filter((each) => each !== actionOf(route));
      assert.equal(
        await verdict(await newKey(server, { role: 'ADMIN', actions: others })),
        needed === 'ANYONE' || needed === 'KEY' ? 'ALLOWED' : 'FORBIDDEN',
      );
    });
  }
});

/** Paths of all routes of a router of Express and of those below it. */
function routesOf(router: unknown): string[] {
  // A router is a function with properties.
  const of = (value: unknown, name: string): unknown =>
    (typeof value === 'object' && value !== null) || typeof value === 'function' ? Reflect.get(value, name) : undefined;
  const stack = of(router, 'stack');
  if (!Array.isArray(stack)) return [];
  const paths = stack.flatMap((layer: unknown) => {
    const route = of(layer, 'route');
    return route === undefined ? routesOf(of(layer, 'handle')) : [of(route, 'path')].flat().map(String);
  });
  return [...new Set(paths)].toSorted();
}

describe('bytes and metrics beside GraphQL', () => {
  const paths = [
    '/metrics',
    `/artifacts/${'0'.repeat(64)}`,
    '/checkpoints/00000000-0000-7000-8000-000000000000/download',
    '/datasets/00000000-0000-7000-8000-000000000000/thumbnails/0.webp',
  ];
  for (const route of paths) {
    test(`${route.slice(0, 24)} are for readers`, async () => {
      const status = async (key: string | undefined): Promise<number> =>
        (await fetch(`${server.url}${route}`, { headers: headersOf(key) })).status;
      assert.equal(await status(undefined), 401);
      assert.equal(await status(await newKey(server, { role: 'OPERATOR', actions: ['IMPORT'] })), 403);
      assert.ok([200, 404].includes(await status(keys.get('READER'))));
    });
  }
});

test('an upload may be created by every sender that may import, by role and by action', async () => {
  const begin = async (key: string | undefined): Promise<number> =>
    (
      await fetch(`${server.url}/uploads`, {
        method: 'POST',
        headers: { ...headersOf(key), 'tus-resumable': '1.0.0', 'upload-length': '10' },
      })
    ).status;
  const statuses = [];
  for (const sender of SENDERS) statuses.push([sender, await begin(keys.get(sender))]);
  assert.deepEqual(statuses, [
    ['ANONYMOUS', 401],
    ['READER', 403],
    ['CONTRIBUTOR', 201],
    ['OPERATOR', 201],
    ['ADMIN', 201],
  ]);
  assert.equal(
    await begin(
      await newKey(server, { role: 'ADMIN', actions: ['READ', 'CATALOGUE', 'LAUNCH', 'DELETE', 'ADMINISTER'] }),
    ),
    403,
  );
  assert.equal(await begin(await newKey(server, { role: 'CONTRIBUTOR', actions: ['IMPORT'] })), 201);
});

describe('a key limited to one dataset and one model', () => {
  let key: string;
  const CREATE_MODEL =
    'mutation($slug: String!) { createModel(input: { slug: $slug, name: "m" }) { model { id } userErrors { code } } }';
  const UPDATE =
    'mutation($id: ID!) { updateDataset(input: { id: $id, notes: "seen" }) { dataset { slug } userErrors { code } } }';
  const ALIAS =
    'mutation($input: SetModelAliasInput!) { setModelAlias(input: $input) { model { slug } userErrors { code } } }';
  const CANCEL = 'mutation($id: ID!) { cancelRun(id: $id) { run { status } userErrors { code } } }';

  before(async () => {
    key = await newKey(server, { role: 'OPERATOR', resources: ['dataset:bach', 'model:own'] });
  });

  test('changes those', async () => {
    const bach = at(await ask(key, '{ dataset(slug: "bach") { id } }'), 'data.dataset.id');
    assert.equal(at(await ask(key, UPDATE, { id: bach }), 'data.updateDataset.dataset.slug'), 'bach');
    assert.deepEqual(at(await ask(key, CREATE_MODEL, { slug: 'own' }), 'data.createModel.userErrors'), []);
    const own = at(await ask(key, '{ model(slug: "own") { id } }'), 'data.model.id');
    for (const by of [{ modelSlug: 'own' }, { modelId: own }]) {
      assert.equal(
        at(await ask(key, ALIAS, { input: { ...by, name: 'champion' } }), 'data.setModelAlias.model.slug'),
        'own',
      );
    }
    const run = await makeRun(database);
    await database.db.run.update({ where: { id: run }, data: { config: { modelSlug: 'own' } } });
    assert.equal(at(await ask(key, CANCEL, { id: run }), 'data.cancelRun.run.status'), 'CANCELED');
  });

  test('changes nothing else, whether it exists or not', async () => {
    await server.ask(CREATE_MODEL, { slug: 'foreign' });
    const foreign = at(await server.ask('{ model(slug: "foreign") { id } }'), 'data.model.id');
    const other = String(at(await server.ask('{ dataset(slug: "amida13") { id } }'), 'data.dataset.id'));
    const run = await makeRun(database);
    await database.db.run.update({ where: { id: run }, data: { config: { modelSlug: 'foreign' } } });
    const importRun = (
      await database.db.run.create({
        data: { title: 'made by a test', kind: 'IMPORT', config: { datasetId: other } },
      })
    ).id;
    const refused: readonly [string, Record<string, unknown>][] = [
      [UPDATE, { id: other }],
      [UPDATE, { id: '00000000-0000-7000-8000-000000000000' }],
      [CREATE_MODEL, { slug: 'another' }],
      [ALIAS, { input: { modelSlug: 'foreign', name: 'champion' } }],
      // The check and the mutation use the same field, the first one given, so that a second one cannot bypass the
      // check.
      [ALIAS, { input: { modelId: foreign, modelSlug: 'own', name: 'champion' } }],
      [CANCEL, { id: run }],
      [CANCEL, { id: importRun }],
      [CANCEL, { id: await makeRun(database) }],
      ['mutation { createDataset(input: { name: "Own", imageKind: PATCH }) { userErrors { code } } }', {}],
      [
        'mutation { importCheckpoint(input: { publishedCheckpoint: "ciga-resnet18-ten-percent" }) { userErrors { code } } }',
        {},
      ],
    ];
    for (const [mutation, variables] of refused) {
      const answer = await ask(key, mutation, variables);
      assert.equal(
        verdictOf(answer),
        'FORBIDDEN',
        `${mutation} ${JSON.stringify(variables)} ${JSON.stringify(answer)}`,
      );
    }
    assert.equal(
      verdictOf(
        await ask(
          await newKey(server, { role: 'ADMIN', resources: ['model:*'] }),
          'mutation { createKey(input: { name: "k", owner: "o", role: ADMIN }) { secret } }',
        ),
      ),
      'FORBIDDEN',
    );
  });

  test('reads everything', async () =>
    assert.equal(at(await ask(key, '{ dataset(slug: "amida13") { slug } }'), 'data.dataset.slug'), 'amida13'));
});
