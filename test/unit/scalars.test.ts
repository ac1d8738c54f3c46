/** Scalars accept the values that they can represent exactly, and refuse all others. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { graphql } from 'graphql';
import { extendType, makeSchema } from '../../src/api/nexus.ts';
import { checkedJson, DateTime, JSONValue, MAX_JSON_DEPTH, parseInstant } from '../../src/api/scalars.ts';

const schema = makeSchema({
  shouldGenerateArtifacts: false,
  types: [
    DateTime,
    JSONValue,
    extendType({
      type: 'Query',
      definition(t) {
        t.field('instant', {
          type: 'DateTime',
          args: { at: 'DateTime' },
          resolve: (_root, args: { at?: Date | null }) => args.at ?? null,
        });
        t.field('json', {
          type: 'JSON',
          args: { value: 'JSON' },
          resolve: (_root, args: { value?: unknown }) => args.value,
        });
      },
    }),
  ],
});

async function ask(source: string, variableValues: Readonly<Record<string, unknown>> = {}): Promise<unknown> {
  return JSON.parse(JSON.stringify(await graphql({ schema, source, variableValues })));
}

describe('DateTime', () => {
  const good: readonly [string, string][] = [
    ['2026-01-31T12:00:00Z', '2026-01-31T12:00:00.000Z'],
    ['2026-01-31T12:00:00.5+02:00', '2026-01-31T10:00:00.500Z'],
    ['2024-02-29T00:00:00Z', '2024-02-29T00:00:00.000Z'],
    ['0001-01-01T00:00:00Z', '0001-01-01T00:00:00.000Z'],
    ['9999-12-31T23:59:59Z', '9999-12-31T23:59:59.000Z'],
  ];
  for (const [text, instant] of good) {
    test(text, async () => {
      assert.deepEqual(await ask(`{ instant(at: "${text}") }`), { data: { instant } });
      assert.deepEqual(await ask('query($at: DateTime) { instant(at: $at) }', { at: text }), { data: { instant } });
    });
  }
  for (const wrong of [
    '2026-01-31',
    '2026-01-31T12:00:00',
    '2026-02-29T00:00:00Z',
    '2026-13-01T00:00:00Z',
    '2026-01-31T24:00:00Z',
    '2026-01-31 12:00:00Z',
    '0000-01-01T00:00:00Z',
    '0001-01-01T00:00:00+23:59',
    '9999-12-31T23:59:59-23:59',
    'today',
    '',
    0,
    null,
    {},
  ]) {
    test(`refuses ${JSON.stringify(wrong)}`, () => assert.throws(() => parseInstant(wrong), /must be an instant/));
  }
  test('refuses a number in a document', async () => {
    assert.match(JSON.stringify(await ask('{ instant(at: 1) }')), /must be a string/);
  });
});

describe('JSON', () => {
  test('is read back unchanged, from a literal and from a variable', async () => {
    const value = { a: [1, -2.5, 'x', true, null], b: {} };
    assert.deepEqual(await ask('{ json(value: { a: [1, -2.5, "x", true, null], b: {} }) }'), { data: { json: value } });
    assert.deepEqual(await ask('query($v: JSON) { json(value: { inside: $v }) }', { v: value }), {
      data: { json: { inside: value } },
    });
  });
  test('refuses bare words', async () => {
    assert.match(JSON.stringify(await ask('{ json(value: RED) }')), /needs quotation marks/);
  });
  for (const [what, value] of [
    ['NaN', { a: [Number.NaN] }],
    ['undefined', { a: undefined }],
    ['a Date', new Date(0)],
    ['a function', () => 1],
    ['a bigint', 1n],
    ['a Map', new Map()],
  ] as const) {
    test(`refuses ${what}`, () => assert.throws(() => checkedJson(value), /JSON.* is not a JSON value/));
  }
});

test('JSON is accepted up to a depth and refused beyond, however deep it is', () => {
  const nested = (levels: number): unknown => JSON.parse(`${'['.repeat(levels)}${']'.repeat(levels)}`);
  assert.deepEqual(checkedJson(nested(MAX_JSON_DEPTH)), nested(MAX_JSON_DEPTH));
  for (const levels of [MAX_JSON_DEPTH + 2, 200_000]) assert.throws(() => checkedJson(nested(levels)), /levels deep/);
});
