/** An import of drawn slides as a run: real database, real OpenSlide in its processes, real files. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import sharp from 'sharp';
import { DomainError } from '../../src/errors.ts';
import { createRunLoaders } from '../../src/modules/runs/index.ts';
import { SLIDE_OPTION_DEFAULTS } from '../../src/protocol/slide-options.ts';
import { importDatasetTask } from '../../workers/tasks/import-dataset.ts';
import type { Task } from '../../workers/tasks/task.ts';
import { openTestDatabase, type TestDatabase } from '../support/database.ts';
import { interruptedImport, smallImportTask } from '../support/interrupted-import.ts';
import { readRows } from '../support/manifests.ts';
import { aperioDescription, drawSlide, type DrawnSlide, type Rgb } from '../support/slide-files.ts';
import { createTaskRunner, type TaskRunner } from '../support/task-runner.ts';
import type { ImportReportRecord } from '../../src/protocol/import.ts';

let base = '';
let database: TestDatabase;
let runner: TaskRunner;

before(async () => {
  database = await openTestDatabase();
  runner = await createTaskRunner(database);
  ({ base } = runner);
});
after(async () => {
  await runner.close();
  await database.close();
});

const SECRET = 'Smith^Jane 1951-04-23';
const [WIDTH, HEIGHT] = [2300, 1800];
const GLASS: Rgb = [242, 242, 242];

/** Cells on pink, in the left part of the slide; `hue` makes slides differ. */
function slideOf(hue: number, micronsPerPixel: string | null, tissueWidth = 1500): DrawnSlide {
  const facts = `AppMag = 20|Patient = ${SECRET}${micronsPerPixel === null ? '' : `|MPP = ${micronsPerPixel}`}`;
  return {
    ...{ width: WIDTH, height: HEIGHT, downsamples: [1, 4], compression: 'JPEG' },
    paint: (x, y) => {
      if (x >= tissueWidth) return GLASS;
      // Every patch differs: the size of the cells grows across, their shade down.
      const isCell = (x % 23) ** 2 + (y % 29) ** 2 < 60 + x / 10;
      return isCell ? [110 + hue, 70, 140 + Math.floor(y / 30)] : [225, 150, 190];
    },
    description: aperioDescription(WIDTH, HEIGHT, facts),
    labelDescription: `Aperio Image Library v12.0.15\r\nlabel 64x64 ${SECRET}`,
  };
}

async function drawFolder(name: string, slides: Readonly<Record<string, DrawnSlide>>): Promise<string> {
  const folder = path.join(base, name);
  for (const [file, slide] of Object.entries(slides)) {
    await mkdir(path.dirname(path.join(folder, file)), { recursive: true });
    await drawSlide(path.join(folder, file), slide);
  }
  return folder;
}

interface Imported {
  readonly runId: string;
  readonly report: ImportReportRecord;
}

async function launch(folder: string, config: object, task: Task) {
  const slug = `slides-${path.basename(folder)}-${await database.db.dataset.count()}`;
  const { id: datasetId } = await database.db.dataset.create({
    data: { slug, name: slug, imageKind: 'WSI', synthetic: true },
  });
  return runner.launch(task, {
    ...{ datasetId, path: folder, layout: 'SLIDES', labelsCsvPath: null, patchSizePx: 128, importRoots: [base] },
    slides: { ...SLIDE_OPTION_DEFAULTS, patchesPerSlideMax: null },
    ...config,
  });
}

async function importFolder(folder: string, config: object = {}, task = importDatasetTask): Promise<Imported> {
  const run = await launch(folder, config, task);
  await run.execute();
  const report: ImportReportRecord | null = await createRunLoaders(database.db).importReport.load(run.runId);
  assert.ok(report !== null);
  return { runId: run.runId, report };
}

async function versionOf({ runId }: Pick<Imported, 'runId'>) {
  const version = await database.db.datasetVersion.findFirstOrThrow({
    where: { importRunId: runId },
    include: { shards: { orderBy: { position: 'asc' } } },
  });
  const shards = version.shards.map(({ sha256 }) => sha256);
  const rows = await readRows(await runner.store.read(version.manifestSha256 ?? ''), {
    imageCount: version.imageCount,
    shards: version.shards.map(({ byteSize }) => ({ byteSize: Number(byteSize) })),
  });
  return { version, rows, shards };
}

