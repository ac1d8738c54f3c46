/**
 * The pages in a real browser, with a real server and a real worker: what a user can do, and that the pages are
 * accessible.
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { appendFile, copyFile, mkdir, readFile, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { promisify } from 'node:util';
import type { Locator, Page } from 'playwright-core';
import { z } from 'zod';
import { drawTissue } from '../../src/synthetic/tissue.ts';
import { childEnvironment } from '../../src/env.ts';
import { createSenderReader } from '../../src/api/sender.ts';
import { createAccessService } from '../../src/modules/access/index.ts';
import { openBrowser, OTHER_MACHINE, type TestBrowser } from '../support/browser.ts';
import { at } from '../support/catalogue.ts';
import { openTestDatabase, type TestDatabase } from '../support/database.ts';
import { eventually } from '../support/eventually.ts';
import { startTestWorker, type TestWorker } from '../support/processes.ts';
import { startTestServer, type TestServer } from '../support/server.ts';

const exec = promisify(execFile);
const ROOT = path.resolve(import.meta.dirname, '../..');
const AXE = createRequire(import.meta.url).resolve('axe-core/axe.min.js');
/** Long enough for a busy machine. */
const DEADLINE_MS = 150_000;
/** If it names a folder, screenshots of the pages are saved there. */
const PICTURES = process.env['PARAFFIN_TEST_PICTURES'];

let database: TestDatabase;
let server: TestServer;
let worker: TestWorker;
let browser: TestBrowser;
let page: Page;
/** Addresses of the objects that the story created. */
const made = { run: '', canceled: '', failed: '', evaluation: '' };
/** All that pages keep in the browser: the chosen colours, and how far each page was scrolled. */
const KEPT = /^(paraffin-theme|tsr-scroll-restoration-.*)$/;
/** Errors that the browser reported: uncaught exceptions and violations of the content security policy. */
const browserErrors: string[] = [];
const foreignRequests: string[] = [];
/** The first step of the story that failed. */
let broken: string | undefined;

before(async () => {
  await exec(process.execPath, [path.join(ROOT, 'scripts/build-web.mjs')], { cwd: ROOT });
  database = await openTestDatabase();
  server = await startTestServer(database, { pagesDir: path.join(ROOT, 'web/dist') });
  await drawTissue({
    outDir: path.join(server.folder, 'tissue'),
    imagesPerLabel: 6,
    imageSizePx: 64,
    seed: 3,
    groups: 3,
  });
  await addDuplicate(path.join(server.folder, 'tissue'));
  worker = await startTestWorker({ databaseUrl: database.url, dataDir: server.folder, name: 'pages' });
  browser = await openBrowser();
  page = await openTab();
});
after(async () => {
  await browser.close();
  worker.signal('SIGTERM');
  await worker.gone;
  await server.close();
  await database.close();
});

/** The first image again, so that the import reports a duplicate. */
async function addDuplicate(folder: string): Promise<void> {
  const csvPath = path.join(folder, 'labels.csv');
  const [, first = ''] = (await readFile(csvPath, 'utf8')).split('\n');
  const [source = '', ...facts] = first.split(',');
  await copyFile(path.join(folder, source), path.join(folder, 'zz-once-more.jpg'));
  await appendFile(csvPath, `${['zz-once-more.jpg', ...facts].join(',')}\n`);
}

/** A tab of the one browser: signed in as soon as another of its tabs is. */
async function openTab(): Promise<Page> {
  const tab = await browser.context.newPage();
  tab.setDefaultTimeout(DEADLINE_MS);
  tab.on('pageerror', (error) => browserErrors.push(error.message));
  tab.on(
    'console',
    (message) =>
      void (
        message.type() === 'error' &&
        /Content Security Policy|Uncaught/.test(message.text()) &&
        browserErrors.push(message.text())
      ),
  );
  tab.on(
    'request',
    (request) =>
      void (
        /^https?:/.test(request.url()) &&
        !['127.0.0.1', OTHER_MACHINE].includes(new URL(request.url()).hostname) &&
        foreignRequests.push(request.url())
      ),
  );
  return tab;
}

