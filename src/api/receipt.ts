/** What a mutation may tell somebody who may change things but not read them. */
import {
  Kind,
  type FieldNode,
  type FragmentDefinitionNode,
  type GraphQLResolveInfo,
  type SelectionSetNode,
} from 'graphql';

/** By which an object is named in later requests. */
const NAMES: ReadonlySet<string> = new Set(['__typename', 'id', 'slug']);

/**
 * Whether the selection below a mutation asks for more than a receipt: the payload's own leaves, its user errors, and
 * the names of its objects. A payload's object leads wherever a query leads.
 */
export function asksBeyondReceipt({
  fieldNodes,
  fragments,
}: Pick<GraphQLResolveInfo, 'fieldNodes' | 'fragments'>): boolean {
  return fieldNodes
    .flatMap(({ selectionSet }) => fieldsOf(selectionSet, fragments))
    .filter(({ name }) => name.value !== 'userErrors')
    .flatMap(({ selectionSet }) => fieldsOf(selectionSet, fragments))
    .some(({ name }) => !NAMES.has(name.value));
}

/** With fragments written out, each once. */
function fieldsOf(
  selectionSet: SelectionSetNode | undefined,
  fragments: Readonly<Record<string, FragmentDefinitionNode>>,
): FieldNode[] {
  const fields: FieldNode[] = [];
  const seen = new Set<string>();
  const collect = (set: SelectionSetNode | undefined): void => {
    for (const selection of set?.selections ?? []) {
      switch (selection.kind) {
        case Kind.FIELD:
          fields.push(selection);
          break;
        case Kind.INLINE_FRAGMENT:
          collect(selection.selectionSet);
          break;
        case Kind.FRAGMENT_SPREAD:
          if (seen.has(selection.name.value)) break;
          seen.add(selection.name.value);
          collect(fragments[selection.name.value]?.selectionSet);
          break;
      }
    }
  };
  collect(selectionSet);
  return fields;
}
