/** What the kernel refuses to a process that parses untrusted files, beside what Node refuses it. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import path from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { SANDBOX_ENV, sandboxed, sandboxKind } from '../../src/platform/sandbox.ts';
import { temporaryFolder } from '../support/shards.ts';

const run = promisify(execFile);
const PROGRAM = path.resolve(import.meta.dirname, '../support/reach-from-sandbox.ts');

test('the process reaches no network, no other process and no file of the data directory', async (context) => {
  const folder = await temporaryFolder(context);
  const file = path.join(folder, 'admin-key');
  await writeFile(file, 'secret');
  const server = createServer((socket) => socket.destroy()).listen(0, '127.0.0.1');
  await once(server, 'listening');
  context.after(() => server.close());
  const address = server.address();
  assert.ok(address !== null && typeof address === 'object');
  const args = ['--disable-warning=ExperimentalWarning', PROGRAM, String(address.port), String(process.pid), file];
  const reach = async (program: string, its: readonly string[]): Promise<unknown> =>
    JSON.parse((await run(program, its, { env: SANDBOX_ENV })).stdout);

  // What it could do outside, or this test would prove nothing.
  assert.deepEqual(await reach(process.execPath, args), { network: 'done', signal: 'done', read: 'done' });
  const kind = await sandboxKind();
  context.diagnostic(`The sandbox of this machine: ${kind}.`);
  if (kind === 'NONE') return;
  const within = kind === 'ROOT' ? [...args, 'as-nobody'] : args;
  const refused = await reach(...sandboxed(kind, folder, process.execPath, within));
  // An empty folder lies over the data directory, which an unprivileged user may not even search.
  const read = kind === 'ROOT' ? 'EACCES' : 'ENOENT';
  assert.deepEqual(refused, { network: 'ENETUNREACH', signal: 'ESRCH', read });
});
