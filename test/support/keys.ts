/** Access keys for tests over HTTP. */
import assert from 'node:assert/strict';
import { at } from './catalogue.ts';
import type { TestServer } from './server.ts';

/** @param facts of CreateKeyInput, such as role and actions. @returns the secret. */
export async function newKey(
  server: Pick<TestServer, 'ask'>,
  facts: Readonly<Record<string, unknown>>,
): Promise<string> {
  const answer = await server.ask(
    'mutation($input: CreateKeyInput!) { createKey(input: $input) { secret userErrors { message } } }',
    { input: { name: 'test', owner: 'Test', ...facts } },
  );
  assert.deepEqual(at(answer, 'data.createKey.userErrors'), [], JSON.stringify(answer));
  return String(at(answer, 'data.createKey.secret'));
}
