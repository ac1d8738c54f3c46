/** Requests to one decoder: short ones are sent ahead, answers come in order, and each is blamed for itself only. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createRequestQueue, PredecessorFailedError } from '../../workers/imaging/decoder/request-queue.ts';

interface Log {
  readonly sent: string[];
  readonly received: string[];
}

/** A request whose answer the test gives. */
function requestNamed(name: string, isShort: boolean, log: Log) {
  const answer = Promise.withResolvers<string>();
  return {
    answer,
    isShort,
    send: async () => void log.sent.push(name),
    receive: async () => {
      log.received.push(name);
      return answer.promise;
    },
  };
}

/** All promises that can settle have settled. */
const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

test('a short request is sent while the one before it is answered; a long one waits, and delays what follows', async () => {
  const log: Log = { sent: [], received: [] };
  const queue = createRequestQueue();
  const [first, second, long, last] = [
    requestNamed('first', true, log),
    requestNamed('second', true, log),
    requestNamed('long', false, log),
    requestNamed('last', true, log),
  ];
  const results = Promise.all([first, second, long, last].map(async (request) => queue.run(request)));
  await settled();
  assert.deepEqual(log, { sent: ['first', 'second'], received: ['first'] });
  second.answer.resolve('2');
  await settled();
  assert.deepEqual(log, { sent: ['first', 'second'], received: ['first'] });
  first.answer.resolve('1');
  await settled();
  assert.deepEqual(log, { sent: ['first', 'second', 'long', 'last'], received: ['first', 'second', 'long'] });
  long.answer.resolve('3');
  last.answer.resolve('4');
  assert.deepEqual(await results, ['1', '2', '3', '4']);
});

test('after a failure, nothing is sent or received, and no later request is at fault', async () => {
  const log: Log = { sent: [], received: [] };
  const queue = createRequestQueue();
  const [failing, sent, waiting] = [
    requestNamed('failing', true, log),
    requestNamed('sent', true, log),
    requestNamed('waiting', false, log),
  ];
  const results = Promise.allSettled([failing, sent, waiting].map(async (request) => queue.run(request)));
  await settled();
  const fault = new Error('died');
  failing.answer.reject(fault);
  const reasons = (await results).map((result) => (result.status === 'rejected' ? result.reason : null));
  assert.equal(reasons[0], fault);
  assert.ok(reasons[1] instanceof PredecessorFailedError && reasons[2] instanceof PredecessorFailedError);
  await assert.rejects(queue.run(requestNamed('late', true, log)), PredecessorFailedError);
  assert.deepEqual(log, { sent: ['failing', 'sent'], received: ['failing'] });
});

test('a request that cannot be sent is blamed in its turn only', async () => {
  const log: Log = { sent: [], received: [] };
  const queue = createRequestQueue();
  const first = requestNamed('first', true, log);
  const unsent = { ...requestNamed('unsent', true, log), send: async () => Promise.reject(new Error('pipe')) };
  const results = Promise.allSettled([queue.run(first), queue.run(unsent)]);
  await settled();
  first.answer.resolve('1');
  const [answered, failed] = await results;
  assert.deepEqual(answered, { status: 'fulfilled', value: '1' });
  assert.ok(failed?.status === 'rejected' && /pipe/.test(String(failed.reason)));
});
