/**
 * Hostile values at every place of the schema that takes a value: they must be refused with a code, never with
 * INTERNAL.
 */
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import {
  buildSchema,
  coerceInputValue,
  getNamedType,
  isInputObjectType,
  isLeafType,
  isObjectType,
  isRequiredArgument,
  type GraphQLArgument,
  type GraphQLField,
  type GraphQLInputType,
  type GraphQLSchema,
} from 'graphql';
import { at } from '../test/support/catalogue.ts';
import { oneOf, type Attack, type Random } from './attack.ts';
import { plain, UUID, withValue } from './input-values.ts';

const SCHEMA = path.resolve(import.meta.dirname, '../schema.graphql');
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

/** A field with arguments, and the document around it. */
interface FieldCall {
  readonly args: readonly GraphQLArgument[];
  readonly kind: 'query' | 'mutation';
  /** @param calls fields with their arguments. */
  readonly around: (calls: string) => string;
  readonly fieldName: string;
  readonly selection: string;
  readonly name: string;
}

/** The path to one value within an argument. */
interface Leaf {
  readonly fieldCall: FieldCall;
  readonly argument: GraphQLArgument;
  readonly valuePath: readonly string[];
}

/** One call of a field with one hostile value. */
interface Attempt {
  readonly leaf: Leaf;
  readonly value: unknown;
  readonly given: readonly GivenArgument[];
}

interface GivenArgument {
  readonly argument: GraphQLArgument;
  readonly value: unknown;
}

/** Several calls in one document, each an operation of its own: far below MAX_ALIASES. */
const CALLS_PER_REQUEST = 8;
const AT_ONCE = 8;
const SYSTEMATIC_COUNT = 8_000;
const GENERATED_COUNT = 2_000;
const QUICK_COUNT = 700;
const MAX_FINDINGS = 20;

export const hostileValues: Attack = {
  name: 'hostile-values',
  about: 'hostile values, alone and together, at every argument and input field of the schema',
  share: 45,
  run: async ({ quick, random, isTimeLeft, server }) => {
    const attacked = await server();
    const schema = buildSchema(await readFile(SCHEMA, 'utf8'));
    const leaves = leavesOf(schema);
    const [first] = leaves;
    if (first === undefined) throw new Error('The schema has no field with arguments.');
    // First every value at a number of places that the seed chooses, then generated values.
    const systematic = shuffled(
      leaves.flatMap((leaf) => VALUES.map((value) => attemptOf(leaf, value))),
      random,
    );
    const generatedValues = Array.from({ length: GENERATED_COUNT }, () =>
      attemptOf(oneOf([first, ...leaves], random), generated(random, 0)),
    );
    const attempts = quick
      ? systematic.slice(0, QUICK_COUNT)
      : [...systematic.slice(0, SYSTEMATIC_COUNT), ...generatedValues];
    const findings = new Set<string>();
    let tryCount = 0;
    const record = ({ leaf, value }: Attempt, fault: string | undefined): void => {
      tryCount += 1;
      if (fault === undefined) return;
      const fieldCall = `${leaf.fieldCall.name}(${leaf.argument.name}${leaf.valuePath.map((key) => `.${key}`).join('')}`;
      findings.add(`${fault} for ${fieldCall}: ${(JSON.stringify(value) ?? 'nothing').slice(0, 200)})`);
    };
    const send = async (batch: readonly Attempt[]): Promise<void> => {
      const answer = await attacked.ask(...operationOf(batch)).catch((error: unknown) => String(error));
      // The document was refused as a whole: the answer to each call is seen when it is sent alone.
      if (batch.length > 1 && (typeof answer === 'string' || at(answer, 'data') == null))
        for (const each of batch) await send([each]);
      else
        for (const [index, each] of batch.entries())
          record(each, faultIn(answer, batch.length > 1 ? index : undefined));
    };
    const waiting = batchesOf(attempts);
    const work = async (): Promise<void> => {
      for (const batch of waiting) {
        if (!isTimeLeft() || findings.size > MAX_FINDINGS) return;
        await send(batch);
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, work));
    return {
      tryCount,
      findings: [...findings, ...attacked.errors().map((line) => `logged as an error: ${line}`)].slice(
        0,
        2 * MAX_FINDINGS,
      ),
    };
  },
};

/** Values that are refused before execution take a request each; those that reach their resolver share one. */
function* batchesOf(attempts: readonly Attempt[]): Generator<readonly Attempt[]> {
  const batches = new Map<string, Attempt[]>();
  for (const each of attempts) {
    if (!each.given.every(({ argument, value }) => isTaken(argument.type, value))) {
      yield [each];
      continue;
    }
    const { kind, around } = each.leaf.fieldCall;
    const key = `${kind} ${around('')}`;
    const batch = [...(batches.get(key) ?? []), each];
    batches.set(key, batch);
    if (batch.length < CALLS_PER_REQUEST) continue;
    yield batch;
    batches.delete(key);
  }
  yield* batches.values();
}

/** Whether GraphQL accepts the value for the type, and the text in it for text. */
function isTaken(type: GraphQLInputType, value: unknown): boolean {
  if (/[^\P{Cc}\t\n\r]/u.test(textIn(value)) || !textIn(value).isWellFormed()) return false;
  let isSound = true;
  coerceInputValue(value, type, () => {
    isSound = false;
  });
  return isSound;
}

