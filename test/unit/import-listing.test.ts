/** The files of a folder in their order, and compact lists of paths. */
import assert from 'node:assert/strict';
import { mkdir, symlink, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, test, type TestContext } from 'node:test';
import { openFolder } from '../../src/platform/open-folder.ts';
import { recordIssues } from '../../workers/imaging/issues.ts';
import { listFiles } from '../../workers/imaging/listing.ts';
import { createPathList, pickPaths, placesByFolder, placesWhere } from '../../workers/imaging/path-list.ts';
import { temporaryFolder } from '../support/shards.ts';

async function folderOf(context: TestContext, files: readonly string[]): Promise<string> {
  const folder = await temporaryFolder(context);
  for (const file of files) {
    await mkdir(path.join(folder, path.dirname(file)), { recursive: true });
    await writeFile(path.join(folder, file), 'x');
  }
  return folder;
}

/** By the bytes of UTF-8, as `LC_ALL=C sort` does. */
const inOrder = (files: readonly string[]): string[] =>
  [...files].sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));

describe('the files of a folder', () => {
  /** Folders that are a prefix of a file, or differ from one by a character before or after the slash. */
  const FILES = [
    ...['a/1.png', 'a/b/1.png', 'a/b.png', 'a/b-c/1.png', 'a/b0/1.png', 'a.png', 'a-b.png', 'a0.png', 'ab/1.png'],
    ...['été/1.png', 'été.png', 'ete/1.png', '組織/1.png', '\u{1F600}.png', '\uFF01.png', '\uFF01/1.png', 'A/1.png'],
    ...['a b/1.png', 'a!/1.png', 'z/y/x/w/1.png', 'z/y/x.png', 'z/y!/1.png'],
  ];

  test('come in the order of the bytes of their paths, whatever the folders between them', async (context) => {
    await using folder = await openFolder(await folderOf(context, [...FILES].reverse()));
    const { files } = await listFiles(folder, recordIssues());
    assert.deepEqual([...files], inOrder(FILES));
    assert.equal(files.length, FILES.length);
    assert.deepEqual([files.at(0), files.at(files.length)], [inOrder(FILES)[0], undefined]);
  });

  test('without those passed over, which are counted with the first five by path', async (context) => {
    const hidden = ['.b', '.a/1.png', 'z/.c', 'a/.d', 'a/.e', 'a/.f'];
    const root = await folderOf(context, ['a/1.png', 'b/readme.txt', '__MACOSX/1.png', ...hidden]);
    await mkdir(path.join(root, 'empty', 'deeper'), { recursive: true });
    await symlink('/etc/passwd', path.join(root, 'a', 'link.png'));
    await symlink('/etc', path.join(root, 'Away'));
    await using folder = await openFolder(root);
    const issues = recordIssues();
    const { files, emptyFolders, passedOver } = await listFiles(folder, issues);
    assert.deepEqual([...files], ['a/1.png']);
    assert.deepEqual(emptyFolders, ['b', 'empty', 'empty/deeper', 'z']);
    assert.deepEqual(passedOver, [
      { reason: 'SYSTEM_FOLDER', count: 1, examples: ['__MACOSX/'] },
      { reason: 'HIDDEN', count: 6, examples: ['.a/', '.b', 'a/.d', 'a/.e', 'a/.f'] },
      { reason: 'SIDE_FILE', count: 1, examples: ['b/readme.txt'] },
    ]);
    const found: string[] = [];
    issues.replay({ add: (kind, subject) => void found.push(`${kind} ${subject}`) });
    assert.deepEqual(found, ['NOT_A_REGULAR_FILE Away', 'NOT_A_REGULAR_FILE a/link.png']);
  });
});

describe('a compact list of paths', () => {
  /** Their names take several chunks. */
  const COUNT = 60_000;
  const pathAt = (place: number): string => `dossier ${place % 7}/été_${place}_組織\u{1F600}.png`;
  const list = () => {
    const builder = createPathList();
    for (let place = 0; place < COUNT; place += 1) {
      const [folder = '', name = ''] = pathAt(place).split('/');
      builder.add(folder, name);
    }
    return builder.finish();
  };

  test('gives every path as it was added, also at random places', () => {
    const paths = list();
    assert.deepEqual(
      [...paths],
      Array.from({ length: COUNT }, (_, place) => pathAt(place)),
    );
    for (const place of [COUNT - 1, 0, 40_097, 1_023]) assert.equal(paths.at(place), pathAt(place));
    assert.deepEqual([paths.at(-1), paths.at(COUNT)], [undefined, undefined]);
  });

  test('can be picked from, and divided by folder', () => {
    const odd = placesWhere(COUNT, (place) => place % 2 === 1);
    const picked = pickPaths(list(), odd);
    assert.deepEqual([picked.length, picked.at(1), picked.at(COUNT / 2)], [COUNT / 2, pathAt(3), undefined]);
    const folders = placesByFolder(picked);
    assert.deepEqual([...folders.keys()].slice(0, 2), ['dossier 1', 'dossier 3'], 'in the order of their first file');
    for (const [folder, places] of folders)
      for (const place of places) assert.ok(picked.at(place)?.startsWith(`${folder}/`));
    assert.equal([...folders.values()].flat().length, picked.length);
  });
});