/**
 * One step of a story. Each step builds on the one before, so after a failure the others fail at once instead of
 * waiting for their deadlines.
 */
function step(name: string, work: () => Promise<void>): void {
  test(name, async () => {
    assert.equal(broken, undefined, `Not run, because it follows "${broken}", which failed.`);
    try {
      await work();
    } catch (error) {
      broken = name;
      throw error;
    } finally {
      if (PICTURES !== undefined)
        await page.screenshot({ path: path.join(PICTURES, `after-${name.replaceAll(/\W+/g, '-').slice(0, 40)}.png`) });
    }
  });
}

/** No script of a page, its own or a foreign one, finds the key or the session's token in the browser. */
async function assertKeepsNoKey(tab: Page): Promise<void> {
  const kept = z
    .array(z.tuple([z.string(), z.string()]))
    .parse(await tab.evaluate('[...Object.entries(localStorage), ...Object.entries(sessionStorage)]'));
  for (const [name, value] of kept) {
    assert.match(name, KEPT);
    assert.ok(!value.includes('pfn_'), `${name}: ${value}`);
  }
  assert.equal(await tab.evaluate('document.cookie'), '');
  assert.deepEqual(await tab.evaluate('indexedDB.databases()'), []);
}

/** The address of the page without the server. */
function here(): string {
  return page.url().slice(server.url.length);
}

