/** The queries of the pages and the command line, checked against the schema and the limits of one operation. */
import assert from 'node:assert/strict';
import { globSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { parse } from 'graphql';
import { checkDocument } from '../../src/api/limits.ts';
import { buildSchema } from '../../src/api/schema.ts';

const ROOT = path.resolve(import.meta.dirname, '../..');
const DOCUMENT = /graphql\(\s*`([^`]*)`/g;

const documents = globSync(['web/src/**/*.{ts,tsx}', 'src/cli/client/*.ts'], { cwd: ROOT }).flatMap((file) => {
  const source = readFileSync(path.join(ROOT, file), 'utf8');
  return [...source.matchAll(DOCUMENT)].map((match) => ({ file, text: match[1] ?? '' }));
});

test('every query of the pages and of the command line is valid for the server', () => {
  const schema = buildSchema(false);
  assert.ok(documents.length > 5);
  const refused = documents.flatMap(({ file, text }) => {
    assert.doesNotMatch(text, /\$\{/, `${file}: a document is written out, so that it can be checked`);
    return checkDocument(schema, parse(text), undefined, { first: 200 }).map(
      (error) => `${file}, ${text.trim().split('\n')[0]}: ${error.message}`,
    );
  });
  assert.deepEqual(refused, []);
});
