/** Only one server uses a data directory, and one that crashed does not block the next. */
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdir, rm, stat, symlink } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { lockDataDir, makeDataDir } from '../../src/platform/data-dir-lock.ts';
import { tryLockFile } from '../../src/platform/file-lock.ts';
import { eventually } from '../support/eventually.ts';
import { temporaryFolder } from '../support/shards.ts';

/** A command that holds the lock of a folder and reports it. */
function holderOf(folder: string, note = 'held'): string[] {
  const program = `
    const { lockDataDir } = await import(${JSON.stringify(path.resolve(import.meta.dirname, '../../src/platform/data-dir-lock.ts'))});
    await (await lockDataDir(${JSON.stringify(folder)})).note(${JSON.stringify(note)});
    console.log('held');
    setInterval(() => undefined, 1000);`;
  return [process.execPath, '--input-type=module', '-e', program];
}

test('a second holder is refused until the first releases the lock', async (context) => {
  const folder = await temporaryFolder(context);
  const lock = await lockDataDir(folder);
  await assert.rejects(lockDataDir(folder), { code: 'CONFLICT', message: `Another Paraffin server uses ${folder}.` });
  await lock.release();
  await (await lockDataDir(folder)).release();
});

test('a mounted volume that belongs to another user is used as it is', async () => {
  // Such as a volume of Kubernetes, which belongs to root and is open to a group. This one is on every machine.
  const volume = '/tmp';
  const { mode, uid } = await stat(volume);
  assert.equal(uid, 0);
  const isRoot = process.geteuid?.() === 0;
  const nobody = 65_534;
  if (isRoot) process.seteuid?.(nobody);
  try {
    await makeDataDir(volume);
  } finally {
    if (isRoot) process.seteuid?.(0);
  }
  assert.equal((await stat(volume)).mode, mode);
});

test('the data directory is readable only by its owner, even if it was open to others before', async (context) => {
  const folder = path.join(await temporaryFolder(context), 'data');
  const modeOf = async (name: string): Promise<number> => (await stat(path.join(folder, name))).mode & 0o777;
  await makeDataDir(folder, ['imports']);
  assert.deepEqual([await modeOf('.'), await modeOf('imports')], [0o700, 0o700]);
  await chmod(folder, 0o755);
  await makeDataDir(folder);
  assert.equal(await modeOf('.'), 0o700);
});

test('the next holder finds the note of the last one, unless that released the lock cleanly', async (context) => {
  const folder = await temporaryFolder(context);
  const first = await lockDataDir(folder);
  assert.equal(first.leftBehind, undefined);
  await first.note('began at noon');
  await first.release();
  const second = await lockDataDir(folder);
  assert.equal(second.leftBehind, undefined);
  await second.release();

  const [command = '', ...args] = holderOf(folder, 'began at one');
  const killed = spawn(command, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  await once(killed.stdout, 'data');
  killed.kill('SIGKILL');
  await once(killed, 'exit');
  // A read-only command does not remove the note for the next server.
  for (let attempt = 0; attempt < 2; attempt += 1) {
    const lock = await lockDataDir(folder);
    assert.equal(lock.leftBehind, 'began at one');
    await lock.release();
  }
});

test('another path to the same folder is locked too, and another folder is free', async (context) => {
  const folder = await temporaryFolder(context);
  await mkdir(path.join(folder, 'data'));
  await symlink(path.join(folder, 'data'), path.join(folder, 'link'));
  const lock = await lockDataDir(path.join(folder, 'data'));
  const other = await lockDataDir(folder);
  await assert.rejects(lockDataDir(path.join(folder, 'link')), { code: 'CONFLICT' });
  await Promise.all([lock.release(), other.release()]);
});

test('a holder in another network namespace, such as another container on the same volume, holds the lock too', async (context) => {
  const folder = await temporaryFolder(context);
  // As root directly, otherwise in a new user namespace; if the machine allows neither, without one.
  const ways = [['--net'], ['--net', '--user', '--map-root-user']];
  const way = ways.find((options) => spawnSync('unshare', [...options, 'true']).status === 0);
  if (way === undefined) context.diagnostic('This machine gives no network namespace.');
  const [command = '', ...args] = [...(way === undefined ? [] : ['unshare', ...way]), ...holderOf(folder)];
  const holder = spawn(command, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  await once(holder.stdout, 'data');
  await assert.rejects(lockDataDir(folder), { code: 'CONFLICT' });
  holder.kill('SIGKILL');
  const lock = await eventually('the lock to be free', () => lockDataDir(folder).catch(() => undefined));
  await lock.release();
});

test('a lock file that is removed while it is held does not let another holder in', async (context) => {
  const folder = await temporaryFolder(context);
  const lock = await lockDataDir(folder);
  const handle = await tryLockFile(path.join(folder, 'other'));
  assert.ok(handle !== undefined);
  await rm(path.join(folder, 'other'));
  const next = await tryLockFile(path.join(folder, 'other'));
  assert.ok(next !== undefined, 'a new file of that name is another lock');
  assert.notEqual((await next.stat()).ino, (await handle.stat()).ino);
  await Promise.all([handle.close(), next.close(), lock.release()]);
});

test('a killed holder leaves nothing to clean up', async (context) => {
  const folder = await temporaryFolder(context);
  const [command = '', ...args] = holderOf(folder);
  const holder = spawn(command, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  await once(holder.stdout, 'data');
  await assert.rejects(lockDataDir(folder), { code: 'CONFLICT' });
  holder.kill('SIGKILL');
  const lock = await eventually('the lock to be free', () => lockDataDir(folder).catch(() => undefined));
  await lock.release();
});
