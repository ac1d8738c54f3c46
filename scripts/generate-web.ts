/**
 * Writes the types from which the queries of the pages and of the command line are typed, out of schema.graphql. Run by
 * `npm run generate`, after the schema.
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { minifyIntrospection, outputIntrospectionFile } from '@gql.tada/internal';
import { buildSchema, introspectionFromSchema } from 'graphql';

const root = path.resolve(import.meta.dirname, '..');
const folders = ['web/src/generated', 'src/generated'].map((folder) => path.join(root, folder));
const introspection = introspectionFromSchema(buildSchema(readFileSync(path.join(root, 'schema.graphql'), 'utf8')));
const types = outputIntrospectionFile(minifyIntrospection(introspection), {
  fileType: '.d.ts',
  shouldPreprocess: true,
});
for (const folder of folders) {
  mkdirSync(folder, { recursive: true });
  writeFileSync(path.join(folder, 'schema.d.ts'), types);
}
