/**
 * Slides on the pages, in a real browser: an import with the form, the contact sheet, also of 500 slides, and one slide
 * with its patches.
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { appendFile, mkdir, rename, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';
import type { Page } from 'playwright-core';
import sharp from 'sharp';
import { z } from 'zod';
import { childEnvironment } from '../../src/env.ts';
import { openBrowser, type TestBrowser } from '../support/browser.ts';
import { at } from '../support/catalogue.ts';
import { openTestDatabase, type TestDatabase } from '../support/database.ts';
import { eventually } from '../support/eventually.ts';
import { startTestWorker, type TestWorker } from '../support/processes.ts';
import { startTestServer, type TestServer } from '../support/server.ts';
import { aperioDescription, drawSlide, type Paint, type Rgb } from '../support/slide-files.ts';

const exec = promisify(execFile);
const ROOT = path.resolve(import.meta.dirname, '../..');
/** Long enough for a busy machine. */
const DEADLINE_MS = 150_000;
/** If it names a folder, screenshots of the pages are saved there. */
const PICTURES = process.env['PARAFFIN_TEST_PICTURES'];
const [WIDTH, HEIGHT] = [1600, 1200];
const GLASS: Rgb = [242, 242, 242];

let database: TestDatabase;
let server: TestServer;
let worker: TestWorker;
let browser: TestBrowser;
let page: Page;

before(async () => {
  await exec(process.execPath, [path.join(ROOT, 'scripts/build-web.mjs')], { cwd: ROOT });
  database = await openTestDatabase();
  server = await startTestServer(database, { pagesDir: path.join(ROOT, 'web/dist') });
  worker = await startTestWorker({ databaseUrl: database.url, dataDir: server.folder, name: 'slides' });
  browser = await openBrowser();
  page = await browser.context.newPage();
  page.setDefaultTimeout(DEADLINE_MS);
  await page.goto(`${server.url}/sign-in`);
  await page.getByLabel('Key').fill(server.adminKey);
  await page.getByRole('main').getByRole('button', { name: 'Sign in' }).click();
  await page.getByRole('button', { name: 'Sign out' }).waitFor();
});
after(async () => {
  await browser.close();
  worker.signal('SIGTERM');
  await worker.gone;
  await server.close();
  await database.close();
});

/** @param radiusPx of one round piece of tissue in the middle; 0: an empty slide. */
const paintOf =
  (radiusPx: number): Paint =>
  (x, y) => {
    if ((x - WIDTH / 2) ** 2 + (y - HEIGHT / 2) ** 2 >= radiusPx ** 2) return GLASS;
    const isCell = (x % 23) ** 2 + (y % 29) ** 2 < 60 + x / 10;
    return isCell ? [110 + radiusPx / 20, 70, 140 + Math.floor(y / 30)] : [225, 150, 190];
  };

async function draw(file: string, radiusPx: number): Promise<void> {
  await drawSlide(file, {
    ...{ width: WIDTH, height: HEIGHT, downsamples: [1, 4], compression: 'JPEG', paint: paintOf(radiusPx) },
    description: aperioDescription(WIDTH, HEIGHT, 'AppMag = 20|MPP = 0.5'),
  });
}

async function createDataset(name: string): Promise<string> {
  const answer = await server.ask(
    'mutation ($name: String!) { createDataset(input: { name: $name, imageKind: WSI, synthetic: true }) { dataset { id } } }',
    { name },
  );
  return String(at(answer, 'data.createDataset.dataset.id'));
}

/** Pixels of a slide on the sheet that have the colour of the line around tissue. */
async function outlinePixels(slide: string): Promise<number> {
  const shot = await page.locator('.contacts figure', { hasText: slide }).locator('.view').screenshot();
  const { data, info } = await sharp(shot).removeAlpha().raw().toBuffer({ resolveWithObject: true });
  let found = 0;
  for (let pixel = 0; pixel < info.width * info.height; pixel += 1) {
    const [red = 0, green = 0, blue = 0] = data.subarray(pixel * 3, pixel * 3 + 3);
    if (red < 40 && green > 90 && green < 160 && blue > 30 && blue < 100) found += 1;
  }
  return found;
}