const slidesOf = (datasetVersionId: string) =>
  database.db.slide.findMany({ where: { datasetVersionId }, orderBy: { position: 'asc' } });

/** Rows hold bigints, which JSON has not. */
const jsonOf = (rows: unknown): string =>
  JSON.stringify(rows, (_, value: unknown) => (typeof value === 'bigint' ? String(value) : value));

const issuesOf = (report: ImportReportRecord): Record<string, readonly string[]> =>
  Object.fromEntries(report.issues.map(({ kind, examples }) => [kind, examples]));

describe('a folder of slides', () => {
  test('becomes patches with their slide, place, patient and resolution, and names in slides go nowhere', async () => {
    const folder = await drawFolder('cohort', {
      'a/S1.svs': slideOf(0, '0.5'),
      'b/S2.svs': slideOf(20, '0.25'),
      'b/S3.svs': slideOf(40, null),
    });
    const csv = path.join(base, 'cohort.csv');
    await writeFile(
      csv,
      'slide,label,patient,split,micronsPerPixel\nS1,tumour,P1,train,\nb/S2.svs,normal,P2,test,\nS3.svs,tumour,P1,train,"0,5"\n',
    );
    const imported = await importFolder(folder, { labelsCsvPath: csv, accept: ['NOT_EVALUABLE'] });
    const { rows, version, shards } = await versionOf(imported);
    // S2 states 20x, at which a pixel has 0.5 um, and 0.25 um/px; and three slides are too few to evaluate on.
    const { NOT_EVALUABLE: _, ...doubts } = issuesOf(imported.report);
    assert.deepEqual(doubts, { OBJECTIVE_DISAGREES: ['b/S2.svs'] });
    assert.deepEqual([version.groupCount, version.hasSplit, imported.report.fileCount], [2, true, 3]);
    const facts = new Map(rows.map((row) => [row.slide, row]));
    assert.deepEqual(
      ['a/S1.svs', 'b/S2.svs', 'b/S3.svs'].map((slide) => {
        const row = facts.get(slide);
        return [row?.label, row?.group, row?.split, row?.micronsPerPixel, row?.level0Width, row?.sourceWidth];
      }),
      [
        ['tumour', 'P1', 'train', 0.5, 128, WIDTH],
        // Half of the microns for a pixel: twice the pixels for a patch.
        ['normal', 'P2', 'test', 0.5, 256, WIDTH],
        ['tumour', 'P1', 'train', 0.5, 128, WIDTH],
      ],
    );
    for (const { x, y, level0Width, tissueFraction, width, height } of rows) {
      assert.deepEqual([width, height], [128, 128]);
      assert.ok(x !== null && y !== null && level0Width !== null && x % level0Width === 0 && x < 1500);
      assert.ok(tissueFraction !== null && tissueFraction >= 0.5 && tissueFraction <= 1);
    }
    // 1,500 px of tissue are 11.7 patches of 128 px, and 1,800 px are 14 rows.
    assert.equal(rows.filter(({ slide }) => slide === 'a/S1.svs').length, 12 * 14);
    assert.match(imported.report.notes.join('\n'), /a\/S1\.svs: 168 patches, 6\d % tissue, 0\.5 um\/px from openslide/);
    assert.match(imported.report.notes.join('\n'), /b\/S3\.svs: 168 patches, 6\d % tissue, 0\.5 um\/px from the CSV/);

    // The same pixels as in the slide: the shard's own PNG against the paint.
    const row = rows.find(({ slide, x, y }) => slide === 'a/S1.svs' && x === 256 && y === 384);
    assert.ok(row !== undefined);
    const shard = await runner.store.read(shards[row.shard] ?? '');
    const png = shard.subarray(row.byteOffset, row.byteOffset + row.byteLength);
    const pixels = await sharp(png).raw().toBuffer();
    const { paint } = slideOf(0, '0.5');
    let error = 0;
    for (let y = 0; y < 128; y += 1)
      for (let x = 0; x < 128; x += 1)
        for (const [channel, value] of paint(256 + x, 384 + y).entries())
          error += Math.abs((pixels[(y * 128 + x) * 3 + channel] ?? 0) - value);
    assert.ok(error / pixels.length < 4, `mean difference ${error / pixels.length}`);

    // What was planted in properties and in the label image is in no artifact, no row of the database and no event.
    let storedCount = 0;
    for await (const { sha256 } of runner.store.list()) {
      assert.ok(sha256 !== undefined, 'nothing else lies in the store');
      storedCount += 1;
      const bytes = await runner.store.read(sha256);
      assert.ok(!bytes.includes('Smith'), sha256);
    }
    assert.ok(storedCount >= shards.length + 2 * 3, 'the shards, and a thumbnail and a mask of each slide');
    const run = await database.db.run.findUniqueOrThrow({ where: { id: imported.runId }, include: { events: true } });
    assert.ok(!jsonOf(run).includes('Smith'));
    assert.ok(!JSON.stringify(imported.report).includes('Smith'));
    const slides = await slidesOf(version.id);
    assert.ok(jsonOf(slides).includes('a/S1.svs') && !jsonOf(slides).includes('Smith'));

    // The slides themselves.
    const countOf = (slide: string): number => rows.filter((each) => each.slide === slide).length;
    assert.deepEqual(
      slides.map((slide) => [slide.path, slide.status, slide.label, slide.group, slide.split, slide.patchCount]),
      [
        ['a/S1.svs', 'IMPORTED', 'tumour', 'P1', 'train', 168],
        ['b/S2.svs', 'IMPORTED', 'normal', 'P2', 'test', countOf('b/S2.svs')],
        ['b/S3.svs', 'IMPORTED', 'tumour', 'P1', 'train', countOf('b/S3.svs')],
      ],
    );
    assert.deepEqual(
      slides.map((slide) => [slide.vendor, slide.objective, slide.micronsPerPixelX, slide.micronsPerPixelSource]),
      [
        ['aperio', 20, 0.5, 'OPENSLIDE'],
        ['aperio', 20, 0.25, 'OPENSLIDE'],
        ['aperio', 20, 0.5, 'GIVEN'],
      ],
    );
    const [first] = slides;
    assert.ok(first !== undefined);
    assert.deepEqual(first.levels, [
      { width: WIDTH, height: HEIGHT, downsample: 1 },
      { width: WIDTH / 4, height: HEIGHT / 4, downsample: 4 },
    ]);
    const file = await readFile(path.join(folder, 'a/S1.svs'));
    assert.deepEqual(
      [first.fileDigest, first.fileByteSize],
      [createHash('sha256').update(file).digest('hex'), BigInt(file.length)],
    );
    // Of the 2,300 px of a row 1,500 are tissue; at 8 um a pixel of the pictures is 16 px of the slide.
    assert.ok(Math.abs((first.tissueFraction ?? 0) - 1500 / WIDTH) < 0.02, String(first.tissueFraction));
    const maskPng = await runner.store.read(first.tissueMaskSha256 ?? '');
    assert.equal((await sharp(maskPng).metadata()).channels, 1);
    const mask = await sharp(maskPng).toColourspace('b-w').raw().toBuffer({ resolveWithObject: true });
    assert.deepEqual([mask.info.width, mask.info.height], [Math.floor(WIDTH / 16), Math.floor(HEIGHT / 16)]);
    for (let x = 0; x < mask.info.width; x += 1) {
      // The edge of the tissue lies within pixel 93.
      if (Math.abs(x - 1500 / 16) > 2)
        assert.equal(mask.data[50 * mask.info.width + x], x < 1500 / 16 ? 255 : 0, `x ${x}`);
    }
    const thumbnail = await sharp(await runner.store.read(first.thumbnailSha256 ?? ''))
      .raw()
      .toBuffer({ resolveWithObject: true });
    assert.deepEqual([thumbnail.info.width, thumbnail.info.height], [mask.info.width, mask.info.height]);
    const [red = 0, green = 0] = thumbnail.data.subarray((50 * thumbnail.info.width + 40) * 3);
    assert.ok(red - green > 40, `the tissue is pink: ${red}, ${green}`);
    const [glassRed = 0, glassGreen = 0] = thumbnail.data.subarray((50 * thumbnail.info.width + 130) * 3);
    assert.ok(glassRed > 230 && Math.abs(glassRed - glassGreen) < 8, `the glass is light: ${glassRed}, ${glassGreen}`);
  });

  test('gives the same version again, at most so many patches of each slide, and others under another seed', async () => {
    const folder = await drawFolder('drawn', { 'S1.svs': slideOf(0, '0.5'), 'S2.svs': slideOf(20, '0.5') });
    const slides = { ...SLIDE_OPTION_DEFAULTS, patchesPerSlideMax: 20 };
    const first = await versionOf(await importFolder(folder, { slides }));
    const again = await versionOf(await importFolder(folder, { slides }));
    const other = await versionOf(await importFolder(folder, { slides: { ...slides, seed: 2 } }));
    assert.equal(first.version.digest, again.version.digest);
    assert.notEqual(first.version.digest, other.version.digest);
    for (const slide of ['S1.svs', 'S2.svs'])
      assert.equal(first.rows.filter((row) => row.slide === slide && row.group === slide).length, 20);
  });
});

