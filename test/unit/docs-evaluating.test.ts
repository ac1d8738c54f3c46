/** docs/evaluating.md: every operation is one of the schema. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, test } from 'node:test';
import { buildSchema, parse, validate } from 'graphql';

const root = path.resolve(import.meta.dirname, '../..');
const schema = buildSchema(readFileSync(path.join(root, 'schema.graphql'), 'utf8'));
const operations = [
  ...readFileSync(path.join(root, 'docs/evaluating.md'), 'utf8').matchAll(/```graphql\n([\s\S]*?)```/g),
].map(([, text = '']) => text);

describe('docs/evaluating.md', () => {
  test('has operations', () => assert.equal(operations.length, 5));
  for (const text of operations) {
    test(/\w+ \w+/.exec(text)?.[0] ?? text, () => assert.deepEqual(validate(schema, parse(text)), []));
  }
});
