/** Limits on the cost of one GraphQL operation, so that a single request cannot block the server. */
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
  parse,
  specifiedRules,
  typeFromAST,
  validate,
  type DocumentNode,
  type FieldNode,
  type FragmentDefinitionNode,
  type GraphQLField,
  type GraphQLNamedType,
  type GraphQLOutputType,
  type GraphQLSchema,
  type OperationDefinitionNode,
  type SelectionSetNode,
} from 'graphql';
import { DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE } from '../platform/page.ts';
import { faultInText } from './input-text.ts';

/** Largest request body, and largest message over a WebSocket. */
export const MAX_BODY_BYTES = 1_000_000;
/**
 * Lexical tokens of a document, because parsing and validation take more than linear time. The standard introspection
 * query has about 500.
 */
export const MAX_TOKENS = 5_000;
/** Levels of nested fields; the standard introspection query has 13. */
export const MAX_DEPTH = 16;
/** List items that an operation may request; the page sizes of nested lists are multiplied. */
export const MAX_LIST_ITEMS = 25_000;
/** Fields after every use of a fragment is expanded. */
export const MAX_FIELDS = 10_000;
/** Aliased fields, which can request the same field many times in one operation. */
export const MAX_ALIASES = 50;
/** Fields that may have to be resolved: each counts as often as the lists around it have items. */
export const MAX_COST = 250_000;
/** Fields and fragment uses in the document before fragments are expanded. */
export const MAX_SELECTIONS = 1_000;
export const MAX_FRAGMENTS = 25;
/** Uses of fragments. */
export const MAX_SPREADS = 50;
/** Fields with the same response name in one selection set: GraphQL validation compares each pair of them. */
export const MAX_REPEATS = 5;
/** Assumed length of a list without pages. */
const PLAIN_LIST_ITEMS = 10;

interface Cost {
  readonly depth: number;
  readonly fields: number;
  readonly items: number;
  readonly aliases: number;
  readonly cost: number;
}

const ZERO_COST: Cost = { depth: 0, fields: 0, items: 0, aliases: 0, cost: 0 };

/**
 * Validates a document by GraphQL's rules and by the limits above. It must have been parsed with `maxTokens`.
 * @param introspection whether introspection is allowed.
 * @returns the errors of the document; none if the operation may run.
 */
export function checkDocument(
  schema: GraphQLSchema,
  document: DocumentNode,
  operationName: string | null | undefined,
  variables: Readonly<Record<string, unknown>>,
  introspection = true,
): readonly GraphQLError[] {
  const bounds = boundsOf(document);
  if (bounds !== undefined) return [bounds];
  const errors = validate(
    schema,
    document,
    introspection ? specifiedRules : [...specifiedRules, NoSchemaIntrospectionCustomRule],
  );
  return errors.length > 0 ? errors : checkCost(schema, document, operationName, variables);
}

/**
 * Checks in one pass over the document that GraphQL's own validation will not take long: it compares every pair of
 * fields with the same name, through every fragment.
 * @returns the error of a document that is too large; undefined if it may be validated.
 */
