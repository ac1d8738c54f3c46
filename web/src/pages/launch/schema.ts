/** What may be filled in: read from the running server's schema, so that a form never knows less or more than the API. */
import { send } from '../../api/client.ts';

export interface TypeReference {
  readonly kind: string;
  readonly name: string | null;
  readonly ofType?: TypeReference | null;
}

export interface InputField {
  readonly name: string;
  readonly description: string | null;
  /** As GraphQL writes it; null where there is none. */
  readonly defaultValue: string | null;
  readonly type: TypeReference;
}

export interface InputType {
  readonly name: string;
  readonly description: string | null;
  readonly inputFields: readonly InputField[] | null;
  readonly enumValues: readonly { readonly name: string }[] | null;
}

const TYPES = `{ __schema { types { name description
  inputFields { name description defaultValue type { kind name ofType { kind name ofType { kind name ofType { kind name } } } } }
  enumValues { name } } } }`;

/** Input objects and enums by name. */
export async function inputTypes(): Promise<ReadonlyMap<string, InputType>> {
  const { __schema: schema } = await send<{ readonly __schema: { readonly types: readonly InputType[] } }>(TYPES, {});
  return new Map(schema.types.map((type) => [type.name, type]));
}

export interface FieldShape {
  readonly isRequired: boolean;
  readonly isList: boolean;
  /** Of the innermost type, e.g. Int or PretrainingDatasetInput. */
  readonly typeName: string;
}

export function shapeOf(type: TypeReference): FieldShape {
  const isRequired = type.kind === 'NON_NULL';
  let isList = false;
  let inner: TypeReference = type;
  while (inner.ofType != null) {
    if (inner.kind === 'LIST') isList = true;
    inner = inner.ofType;
  }
  return { isRequired, isList: isList || inner.kind === 'LIST', typeName: inner.name ?? '' };
}

/** The value that a text stands for, or undefined for an empty one. @throws Error in words for a person. */
export function valueOf(text: string, { isList, typeName }: FieldShape): unknown {
  const trimmed = text.trim();
  if (trimmed === '') return undefined;
  if (isList && typeName === 'String') return trimmed.split(',').map((part) => part.trim()).filter((part) => part !== '');
  if (isList || typeName === 'JSON' || typeName.endsWith('Input')) return JSON.parse(trimmed);
  if (typeName === 'Int' || typeName === 'Float') {
    const number = Number(trimmed);
    if (Number.isNaN(number)) throw new Error('must be a number');
    return number;
  }
  if (typeName === 'Boolean') return trimmed === 'true';
  return trimmed;
}

/** A value as it stands in a GraphQL document; enum values have no quotes. */
export function literalOf(value: unknown, isEnum: boolean): string {
  if (Array.isArray(value)) return `[${value.map((item) => literalOf(item, isEnum)).join(', ')}]`;
  if (typeof value === 'object' && value !== null) return `{ ${Object.entries(value).map(([name, item]) => `${name}: ${literalOf(item, false)}`).join(', ')} }`;
  return typeof value === 'string' && isEnum ? value : JSON.stringify(value);
}
