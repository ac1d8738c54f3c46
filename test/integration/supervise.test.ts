/** `npm start` when its server is killed, and when it is killed itself. */
import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { test, type TestContext } from 'node:test';
import { childEnvironment } from '../../src/env.ts';
import { artifactVariables } from '../support/artifact-place.ts';
import { eventually } from '../support/eventually.ts';
import { childrenOf, isAlive } from '../support/processes.ts';
import { temporaryFolder } from '../support/shards.ts';

const ROOT = path.resolve(import.meta.dirname, '../..');

interface Supervised {
  readonly child: ChildProcess;
  readonly pid: number;
  readonly dataDir: string;
  /** The address that the next start prints. */
  nextUrl(): Promise<string>;
  serverPid(): Promise<number>;
  postgresPid(): Promise<number>;
}

async function start(context: TestContext): Promise<Supervised> {
  const dataDir = await temporaryFolder(context);
  const child = spawn(process.execPath, ['scripts/run.mjs', 'src/cli/main.ts', 'serve'], {
    cwd: ROOT,
    env: childEnvironment({
      PARAFFIN_DATABASE_URL: '',
      PARAFFIN_DATA_DIR: dataDir,
      ...artifactVariables(dataDir),
      PARAFFIN_PORT: '0',
      PARAFFIN_WORKER: 'false',
      PARAFFIN_LOG_LEVEL: 'fatal',
    }),
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  context.after(() => child.kill('SIGTERM'));
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const { pid } = child;
  assert.ok(pid !== undefined);
  return {
    child,
    pid,
    dataDir,
    nextUrl: async () => {
      for (let line = await lines.next(); line.done !== true; line = await lines.next()) {
        const url = /(http:\/\/\S+)\/graphql/.exec(line.value)?.[1];
        if (url !== undefined) return url;
      }
      throw new Error('No server started.');
    },
    serverPid: async () => {
      const [server] = await childrenOf(pid);
      assert.ok(server !== undefined);
      return server;
    },
    postgresPid: async () =>
      Number((await readFile(path.join(dataDir, 'postgres/cluster/postmaster.pid'), 'utf8')).split('\n', 1).join('')),
  };
}

const gone = (pid: number): Promise<true> =>
  eventually(`the end of process ${pid}`, async () => ((await isAlive(pid)) ? undefined : true));

test('a killed server is restarted, and Ctrl-C then ends it and its database', async (context) => {
  const supervised = await start(context);
  const url = await supervised.nextUrl();
  assert.equal((await fetch(`${url}/readyz`)).status, 200);
  const firstPostgres = await supervised.postgresPid();
  process.kill(await supervised.serverPid(), 'SIGKILL');
  const again = await supervised.nextUrl();
  assert.equal((await fetch(`${again}/readyz`)).status, 200);
  await gone(firstPostgres);
  const ended = once(supervised.child, 'exit');
  const secondPostgres = await supervised.postgresPid();
  supervised.child.kill('SIGTERM');
  assert.deepEqual(await ended, [0, null]);
  await gone(secondPostgres);
});

test('a server whose supervisor is killed ends, and its database with it', async (context) => {
  const supervised = await start(context);
  await supervised.nextUrl();
  const server = await supervised.serverPid();
  const postgres = await supervised.postgresPid();
  supervised.child.kill('SIGKILL');
  await gone(server);
  await gone(postgres);
});

test('a first start that fails is reported once, by its exit code', async () => {
  const child = spawn(process.execPath, ['scripts/run.mjs', 'src/cli/main.ts', 'serve'], {
    cwd: ROOT,
    env: childEnvironment({ PARAFFIN_PORT: 'none' }),
    stdio: 'ignore',
  });
  assert.deepEqual(await once(child, 'exit'), [1, null]);
});

test('a program that a signal ends has another exit code than after Ctrl-C', async () => {
  const child = spawn(
    process.execPath,
    [
      '--input-type=module',
      '-e',
      `import { supervise } from '${ROOT}/scripts/supervise.mjs';
       await supervise(process.execPath, ['-e', 'process.kill(process.pid, "SIGSEGV")'], { restart: false });`,
    ],
    { stdio: 'ignore' },
  );
  assert.deepEqual(await once(child, 'exit'), [139, null]);
});