describe('a user of the pages', () => {
  step('reads on empty pages what is missing, and how to get it', async () => {
    const places = [
      ['/models?q=nothing', 'No model matches'],
      ['/runs', 'There are no runs yet'],
      ['/runs?status=FAILED', 'No run matches'],
      ['/leaderboard', 'No labelled images have been imported yet'],
      ['/datasets?q=nothing', 'No dataset matches'],
      ['/models/nothing', 'This model does not exist'],
      ['/nothing', 'This page does not exist'],
    ] as const;
    for (const [place, words] of places) {
      await page.goto(server.url + place);
      await page.getByText(words, { exact: true }).waitFor();
    }
  });

  step('finds a dataset by facets and by typing, and the address says what is set', async () => {
    await page.goto(server.url);
    await page.getByText('57 datasets').waitFor();
    await page
      .getByRole('group', { name: 'Organ' })
      .getByLabel(/^breast/)
      .check();
    await page.getByText('25 datasets').waitFor();
    await page.getByRole('searchbox').fill('bach');
    await page.getByText('1 dataset', { exact: true }).waitFor();
    assert.deepEqual(Object.fromEntries(new URL(page.url()).searchParams), { q: 'bach', organ: 'BREAST' });
    await page.reload();
    await page.getByText('1 dataset', { exact: true }).waitFor();
    await page.getByRole('link', { name: /^BACH/ }).click();
    await page.getByRole('heading', { level: 1, name: /BACH/ }).waitFor();
    await page.getByText('it is not known whether it is in the list').waitFor();
  });

  step('signs in: a wrong key is refused with what to do, the right one is exchanged for a session', async () => {
    await page.goto(`${server.url}/sign-in`);
    await page.getByLabel('Key').fill('pfn_wrong');
    await page.getByRole('main').getByRole('button', { name: 'Sign in' }).click();
    await page.getByRole('alert').waitFor();
    await page.getByLabel('Key').fill(server.adminKey);
    await page.getByRole('main').getByRole('button', { name: 'Sign in' }).click();
    await page.getByRole('button', { name: 'Sign out' }).waitFor();
    await assertKeepsNoKey(page);
  });

  step('creates a dataset with the form, which shows the request; a refusal is shown at its field', async () => {
    await page.goto(`${server.url}/new?what=createDataset`);
    await page.getByLabel('Name *').fill('Page tissue');
    await page.getByLabel('Synthetic').selectOption('true');
    await page.getByText(/^More: /).click();
    await page.getByLabel('Slug', { exact: true }).fill('No slug at all!');
    await page.getByRole('button', { name: 'New dataset' }).click();
    await page.getByRole('alert').waitFor();
    await page.locator('#field-slug[aria-invalid=true]').waitFor();
    await page.getByLabel('Slug', { exact: true }).fill('');
    await page.getByRole('group', { name: 'Organs' }).getByLabel('breast', { exact: true }).check();
    await page.getByRole('group', { name: 'Tasks' }).getByLabel('classification', { exact: true }).check();
    await page.getByRole('group', { name: 'Tasks' }).getByLabel('regression', { exact: true }).check();
    await page.getByRole('group', { name: 'Tasks' }).getByLabel('regression', { exact: true }).uncheck();
    await page.getByRole('group', { name: 'Citation' }).getByLabel('Title', { exact: true }).fill('On pages');
    await page.getByText('organs: ["BREAST"]').waitFor();
    await page.getByText('tasks: [CLASSIFICATION]').waitFor();
    await page.getByText('citation: { title: "On pages" }').waitFor();
    await page.getByRole('button', { name: 'New dataset' }).click();
    await page.getByRole('heading', { level: 1, name: 'Page tissue' }).waitFor();
  });

  step('imports images, and sees the sealed version with its classes and pictures', async () => {
    await page.getByRole('link', { name: 'Import images' }).click();
    await page.getByLabel('Path *').fill(path.join(server.folder, 'tissue'));
    await page.getByLabel('Layout', { exact: true }).selectOption('CSV');
    await page.getByLabel('Labels CSV path').fill(path.join(server.folder, 'tissue/labels.csv'));
    await page.getByRole('button', { name: 'Import images' }).click();
    await page.getByText('succeeded', { exact: true }).waitFor();
    await page
      .getByRole('main')
      .getByRole('link', { name: /Page tissue/ })
      .first()
      .click();
    await page.getByRole('heading', { name: /Images .* in version 1/ }).waitFor();
    await page.getByRole('heading', { name: 'Classes' }).waitFor();
  });

  step('reads the issues of an import, file by file with the reason, and downloads them as CSV', async () => {
    await page.getByRole('button', { name: 'Show each file with the reason' }).first().click();
    await page.getByText(/zz-once-more\.jpg: The same pixels as an earlier image.* See .+\.jpg\./).waitFor();
    const link = page.getByRole('link', { name: 'every file with its reason, as CSV' });
    const response = await fetch(server.url + String(await link.getAttribute('href')), {
      headers: { authorization: `Bearer ${server.adminKey}` },
    });
    assert.match(await response.text(), /^kind,path,count,kept,reason,relatedPath\r\n/);
  });

  step('launches a small pretraining and watches it live to its checkpoint', async () => {
    await page.getByRole('link', { name: 'Pretrain on it' }).click();
    await page.getByLabel('Model slug *').fill('page-encoder');
    await page.getByLabel('Image size, px', { exact: true }).fill('32');
    await page.getByLabel('Batch size', { exact: true }).fill('8');
    await page.getByLabel('Steps', { exact: true }).fill('4');
    await page.getByRole('button', { name: 'Pretrain' }).click();
    await page.getByRole('heading', { name: 'Loss' }).waitFor();
    await page.getByText('succeeded', { exact: true }).waitFor();
    made.run = here();
    await page
      .getByRole('main')
      .getByRole('link', { name: /page-encoder/ })
      .first()
      .click();
    await page.getByRole('heading', { level: 1, name: /page-encoder/ }).waitFor();
  });

  step('evaluates it, and reads the leaderboard down to the confusion matrix', async () => {
    await page.getByRole('link', { name: 'Evaluate it' }).click();
    await page.getByLabel('Dataset version *').selectOption({ index: 1 });
    await page.getByLabel('Folds', { exact: true }).fill('3');
    await page.getByText(/^More: /).click();
    await page.getByLabel('Options', { exact: true }).fill('{ "bootstrapResamples": 100 }');
    await page.getByRole('button', { name: 'Evaluate' }).click();
    await page.getByText('succeeded', { exact: true }).waitFor();
    await page.getByRole('navigation', { name: 'Pages' }).getByRole('link', { name: 'Leaderboard' }).click();
    await page.getByText('overlaps pretraining').waitFor();
    await page.getByRole('link', { name: /^macroF1 .*: open the evaluation/ }).click();
    await page.getByRole('heading', { name: /Confusion matrix/ }).waitFor();
    await page.getByRole('heading', { name: 'Leakage' }).waitFor();
    await page.getByRole('img', { name: 'The golden image' }).waitFor();
    made.evaluation = here();
  });

  step('sees which intervals are too narrow because patients are unknown', async () => {
    const { count } = await database.db.evaluation.updateMany({ data: { ungroupedImageCount: 24 } });
    assert.equal(count, 1);
    for (const address of ['/leaderboard', made.evaluation, '/models/page-encoder']) {
      await page.goto(server.url + address);
      await page.getByText('too narrow', { exact: true }).first().waitFor();
      await page.getByText('The patient or slide of 24 images is not known: the intervals are too narrow').waitFor();
      await page
        .getByRole('img', { name: /95 % interval 0\.\d+ to 0\.\d+, too narrow/ })
        .first()
        .waitFor();
    }
  });

  step('finds the board of an older version under its own name, and it is the one that opens', async () => {
    const older = await database.db.datasetVersion.findFirstOrThrow({ where: { evaluations: { some: {} } } });
    const { datasetId, labelNames } = older;
    const newer = await database.db.datasetVersion.create({
      data: { datasetId, version: older.version + 1, status: 'SEALED', labelNames, imageCount: 2 },
    });
    const name = `v${older.version}, linear probe`;
    for (const address of ['/leaderboard', `/leaderboard?version=${older.id}`]) {
      await page.goto(server.url + address);
      await page.getByRole('heading', { level: 2, name: new RegExp(`${name}$`) }).waitFor();
      assert.equal(await page.getByRole('combobox', { name: 'Version', exact: true }).inputValue(), older.id);
    }
    await page.getByRole('combobox', { name: 'Version', exact: true }).selectOption(newer.id);
    await page.getByText(`No encoder was evaluated on v${newer.version} by this protocol`).waitFor();
    await page.getByRole('link', { name: `v${older.version} by linear probe` }).click();
    await page.getByRole('heading', { level: 2, name: new RegExp(`${name}$`) }).waitFor();
    await database.db.datasetVersion.delete({ where: { id: newer.id } });
  });

  step('downloads the weights, which have the digest that the page shows', async () => {
    await page.goto(`${server.url}/models/page-encoder`);
    const coming = page.waitForEvent('download');
    await page.getByRole('link', { name: 'safetensors', exact: true }).click();
    const download = await coming;
    const asked = await server.ask('{ model(slug: "page-encoder") { checkpoints { nodes { sha256 } } } }');
    const bytes = await readFile(await download.path());
    assert.equal(createHash('sha256').update(bytes).digest('hex'), at(asked, 'data.model.checkpoints.nodes.0.sha256'));
    assert.match(download.suggestedFilename(), /^page-encoder-v1-resnet18\.safetensors$/);
  });

  step(
    'copies code that works: curl and TypeScript fetch the weights from this server, and the Python is Python',
    async () => {
      const codeFor = async (language: string): Promise<string> => {
        await page.getByRole('button', { name: language, exact: true }).click();
        return page.getByLabel(`${language} code`).innerText();
      };
      const asked = await server.ask('{ model(slug: "page-encoder") { checkpoints { nodes { sha256 } } } }');
      for (const [language, file, program] of [
        ['curl', 'use.sh', 'bash'],
        ['TypeScript', 'use.ts', process.execPath],
      ] as const) {
        const folder = path.join(server.folder, language);
        await mkdir(folder);
        await writeFile(path.join(folder, file), await codeFor(language));
        const { stdout } = await exec(program, [file], { cwd: folder, env: childEnvironment({}) });
        assert.match(stdout, language === 'curl' ? /^encoder\.safetensors: OK$/m : /imageSizePx: 32/);
        const bytes = await readFile(path.join(folder, 'encoder.safetensors'));
        assert.equal(
          createHash('sha256').update(bytes).digest('hex'),
          at(asked, 'data.model.checkpoints.nodes.0.sha256'),
        );
      }
      // "npm run compat" runs the whole code with PyTorch.
      await writeFile(path.join(server.folder, 'use.py'), await codeFor('Python'));
      await exec('python3', ['-m', 'py_compile', 'use.py'], { cwd: server.folder });
    },
  );

  step(
    'sees a cancel from elsewhere without a reload, resumes the run from its page, and watches it continue',
    async () => {
      const asked = await server.ask('{ dataset(slug: "page-tissue") { latestVersion { id } } }');
      const launched = await server.ask(
        'mutation ($input: LaunchPretrainingInput!) { launchPretraining(input: $input) { run { id } } }',
        {
          input: {
            modelSlug: 'page-encoder',
            datasets: [{ datasetVersionId: at(asked, 'data.dataset.latestVersion.id') }],
            steps: 50_000,
            imageSizePx: 32,
            batchSize: 8,
          },
        },
      );
      const id = String(at(launched, 'data.launchPretraining.run.id'));
      await page.goto(`${server.url}/runs/${id}`);
      await page.getByRole('heading', { name: 'Loss' }).waitFor();
      await server.ask('mutation ($id: ID!) { cancelRun(id: $id) { run { status } } }', { id });
      await page.getByText('canceled', { exact: true }).waitFor();
      await page.getByRole('button', { name: 'Resume' }).click();
      await page.getByText(/attempt 2/).waitFor();
      await page.getByRole('button', { name: 'Cancel' }).click();
      await page.getByText('canceled', { exact: true }).waitFor();
      made.canceled = here();
    },
  );

  step('sets two runs side by side, and sees where they differ', async () => {
    const other = made.run.replace('/runs/', '');
    await page.getByLabel('Run to compare with').fill(other);
    await page.getByRole('button', { name: 'Side by side' }).click();
    await page.getByRole('heading', { name: 'Two runs side by side' }).waitFor();
    await page.getByRole('row', { name: 'steps 50,000 4' }).waitFor();
    await page.getByRole('heading', { name: 'Loss' }).waitFor();
    assert.equal(here(), `${made.canceled}?beside=${other}`);
  });

  step('reads why a run failed, what caused it, and what to do', async () => {
    await mkdir(path.join(server.folder, 'letters'));
    await writeFile(path.join(server.folder, 'letters', 'letter.png'), 'no picture');
    const asked = await server.ask('{ dataset(slug: "page-tissue") { id } }');
    const launched = await server.ask(
      'mutation ($input: ImportDatasetVersionInput!) { importDatasetVersion(input: $input) { run { id } userErrors { code } } }',
      {
        input: {
          ...{ datasetId: at(asked, 'data.dataset.id'), path: path.join(server.folder, 'letters'), layout: 'FLAT' },
          accept: ['FEWER_THAN_BEFORE'],
        },
      },
    );
    made.failed = `/runs/${String(at(launched, 'data.importDatasetVersion.run.id'))}`;
    await page.goto(server.url + made.failed);
    const alert = page.getByRole('alert');
    await alert.getByText('Failed: No image in the folder can be used.').waitFor();
    await alert.getByText(/^What to do: .*letter\.png/).waitFor();
    await alert.getByText('Cause: the data').waitFor();
  });

  step('as ADMIN reads the audit log, and lets its hashes be recomputed', async () => {
    await page.getByRole('navigation', { name: 'Pages' }).getByRole('link', { name: 'Audit' }).click();
    await page.getByText('Mutation.launchPretraining').first().waitFor();
    await page.getByRole('button', { name: 'Verify all hashes' }).click();
    await page.getByText('valid', { exact: true }).waitFor();
    await page.getByLabel('Outcome').selectOption('REJECTED');
    await page.getByText('BAD_INPUT').first().waitFor();
    assert.equal(here(), '/audit?outcome=REJECTED');
  });
});