export function boundsOf(document: DocumentNode): GraphQLError | undefined {
  let selections = 0;
  let spreads = 0;
  let repeats = 0;
  let aliases = 0;
  const walk = ({ selections: set }: SelectionSetNode): void => {
    const seen = new Map<string, number>();
    for (const selection of set) {
      selections += 1;
      if (selection.kind === Kind.FRAGMENT_SPREAD) spreads += 1;
      if (selection.kind === Kind.FIELD) {
        const name = selection.alias?.value ?? selection.name.value;
        if (selection.alias !== undefined) aliases += 1;
        seen.set(name, (seen.get(name) ?? 0) + 1);
        repeats = Math.max(repeats, seen.get(name) ?? 0);
      }
      if (selection.kind !== Kind.FRAGMENT_SPREAD && selection.selectionSet !== undefined) walk(selection.selectionSet);
    }
  };
  let fragments = 0;
  for (const definition of document.definitions) {
    if (definition.kind === Kind.FRAGMENT_DEFINITION) fragments += 1;
    if (definition.kind === Kind.FRAGMENT_DEFINITION || definition.kind === Kind.OPERATION_DEFINITION)
      walk(definition.selectionSet);
  }
  if (selections > MAX_SELECTIONS)
    return operationTooLarge(`The document has ${selections} fields; ${MAX_SELECTIONS} are allowed.`);
  if (fragments > MAX_FRAGMENTS)
    return operationTooLarge(`The document has ${fragments} fragments; ${MAX_FRAGMENTS} are allowed.`);
  if (spreads > MAX_SPREADS)
    return operationTooLarge(`The document uses fragments ${spreads} times; ${MAX_SPREADS} are allowed.`);
  if (repeats > MAX_REPEATS)
    return operationTooLarge(
      `The document selects one field ${repeats} times in one place; ${MAX_REPEATS} are allowed.`,
    );
  return aliases > MAX_ALIASES ? tooManyAliases(aliases) : undefined;
}

/** `boundsOf` for the text of a document; undefined if it does not parse, because the parser reports a better error. */
export function boundsOfText(text: string): GraphQLError | undefined {
  let document: DocumentNode;
  try {
    document = parse(text, { maxTokens: MAX_TOKENS, noLocation: true });
  } catch {
    return undefined;
  }
  return boundsOf(document);
}

/**
 * Checks the limits that GraphQL's own validation does not cover. The document must be valid, so that its fragments
 * have no cycles.
 */
export function checkCost(
  schema: GraphQLSchema,
  document: DocumentNode,
  operationName: string | null | undefined,
  variables: Readonly<Record<string, unknown>>,
): readonly GraphQLError[] {
  const operation = getOperationAST(document, operationName);
  // Without an operation the executor reports a better error.
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
    variables: { ...defaultsOf(operation), ...variables },
    fragmentCosts: new Map(),
  });
  if (cost.depth > MAX_DEPTH)
    return [operationTooLarge(`The operation is ${cost.depth} levels deep; ${MAX_DEPTH} are allowed.`)];
  if (cost.fields > MAX_FIELDS) return [operationTooLarge(`The operation selects more than ${MAX_FIELDS} fields.`)];
  if (cost.aliases > MAX_ALIASES) return [tooManyAliases(cost.aliases)];
  if (cost.items > MAX_LIST_ITEMS)
    return [
      operationTooLarge(
        `The operation may return ${cost.items} list items; ${MAX_LIST_ITEMS} are allowed. Request smaller pages (first), or fewer nested lists.`,
      ),
    ];
  if (cost.cost > MAX_COST)
    return [
      operationTooLarge(
        `The operation may have to resolve ${cost.cost} fields; ${MAX_COST} are allowed. Request smaller pages (first), or fewer fields of each item.`,
      ),
    ];
  return [];
}

/** Default values of the integer variables. */
function defaultsOf({ variableDefinitions = [] }: OperationDefinitionNode): Record<string, unknown> {
  return Object.fromEntries(
    variableDefinitions.flatMap(({ variable, defaultValue }) =>
      defaultValue?.kind === Kind.INT ? [[variable.name.value, Number(defaultValue.value)] as const] : [],
    ),
  );
}

interface CostContext {
  readonly schema: GraphQLSchema;
  readonly fragments: ReadonlyMap<string, FragmentDefinitionNode>;
  readonly variables: Readonly<Record<string, unknown>>;
  /**
   * Costs of the fragments that were computed already: computing them again at each use would take exponential time for
   * nested fragments.
   */
  readonly fragmentCosts: Map<string, Cost>;
}

