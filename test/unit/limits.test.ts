/** Limits on the size, depth and cost of a GraphQL operation. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { buildSchema, getIntrospectionQuery, parse } from 'graphql';
import {
  checkCost,
  boundsOfText,
  checkDocument,
  MAX_ALIASES,
  MAX_COST,
  MAX_DEPTH,
  MAX_FIELDS,
  MAX_FRAGMENTS,
  MAX_REPEATS,
  MAX_SELECTIONS,
  MAX_SPREADS,
  MAX_TOKENS,
  MAX_LIST_ITEMS,
} from '../../src/api/limits.ts';

const schema = buildSchema(`
  type Query { models(first: Int): ModelConnection!  model: Model }
  type ModelConnection { nodes: [Model!]! }
  type Series { points: [Point!]! }
  type Point { step: Int!  value: Float! }
  type Model { id: ID!  metrics(maxPoints: Int = 100): [Series!]!  parent: Model  models(first: Int): ModelConnection!  parts: [Model!]! }
`);

function messages(query: string, variables: Readonly<Record<string, unknown>> = {}): string[] {
  return checkDocument(schema, parse(query), undefined, variables).map((error) => error.message);
}

const nested = (levels: number): string => `{ model { ${'parent { '.repeat(levels)} id ${'} '.repeat(levels)} } }`;

describe('a document, before validation', () => {
  const repeated = (count: number, text: (index: number) => string): string =>
    Array.from({ length: count }, (_, index) => text(index)).join(' ');
  const cases: readonly [string, number, (count: number) => string, RegExp][] = [
    ['fields', MAX_SELECTIONS, (count) => `{ ${repeated(count, (index) => `f${index}`)} }`, /fields; 1000 are allowed/],
    [
      'fragments',
      MAX_FRAGMENTS,
      (count) => `{ a } ${repeated(count, (index) => `fragment f${index} on Query { a }`)}`,
      /fragments; 25 are allowed/,
    ],
    ['uses of fragments', MAX_SPREADS, (count) => `{ ${repeated(count, () => '...f')} }`, /times; 50 are allowed/],
    ['answers of one name', MAX_REPEATS, (count) => `{ ${repeated(count, () => 'a')} }`, /in one place; 5 are allowed/],
    ['aliases', MAX_ALIASES, (count) => `{ ${repeated(count, (index) => `a${index}: b`)} }`, /aliased fields; 50 are/],
  ];
  for (const [what, most, document, message] of cases) {
    test(`may have so many ${what} and no more`, () => {
      assert.equal(boundsOfText(document(most)), undefined);
      assert.match(boundsOfText(document(most + 1))?.message ?? '', message);
      assert.equal(boundsOfText(document(most + 1))?.extensions['code'], 'OPERATION_TOO_LARGE');
    });
  }
  test('that does not parse, or is too long to parse, is left to the parser', () => {
    assert.equal(boundsOfText('{ a('), undefined);
    assert.equal(boundsOfText(`{ ${'a '.repeat(MAX_TOKENS)} }`), undefined);
  });
});

describe('an operation', () => {
  test('is counted with the points of its metrics, stated or by default', () => {
    const query = (points: string): string => `{ model { metrics${points} { points { step value } } } }`;
    assert.deepEqual(messages(query('(maxPoints: 10000)')), []);
    assert.match(messages(query('(maxPoints: 100000)')).join(), /resolve \d+ fields/);
    assert.match(
      messages('{ models(first: 200) { nodes { metrics { points { step value } } } } }').join(),
      /resolve \d+ fields/,
    );
  });

  test('of ordinary size is allowed', () => {
    assert.deepEqual(messages('{ models(first: 200) { nodes { id models(first: 100) { nodes { id } } } } }'), []);
    assert.deepEqual(messages(getIntrospectionQuery()), []);
  });

  test('may be as deep as the limit and no deeper', () => {
    assert.deepEqual(messages(nested(MAX_DEPTH - 2)), []);
    assert.match(messages(nested(MAX_DEPTH - 1)).join(), /17 levels deep; 16 are allowed/);
  });

  test('counts depth through fragments', () => {
    assert.match(
      messages(
        `query { model { ...a } } fragment a on Model { ${'parent { '.repeat(MAX_DEPTH)} id ${'} '.repeat(MAX_DEPTH)} }`,
      ).join(),
      /levels deep/,
    );
  });

  const lists: readonly [string, string, Record<string, unknown>][] = [
    ['by literals', '{ models(first: 200) { nodes { models(first: 200) { nodes { id } } } } }', {}],
    [
      'by variables',
      'query($n: Int) { models(first: $n) { nodes { models(first: $n) { nodes { id } } } } }',
      { n: 200 },
    ],
    [
      'by the defaults of variables',
      'query($n: Int = 200) { models(first: $n) { nodes { models(first: $n) { nodes { id } } } } }',
      {},
    ],
    [
      'by a size that is cut to the largest page',
      '{ models(first: 9999999) { nodes { models(first: 9999999) { nodes { id } } } } }',
      {},
    ],
    ['by defaults, three deep', '{ models { nodes { models { nodes { models { nodes { id } } } } } } }', {}],
    [
      'by inline fragments',
      '{ ... on Query { models(first: 200) { nodes { ... { models(first: 200) { nodes { id } } } } } } }',
      {},
    ],
  ];
  for (const [what, query, variables] of lists) {
    test(`may not multiply its lists ${what}`, () =>
      assert.match(messages(query, variables).join(), new RegExp(`list items; ${MAX_LIST_ITEMS} are allowed`)));
  }

  const aliases = (count: number): string =>
    Array.from({ length: count }, (_, index) => `m${index}: model { id }`).join(' ');
  test('may have up to a limit of aliases, with fragments expanded', () => {
    assert.deepEqual(messages(`{ ${aliases(MAX_ALIASES)} }`), []);
    assert.match(
      messages(`{ ${aliases(MAX_ALIASES + 1)} }`).join(),
      new RegExp(`${MAX_ALIASES + 1} aliased fields; ${MAX_ALIASES} are allowed`),
    );
    const half = `fragment half on Query { ${aliases(MAX_ALIASES / 2)} }`;
    assert.deepEqual(messages(`{ ...half ...half } ${half}`), []);
    assert.match(messages(`{ ...half ...half last: model { id } } ${half}`).join(), /aliased fields/);
  });

  test('may resolve up to a limit of fields: each counts as often as the lists around it have items', () => {
    // A list without pages counts as ten elements: 5 levels of it are 1 + 10 * (1 + 10 * (…)) = 111,111 fields, 6
    // levels ten times as many.
    const parts = (levels: number): string => `{ model { ${'parts { '.repeat(levels)} id ${'} '.repeat(levels)} } }`;
    assert.deepEqual(messages(parts(5)), []);
    assert.match(messages(parts(6)).join(), new RegExp(`may have to resolve \\d+ fields; ${MAX_COST} are allowed`));
  });

  test('is refused introspection if that is disabled', () => {
    const errors = checkDocument(
      schema,
      parse('{ __schema { queryType { name } } model { id } }'),
      undefined,
      {},
      false,
    );
    assert.match(errors.map((error) => error.message).join(), /introspection/i);
  });

  test('is counted quickly even if fragments double at each level', () => {
    const levels = 60;
    const fragments = Array.from(
      { length: levels },
      (_, level) =>
        `fragment f${level} on Model { ${level + 1 < levels ? `...f${level + 1} ...f${level + 1}` : 'id'} }`,
    );
    // Skips GraphQL's own validation, which would run first and take additional time.
    const [error] = checkCost(schema, parse(`{ model { ...f0 } } ${fragments.join(' ')}`), undefined, {});
    // 2^60 fields: visiting them one by one would never end.
    assert.match(error?.message ?? '', new RegExp(`more than ${MAX_FIELDS} fields`));
  });
});