describe('without a mouse', () => {
  step('the skip link, facets, a row and a form are reached by Tab, and every focus is visible', async () => {
    await page.goto(`${server.url}/datasets`);
    await page.getByText('58 datasets').waitFor();
    await page.keyboard.press('Tab');
    assert.equal(await page.locator(':focus').innerText(), 'Skip to content');
    await page.keyboard.press('Enter');
    const breast = page.getByRole('group', { name: 'Organ' }).getByLabel(/^breast/);
    await tabTo(breast);
    await page.keyboard.press('Space');
    await page.getByText('26 datasets').waitFor();
    assert.equal(here(), '/datasets?organ=BREAST');
    await tabTo(page.getByRole('link', { name: /^BACH/ }));
    await page.keyboard.press('Enter');
    await page.getByRole('heading', { level: 1, name: /BACH/ }).waitFor();
    // The next Tab continues from the new page, not from the start of the document.
    assert.equal(await page.locator(':focus').getAttribute('id'), 'main');

    await page.goto(`${server.url}/new?what=createDataset`);
    await page.getByLabel('Name *').waitFor();
    await tabTo(page.getByLabel('Name *'));
    await page.keyboard.type('By keys alone');
    await page.keyboard.press('Enter');
    await page.getByRole('heading', { level: 1, name: 'By keys alone' }).waitFor();
  });
});

