/** Every issue of an import is stored with its reason, and available page by page through the API and as one CSV. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';
import { parse } from 'csv-parse/sync';
import { z } from 'zod';
import { childEnvironment } from '../../src/env.ts';
import { importDatasetTask } from '../../workers/tasks/import-dataset.ts';
import { tissuePng } from '../fixtures/hostile-images.ts';
import { openTestDatabase, type TestDatabase } from '../support/database.ts';
import { startTestServer, type TestServer } from '../support/server.ts';
import { createTaskRunner, type LaunchedTask, type TaskRunner } from '../support/task-runner.ts';

const PROGRAM = path.resolve(import.meta.dirname, '../../src/cli/main.ts');
/** More than one page, with names so long that a page needs more than one read of the file. */
const BAD_COUNT = 450;
/** The bad files, a duplicate, a truncated file, and the missing groups. */
const ENTRY_COUNT = BAD_COUNT + 3;
const LONG = 'ü'.repeat(80);
const badName = (index: number): string => `bad, "${LONG}" ${String(index).padStart(4, '0')}.png`;

let database: TestDatabase;
let server: TestServer;
let runner: TaskRunner;
let folder = '';
let datasetId = '';
let versionId = '';

before(async () => {
  database = await openTestDatabase();
  server = await startTestServer(database);
  runner = await createTaskRunner(database, server.folder);
  folder = path.join(runner.base, 'images');
  await mkdir(folder);
  await writeFile(path.join(folder, 'a.png'), await tissuePng(64, 1));
  await writeFile(path.join(folder, 'b.png'), await tissuePng(64, 1));
  await writeFile(path.join(folder, 'c.png'), (await tissuePng(64, 2)).subarray(0, 900));
  for (let index = 0; index < BAD_COUNT; index += 1) await writeFile(path.join(folder, badName(index)), 'x');
  datasetId = (
    await database.db.dataset.create({
      data: { slug: 'issues', name: 'Issues', imageKind: 'PATCH', synthetic: true },
    })
  ).id;
  const run = await launch({});
  await run.execute();
  versionId = (await database.db.datasetVersion.findFirstOrThrow({ where: { importRunId: run.runId } })).id;
});

function launch(config: object): Promise<LaunchedTask> {
  return runner.launch(importDatasetTask, {
    ...{ datasetId, path: folder, layout: 'FLAT', labelsCsvPath: null, patchSizePx: null },
    importRoots: [runner.base],
    ...config,
  });
}

after(async () => {
  await server.close();
  await database.close();
});

const entrySchema = z.object({
  ...{ kind: z.string(), path: z.string(), count: z.number(), kept: z.boolean(), reason: z.string() },
  relatedPath: z.string().nullable(),
});
const answerSchema = z.object({
  data: z.object({
    node: z.object({
      issueListUrl: z.string().nullable(),
      issues: z.array(z.object({ kind: z.string(), count: z.number(), meaning: z.string().nullable() })),
      issueEntries: z.object({
        totalCount: z.number(),
        pageInfo: z.object({ hasNextPage: z.boolean(), endCursor: z.string().nullable() }),
        nodes: z.array(entrySchema),
      }),
    }),
  }),
});
const reportSchema = z.object({
  data: z.object({
    run: z.object({
      importReport: z.object({
        issueListUrl: z.string().nullable(),
        issueEntries: z.object({ totalCount: z.number(), nodes: z.array(entrySchema) }),
      }),
    }),
  }),
});
const REPORT_QUERY = `query ($id: ID!) { run(id: $id) { importReport { issueListUrl issueEntries(first: 5) {
  totalCount nodes { kind path count kept reason relatedPath } } } } }`;
const QUERY = `query ($id: ID!, $first: Int, $after: String, $kind: String) { node(id: $id) { ... on DatasetVersion {
  issueListUrl issues { kind count meaning } issueEntries(first: $first, after: $after, kind: $kind) {
    totalCount pageInfo { hasNextPage endCursor } nodes { kind path count kept reason relatedPath } } } } }`;

const ask = (variables: Record<string, unknown>) => server.ask(QUERY, { id: versionId, ...variables });

async function allEntries(kind: string | null, first: number): Promise<z.infer<typeof entrySchema>[]> {
  const entries: z.infer<typeof entrySchema>[] = [];
  for (let after: string | null = null, pages = 0; pages < 100; pages += 1) {
    const answer: unknown = await ask({ kind, first, after });
    const { issueEntries } = answerSchema.parse(answer).data.node;
    entries.push(...issueEntries.nodes);
    if (!issueEntries.pageInfo.hasNextPage) {
      assert.equal(issueEntries.totalCount, entries.length);
      return entries;
    }
    after = issueEntries.pageInfo.endCursor;
  }
  throw new Error('The pages do not end.');
}

test('every issue is listed once, in pages of any size, with its reason', async () => {
  const [small, large] = [await allEntries(null, 7), await allEntries(null, 200)];
  assert.deepEqual(small, large);
  assert.equal(large.length, ENTRY_COUNT);
  assert.ok(large.every(({ reason, count }) => reason.length > 10 && count === 1));
  assert.deepEqual(
    large.filter(({ kept }) => kept).map(({ kind }) => kind),
    ['NO_GROUPS'],
  );
  const bad = Array.from({ length: BAD_COUNT }, (_, index) => badName(index));
  assert.deepEqual(
    large.filter(({ kind }) => kind === 'NOT_AN_IMAGE').map((entry) => entry.path),
    bad,
  );
});