/** @returns what the command has printed. */
async function paraffin(...args: readonly string[]): Promise<string> {
  const env = childEnvironment({ PARAFFIN_URL: server.url, PARAFFIN_API_KEY: server.adminKey });
  return (await exec(process.execPath, [path.join(ROOT, 'src/cli/main.ts'), ...args], { env })).stdout;
}

async function picture(name: string): Promise<void> {
  if (PICTURES === undefined) return;
  await mkdir(PICTURES, { recursive: true });
  await page.screenshot({ path: path.join(PICTURES, `${name}.png`), fullPage: true });
}

test('a data manager brings in a folder of slides with the form, and sees the tissue of each, or why it was left out', async () => {
  const folder = path.join(server.folder, 'cohort');
  await mkdir(folder);
  await draw(path.join(folder, 'S1.svs'), 400);
  await draw(path.join(folder, 'S2.svs'), 550);
  await draw(path.join(folder, 'S3-empty.svs'), 0);
  await writeFile(path.join(folder, 'S4-text.svs'), 'not a slide');
  const datasetId = await createDataset('Slides by form');
  await page.goto(`${server.url}/new?what=importDatasetVersion&datasetId=${datasetId}`);
  await page.getByLabel('Layout', { exact: true }).waitFor();
  assert.equal(await page.getByLabel('Microns per pixel').count(), 0, 'other layouts have no such field');
  await page.getByLabel('Path *').fill(folder);
  await page.getByLabel('Layout', { exact: true }).selectOption('SLIDES');
  await page.getByLabel('Microns per pixel *').fill('0.5');
  await page.getByLabel('Patch size, px *').fill('128');
  await page.getByLabel('Overlap, px').fill('64');
  await page.getByLabel('Tissue share min').fill('0.75');
  await page.getByLabel('Patches per slide max').fill('20');
  await page
    .getByText('slides: { micronsPerPixel: 0.5, overlapPx: 64, patchesPerSlideMax: 20, tissueShareMin: 0.75 }')
    .waitFor();
  await page.getByRole('button', { name: 'Import images' }).click();
  await page.getByText('succeeded', { exact: true }).waitFor();

  // On the page of the run, and on that of the dataset.
  const sheet = page.getByRole('region', { name: 'Slides with their tissue' });
  await sheet.waitFor();
  await picture('slides-run');
  await page.goto(`${server.url}/datasets/slides-by-form`);
  await sheet.waitFor();
  const texts = await sheet.locator('figure').allInnerTexts();
  const facts = texts.map((text) => text.replaceAll(/\s+/g, ' ').trim());
  assert.match(facts[0] ?? '', /^S1\.svs 20 patches 2\d % tissue$/);
  assert.match(facts[1] ?? '', /^S2\.svs 20 patches (4[5-9]|50) % tissue$/);
  assert.match(facts[2] ?? '', /S3-empty\.svs left out 0 % tissue 0 % of the slide is tissue/);
  assert.match(facts[3] ?? '', /^no picture: tissue was not looked for S4-text\.svs left out \S+/);
  assert.equal(facts.length, 4);
  await eventually('every picture is loaded', async () => {
    const isLoaded: unknown = await page.evaluate(`(() => {
      const images = [...document.querySelectorAll('.contacts img')];
      return images.length === 6 && images.every((image) => image.naturalWidth > 0);
    })()`);
    return isLoaded === true ? true : undefined;
  });
  // 1,200 px of a slide are 150 on the sheet, so that the line around a circle of 400 px is 314 px long.
  const [ofFirst, ofSecond, ofEmpty] = [
    await outlinePixels('S1.svs'),
    await outlinePixels('S2.svs'),
    await outlinePixels('S3-empty.svs'),
  ];
  assert.ok(ofFirst > 100 && ofSecond > ofFirst, `${ofFirst}, ${ofSecond} pixels`);
  assert.equal(ofEmpty, 0);
  await picture('slides-dataset');

  await page.getByLabel('Status').selectOption('LEFT_OUT');
  await page.getByText('2 slides;').waitFor();
  await eventually('the others are gone', async () =>
    (await sheet.locator('figure').count()) === 2 ? true : undefined,
  );
});

