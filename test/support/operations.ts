/** The smallest operation that calls a root field, made from the schema. */
import {
  getNamedType,
  isEnumType,
  isInputObjectType,
  isLeafType,
  isListType,
  isNonNullType,
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
 * One for every field of Query, Mutation and Subscription: required arguments alone, filled with what names nothing.
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
