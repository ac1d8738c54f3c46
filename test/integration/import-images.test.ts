/**
 * A folder becomes shards: read back with an independent tar reader, imported twice, interrupted, and with hostile
 * files.
 */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { execFileSync } from 'node:child_process';
import { createReadStream } from 'node:fs';
import {
  cp,
  mkdir,
  mkdtemp,
  open,
  readdir,
  readFile,
  rm,
  symlink,
  truncate,
  utimes,
  writeFile,
} from 'node:fs/promises';
import path from 'node:path';
import { tmpdir } from 'node:os';
import { after, describe, test, type TestContext } from 'node:test';
import sharp from 'sharp';
import { extract } from 'tar-stream';
import { drawTissue } from '../../src/synthetic/tissue.ts';
import { openArtifactStore } from '../../src/platform/artifact-store/index.ts';
import { openFolder } from '../../src/platform/open-folder.ts';
import { splitUnitOf } from '../../workers/engine/data/manifest.ts';
import { importImages, type ImportOptions, type ImportResult } from '../../workers/imaging/import-images.ts';
import { openImageDecoders } from '../../workers/imaging/decoder/image-decoders.ts';
import { encodePng } from '../../workers/imaging/decoder/encode-png.ts';
import {
  bmpOf,
  glassPixels,
  picture,
  pngThatClaims,
  tissueJpeg,
  tissuePixels,
  tissuePng,
} from '../fixtures/hostile-images.ts';
import { readRows, type ReadRow } from '../support/manifests.ts';
import { imagesOf, temporaryFolder } from '../support/shards.ts';
import type { ImportReportRecord } from '../../src/protocol/import.ts';

type PlaceOptions = Partial<Omit<ImportOptions, 'folder' | 'labelsCsv'>> & { readonly labelsCsvPath?: string };

interface Place {
  readonly folder: string;
  readonly storeDir: string;
  run(options?: PlaceOptions): Promise<ImportResult>;
}

const hiddenFolder = await mkdtemp(path.join(tmpdir(), 'paraffin-hidden-'));
const decoders = openImageDecoders({ hiddenFolder });
after(async () => {
  await decoders[Symbol.asyncDispose]();
  await rm(hiddenFolder, { recursive: true });
});

async function place(context: TestContext): Promise<Place> {
  const base = await temporaryFolder(context);
  const folder = path.join(base, 'images');
  const storeDir = path.join(base, 'artifacts');
  await mkdir(folder);
  let runCount = 0;
  return {
    folder,
    storeDir,
    run: async ({ labelsCsvPath, ...options } = {}) => {
      const workDir = path.join(base, `work${(runCount += 1)}`);
      await mkdir(workDir);
      await using opened = await openFolder(folder);
      await using labelsCsv = labelsCsvPath === undefined ? null : await open(labelsCsvPath);
      return await importImages({
        folder: opened,
        layout: 'FLAT',
        labelsCsv,
        patchSizePx: null,
        artifacts: openArtifactStore(storeDir),
        decoders,
        workDir,
        ...options,
      });
    },
  };
}

/** The rows of the manifest of an import. */
async function rowsOf(storeDir: string, result: ImportResult): Promise<ReadRow[]> {
  return readRows(await openArtifactStore(storeDir).read(result.manifest.sha256), result);
}

async function put(folder: string, name: string, bytes: Buffer | string): Promise<void> {
  await mkdir(path.dirname(path.join(folder, name)), { recursive: true });
  await writeFile(path.join(folder, name), bytes);
}

function issuesOf(result: ImportResult): Record<string, [number, boolean, readonly string[]]> {
  return Object.fromEntries(result.issues.map(({ kind, count, kept, examples }) => [kind, [count, kept, examples]]));
}

async function filesBelow(folder: string): Promise<string[]> {
  return (await readdir(folder, { recursive: true, withFileTypes: true }))
    .filter((entry) => entry.isFile())
    .map((entry) => entry.name);
}

interface Member {
  readonly name: string;
  readonly bytes: Buffer;
  readonly mtimeMs: number | undefined;
  readonly uid: number | undefined;
}

