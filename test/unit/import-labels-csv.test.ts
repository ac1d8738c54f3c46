/** Each way in which a labels CSV can be wrong has its line, its column and a sentence. */
import assert from 'node:assert/strict';
import { mkdir, mkdtemp, open, realpath, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { DomainError } from '../../src/errors.ts';
import { openFolder } from '../../src/platform/open-folder.ts';
import { CSV_BYTES_MAX, readLabelsCsv } from '../../workers/imaging/labels-csv.ts';
import type { SourceImage } from '../../workers/imaging/listing.ts';

let folder = '';

before(async () => {
  folder = await realpath(await mkdtemp(path.join(tmpdir(), 'paraffin-csv-')));
  await mkdir(path.join(folder, 'sub'));
  for (const name of ['a.png', 'b.png', 'sub/c.png', 'Größe, µm.png', ' lead.png'])
    await writeFile(path.join(folder, name), 'x');
  await symlink(path.join(folder, 'a.png'), path.join(folder, 'link.png'));
  await symlink(tmpdir(), path.join(folder, 'away'));
});
after(() => rm(folder, { recursive: true, force: true }));

async function read(content: string | Buffer): Promise<SourceImage[]> {
  const csvPath = path.join(folder, 'labels.csv');
  await writeFile(csvPath, content);
  return readFrom(csvPath);
}

async function readFrom(csvPath: string): Promise<SourceImage[]> {
  await using csv = await open(csvPath);
  await using images = await openFolder(folder);
  return await readLabelsCsv(csv, images);
}

async function refuses(content: string | Buffer, message: RegExp): Promise<void> {
  await assert.rejects(read(content), (error: unknown) => {
    assert.ok(error instanceof DomainError, String(error));
    assert.equal(error.code, 'LABELS_CSV_INVALID');
    assert.equal(error.field, 'input.labelsCsvPath');
    assert.match(error.message, message);
    assert.ok((error.hint ?? '').length > 0);
    return true;
  });
}

describe('a sound CSV', () => {
  test('only path is required', async () => {
    assert.deepEqual(await read('path\nb.png\na.png\n'), [
      { relativePath: 'a.png', label: null, group: null, split: null },
      { relativePath: 'b.png', label: null, group: null, split: null },
    ]);
  });

  test('columns in any order, with a byte order mark, quotes, CRLF, blank lines and letters of any script', async () => {
    const rows = await read(
      '\uFEFFsplit,label,path,group\r\ntrain, tumour ,"Größe, µm.png",p1\r\n\r\ntest,"",./sub/../sub/c.png,\r\n',
    );
    assert.deepEqual(rows, [
      { relativePath: 'Größe, µm.png', label: 'tumour', group: 'p1', split: 'train' },
      { relativePath: 'sub/c.png', label: null, group: null, split: 'test' },
    ]);
  });

  test('spaces of a file name are its own', async () => {
    assert.equal((await read('path\n lead.png\n'))[0]?.relativePath, ' lead.png');
  });
});

describe('a CSV at fault', () => {
  test('empty', () => refuses('', /names no image/));
  test('a header alone', () => refuses('path,label\n', /names no image/));
  test('no path column', () => refuses('label,group\nx,y\n', /Line 1: the column path is missing/));
  test('an unknown column', () => refuses('path,colour\na.png,red\n', /Line 1: the column "colour" is not known/));
  test('a column twice', () => refuses('path,label,label\na.png,x,y\n', /Line 1: the column label stands twice/));
  test('semicolons', () => refuses('path;label\na.png;x\n', /Line 1: column 1 of the header is not known/));
  test('a line with too many fields', () =>
    refuses('path,label\na.png,x\nb.png,x,y\n', /Line 3: it has 3 fields, and the header has 2/));
  test('a line with too few fields', () => refuses('path,label\na.png\n', /Line 2: it has 1 fields/));
  test('an empty path', () => refuses('path,label\n,x\n', /Line 2, column path: it is empty/));
  test('a path twice, written in two ways', () =>
    refuses('path\na.png\nb.png\n./a.png\n', /Line 4, column path: the same file stands in line 2 already/));
  test('a path that climbs out', () => refuses('path\nsub/../../x.png\n', /Line 2, column path: it climbs out/));
  test('an absolute path', () => refuses('path\n/etc/passwd\n', /Line 2, column path: it is absolute/));
  test('a path of another system', () => refuses('path\nC:\\images\\a.png\n', /Line 2, column path: it is absolute/));
  test('a zero byte', () => refuses('path\na\0.png\n', /Line 2, column path: it holds a zero byte/));
  test('a missing file', () => refuses('path\na.png\nnowhere.png\n', /Line 3, column path: the file does not exist/));
  test('a symbolic link', () => refuses('path\nlink.png\n', /Line 2, column path: .* symbolic link/));
  test('a way through a symbolic link, whether something is there or not', async () => {
    for (const below of [`${path.basename(folder)}/a.png`, 'nothing.png'])
      await refuses(`path\naway/${below}\n`, /Line 2, column path: .* symbolic link/);
  });
  test('a folder', () => refuses('path\nsub\n', /Line 2, column path: it is not a file/));
  test('a file as if it were a folder', () => refuses('path\na.png/\n', /Line 2, column path: it is not a file/));
  test('a split in some lines only', () =>
    refuses('path,split\na.png,train\nb.png,\n', /Line 3, column split: it is empty/));
  test('an unclosed quote', () => refuses('path,label\n"a.png,x\n', /Line \d+: .*[Qq]uote/));
  test('text that is not UTF-8', () =>
    refuses(
      Buffer.concat([Buffer.from('path\na.png\n'), Buffer.from([0xe4, 0x2e, 0x70])]),
      /Line 3: the text is not UTF-8/,
    ));
  test('a label longer than any label', () =>
    refuses(`path,label\na.png,${'x'.repeat(5000)}\n`, /Line 2, column label: it is longer/));
  test('a line that never ends', () => refuses(`path,label\na.png,"${'x'.repeat(100_000)}"\n`, /Line \d+: /));
  test('a file that is too large, told before it is read', async () => {
    const csvPath = path.join(folder, 'large.csv');
    await writeFile(csvPath, 'path\n');
    const { truncate } = await import('node:fs/promises');
    await truncate(csvPath, CSV_BYTES_MAX + 1);
    await assert.rejects(readFrom(csvPath), { code: 'LABELS_CSV_INVALID', message: /at most/ });
  });

  test('no message repeats more of the file than the name of a column', async () => {
    const secret = 'pfn_Jx9tQ2mWv7Lr4Yb8Kc1Zd6Hs3Gf5Np0AeUoTi';
    const contents = [
      secret,
      `"${secret}`,
      `path\n"${secret}"x\n`,
      `path\n${secret}\n`,
      `path\n/${secret}\n`,
      `path\n../${secret}\n`,
      `path\na.png\na.png/${secret}\n`,
      `path,label\n${secret}\n`,
      `path,split\na.png,${secret}\nb.png,\n`,
      `path\n${secret}\n${secret}\n`,
      `path\n${secret}\n"${'x'.repeat(100_000)}"\n`,
    ];
    for (const content of contents) {
      await assert.rejects(read(content), (error: unknown) => {
        assert.ok(error instanceof DomainError, String(error));
        assert.ok(!JSON.stringify([error.message, error.hint, error.cause]).includes(secret), error.message);
        return true;
      });
    }
  });
});