function costOf(selectionSet: SelectionSetNode, parent: GraphQLNamedType | undefined, walk: CostContext): Cost {
  let total = ZERO_COST;
  for (const selection of selectionSet.selections) {
    switch (selection.kind) {
      case Kind.FIELD:
        total = addCosts(total, costOfField(selection, parent, walk));
        break;
      case Kind.INLINE_FRAGMENT: {
        const type = selection.typeCondition === undefined ? parent : typeFromAST(walk.schema, selection.typeCondition);
        total = addCosts(total, costOf(selection.selectionSet, type, walk));
        break;
      }
      case Kind.FRAGMENT_SPREAD: {
        const fragment = walk.fragments.get(selection.name.value);
        if (fragment === undefined) break;
        const cost =
          walk.fragmentCosts.get(selection.name.value) ??
          costOf(fragment.selectionSet, typeFromAST(walk.schema, fragment.typeCondition), walk);
        walk.fragmentCosts.set(selection.name.value, cost);
        total = addCosts(total, cost);
        break;
      }
    }
  }
  return total;
}

function costOfField(field: FieldNode, parent: GraphQLNamedType | undefined, walk: CostContext): Cost {
  const definition = isObjectType(parent) || isInterfaceType(parent) ? parent.getFields()[field.name.value] : undefined;
  const type = definition === undefined ? undefined : getNamedType(definition.type);
  const inner = field.selectionSet === undefined ? ZERO_COST : costOf(field.selectionSet, type, walk);
  const isConnection = type?.name.endsWith('Connection') === true;
  const size = isConnection
    ? pageSize(field, walk.variables)
    : isPlainList(definition?.type, parent)
      ? PLAIN_LIST_ITEMS * pointsFactor(field, definition, walk.variables)
      : 1;
  return {
    depth: inner.depth + 1,
    fields: inner.fields + 1,
    items: isConnection ? size * (1 + inner.items) : inner.items,
    aliases: inner.aliases + (field.alias === undefined ? 0 : 1),
    cost: 1 + size * inner.cost,
  };
}

/** A metric series has up to `maxPoints` points, while its list alone would count for only PLAIN_LIST_ITEMS. */
function pointsFactor(
  field: FieldNode,
  definition: GraphQLField<unknown, unknown> | undefined,
  variables: Readonly<Record<string, unknown>>,
): number {
  const argument = definition?.args.find(({ name }) => name === 'maxPoints');
  if (argument === undefined) return 1;
  const points = numberArgument(field, argument.name, variables) ?? argument.defaultValue;
  return typeof points === 'number' ? Math.max(1, points / PLAIN_LIST_ITEMS) : 1;
}

/** Whether the type is a list other than the edges and nodes of a connection, which count with their connection. */
function isPlainList(type: GraphQLOutputType | undefined, parent: GraphQLNamedType | undefined): boolean {
  return type !== undefined && isListType(getNullableType(type)) && parent?.name.endsWith('Connection') !== true;
}

/** The page size of a connection; an invalid size is refused later, by the resolver. */
function pageSize(field: FieldNode, variables: Readonly<Record<string, unknown>>): number {
  const size = numberArgument(field, 'first', variables);
  return size !== undefined && size >= 0 ? Math.min(size, MAX_PAGE_SIZE) : DEFAULT_PAGE_SIZE;
}

/** The number passed to an argument, as a literal or through a variable. */
function numberArgument(
  field: FieldNode,
  name: string,
  variables: Readonly<Record<string, unknown>>,
): number | undefined {
  const value = field.arguments?.find((argument) => argument.name.value === name)?.value;
  if (value?.kind === Kind.INT) return Number(value.value);
  const given = value?.kind === Kind.VARIABLE ? variables[value.name.value] : undefined;
  return typeof given === 'number' ? given : undefined;
}

function addCosts(a: Cost, b: Cost): Cost {
  return {
    depth: Math.max(a.depth, b.depth),
    fields: a.fields + b.fields,
    items: a.items + b.items,
    aliases: a.aliases + b.aliases,
    cost: a.cost + b.cost,
  };
}

function tooManyAliases(count: number): GraphQLError {
  return operationTooLarge(
    `The operation has ${count} aliased fields; ${MAX_ALIASES} are allowed. Send several requests.`,
  );
}

function operationTooLarge(message: string): GraphQLError {
  return new GraphQLError(message, { extensions: { code: 'OPERATION_TOO_LARGE', http: { status: 400 } } });
}
