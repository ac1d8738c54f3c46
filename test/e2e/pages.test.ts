/** The pages in a real browser, over a real server with a real worker: what a person can do, and that everybody can. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdir, readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import path from 'node:path';
import { after, afterEach, before, describe, test } from 'node:test';
import { promisify } from 'node:util';
import type { Page } from 'playwright-core';
import { drawTissue } from '../../src/cli/tissue.ts';
import { openBrowser, type TestBrowser } from '../support/browser.ts';
import { at } from '../support/catalogue.ts';
import { openTestDatabase, type TestDatabase } from '../support/database.ts';
import { startTestWorker, type TestWorker } from '../support/processes.ts';
import { startTestServer, type TestServer } from '../support/server.ts';

const ROOT = path.resolve(import.meta.dirname, '../..');
const AXE = createRequire(import.meta.url).resolve('axe-core/axe.min.js');
/** For a machine that does much else. */
const DEADLINE_MS = 60_000;
/** Set to a folder, the pages are kept as pictures there. */
const PICTURES = process.env['PARAFFIN_TEST_PICTURES'];

let database: TestDatabase;
let server: TestServer;
let worker: TestWorker;
let browser: TestBrowser;
let page: Page;
/** Addresses of what the story made. */
const made = { run: '', evaluation: '' };
/** What the browser complained of: scripts that broke, and what the content policy stopped. */
const complaints: string[] = [];
const strangers: string[] = [];

before(async () => {
  await promisify(execFile)(process.execPath, [path.join(ROOT, 'scripts/build-web.mjs')], { cwd: ROOT });
  database = await openTestDatabase();
  server = await startTestServer(database, { pagesDir: path.join(ROOT, 'web/dist') });
  await drawTissue({ outDir: path.join(server.folder, 'tissue'), imagesPerLabel: 6, imageSizePx: 64, seed: 3, groups: 3 });
  worker = await startTestWorker({ databaseUrl: database.url, dataDir: server.folder, name: 'pages' });
  browser = await openBrowser();
  page = await browser.context.newPage();
  page.setDefaultTimeout(DEADLINE_MS);
  page.on('pageerror', (error) => complaints.push(error.message));
  page.on('console', (message) => void (message.type() === 'error' && /Content Security Policy|Uncaught/.test(message.text()) && complaints.push(message.text())));
  page.on('request', (request) => void (/^https?:/.test(request.url()) && !request.url().startsWith(server.url) && strangers.push(request.url())));
});
after(async () => {
  await browser.close();
  worker.signal('SIGTERM');
  await worker.gone;
  await server.close();
  await database.close();
});

afterEach(async ({ name }) => {
  if (PICTURES !== undefined) await page.screenshot({ path: path.join(PICTURES, `after-${name.replaceAll(/\W+/g, '-').slice(0, 40)}.png`) });
});

/** The address of the page without the server. */
function here(): string {
  return page.url().slice(server.url.length);
}

