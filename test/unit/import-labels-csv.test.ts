/** Every error in a labels CSV is reported with its line, its column and a sentence. */
import assert from 'node:assert/strict';
import { mkdir, mkdtemp, open, realpath, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { DomainError } from '../../src/errors.ts';
import { openFolder } from '../../src/platform/open-folder.ts';
import type { ColumnChoice } from '../../workers/imaging/csv-columns.ts';
import { CSV_BYTES_MAX } from '../../workers/imaging/csv-text.ts';
import { recordIssues, type IssueSink } from '../../workers/imaging/issues.ts';
import { readLabelsCsv } from '../../workers/imaging/labels-csv.ts';
import type { SourceImage } from '../../workers/imaging/listing.ts';

let folder = '';

before(async () => {
  folder = await realpath(await mkdtemp(path.join(tmpdir(), 'paraffin-csv-')));
  await mkdir(path.join(folder, 'sub'));
  const names = ['a.png', 'b.png', 'sub/c.png', 'sub/UP.PNG', 'Größe, µm.png', ' lead.png', 'back\\slash.png'];
  for (const name of [...names, 'Läsion.png'.normalize('NFD'), 'TCGA-AB-0001-01Z.png'])
    await writeFile(path.join(folder, name), 'x');
  await symlink(path.join(folder, 'a.png'), path.join(folder, 'link.png'));
  await symlink(tmpdir(), path.join(folder, 'away'));
});
after(() => rm(folder, { recursive: true, force: true }));

async function read(content: string | Buffer): Promise<readonly SourceImage[]> {
  return (await plan(content)).sources;
}

async function plan(
  content: string | Buffer,
  csvColumns: ColumnChoice = {},
  issues: IssueSink = recordIssues(),
): ReturnType<typeof readLabelsCsv> {
  const csvPath = path.join(folder, 'labels.csv');
  await writeFile(csvPath, content);
  return readFrom(csvPath, csvColumns, issues);
}

async function readFrom(
  csvPath: string,
  csvColumns: ColumnChoice = {},
  issues: IssueSink = recordIssues(),
): ReturnType<typeof readLabelsCsv> {
  await using csv = await open(csvPath);
  await using images = await openFolder(folder);
  return await readLabelsCsv(csv, { folder: images, folderPath: folder, csvColumns }, issues);
}

async function refuses(
  content: string | Buffer,
  message: RegExp,
  hint = /./,
  csvColumns: ColumnChoice = {},
): Promise<void> {
  await assert.rejects(plan(content, csvColumns), (error: unknown) => {
    assert.ok(error instanceof DomainError, String(error));
    assert.equal(error.code, 'LABELS_CSV_INVALID');
    assert.equal(error.field, 'input.labelsCsvPath');
    assert.match(error.message, message);
    assert.ok((error.hint ?? '').length > 0);
    assert.match(error.hint ?? '', hint);
    return true;
  });
}

describe('a valid CSV', () => {
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

  test('spaces and backslashes in a file name belong to the name', async () => {
    assert.equal((await read('path\n lead.png\n'))[0]?.relativePath, ' lead.png');
    assert.equal((await read('path\nback\\slash.png\n'))[0]?.relativePath, 'back\\slash.png');
  });

  const expected = [
    { relativePath: 'a.png', label: 'x', group: 'p1', split: 'train' },
    { relativePath: 'sub/c.png', label: 'y', group: 'p2', split: 'test' },
  ];
  const rows = (delimiter: string, end: string): string =>
    [
      ['path', 'label', 'group', 'split'],
      ['a.png', 'x', 'p1', 'train'],
      ['sub/c.png', 'y', 'p2', 'test'],
    ]
      .map((row) => `${row.join(delimiter)}${end}`)
      .join('');

  for (const [name, content] of Object.entries({
    'semicolons, as Excel writes them in half of the world': rows(';', '\r\n'),
    tabs: rows('\t', '\n'),
    bars: rows('|', '\n'),
    'a carriage return alone at the ends of lines': rows(',', '\r'),
    'the delimiter in a line of its own': `sep=;\n${rows(';', '\n')}`,
    'comments before the header': `# made by hand\n\n${rows(',', '\n')}`,
    'rows of nothing but delimiters': `${rows(',', '\n')},,,\n , ,,\n`,
    'more delimiters at the end of some lines': rows(',', '\n').replace('train', 'train,,'),
    'spaces around every field': rows(' , ', '\n'),
    'UTF-16 with a byte order mark': Buffer.from(`\uFEFF${rows(',', '\n')}`, 'utf16le'),
    'big-endian UTF-16': Buffer.from(`\uFEFF${rows(',', '\n')}`, 'utf16le').swap16(),
    'back-slashes': rows(',', '\n').replace('sub/', 'sub\\'),
    'an index column without a name': rows(',', '\n')
      .replace(/^/gm, '0,')
      .replace('0,path', ',path')
      .replace(/0,$/, ''),
    'unrelated columns': rows(',', '\n')
      .replace('split', 'split,age')
      .replace(/(train|test)$/gm, '$1,50'),
    'names in other words and case':
      'Image Name,Majority Vote Label,Patient ID,Partition\na.png,x,p1,Training\nsub/c.png,y,p2,TEST\n',
  })) {
    test(name, async () => assert.deepEqual(await read(content), expected));
  }

  test('absolute paths below the folder', async () => {
    assert.equal((await read(`path\n${folder}/sub/c.png\n`))[0]?.relativePath, 'sub/c.png');
  });

  test('a name in another Unicode form', async () => {
    const { sources, notes } = await plan(`path\na.png\n${'Läsion.png'.normalize('NFC')}\n`);
    assert.equal(sources[0]?.relativePath, 'Läsion.png'.normalize('NFD'));
    assert.match(notes.join(), /1 file was found with/);
  });

  test('the user assigns columns to roles, and excludes columns', async () => {
    const content = 'path,label,grade,split\na.png,x,1,0\nb.png,y,2,1\n';
    const { sources, notes } = await plan(content, { label: 'Grade', split: '' });
    assert.deepEqual(
      sources.map(({ label, split }) => [label, split]),
      [
        ['1', null],
        ['2', null],
      ],
    );
    assert.deepEqual(notes, ['Columns: path from "path", label from "grade".', 'Columns ignored: "label", "split".']);
  });

  test('missing values are neither labels nor groups', async () => {
    const missing = ['', 'NA', 'nan', 'NULL', 'N/A', 'None', ' na ', '<NA>'];
    for (const text of missing) {
      const issues = recordIssues();
      const { sources } = await plan(`path,label,group\na.png,${text},p1\nb.png,none,${text}\n`, {}, issues);
      assert.deepEqual(
        sources.map(({ label, group }) => [label, group]),
        [
          [null, 'p1'],
          ['none', null],
        ],
        text,
      );
      const told: unknown[] = [];
      issues.replay({ add: (...issue) => void told.push(issue) });
      assert.deepEqual(told, [['LABEL_MISSING', 'a.png']], text);
    }
  });

  test('an empty column of labels counts as no column', async () => {
    const issues = recordIssues();
    await plan('path,label\na.png,\nb.png, \n', {}, issues);
    issues.replay({ add: (kind) => assert.fail(kind) });
  });

  test('splits in their usual spellings are the three that evaluations know', async () => {
    const spellings = {
      Train: 'train',
      valid: 'validation',
      'TEST SET': 'test',
      dev: 'validation',
      val_set: 'validation',
    };
    for (const [written, split] of Object.entries(spellings))
      assert.equal((await read(`path,split\na.png,${written}\n`))[0]?.split, split, written);
  });

  test('a TCGA patient is the group if the CSV has no group column', async () => {
    const named = 'TCGA-AB-0001-01Z.png';
    assert.equal((await read(`path\n${named}\n`))[0]?.group, 'TCGA-AB-0001');
    assert.deepEqual(
      (await read(`path,group\n${named},NA\na.png,p1\n`)).map(({ group }) => group),
      [null, 'p1'],
    );
  });
});

describe('a CSV at fault', () => {
  test('empty', () => refuses('', /names no image/));
  test('a header alone', () => refuses('path,label\n', /names no image/));
  test('no path column', () => refuses('label,group\nx,y\n', /Line 1: the column path is missing/));
  test('no path column, but other column names', () =>
    refuses('picture no,colour\na.png,red\n', /the column path is missing/, /The columns are picture no, colour\./));
  test('no header line', () =>
    refuses('a.png,x\nb.png,y\n', /Line 1: the column path is missing/, /Add a header line/));
  test('a chosen column that does not exist', () =>
    refuses('path,label\na.png,x\n', /the header has no column "diagnosis"/, /path, label/, { label: 'diagnosis' }));
  test('a column twice', () => refuses('path,label,label\na.png,x,y\n', /Line 1: the column label appears twice/));
  test('a line with too many fields', () =>
    refuses('path,label\na.png,x\nb.png,x,y\n', /Line 3: it has 3 fields, and the header has 2/));
  test('a line with too few fields', () =>
    refuses('path,label\na.png\n', /Line 2: it has 1 field, and the header has 2/));
  test('an empty path', () => refuses('path,label\n,x\n', /Line 2, column path: it is empty/));
  test('a path twice, written in two ways', () =>
    refuses('path\na.png\nb.png\n./a.png\n', /Line 4, column path: the same file is already listed in line 2/));
  test('a path that leaves the folder', () =>
    refuses('path\nsub/../../x.png\n', /Line 2, column path: it leaves the folder/));
  test('an absolute path', () => refuses('path\n/etc/passwd\n', /Line 2, column path: it is absolute/));
  test('a path of another system', () => refuses('path\nC:\\images\\a.png\n', /Line 2, column path: it is absolute/));
  test('a zero byte', () => refuses('path\na\0.png\n', /Line 2, column path: it holds a zero byte/));
  test('missing files: the first by its line, and how many there are', () =>
    refuses(
      'path\na.png\nnowhere.png\nno/where.png\n',
      /Line 3, column path: the file does not exist; 2 of the 3 files that the CSV names are missing/,
    ));
  test('a different case, an extra or missing prefix, a missing extension: the intended file is named', async () => {
    for (const named of ['sub/up.png', 'images/sub/UP.PNG', 'UP.PNG', 'sub/UP', 'sub/UP.jpg'])
      await refuses(`path\n${named}\n`, /does not exist; 1 of the 1 files/, /Did you mean "sub\/UP\.PNG"\?/);
  });
  test('with two possible files none is named', async () => {
    await mkdir(path.join(folder, 'twin'), { recursive: true });
    await writeFile(path.join(folder, 'twin/UP.PNG'), 'x');
    await refuses('path\nUP.PNG\n', /does not exist/, /^Paths are relative/);
    await rm(path.join(folder, 'twin'), { recursive: true });
  });
  test('a symbolic link', () => refuses('path\nlink.png\n', /Line 2, column path: .* symbolic link/));
  test('a path through a symbolic link, whether or not the file exists', async () => {
    for (const below of [`${path.basename(folder)}/a.png`, 'nothing.png'])
      await refuses(`path\naway/${below}\n`, /Line 2, column path: .* symbolic link/);
  });
  test('a folder', () => refuses('path\nsub\n', /Line 2, column path: this is not a file/));
  test('a file written like a folder', () => refuses('path\na.png/\n', /Line 2, column path: this is not a file/));
  test('a split in some lines only', () =>
    refuses('path,split\na.png,train\nb.png,\n', /Line 3, column split: it is empty/));
  test('a split that no evaluation knows', () =>
    refuses('path,split\na.png,train\nb.png,centre 2\n', /Line 3, column split: it is not train/, /usual spelling/));
  test('numbers of folds', () =>
    refuses('path,split\na.png,0\nb.png,1\n', /Line 2, column split: it is not train/, /leave the column out/));
  test('a path with backslashes that leaves the folder', () =>
    refuses('path\nsub\\..\\..\\x.png\n', /it leaves the folder/));
  test('an unclosed quote', () => refuses('path,label\n"a.png,x\n', /Line \d+: .*[Qq]uote/));
  test('text that is not UTF-8', () =>
    refuses(
      Buffer.concat([Buffer.from('path\na.png\n'), Buffer.from([0xe4, 0x2e, 0x70])]),
      /Line 3: the text is not UTF-8/,
    ));
  test('a label that is too long', () =>
    refuses(`path,label\na.png,${'x'.repeat(5000)}\n`, /Line 2, column label: it is longer/));
  test('a line that never ends', () => refuses(`path,label\na.png,"${'x'.repeat(100_000)}"\n`, /Line \d+: /));
  test('a file that is too large, reported before it is read', async () => {
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
