/** What one GraphQL operation may cost, so that no single request can hold the server. */
import {
  getNamedType,
  getNullableType,
  getOperationAST,
  GraphQLError,
  isInterfaceType,
  isListType,
  isObjectType,
  Kind,
  NoSchemaIntrospectionCustomRule,
  specifiedRules,
  typeFromAST,
  validate,
  type DocumentNode,
  type FieldNode,
  type FragmentDefinitionNode,
  type GraphQLNamedType,
  type GraphQLOutputType,
  type GraphQLSchema,
  type SelectionSetNode,
} from 'graphql';
import { DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE } from '../platform/page.ts';
import { faultInText } from './input-text.ts';

/** Bytes of a request's body, and of one message over a socket. */
export const MAX_BODY_BYTES = 1_000_000;
/**
 * Words and signs of a document: parsing and validating take more than linear time. The standard introspection query
 * has about 500.
 */
export const MAX_TOKENS = 5_000;
/** Levels of fields; an introspection query has 13. */
export const MAX_DEPTH = 16;
/** List items that an operation may ask for, all its pages multiplied out. */
export const MAX_LIST_ITEMS = 25_000;
/** Fields with every fragment written out at each of its uses. */
export const MAX_FIELDS = 10_000;
/** Fields under names of the client's own: the way to ask one thing many times in one request. */
export const MAX_ALIASES = 50;
/** Fields that may have to be resolved: each counts as often as the lists around it have items. */
export const MAX_COST = 250_000;
/** What a list without pages counts for. */
const PLAIN_LIST_ITEMS = 10;

interface Cost {
  readonly depth: number;
  readonly fields: number;
  readonly items: number;
  readonly aliases: number;
  readonly cost: number;
}

const NOTHING: Cost = { depth: 0, fields: 0, items: 0, aliases: 0, cost: 0 };

/**
 * Validates a document by GraphQL's rules and by the limits above. The document has been parsed with `maxTokens`.
 * @param introspection false: introspection is refused.
 * @returns the errors to answer with; none when the operation may run.
 */
export function checkDocument(
  schema: GraphQLSchema,
  document: DocumentNode,
  operationName: string | null | undefined,
  variables: Readonly<Record<string, unknown>>,
  introspection = true,
): readonly GraphQLError[] {
  const errors = validate(
    schema,
    document,
    introspection ? specifiedRules : [...specifiedRules, NoSchemaIntrospectionCustomRule],
  );
  return errors.length > 0 ? errors : checkCost(schema, document, operationName, variables);
}

/**
 * The part of `checkDocument` that GraphQL's own rules leave open. The document is valid, so its fragments have no
 * cycles.
 */
export function checkCost(
  schema: GraphQLSchema,
  document: DocumentNode,
  operationName: string | null | undefined,
  variables: Readonly<Record<string, unknown>>,
): readonly GraphQLError[] {
  const operation = getOperationAST(document, operationName);
  // Without an operation the executor has a better answer than we.
  if (operation == null) return [];
  const text = faultInText(document, variables);
  if (text !== undefined) return [text];
  const fragments = new Map(
    document.definitions.flatMap((node) =>
      node.kind === Kind.FRAGMENT_DEFINITION ? [[node.name.value, node] as const] : [],
    ),
  );
  const cost = costOf(operation.selectionSet, schema.getRootType(operation.operation) ?? undefined, {
    schema,
    fragments,
    variables,
    known: new Map(),
  });
  if (cost.depth > MAX_DEPTH) return [tooMuch(`The operation is ${cost.depth} levels deep; ${MAX_DEPTH} are allowed.`)];
  if (cost.fields > MAX_FIELDS) return [tooMuch(`The operation asks for more than ${MAX_FIELDS} fields.`)];
  if (cost.aliases > MAX_ALIASES)
    return [
      tooMuch(
        `The operation gives ${cost.aliases} fields a name of its own; ${MAX_ALIASES} are allowed. Send several requests.`,
      ),
    ];
  if (cost.items > MAX_LIST_ITEMS)
    return [
      tooMuch(
        `The operation may return ${cost.items} list items; ${MAX_LIST_ITEMS} are allowed. Ask for smaller pages (first), or fewer lists within lists.`,
      ),
    ];
  if (cost.cost > MAX_COST)
    return [
      tooMuch(
        `The operation may have to resolve ${cost.cost} fields; ${MAX_COST} are allowed. Ask for smaller pages (first), or for fewer fields of each item.`,
      ),
    ];
  return [];
}