describe('a person at the browser', () => {
  test('finds a dataset by facets and by typing, and the address says what is set', async () => {
    await page.goto(server.url);
    await page.getByText('57 datasets').waitFor();
    await page.getByRole('group', { name: 'Organ' }).getByLabel(/^breast/).check();
    await page.getByText('25 datasets').waitFor();
    await page.getByRole('searchbox').fill('bach');
    await page.getByText('1 dataset', { exact: true }).waitFor();
    assert.deepEqual(Object.fromEntries(new URL(page.url()).searchParams), { q: 'bach', organ: 'BREAST' });
    await page.reload();
    await page.getByText('1 dataset', { exact: true }).waitFor();
    await page.getByRole('link', { name: /^BACH/ }).click();
    await page.getByRole('heading', { level: 1, name: /BACH/ }).waitFor();
    await page.getByText('whether it is a row of its list is not known').waitFor();
  });

  test('signs in: a wrong key is refused with what to do, the right one is kept for the tab alone', async () => {
    await page.goto(`${server.url}/sign-in`);
    await page.getByLabel('Key').fill('pfn_wrong');
    await page.getByRole('main').getByRole('button', { name: 'Sign in' }).click();
    await page.getByRole('alert').waitFor();
    await page.getByLabel('Key').fill(server.adminKey);
    await page.getByRole('main').getByRole('button', { name: 'Sign in' }).click();
    await page.getByRole('button', { name: 'Sign out' }).waitFor();
    assert.equal(await page.evaluate('JSON.stringify(localStorage).includes("pfn_")'), false);
  });

  test('makes a dataset by the form, which shows what it sends; a refusal stands at its field', async () => {
    await page.goto(`${server.url}/new?what=createDataset`);
    await page.getByLabel('name *').fill('Page tissue');
    await page.getByLabel('synthetic').selectOption('true');
    await page.getByLabel('organs', { exact: true }).fill('no such organ');
    await page.getByRole('button', { name: 'New dataset' }).click();
    await page.getByRole('alert').waitFor();
    await page.getByLabel('organs', { exact: true }).fill('breast');
    await page.getByText('organs: ["breast"]').waitFor();
    await page.getByRole('button', { name: 'New dataset' }).click();
    await page.getByRole('heading', { level: 1, name: 'Page tissue' }).waitFor();
  });

  test('imports images, and sees the sealed version with its classes and pictures', async () => {
    await page.getByRole('link', { name: 'Import images' }).click();
    await page.getByLabel('path *').fill(path.join(server.folder, 'tissue'));
    await page.getByLabel('layout', { exact: true }).selectOption('CSV');
    await page.getByLabel('labelsCsvPath').fill(path.join(server.folder, 'tissue/labels.csv'));
    await page.getByRole('button', { name: 'Import images' }).click();
    await page.getByText('succeeded', { exact: true }).waitFor();
    await page.getByRole('main').getByRole('link', { name: /Page tissue/ }).first().click();
    await page.getByRole('heading', { name: /Images .* in version 1/ }).waitFor();
    await page.getByRole('heading', { name: 'Classes' }).waitFor();
  });

  test('launches a small pretraining and watches it live to its checkpoint', async () => {
    await page.getByRole('link', { name: 'Pretrain on it' }).click();
    await page.getByLabel('modelSlug *').fill('page-encoder');
    await page.getByLabel('imageSizePx', { exact: true }).fill('32');
    await page.getByLabel('batchSize', { exact: true }).fill('8');
    await page.getByLabel('steps', { exact: true }).fill('4');
    await page.getByRole('button', { name: 'Pretrain' }).click();
    await page.getByRole('heading', { name: 'Loss' }).waitFor();
    await page.getByText('succeeded', { exact: true }).waitFor();
    made.run = here();
    await page.getByRole('main').getByRole('link', { name: /page-encoder/ }).first().click();
    await page.getByRole('heading', { level: 1, name: /page-encoder/ }).waitFor();
  });

  test('evaluates it, and reads the leaderboard down to the confusion matrix', async () => {
    await page.getByRole('link', { name: 'Evaluate it' }).click();
    await page.getByLabel('datasetVersionId *').selectOption({ index: 1 });
    await page.getByLabel('folds', { exact: true }).fill('3');
    await page.getByText(/^More: /).click();
    await page.getByLabel('options', { exact: true }).fill('{ "bootstrapResamples": 100 }');
    await page.getByRole('button', { name: 'Evaluate' }).click();
    await page.getByText('succeeded', { exact: true }).waitFor();
    await page.getByRole('navigation', { name: 'Pages' }).getByRole('link', { name: 'Leaderboard' }).click();
    await page.getByText('saw these images').waitFor();
    await page.getByRole('link', { name: /^macroF1 .*: open the evaluation/ }).click();
    await page.getByRole('heading', { name: /Confusion matrix/ }).waitFor();
    made.evaluation = here();
  });

  test('downloads the weights and finds them to be what the page says', async () => {
    await page.goto(`${server.url}/models/page-encoder`);
    const coming = page.waitForEvent('download');
    await page.getByRole('link', { name: 'safetensors', exact: true }).click();
    const download = await coming;
    const asked = await server.ask('{ model(slug: "page-encoder") { checkpoints { nodes { sha256 } } } }');
    const bytes = await readFile(await download.path());
    assert.equal(createHash('sha256').update(bytes).digest('hex'), at(asked, 'data.model.checkpoints.nodes.0.sha256'));
    assert.match(download.suggestedFilename(), /^page-encoder-v1-resnet18\.safetensors$/);
  });

  test('a cancel from elsewhere is seen without a reload', async () => {
    const asked = await server.ask('{ dataset(slug: "page-tissue") { latestVersion { id } } }');
    const launched = await server.ask('mutation ($input: LaunchPretrainingInput!) { launchPretraining(input: $input) { run { id } } }', { input: { modelSlug: 'page-encoder', datasets: [{ datasetVersionId: at(asked, 'data.dataset.latestVersion.id') }], steps: 50_000, imageSizePx: 32, batchSize: 8 } });
    const id = String(at(launched, 'data.launchPretraining.run.id'));
    await page.goto(`${server.url}/runs/${id}`);
    await page.getByRole('button', { name: 'Cancel' }).waitFor();
    await server.ask('mutation ($id: ID!) { cancelRun(id: $id) { run { status } } }', { id });
    await page.getByText('canceled', { exact: true }).waitFor();
  });

  test('as ADMIN reads the audit log, and has its hashes computed anew', async () => {
    await page.getByRole('navigation', { name: 'Pages' }).getByRole('link', { name: 'Audit' }).click();
    await page.getByText('Mutation.launchPretraining').first().waitFor();
    await page.getByRole('button', { name: 'Compute every hash anew' }).click();
    await page.getByText('whole', { exact: true }).waitFor();
    await page.getByLabel('Outcome').selectOption('REJECTED');
    await page.getByText('BAD_INPUT').first().waitFor();
    assert.equal(here(), '/audit?outcome=REJECTED');
  });
});

