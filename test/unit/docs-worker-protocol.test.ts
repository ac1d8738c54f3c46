/** docs/worker-protocol.md names every call that a worker can make. */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { PART_CALLS } from '../../src/protocol/part-calls.ts';
import { RUN_CALLS } from '../../src/protocol/run-calls.ts';

test('every call of a run and of a part is in the page of the worker protocol', async () => {
  const page = await readFile(path.resolve(import.meta.dirname, '../../docs/worker-protocol.md'), 'utf8');
  const missing = [...Object.keys(RUN_CALLS), ...Object.keys(PART_CALLS)].filter(
    (name) => !page.includes(`\`${name}\``) && !page.includes(`/${name}\``),
  );
  assert.deepEqual(missing, []);
});