/** More Tab stops than any page should need. */
const STOPS_MAX = 90;

/** What is wrong with the focused element for a user who must see the focus. */
const UNSEEN = `(() => {
  const element = document.activeElement;
  const { outlineStyle, outlineWidth } = getComputedStyle(element);
  const { top, bottom, left, right } = element.getBoundingClientRect();
  if (element === document.body) return 'nothing has the focus';
  if (outlineStyle === 'none' || parseFloat(outlineWidth) === 0) return 'no outline: ' + element.outerHTML.slice(0, 90);
  return bottom <= 0 || right <= 0 || top >= innerHeight || left >= innerWidth ? 'out of sight: ' + element.outerHTML.slice(0, 90) : '';
})()`;

/** Presses Tab until the element has the focus. */
async function tabTo(wanted: Locator): Promise<void> {
  for (let stop = 0; stop < STOPS_MAX; stop += 1) {
    await page.keyboard.press('Tab');
    assert.equal(await page.evaluate(UNSEEN), '');
    if ((await wanted.and(page.locator(':focus')).count()) === 1) return;
  }
  assert.fail(`${String(wanted)} is not reached by ${STOPS_MAX} Tabs`);
}

describe('if reading needs a key', () => {
  step('a page says so, and after signing in the requested page opens', async () => {
    const access = createAccessService({ db: database.db, transact: database.transact, requireAuth: true });
    const locked = await startTestServer(database, { pagesDir: path.join(ROOT, 'web/dist'), access });
    const tab = await openTab();
    try {
      await tab.goto(`${locked.url}/datasets?organ=BREAST`);
      await tab.getByRole('link', { name: 'Sign in with a key' }).first().click();
      await tab.getByLabel('Key').fill(server.adminKey);
      await tab.getByLabel('Key').press('Enter');
      await tab.getByText('26 datasets').waitFor();
      assert.equal(tab.url(), `${locked.url}/datasets?organ=BREAST`);
    } finally {
      await tab.close();
      await locked.close();
    }
  });
});