describe('each page', () => {
  const places = (): readonly (readonly [name: string, address: string])[] => [
    ['datasets', '/datasets'], ['cards', '/datasets?view=cards&images=yes'], ['dataset', '/datasets/page-tissue'], ['bach', '/datasets/bach'], ['models', '/models'], ['model', '/models/page-encoder'], ['runs', '/runs'], ['run', made.run],
    ['leaderboard', '/leaderboard'], ['evaluation', made.evaluation], ['new', '/new'], ['import', '/new?what=importDatasetVersion'], ['keys', '/keys'], ['audit', '/audit'], ['sign-in', '/sign-in'],
  ];

  for (const [width, colours] of [[1280, 'light'], [390, 'dark']] as const) {
    test(`at ${width} px, ${colours}: axe finds nothing serious, and nothing hangs over the edge`, async () => {
      // Run by the debugger, as the page itself may run no such script.
      const axe = await readFile(AXE, 'utf8');
      await page.setViewportSize({ width, height: 900 });
      await page.emulateMedia({ colorScheme: colours });
      for (const [name, place] of places()) {
        await page.goto(server.url + place);
        await page.locator('main h1, main .empty').first().waitFor();
        if (PICTURES !== undefined) {
          await page.waitForLoadState('networkidle');
          await mkdir(PICTURES, { recursive: true });
          await page.screenshot({ path: path.join(PICTURES, `${name}-${width}-${colours}.png`), fullPage: true });
        }
        await page.evaluate(axe);
        const found = await page.evaluate(`(async () => {
          const { violations } = await axe.run(document, { resultTypes: ['violations'] });
          return violations.filter(({ impact }) => impact === 'serious' || impact === 'critical').map(({ id, nodes }) => id + ': ' + nodes.slice(0, 3).map((node) => node.target.join(' ')).join(', '));
        })()`);
        assert.deepEqual(found, [], `${place} at ${width} px`);
        assert.equal(await page.evaluate('document.documentElement.scrollWidth > innerWidth'), false, `${place} at ${width} px scrolls sideways`);
      }
    });
  }

  test('loads nothing from elsewhere, and breaks no rule of its policy', () => {
    assert.deepEqual(strangers, []);
    assert.deepEqual(complaints, []);
  });
});