test('the command line lists the slides of a version, and why some were left out', async () => {
  const table = await paraffin('slides', 'ls', 'slides-by-form');
  assert.match(table, /^slide +label +patches +tissue +size px +um\/px +left out because/);
  assert.match(table, /S2\.svs +- +20 +\d+ % +1600 x 1200 +0\.5/);
  assert.match(table, /S3-empty\.svs +- +0 +0 % +1600 x 1200 +0\.5 +0 % of the slide is tissue/);
  assert.equal(
    await paraffin('slides', 'ls', 'slides-by-form', '--status', 'left-out', '--quiet'),
    'S3-empty.svs\nS4-text.svs\n',
  );
  const [first] = z
    .array(z.looseObject({ path: z.string(), vendor: z.string(), levels: z.array(z.unknown()) }))
    .parse(JSON.parse(await paraffin('slides', 'ls', 'slides-by-form@1', '--search', 's1', '--json')));
  assert.deepEqual([first?.path, first?.vendor, first?.levels.length], ['S1.svs', 'aperio', 2]);
});

/** The mean difference of a tile, whose first pixel is at (left, top) of level 0, from what was drawn. */
async function differenceOf(tile: Buffer, radiusPx: number, left: number, top: number, downsample: number) {
  const { data, info } = await sharp(tile).raw().toBuffer({ resolveWithObject: true });
  const paint = paintOf(radiusPx);
  let sum = 0;
  for (let y = 0; y < info.height; y += 1)
    for (let x = 0; x < info.width; x += 1) {
      const mean = [0, 0, 0];
      for (let dy = 0; dy < downsample; dy += 1)
        for (let dx = 0; dx < downsample; dx += 1)
          for (const [channel, value] of paint(left + x * downsample + dx, top + y * downsample + dy).entries())
            mean[channel] = (mean[channel] ?? 0) + value / downsample ** 2;
      for (const [channel, value] of mean.entries())
        sum += Math.abs(value - (data[(y * info.width + x) * 3 + channel] ?? 0));
    }
  return { width: info.width, height: info.height, difference: sum / (info.width * info.height * 3) };
}

