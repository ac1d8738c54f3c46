/** Large artifacts on their way from the registry to a run: directly, or by way of the store to which it points. */
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type RequestListener } from 'node:http';
import { describe, test, type TestContext } from 'node:test';
import { createHttpArtifacts } from '../../workers/registry/artifacts.ts';

const BODY = randomBytes(6_000_000);
const SHA256 = createHash('sha256').update(BODY).digest('hex');
const TOKEN = 'the-token-of-the-run';

interface Listening {
  readonly url: string;
  readonly seen: IncomingMessage[];
}

async function listen(context: TestContext, answer: RequestListener): Promise<Listening> {
  const seen: IncomingMessage[] = [];
  const server = createServer((request, response) => {
    seen.push(request);
    answer(request, response);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  context.after(() => {
    server.closeAllConnections();
    server.close();
  });
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('The server has no port.');
  return { url: `http://127.0.0.1:${address.port}`, seen };
}

/** As the registry and the stores answer: the whole file, or the range that is requested. */
const sends: RequestListener = ({ method, headers }, response) => {
  const first = Number(/^bytes=(\d+)-/.exec(headers.range ?? '')?.[1] ?? 0);
  response.writeHead(first === 0 ? 200 : 206, {
    'content-length': BODY.length - first,
    ...(first === 0 ? {} : { 'content-range': `bytes ${first}-${BODY.length - 1}/${BODY.length}` }),
  });
  response.end(method === 'HEAD' ? undefined : BODY.subarray(first));
};

async function scanned(url: string): Promise<Buffer> {
  const artifacts = createHttpArtifacts({
    door: { url, token: TOKEN },
    runId: 'run',
    workDir: '/nowhere',
    patience: {},
  });
  const blocks: Buffer[] = [];
  await artifacts.scan(SHA256, (bytes) => void blocks.push(Buffer.from(bytes)));
  return Buffer.concat(blocks);
}

const authorizationsOf = ({ seen }: Listening): (string | undefined)[] =>
  seen.map(({ headers }) => headers.authorization);

describe('a scan', () => {
  test('of what the registry sends itself takes one request for the bytes', async (context) => {
    const registry = await listen(context, sends);
    assert.ok((await scanned(registry.url)).equals(BODY));
    assert.deepEqual(
      registry.seen.map(({ method, url }) => [method, url]),
      ['HEAD', 'GET'].map((method) => [method, `/worker/runs/run/artifacts/${SHA256}`]),
    );
    assert.deepEqual(authorizationsOf(registry), [`Bearer ${TOKEN}`, `Bearer ${TOKEN}`]);
  });

  test('follows the registry to the store, which never sees the token', async (context) => {
    const store = await listen(context, sends);
    const registry = await listen(context, (request, response) => {
      if (request.method === 'HEAD') sends(request, response);
      else response.writeHead(302, { location: `${store.url}/bucket/key?signature=1` }).end();
    });
    assert.ok((await scanned(registry.url)).equals(BODY));
    assert.deepEqual(
      store.seen.map(({ url }) => url),
      ['/bucket/key?signature=1'],
    );
    assert.deepEqual(authorizationsOf(store), [undefined]);
  });

  for (const where of ['the registry', 'the store'])
    test(`goes on where the connection to ${where} broke`, async (context) => {
      let isFirst = true;
      const breaks: RequestListener = (request, response) => {
        if (request.method === 'HEAD' || !isFirst) {
          sends(request, response);
          return;
        }
        isFirst = false;
        response.writeHead(200, { 'content-length': BODY.length });
        response.write(BODY.subarray(0, 2_000_000), () => response.destroy());
      };
      const store = await listen(context, breaks);
      const registry = await listen(
        context,
        where === 'the registry'
          ? breaks
          : (request, response) => {
              if (request.method === 'HEAD') sends(request, response);
              else response.writeHead(302, { location: `${store.url}/key` }).end();
            },
      );
      assert.ok((await scanned(registry.url)).equals(BODY));
    });

  test('of an answer in chunks, as some proxies send it, gives the same bytes', async (context) => {
    const registry = await listen(context, (request, response) => {
      if (request.method === 'HEAD') sends(request, response);
      else response.writeHead(200, { 'transfer-encoding': 'chunked' }).end(BODY);
    });
    assert.ok((await scanned(registry.url)).equals(BODY));
  });
});
