/** Typed GraphQL documents, as in the pages: the type of a query's result follows from schema.graphql. */
import { parse } from '@0no-co/graphql.web';
import type { initGraphQLTada } from 'gql.tada';
import type { introspection } from '../../generated/schema.d.ts';

type Graphql = initGraphQLTada<{
  introspection: introspection;
  disableMasking: true;
  scalars: { DateTime: string; JSON: unknown };
}>;

// Only the compiler needs gql.tada: the command must also run without it.
function typed(read: (text: string) => unknown): Graphql;
function typed(read: unknown): unknown {
  return read;
}

export const graphql = typed((text) => parse(text, { noLocation: true }));

export type { ResultOf, TadaDocumentNode, VariablesOf } from 'gql.tada';