async function membersOf(shardPath: string): Promise<Member[]> {
  const reader = extract();
  createReadStream(shardPath).pipe(reader);
  const members: Member[] = [];
  for await (const entry of reader) {
    const chunks: Buffer[] = [];
    for await (const chunk of entry) if (Buffer.isBuffer(chunk)) chunks.push(chunk);
    members.push({
      name: entry.header.name,
      bytes: Buffer.concat(chunks),
      mtimeMs: entry.header.mtime?.getTime(),
      uid: entry.header.uid,
    });
  }
  return members;
}

describe('the result of an import', () => {
  test('shards, manifest and thumbnails agree', async (context) => {
    const { folder, storeDir, run } = await place(context);
    await drawTissue({ outDir: folder, imagesPerLabel: 4, imageSizePx: 64, seed: 3, groups: 2 });
    const result = await run({ layout: 'FOLDER_PER_LABEL', shardLimits: { byteLimit: 1e9, imageLimit: 5 } });

    const store = openArtifactStore(storeDir);
    assert.equal(result.imageCount, 16);
    assert.deepEqual(
      result.shards.map((shard) => shard.imageCount),
      [5, 5, 5, 1],
    );
    assert.deepEqual(
      result.labelCounts,
      ['gland', 'lymphoid', 'stroma', 'tumour'].map((label) => ({ label, count: 4 })),
    );
    assert.equal(result.groupCount, 0);
    assert.equal(result.hasSplit, false);
    assert.deepEqual(issuesOf(result), { NO_GROUPS: [16, true, ['gland/patient01-0000.jpg']] });
    assert.equal(
      result.byteSize,
      result.shards.reduce((sum, shard) => sum + shard.byteSize, 0),
    );

    const manifest = await rowsOf(storeDir, result);
    assert.deepEqual(
      manifest.map((image) => image.key),
      [...manifest.map((image) => image.key)].sort(),
    );
    const manifestBytes = await store.read(result.manifest.sha256);
    assert.ok(!manifestBytes.includes(folder), 'the manifest names no place on this machine');
    for (const [index, shard] of result.shards.entries()) {
      const members = await membersOf(store.pathOf(shard.sha256));
      const shardBytes = await store.read(shard.sha256);
      const images = manifest.filter((image) => image.shard === index);
      assert.deepEqual(
        members.map((member) => member.name),
        images.flatMap((image) => [`${image.key}.jpg`, `${image.key}.json`]),
      );
      assert.ok(members.every((member) => member.mtimeMs === 0 && member.uid === 0));
      for (const image of images) {
        const bytes = members.find((member) => member.name === `${image.key}.jpg`)?.bytes ?? Buffer.alloc(0);
        assert.ok(bytes.length > 0);
        assert.deepEqual(shardBytes.subarray(image.byteOffset, image.byteOffset + image.byteLength), bytes);
        const { data, info } = await sharp(bytes).raw().toBuffer({ resolveWithObject: true });
        assert.deepEqual([info.width, info.height], [image.width, image.height]);
        assert.deepEqual(createHash('sha256').update(data).digest(), Buffer.from(image.pixelDigest));
        const sidecar: unknown = JSON.parse(
          members.find((member) => member.name === `${image.key}.json`)?.bytes.toString('utf8') ?? '',
        );
        assert.deepEqual(sidecar, { label: image.label, group: image.group, split: image.split });
      }
      // Our own reader, and tar itself.
      assert.equal((await imagesOf(store.pathOf(shard.sha256))).length, shard.imageCount);
      assert.equal(
        execFileSync('tar', ['tf', store.pathOf(shard.sha256)], { encoding: 'utf8' })
          .trim()
          .split('\n').length,
        shard.imageCount * 2,
      );
    }
    assert.equal(result.thumbnails.length, 16);
    assert.deepEqual(
      [...new Set(result.thumbnails.map((thumbnail) => thumbnail.label))],
      ['gland', 'lymphoid', 'stroma', 'tumour'],
    );
    for (const thumbnail of result.thumbnails)
      assert.equal((await store.read(thumbnail.sha256)).toString('latin1', 8, 12), 'WEBP');
  });

  test('unchanged files keep their bytes, and there are at most 24 thumbnails', async (context) => {
    const { folder, storeDir, run } = await place(context);
    await drawTissue({ outDir: folder, imagesPerLabel: 8, imageSizePx: 40, seed: 3, groups: 2 });
    const result = await run({ layout: 'FOLDER_PER_LABEL' });
    assert.equal(result.thumbnails.length, 24);
    const [first] = await membersOf(openArtifactStore(storeDir).pathOf(result.shards[0]?.sha256 ?? ''));
    assert.ok(first?.bytes.equals(await readFile(path.join(folder, 'gland/patient01-0000.jpg'))));
  });

  test('the labels CSV gives labels, groups and splits; a split that no evaluation can use needs an answer', async (context) => {
    const { folder, storeDir, run } = await place(context);
    for (const seed of [0, 1, 2, 3]) await put(folder, `${seed}.png`, await tissuePng(40, seed));
    const labelsCsvPath = path.join(folder, 'labels.csv');
    await writeFile(
      labelsCsvPath,
      'path,label,group,split\n3.png,b,p1,test\n1.png,a,p1,train\n0.png,a,p2,validation\n2.png,a,p2,train\n',
    );
    await assert.rejects(run({ layout: 'CSV', labelsCsvPath }), {
      code: 'IMPORT_NEEDS_ANSWER',
      message: /images of the same group to train on and to test on: "p1"/,
    });
    const result = await run({ layout: 'CSV', labelsCsvPath, accept: ['NOT_EVALUABLE'] });
    const manifest = await rowsOf(storeDir, result);
    assert.deepEqual(
      manifest.map(({ label, group, split }) => [label, group, split]),
      [
        ['a', 'p2', 'validation'],
        ['a', 'p1', 'train'],
        ['a', 'p2', 'train'],
        ['b', 'p1', 'test'],
      ],
    );
    assert.deepEqual([result.groupCount, result.hasSplit], [2, true]);
    const reasons = [
      'All images to train on have the label "a".',
      'All images to test on have the label "b".',
      'The split has images of the same group to train on and to test on: "p1".',
    ];
    assert.deepEqual(issuesOf(result), {
      NOT_EVALUABLE: [3, true, reasons],
      GROUP_ACROSS_SPLITS: [2, true, ['p1', 'p2']],
    });
  });

  test('patches of one image are never divided, although no group is known', async (context) => {
    const { folder, storeDir, run } = await place(context);
    for (const seed of [0, 1])
      await put(folder, `slide${seed}.tif`, await picture(tissuePixels(100, seed), 100).tiff().toBuffer());
    const result = await run({ patchSizePx: 32 });
    assert.deepEqual([result.imageCount, result.groupCount], [18, 0]);
    const manifest = await rowsOf(storeDir, result);
    assert.ok(manifest.every((image) => image.group === null));
    assert.deepEqual([...new Set(manifest.map(splitUnitOf))], ['slide0.tif', 'slide1.tif']);
    assert.deepEqual(
      manifest.slice(0, 4).map(({ x, y, sourceWidth, sourceHeight }) => [x, y, sourceWidth, sourceHeight]),
      [
        [0, 0, 100, 100],
        [32, 0, 100, 100],
        [64, 0, 100, 100],
        [0, 32, 100, 100],
      ],
    );
    const [whole] = await rowsOf(storeDir, await run());
    assert.deepEqual([whole?.x, whole?.sourceWidth], [null, null]);
  });
});

