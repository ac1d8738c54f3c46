/**
 * How the server serves the pages: documents, their security policy, immutable files. test/e2e/pages.test.ts tests the
 * pages themselves.
 */
import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { openTestDatabase, type TestDatabase } from '../support/database.ts';
import { startTestServer, type TestServer } from '../support/server.ts';

let database: TestDatabase;
let server: TestServer;
let folder: string;

const AS_BROWSER = { accept: 'text/html,application/xhtml+xml,*/*;q=0.8' };

before(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'paraffin-pages-'));
  await mkdir(path.join(folder, 'assets'));
  await writeFile(path.join(folder, 'index.html'), '<!doctype html><title>built pages</title>');
  await writeFile(path.join(folder, 'assets', 'index-abc123.js'), 'export {};');
  await writeFile(path.join(folder, '.digest'), 'not to be served');
  database = await openTestDatabase();
  server = await startTestServer(database, { pagesDir: folder });
});
after(async () => {
  await server.close();
  await database.close();
  await rm(folder, { recursive: true, force: true });
});

describe('the pages', () => {
  test('every address of a page returns the same document, never cached', async () => {
    for (const page of [
      '/',
      '/datasets',
      '/datasets/bach?version=1',
      '/runs/0197b5a0-0000-7000-8000-000000000000',
      '/no/such/page',
    ]) {
      const response = await fetch(server.url + page, { headers: AS_BROWSER });
      assert.equal(response.status, 200, page);
      assert.match(await response.text(), /built pages/);
      assert.equal(response.headers.get('cache-control'), 'no-cache');
    }
  });

  test('the document may load only its own files', async () => {
    const policyOf = async (page: string) =>
      (await fetch(server.url + page, { headers: AS_BROWSER })).headers.get('content-security-policy') ?? '';
    const policy = await policyOf('/datasets');
    for (const part of [
      "default-src 'none'",
      "script-src 'self'",
      "style-src 'self'",
      "connect-src 'self'",
      "frame-ancestors 'none'",
    ])
      assert.ok(policy.split('; ').includes(part), part);
    assert.doesNotMatch(policy, /unsafe|http|\*/);
    assert.ok(
      (await policyOf('/explorer')).split('; ').includes("script-src 'self'"),
      'the explorer runs no script of others either',
    );
  });

  test('a file with a hash in its name may be cached for ever', async () => {
    const response = await fetch(`${server.url}/assets/index-abc123.js`);
    assert.match(response.headers.get('cache-control') ?? '', /max-age=31536000, immutable/);
    assert.match(response.headers.get('content-type') ?? '', /javascript/);
  });

  test('only the built files are served', async () => {
    for (const file of [
      '/assets/missing.js',
      '/.digest',
      '/index.html',
      '/assets/../.digest',
      '/assets/%2e%2e/.digest',
      '/assets/..%2f.digest',
    ]) {
      const response = await fetch(server.url + file, { headers: AS_BROWSER });
      assert.equal(response.status, 404, file);
    }
  });

  test('a tool that requests a wrong address gets 404, and downloads are unaffected', async () => {
    const missing = await fetch(`${server.url}/datset`, { headers: { accept: '*/*' } });
    assert.equal(missing.status, 404);
    assert.deepEqual(Reflect.get(Object(await missing.json()), 'code'), 'NOT_FOUND');
    assert.equal((await fetch(`${server.url}/datset`, { method: 'POST', headers: AS_BROWSER })).status, 404);
    const download = await fetch(`${server.url}/checkpoints/0197b5a0-0000-7000-8000-000000000000/download`, {
      headers: AS_BROWSER,
    });
    assert.equal(download.status, 404);
    assert.match(download.headers.get('content-type') ?? '', /json/);
  });

  test('OPTIONS is not answered for the addresses of other routes', async () => {
    for (const address of ['/metrics', '/datasets', '/no/such/page'])
      assert.equal((await fetch(server.url + address, { method: 'OPTIONS' })).status, 405, address);
  });

  test('without a build, / says how to use the API', async () => {
    const bare = await startTestServer(database, { pagesDir: path.join(folder, 'not-built') });
    try {
      assert.match(await (await fetch(bare.url, { headers: AS_BROWSER })).text(), /GraphQL is at/);
      assert.equal((await fetch(`${bare.url}/datasets`, { headers: AS_BROWSER })).status, 404);
    } finally {
      await bare.close();
    }
  });
});

test('import roots are shown to those who may import', async () => {
  const open = await fetch(`${server.url}/graphql`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ query: '{ importRoots }' }),
  });
  assert.match(JSON.stringify(await open.json()), /UNAUTHENTICATED/);
  assert.deepEqual(await server.ask('{ importRoots }'), { data: { importRoots: [server.folder] } });
});
