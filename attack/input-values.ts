/** Values for the arguments of a schema: what is required, and something of one's own at one place. */
import {
  getNamedType,
  isEnumType,
  isInputObjectType,
  isListType,
  isNonNullType,
  isRequiredInputField,
  isScalarType,
  type GraphQLInputType,
} from 'graphql';

/** It names nothing. */
export const UUID = '00000000-0000-7000-8000-000000000000';

/** What is required and names nothing, with the value put where the way leads. */
export function withValue(type: GraphQLInputType, way: readonly string[], value: unknown): unknown {
  const [key, ...rest] = way;
  if (key === undefined) return value;
  if (isNonNullType(type)) return withValue(type.ofType, way, value);
  if (isListType(type)) return [withValue(type.ofType, way, value)];
  const named = getNamedType(type);
  const field = isInputObjectType(named) ? named.getFields()[key] : undefined;
  const base = plain(type);
  return field === undefined || typeof base !== 'object' || base === null
    ? value
    : { ...base, [key]: withValue(field.type, rest, value) };
}

/** What is required of the type, which names nothing. */
export function plain(type: GraphQLInputType): unknown {
  if (isNonNullType(type)) return plain(type.ofType);
  if (isListType(type)) return [plain(type.ofType)];
  const named = getNamedType(type);
  if (isEnumType(named)) return named.getValues().at(-1)?.name;
  if (isInputObjectType(named))
    return Object.fromEntries(
      Object.values(named.getFields())
        .filter(isRequiredInputField)
        .map((field) => [field.name, plain(field.type)]),
    );
  if (isScalarType(named) && (named.name === 'Int' || named.name === 'Float')) return 1;
  return named.name === 'Boolean' ? true : UUID;
}
