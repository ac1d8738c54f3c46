/** Which characters the text values of an operation may contain. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { parse } from 'graphql';
import { faultInText } from '../../src/api/input-text.ts';
import { DomainError } from '../../src/errors.ts';

const EMPTY = parse('{ a }');

describe('text in the variables of an operation', () => {
  for (const [what, value] of [
    ['NUL', 'a\0b'],
    ['a terminal escape', '\u001b[31m'],
    ['an escape of eight bits', '\u009b31m'],
    ['DEL', '\u007f'],
    ['a high surrogate alone', '\ud800'],
    ['a low surrogate alone', 'a\udc00'],
  ] as const) {
    test(`${what} is refused with the path of its field`, () => {
      for (const [variables, field] of [
        [{ text: value }, 'text'],
        [{ input: { names: ['fine', value] } }, 'input.names.1'],
        [{ json: { [value]: 1 } }, 'json'],
      ] as const) {
        const error = faultInText(EMPTY, variables)?.originalError;
        assert.ok(error instanceof DomainError);
        assert.deepEqual([error.code, error.field], ['BAD_INPUT', field]);
      }
      const document = `{ a(text: ${JSON.stringify(value)}) }`;
      // GraphQL's parser refuses half a pair by itself.
      if (value.isWellFormed()) assert.ok(faultInText(parse(document), {}) !== undefined);
      else assert.throws(() => parse(document), /Invalid Unicode escape/);
    });
  }
  test('Unicode, emoji and line ends are accepted', () => {
    assert.equal(
      faultInText(EMPTY, { text: 'Gewebe – 组织 😀\tone\r\ntwo', count: 1, none: null, list: [true] }),
      undefined,
    );
  });
});
