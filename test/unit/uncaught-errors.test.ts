/** Uncaught errors, in a separate process. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import path from 'node:path';
import { test } from 'node:test';

const LAST_RESORT = path.resolve(import.meta.dirname, '../../src/platform/uncaught-errors.ts');
const LOGGER = path.resolve(import.meta.dirname, '../../src/logger.ts');

/** Runs a program that handles uncaught errors, prints "stopped" in its orderly stop, and "served" if it continues. */
async function run(failure: string): Promise<{ code: number | null; output: string; log: string }> {
  const program = `
    import { handleUncaughtErrors } from ${JSON.stringify(LAST_RESORT)};
    import { createLogger } from ${JSON.stringify(LOGGER)};
    handleUncaughtErrors(createLogger('error', 'test'), async () => { process.stdout.write('stopped ') });
    setImmediate(() => { ${failure} });
    setImmediate(() => setImmediate(() => process.stdout.write('served ')));
  `;
  const child = spawn(process.execPath, ['--input-type=module', '-e', program]);
  const texts = await Promise.all([child.stdout, child.stderr].map((stream) => stream.toArray()));
  const code = child.exitCode ?? (await new Promise<number | null>((resolve) => child.once('exit', resolve)));
  const [output = '', log = ''] = texts.map((chunks) => Buffer.concat(chunks).toString());
  return { code, output, log };
}

test('a connection that its peer reset is logged, and the program continues', async () => {
  const { code, output, log } = await run(
    "throw Object.assign(new Error('read ECONNRESET'), { code: 'ECONNRESET', syscall: 'read' })",
  );
  assert.deepEqual([code, output], [0, 'served ']);
  assert.match(log, /ECONNRESET/);
});

for (const [what, failure] of [
  ['an exception', "throw new TypeError('Invalid URL')"],
  ['a rejection', "void Promise.reject(new TypeError('Invalid URL'))"],
  ['something that is not an error', 'throw null'],
] as const) {
  test(`${what} is logged, the parts are stopped in order, and the exit code says that it crashed`, async () => {
    const { code, output, log } = await run(failure);
    assert.equal(code, 70);
    assert.match(output, /stopped/);
    assert.match(log, /"level":60/);
  });
}