test('a slide is looked at tile by tile, with its tissue and its patches, for as long as its file is there', async () => {
  const answer = await server.ask(
    '{ dataset(slug: "slides-by-form") { latestVersion { id s1: slide(position: 0) { tilesUrl } s2: slide(position: 1) { tilesUrl } none: slide(position: 9) { path } p1: slidePatches(position: 0) { firstRow width height x y } p2: slidePatches(position: 1) { firstRow } } } }',
  );
  const version = at(answer, 'data.dataset.latestVersion');
  assert.equal(at(version, 'none'), null);
  const [x, y] = ['x', 'y'].map((axis) => z.array(z.number()).parse(at(version, `p1.${axis}`)));
  assert.ok(x !== undefined && y !== undefined);
  assert.deepEqual([x.length, y.length, at(version, 'p1.width'), at(version, 'p1.height')], [20, 20, 128, 128]);
  for (const [index, left] of x.entries())
    assert.ok(Math.hypot(left + 64 - WIDTH / 2, (y[index] ?? 0) + 64 - HEIGHT / 2) < 400, 'on the tissue');
  assert.deepEqual([at(version, 'p1.firstRow'), at(version, 'p2.firstRow')], [0, 20]);

  // Level 11 of the pyramid is level 0 of the slide, and level 9 has a quarter of its pixels along each axis.
  const ask = (address: string): Promise<Response> =>
    fetch(server.url + address, { headers: { authorization: `Bearer ${server.adminKey}` } });
  const tileAt = async (place: string): Promise<Buffer> => {
    const response = await ask(`${String(at(version, 's1.tilesUrl'))}/${place}.jpg`);
    assert.deepEqual([response.status, response.headers.get('content-type')], [200, 'image/jpeg'], place);
    return Buffer.from(await response.arrayBuffer());
  };
  const middle = await tileAt('11/1_1');
  assert.deepEqual(await tileAt('11/1_1'), middle);
  for (const [place, left, top, downsample, width, height] of [
    ['11/1_1', 512, 512, 1, 512, 512],
    ['11/3_2', 1536, 1024, 1, 64, 176],
    ['10/0_0', 0, 0, 2, 512, 512],
    ['9/0_0', 0, 0, 4, 400, 300],
  ] as const) {
    const { difference, ...size } = await differenceOf(await tileAt(place), 400, left, top, downsample);
    assert.deepEqual(size, { width, height }, place);
    // JPEG of the slide, and JPEG of the tile.
    assert.ok(difference < 6, `${place}: ${difference}`);
  }
  for (const place of ['11/4_0', '11/0_3', '12/0_0', 'x/0_0'])
    assert.equal((await ask(`${String(at(version, 's1.tilesUrl'))}/${place}.jpg`)).status, 404, place);
  assert.equal((await ask(`/versions/${String(at(version, 'id'))}/slides/9/tiles/0/0_0.jpg`)).status, 404);

  await page.goto(`${server.url}/datasets/slides-by-form`);
  await page.getByRole('link', { name: 'Look at S1.svs' }).click();
  await page.getByText('20 patches', { exact: true }).last().waitFor();
  await eventually(
    'the slide is drawn',
    async () => {
      const { data } = await sharp(await page.locator('.slide-frame').screenshot())
        .removeAlpha()
        .raw()
        .toBuffer({ resolveWithObject: true });
      let pink = 0;
      for (let at3 = 0; at3 < data.length; at3 += 3) if ((data[at3] ?? 0) - (data[at3 + 1] ?? 0) > 40) pink += 1;
      return pink > 10_000 ? true : undefined;
    },
    DEADLINE_MS,
  );
  await page.waitForLoadState('networkidle');
  await picture('slide');
  await page.getByLabel('darken what is not tissue').uncheck();
  await page.getByRole('button', { name: 'Zoom in' }).click();
  await page.getByText(/um for a pixel of the screen/).waitFor();
  await page.waitForLoadState('networkidle');
  await picture('slide-zoomed');

  await rename(path.join(server.folder, 'cohort/S2.svs'), path.join(server.folder, 'cohort/elsewhere.svs'));
  const gone = await ask(`${String(at(version, 's2.tilesUrl'))}/11/0_0.jpg`);
  assert.equal(gone.status, 404);
  const refusal: unknown = await gone.json();
  assert.equal(at(refusal, 'code'), 'SLIDE_UNAVAILABLE');
  assert.match(String(at(refusal, 'message')), /no longer where it was imported from/);
  await page.goto(`${server.url}/slides/${String(at(version, 'id'))}/1`);
  await page
    .getByRole('alert')
    .getByText(/no longer where it was imported from/)
    .waitFor();

  // Back again, and longer by a byte.
  await rename(path.join(server.folder, 'cohort/elsewhere.svs'), path.join(server.folder, 'cohort/S2.svs'));
  await appendFile(path.join(server.folder, 'cohort/S2.svs'), 'x');
  await eventually(
    'the server finds another file',
    async () => {
      const response = await ask(`${String(at(version, 's2.tilesUrl'))}/11/0_0.jpg`);
      const hasFound = response.status === 404 && /has changed since it was imported/.test(await response.text());
      return hasFound ? true : undefined;
    },
    DEADLINE_MS,
  );
});

