/** What the kernel refuses to a process that parses untrusted files, in addition to Node's restrictions. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import path from 'node:path';
import { text } from 'node:stream/consumers';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { SANDBOX_ENV, sandboxed, sandboxKind, startSandboxed } from '../../src/platform/sandbox.ts';
import { eventually } from '../support/eventually.ts';
import { familyOf, isAlive } from '../support/processes.ts';
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

  // Outside the sandbox the operation must succeed, otherwise this test would prove nothing.
  assert.deepEqual(await reach(process.execPath, args), {
    ...{ network: 'done', signal: 'done', read: 'done', environment: 'done' },
  });
  const kind = await sandboxKind();
  context.diagnostic(`The sandbox of this machine: ${kind}.`);
  if (kind === 'NONE') return;
  const within = kind === 'ROOT' ? [...args, 'drop-privileges'] : args;
  const [command = '', ...rest] = sandboxed(kind, { hiddenFolder: folder }, [process.execPath, ...within]);
  const refused = await reach(command, rest);
  // An empty folder is mounted over the data directory, which an unprivileged user may not even search.
  const read = kind === 'ROOT' ? 'EACCES' : 'ENOENT';
  assert.deepEqual(refused, { network: 'ENETUNREACH', signal: 'ESRCH', read, environment: 'ENOENT' });
});

test('a process in the sandbox can be ended, whatever user it has become', async (context) => {
  const child = await startSandboxed({
    program: path.resolve(import.meta.dirname, '../support/stays-busy.ts'),
    reads: ['test/support/*'],
    hiddenFolder: await temporaryFolder(context),
    maxHeapMb: 64,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  assert.ok(child.pid !== undefined && child.stdout !== null);
  const [said]: unknown[] = await once(child.stdout, 'data');
  assert.match(String(said), /busy/);
  const family = await familyOf(child.pid);
  child.kill('SIGKILL');
  await once(child, 'close');
  await eventually('the end of all that was started', async () =>
    (await Promise.all(family.map(isAlive))).includes(true) ? undefined : true,
  );
});

test('the process cannot exceed its memory limit', async (context) => {
  const child = await startSandboxed({
    ...{ program: path.resolve(import.meta.dirname, '../support/takes-memory.ts'), reads: ['test/support/*'] },
    ...{ hiddenFolder: await temporaryFolder(context), maxHeapMb: 64, maxMemoryMb: 1024 },
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  assert.ok(child.stdout !== null);
  const megabytes = (await text(child.stdout)).length;
  // Node itself reserves a few hundred of them.
  assert.ok(megabytes > 100 && megabytes < 1024, `${megabytes} MiB`);
});
