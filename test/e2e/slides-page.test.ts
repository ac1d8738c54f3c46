/**
 * Slides on the pages, in a real browser: an import with the form, the contact sheet, also of 500 slides, and the whole
 * way from a folder of slides to a heat map.
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { appendFile, mkdir, readdir, readFile, rename, writeFile } from 'node:fs/promises';
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

/** Launches a run by the API. @returns when it has succeeded. */
async function runToItsEnd(mutation: string, input: object): Promise<void> {
  const type = `${mutation.charAt(0).toUpperCase()}${mutation.slice(1)}Input`;
  const launched = await server.ask(
    `mutation ($input: ${type}!) { ${mutation}(input: $input) { run { id } userErrors { message } } }`,
    { input },
  );
  const id = at(launched, `data.${mutation}.run.id`);
  assert.ok(typeof id === 'string', JSON.stringify(launched));
  await eventually(
    `the end of ${mutation}`,
    async () => {
      const { status, failureMessage } = await database.db.run.findUniqueOrThrow({ where: { id } });
      assert.notEqual(status, 'FAILED', failureMessage ?? '');
      return status === 'SUCCEEDED' ? true : undefined;
    },
    DEADLINE_MS,
  );
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
  // The versions arrive after the form.
  await eventually('the version to be chosen', async () =>
    (await page.getByLabel('Dataset version *').inputValue()) === id ? true : undefined,
  );
});

/** Dense dark cells in the left half, few pale ones in the right; each patient is stained a little differently. */
const cohortPaint =
  (patient: number): Paint =>
  (x, y) => {
    if (x < 80 || y < 80 || x >= 1200 || y >= 880) return GLASS;
    const isTumour = x < 640;
    const isCell = isTumour
      ? (x % 13) ** 2 + (y % 11) ** 2 < 60 + (x % 64) / 4
      : (x % 41) ** 2 + (y % 37) ** 2 < 70 + (y % 64) / 4;
    return isCell ? [isTumour ? 70 : 120, 50 + 6 * patient, 130 + (y % 32)] : [222, 140 + 5 * patient, 188];
  };

/** The mean lightness of what is drawn over the left and over the right half of the slide, 0..255. */
async function lightnessOfHalves(): Promise<readonly [left: number, right: number]> {
  const found: unknown = await page.evaluate(`(() => {
    const { width, height } = document.querySelector('.slide-patches');
    const { data } = document.querySelector('.slide-patches').getContext('2d').getImageData(0, 0, width, height);
    const [sums, counts] = [[0, 0], [0, 0]];
    for (let at = 0; at < data.length; at += 4) {
      if (data[at + 3] < 100) continue;
      const half = (at / 4) % width < width / 2 ? 0 : 1;
      sums[half] += 0.299 * data[at] + 0.587 * data[at + 1] + 0.114 * data[at + 2];
      counts[half] += 1;
    }
    return sums.map((sum, half) => (counts[half] === 0 ? -1 : sum / counts[half]));
  })()`);
  const [left = -1, right = -1] = z.array(z.number()).parse(found);
  return [left, right];
}

