/** Typed GraphQL documents: the type of a query's result follows from schema.graphql. */
import { initGraphQLTada } from 'gql.tada';
import type { introspection } from '../generated/schema.d.ts';

export const graphql = initGraphQLTada<{
  introspection: introspection;
  disableMasking: true;
  scalars: { DateTime: string; JSON: unknown };
}>();

export type { FragmentOf, ResultOf, TadaDocumentNode, VariablesOf } from 'gql.tada';
