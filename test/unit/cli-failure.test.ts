/** A failed command reports the error in one sentence; only unexpected errors show a stack. */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { test } from 'node:test';
import { CommandFailure } from '../../src/cli/exit-codes.ts';
import { failureInWords } from '../../src/cli/failure.ts';

const coded = (message: string, code: string, cause?: unknown): Error =>
  Object.assign(new Error(message, { cause }), { code });

test('an expected error is printed with its message and hint', () => {
  const failure = new CommandFailure({ message: 'Name one dataset.', hint: 'For example: bach' });
  assert.equal(failureInWords(failure), 'Name one dataset.\nFor example: bach');
});

test('an error of the operating system is printed without a stack', async () => {
  const error: unknown = await readFile('/no/such/folder/file').catch((reason: unknown) => reason);
  assert.equal(failureInWords(error), "ENOENT: no such file or directory, open '/no/such/folder/file'");
});

test('a wrong database password is reported, however deeply the error is nested', () => {
  const refused = coded('password authentication failed for user "lab"', '28P01');
  assert.equal(
    failureInWords(coded('The migrations could not be read.', 'P1000', refused)),
    'PostgreSQL refuses the password in PARAFFIN_DATABASE_URL.\npassword authentication failed for user "lab"',
  );
});

test('an unexpected error is printed with its stack', () => {
  assert.match(failureInWords(new TypeError('x is not a function')), /TypeError: x is not a function\n\s+at /);
});