describe('from another machine, over plain HTTP', () => {
  step(
    'pictures, live series and downloads come by the session, of which pages keep nothing; a sign-out ends it in every tab',
    async () => {
      const away = await startTestServer(database, {
        pagesDir: path.join(ROOT, 'web/dist'),
        senderOf: createSenderReader({ host: '0.0.0.0', trustedProxies: [] }),
        artifacts: server.store,
      });
      const url = away.url.replace('127.0.0.1', OTHER_MACHINE);
      const [tab, other] = [await openTab(), await openTab()];
      const statusOf = (address: string): Promise<unknown> =>
        tab.evaluate(`fetch(${JSON.stringify(address)}).then(({ status }) => status)`);
      const asked = await server.ask(
        '{ dataset(slug: "page-tissue") { latestVersion { thumbnails { url } } } model(slug: "page-encoder") { checkpoints { nodes { sha256 } } } }',
      );
      const thumbnail = String(at(asked, 'data.dataset.latestVersion.thumbnails.0.url'));
      try {
        await tab.goto(`${url}/datasets/page-tissue`);
        await tab.getByRole('link', { name: 'Sign in with a key' }).first().waitFor();
        assert.equal(await statusOf(thumbnail), 401);
        await tab.getByRole('link', { name: 'Sign in with a key' }).first().click();
        await tab.getByLabel('Key').fill(server.adminKey);
        await tab.getByLabel('Key').press('Enter');
        await tab.getByRole('heading', { level: 1, name: 'Page tissue' }).waitFor();
        assert.equal(await statusOf(thumbnail), 200);

        const pictures = tab.locator('main .thumbs img');
        await pictures.first().waitFor();
        assert.ok((await pictures.count()) > 3);
        // One that is out of sight is not asked for.
        for (const picture of await pictures.all()) await picture.scrollIntoViewIfNeeded();
        await eventually('every picture', async () =>
          (await tab.evaluate(
            `[...document.querySelectorAll('main .thumbs img')].every((image) => image.naturalWidth > 0)`,
          )) === true
            ? true
            : undefined,
        );
        await tab.goto(url + made.run);
        await tab.locator('main .chart').first().waitFor();
        await tab.goto(`${url}/models/page-encoder`);
        const coming = tab.waitForEvent('download');
        await tab.getByRole('link', { name: 'safetensors', exact: true }).click();
        const bytes = await readFile(await (await coming).path());
        assert.equal(
          createHash('sha256').update(bytes).digest('hex'),
          at(asked, 'data.model.checkpoints.nodes.0.sha256'),
        );

        await assertKeepsNoKey(tab);
        await other.goto(`${url}/keys`);
        await other.getByRole('region', { name: 'Sessions' }).waitFor();
        await tab.getByRole('button', { name: 'Sign out' }).click();
        for (const each of [tab, other])
          await each.getByRole('banner').getByRole('link', { name: 'Sign in', exact: true }).waitFor();
        assert.equal(await statusOf(thumbnail), 401);
      } finally {
        await tab.close();
        await other.close();
        await away.close();
      }
    },
  );
});

