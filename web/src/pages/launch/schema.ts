/**
 * What may be filled in: read from the running server's schema, so that a form never knows less or more than the API.
 */
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
  /** Left empty it is sent as null, which leaves the choice to the server, instead of taking the default. */
  readonly isNullWhenEmpty?: boolean;
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

export type InputTypes = ReadonlyMap<string, InputType>;

/** Which parameters an optimizer has: those of others are neither asked for nor sent. */
export const OPTIMIZER_PARAMETERS: Readonly<Record<string, readonly string[]>> = {
  LARS: ['momentum', 'weightDecay'],
  SGD: ['momentum', 'nesterov', 'weightDecay'],
  ADAM: ['beta1', 'beta2', 'epsilon', 'weightDecay'],
  ADAMW: ['beta1', 'beta2', 'epsilon', 'weightDecay'],
};

/**
 * The fields of an input object on its own: it is filled in field by field. Undefined for everything else.
 * @param texts as filled in so far: an optimizer's parameters depend on its name.
 */
export function innerFields(
  field: InputField,
  types: InputTypes,
  texts: Readonly<Record<string, string>>,
  path: string,
): readonly InputField[] | undefined {
  const shape = shapeOf(field.type);
  const inner = shape.isList ? undefined : (types.get(shape.typeName)?.inputFields ?? undefined);
  if (shape.typeName !== 'OptimizerInput') return inner;
  const own = OPTIMIZER_PARAMETERS[texts[`${path}.name`] ?? ''] ?? [];
  return inner
    ?.filter(({ name }) => name === 'name' || own.includes(name))
    .toSorted((left, right) => Number(right.name === 'name') - Number(left.name === 'name'));
}

/** A field's texts are keyed by its path, `inputContract.imageSizePx`. */
export const pathOf = (within: string, field: InputField): string =>
  within === '' ? field.name : `${within}.${field.name}`;

export interface Filled {
  /** What was filled in, and nothing else. */
  readonly values: Readonly<Record<string, unknown>>;
  /** The same as GraphQL writes it, one field each. */
  readonly lines: readonly string[];
  /** In words for a person, by path. */
  readonly faults: Readonly<Record<string, string>>;
}

/** What the texts, by path, stand for. */
export function fill(
  fields: readonly InputField[],
  texts: Readonly<Record<string, string>>,
  types: InputTypes,
  within = '',
): Filled {
  const values: Record<string, unknown> = {};
  const lines: string[] = [];
  const faults: Record<string, string> = {};
  for (const field of fields) {
    const path = pathOf(within, field);
    const inner = innerFields(field, types, texts, path);
    if (inner !== undefined) {
      const filled = fill(inner, texts, types, path);
      Object.assign(faults, filled.faults);
      if (filled.lines.length === 0) continue;
      values[field.name] = filled.values;
      lines.push(`${field.name}: { ${filled.lines.join(', ')} }`);
      continue;
    }
    try {
      const isEnum = isEnumType(field, types);
      const value = valueOf(texts[path] ?? '', shapeOf(field.type), isEnum);
      if (value === undefined) {
        if (field.isNullWhenEmpty === true) {
          values[field.name] = null;
          lines.push(`${field.name}: null`);
        }
        continue;
      }
      values[field.name] = value;
      lines.push(`${field.name}: ${literalOf(value, isEnum)}`);
    } catch (error) {
      faults[path] =
        error instanceof SyntaxError ? 'must be JSON' : error instanceof Error ? error.message : String(error);
    }
  }
  return { values, lines, faults };
}

function isEnumType(field: InputField, types: InputTypes): boolean {
  return (types.get(shapeOf(field.type).typeName)?.enumValues ?? null) !== null;
}

/** Lists of these are written with commas between. */
export function isPlainList({ isList, typeName }: FieldShape, isEnum: boolean): boolean {
  return isList && (isEnum || ['String', 'Int', 'Float'].includes(typeName));
}

/** The value that a text stands for, or undefined for an empty one. @throws Error in words for a person. */
function valueOf(text: string, shape: FieldShape, isEnum: boolean): unknown {
  const trimmed = text.trim();
  if (trimmed === '') return undefined;
  if (isPlainList(shape, isEnum)) {
    const parts = trimmed
      .replace(/^\[(.*)\]$/, '$1')
      .split(',')
      .map((part) => part.trim())
      .filter((part) => part !== '');
    return parts.map((part) => valueOf(part, { ...shape, isList: false }, isEnum));
  }
  if (shape.isList || shape.typeName === 'JSON') return JSON.parse(trimmed);
  if (shape.typeName === 'Int' || shape.typeName === 'Float') {
    const number = Number(trimmed);
    if (Number.isNaN(number)) throw new Error('must be a number');
    return number;
  }
  if (shape.typeName === 'Boolean') return trimmed === 'true';
  return trimmed;
}

/** A value as in a GraphQL document; enum values have no quotes. */
function literalOf(value: unknown, isEnum: boolean): string {
  if (Array.isArray(value)) return `[${value.map((item) => literalOf(item, isEnum)).join(', ')}]`;
  if (typeof value === 'object' && value !== null)
    return `{ ${Object.entries(value)
      .map(([name, item]) => `${name}: ${literalOf(item, false)}`)
      .join(', ')} }`;
  return typeof value === 'string' && isEnum ? value : JSON.stringify(value);
}

/** Units at the end of a name. */
const UNITS: Readonly<Record<string, string>> = { Px: 'px', Seconds: 's' };
const ABBREVIATIONS: Readonly<Record<string, string>> = {
  url: 'URL',
  csv: 'CSV',
  ihc: 'IHC',
  doi: 'DOI',
  arxiv: 'arXiv',
  id: '',
};

/** A field's name in words: `imageSizePx` is "Image size, px", `datasetVersionId` "Dataset version". */
export function labelOf(name: string): string {
  const parts = name.split(/(?=[A-Z])/);
  const unit = parts.length > 1 ? UNITS[parts.at(-1) ?? ''] : undefined;
  const said = (unit === undefined ? parts : parts.slice(0, -1))
    .map((part) => ABBREVIATIONS[part.toLowerCase()] ?? part.toLowerCase())
    .filter((part) => part !== '')
    .join(' ');
  return `${said === 'arXiv' ? said : said.charAt(0).toUpperCase() + said.slice(1)}${unit === undefined ? '' : `, ${unit}`}`;
}