test('a cohort becomes a version, an encoder, an evaluation by patient, features, and a heat map on its slides', async () => {
  const folder = path.join(server.folder, 'patients');
  const drawn = path.join(server.folder, 'drawn');
  await mkdir(folder);
  await mkdir(drawn);
  const outline = [80, 80, 640, 80, 640, 880, 80, 880, 80, 80];
  const region = {
    ...{ type: 'Feature', properties: { classification: { name: 'tumour' } } },
    geometry: {
      type: 'Polygon',
      coordinates: [Array.from({ length: 5 }, (_, corner) => outline.slice(2 * corner, 2 * corner + 2))],
    },
  };
  for (const patient of [1, 2, 3, 4]) {
    await drawSlide(path.join(folder, `P${patient}.svs`), {
      ...{ width: 1280, height: 960, downsamples: [1, 4], compression: 'JPEG', paint: cohortPaint(patient) },
      description: aperioDescription(1280, 960, 'AppMag = 20|MPP = 0.5'),
    });
    await writeFile(
      path.join(drawn, `P${patient}.geojson`),
      JSON.stringify({ type: 'FeatureCollection', features: [region] }),
    );
  }
  const csv = path.join(server.folder, 'patients.csv');
  await writeFile(csv, 'slide,patient\nP1,Anna\nP2,Bert\nP3,Clara\nP4,Dora\n');

  // The data manager's part: a form.
  const datasetId = await createDataset('Patients');
  await page.goto(`${server.url}/new?what=importDatasetVersion&datasetId=${datasetId}`);
  await page.getByLabel('Layout', { exact: true }).selectOption('SLIDES');
  assert.equal(await page.getByLabel('Label level').count(), 0, 'the API refuses it for slides');
  await page.getByLabel('Path *').fill(folder);
  await page.getByLabel('Labels CSV path').fill(csv);
  await page.getByLabel('Patch size, px *').fill('80');
  await page.getByLabel('Microns per pixel *').fill('0.5');
  await page.getByLabel('Patches per slide max').fill('60');
  await page.getByLabel('Stain normalisation').selectOption('REINHARD');
  const annotations = page.getByRole('group', { name: 'Annotations' });
  assert.equal(await annotations.getByLabel('Other label').count(), 0);
  await annotations.getByRole('checkbox', { name: 'Annotations' }).check();
  await annotations.getByLabel('Path', { exact: true }).fill(drawn);
  await annotations.getByLabel('Other label').fill('normal');
  await picture('slides-form');
  await page.getByRole('button', { name: 'Import images' }).click();
  await page.getByText('succeeded', { exact: true }).waitFor();
  await page.getByText('4 of 4 slides have annotations.').waitFor();

  const dataset = await server.ask(
    '{ dataset(slug: "patients") { latestVersion { id groupCount labelNames slidePatches(position: 2) { firstRow x y labelNames labels } } } }',
  );
  const version = at(dataset, 'data.dataset.latestVersion');
  const versionId = String(at(version, 'id'));
  assert.deepEqual([at(version, 'groupCount'), at(version, 'labelNames')], [4, ['normal', 'tumour']]);
  const places = z
    .object({
      ...{ firstRow: z.number(), x: z.array(z.number()), y: z.array(z.number()) },
      ...{ labelNames: z.array(z.string()), labels: z.array(z.number().nullable()) },
    })
    .parse(at(version, 'slidePatches'));
  for (const [patch, x] of places.x.entries())
    assert.equal(places.labelNames[places.labels[patch] ?? -1], x < 640 ? 'tumour' : 'normal');

  const small = { imageSizePx: 32, batchSize: 8, encoder: 'RESNET18', precision: 'FLOAT32' };
  await runToItsEnd('launchPretraining', {
    ...{ modelSlug: 'patients', datasets: [{ datasetVersionId: versionId }], steps: 2, probe: { enabled: false } },
    ...small,
  });
  const { id: checkpointId } = await database.db.checkpoint.findFirstOrThrow({
    where: { model: { slug: 'patients' } },
    orderBy: { id: 'desc' },
  });
  await runToItsEnd('launchEvaluation', {
    ...{ checkpointId, datasetVersionId: versionId, folds: 2, seed: 1, options: { bootstrapResamples: 100 } },
  });

  // What the pages are given is what the evaluation has stored.
  const evaluated = await server.ask(
    'query ($id: ID!) { evaluations(filter: { datasetVersionId: $id }) { nodes { id predictionsUrl slidePredictions(position: 2) { labelNames label predicted scores } none: slidePredictions(position: 9) { label } } } }',
    { id: versionId },
  );
  const evaluation = at(evaluated, 'data.evaluations.nodes.0');
  const stored = await fetch(server.url + String(at(evaluation, 'predictionsUrl')), {
    headers: { authorization: `Bearer ${server.adminKey}` },
  });
  const lineSchema = z.object({ key: z.string(), predicted: z.string(), probabilities: z.array(z.number()) });
  const ofKey = new Map(
    (await stored.text())
      .trimEnd()
      .split('\n')
      .map((line) => lineSchema.parse(JSON.parse(line)))
      .map((line) => [Number(line.key), line]),
  );
  const expected = places.x.map((_, patch) => ofKey.get(places.firstRow + patch));
  const predictions = at(evaluation, 'slidePredictions');
  assert.deepEqual(
    [at(predictions, 'labelNames'), at(predictions, 'label'), at(evaluation, 'none')],
    [['normal', 'tumour'], 'tumour', null],
  );
  assert.deepEqual(
    at(predictions, 'predicted'),
    expected.map((line) => ['normal', 'tumour'].indexOf(line?.predicted ?? '')),
  );
  for (const [patch, score] of z.array(z.number()).parse(at(predictions, 'scores')).entries())
    assert.ok(Math.abs(score - (expected[patch]?.probabilities[1] ?? NaN)) <= 5e-5);
  const unknown = await server.ask(
    'query ($id: ID!) { evaluation(id: $id) { slidePredictions(position: 2, label: "stroma") { label } } }',
    { id: at(evaluation, 'id') },
  );
  assert.equal(at(unknown, 'errors.0.extensions.code'), 'BAD_INPUT');

  // For a user of multiple-instance learning: the evaluation has computed the embeddings.
  const out = path.join(server.folder, 'features');
  await paraffin('embed', 'patients', '--data', 'patients', '--out', out);
  assert.deepEqual((await readdir(out)).sort(), ['P1.h5', 'P2.h5', 'P3.h5', 'P4.h5', 'features.json']);
  const corners = BigInt64Array.from(places.x.flatMap((x, patch) => [BigInt(x), BigInt(places.y[patch] ?? -1)]));
  assert.ok((await readFile(path.join(out, 'P3.h5'))).includes(Buffer.from(corners.buffer)));

  await page.goto(`${server.url}/slides/${versionId}/2`);
  await page.getByRole('list', { name: 'Legend' }).getByText('tumour').waitFor();
  await page.waitForLoadState('networkidle');
  await picture('slide-labels');
  // By keyboard alone.
  const colourBy = page.getByLabel('Colour by');
  await colourBy.focus();
  for (const name of ['predicted label', 'score of an evaluation']) {
    await page.keyboard.press('ArrowDown');
    assert.equal(await colourBy.locator('option:checked').innerText(), name);
  }
  const scale = page.getByRole('group', { name: 'Legend' });
  await scale.getByText('score of tumour').waitFor();
  await eventually(
    'the tumour is lighter than the rest',
    async () => {
      const [left, right] = await lightnessOfHalves();
      return right >= 0 && left > right + 40 ? true : undefined;
    },
    DEADLINE_MS,
  );
  await picture('slide-heat-map');
  await page.getByLabel('Score of').selectOption('normal');
  await scale.getByText('score of normal').waitFor();
  await eventually(
    'the other label is the other way round',
    async () => {
      const [left, right] = await lightnessOfHalves();
      return left >= 0 && right > left + 40 ? true : undefined;
    },
    DEADLINE_MS,
  );

  await colourBy.selectOption('similarity');
  await page.getByText('Click on a patch, or type its number').waitFor();
  await page.getByLabel('Patch', { exact: true }).fill('3');
  await scale.getByText('cosine similarity').waitFor();
  await page.getByText(/^Patch 3 of \d+, .*cosine similarity 1$/).waitFor();
  await picture('slide-similarity');
  const box = await page.locator('.slide-frame').boundingBox();
  assert.ok(box !== null);
  const zoom = Math.min(box.width / 1280, box.height / 960);
  const [x = 0, y = 0] = [places.x[7], places.y[7]];
  await page.mouse.click(box.x + box.width / 2 + (x + 40 - 640) * zoom, box.y + box.height / 2 + (y + 40 - 480) * zoom);
  await page.getByText(/^Patch 8 of \d+, .*cosine similarity 1$/).waitFor();
  const address = page.url();
  assert.match(address, /colour=similarity/);
  assert.match(address, /patch=8/);
  await page.reload();
  await page.getByText(/^Patch 8 of \d+, .*cosine similarity 1$/).waitFor();
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
