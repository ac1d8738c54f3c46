/** What an operation may cost. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { buildSchema, getIntrospectionQuery, parse } from 'graphql';
import { checkCost, checkDocument, MAX_DEPTH, MAX_FIELDS, MAX_LIST_ITEMS } from '../../src/api/limits.ts';

const schema = buildSchema(`
  type Query { models(first: Int): ModelConnection!  model: Model }
  type ModelConnection { nodes: [Model!]! }
  type Model { id: ID!  parent: Model  models(first: Int): ModelConnection! }
`);

function messages(query: string, variables: Readonly<Record<string, unknown>> = {}): string[] {
  return checkDocument(schema, parse(query), undefined, variables).map((error) => error.message);
}

const nested = (levels: number): string => `{ model { ${'parent { '.repeat(levels)} id ${'} '.repeat(levels)} } }`;

describe('an operation', () => {
  test('of ordinary size passes', () => {
    assert.deepEqual(messages('{ models(first: 200) { nodes { id models(first: 100) { nodes { id } } } } }'), []);
    assert.deepEqual(messages(getIntrospectionQuery()), []);
  });

  test('may be so deep and no deeper', () => {
    assert.deepEqual(messages(nested(MAX_DEPTH - 2)), []);
    assert.match(messages(nested(MAX_DEPTH - 1)).join(), /17 levels deep; 16 are allowed/);
  });

  test('counts depth through fragments', () => {
    assert.match(messages(`query { model { ...a } } fragment a on Model { ${'parent { '.repeat(MAX_DEPTH)} id ${'} '.repeat(MAX_DEPTH)} }`).join(), /levels deep/);
  });

  const lists: readonly [string, string, Record<string, unknown>][] = [
    ['by literals', '{ models(first: 200) { nodes { models(first: 200) { nodes { id } } } } }', {}],
    ['by variables', 'query($n: Int) { models(first: $n) { nodes { models(first: $n) { nodes { id } } } } }', { n: 200 }],
    ['by a size that is cut to the largest page', '{ models(first: 9999999) { nodes { models(first: 9999999) { nodes { id } } } } }', {}],
    ['by defaults, three deep', '{ models { nodes { models { nodes { models { nodes { id } } } } } } }', {}],
    ['by inline fragments', '{ ... on Query { models(first: 200) { nodes { ... { models(first: 200) { nodes { id } } } } } } }', {}],
  ];
  for (const [what, query, variables] of lists) {
    test(`may not multiply its lists ${what}`, () => assert.match(messages(query, variables).join(), new RegExp(`list items; ${MAX_LIST_ITEMS} are allowed`)));
  }

  test('is counted quickly even when fragments double at each level', () => {
    const levels = 60;
    const fragments = Array.from({ length: levels }, (_, level) => `fragment f${level} on Model { ${level + 1 < levels ? `...f${level + 1} ...f${level + 1}` : 'id'} }`);
    const startMs = performance.now();
    // Without GraphQL's own rules, which are checked first and take their own time.
    const [error] = checkCost(schema, parse(`{ model { ...f0 } } ${fragments.join(' ')}`), undefined, {});
    assert.match(error?.message ?? '', new RegExp(`more than ${MAX_FIELDS} fields`));
    assert.ok(performance.now() - startMs < 1_000);
  });
});
