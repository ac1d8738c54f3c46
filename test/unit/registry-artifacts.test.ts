/** Artifacts over HTTP: a worker waits for a registry that is away, and not for a transfer that can never succeed. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { tmpdir } from 'node:os';
import { describe, test, type TestContext } from 'node:test';
import { createHttpArtifacts } from '../../workers/registry/artifacts.ts';

const RUN = '00000000-0000-7000-8000-000000000000';
const BYTES = Buffer.from('0123456789');
const SHA256 = createHash('sha256').update(BYTES).digest('hex');

/** Artifacts of a registry that answers as told, and how often the worker waited for it. */
async function artifactsOf(context: TestContext, answer: (request: IncomingMessage, response: ServerResponse) => void) {
  const server = createServer(answer);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  context.after(() => {
    server.closeAllConnections();
    server.close();
  });
  const address = server.address();
  assert.ok(address !== null && typeof address === 'object');
  let waitCount = 0;
  const artifacts = createHttpArtifacts({
    door: { url: `http://127.0.0.1:${address.port}`, token: 't' },
    runId: RUN,
    workDir: tmpdir(),
    patience: { onWait: () => (waitCount += 1) },
  });
  return { artifacts, waitCount: () => waitCount };
}

function refuse(response: ServerResponse, status: number, code: string): void {
  response.writeHead(status, { 'content-type': 'application/json' });
  response.end(JSON.stringify({ code, message: 'A sentence.', requestId: 'r' }));
}

describe('a transfer', { concurrency: true }, () => {
  test('that breaks off in the middle goes on at that byte', async (context) => {
    const ranges: (string | undefined)[] = [];
    const { artifacts, waitCount } = await artifactsOf(context, (request, response) => {
      ranges.push(request.headers.range);
      const first = ranges.length === 1 ? 0 : 4;
      response.writeHead(first === 0 ? 200 : 206, { 'content-length': BYTES.length - first });
      if (first === 0) response.write(BYTES.subarray(0, 4), () => response.destroy());
      else response.end(BYTES.subarray(first));
    });
    assert.deepEqual(await artifacts.read(SHA256), BYTES);
    assert.deepEqual([ranges, waitCount()], [[undefined, 'bytes=4-'], 1]);
  });

  test('that breaks off at the same byte again and again is given up, with what to do', async (context) => {
    const { artifacts, waitCount } = await artifactsOf(context, (_request, response) => {
      response.writeHead(200, { 'content-length': BYTES.length });
      response.flushHeaders();
      setImmediate(() => response.destroy());
    });
    await assert.rejects(artifacts.read(SHA256), {
      code: 'REGISTRY_UNREACHABLE',
      message: `The download of artifact ${SHA256} breaks off at byte 0, 5 times in a row, although the registry answers.`,
      hint: /log of the server/,
    });
    assert.equal(waitCount(), 4);
  });

  test('of an upload that never arrives is given up while the registry answers', async (context) => {
    const { artifacts, waitCount } = await artifactsOf(context, (request, response) => {
      if (request.method === 'PUT') request.socket.destroy();
      else refuse(response, 404, 'ARTIFACT_NOT_FOUND');
    });
    await assert.rejects(artifacts.put(BYTES), { code: 'REGISTRY_UNREACHABLE', message: /upload .* 5 times in a row/ });
    assert.equal(waitCount(), 4);
  });

  test('of an upload whose answer was lost is not made again', async (context) => {
    let isStored = false;
    const { artifacts } = await artifactsOf(context, (request, response) => {
      if (request.method === 'PUT') {
        assert.equal(isStored, false);
        isStored = true;
        request.resume().once('end', () => request.socket.destroy());
      } else if (isStored) response.writeHead(200, { 'content-length': BYTES.length }).end();
      else refuse(response, 404, 'ARTIFACT_NOT_FOUND');
    });
    assert.deepEqual(await artifacts.put(BYTES), { sha256: SHA256, byteSize: BYTES.length });
  });

  test('is not waited for when the registry says that its store refuses, although HEAD cannot say why', async (context) => {
    const { artifacts, waitCount } = await artifactsOf(context, (_request, response) =>
      refuse(response, 503, 'STORE_ACCESS_DENIED'),
    );
    await assert.rejects(artifacts.put(BYTES), { code: 'STORE_ACCESS_DENIED' });
    assert.equal(waitCount(), 0);
  });
});