function textIn(value: unknown): string {
  if (typeof value === 'string') return value;
  if (typeof value !== 'object' || value === null) return '';
  return Object.entries(value)
    .flatMap(([key, item]: [string, unknown]) => [key, textIn(item)])
    .join(' ');
}

function shuffled<Item>(items: readonly Item[], random: Random): Item[] {
  return items
    .map((item) => [random(), item] as const)
    .toSorted(([first], [second]) => first - second)
    .map(([, item]) => item);
}

function generated(random: Random, depth: number): unknown {
  if (depth < 3 && random() < 0.2)
    return Array.from({ length: Math.floor(random() * 4) }, () => generated(random, depth + 1));
  if (depth < 3 && random() < 0.2) return { [oneOf(TEXTS, random)]: generated(random, depth + 1) };
  return oneOf(VALUES, random);
}

function leavesOf(schema: GraphQLSchema): Leaf[] {
  return fieldCallsOf(schema).flatMap((fieldCall) =>
    fieldCall.args.flatMap((argument) =>
      pathsBelow(argument.type, 0).map((valuePath) => ({ fieldCall, argument, valuePath })),
    ),
  );
}

/** Root fields, and fields with arguments of objects that the catalogue certainly contains. */
function fieldCallsOf(schema: GraphQLSchema): FieldCall[] {
  const fieldCallOf = (
    parent: string,
    field: GraphQLField<unknown, unknown>,
    kind: FieldCall['kind'],
    around: FieldCall['around'],
  ): FieldCall => ({
    name: `${parent}.${field.name}`,
    args: field.args,
    kind,
    around,
    fieldName: field.name,
    selection: isLeafType(getNamedType(field.type)) ? '' : '{ __typename }',
  });
  const roots = [
    ['query', schema.getQueryType()],
    ['mutation', schema.getMutationType()],
  ] as const;
  const direct = roots.flatMap(([kind, root]) =>
    Object.values(root?.getFields() ?? {}).map((field) => fieldCallOf(root?.name ?? '', field, kind, (calls) => calls)),
  );
  const dataset = schema.getType('Dataset');
  const nested = isObjectType(dataset)
    ? Object.values(dataset.getFields()).map((field) =>
        fieldCallOf('Dataset', field, 'query', (calls) => `datasets(first: 2) { nodes { ${calls} } }`),
      )
    : [];
  return [...direct, ...nested].filter(({ args }) => args.length > 0);
}

function pathsBelow(type: GraphQLInputType, depth: number): string[][] {
  const named = getNamedType(type);
  if (!isInputObjectType(named) || depth > 3) return [[]];
  return [
    [],
    ...Object.values(named.getFields()).flatMap((field) =>
      pathsBelow(field.type, depth + 1).map((valuePath) => [field.name, ...valuePath]),
    ),
  ];
}

function attemptOf(leaf: Leaf, value: unknown): Attempt {
  const { fieldCall, argument: hostile, valuePath } = leaf;
  const given = fieldCall.args
    .filter((argument) => argument === hostile || isRequiredArgument(argument))
    .map((argument) => ({
      argument,
      value: argument === hostile ? withValue(argument.type, valuePath, value) : plain(argument.type),
    }));
  return { leaf, value, given };
}

/** @param batch calls of one kind in the same document: the one at n is called `cn`. */
function operationOf(batch: readonly Attempt[]): [string, Record<string, unknown>] {
  const given = batch.flatMap((each, index) =>
    each.given.map(({ argument, value }) => ({ argument, value, variable: `${argument.name}_${index}` })),
  );
  const calls = batch.map(({ leaf: { fieldCall }, given: own }, index) => {
    const args = own.map(({ argument }) => `${argument.name}: $${argument.name}_${index}`).join(', ');
    return `c${index}: ${fieldCall.fieldName}(${args}) ${fieldCall.selection}`;
  });
  const [first] = batch;
  const variables = given.map(({ argument, variable }) => `$${variable}: ${String(argument.type)}`).join(', ');
  const { kind = 'query', around = (text: string) => text } = first?.leaf.fieldCall ?? {};
  return [
    `${kind}(${variables}) { ${around(calls.join(' '))} }`,
    Object.fromEntries(given.map(({ variable, value }) => [variable, value])),
  ];
}

/**
 * A refusal has a code other than INTERNAL; an answer without errors may be correct.
 * @param index of the call whose errors count; undefined: all do.
 */
function faultIn(answer: unknown, index: number | undefined): string | undefined {
  if (typeof answer === 'string') return answer;
  const errors: unknown = at(answer, 'errors');
  const own = (Array.isArray(errors) ? errors : []).filter((error: unknown) => {
    const path: unknown = at(error, 'path');
    return index === undefined || !Array.isArray(path) || path.includes(`c${index}`);
  });
  const codes = own.map((error: unknown) => at(error, 'extensions.code'));
  const internal = codes.filter((code) => typeof code !== 'string' || code.startsWith('INTERNAL'));
  return internal.length === 0 ? undefined : `${String(internal[0] ?? 'an error without a code')} was answered`;
}