/** Two stains after Lambert and Beer: cells of the first on a ground of the second; `strength` makes slides differ. */
function stainedSlide(strength: number): DrawnSlide {
  return {
    ...slideOf(0, '0.5'),
    paint: (x, y) => {
      if (x >= 1500) return GLASS;
      const isCell = (x % 23) ** 2 + (y % 29) ** 2 < 60 + x / 10;
      const first = strength * (isCell ? 0.8 + ((x * 5 + y) % 11) / 30 : 0.2);
      const second = strength * (0.35 + ((x * 7 + y * 3) % 17) / 40);
      const channel = (a: number, b: number): number => Math.round(240 * Math.exp(-first * a - second * b));
      return [channel(0.65, 0.25), channel(0.7, 0.9), channel(0.29, 0.45)];
    },
  };
}

test('patches are normalised to one stain, and a slide without a stain is left out', async () => {
  const flat: DrawnSlide = { ...slideOf(0, '0.5'), paint: (x) => (x >= 1500 ? GLASS : [200, 60, 140]) };
  const folder = await drawFolder('stained', {
    ...{ 'S1.svs': stainedSlide(1), 'S2.svs': stainedSlide(1.5), 'flat.svs': flat },
  });
  /** Mean red of all patches of each slide. */
  const redOf = async (stainNormalisation: 'NONE' | 'MACENKO' | 'REINHARD') => {
    const slides = { ...SLIDE_OPTION_DEFAULTS, patchesPerSlideMax: 12, sharpnessMin: 0, stainNormalisation };
    const imported = await importFolder(folder, { slides });
    const { rows, shards } = await versionOf(imported);
    const means = new Map<string, number[]>();
    for (const row of rows) {
      const shard = await runner.store.read(shards[row.shard] ?? '');
      const png = shard.subarray(row.byteOffset, row.byteOffset + row.byteLength);
      const { channels } = await sharp(png).stats();
      means.set(row.slide ?? '', [...(means.get(row.slide ?? '') ?? []), channels[0]?.mean ?? 0]);
    }
    const mean = (slide: string): number => {
      const values = means.get(slide) ?? [];
      return values.reduce((sum, value) => sum + value, 0) / values.length;
    };
    return {
      report: imported.report,
      difference: Math.abs(mean('S1.svs') - mean('S2.svs')),
      slides: [...means.keys()],
    };
  };
  const scanned = await redOf('NONE');
  // Patches of one colour are blank, so that no pixel says how their slide is stained.
  assert.deepEqual(scanned.slides, ['S1.svs', 'S2.svs']);
  for (const method of ['MACENKO', 'REINHARD'] as const) {
    const normalised = await redOf(method);
    assert.deepEqual(normalised.slides, ['S1.svs', 'S2.svs']);
    assert.deepEqual(issuesOf(normalised.report)['STAIN_NOT_FOUND'], ['flat.svs']);
    assert.ok(
      normalised.difference < 0.25 * scanned.difference,
      `${method}: ${normalised.difference} of ${scanned.difference}`,
    );
  }
});

