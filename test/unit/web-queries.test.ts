/** The queries of the pages and the command line, checked against the schema and the limits of one operation. */
import assert from 'node:assert/strict';
import { globSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { Kind, parse, visit, type DocumentNode, type FragmentDefinitionNode } from 'graphql';
import { checkDocument } from '../../src/api/limits.ts';
import { buildSchema } from '../../src/api/schema.ts';

const ROOT = path.resolve(import.meta.dirname, '../..');
const DOCUMENT = /graphql\(\s*`([^`]*)`/g;

const documents = globSync(['web/src/**/*.{ts,tsx}', 'src/cli/client/*.ts'], { cwd: ROOT }).flatMap((file) => {
  const source = readFileSync(path.join(ROOT, file), 'utf8');
  return [...source.matchAll(DOCUMENT)].map((match) => ({ file, text: match[1] ?? '' }));
});

/** The shared fragments of the pages or of the command line, by name. */
function fragmentsOf(root: string): ReadonlyMap<string, FragmentDefinitionNode> {
  return new Map(
    documents
      .filter(({ file }) => file.startsWith(root))
      .flatMap(({ text }) => parse(text).definitions)
      .flatMap((definition) =>
        definition.kind === Kind.FRAGMENT_DEFINITION ? [[definition.name.value, definition] as const] : [],
      ),
  );
}

/** The operation with the fragments that it uses, as gql.tada sends it. */
function withFragments(document: DocumentNode, fragments: ReadonlyMap<string, FragmentDefinitionNode>): DocumentNode {
  const used = new Map<string, FragmentDefinitionNode>();
  const collect = (node: DocumentNode | FragmentDefinitionNode): void => {
    visit(node, {
      FragmentSpread: ({ name }) => {
        const fragment = fragments.get(name.value);
        if (fragment === undefined || used.has(name.value)) return;
        used.set(name.value, fragment);
        collect(fragment);
      },
    });
  };
  collect(document);
  return { ...document, definitions: [...document.definitions, ...used.values()] };
}

test('every query of the pages and of the command line is valid for the server', () => {
  const schema = buildSchema(false);
  const pages = fragmentsOf('web/');
  const commands = fragmentsOf('src/cli/');
  const operations = documents
    .map(({ file, text }) => ({ file, text, document: parse(text) }))
    .filter(({ document }) => document.definitions.some(({ kind }) => kind === Kind.OPERATION_DEFINITION));
  assert.ok(operations.length > 5);
  const refused = operations.flatMap(({ file, text, document }) => {
    assert.doesNotMatch(text, /\$\{/, `${file}: a document is written out, so that it can be checked`);
    const whole = withFragments(document, file.startsWith('web/') ? pages : commands);
    return checkDocument(schema, whole, undefined, { first: 200 }).map(
      (error) => `${file}, ${text.trim().split('\n')[0]}: ${error.message}`,
    );
  });
  assert.deepEqual(refused, []);
});
