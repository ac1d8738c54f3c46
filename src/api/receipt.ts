/** The part of a mutation's payload that may be returned to a key which may change objects but not read them. */
import {
  Kind,
  type FieldNode,
  type FragmentDefinitionNode,
  type GraphQLResolveInfo,
  type SelectionSetNode,
} from 'graphql';

/** Fields that identify an object in later requests. */
const NAMES: ReadonlySet<string> = new Set(['__typename', 'id', 'slug']);

/**
 * Whether the selection of a mutation contains more than a receipt, which is the payload's own leaves, its user errors,
 * and the identifying fields of its objects. Through any other field of an object a query could read the registry.
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

/** The selected fields, with each fragment expanded once. */
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