describe('each page', () => {
  /** The text that must be visible before a page is checked. */
  const places = (): readonly (readonly [name: string, address: string, content: string])[] => [
    ['datasets', '/datasets', 'main table, main .cards'],
    ['cards', '/datasets?view=cards&images=yes', 'main .card'],
    ['dataset', '/datasets/page-tissue', 'main .thumbs img'],
    ['bach', '/datasets/bach', '#known'],
    ['models', '/models', 'main table'],
    ['model', '/models/page-encoder', '#use'],
    ['runs', '/runs', '#all ~ * table'],
    ['run', made.run, 'main .chart'],
    ['failed', made.failed, 'main [role=alert]'],
    ['beside', `${made.canceled}?beside=${made.run.replace('/runs/', '')}`, '#differences'],
    ['leaderboard', '/leaderboard', 'main table'],
    ['evaluation', made.evaluation, 'main table'],
    ['new', '/new', 'main form'],
    ['import', '/new?what=importDatasetVersion', 'main form'],
    ['workers', '/workers', 'main table'],
    ['keys', '/keys', 'main table'],
    ['audit', '/audit', 'main table'],
    ['sign-in', '/sign-in', 'main form'],
    ['explorer', '/explorer', '.graphiql-query-editor .view-line'],
  ];
  const screens = [
    [1280, 'light'],
    [390, 'dark'],
  ] as const;

  step(
    `at ${screens.map((screen) => screen.join(' px, ')).join(' and ')}: axe finds nothing serious, and nothing hangs over the edge`,
    async () => {
      const axe = await readFile(AXE, 'utf8');
      if (PICTURES !== undefined) await mkdir(PICTURES, { recursive: true });
      const waiting = [...places()];
      const faults: string[] = [];
      const walk = async (): Promise<void> => {
        const tab = await openTab();
        for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) {
          const [name, place, content] = next;
          await tab.goto(server.url + place, { waitUntil: 'commit' });
          await tab.locator(content).first().waitFor();
          // Run by the debugger, because the page's content security policy forbids such a script.
          await tab.evaluate(axe);
          for (const [width, colours] of screens) {
            await tab.setViewportSize({ width, height: 900 });
            await tab.emulateMedia({ colorScheme: colours });
            await tab.locator(content).first().waitFor();
            if (PICTURES !== undefined) {
              await tab.waitForLoadState('networkidle');
              await tab.screenshot({ path: path.join(PICTURES, `${name}-${width}-${colours}.png`), fullPage: true });
            }
            for (const fault of await faultsOf(tab)) faults.push(`${place} at ${width} px: ${fault}`);
          }
        }
      };
      await Promise.all(Array.from({ length: TABS }, walk));
      assert.deepEqual(faults, []);
    },
  );

  step('loads nothing from other sites, and violates no rule of its content security policy', () => {
    assert.deepEqual(foreignRequests, []);
    assert.deepEqual(browserErrors, []);
    return Promise.resolve();
  });
});