test('patches are labelled by annotations beside their slide, and what is wrong in these is told', async () => {
  const folder = await drawFolder('annotated', {
    'S1.svs': slideOf(0, '0.5'),
    'S2.svs': slideOf(20, '0.5'),
    'S3.svs': slideOf(40, '0.5'),
  });
  const ring = (left: number, right: number) => [
    [left, 0],
    [right, 0],
    [right, 1800],
    [left, 1800],
    [left, 0],
  ];
  const polygon = (name: string, left: number, right: number) => ({
    ...{ type: 'Feature', properties: { classification: { name } } },
    geometry: { type: 'Polygon', coordinates: [ring(left, right)] },
  });
  const features = [polygon('tumour', 0, 512), polygon('stroma', 5000, 6000)];
  await writeFile(path.join(folder, 'S1.geojson'), JSON.stringify({ type: 'FeatureCollection', features }));
  await writeFile(path.join(folder, 'S2.xml'), '<svg/>');
  const csv = path.join(base, 'annotated.csv');
  await writeFile(csv, 'slide,label\nS1,\nS2,\nS3,normal\n');
  const annotations = { path: null, shareMin: 0.5, otherLabel: 'normal', classes: null };
  const slides = { ...SLIDE_OPTION_DEFAULTS, patchesPerSlideMax: null, annotations };
  const accept = ['NOT_EVALUABLE'];
  const imported = await importFolder(folder, { slides, labelsCsvPath: csv, accept });
  const { rows } = await versionOf(imported);
  const counts = new Map<string, number>();
  for (const { slide, label } of rows)
    counts.set(`${slide ?? ''} ${label ?? 'none'}`, (counts.get(`${slide ?? ''} ${label ?? 'none'}`) ?? 0) + 1);
  // 512 px are four of the twelve columns of 14 patches.
  assert.deepEqual(Object.fromEntries(counts), {
    ...{ 'S1.svs normal': 8 * 14, 'S1.svs tumour': 4 * 14 },
    ...{ 'S2.svs none': 12 * 14, 'S3.svs normal': 12 * 14 },
  });
  for (const { slide, label, x } of rows)
    if (slide === 'S1.svs') assert.equal(label, (x ?? 0) < 512 ? 'tumour' : 'normal');
  const { NOT_EVALUABLE: _, ...doubts } = issuesOf(imported.report);
  assert.deepEqual(doubts, {
    ...{ LABEL_MISSING: ['S2.svs'], ANNOTATIONS_UNREADABLE: ['S2.svs'], ANNOTATION_LEFT_OUT: ['S1.svs'] },
  });
  assert.ok(imported.report.notes.includes('2 of 3 slides have annotations.'), imported.report.notes.join(' '));

  // The same from a folder of annotations, which may lie among the slides.
  const drawn = path.join(folder, 'drawn');
  await mkdir(drawn);
  await rename(path.join(folder, 'S1.geojson'), path.join(drawn, 'S1.svs.geojson'));
  await rm(path.join(folder, 'S2.xml'));
  const fromFolder = { ...slides, annotations: { ...annotations, path: drawn } };
  const again = await importFolder(folder, { slides: fromFolder, labelsCsvPath: csv, accept, dryRun: true });
  assert.deepEqual(again.report.labelCounts, [
    { label: 'normal', count: (8 + 12) * 14 },
    { label: 'tumour', count: 4 * 14 },
  ]);
  assert.deepEqual(issuesOf(again.report)['NOT_A_SLIDE'], undefined);
  assert.ok(again.report.notes.includes('1 of 3 slides have annotations.'));
  await rename(path.join(drawn, 'S1.svs.geojson'), path.join(drawn, 'other.geojson'));
  await assert.rejects(
    importFolder(folder, { slides: fromFolder, labelsCsvPath: csv, accept, dryRun: true }),
    (error: unknown) =>
      error instanceof DomainError &&
      error.code === 'IMPORT_FOLDER_EMPTY' &&
      error.field === 'input.slides.annotations.path',
  );
});

