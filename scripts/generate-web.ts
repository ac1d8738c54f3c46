/** Writes the types from which the queries of the pages are typed, out of schema.graphql. Run by `npm run generate`, after the schema. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { minifyIntrospection, outputIntrospectionFile } from '@gql.tada/internal';
import { buildSchema, introspectionFromSchema } from 'graphql';

const root = path.resolve(import.meta.dirname, '..');
const folder = path.join(root, 'web', 'src', 'generated');
const introspection = introspectionFromSchema(buildSchema(readFileSync(path.join(root, 'schema.graphql'), 'utf8')));
mkdirSync(folder, { recursive: true });
writeFileSync(path.join(folder, 'schema.d.ts'), outputIntrospectionFile(minifyIntrospection(introspection), { fileType: '.d.ts', shouldPreprocess: true }));
