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
/** Fields and fragments as they stand in the document, before anything is written out. */
export const MAX_SELECTIONS = 1_000;
export const MAX_FRAGMENTS = 25;
/** Uses of fragments. */
export const MAX_SPREADS = 50;
/** The same answer asked for several times beside each other: GraphQL's rules compare each with each. */
export const MAX_REPEATS = 5;
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
 * What would make GraphQL's own rules take long, told by one walk over the document: they compare every two fields of
 * one name, through every fragment.
 * @returns the error to answer with; undefined for a document that may be validated.
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
    return tooMuch(`The document has ${selections} fields; ${MAX_SELECTIONS} are allowed.`);
  if (fragments > MAX_FRAGMENTS)
    return tooMuch(`The document has ${fragments} fragments; ${MAX_FRAGMENTS} are allowed.`);
  if (spreads > MAX_SPREADS)
    return tooMuch(`The document uses fragments ${spreads} times; ${MAX_SPREADS} are allowed.`);
  if (repeats > MAX_REPEATS)
    return tooMuch(`The document asks for one answer ${repeats} times in one place; ${MAX_REPEATS} are allowed.`);
  return aliases > MAX_ALIASES ? tooManyAliases(aliases) : undefined;
}

/** The same for a document as text; undefined for one that does not parse, of which the parser has more to say. */
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
    variables: { ...defaultsOf(operation), ...variables },
    known: new Map(),
  });
  if (cost.depth > MAX_DEPTH) return [tooMuch(`The operation is ${cost.depth} levels deep; ${MAX_DEPTH} are allowed.`)];
  if (cost.fields > MAX_FIELDS) return [tooMuch(`The operation asks for more than ${MAX_FIELDS} fields.`)];
  if (cost.aliases > MAX_ALIASES) return [tooManyAliases(cost.aliases)];
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

/** What a variable stands for that is not given. */
function defaultsOf({ variableDefinitions = [] }: OperationDefinitionNode): Record<string, unknown> {
  return Object.fromEntries(
    variableDefinitions.flatMap(({ variable, defaultValue }) =>
      defaultValue?.kind === Kind.INT ? [[variable.name.value, Number(defaultValue.value)] as const] : [],
    ),
  );
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

/** A series of metrics has as many points as are asked for; its list of points counts for PLAIN_LIST_ITEMS of them. */
function pointsFactor(
  field: FieldNode,
  definition: GraphQLField<unknown, unknown> | undefined,
  variables: Readonly<Record<string, unknown>>,
): number {
  const argument = definition?.args.find(({ name }) => name === 'maxPoints');
  if (argument === undefined) return 1;
  const points = numberGiven(field, argument.name, variables) ?? argument.defaultValue;
  return typeof points === 'number' ? Math.max(1, points / PLAIN_LIST_ITEMS) : 1;
}

/** Edges and nodes have been counted with the connection that they are of. */
function isPlainList(type: GraphQLOutputType | undefined, parent: GraphQLNamedType | undefined): boolean {
  return type !== undefined && isListType(getNullableType(type)) && parent?.name.endsWith('Connection') !== true;
}

/** What the list will be asked for; senseless sizes are refused later, by the list itself. */
function pageSize(field: FieldNode, variables: Readonly<Record<string, unknown>>): number {
  const size = numberGiven(field, 'first', variables);
  return size !== undefined && size >= 0 ? Math.min(size, MAX_PAGE_SIZE) : DEFAULT_PAGE_SIZE;
}

/** The number that an argument is given, as it stands or by a variable. */
function numberGiven(field: FieldNode, name: string, variables: Readonly<Record<string, unknown>>): number | undefined {
  const value = field.arguments?.find((argument) => argument.name.value === name)?.value;
  if (value?.kind === Kind.INT) return Number(value.value);
  const given = value?.kind === Kind.VARIABLE ? variables[value.name.value] : undefined;
  return typeof given === 'number' ? given : undefined;
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

function tooManyAliases(count: number): GraphQLError {
  return tooMuch(
    `The operation gives ${count} fields a name of its own; ${MAX_ALIASES} are allowed. Send several requests.`,
  );
}

function tooMuch(message: string): GraphQLError {
  return new GraphQLError(message, { extensions: { code: 'OPERATION_TOO_LARGE', http: { status: 400 } } });
}
