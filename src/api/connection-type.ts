/** Relay connections: the same types and arguments for every list. */
import type { Page } from '../platform/page.ts';
import { DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE } from '../platform/page.ts';
import type { NexusGenObjectNames } from '../generated/nexus.ts';
import { intArg, list, nonNull, objectType, stringArg } from './nexus.ts';

/** The arguments of every list; the services check them with `pageSizeOf` and `decodeCursor`. */
export const pageArguments = {
  first: intArg({ default: DEFAULT_PAGE_SIZE, description: `Page size, 1 to ${MAX_PAGE_SIZE}.` }),
  after: stringArg({ description: 'pageInfo.endCursor of the previous page.' }),
};

export const PageInfo = objectType({
  name: 'PageInfo',
  definition(t) {
    t.nonNull.boolean('hasNextPage');
    t.nonNull.boolean('hasPreviousPage');
    t.string('startCursor');
    t.string('endCursor');
  },
});

/** The source type as text for src/generated/nexus.ts, where NexusGenRootTypes is in scope. */
const sourceOf = (node: string): string => `import('../platform/page.ts').Page<NexusGenRootTypes['${node}']>`;

/**
 * The types `<node>Connection` and `<node>Edge`. Their source is a `Page<Record>` of src/platform/page.ts, so that a
 * resolver returns the page of its service unchanged; `totalCount` is computed only when it is selected.
 * @param node name of the object type in the list.
 */
export function connectionType(node: NexusGenObjectNames) {
  const edge = objectType({
    name: `${node}Edge`,
    sourceType: `${sourceOf(node)}['edges'][number]`,
    definition(t) {
      t.nonNull.string('cursor');
      t.field('node', { type: nonNull(node) });
    },
  });
  const connection = objectType({
    name: `${node}Connection`,
    sourceType: sourceOf(node),
    definition(t) {
      t.field('edges', { type: nonNull(list(nonNull(edge))) });
      t.field('nodes', {
        type: nonNull(list(nonNull(node))),
        resolve: (page: Page<unknown>) => page.edges.map((each) => each.node),
      });
      t.field('pageInfo', { type: nonNull('PageInfo') });
      t.field('totalCount', {
        type: nonNull('Int'),
        description: 'Number of items in all pages under the filter; computed only when selected.',
        resolve: (page: Page<unknown>) => page.totalCount(),
      });
    },
  });
  return [connection, edge] as const;
}
