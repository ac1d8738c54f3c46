/** Deny by default: a schema is not built unless the rules cover it completely. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, test } from 'node:test';
import { buildSchema, isObjectType } from 'graphql';
import { guard, PermissionError, type Rules } from '../../src/api/guard.ts';
import { FIELD_RULES, TYPE_ROLES } from '../../src/api/permissions.ts';
import { referenceAt } from '../../src/api/touched.ts';
import { authorise, authoriseChange } from '../../src/modules/access/index.ts';
import { keyHolder } from '../support/viewers.ts';

const SMALL = `
  type Query { slides: SlideConnection! secret: Secret }
  type Mutation { cut(id: ID!): Slide }
  type Subscription { cuts: Slide }
  type SlideConnection { edges: [SlideEdge!]! }
  type SlideEdge { node: Slide! }
  type Slide implements Thing { id: ID! }
  type Secret { text: String }
  interface Thing { id: ID! }
`;
const RULES: Rules = {
  fields: {
    'Query.slides': { role: 'READER', action: 'READ' },
    'Query.secret': { role: 'ADMIN', action: 'ADMINISTER' },
    'Mutation.cut': { role: 'OPERATOR', action: 'LAUNCH' },
    'Subscription.cuts': { role: 'READER', action: 'READ' },
  },
  types: { READER: ['Slide'], ADMIN: ['Secret'] },
};

function faults(sdl: string, rules: Rules): string {
  try {
    guard(buildSchema(sdl), rules);
    return '';
  } catch (error) {
    assert.ok(error instanceof PermissionError);
    return error.message;
  }
}

describe('a schema', () => {
  test('that the rules cover is accepted', () => assert.equal(faults(SMALL, RULES), ''));

  for (const root of ['Query', 'Mutation', 'Subscription']) {
    test(`with a field of ${root} that has no rule is refused`, () => {
      assert.match(
        faults(SMALL.replace(`type ${root} {`, `type ${root} { added: Int`), RULES),
        new RegExp(`${root}\\.added has no rule`),
      );
    });
  }
  test('with a type that has no role is refused', () =>
    assert.match(
      faults(`${SMALL} type Added { a: Int } extend type Slide { added: Added }`, RULES),
      /The type Added has no role/,
    ));
  test('with a rule that has no field, or a role that has no type, is refused', () => {
    assert.match(
      faults(SMALL, { ...RULES, fields: { ...RULES.fields, 'Query.gone': { role: 'ADMIN', action: 'READ' } } }),
      /a line for Query\.gone/,
    );
    assert.match(faults(SMALL, { ...RULES, types: { ...RULES.types, OPERATOR: ['Gone'] } }), /names the type Gone/);
  });
  test('that lets a READER reach a secret indirectly is refused', () => {
    assert.match(
      faults(`${SMALL} extend type Slide { keeper: Secret }`, RULES),
      /Query\.slides is open to READER but can reach the type Secret, which needs ADMIN/,
    );
    assert.match(
      faults(
        SMALL.replace('type Secret {', 'type Secret implements Thing { id: ID!').replace(
          'type Query {',
          'type Query { thing: Thing',
        ),
        { ...RULES, fields: { ...RULES.fields, 'Query.thing': { role: 'READER', action: 'READ' } } },
      ),
      /Query\.thing .* the type Secret/,
    );
  });
  test('checks fields named like a property of every object, such as constructor', () => {
    assert.match(
      faults(SMALL.replace('type Query {', 'type Query { constructor: Int'), { ...RULES, fields: { ...RULES.fields } }),
      /Query\.constructor has no rule/,
    );
  });
});

test('every root field and every type of the printed schema has its rule', () => {
  const printed = buildSchema(readFileSync(path.resolve(import.meta.dirname, '../../schema.graphql'), 'utf8'));
  const roots = [printed.getQueryType(), printed.getMutationType(), printed.getSubscriptionType()];
  const fields = roots.flatMap((root) => Object.keys(root?.getFields() ?? {}).map((name) => `${root?.name}.${name}`));
  assert.deepEqual(fields.toSorted(), Object.keys(FIELD_RULES).toSorted());
  const ruled = new Set(Object.values(TYPE_ROLES).flat());
  const types = Object.values(printed.getTypeMap()).filter(
    (type) => isObjectType(type) && !roots.includes(type) && !type.name.startsWith('__'),
  );
  assert.deepEqual(
    types
      .map((type) => type.name)
      .filter((name) => !ruled.has(name) && !ruled.has(name.replace(/(Connection|Edge|Payload)$/, ''))),
    [],
  );
});

test('no mutation is open to a reader, and none counts as reading', () => {
  for (const [name, { role, action }] of Object.entries(FIELD_RULES).filter(([field]) =>
    field.startsWith('Mutation.'),
  )) {
    assert.ok(role !== 'ANYONE' && role !== 'READER' && action !== 'READ', name);
  }
});

test('the objects that a mutation changes are in its arguments', () => {
  const printed = buildSchema(readFileSync(path.resolve(import.meta.dirname, '../../schema.graphql'), 'utf8'));
  for (const [name, { touches = {} }] of Object.entries(FIELD_RULES)) {
    for (const place of Object.values(touches).flat()) {
      const [argument = '', field] = place.split('.');
      const type = printed
        .getMutationType()
        ?.getFields()
        [name.replace('Mutation.', '')]?.args.find((arg) => arg.name === argument)?.type;
      assert.ok(type !== undefined, `${name}: ${place}`);
      if (field === undefined) continue;
      const input = printed.getType(String(type).replaceAll(/[!\[\]]/g, ''));
      assert.ok(
        input !== undefined && 'getFields' in input && Object.hasOwn(input.getFields(), field),
        `${name}: ${place}`,
      );
    }
  }
});

test('the first given argument names the object that is changed', () => {
  assert.equal(
    referenceAt({ input: { modelId: null, modelSlug: 'tour' } }, ['input.modelId', 'input.modelSlug']),
    'tour',
  );
  assert.equal(referenceAt({ input: {} }, ['input.modelId', 'id']), undefined);
  assert.equal(referenceAt({ input: { id: 7 } }, ['input.id', 'input.id.length']), undefined);
});

describe('a limited key', () => {
  test('allows only its kinds of action, whatever its role', () => {
    const uploader = keyHolder('ADMIN', { actions: ['IMPORT', 'READ'] });
    authorise(uploader, 'CONTRIBUTOR', 'IMPORT');
    authorise(uploader, 'READER', 'READ');
    assert.throws(() => authorise(uploader, 'ADMIN', 'ADMINISTER'), {
      code: 'FORBIDDEN',
      message: /limited to IMPORT, READ/,
    });
    assert.throws(() => authorise(keyHolder('READER', { actions: ['IMPORT'] }), 'CONTRIBUTOR', 'IMPORT'), {
      code: 'FORBIDDEN',
      message: /needs the role CONTRIBUTOR/,
    });
  });

  test('changes only its datasets and models', () => {
    const own = keyHolder('OPERATOR', { resources: ['dataset:bach', 'model:*'] });
    authoriseChange(own, ['dataset:bach', 'model:anything']);
    authoriseChange(keyHolder('OPERATOR'), undefined);
    for (const resources of [
      ['dataset:bach-2'],
      ['dataset:bach', 'dataset:other'],
      ['dataset:*'],
      ['dataset:'],
      ['model'],
      [''],
      [],
      undefined,
    ]) {
      assert.throws(() => authoriseChange(own, resources), { code: 'FORBIDDEN' }, String(resources));
    }
  });
});