describe('the same folder gives the same digest', () => {
  test('for repeated imports, whatever the order on disk, the file times and the path', async (context) => {
    const one = await place(context);
    const two = await place(context);
    await drawTissue({ outDir: one.folder, imagesPerLabel: 3, imageSizePx: 64, seed: 5, groups: 3 });
    await put(one.folder, 'gland/😀.png', await tissuePng(64, 11));
    await put(one.folder, 'gland/！.tif', await picture(tissuePixels(64, 12), 64).tiff().toBuffer());
    const files = (await readdir(one.folder, { recursive: true })).filter((name) => /\.\w+$/.test(name)).reverse();
    for (const name of files) {
      await mkdir(path.dirname(path.join(two.folder, name)), { recursive: true });
      await cp(path.join(one.folder, name), path.join(two.folder, name));
      await utimes(path.join(two.folder, name), 1000, 1000);
    }
    const options = { layout: 'FOLDER_PER_LABEL', patchSizePx: 32 } as const;
    const [a, b, c] = [await one.run(options), await one.run(options), await two.run(options)];
    assert.equal(b.digest, a.digest);
    assert.equal(c.digest, a.digest);
    assert.deepEqual([b.shards, c.shards], [a.shards, a.shards]);
    assert.deepEqual(c.thumbnails, a.thumbnails);
    assert.notEqual((await one.run({ layout: 'FOLDER_PER_LABEL' })).digest, a.digest);
  });

  test('for the same pixels in files of other bytes and formats, but not for other labels, groups or order', async (context) => {
    const one = await place(context);
    const two = await place(context);
    for (const seed of [1, 2, 3, 4]) {
      const image = picture(tissuePixels(64, seed), 64);
      await put(one.folder, `${seed}.png`, await image.clone().png({ compressionLevel: 1 }).toBuffer());
      await put(two.folder, `${seed}.webp`, await image.clone().webp({ lossless: true }).toBuffer());
    }
    const labelsOf = async ({ folder }: Place, extension: string, lines: readonly string[]): Promise<string> => {
      const file = path.join(folder, `labels-${lines.join('-').replaceAll(/\W/g, '')}.csv`);
      const rows = lines.map((line) => line.replace(',', `.${extension},`));
      await writeFile(file, ['path,label,group', ...rows, ''].join('\n'));
      return file;
    };
    const digestOf = async (at: Place, extension: string, lines: readonly string[]): Promise<string> => {
      const labelsCsvPath = await labelsOf(at, extension, lines);
      return (await at.run({ layout: 'CSV', labelsCsvPath, accept: ['NOT_EVALUABLE'] })).digest;
    };
    const lines = ['1,a,p1', '2,a,p2', '3,b,p1', '4,b,p2'];
    const digest = await digestOf(one, 'png', lines);
    assert.equal(await digestOf(two, 'webp', lines), digest);
    const others = [
      await digestOf(one, 'png', ['1,a,p1', '2,b,p2', '3,b,p1', '4,b,p2']),
      await digestOf(one, 'png', ['1,a,p1', '2,a,p2', '3,b,p1', '4,b,p3']),
      await digestOf(one, 'png', ['1,a,p1', '2,a,p2', '3,b,p1']),
    ];
    assert.equal(new Set([digest, ...others]).size, 4);
  });
});

