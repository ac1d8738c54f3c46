/** The launch form turns typed text into values, their GraphQL, and error messages. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, test } from 'node:test';
import { buildSchema, parse, validate } from 'graphql';
import { OPTIMIZER_PARAMETERS as SERVER_PARAMETERS } from '../../src/protocol/pretraining/optimizer.ts';
import {
  fill,
  innerFields,
  isSwitched,
  labelOf,
  OPTIMIZER_PARAMETERS,
  type InputField,
  type InputType,
  type TypeReference,
} from '../../web/src/pages/launch/schema.ts';

const SCHEMA = path.resolve(import.meta.dirname, '../../schema.graphql');

const scalar = (name: string): TypeReference => ({ kind: 'SCALAR', name, ofType: null });
const listOf = (of: TypeReference): TypeReference => ({
  kind: 'LIST',
  name: null,
  ofType: { kind: 'NON_NULL', name: null, ofType: of },
});
const field = (name: string, type: TypeReference): InputField => ({
  name,
  type,
  description: null,
  defaultValue: null,
});
const type = (
  name: string,
  inputFields: readonly InputField[] | null,
  enumValues: readonly string[] | null,
): InputType => ({
  name,
  description: null,
  inputFields,
  enumValues: enumValues?.map((value) => ({ name: value })) ?? null,
});

const RULE: TypeReference = { kind: 'ENUM', name: 'Rule', ofType: null };
const CONTRACT: TypeReference = { kind: 'INPUT_OBJECT', name: 'ContractInput', ofType: null };
const TYPES = new Map(
  [
    type('Rule', null, ['CROP', 'SQUASH']),
    type(
      'ContractInput',
      [field('sizePx', scalar('Int')), field('mean', listOf(scalar('Float'))), field('rule', RULE)],
      null,
    ),
  ].map((each) => [each.name, each]),
);
const FIELDS = [
  field('name', scalar('String')),
  field('organs', listOf(scalar('String'))),
  field('rules', listOf(RULE)),
  field('rule', RULE),
  field('isDrawn', scalar('Boolean')),
  field('contract', CONTRACT),
  field('parts', listOf(CONTRACT)),
  field('options', scalar('JSON')),
];

describe('a form', () => {
  test("asks for an optimizer's own parameters only, and sends no other that was typed before", () => {
    assert.deepEqual(OPTIMIZER_PARAMETERS, SERVER_PARAMETERS);
    const optimizer = field('optimizer', { kind: 'INPUT_OBJECT', name: 'OptimizerInput', ofType: null });
    const parameters = ['beta1', 'momentum', 'weightDecay'].map((name) => field(name, scalar('Float')));
    const types = new Map([
      ['OptimizerInput', type('OptimizerInput', [...parameters, field('name', scalar('String'))], null)],
    ]);
    const asked = (name: string) =>
      innerFields(optimizer, types, { 'optimizer.name': name }, 'optimizer')?.map((each) => each.name);
    assert.deepEqual(asked(''), ['name']);
    assert.deepEqual(asked('SGD'), ['name', 'momentum', 'weightDecay']);
    const texts = { 'optimizer.name': 'ADAMW', 'optimizer.momentum': '0.9', 'optimizer.beta1': '0.8' };
    assert.deepEqual(fill([optimizer], texts, types).values, { optimizer: { name: 'ADAMW', beta1: 0.8 } });
  });

  test('sends an input that a checkbox switches on, even if none of its fields is filled in', () => {
    const annotations = field('annotations', { kind: 'INPUT_OBJECT', name: 'AnnotationsInput', ofType: null });
    const types = new Map([
      ['AnnotationsInput', type('AnnotationsInput', [field('otherLabel', scalar('String'))], null)],
    ]);
    const sent = (texts: Readonly<Record<string, string>>) => fill([annotations], texts, types);
    assert.deepEqual(sent({ annotations: 'true' }).values, { annotations: {} });
    assert.deepEqual(sent({ annotations: 'true' }).lines, ['annotations: {}']);
    const texts = { annotations: 'true', 'annotations.otherLabel': 'normal' };
    assert.deepEqual(sent(texts).lines, ['annotations: { otherLabel: "normal" }']);
    assert.deepEqual(sent({ ...texts, annotations: '' }).values, {}, 'typed before it was switched off');
    assert.ok(isSwitched(annotations));
    const names = [...readFileSync(SCHEMA, 'utf8').matchAll(/^input (\w+) \{/gm)].map((match) => match[1]);
    assert.ok(names.includes('AnnotationsInput'), 'the schema has the input that the form names');
  });

  test('sends null for what it leaves to the server, until something is typed', () => {
    const size = { ...field('imageSizePx', scalar('Int')), isNullWhenEmpty: true };
    assert.deepEqual(fill([size], {}, TYPES).values, { imageSizePx: null });
    assert.deepEqual(fill([size], {}, TYPES).lines, ['imageSizePx: null']);
    assert.deepEqual(fill([size], { imageSizePx: '96' }, TYPES).values, { imageSizePx: 96 });
  });

  test('writes GraphQL that the schema accepts, for every kind of field', () => {
    const texts = {
      name: 'Kolon "α"',
      organs: 'BREAST, COLON',
      rules: 'CROP,SQUASH',
      rule: 'CROP',
      isDrawn: 'true',
      'contract.sizePx': '224',
      'contract.mean': '[0.5, 0.5]',
      'contract.rule': 'SQUASH',
      parts: '[{ "sizePx": 1 }]',
      options: '{ "count": 3 }',
    };
    const { values, lines, faults } = fill(FIELDS, texts, TYPES);
    assert.deepEqual(faults, {});
    assert.deepEqual(values, {
      name: 'Kolon "α"',
      organs: ['BREAST', 'COLON'],
      rules: ['CROP', 'SQUASH'],
      rule: 'CROP',
      isDrawn: true,
      contract: { sizePx: 224, mean: [0.5, 0.5], rule: 'SQUASH' },
      parts: [{ sizePx: 1 }],
      options: { count: 3 },
    });
    const schema =
      buildSchema(`scalar JSON enum Rule { CROP SQUASH } input ContractInput { sizePx: Int mean: [Float!] rule: Rule }
      input In { name: String organs: [String!] rules: [Rule!] rule: Rule isDrawn: Boolean contract: ContractInput parts: [ContractInput!] options: JSON }
      type Query { made(input: In): Int }`);
    assert.deepEqual(validate(schema, parse(`{ made(input: { ${lines.join('\n')} }) }`)), []);
  });

  test('leaves out what is empty, an object within as well', () => {
    const { values, lines, faults } = fill(FIELDS, { name: '  ', organs: '', 'contract.sizePx': '' }, TYPES);
    assert.deepEqual([values, lines, faults], [{}, [], {}]);
  });

  test('reports each error under the path of its field', () => {
    const { values, faults } = fill(
      FIELDS,
      { name: 'x', 'contract.sizePx': 'large', 'contract.mean': '0.5, half', options: '{ count }' },
      TYPES,
    );
    assert.deepEqual(faults, {
      'contract.sizePx': 'must be a number',
      'contract.mean': 'must be a number',
      options: 'must be JSON',
    });
    assert.deepEqual(values, { name: 'x' });
  });
});

test("a field's name is shown in words, its unit last", () => {
  assert.deepEqual(
    [
      'imageSizePx',
      'datasetVersionId',
      'labelsCsvPath',
      'maxDurationSeconds',
      'homepageUrl',
      'ihcMarkers',
      'arxiv',
      'gpuMemoryMiB',
      'name',
    ].map(labelOf),
    [
      'Image size, px',
      'Dataset version',
      'Labels CSV path',
      'Max duration, s',
      'Homepage URL',
      'IHC markers',
      'arXiv',
      'GPU memory, MiB',
      'Name',
    ],
  );
});
