/** The fields of the form, read from the running server's schema, so that the form always matches the API. */
import { send } from '../../api/client.ts';

export interface TypeReference {
  readonly kind: string;
  readonly name: string | null;
  readonly ofType?: TypeReference | null;
}

export interface InputField {
  readonly name: string;
  readonly description: string | null;
  /** The default in GraphQL notation; null if there is none. */
  readonly defaultValue: string | null;
  readonly type: TypeReference;
  /** If empty, it is sent as null, so that the server chooses instead of using the default. */
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
  /** Name of the innermost type, e.g. Int or PretrainingDatasetInput. */
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

/** The parameters of each optimizer: those of other optimizers are neither shown nor sent. */
export const OPTIMIZER_PARAMETERS: Readonly<Record<string, readonly string[]>> = {
  LARS: ['momentum', 'weightDecay'],
  SGD: ['momentum', 'nesterov', 'weightDecay'],
  ADAM: ['beta1', 'beta2', 'epsilon', 'weightDecay'],
  ADAMW: ['beta1', 'beta2', 'epsilon', 'weightDecay'],
};

/**
 * The fields of an input object that is not in a list, which is filled in field by field. Undefined for other types.
 * @param texts the values entered so far: an optimizer's parameters depend on its name.
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

/**
 * Input objects that mean something even without a field, so that a checkbox says whether they are sent: all of their
 * fields have defaults. The checkbox's text has the path of the object.
 */
const SWITCHED_INPUTS: readonly string[] = ['AnnotationsInput'];

export function isSwitched(field: InputField): boolean {
  return SWITCHED_INPUTS.includes(shapeOf(field.type).typeName);
}

/** A field's texts are keyed by its path, `inputContract.imageSizePx`. */
export const pathOf = (within: string, field: InputField): string =>
  within === '' ? field.name : `${within}.${field.name}`;

export interface Filled {
  /** Only the fields that were filled in. */
  readonly values: Readonly<Record<string, unknown>>;
  /** The same as GraphQL writes it, one field each. */
  readonly lines: readonly string[];
  /** Error messages for the user, by path. */
  readonly faults: Readonly<Record<string, string>>;
}

/** Converts the texts, by path, to an input object. */
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
      const isOn = isSwitched(field) && texts[path] === 'true';
      if (isSwitched(field) && !isOn) continue;
      const filled = fill(inner, texts, types, path);
      Object.assign(faults, filled.faults);
      if (filled.lines.length === 0 && !isOn) continue;
      values[field.name] = filled.values;
      lines.push(`${field.name}: {${filled.lines.length === 0 ? '' : ` ${filled.lines.join(', ')} `}}`);
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

/** Lists of these types are written separated by commas. */
export function isPlainList({ isList, typeName }: FieldShape, isEnum: boolean): boolean {
  return isList && (isEnum || ['String', 'Int', 'Float'].includes(typeName));
}

/** The value of a text, or undefined for an empty one. @throws Error with a message for the user. */
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
const UNITS: Readonly<Record<string, string>> = { Px: 'px', Seconds: 's', Mib: 'MiB' };
const ABBREVIATIONS: Readonly<Record<string, string>> = {
  url: 'URL',
  csv: 'CSV',
  ihc: 'IHC',
  doi: 'DOI',
  gpu: 'GPU',
  arxiv: 'arXiv',
  id: '',
};

/** A field's name in words: `imageSizePx` is "Image size, px", `datasetVersionId` "Dataset version". */
export function labelOf(name: string): string {
  const parts = name.replace(/MiB$/, 'Mib').split(/(?=[A-Z])/);
  const unit = parts.length > 1 ? UNITS[parts.at(-1) ?? ''] : undefined;
  const sentence = (unit === undefined ? parts : parts.slice(0, -1))
    .map((part) => ABBREVIATIONS[part.toLowerCase()] ?? part.toLowerCase())
    .filter((part) => part !== '')
    .join(' ');
  return `${sentence === 'arXiv' ? sentence : sentence.charAt(0).toUpperCase() + sentence.slice(1)}${unit === undefined ? '' : `, ${unit}`}`;
}