interface Walk {
  readonly schema: GraphQLSchema;
  readonly fragments: ReadonlyMap<string, FragmentDefinitionNode>;
  readonly variables: Readonly<Record<string, unknown>>;
  /**
   * A fragment is counted once, however often it is used: otherwise nested fragments would make the counting itself
   * costly.
   */
  readonly known: Map<string, Cost>;
}

function costOf(selectionSet: SelectionSetNode, parent: GraphQLNamedType | undefined, walk: Walk): Cost {
  let total = NOTHING;
  for (const selection of selectionSet.selections) {
    switch (selection.kind) {
      case Kind.FIELD:
        total = plus(total, costOfField(selection, parent, walk));
        break;
      case Kind.INLINE_FRAGMENT: {
        const type = selection.typeCondition === undefined ? parent : typeFromAST(walk.schema, selection.typeCondition);
        total = plus(total, costOf(selection.selectionSet, type, walk));
        break;
      }
      case Kind.FRAGMENT_SPREAD: {
        const fragment = walk.fragments.get(selection.name.value);
        if (fragment === undefined) break;
        const cost =
          walk.known.get(selection.name.value) ??
          costOf(fragment.selectionSet, typeFromAST(walk.schema, fragment.typeCondition), walk);
        walk.known.set(selection.name.value, cost);
        total = plus(total, cost);
        break;
      }
    }
  }
  return total;
}

function costOfField(field: FieldNode, parent: GraphQLNamedType | undefined, walk: Walk): Cost {
  const definition = isObjectType(parent) || isInterfaceType(parent) ? parent.getFields()[field.name.value] : undefined;
  const type = definition === undefined ? undefined : getNamedType(definition.type);
  const inner = field.selectionSet === undefined ? NOTHING : costOf(field.selectionSet, type, walk);
  const isConnection = type?.name.endsWith('Connection') === true;
  const size = isConnection
    ? pageSize(field, walk.variables)
    : isPlainList(definition?.type, parent)
      ? PLAIN_LIST_ITEMS
      : 1;
  return {
    depth: inner.depth + 1,
    fields: inner.fields + 1,
    items: isConnection ? size * (1 + inner.items) : inner.items,
    aliases: inner.aliases + (field.alias === undefined ? 0 : 1),
    cost: 1 + size * inner.cost,
  };
}

/** Edges and nodes have been counted with the connection that they are of. */
function isPlainList(type: GraphQLOutputType | undefined, parent: GraphQLNamedType | undefined): boolean {
  return type !== undefined && isListType(getNullableType(type)) && parent?.name.endsWith('Connection') !== true;
}

/** What the list will be asked for; senseless sizes are refused later, by the list itself. */
function pageSize(field: FieldNode, variables: Readonly<Record<string, unknown>>): number {
  const value = field.arguments?.find((argument) => argument.name.value === 'first')?.value;
  const size =
    value?.kind === Kind.INT
      ? Number(value.value)
      : value?.kind === Kind.VARIABLE
        ? variables[value.name.value]
        : undefined;
  return typeof size === 'number' && size >= 0 ? Math.min(size, MAX_PAGE_SIZE) : DEFAULT_PAGE_SIZE;
}

function plus(a: Cost, b: Cost): Cost {
  return {
    depth: Math.max(a.depth, b.depth),
    fields: a.fields + b.fields,
    items: a.items + b.items,
    aliases: a.aliases + b.aliases,
    cost: a.cost + b.cost,
  };
}

function tooMuch(message: string): GraphQLError {
  return new GraphQLError(message, { extensions: { code: 'OPERATION_TOO_LARGE', http: { status: 400 } } });
}
