/** Values that nobody means, at every place of the schema that takes one: refused by name, never INTERNAL. */
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import {
  buildSchema,
  getNamedType,
  isEnumType,
  isInputObjectType,
  isLeafType,
  isListType,
  isNonNullType,
  isObjectType,
  isRequiredInputField,
  isScalarType,
  type GraphQLArgument,
  type GraphQLInputType,
  type GraphQLOutputType,
  type GraphQLSchema,
} from 'graphql';
import { at } from '../test/support/catalogue.ts';
import { oneOf, type Attack, type Dice } from './attack.ts';

const SCHEMA = path.resolve(import.meta.dirname, '../schema.graphql');
const UUID = '00000000-0000-7000-8000-000000000000';
const TEXTS = [
  '',
  ' ',
  '\0',
  'a\0b',
  '\ud800',
  'a\udfff\ud800',
  '\u001b[31mred\u001b[0m',
  '\u009b31m',
  '\u202egnp.exe',
  '\u2028',
  '\n\r\t',
  'x'.repeat(50_000),
  '😀'.repeat(5_000),
  '0000-01-01T00:00:00Z',
  '0001-01-01T00:00:00+23:59',
  '9999-12-31T23:59:59-23:59',
  '10000-01-01T00:00:00Z',
  '2026-02-30T00:00:00Z',
  '-1',
  '1e999',
  'null',
  '__proto__',
  'constructor',
  '\'; DROP TABLE "Run"; --',
  '../../../../etc/passwd',
  '/dev/zero',
  '%00',
  '=1+1',
  'AAAA',
  'eyJhIjoxfQ',
  UUID,
  'dataset:*',
  '*',
] as const;
const NUMBERS = [-1, 0, 1, 2_147_483_647, -2_147_483_648, 2_147_483_648, 1e308, -1e308, 5e-324, 0.5] as const;
const OTHERS = [
  null,
  true,
  [],
  [[]],
  {},
  [null],
  { __proto__: null, a: { b: [1] } },
  Array.from({ length: 60 }, () => ({})),
] as const;
const VALUES: readonly [unknown, ...unknown[]] = ['', ...TEXTS, ...NUMBERS, ...OTHERS];

/** A field with arguments, and a document around it. */
interface Place {
  readonly args: readonly GraphQLArgument[];
  /** @param call the field with its arguments. */
  readonly document: (variables: string, call: string) => string;
  readonly name: string;
}

/** The way to one value below an argument. */
interface Leaf {
  readonly place: Place;
  readonly argument: GraphQLArgument;
  readonly way: readonly string[];
}

export const hostileValues: Attack = {
  name: 'hostile-values',
  about: 'values that nobody means, alone and together, at every argument and input field of the schema',
  run: async ({ quick, dice, isTimeLeft, server }) => {
    const attacked = await server();
    const schema = buildSchema(await readFile(SCHEMA, 'utf8'));
    const leaves = leavesOf(schema);
    const findings = new Set<string>();
    let tryCount = 0;
    const attempt = async (leaf: Leaf, value: unknown): Promise<void> => {
      tryCount += 1;
      const fault = faultIn(await attacked.ask(...operationWith(leaf, value)).catch((error: unknown) => String(error)));
      const words = JSON.stringify(value) ?? 'nothing';
      if (fault !== undefined)
        findings.add(
          `${fault} for ${leaf.place.name}(${leaf.argument.name}${leaf.way.map((key) => `.${key}`).join('')}: ${words.slice(0, 100)})`,
        );
    };
    // Every value at every place once, then others at random until the time or the number is over.
    const systematic = leaves.flatMap((leaf) => VALUES.map((value) => [leaf, value] as const));
    const total = quick ? 700 : Math.max(10_000, systematic.length);
    const chosen = quick
      ? Array.from({ length: total }, () => systematic[Math.floor(dice() * systematic.length)])
      : [...systematic, ...Array.from({ length: total - systematic.length }, () => undefined)];
    const waiting = chosen.values();
    const work = async (): Promise<void> => {
      for (const next of waiting) {
        if (!isTimeLeft() || findings.size > 20) return;
        const [first] = leaves;
        if (first === undefined) return;
        const [leaf, value] = next ?? [oneOf([first, ...leaves], dice), madeUp(dice, 0)];
        await attempt(leaf, value);
      }
    };
    await Promise.all(Array.from({ length: 8 }, work));
    return {
      tryCount,
      findings: [...findings, ...attacked.errors().map((line) => `logged as an error: ${line}`)].slice(0, 40),
    };
  },
};