/** Pages checked at once; the machine has two cores. */
const TABS = 3;

/**
 * Findings within GraphiQL's own frame: the list of its tabs, and the colours of its editor. All other rules apply
 * there too.
 */
const RULES_OF_GRAPHIQL = ['nested-interactive', 'color-contrast'];

/** The serious findings of axe on a page into which it was loaded, and whether the page is wider than its window. */
async function faultsOf(tab: Page): Promise<readonly string[]> {
  const found: unknown = await tab.evaluate(`(async () => {
    const { violations } = await axe.run(document, { resultTypes: ['violations'] });
    const isOurs = (id, { target: [place] }) => !${JSON.stringify(RULES_OF_GRAPHIQL)}.includes(id) || document.querySelector(place)?.closest('.graphiql-container') == null;
    const serious = violations.filter(({ impact }) => impact === 'serious' || impact === 'critical')
      .map(({ id, nodes }) => ({ id, nodes: nodes.filter((node) => isOurs(id, node)) })).filter(({ nodes }) => nodes.length > 0).map(({ id, nodes }) => id + ': ' + nodes.slice(0, 3).map((node) => node.target.join(' ')).join(', '));
    // An editor updates its layout some frames after its window has become narrower.
    const deadlineMs = performance.now() + 10_000;
    while (document.documentElement.scrollWidth > innerWidth && performance.now() < deadlineMs) await new Promise(requestAnimationFrame);
    return JSON.stringify(document.documentElement.scrollWidth > innerWidth ? [...serious, 'scrolls sideways'] : serious);
  })()`);
  return z.array(z.string()).parse(JSON.parse(String(found)));
}
