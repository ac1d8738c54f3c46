/** One server for one data directory, however the other one ended. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, symlink } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { lockDataDir } from '../../src/platform/data-dir-lock.ts';
import { eventually } from '../support/eventually.ts';
import { temporaryFolder } from '../support/shards.ts';

test('a second holder is refused until the first lets go', async (context) => {
  const folder = await temporaryFolder(context);
  const lock = await lockDataDir(folder);
  await assert.rejects(lockDataDir(folder), { code: 'CONFLICT', message: `Another Paraffin serves ${folder}.` });
  await lock.release();
  await (await lockDataDir(folder)).release();
});

test('another name for the same folder is the same folder, another folder is free', async (context) => {
  const folder = await temporaryFolder(context);
  await mkdir(path.join(folder, 'data'));
  await symlink(path.join(folder, 'data'), path.join(folder, 'link'));
  const lock = await lockDataDir(path.join(folder, 'data'));
  const other = await lockDataDir(folder);
  await assert.rejects(lockDataDir(path.join(folder, 'link')), { code: 'CONFLICT' });
  await Promise.all([lock.release(), other.release()]);
});

test('a killed holder leaves nothing that must be cleaned up', async (context) => {
  const folder = await temporaryFolder(context);
  const program = `
    const { lockDataDir } = await import(${JSON.stringify(path.resolve(import.meta.dirname, '../../src/platform/data-dir-lock.ts'))});
    await lockDataDir(${JSON.stringify(folder)});
    console.log('held');
    setInterval(() => undefined, 1000);`;
  const holder = spawn(process.execPath, ['--input-type=module', '-e', program], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  await once(holder.stdout, 'data');
  await assert.rejects(lockDataDir(folder), { code: 'CONFLICT' });
  holder.kill('SIGKILL');
  const lock = await eventually('the lock to be free', () => lockDataDir(folder).catch(() => undefined));
  await lock.release();
});
