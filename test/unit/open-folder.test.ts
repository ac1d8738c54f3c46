/** Files opened below a folder lie below it, even if path components are exchanged meanwhile. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, readdir, rename, symlink, writeFile, type FileHandle } from 'node:fs/promises';
import path from 'node:path';
import { describe, test, type TestContext } from 'node:test';
import { Worker } from 'node:worker_threads';
import { openImportFile, openImportFolder } from '../../src/platform/import-roots.ts';
import { openFolder, OpenError, type OpenFault } from '../../src/platform/open-folder.ts';
import { temporaryFolder } from '../support/shards.ts';

/** `root/sub/file` says "inside", `outside/file` says "outside". */
async function place(context: TestContext): Promise<{ readonly root: string; readonly outside: string }> {
  const base = await temporaryFolder(context);
  const [root, outside] = [path.join(base, 'root'), path.join(base, 'outside')];
  await mkdir(path.join(root, 'sub'), { recursive: true });
  await mkdir(outside);
  await writeFile(path.join(root, 'sub/file'), 'inside');
  await writeFile(path.join(outside, 'file'), 'outside');
  return { root, outside };
}

async function textOf(opening: Promise<FileHandle>): Promise<string> {
  await using file = await opening;
  return await file.readFile('utf8');
}

async function faultOf(opening: Promise<unknown>): Promise<OpenFault> {
  const error: unknown = await opening.then(
    () => assert.fail('it was opened'),
    (reason: unknown) => reason,
  );
  assert.ok(error instanceof OpenError, String(error));
  return error.fault;
}

describe('below an open folder', () => {
  test('a file, a folder and its entries', async (context) => {
    const { root } = await place(context);
    await using folder = await openFolder(root);
    await using sub = await folder.openFolder('sub');
    assert.equal(await textOf(folder.openFile('sub/file')), 'inside');
    assert.equal(await textOf(sub.openFile('./file')), 'inside');
    assert.deepEqual(
      (await folder.entriesOf('sub')).map((entry) => entry.name),
      ['file'],
    );
  });

  test('files of several folders at once, a folder that appears later, and no descriptor left open', async (context) => {
    const { root } = await place(context);
    const before = (await readdir('/proc/self/fd')).length;
    {
      await using folder = await openFolder(root);
      assert.equal(await faultOf(folder.openFile('later/deep/file')), 'NOT_FOUND');
      await mkdir(path.join(root, 'later/deep'), { recursive: true });
      await writeFile(path.join(root, 'later/deep/file'), 'deep');
      const names = Array.from({ length: 40 }, (_, index) => (index % 3 === 0 ? 'later/deep/file' : 'sub/file'));
      const texts = await Promise.all(names.map((name) => textOf(folder.openFile(name))));
      assert.deepEqual(
        texts,
        names.map((name) => (name === 'sub/file' ? 'inside' : 'deep')),
      );
    }
    assert.equal((await readdir('/proc/self/fd')).length, before);
  });

  test('a folder that is moved stays the opened one', async (context) => {
    const { root, outside } = await place(context);
    await using folder = await openFolder(path.join(root, 'sub'));
    await rename(path.join(root, 'sub'), path.join(root, 'before'));
    await symlink(outside, path.join(root, 'sub'));
    assert.equal(await textOf(folder.openFile('file')), 'inside');
  });

  test('every kind of file that is not regular has its own fault, and none is waited for', async (context) => {
    const { root, outside } = await place(context);
    await symlink(outside, path.join(root, 'away'));
    await symlink(path.join(root, 'sub/file'), path.join(root, 'link'));
    execFileSync('mkfifo', [path.join(root, 'pipe')]);
    await using folder = await openFolder(root);
    const files: readonly (readonly [string, OpenFault])[] = [
      ['away/file', 'NOT_A_REGULAR_FILE'],
      ['away/nothing', 'NOT_A_REGULAR_FILE'],
      ['link', 'NOT_A_REGULAR_FILE'],
      ['pipe', 'NOT_A_REGULAR_FILE'],
      ['sub', 'NOT_A_REGULAR_FILE'],
      ['', 'NOT_A_REGULAR_FILE'],
      ['../outside/file', 'NOT_A_REGULAR_FILE'],
      ['sub/../../outside/file', 'NOT_A_REGULAR_FILE'],
      ['sub/file/below', 'NOT_A_REGULAR_FILE'],
      ['nothing', 'NOT_FOUND'],
      ['nothing/below', 'NOT_FOUND'],
      ['zero\0byte', 'NOT_FOUND'],
      ['x'.repeat(5000), 'NOT_FOUND'],
    ];
    for (const [name, fault] of files) assert.equal(await faultOf(folder.openFile(name)), fault, name.slice(0, 30));
    for (const name of ['away', 'link', 'pipe', 'sub/file', '..'])
      assert.equal(await faultOf(folder.openFolder(name)), 'NOT_A_REGULAR_FILE', name);
    assert.equal(await faultOf(folder.entriesOf('away')), 'NOT_A_REGULAR_FILE');
  });
});

/** Exchanges `sub` of a folder for a link to the outside and back, without a pause, until the process is killed. */
const EXCHANGER = `
  const { renameSync } = require('node:fs');
  const { parentPort, workerData: { sub, folder, link } } = require('node:worker_threads');
  let rounds = 0;
  for (;;) {
    renameSync(sub, folder); renameSync(link, sub);
    renameSync(sub, link); renameSync(folder, sub);
    rounds += 1;
    if (rounds === 10) parentPort.postMessage('under way');
  }`;

test('a folder that is swapped with a link while it is opened never leads outside', async (context) => {
  const { root, outside } = await place(context);
  const sub = path.join(root, 'sub');
  const link = path.join(root, 'link');
  await symlink(outside, link);
  const exchanger = new Worker(EXCHANGER, {
    eval: true,
    workerData: { sub, folder: path.join(root, 'folder'), link },
  });
  await once(exchanger, 'message');

  const read: string[] = [];
  const refused: string[] = [];
  const openings = [
    async () => textOf(openImportFile(path.join(sub, 'file'), [root], 'input.path')),
    async () => {
      await using folder = await openImportFolder(sub, [root], 'input.path');
      return await textOf(folder.openFile('file'));
    },
    async () => {
      await using folder = await openFolder(root);
      return await textOf(folder.openFile('sub/file'));
    },
  ];
  // The process must end before the folder that it changes is deleted.
  await using _ended = { [Symbol.asyncDispose]: async () => void (await exchanger.terminate()) };
  for (let round = 0; round < 600 || (read.length === 0 && round < 60_000); round += 1) {
    for (const opening of openings) {
      await opening().then(
        (text) => read.push(text),
        (error: unknown) => refused.push(error instanceof Error && 'code' in error ? String(error.code) : 'fault'),
      );
    }
  }
  assert.deepEqual([...new Set(read)], ['inside']);
  assert.ok(refused.length > 0, 'no open failed because of the exchange');
});
