/** The GraphQL schema, code first. `schema.graphql` is printed from it and checked for drift by the tests. */
import path from 'node:path';
import type { GraphQLSchema } from 'graphql';
import * as access from '../modules/access/graphql.ts';
import * as audit from '../modules/audit/graphql.ts';
import * as cards from '../modules/cards/graphql.ts';
import * as datasets from '../modules/datasets/graphql.ts';
import * as deletions from '../modules/deletions/graphql.ts';
import * as embeddings from '../modules/embeddings/graphql.ts';
import * as evaluations from '../modules/evaluations/graphql.ts';
import * as exports from '../modules/exports/graphql.ts';
import * as models from '../modules/models/graphql.ts';
import * as placements from '../modules/placements/graphql.ts';
import * as runs from '../modules/runs/graphql.ts';
import * as workers from '../modules/workers/graphql.ts';
import { PageInfo } from './connection-type.ts';
import { guard } from './guard.ts';
import { makeSchema } from './nexus.ts';
import { UserError } from './payload.ts';
import * as rootTypes from './root-types.ts';
import * as scalars from './scalars.ts';

const root = path.resolve(import.meta.dirname, '../..');

/**
 * @param write true writes schema.graphql and the types of the resolvers (npm run generate); false touches no file.
 * @throws PermissionError for a field or a type without a rule (permissions.ts).
 */
export function buildSchema(write: boolean): GraphQLSchema {
  const schema = makeSchema({
    types: [
      rootTypes,
      scalars,
      PageInfo,
      UserError,
      access,
      audit,
      datasets,
      models,
      embeddings,
      runs,
      placements,
      workers,
      evaluations,
      exports,
      cards,
      deletions,
    ],
    shouldGenerateArtifacts: write,
    shouldExitAfterGenerateArtifacts: false,
    outputs: { schema: path.join(root, 'schema.graphql'), typegen: path.join(root, 'src/generated/nexus.ts') },
    contextType: { module: path.join(import.meta.dirname, 'context.ts'), export: 'ApiContext' },
    // Nexus writes imports without a file extension, which the compiler treats as missing modules, and so as `any`.
    formatTypegen: (content, kind) =>
      kind === 'types' ? content.replaceAll(/(from "|import\(')(\.[^"']*?)(\.ts)?(["'])/g, '$1$2.ts$4') : content,
    features: { abstractTypeStrategies: { resolveType: true } },
    nonNullDefaults: { input: false, output: false },
  });
  return guard(schema);
}
