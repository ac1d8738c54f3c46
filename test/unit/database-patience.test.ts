/** Work waits if the database is unreachable, and is not repeated after other errors. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, connect } from 'node:net';
import { test } from 'node:test';
import { untilDatabaseAnswers } from '../../workers/database-patience.ts';

test('a refused connection is retried until the database answers', async (context) => {
  const server = createServer((socket) => socket.end('here'));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  assert.ok(address !== null && typeof address === 'object');
  const { port } = address;
  await new Promise((resolve) => server.close(resolve));
  let waits = 0;
  const answer = await untilDatabaseAnswers(
    async () => {
      const socket = connect(port, '127.0.0.1');
      const [chunk]: unknown[] = await once(socket, 'data');
      return String(chunk);
    },
    () => {
      waits += 1;
      if (waits === 2) server.listen(port, '127.0.0.1');
    },
  );
  context.after(() => server.close());
  assert.deepEqual([answer, waits], ['here', 2]);
});

test('a faulty statement is not retried', async () => {
  let tries = 0;
  const wrong = Object.assign(new Error('duplicate key'), { code: '23505' });
  await assert.rejects(
    untilDatabaseAnswers(
      () => {
        tries += 1;
        return Promise.reject(wrong);
      },
      () => undefined,
    ),
    wrong,
  );
  assert.equal(tries, 1);
});
