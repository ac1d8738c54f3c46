/** The smallest operation that calls a root field, made from the schema. */
import {
  getNamedType,
  isEnumType,
  isInputObjectType,
  isLeafType,
  isListType,
  isNonNullType,
  isObjectType,
  isRequiredArgument,
  isRequiredInputField,
  isScalarType,
  type GraphQLField,
  type GraphQLInputType,
  type GraphQLSchema,
} from 'graphql';

export interface RootOperation {
  /** e.g. `Mutation.createModel` */
  readonly name: string;
  readonly kind: 'query' | 'mutation' | 'subscription';
  readonly document: string;
}

/**
 * One operation for every field of Query, Mutation and Subscription, with required arguments only, whose ids match
 * nothing.
 */
export function rootOperations(schema: GraphQLSchema): RootOperation[] {
  const roots = [
    ['query', schema.getQueryType()],
    ['mutation', schema.getMutationType()],
    ['subscription', schema.getSubscriptionType()],
  ] as const;
  return roots.flatMap(([kind, root]) =>
    Object.values(root?.getFields() ?? {}).map((field) => ({
      name: `${root?.name}.${field.name}`,
      kind,
      document: `${kind} { ${callOf(field)} ${isLeafType(getNamedType(field.type)) ? '' : '{ __typename }'} }`,
    })),
  );
}

/**
 * Variants of a mutation of `rootOperations` that select a field of the object in its payload, directly and in
 * fragments.
 *
 * @param name e.g. `Mutation.createModel`
 * @throws Error if its payload has no object with such a field.
 */
export function factsThroughPayload(schema: GraphQLSchema, name: string, document: string): readonly string[] {
  const payload = schema.getMutationType()?.getFields()[name.replace('Mutation.', '')]?.type;
  const payloadType = payload === undefined ? undefined : getNamedType(payload);
  const object = isObjectType(payloadType)
    ? Object.values(payloadType.getFields()).find(
        (field) => field.name !== 'userErrors' && isObjectType(getNamedType(field.type)),
      )
    : undefined;
  const objectType = object === undefined ? undefined : getNamedType(object.type);
  const fact = isObjectType(objectType)
    ? Object.values(objectType.getFields()).find(
        (field) =>
          isLeafType(getNamedType(field.type)) && field.args.length === 0 && !['id', 'slug'].includes(field.name),
      )
    : undefined;
  if (payloadType === undefined || object === undefined || objectType === undefined || fact === undefined)
    throw new Error(`The payload of ${name} has no object with a fact.`);
  const selections = [
    `{ ${object.name} { ${fact.name} } }`,
    `{ ... on ${payloadType.name} { ${object.name} { id ... on ${objectType.name} { ${fact.name} } } } }`,
  ];
  return [
    ...selections.map((selection) => document.replace('{ __typename }', selection)),
    `${document.replace('{ __typename }', '{ ...p }')} fragment p on ${payloadType.name} { x: ${object.name} { ...o } } fragment o on ${objectType.name} { ${fact.name} }`,
  ];
}

function callOf(field: GraphQLField<unknown, unknown>): string {
  const args = field.args.filter(isRequiredArgument).map((arg) => `${arg.name}: ${valueOf(arg.type)}`);
  return args.length === 0 ? field.name : `${field.name}(${args.join(', ')})`;
}

function valueOf(type: GraphQLInputType): string {
  if (isNonNullType(type)) return valueOf(type.ofType);
  if (isListType(type)) return `[${valueOf(type.ofType)}]`;
  const named = getNamedType(type);
  if (isEnumType(named)) return named.getValues().at(-1)?.name ?? '';
  if (isInputObjectType(named))
    return `{ ${Object.values(named.getFields())
      .filter(isRequiredInputField)
      .map((field) => `${field.name}: ${valueOf(field.type)}`)
      .join(', ')} }`;
  if (isScalarType(named) && (named.name === 'Int' || named.name === 'Float')) return '1';
  return named.name === 'Boolean' ? 'true' : '"00000000-0000-7000-8000-000000000000"';
}