test('slides of which each has patches of two labels are enough to evaluate on, and no question is asked', async () => {
  const folder = await drawFolder('two-labels', { 'S1.svs': slideOf(0, '0.5'), 'S2.svs': slideOf(20, '0.5') });
  const outline = [
    [0, 0],
    [768, 0],
    [768, 1800],
    [0, 1800],
    [0, 0],
  ];
  const region = {
    ...{ type: 'Feature', properties: { classification: { name: 'tumour' } } },
    geometry: { type: 'Polygon', coordinates: [outline] },
  };
  for (const slide of ['S1', 'S2']) await writeFile(path.join(folder, `${slide}.geojson`), JSON.stringify(region));
  const annotations = { path: null, shareMin: 0.5, otherLabel: 'normal', classes: null };
  const { report } = await importFolder(folder, {
    slides: { ...SLIDE_OPTION_DEFAULTS, patchesPerSlideMax: 20, annotations },
  });
  assert.deepEqual([report.questions, report.fileCount, report.imageCount], [[], 2, 40]);
  assert.deepEqual(
    report.assignments.map(({ label, fileCount }) => [label, fileCount]),
    [
      ['normal', 2],
      ['tumour', 2],
    ],
  );
});

test('an interrupted import of slides continues behind its last shard, with the same version', async () => {
  const folder = await drawFolder('interrupted', { 'S1.svs': slideOf(0, '0.5'), 'S2.svs': slideOf(20, '0.5') });
  const slides = { ...SLIDE_OPTION_DEFAULTS, patchesPerSlideMax: 90 };
  const undisturbed = await versionOf(await importFolder(folder, { slides }, smallImportTask));
  // Shards of five patches and batches of 64: a shard ends within a batch.
  const interrupted = interruptedImport({ afterBlock: 14 }, () => {
    throw new Error('interrupted');
  });
  const run = await launch(folder, { slides }, interrupted);
  await assert.rejects(run.execute(), /interrupted/);
  await database.db.run.update({ where: { id: run.runId }, data: { status: 'QUEUED' } });
  const again = await runner.claim(smallImportTask, run.runId);
  await again.execute();
  assert.ok(
    again.events.some((event) => /^Continues after \d+ images/.test(event)),
    again.events.join(' '),
  );
  const { version, shards } = await versionOf({ runId: run.runId });
  assert.deepEqual([version.digest, shards], [undisturbed.version.digest, undisturbed.shards]);
});