describe('hostile folders', () => {
  test('every kind of fault is listed, and the valid images are imported', async (context) => {
    const { folder, run } = await place(context);
    await put(folder, 'a/good.jpg', await tissueJpeg(64, 1));
    await put(folder, 'a/wrong name.txt.png', bmpOf(tissuePixels(48, 2), 48, 48, { bitsPerPixel: 24 }));
    await put(folder, 'a/same.png', await tissuePng(64, 4));
    await put(folder, 'a/same again.bmp', bmpOf(tissuePixels(64, 4), 64, 64, { bitsPerPixel: 32 }));
    await put(folder, 'b/cut off.jpg', (await tissueJpeg(64, 5)).subarray(0, 900));
    await put(folder, 'b/bomb.png', pngThatClaims(100_000, 100_000));
    await put(folder, 'b/not really.png', 'hello');
    await put(folder, 'b/empty.jpg', '');
    await put(folder, 'b/tiny.png', await tissuePng(20, 6));
    await put(folder, 'b/glass.png', encodePng({ data: glassPixels(64), width: 64, height: 64 }));
    await put(folder, 'b/scan.dcm', 'DICM');
    await put(folder, 'b/huge.tif', 'II*\0');
    await truncate(path.join(folder, 'b/huge.tif'), 2 ** 31);
    await put(folder, 'outside.png', await tissuePng(64, 7));
    await put(folder, 'b/.hidden.png', await tissuePng(64, 8));
    await put(folder, '.trash/x.png', await tissuePng(64, 8));
    await put(folder, 'README', 'read me');
    await put(folder, 'a/Thumbs.db', 'x');
    await symlink('/etc/passwd', path.join(folder, 'b/link.png'));
    await symlink('/', path.join(folder, 'b/root'));
    execFileSync('mkfifo', [path.join(folder, 'b/pipe.png')]);

    const result = await run({ layout: 'FOLDER_PER_LABEL' });
    assert.deepEqual(issuesOf(result), {
      NOT_AN_IMAGE: [2, false, ['b/not really.png', 'b/scan.dcm']],
      IS_EMPTY: [1, false, ['b/empty.jpg']],
      NOT_A_REGULAR_FILE: [3, false, ['b/link.png', 'b/pipe.png', 'b/root']],
      NO_LABEL: [1, false, ['outside.png']],
      TRUNCATED: [1, false, ['b/cut off.jpg']],
      TOO_LARGE: [2, false, ['b/bomb.png', 'b/huge.tif']],
      DUPLICATE: [1, false, ['a/same.png']],
      NEARLY_BLANK: [1, true, ['b/glass.png']],
      NO_GROUPS: [5, true, ['a/good.jpg']],
    });
    assert.equal(result.imageCount, 5);
    assert.deepEqual(result.labelCounts, [
      { label: 'a', count: 3 },
      { label: 'b', count: 2 },
    ]);
  });

  test('examples are limited to five, counts are not', async (context) => {
    const { folder, run } = await place(context);
    await put(folder, 'good.png', await tissuePng(40, 1));
    for (let index = 0; index < 9; index += 1) await put(folder, `bad${index}.png`, 'x');
    assert.deepEqual(issuesOf(await run()).NOT_AN_IMAGE, [
      9,
      false,
      ['bad0.png', 'bad1.png', 'bad2.png', 'bad3.png', 'bad4.png'],
    ]);
  });

  test('a folder without images, and one where nothing can be used, leave nothing behind', async (context) => {
    const { folder, storeDir, run } = await place(context);
    await put(folder, 'notes.txt', 'x');
    await assert.rejects(run(), { code: 'IMPORT_FOLDER_EMPTY', field: 'input.path' });
    await put(folder, 'a.png', 'x');
    await put(folder, 'b.png', (await tissuePng(64, 1)).subarray(0, 500));
    await assert.rejects(
      run(),
      (error: unknown) =>
        error instanceof Error &&
        'code' in error &&
        error.code === 'IMPORT_NOTHING_READABLE' &&
        'hint' in error &&
        /1 NOT_AN_IMAGE, 1 TRUNCATED/.test(String(error.hint)),
    );
    await assert.rejects(run({ patchSizePx: 64, layout: 'FOLDER_PER_LABEL' }), { code: 'IMPORT_NOTHING_READABLE' });
    assert.deepEqual(await filesBelow(storeDir).catch(() => []), []);
  });
});

