/** A worker waits for a registry that is away, and for nothing else. */
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { test } from 'node:test';
import { DomainError } from '../../src/errors.ts';
import { createRunRegistry } from '../../workers/registry/http.ts';

const RUN = '00000000-0000-7000-8000-000000000000';

/** A registry that answers each request with the next of these. */
async function serve(answers: readonly { readonly status: number; readonly body?: object }[]) {
  let count = 0;
  const server = createServer((_request, response) => {
    const { status, body } = answers[Math.min(count, answers.length - 1)] ?? { status: 500 };
    count += 1;
    response
      .writeHead(status, { 'content-type': 'application/json' })
      .end(body === undefined ? '' : JSON.stringify(body));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  assert.ok(address !== null && typeof address === 'object');
  return { server, url: `http://127.0.0.1:${address.port}`, requestCount: () => count };
}

const failure = (code: string): object => ({ code, message: 'A sentence.', requestId: 'r' });

test('a registry that cannot answer at the moment, and a proxy that answers for it, are asked again', async (context) => {
  const { server, url, requestCount } = await serve([
    { status: 503, body: failure('DATABASE_UNREACHABLE') },
    { status: 502 },
    { status: 200, body: { status: 'RUNNING', busySeconds: 1 } },
  ]);
  context.after(() => server.close());
  let waits = 0;
  const registry = createRunRegistry({ url, token: 't' }, RUN, { patience: { onWait: () => (waits += 1) } });
  assert.deepEqual(await registry.renew({ busySeconds: 1 }), { status: 'RUNNING', busySeconds: 1 });
  assert.deepEqual([requestCount(), waits], [3, 2]);
});

test('an answer is final: a lost lease is not asked for again', async (context) => {
  const { server, url, requestCount } = await serve([{ status: 400, body: failure('LEASE_LOST') }]);
  context.after(() => server.close());
  const registry = createRunRegistry({ url, token: 't' }, RUN, { patience: {} });
  await assert.rejects(
    registry.renew({ busySeconds: 0 }),
    (error: unknown) => error instanceof DomainError && error.code === 'LEASE_LOST',
  );
  assert.equal(requestCount(), 1);
});

test('without patience a registry that is away is an error at once', async (context) => {
  const { server, url } = await serve([]);
  await new Promise((resolve) => server.close(resolve));
  context.diagnostic(url);
  await assert.rejects(createRunRegistry({ url, token: 't' }, RUN).renew({ busySeconds: 0 }), {
    code: 'REGISTRY_UNREACHABLE',
  });
});