describe('slides that are wrong', () => {
  test('end with their reason, and the others are imported', async () => {
    const folder = await drawFolder('mixed', {
      'good.svs': slideOf(0, '0.5'),
      'nanometres.svs': slideOf(1, '250'),
      'unstated.svs': slideOf(2, null),
      'coarse.svs': slideOf(3, '1.1'),
      'empty.svs': slideOf(4, '0.5', 0),
      'broken.svs': { ...slideOf(5, '0.5'), brokenTile: { index: 10 } },
      'lies.svs': { ...slideOf(9, '0.5'), statedLevel1: [575, 300] },
      'x/twin.svs': slideOf(6, '0.5'),
      'y/twin.svs': slideOf(7, '0.5'),
      'unlisted.svs': slideOf(8, '0.5'),
    });
    const jpeg = await sharp({ create: { width: 64, height: 64, channels: 3, background: 'red' } })
      .jpeg()
      .toBuffer();
    await writeFile(path.join(folder, 'jpeg.svs'), jpeg);
    await writeFile(
      path.join(folder, 'short.svs'),
      (await readFile(path.join(folder, 'good.svs'))).subarray(0, 50_000),
    );
    const good = await readFile(path.join(folder, 'good.svs'));
    // The first directory names itself as the next one.
    const first = good.readUInt32LE(4);
    good.writeUInt32LE(first, first + 2 + good.readUInt16LE(first) * 12);
    await writeFile(path.join(folder, 'loop.svs'), good);
    await writeFile(path.join(folder, 'alone.mrxs'), jpeg);
    await writeFile(path.join(folder, 'photo.png'), 'not a slide');
    const names = [
      'good',
      'nanometres',
      'unstated',
      'coarse',
      'empty',
      'broken',
      'twin',
      'jpeg',
      'short',
      'loop',
      'alone',
      'lies',
      'gone',
    ];
    const csv = path.join(base, 'mixed.csv');
    await writeFile(
      csv,
      `slide,label\n${names.map((name, index) => `${name},${index % 2 === 0 ? 'a' : 'b'}`).join('\n')}\n`,
    );
    const imported = await importFolder(folder, { labelsCsvPath: csv, accept: ['NOT_EVALUABLE'] });
    const { rows, version } = await versionOf(imported);
    assert.deepEqual([...new Set(rows.map(({ slide }) => slide))], ['broken.svs', 'good.svs']);
    const found = issuesOf(imported.report);
    assert.deepEqual(found['MICRONS_PER_PIXEL_UNKNOWN'], ['nanometres.svs', 'unstated.svs']);
    assert.deepEqual(found['SLIDE_TOO_COARSE'], ['coarse.svs']);
    assert.deepEqual(found['NO_TISSUE'], ['empty.svs']);
    assert.deepEqual(found['SLIDE_NAME_AMBIGUOUS'], ['x/twin.svs', 'y/twin.svs']);
    assert.deepEqual(found['SLIDE_NOT_IN_CSV'], ['unlisted.svs']);
    assert.deepEqual(found['SLIDE_NOT_FOUND'], ['gone']);
    assert.ok(found['NOT_A_SLIDE']?.includes('jpeg.svs') && found['NOT_A_SLIDE'].includes('photo.png'));
    assert.ok([...(found['NOT_A_SLIDE'] ?? []), ...(found['SLIDE_UNREADABLE'] ?? [])].includes('short.svs'));
    const slides = await slidesOf(version.id);
    const became = Object.fromEntries(slides.map(({ path: file, status, issueKind }) => [file, issueKind ?? status]));
    const { 'short.svs': short, 'loop.svs': loop, 'alone.mrxs': alone, ...others } = became;
    assert.deepEqual(others, {
      ...{
        'broken.svs': 'IMPORTED',
        'coarse.svs': 'SLIDE_TOO_COARSE',
        'empty.svs': 'NO_TISSUE',
        'good.svs': 'IMPORTED',
        'lies.svs': 'SLIDE_UNREADABLE',
      },
      ...{ 'jpeg.svs': 'NOT_A_SLIDE', 'nanometres.svs': 'MICRONS_PER_PIXEL_UNKNOWN' },
      ...{ 'unlisted.svs': 'LEFT_OUT', 'unstated.svs': 'MICRONS_PER_PIXEL_UNKNOWN' },
      ...{ 'x/twin.svs': 'LEFT_OUT', 'y/twin.svs': 'LEFT_OUT' },
    });
    for (const issue of [short, loop, alone]) assert.ok(issue === 'NOT_A_SLIDE' || issue === 'SLIDE_UNREADABLE', issue);
    for (const { status, reason, patchCount } of slides) {
      assert.equal(status === 'IMPORTED', patchCount > 0);
      assert.equal(status === 'IMPORTED', reason === null);
    }
    // Of an empty slide one wants to see that it is empty.
    const empty = slides.find(({ path: file }) => file === 'empty.svs');
    assert.equal(empty?.tissueFraction, 0);
    assert.ok(empty.thumbnailSha256 !== null && empty.tissueMaskSha256 !== null);
    const list = (await runner.store.read(imported.report.issueList?.sha256 ?? '')).toString('utf8');
    assert.match(list, /nanometres\.svs,1,false,.*250 um\/px, which looks like nanometres/);
    assert.match(list, /NOT_A_SLIDE,jpeg\.svs,1,false,.*It is a JPEG/);
    // Tile 10 of 9 columns: the second of the second row, 256..511 across and down, four patches of 128 px.
    const broken = list.split('\r\n').filter((line) => line.startsWith('REGION_UNREADABLE,broken.svs'));
    assert.equal(broken.length, 4);
    assert.ok(broken.every((line) => /The patch at (256|384), (256|384) in pixels of level 0/.test(line)));
  });

  test('are refused before any is read, if the folder or the CSV is', async () => {
    const folder = await drawFolder('few', { 'S1.svs': slideOf(0, '0.5') });
    const empty = path.join(base, 'no-slides');
    await mkdir(empty);
    await writeFile(path.join(empty, 'a.png'), 'x');
    const csv = path.join(base, 'few.csv');
    const cases = [
      [empty, null, 'IMPORT_FOLDER_EMPTY', /no slides/],
      [folder, 'label\na\n', 'LABELS_CSV_INVALID', /column slide is missing/],
      [folder, 'slide,label\nS1,a\nS1,b\n', 'LABELS_CSV_INVALID', /line 2/],
      [folder, 'slide,mpp\nS1,fine\n', 'LABELS_CSV_INVALID', /not a positive number/],
      [folder, 'slide,split\nS1,fold 3\n', 'LABELS_CSV_INVALID', /not train, validation or test/],
    ] as const;
    for (const [from, text, code, message] of cases) {
      if (text !== null) await writeFile(csv, text);
      await assert.rejects(importFolder(from, { labelsCsvPath: text === null ? null : csv }), (error: unknown) => {
        assert.ok(error instanceof DomainError);
        assert.equal(error.code, code);
        assert.match(error.message, message);
        return true;
      });
    }
  });
});