describe('one picture with contradictory labels, splits or groups', () => {
  test('under two labels it is left out of both, wherever the second one is found, and reported with both names', async (context) => {
    const { folder, storeDir, run } = await place(context);
    for (const seed of [0, 1, 2]) await put(folder, `a/${seed}.png`, await tissuePng(40, seed));
    for (const seed of [3, 4]) await put(folder, `b/${seed}.png`, await tissuePng(40, seed));
    await put(folder, 'b/copy of a1.bmp', bmpOf(tissuePixels(40, 1), 40, 40, { bitsPerPixel: 24 }));
    await put(folder, 'b/9.png', await tissuePng(40, 3));
    const result = await run({ layout: 'FOLDER_PER_LABEL', shardLimits: { byteLimit: 1e9, imageLimit: 1 } });
    const { DUPLICATE, LABEL_CONFLICT } = issuesOf(result);
    assert.deepEqual(LABEL_CONFLICT, [2, false, ['a/1.png', 'b/copy of a1.bmp']]);
    assert.deepEqual(DUPLICATE, [1, false, ['b/9.png']]);
    assert.deepEqual(
      result.labelCounts,
      ['a', 'b'].map((label) => ({ label, count: 2 })),
    );
    const store = openArtifactStore(storeDir);
    const list = (await store.read(result.issueList?.sha256 ?? '')).toString('utf8');
    assert.match(list, /LABEL_CONFLICT,a\/1\.png,1,false,.*label ""a"" here, ""b"" there.*,b\/copy of a1\.bmp\r\n/);
    assert.match(list, /LABEL_CONFLICT,b\/copy of a1\.bmp,1,false,.*label ""b"" here, ""a"" there.*,a\/1\.png\r\n/);
    // The result equals that of a folder without the two files.
    const without = await place(context);
    for (const seed of [0, 2]) await put(without.folder, `a/${seed}.png`, await tissuePng(40, seed));
    for (const seed of [3, 4]) await put(without.folder, `b/${seed}.png`, await tissuePng(40, seed));
    assert.equal((await without.run({ layout: 'FOLDER_PER_LABEL' })).imageCount, 4);
    const manifest = await rowsOf(storeDir, result);
    assert.deepEqual(
      manifest.map(({ key, sourcePath }) => [key, sourcePath]),
      [
        ['000000000', 'a/0.png'],
        ['000000001', 'a/2.png'],
        ['000000002', 'b/3.png'],
        ['000000003', 'b/4.png'],
      ],
    );
  });

  test('it is kept under both if that is requested', async (context) => {
    const { folder, run } = await place(context);
    for (const seed of [0, 1]) await put(folder, `a/${seed}.png`, await tissuePng(40, seed));
    for (const seed of [1, 2]) await put(folder, `b/${seed}.png`, await tissuePng(40, seed));
    const result = await run({ layout: 'FOLDER_PER_LABEL', keepConflicts: true });
    assert.equal(result.imageCount, 4);
    assert.deepEqual(issuesOf(result).LABEL_CONFLICT, [1, true, ['b/1.png']]);
  });

  test('in two splits or under two groups it has its own kind of issue, the gravest that applies', async (context) => {
    const { folder, run } = await place(context);
    for (const name of ['s1', 's2', 'g1', 'g2', 'l1', 'l2', 'n1', 'n2'])
      await put(folder, `${name}.png`, await tissuePng(40, name.charCodeAt(0)));
    for (const seed of [0, 1, 2, 3]) await put(folder, `x${seed}.png`, await tissuePng(40, seed));
    const labelsCsvPath = path.join(folder, 'labels.csv');
    const rows = [
      ...['s1.png,a,p1,train', 's2.png,a,p2,test', 'g1.png,a,p1,train', 'g2.png,a,p3,train'],
      ...['l1.png,a,p1,train', 'l2.png,b,p2,test', 'n1.png,a,p1,train', 'n2.png,NA,NA,train'],
      ...['x0.png,a,p1,train', 'x1.png,b,p1,train', 'x2.png,a,p2,test', 'x3.png,b,p2,test'],
    ];
    await writeFile(labelsCsvPath, `path,label,group,split\n${rows.join('\n')}\n`);
    const result = await run({ layout: 'CSV', labelsCsvPath });
    const issues = issuesOf(result);
    assert.deepEqual(issues.SPLIT_CONFLICT, [2, false, ['s1.png', 's2.png']]);
    assert.deepEqual(issues.GROUP_CONFLICT, [2, false, ['g1.png', 'g2.png']]);
    assert.deepEqual(issues.LABEL_CONFLICT, [2, false, ['l1.png', 'l2.png']]);
    // An unknown value does not contradict a known one.
    assert.deepEqual(issues.DUPLICATE, [1, false, ['n2.png']]);
    assert.equal(result.imageCount, 5);
  });

  test('empty glass is not a contradiction: a background class keeps its images', async (context) => {
    const { folder, run } = await place(context);
    const glass = encodePng({ data: glassPixels(64), width: 64, height: 64 });
    for (const name of ['1', '2', '3']) await put(folder, `background/${name}.png`, glass);
    await put(folder, 'tumour/empty.png', glass);
    for (const seed of [0, 1]) await put(folder, `tumour/${seed}.png`, await tissuePng(64, seed));
    const result = await run({ layout: 'FOLDER_PER_LABEL' });
    assert.deepEqual(
      result.labelCounts,
      ['background', 'tumour'].map((label) => ({ label, count: 3 })),
    );
    assert.deepEqual(issuesOf(result).BLANK_DUPLICATE, [
      3,
      true,
      ['background/2.png', 'background/3.png', 'tumour/empty.png'],
    ]);
  });
});

