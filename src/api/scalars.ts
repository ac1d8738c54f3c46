/** The scalars DateTime and JSON. Both refuse, as input and output, any value that they cannot represent exactly. */
import { GraphQLError, Kind, type ValueNode } from 'graphql';
import { scalarType } from './nexus.ts';

/** RFC 3339 with seconds and an offset: without an offset the instant is ambiguous. */
const INSTANT = /^(\d{4})-(\d{2})-(\d{2})T(\d{2}):(\d{2}):(\d{2})(\.\d{1,9})?(Z|[+-](?:[01]\d|2[0-3]):[0-5]\d)$/;

/** @throws GraphQLError for a value that is not an instant, such as the 31st of June. */
export function parseInstant(value: unknown): Date {
  const match = typeof value === 'string' ? INSTANT.exec(value) : null;
  if (match !== null) {
    const [year = 0, month = 0, day = 0, hour = 0, minute = 0, second = 0] = match.slice(1, 7).map(Number);
    const instant = new Date(match[0]);
    // Date would turn 30 February into 1 March silently.
    const daysInMonth = new Date(Date.UTC(year, month, 0)).getUTCDate();
    const isReal =
      month >= 1 && month <= 12 && day >= 1 && day <= daysInMonth && hour < 24 && minute < 60 && second < 60;
    // PostgreSQL and RFC 3339 support the years 1 to 9999, and the offset can move an instant out of that range.
    const isKept = instant.getUTCFullYear() >= 1 && instant.getUTCFullYear() <= 9999;
    if (isReal && isKept) return instant;
  }
  throw new GraphQLError(
    `DateTime must be an instant such as "2026-01-31T12:00:00Z", not ${JSON.stringify(value) ?? typeof value}.`,
  );
}

export const DateTime = scalarType({
  name: 'DateTime',
  description: 'An instant in RFC 3339; output is in UTC with milliseconds, e.g. "2026-01-31T12:00:00.000Z".',
  sourceType: 'Date',
  serialize(value) {
    if (value instanceof Date && !Number.isNaN(value.getTime())) return value.toISOString();
    throw new GraphQLError('DateTime needs a valid Date as its value.');
  },
  parseValue: parseInstant,
  parseLiteral(node) {
    if (node.kind !== Kind.STRING) throw new GraphQLError('DateTime must be a string.', { nodes: node });
    return parseInstant(node.value);
  },
});

/** Largest nesting of lists and objects, because parsers recurse to this depth. */
export const MAX_JSON_DEPTH = 64;

/**
 * The value, if JSON can represent it without loss.
 * @throws GraphQLError with the path of a value that JSON cannot represent (NaN, undefined, a Date, a function), or for
 * more than MAX_JSON_DEPTH levels.
 */
export function checkedJson(value: unknown, place = 'JSON', depth = 0): unknown {
  if (value === null || typeof value === 'string' || typeof value === 'boolean') return value;
  if (typeof value === 'number' && Number.isFinite(value)) return value;
  if (depth > MAX_JSON_DEPTH) throw new GraphQLError(`JSON is more than ${MAX_JSON_DEPTH} levels deep.`);
  if (Array.isArray(value)) return value.map((item, index) => checkedJson(item, `${place}[${index}]`, depth + 1));
  if (isPlainObject(value))
    return Object.fromEntries(
      Object.entries(value).map(([key, item]) => [key, checkedJson(item, `${place}.${key}`, depth + 1)]),
    );
  throw new GraphQLError(`${place} is not a JSON value (${Object.prototype.toString.call(value)}).`);
}

function isPlainObject(value: unknown): value is Readonly<Record<string, unknown>> {
  if (typeof value !== 'object' || value === null) return false;
  const prototype: unknown = Object.getPrototypeOf(value);
  // Parsed variables have a null prototype.
  return prototype === null || prototype === Object.prototype;
}

function jsonOfLiteral(node: ValueNode, variables: Readonly<Record<string, unknown>>): unknown {
  switch (node.kind) {
    case Kind.STRING:
    case Kind.BOOLEAN:
      return node.value;
    case Kind.INT:
    case Kind.FLOAT:
      return checkedJson(Number(node.value));
    case Kind.NULL:
      return null;
    case Kind.LIST:
      return node.values.map((item) => jsonOfLiteral(item, variables));
    case Kind.OBJECT:
      return Object.fromEntries(node.fields.map((field) => [field.name.value, jsonOfLiteral(field.value, variables)]));
    case Kind.VARIABLE:
      return variables[node.name.value] ?? null;
    case Kind.ENUM:
      throw new GraphQLError(`A string in JSON needs quotation marks: write "${node.value}".`, { nodes: node });
  }
}

export const JSONValue = scalarType({
  name: 'JSON',
  description: 'Any JSON value: object, list, string, finite number, boolean or null.',
  sourceType: 'unknown',
  serialize: (value) => checkedJson(value),
  parseValue: (value) => checkedJson(value),
  parseLiteral: (node, variables) => jsonOfLiteral(node, variables ?? {}),
});
