/** What the kernel refuses to a process that parses untrusted files, in addition to Node's restrictions. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { readFile, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import path from 'node:path';
import { text } from 'node:stream/consumers';
import { test, type TestContext } from 'node:test';
import { promisify } from 'node:util';
import {
  endingOf,
  SANDBOX_ENV,
  SANDBOX_KINDS,
  sandboxed,
  sandboxKind,
  startSandboxed,
  supportsSandbox,
  type SandboxKind,
} from '../../src/platform/sandbox.ts';
import { eventually } from '../support/eventually.ts';
import { familyOf, isAlive } from '../support/processes.ts';
import { temporaryFolder } from '../support/shards.ts';

const run = promisify(execFile);
const PROGRAM = path.resolve(import.meta.dirname, '../support/reach-from-sandbox.ts');

async function supportedKinds(context: TestContext): Promise<SandboxKind[]> {
  const kinds: SandboxKind[] = [];
  for (const kind of SANDBOX_KINDS) if (await supportsSandbox(kind)) kinds.push(kind);
  context.diagnostic(`This machine supports ${kinds.join(', ')}, and uses ${await sandboxKind()}.`);
  assert.equal(kinds[0], await sandboxKind());
  return kinds;
}

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
  const reached = { network: 'done', signal: 'done', read: 'done', environment: 'done' };
  assert.deepEqual(await reach(process.execPath, args), reached);
  const refused = { network: 'ENETUNREACH', signal: 'ESRCH', environment: 'ENOENT' };
  const expected = {
    // An empty folder is mounted over the data directory, which an unprivileged user may not even search.
    ROOT: { ...refused, read: 'EACCES' },
    USER: { ...refused, read: 'ENOENT' },
    // What is left is Node's permission model, without which this test starts the program.
    NONE: reached,
  };
  for (const kind of await supportedKinds(context)) {
    const within = kind === 'ROOT' ? [...args, 'drop-privileges'] : args;
    const [command = '', ...rest] = sandboxed(kind, { hiddenFolder: folder }, [process.execPath, ...within]);
    assert.deepEqual(await reach(command, rest), expected[kind], kind);
  }
});

test('a folder is shown to read, also of a file system that is mounted with flags of its own', async (context) => {
  if (!(await supportedKinds(context)).includes('USER')) return;
  const [mounted, hiddenFolder] = [await temporaryFolder(context), await temporaryFolder(context)];
  const look = 'cat /proc/shown/slide && ! touch /proc/shown/other && ! touch /proc/shown/slide';
  const mount =
    'mount -t tmpfs -o nosuid,nodev,noexec tmpfs "$1" && echo seen > "$1/slide" && exec 5< "$1" && shift && "$@"; exit "$?"';
  const { stdout } = await run(
    'unshare',
    [
      ...['--user', '--map-root-user', '--mount', 'sh', '-c', mount, 'sh', mounted],
      ...sandboxed('USER', { hiddenFolder, shownDescriptor: 5 }, ['sh', '-c', look]),
    ],
    { env: SANDBOX_ENV },
  );
  assert.equal(stdout, 'seen\n');
});

test('a process in the sandbox can be ended, whatever user it has become', async (context) => {
  for (const kind of await supportedKinds(context)) {
    for (const reportsExit of [false, true]) {
      const child = await startSandboxed({
        ...{ program: path.resolve(import.meta.dirname, '../support/stays-busy.ts'), reads: ['test/support/*'] },
        ...{ kind, reportsExit, hiddenFolder: await temporaryFolder(context), maxHeapMb: 64 },
        stdio: ['ignore', 'pipe', 'inherit', 'pipe'],
      });
      assert.ok(child.pid !== undefined && child.stdout !== null);
      const [output]: unknown[] = await once(child.stdout, 'data');
      assert.match(String(output), /busy/);
      const family = await familyOf(child.pid);
      child.kill('SIGKILL');
      await once(child, 'close');
      await eventually(`the end of all that was started as ${kind}`, async () =>
        (await Promise.all(family.map(isAlive))).includes(true) ? undefined : true,
      );
    }
  }
});

test('its exit is reported even though the process that started it gets no signal', async (context) => {
  for (const kind of await supportedKinds(context)) {
    const child = await startSandboxed({
      ...{ program: path.resolve(import.meta.dirname, '../support/stays-busy.ts'), reads: ['test/support/*'] },
      ...{ kind, reportsExit: true, hiddenFolder: await temporaryFolder(context), maxHeapMb: 64 },
      stdio: ['ignore', 'pipe', 'inherit', 'pipe'],
    });
    const end = child.stdio[3];
    assert.ok(child.pid !== undefined && child.stdout !== null && end !== undefined && end !== null);
    await once(child.stdout, 'data');
    const program = await programOf(child.pid);
    process.kill(program, 'SIGKILL');
    const [code]: unknown[] = await once(end, 'data');
    assert.equal(endingOf(Number(String(code)), null), 'SIGKILL', kind);
    assert.deepEqual([child.exitCode, child.signalCode, await isAlive(child.pid)], [null, null, true]);
    child.kill('SIGKILL');
    await once(child, 'close');
  }
});

/** The process below `pid` that runs Node. */
async function programOf(pid: number): Promise<number> {
  for (const each of await familyOf(pid)) {
    const [program = ''] = (await readFile(`/proc/${each}/cmdline`, 'utf8').catch(() => '')).split('\0');
    if (program === process.execPath) return each;
  }
  throw new Error('No program runs.');
}

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