describe('probable mistakes', () => {
  test('need an answer before an image is read, if the names show them', async (context) => {
    const { folder, storeDir, run } = await place(context);
    for (const [index, label] of ['Tumor', 'tumor', 'stroma'].entries())
      for (const seed of [0, 1]) await put(folder, `${label}/${seed}.png`, await tissuePng(40, 10 * index + seed));
    const reports: ImportReportRecord[] = [];
    const onReport = async (report: ImportReportRecord): Promise<void> => void reports.push(report);
    await assert.rejects(run({ layout: 'FOLDER_PER_LABEL', onReport }), {
      code: 'IMPORT_NEEDS_ANSWER',
      message: /LABELS_LOOK_ALIKE: .* Found: "Tumor", "tumor"/,
    });
    assert.deepEqual(
      reports.map(({ imagesChecked, fileCount, questions }) => [imagesChecked, fileCount, questions]),
      [[false, 6, ['LABELS_LOOK_ALIKE']]],
    );
    // Only the list of all issues is stored, which the report names.
    assert.deepEqual(await filesBelow(storeDir), [reports[0]?.issueList?.sha256]);
    const result = await run({ layout: 'FOLDER_PER_LABEL', accept: ['LABELS_LOOK_ALIKE'] });
    assert.deepEqual(issuesOf(result).LABELS_LOOK_ALIKE, [2, true, ['"Tumor", "tumor"']]);
  });

  test('a label that loses its last image is reported', async (context) => {
    const { folder, run } = await place(context);
    for (const label of ['a', 'b'])
      for (const seed of [0, 1])
        await put(folder, `${label}/${seed}.png`, await tissuePng(40, label.charCodeAt(0) + 2 * seed));
    for (const name of ['broken', 'empty']) await put(folder, `c/${name}.png`, 'x');
    assert.deepEqual(issuesOf(await run({ layout: 'FOLDER_PER_LABEL' })).LABEL_WITHOUT_IMAGES, [1, false, ['c']]);
  });

  test('fewer labels, groups or images than before are reported with the numbers', async (context) => {
    const { folder, run } = await place(context);
    for (const label of ['a', 'b'])
      for (const seed of [0, 1])
        await put(folder, `${label}/${seed}.png`, await tissuePng(40, label.charCodeAt(0) + 2 * seed));
    const previous = { version: 7, labelNames: ['a', 'b', 'c'], imageCount: 9, groupCount: 3, ungroupedImageCount: 0 };
    const result = await run({ layout: 'FOLDER_PER_LABEL', previous, accept: ['FEWER_THAN_BEFORE'] });
    assert.deepEqual(issuesOf(result).FEWER_THAN_BEFORE?.[2], [
      'Version 7 had labels that are now missing: "c".',
      'Version 7 had 3 groups, and now no group is known.',
      'Version 7 had 9 images, and now there are 4.',
    ]);
    const like = { version: 8, labelNames: ['a', 'b'], imageCount: 8, groupCount: 8, ungroupedImageCount: 8 };
    assert.equal(issuesOf(await run({ layout: 'FOLDER_PER_LABEL', previous: like })).FEWER_THAN_BEFORE, undefined);
  });

  test('numeric labels are for a regression: one image of each is enough', async (context) => {
    const { folder, run } = await place(context);
    for (const seed of [0, 1, 2]) await put(folder, `${seed}.png`, await tissuePng(40, seed));
    const labelsCsvPath = path.join(folder, 'labels.csv');
    await writeFile(labelsCsvPath, 'path,label\n0.png,0.5\n1.png,-1e3\n2.png,7\n');
    assert.equal((await run({ layout: 'CSV', labelsCsvPath })).imageCount, 3);
  });
});