function madeUp(dice: Dice, depth: number): unknown {
  if (depth < 3 && dice() < 0.2) return Array.from({ length: Math.floor(dice() * 4) }, () => madeUp(dice, depth + 1));
  if (depth < 3 && dice() < 0.2) return { [oneOf(TEXTS, dice)]: madeUp(dice, depth + 1) };
  return oneOf(VALUES, dice);
}

function leavesOf(schema: GraphQLSchema): Leaf[] {
  return placesOf(schema).flatMap((place) =>
    place.args.flatMap((argument) => waysBelow(argument.type, 0).map((way) => ({ place, argument, way }))),
  );
}

/** Root fields, and fields with arguments below what the catalogue is sure to hold. */
function placesOf(schema: GraphQLSchema): Place[] {
  const selectionOf = (type: GraphQLOutputType): string => (isLeafType(getNamedType(type)) ? '' : '{ __typename }');
  const roots = [
    ['query', schema.getQueryType()],
    ['mutation', schema.getMutationType()],
  ] as const;
  const direct = roots.flatMap(([kind, root]) =>
    Object.values(root?.getFields() ?? {}).map((field) => ({
      name: `${root?.name}.${field.name}`,
      args: field.args,
      document: (variables: string, call: string) => `${kind}${variables} { ${call} ${selectionOf(field.type)} }`,
    })),
  );
  const dataset = schema.getType('Dataset');
  const nested = isObjectType(dataset)
    ? Object.values(dataset.getFields())
        .filter((field) => field.args.length > 0)
        .map((field) => ({
          name: `Dataset.${field.name}`,
          args: field.args,
          document: (variables: string, call: string) =>
            `query${variables} { datasets(first: 2) { nodes { ${call} ${selectionOf(field.type)} } } }`,
        }))
    : [];
  return [...direct, ...nested].filter(({ args }) => args.length > 0);
}

function waysBelow(type: GraphQLInputType, depth: number): string[][] {
  const named = getNamedType(type);
  if (!isInputObjectType(named) || depth > 3) return [[]];
  return [
    [],
    ...Object.values(named.getFields()).flatMap((field) =>
      waysBelow(field.type, depth + 1).map((way) => [field.name, ...way]),
    ),
  ];
}

function operationWith({ place, argument, way }: Leaf, value: unknown): [string, Record<string, unknown>] {
  const given = place.args.filter(
    (arg) => arg === argument || (isNonNullType(arg.type) && arg.defaultValue === undefined),
  );
  const variables = given.map((arg) => `$${arg.name}: ${String(arg.type)}`).join(', ');
  const call = given.map((arg) => `${arg.name}: $${arg.name}`).join(', ');
  // The call stands for the field of the place: its name is the last part of the place's.
  const field = `${place.name.split('.').at(-1) ?? ''}(${call})`;
  return [
    place.document(`(${variables})`, field),
    Object.fromEntries(
      given.map((arg) => [arg.name, arg === argument ? withValue(arg.type, way, value) : plain(arg.type)]),
    ),
  ];
}

/** What is required and names nothing, with the value put where the way leads. */
function withValue(type: GraphQLInputType, way: readonly string[], value: unknown): unknown {
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

function plain(type: GraphQLInputType): unknown {
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

/** A refusal has a code that is not INTERNAL; an answer without errors may be the right one. */
function faultIn(answer: unknown): string | undefined {
  if (typeof answer === 'string') return answer;
  const errors = at(answer, 'errors');
  const codes = Array.isArray(errors) ? errors.map((error: unknown) => at(error, 'extensions.code')) : [];
  const internal = codes.filter((code) => typeof code !== 'string' || code.startsWith('INTERNAL'));
  return internal.length === 0 ? undefined : `${String(internal[0] ?? 'an error without a code')} was answered`;
}
