/**
 * Checkpoints by URL, and the catalogue's published checkpoints, which are known from the first start and imported by
 * one call.
 */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { readdir, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { architectureNamed } from '../../src/formats/encoders/index.ts';
import { loadPublishedCheckpoints, seedPublishedCheckpoints } from '../../src/modules/models/index.ts';
import { at, listAt } from '../support/catalogue.ts';
import { openTestDatabase, type TestDatabase } from '../support/database.ts';
import { lightningFile, someEncoder } from '../support/encoder-files.ts';
import { startTestServer, type TestServer } from '../support/server.ts';

const CONTRACT = { imageSizePx: 224, channelMean: [0.5, 0.5, 0.5], channelStd: [0.5, 0.5, 0.5] };
const IMPORT = `mutation($input: ImportCheckpointInput!) { importCheckpoint(input: $input) {
  checkpoint { id version encoder sha256 byteSize publishedSlug model { slug } importedFrom { url fileName byteSize sha256 licence contents { format keyPrefix inertGlobals } } }
  userErrors { code field message hint }
} }`;
const FILE = lightningFile(someEncoder('RESNET18'), 'model.resnet.');
const SHA256 = createHash('sha256').update(FILE).digest('hex');

let database: TestDatabase;
let server: TestServer;
let base = '';
let requestCount = 0;
/** Serves one file under every name, and breaks off the first transfer. */
const files = createServer((request, response) => {
  requestCount += 1;
  const first = Number(/bytes=(\d+)-/.exec(request.headers.range ?? '')?.[1] ?? 0);
  if (first > 0)
    response
      .writeHead(206, { etag: '"file"', 'content-range': `bytes ${first}-${FILE.length - 1}/${FILE.length}` })
      .end(FILE.subarray(first));
  else if (request.url?.startsWith('/breaks.ckpt') === true) {
    response.writeHead(200, { etag: '"file"', 'content-length': FILE.length });
    response.write(FILE.subarray(0, 1_000_000), () => response.destroy());
  } else if (request.url === '/gone.ckpt') response.writeHead(404).end();
  else response.writeHead(200, { 'content-length': FILE.length }).end(FILE);
});

before(async () => {
  files.listen(0, '127.0.0.1');
  await once(files, 'listening');
  const address = files.address();
  assert.ok(address !== null && typeof address === 'object');
  base = `http://127.0.0.1:${address.port}`;
  database = await openTestDatabase();
  server = await startTestServer(database);
});
after(async () => {
  files.closeAllConnections();
  files.close();
  await server.close();
  await database.close();
});

async function importCheckpoint(input: object): Promise<unknown> {
  const answer = await server.ask(IMPORT, { input });
  assert.equal(at(answer, 'errors'), undefined, JSON.stringify(answer));
  return at(answer, 'data.importCheckpoint');
}

async function faultOf(input: object): Promise<unknown[]> {
  const answer = await importCheckpoint(input);
  assert.deepEqual([at(answer, 'checkpoint'), listAt(answer, 'userErrors').length], [null, 1]);
  return [at(answer, 'userErrors.0.code'), at(answer, 'userErrors.0.field')];
}

/** A published checkpoint that this test's own server serves. */
async function publish(
  slug: string,
  source: { url?: string; fileName?: string; byteSize?: number; sha256?: string; accessUrl?: string },
  encoder: 'RESNET18' | 'RESNET50' = 'RESNET18',
): Promise<void> {
  const [known] = await loadPublishedCheckpoints();
  assert.ok(known !== undefined);
  const importedFrom = {
    url: null,
    fileName: null,
    byteSize: null,
    sha256: null,
    licence: 'MIT',
    accessUrl: null,
    contents: null,
    ...source,
  };
  await seedPublishedCheckpoints(database.db, [
    { ...known, slug, architecture: architectureNamed(encoder), importedFrom },
  ]);
}

describe('import from a URL', () => {
  test('a file is downloaded, resumed where it broke off, and imported; the query of its URL is a secret that is not stored', async () => {
    const answer = await importCheckpoint({
      modelSlug: 'fetched',
      inputContract: CONTRACT,
      url: `${base}/breaks.ckpt?signature=secret#part`,
      sha256: SHA256,
    });
    assert.deepEqual(at(answer, 'userErrors'), [], JSON.stringify(answer));
    assert.deepEqual(at(answer, 'checkpoint.importedFrom'), {
      url: `${base}/breaks.ckpt`,
      fileName: 'breaks.ckpt',
      byteSize: FILE.length,
      sha256: SHA256,
      licence: null,
      contents: { format: 'TORCH_ZIP', keyPrefix: 'model.resnet.', inertGlobals: ['posix.system'] },
    });
    assert.equal(requestCount, 2);
  });

  for (const [what, place, sha256, code] of [
    ['is not there', '/gone.ckpt', undefined, 'REMOTE_REFUSED'],
    ['is another one than expected', '/file.ckpt', '0'.repeat(64), 'DIGEST_MISMATCH'],
  ] as const) {
    test(`a file that ${what} leaves nothing behind`, async () => {
      assert.deepEqual(
        await faultOf({ modelSlug: 'not-fetched', inputContract: CONTRACT, url: base + place, sha256 }),
        [code, 'input.url'],
      );
      assert.equal(await database.db.model.count({ where: { slug: 'not-fetched' } }), 0);
      assert.deepEqual(await readdir(path.join(server.folder, 'downloads')), []);
    });
  }

  test('a server that cannot be reached is reported as such, with another way to import', async () => {
    const answer = await importCheckpoint({
      modelSlug: 'not-fetched',
      inputContract: CONTRACT,
      url: 'http://no-such-host.invalid/w.ckpt',
    });
    assert.deepEqual(
      [at(answer, 'userErrors.0.code'), at(answer, 'userErrors.0.field')],
      ['REMOTE_UNREACHABLE', 'input.url'],
    );
    assert.match(String(at(answer, 'userErrors.0.message')), /the host name is unknown, or the server is offline/);
    assert.match(String(at(answer, 'userErrors.0.hint')), /online.*import it by path/);
  });
});

describe('the published checkpoints', () => {
  test('are listed from the first start, with what is known of their files and trainings, and what is not', async () => {
    const answer = await server.ask(`{ checkpoints(filter: { published: true }) { totalCount nodes {
      publishedSlug encoder embeddingDim sha256 formats downloadUrl model { slug licence } inputContract { imageSizePx channelMean channelStd }
      importedFrom { url byteSize sha256 contents { format } } trainingFacts { name value evidence sources }
    } } }`);
    const rows = listAt(answer, 'data.checkpoints.nodes');
    const ofPaper = rows.filter((row) => /^(ciga|martellab)-/.test(String(at(row, 'publishedSlug'))));
    assert.deepEqual(ofPaper.map((row) => at(row, 'encoder')).sort(), [
      'RESNET101',
      'RESNET18',
      'RESNET18',
      'RESNET18',
      'RESNET18',
      'RESNET34',
      'RESNET50',
    ]);
    const native = rows.find((row) => at(row, 'publishedSlug') === 'ciga-resnet18-ten-percent');
    assert.deepEqual(at(native, 'importedFrom'), {
      url: 'https://github.com/ozanciga/self-supervised-histopathology/releases/download/nativetenpercent/pytorchnative_tenpercent_resnet18.ckpt',
      byteSize: 46_104_139,
      sha256: 'ae652d1a586c1be11b8ed7f4033094a98ac9c620e43a28998c6c86d248e750ab',
      contents: null,
    });
    assert.deepEqual([at(native, 'sha256'), at(native, 'formats'), at(native, 'downloadUrl')], [null, [], null]);
    assert.deepEqual(at(native, 'inputContract'), CONTRACT);
    for (const row of ofPaper) {
      assert.ok(
        listAt(row, 'trainingFacts').some(
          (fact) => at(fact, 'name') === 'batchSize' && at(fact, 'value') === null && at(fact, 'evidence') === null,
        ),
        'unknown is null',
      );
    }
    for (const row of rows) {
      const facts = listAt(row, 'trainingFacts');
      assert.ok(facts.length > 0, String(at(row, 'publishedSlug')));
      for (const fact of facts)
        assert.equal(at(fact, 'value') === null, listAt(fact, 'sources').length === 0, JSON.stringify(fact));
    }
  });

  test("can be seeded repeatedly, and a user's model with the same name stays unchanged", async () => {
    const published = await loadPublishedCheckpoints();
    assert.deepEqual(await seedPublishedCheckpoints(database.db, published), { created: [], updated: [], kept: [] });
    await database.db.model.create({ data: { slug: 'mine', name: 'Mine' } });
    await publish('mine', {});
    assert.equal(await database.db.checkpoint.count({ where: { model: { slug: 'mine' } } }), 0);
  });

  test('are imported by one call each: the same checkpoint, verified by size and sha256', async () => {
    await publish('published-here', {
      url: `${base}/file.ckpt`,
      fileName: 'file.ckpt',
      byteSize: FILE.length,
      sha256: SHA256,
    });
    const { id } = await database.db.checkpoint.findUniqueOrThrow({ where: { publishedSlug: 'published-here' } });
    const answer = await importCheckpoint({ publishedCheckpoint: 'published-here' });
    assert.deepEqual(at(answer, 'userErrors'), []);
    assert.deepEqual(
      [at(answer, 'checkpoint.id'), at(answer, 'checkpoint.version'), at(answer, 'checkpoint.model.slug')],
      [id, 1, 'published-here'],
    );
    const stored = await fetch(`${server.url}/checkpoints/${id}/download`);
    assert.equal(
      createHash('sha256')
        .update(Buffer.from(await stored.arrayBuffer()))
        .digest('hex'),
      at(answer, 'checkpoint.sha256'),
    );

    const before = requestCount;
    assert.deepEqual(
      await importCheckpoint({ publishedCheckpoint: 'published-here', modelSlug: 'published-here' }),
      answer,
    );
    assert.equal(requestCount, before, 'nothing is fetched a second time');
    await publish('published-here', { url: `${base}/moved.ckpt` });
    assert.equal(
      (await database.db.checkpoint.findUniqueOrThrow({ where: { id } })).sha256,
      at(answer, 'checkpoint.sha256'),
      'seeding leaves the weights alone',
    );
  });

  test('that are given on request say where to ask; the file that a person got there takes the known contract', async () => {
    await publish('on-request', { fileName: 'file.ckpt', accessUrl: 'https://example.org/ask' });
    const refused = await importCheckpoint({ publishedCheckpoint: 'on-request' });
    assert.deepEqual(
      [at(refused, 'userErrors.0.code'), at(refused, 'userErrors.0.field')],
      ['NOT_AVAILABLE', 'input.publishedCheckpoint'],
    );
    assert.match(String(at(refused, 'userErrors.0.hint')), /https:\/\/example\.org\/ask.*--published on-request/);
    const file = path.join(server.folder, 'on-request.ckpt');
    await writeFile(file, FILE);
    const answer = await importCheckpoint({ publishedCheckpoint: 'on-request', path: file });
    assert.deepEqual([at(answer, 'userErrors'), at(answer, 'checkpoint.publishedSlug')], [[], 'on-request']);
  });

  test('are recognised by the file alone: by its sha256, and by its tensors in a file of another format', async () => {
    const weights = lightningFile(someEncoder('RESNET18', 5), 'model.resnet.');
    const file = path.join(server.folder, 'nameless.ckpt');
    await writeFile(file, weights);
    await publish('recognised', { sha256: createHash('sha256').update(weights).digest('hex') });
    const answer = await importCheckpoint({ path: file });
    assert.deepEqual(
      [at(answer, 'userErrors'), at(answer, 'checkpoint.publishedSlug'), at(answer, 'checkpoint.model.slug')],
      [[], 'recognised', 'recognised'],
    );
    const stored = await fetch(`${server.url}/checkpoints/${String(at(answer, 'checkpoint.id'))}/download`);
    const copy = path.join(server.folder, 'nameless.safetensors');
    await writeFile(copy, Buffer.from(await stored.arrayBuffer()));
    const again = await importCheckpoint({ path: copy });
    assert.deepEqual([at(again, 'userErrors'), at(again, 'checkpoint.id')], [[], at(answer, 'checkpoint.id')]);
  });

  test('of the same network are named for a file that is none of them, and nothing is imported', async () => {
    const file = path.join(server.folder, 'unknown.ckpt');
    await writeFile(file, lightningFile(someEncoder('RESNET18', 6), 'model.resnet.'));
    const before = await database.db.checkpoint.count({ where: { sha256: { not: null } } });
    const answer = await importCheckpoint({ path: file });
    assert.deepEqual(
      [at(answer, 'checkpoint'), at(answer, 'userErrors.0.code'), at(answer, 'userErrors.0.field')],
      [null, 'CHECKPOINT_NOT_FOUND', 'input.path'],
    );
    assert.match(String(at(answer, 'userErrors.0.message')), /contains a RESNET18/);
    assert.match(
      String(at(answer, 'userErrors.0.hint')),
      /ciga-resnet18, .*publishedCheckpoint; otherwise give modelSlug/,
    );
    assert.equal(await database.db.checkpoint.count({ where: { sha256: { not: null } } }), before);
  });

  test('take no file with another network', async () => {
    const file = path.join(server.folder, 'small.ckpt');
    await writeFile(file, FILE);
    const vit = (await loadPublishedCheckpoints()).find(({ slug }) => slug === 'lunit-vits16-dino');
    assert.ok(vit !== undefined);
    await seedPublishedCheckpoints(database.db, [{ ...vit, slug: 'a-vit' }]);
    assert.deepEqual(await faultOf({ publishedCheckpoint: 'a-vit', path: file }), [
      'CHECKPOINT_INCOMPATIBLE',
      'input.publishedCheckpoint',
    ]);
  });

  test('can be imported from a path if the URL is unknown or cannot be reached', async () => {
    await publish('without-address', { byteSize: FILE.length });
    assert.deepEqual(await faultOf({ publishedCheckpoint: 'without-address' }), [
      'NOT_AVAILABLE',
      'input.publishedCheckpoint',
    ]);
    await publish('out-of-reach', { url: 'https://no-such-host.invalid/file.ckpt' });
    const offline = await importCheckpoint({ publishedCheckpoint: 'out-of-reach' });
    assert.deepEqual(
      [at(offline, 'userErrors.0.code'), at(offline, 'userErrors.0.field')],
      ['REMOTE_UNREACHABLE', 'input.publishedCheckpoint'],
    );
    assert.match(String(at(offline, 'userErrors.0.message')), /host name is unknown/);
    const file = path.join(server.folder, 'fetched-by-hand.ckpt');
    await writeFile(file, FILE);
    const answer = await importCheckpoint({ publishedCheckpoint: 'without-address', path: file });
    assert.deepEqual(
      [
        at(answer, 'userErrors'),
        at(answer, 'checkpoint.importedFrom.sha256'),
        at(answer, 'checkpoint.importedFrom.licence'),
      ],
      [[], SHA256, 'MIT'],
    );
    const other = path.join(server.folder, 'other.ckpt');
    await writeFile(other, lightningFile(someEncoder('RESNET18', 2), 'model.resnet.'));
    assert.deepEqual(await faultOf({ publishedCheckpoint: 'without-address', path: other }), [
      'DIGEST_MISMATCH',
      'input.path',
    ]);
  });

  test('a file that is not the published one is refused', async () => {
    await publish('wrong-size', { url: `${base}/file.ckpt`, byteSize: 7 });
    await publish('wrong-digest', { url: `${base}/file.ckpt`, sha256: '0'.repeat(64) });
    await publish('wrong-encoder', { url: `${base}/file.ckpt` }, 'RESNET50');
    assert.deepEqual(await faultOf({ publishedCheckpoint: 'wrong-size' }), [
      'DIGEST_MISMATCH',
      'input.publishedCheckpoint',
    ]);
    assert.deepEqual(await faultOf({ publishedCheckpoint: 'wrong-digest' }), [
      'DIGEST_MISMATCH',
      'input.publishedCheckpoint',
    ]);
    assert.deepEqual(await faultOf({ publishedCheckpoint: 'wrong-digest', sha256: '1'.repeat(64) }), [
      'DIGEST_MISMATCH',
      'input.sha256',
    ]);
    assert.deepEqual(await faultOf({ publishedCheckpoint: 'wrong-encoder' }), [
      'CHECKPOINT_INCOMPATIBLE',
      'input.publishedCheckpoint',
    ]);
    assert.equal(
      await database.db.checkpoint.count({ where: { publishedSlug: { startsWith: 'wrong-' }, sha256: { not: null } } }),
      0,
    );
  });

  for (const [what, input, field] of [
    ["a contract of the user's", { inputContract: CONTRACT }, 'input.inputContract'],
    ['another model', { modelSlug: 'mine' }, 'input.modelSlug'],
    ["a licence of the user's", { licence: 'MIT' }, 'input.licence'],
  ] as const) {
    test(`is refused with ${what}`, async () => {
      assert.deepEqual(await faultOf({ publishedCheckpoint: 'ciga-resnet18', ...input }), ['BAD_INPUT', field]);
    });
  }
});
