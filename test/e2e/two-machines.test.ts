/**
 * A pretraining and its evaluation, launched from the pages of one machine and carried by another, which has nothing in
 * common with it but HTTP.
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';
import type { Page } from 'playwright-core';
import { openBrowser, type TestBrowser } from '../support/browser.ts';
import { at } from '../support/catalogue.ts';
import { openTestDatabase, type TestDatabase } from '../support/database.ts';
import { importDrawnVersion } from '../support/drawn-version.ts';
import { newKey } from '../support/keys.ts';
import { startOtherMachine, type OtherMachine } from '../support/other-machine.ts';
import { openTestRegistry } from '../support/registry.ts';
import { startTestServer, type TestServer } from '../support/server.ts';
import { createTaskRunner } from '../support/task-runner.ts';

const ROOT = path.resolve(import.meta.dirname, '../..');
const WORKER = 'the other machine';
/** Long enough for a busy machine. */
const DEADLINE_MS = 240_000;

let database: TestDatabase;
let server: TestServer;
let machine: OtherMachine;
let browser: TestBrowser;
let page: Page;
let versionId = '';

before(async () => {
  await promisify(execFile)(process.execPath, [path.join(ROOT, 'scripts/build-web.mjs')], { cwd: ROOT });
  database = await openTestDatabase();
  server = await startTestServer(database, { pagesDir: path.join(ROOT, 'web/dist') });
  const registry = await openTestRegistry(database, [server.folder]);
  versionId = await importDrawnVersion(
    { database, registry, runner: await createTaskRunner(database, server.folder) },
    'drawn',
    6,
  );
  await registry.close();
  machine = await startOtherMachine({
    ...{ url: server.url, workerName: WORKER, serverFolder: server.folder, databaseUrl: database.url },
    key: await newKey(server, { role: 'OPERATOR', actions: ['WORK'] }),
  });
  browser = await openBrowser();
  page = await browser.context.newPage();
  page.setDefaultTimeout(DEADLINE_MS);
});
after(async () => {
  await browser.close();
  await machine.stop();
  await server.close();
  await database.close();
});

test('the other machine sees neither the files of the server nor its database, and no network', (context) => {
  if (!machine.isApart) {
    context.diagnostic('The kernel allows no namespaces here: only folders, home and variables are apart.');
    return;
  }
  assert.deepEqual(machine.view, { networkInterfaces: ['lo'], filesOfServer: [], reachesDatabase: false });
});

test('it carries a pretraining and its evaluation that are launched from the pages', async () => {
  await page.goto(`${server.url}/sign-in`);
  await page.getByLabel('Key').fill(server.adminKey);
  await page.getByRole('main').getByRole('button', { name: 'Sign in' }).click();
  await page.getByRole('button', { name: 'Sign out' }).waitFor();

  await page.goto(`${server.url}/new?what=launchPretraining&datasetVersionId=${versionId}`);
  await page.getByLabel('Model slug *').fill('far-away');
  await page.getByLabel('Image size, px', { exact: true }).fill('32');
  await page.getByLabel('Batch size', { exact: true }).fill('8');
  await page.getByLabel('Steps', { exact: true }).fill('4');
  await page.getByRole('button', { name: 'Pretrain' }).click();
  await page.getByRole('heading', { name: 'Loss' }).waitFor();
  await page.getByText('succeeded', { exact: true }).waitFor();

  await page.goto(`${server.url}/models/far-away`);
  await page.getByRole('link', { name: 'Evaluate it' }).click();
  await page.getByLabel('Dataset version *').selectOption({ index: 1 });
  await page.getByLabel('Folds', { exact: true }).fill('3');
  await page.getByText(/^More: /).click();
  await page.getByLabel('Options', { exact: true }).fill('{ "bootstrapResamples": 100 }');
  await page.getByRole('button', { name: 'Evaluate' }).click();
  await page.getByText('succeeded', { exact: true }).waitFor();

  const runs = await database.db.run.findMany({
    where: { kind: { in: ['PRETRAINING', 'EVALUATION'] } },
    orderBy: { queuedAt: 'asc' },
    select: { kind: true, status: true, attempt: true, workerName: true },
  });
  assert.deepEqual(
    runs,
    ['PRETRAINING', 'EVALUATION'].map((kind) => ({ kind, status: 'SUCCEEDED', attempt: 1, workerName: WORKER })),
  );
  const asked = await server.ask('{ model(slug: "far-away") { checkpoints { nodes { sha256 } } } }');
  const sha256 = String(at(asked, 'data.model.checkpoints.nodes.0.sha256'));
  assert.ok((await server.store.read(sha256)).length > 0, 'the weights came over HTTP, and are what their name says');
});
