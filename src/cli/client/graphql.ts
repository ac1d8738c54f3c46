/** Typed GraphQL documents, as in the pages: the type of a query's result follows from schema.graphql. */
import { parse, type DefinitionNode, type DocumentNode } from '@0no-co/graphql.web';
import type { initGraphQLTada } from 'gql.tada';
import type { introspection } from '../../generated/schema.d.ts';

type Graphql = initGraphQLTada<{
  introspection: introspection;
  disableMasking: true;
  scalars: { DateTime: string; JSON: unknown };
}>;

// Only the compiler needs gql.tada: the command must also run without it.
function typed(read: (text: string, fragments?: readonly DocumentNode[]) => DocumentNode): Graphql;
function typed(read: unknown): unknown {
  return read;
}

/** Parses a document and appends the fragments that it spreads, each once. */
export const graphql = typed((text, fragments = []) => {
  const document = parse(text, { noLocation: true });
  const appended = new Set<DefinitionNode>(fragments.flatMap(({ definitions }) => definitions));
  return { ...document, definitions: [...document.definitions, ...appended] };
});

export type { ResultOf, TadaDocumentNode, VariablesOf } from 'gql.tada';
