/** docs/cookbook.md: every operation of the page is run, in order, against a real server with a real worker. */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { createClient } from 'graphql-ws';
import { WebSocket } from 'ws';
import { drawTissue } from '../../src/synthetic/tissue.ts';
import { at, listAt } from '../support/catalogue.ts';
import { eventually } from '../support/eventually.ts';
import type { TestServer } from '../support/server.ts';
import { startWholeRegistry, type WholeRegistry } from '../support/whole-registry.ts';

interface Recipe {
  readonly name: string;
  readonly query: string;
  readonly variables: string;
  /** Paths of the answer that must not be empty. */
  readonly expected: readonly string[];
  /** Names under which later recipes use a value of the answer. */
  readonly kept: readonly { readonly name: string; readonly path: string }[];
  /** The code of the one userError that the page promises. */
  readonly userError: string | undefined;
}

const PAGE = path.resolve(import.meta.dirname, '../../docs/cookbook.md');
const RECIPE = /((?:<!-- .+ -->\n)*)```graphql\n([\s\S]*?)```(?:\n\n```json\n([\s\S]*?)```)?/g;
const RUN_DEADLINE_MS = 120_000;

const recipes = [...(await readFile(PAGE, 'utf8')).matchAll(RECIPE)].map(
  ([, notes = '', query = '', variables = '{}']): Recipe => ({
    name: /(?:query|mutation|subscription) (\w+)/.exec(query)?.[1] ?? query,
    query,
    variables,
    expected: [...notes.matchAll(/<!-- expect: (\S+) -->/g)].map(([, wanted = '']) => wanted),
    kept: [...notes.matchAll(/<!-- keep: (\w+) = (\S+) -->/g)].map(([, name = '', from = '']) => ({
      name,
      path: from,
    })),
    userError: /<!-- userError: (\w+) -->/.exec(notes)?.[1],
  }),
);

let registry: WholeRegistry;
let server: TestServer;
const known = new Map<string, string>();

before(async () => {
  registry = await startWholeRegistry('cookbook');
  server = registry.server;
  known.set('folder', path.join(server.folder, 'tissue'));
  await drawTissue({
    outDir: path.join(server.folder, 'tissue'),
    imagesPerLabel: 6,
    imageSizePx: 40,
    seed: 3,
    groups: 3,
  });
});
after(() => registry.close());

/** The data of an operation; for a subscription, that of its first event. */
async function answerTo({ query }: Recipe, variables: Readonly<Record<string, unknown>>): Promise<unknown> {
  if (!query.startsWith('subscription')) {
    const answer = await server.ask(query, variables);
    assert.equal(at(answer, 'errors'), undefined, JSON.stringify(answer));
    return at(answer, 'data');
  }
  const client = createClient({
    url: `${server.url.replace('http', 'ws')}/graphql`,
    webSocketImpl: WebSocket,
    connectionParams: { authorization: `Bearer ${server.adminKey}` },
  });
  try {
    for await (const result of client.iterate({ query, variables })) {
      assert.equal(result.errors, undefined, JSON.stringify(result.errors));
      return result.data;
    }
  } finally {
    await client.dispose();
  }
  throw new Error('The subscription ended without an event.');
}

/** A reader would wait for the run before the next recipe, so the test waits too. */
async function waitForRun(id: string): Promise<void> {
  await eventually(
    `run ${id}`,
    async () => {
      const run = at(
        await server.ask('query ($id: ID!) { run(id: $id) { status failure { message } } }', { id }),
        'data.run',
      );
      const status = String(at(run, 'status'));
      if (status === 'QUEUED' || status === 'RUNNING') return undefined;
      assert.equal(status, 'SUCCEEDED', JSON.stringify(run));
      return true;
    },
    RUN_DEADLINE_MS,
  );
}

test('the page has recipes', () => {
  assert.ok(recipes.length >= 18, `${recipes.length}`);
});

for (const recipe of recipes) {
  test(`${recipe.name} works as written`, { timeout: RUN_DEADLINE_MS + 30_000 }, async () => {
    const filled = recipe.variables.replaceAll(
      /<(\w+)>/g,
      (_, name: string) => known.get(name) ?? assert.fail(`nothing has given <${name}>`),
    );
    const variables: Readonly<Record<string, unknown>> = JSON.parse(filled);
    const data = await answerTo(recipe, variables);
    if (recipe.query.startsWith('mutation')) {
      const [field = ''] = Object.keys(Object(data));
      const codes = listAt(data, `${field}.userErrors`).map((error) => at(error, 'code'));
      assert.deepEqual(codes, recipe.userError === undefined ? [] : [recipe.userError], JSON.stringify(data));
    }
    for (const wanted of recipe.expected)
      assert.ok(
        at(data, wanted) !== undefined && at(data, wanted) !== null,
        `${wanted} in ${JSON.stringify(data).slice(0, 500)}`,
      );
    for (const { name, path: from } of recipe.kept) {
      const value = at(data, from);
      assert.equal(typeof value, 'string', `${from} in ${JSON.stringify(data).slice(0, 500)}`);
      known.set(name, String(value));
      if (from.endsWith('.run.id')) await waitForRun(String(value));
    }
  });
}
