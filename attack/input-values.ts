/** Builds arguments for a schema: the required values, and a given value at one place. */
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

/** An id that names no object. */
export const UUID = '00000000-0000-7000-8000-000000000000';

/** The required arguments, naming no object, with the value at the place that the path leads to. */
export function withValue(type: GraphQLInputType, valuePath: readonly string[], value: unknown): unknown {
  const [key, ...rest] = valuePath;
  if (key === undefined) return value;
  if (isNonNullType(type)) return withValue(type.ofType, valuePath, value);
  if (isListType(type)) return [withValue(type.ofType, valuePath, value)];
  const named = getNamedType(type);
  const field = isInputObjectType(named) ? named.getFields()[key] : undefined;
  const base = plain(type);
  return field === undefined || typeof base !== 'object' || base === null
    ? value
    : { ...base, [key]: withValue(field.type, rest, value) };
}

/** The required values of the type, naming no object. */
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