test('a single kind can be listed, and a duplicate names its original', async () => {
  assert.deepEqual(
    (await allEntries('DUPLICATE', 50)).map((entry) => [entry.path, entry.relatedPath]),
    [['b.png', 'a.png']],
  );
  assert.deepEqual(
    (await allEntries('TRUNCATED', 50)).map((entry) => entry.path),
    ['c.png'],
  );
  assert.deepEqual(await allEntries('NO_LABEL', 50), []);
});

test('the CSV contains the same, for any reader of RFC 4180', async () => {
  const { issueListUrl, issues } = answerSchema.parse(await ask({})).data.node;
  const response = await fetch(`${server.url}${issueListUrl ?? ''}`, {
    headers: { authorization: `Bearer ${server.adminKey}` },
  });
  assert.equal(response.headers.get('content-type'), 'text/csv; charset=utf-8');
  const rows: unknown = parse(await response.text(), { columns: true, cast: false });
  const entries = (await allEntries(null, 200)).map(({ count, kept, relatedPath, ...entry }) => ({
    ...entry,
    ...{ count: String(count), kept: String(kept), relatedPath: relatedPath ?? '' },
  }));
  assert.deepEqual(rows, entries);
  assert.deepEqual(
    issues.map(({ kind, count, meaning }) => [kind, count, meaning !== null]),
    [
      ['NOT_AN_IMAGE', BAD_COUNT, true],
      ['TRUNCATED', 1, true],
      ['DUPLICATE', 1, true],
      ['NO_GROUPS', 1, true],
    ],
  );
});

function paraffin(...args: readonly string[]): Promise<{ stdout: string; stderr: string }> {
  const env = childEnvironment({ PARAFFIN_URL: server.url, PARAFFIN_API_KEY: server.adminKey });
  return promisify(execFile)(process.execPath, [PROGRAM, 'datasets', 'issues', ...args], { env });
}

test('the command line shows them, and writes all of them', async () => {
  const shown = await paraffin('issues', '--kind', 'DUPLICATE');
  assert.match(shown.stdout, /DUPLICATE: 1, left out\. The same pixels as an earlier image/);
  assert.match(shown.stdout, /b\.png \(see a\.png\)/);
  const few = await paraffin('issues', '--limit', '3');
  assert.match(few.stderr, new RegExp(`3 of ${ENTRY_COUNT};`));
  const many: unknown = JSON.parse((await paraffin('issues', '--limit', '401', '--json')).stdout);
  assert.ok(Array.isArray(many));
  assert.equal(many.length, 401);
  const out = path.join(server.folder, 'issues.csv');
  await paraffin('issues', '--out', out);
  const rows: unknown = parse(await readFile(out, 'utf8'), { columns: true });
  assert.ok(Array.isArray(rows));
  assert.equal(rows.length, ENTRY_COUNT);
});

test('a cursor of another kind, one outside the list, and an invalid one are refused', async () => {
  const of = (key: unknown): string => Buffer.from(JSON.stringify(key)).toString('base64url');
  const { endCursor } = answerSchema.parse(await ask({ first: 1, kind: 'NOT_AN_IMAGE' })).data.node.issueEntries
    .pageInfo;
  for (const variables of [
    { after: endCursor, kind: 'DUPLICATE' },
    { after: of(['', 1e9]) },
    { after: of(['', -5]) },
    { after: of(['', 1.5]) },
    { after: of(['', 'x']) },
    { after: 'nothing' },
  ]) {
    assert.match(JSON.stringify(await ask(variables)), /CURSOR_INVALID/, JSON.stringify(variables));
  }
});

test('a dry run lists them too, and an import that keeps nothing', async () => {
  const nothing = path.join(server.folder, 'nothing');
  await mkdir(nothing);
  await writeFile(path.join(nothing, 'a.png'), 'GIF89a');
  await writeFile(path.join(nothing, 'b.png'), (await tissuePng(64, 2)).subarray(0, 900));
  const reportOf = async (runId: string) =>
    reportSchema.parse(await server.ask(REPORT_QUERY, { id: runId })).data.run.importReport;

  const failing = await launch({ path: nothing, accept: ['FEWER_THAN_BEFORE'] });
  await assert.rejects(failing.execute(), { code: 'IMPORT_NOTHING_READABLE' });
  const failed = await reportOf(failing.runId);
  assert.deepEqual(
    failed.issueEntries.nodes.map((entry) => [entry.kind, entry.path]),
    [
      ['IS_GIF', 'a.png'],
      ['TRUNCATED', 'b.png'],
    ],
  );
  assert.equal((await fetch(server.url + (failed.issueListUrl ?? ''))).status, 200);

  const dry = await launch({ dryRun: true });
  await dry.execute();
  const { issueEntries } = await reportOf(dry.runId);
  assert.equal(issueEntries.totalCount, ENTRY_COUNT);
});

test('a version that was sealed before issues were stored has none, and says so', async () => {
  const old = await database.db.datasetVersion.create({
    data: {
      ...{ datasetId: (await database.db.dataset.findFirstOrThrow({ where: { slug: 'issues' } })).id, version: 9 },
      issues: [{ kind: 'UNREADABLE', count: 3, kept: false, examples: ['a.png'] }],
    },
  });
  const { node } = answerSchema.parse(await ask({ id: old.id })).data;
  assert.deepEqual(node, {
    issueListUrl: null,
    issues: [{ kind: 'UNREADABLE', count: 3, meaning: null }],
    issueEntries: { totalCount: 0, pageInfo: { hasNextPage: false, endCursor: null }, nodes: [] },
  });
});
