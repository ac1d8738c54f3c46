/** Files of an import folder, which may have changed since they were listed. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdir, realpath, rename, rm, symlink, truncate, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { test, type TestContext } from 'node:test';
import { openFolder } from '../../src/platform/open-folder.ts';
import type { Finding } from '../../workers/imaging/formats/image-header.ts';
import { openSourceFile, SourceFileError } from '../../workers/imaging/source-file.ts';
import { plainPng, temporaryFolder } from '../support/shards.ts';

const noLimit = async (): Promise<void> => undefined;

async function importFolder(context: TestContext): Promise<string> {
  const folder = await realpath(await temporaryFolder(context));
  await mkdir(path.join(folder, 'a'));
  await mkdir(path.join(folder, 'elsewhere'));
  for (const name of ['a/x.png', 'elsewhere/x.png']) await writeFile(path.join(folder, name), await plainPng(1));
  return folder;
}

async function read(folder: string, reserve = noLimit): Promise<Buffer | Finding> {
  await using opened = await openFolder(folder);
  const found = await openSourceFile(opened, 'a/x.png', reserve);
  if ('issue' in found) return found;
  await using file = found;
  const chunks: Buffer[] = [];
  for await (const chunk of file.chunks()) chunks.push(chunk);
  const bytes = Buffer.concat(chunks);
  assert.equal(bytes.length, file.byteSize);
  return bytes;
}

test('a listed file is read', async (context) => {
  assert.deepEqual(await read(await importFolder(context)), await plainPng(1));
});

test('a folder that became a link after the listing is not followed', async (context) => {
  const folder = await importFolder(context);
  await rename(path.join(folder, 'a'), path.join(folder, 'a-before'));
  await symlink(path.join(folder, 'elsewhere'), path.join(folder, 'a'));
  assert.deepEqual(await read(folder), { issue: 'NOT_A_REGULAR_FILE' });
});

test('a file that became a link, a pipe or a folder, or disappeared after the listing is reported without waiting', async (context) => {
  const folder = await importFolder(context);
  const file = path.join(folder, 'a/x.png');
  const replacedBy = async (replace: () => unknown): Promise<Buffer | Finding> => {
    await rm(file, { recursive: true, force: true });
    await replace();
    return read(folder);
  };
  assert.deepEqual(await replacedBy(() => symlink(path.join(folder, 'elsewhere/x.png'), file)), {
    issue: 'NOT_A_REGULAR_FILE',
  });
  assert.deepEqual(await replacedBy(() => execFileSync('mkfifo', [file])), { issue: 'NOT_A_REGULAR_FILE' });
  assert.deepEqual(await replacedBy(() => mkdir(file)), { issue: 'NOT_A_REGULAR_FILE' });
  assert.deepEqual(await replacedBy(() => undefined), { issue: 'UNREADABLE' });
});

test('a file that shrinks while it is read returns the remaining bytes, which its decoder refuses', async (context) => {
  const folder = await importFolder(context);
  const whole = await plainPng(1);
  const half = whole.subarray(0, whole.length / 2);
  const shrink = async (): Promise<void> => writeFile(path.join(folder, 'a/x.png'), half);
  assert.deepEqual(await read(folder, shrink), half);
});

test('a large file is read in pieces, and one that shrinks meanwhile is not accepted as complete', async (context) => {
  const folder = await importFolder(context);
  const large = Buffer.concat([await plainPng(1), Buffer.alloc(3 * 1024 * 1024, 7)]);
  await writeFile(path.join(folder, 'a/x.png'), large);
  assert.deepEqual(await read(folder), large);
  const shrink = async (): Promise<void> => truncate(path.join(folder, 'a/x.png'), 2 * 1024 * 1024);
  await assert.rejects(read(folder, shrink), SourceFileError);
});