test('what is missing for a colouring is named, with the form that launches it', async () => {
  const version = await server.ask('{ dataset(slug: "slides-by-form") { latestVersion { id } } }');
  const id = String(at(version, 'data.dataset.latestVersion.id'));
  await page.goto(`${server.url}/slides/${id}/0`);
  const legend = page.getByRole('list', { name: 'Legend' });
  await legend.getByText('without a label').waitFor();
  const colourBy = page.getByLabel('Colour by');
  await colourBy.selectOption('label');
  await page.getByText(/The patches of this slide have no labels/).waitFor();
  await colourBy.selectOption('score');
  await page.getByText(/No evaluation of this version can be made, because its patches have no labels/).waitFor();
  assert.equal(await legend.count(), 0);
  await colourBy.selectOption('similarity');
  await page.getByText('This version has no embeddings yet.').waitFor();
  assert.match(page.url(), /\/slides\/[^/]+\/0\?colour=similarity$/);
  await page.getByRole('link', { name: 'Launch an embedding' }).click();
  await page.getByRole('heading', { name: /^Embed/ }).waitFor();
  assert.equal(await page.getByLabel('Dataset version *').inputValue(), id);
});

test('500 slides are a sheet of a few, which fetches the others as one scrolls', async () => {
  const datasetId = await createDataset('Many slides');
  const sha = (text: string): string => createHash('sha256').update(text).digest('hex');
  const view = { width: 120, height: 90, channels: 3, background: '#e0a0c0' } as const;
  const thumbnail = await server.store.put(await sharp({ create: view }).webp().toBuffer());
  const mask = await server.store.put(await sharp({ create: view }).toColourspace('b-w').threshold(1).png().toBuffer());
  const shard = { sha256: sha('shard'), byteSize: 1, imageCount: 500 };
  const count = 500;
  const { datasets } = server.services;
  await database.transact(async (tx) => {
    const draft = await datasets.createDraftVersion(tx, { datasetId, patchSizePx: 128 });
    await datasets.sealVersion(tx, {
      ...{
        versionId: draft.id,
        digest: sha('digest'),
        manifestSha256: sha('manifest'),
        imageCount: count,
        byteSize: 1,
      },
      ...{ labelNames: [], labelCounts: [], groupCount: 0, ungroupedImageCount: count, hasSplit: false, issues: [] },
      ...{ shards: [shard], thumbnails: [] },
      slides: Array.from({ length: count }, (_, index) => ({
        ...{ path: `slide ${index + 1}.svs`, status: 'IMPORTED', issueKind: null, reason: null, patchCount: 1 },
        ...{ file: null, label: null, group: null, split: null, facts: null },
        tissue: { tissueFraction: 1, penFraction: 0, thumbnail, mask },
      })),
      artifacts: [
        { ...thumbnail, mediaType: 'image/webp' },
        { ...mask, mediaType: 'image/png' },
        { sha256: shard.sha256, byteSize: 1, mediaType: 'application/x-tar' },
        { sha256: sha('manifest'), byteSize: 1, mediaType: 'application/vnd.apache.parquet' },
      ],
    });
  });
  await page.goto(`${server.url}/datasets/many-slides`);
  await page.getByText('500 slides;').waitFor();
  const sheet = page.getByRole('region', { name: 'Slides with their tissue' });
  await sheet.getByText('slide 1.svs', { exact: true }).waitFor();
  let most = 0;
  await eventually(
    'the last slide is seen',
    async () => {
      await page.evaluate('void document.querySelector(".contacts").scrollTo(0, 1e6)');
      most = Math.max(most, await sheet.locator('figure').count());
      return (await sheet.getByText('slide 500.svs', { exact: true }).count()) === 1 ? true : undefined;
    },
    DEADLINE_MS,
  );
  assert.ok(most > 0 && most < 100, `${most} slides in the document`);
  await picture('slides-many');
});
