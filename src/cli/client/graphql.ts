/** Typed GraphQL documents, as in the pages: what a query gives follows from schema.graphql. */
import { parse } from '@0no-co/graphql.web';
import type { initGraphQLTada } from 'gql.tada';
import type { introspection } from '../../generated/schema.d.ts';

type Graphql = initGraphQLTada<{
  introspection: introspection;
  disableMasking: true;
  scalars: { DateTime: string; JSON: unknown };
}>;

// gql.tada is needed by the compiler alone: an install without it still has to run.
function typed(read: (text: string) => unknown): Graphql;
function typed(read: unknown): unknown {
  return read;
}

export const graphql = typed((text) => parse(text, { noLocation: true }));

export type { ResultOf, TadaDocumentNode, VariablesOf } from 'gql.tada';