describe('an interrupted import', () => {
  test('a stop between images ends the import and leaves no half-written artifact', async (context) => {
    const { folder, storeDir, run } = await place(context);
    await drawTissue({ outDir: folder, imagesPerLabel: 6, imageSizePx: 64, seed: 5, groups: 3 });
    let asked = 0;
    const throwIfStopped = (): void => {
      asked += 1;
      if (asked === 10) throw new Error('stop, please');
    };
    await assert.rejects(run({ throwIfStopped }), /stop, please/);
    assert.equal(asked, 10);
    assert.deepEqual(await filesBelow(storeDir), []);
  });

  test('a store that fails ends the import with its error', async (context) => {
    const { folder, storeDir, run } = await place(context);
    await drawTissue({ outDir: folder, imagesPerLabel: 6, imageSizePx: 64, seed: 5, groups: 3 });
    const artifacts = { ...openArtifactStore(storeDir), put: () => Promise.reject(new Error('the disk is full')) };
    await assert.rejects(run({ artifacts }), /the disk is full/);
  });

  test('progress rises to 1', async (context) => {
    const { folder, run } = await place(context);
    await drawTissue({ outDir: folder, imagesPerLabel: 3, imageSizePx: 64, seed: 5, groups: 3 });
    const fractions: number[] = [];
    await run({ onProgress: async ({ fraction }) => void fractions.push(fraction) });
    assert.ok(fractions.length >= 2);
    assert.equal(fractions.at(-1), 1);
    assert.deepEqual(
      fractions,
      [...fractions].sort((a, b) => a - b),
    );
  });
});
