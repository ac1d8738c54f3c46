/** The queue's one promise: a message is there if and only if its transaction committed. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, test } from 'node:test';
import { RUN_JOBS } from '../../src/jobs/index.ts';
import { openQueue, type Queue } from '../../src/platform/queue.ts';
import { openTestDatabase, type TestDatabase } from '../support/database.ts';
import { eventually } from '../support/eventually.ts';

let database: TestDatabase;
let queue: Queue;
const heard: string[] = [];

before(async () => {
  database = await openTestDatabase();
  queue = await openQueue({ url: database.url, jobs: Object.values(RUN_JOBS), onError: () => undefined });
  await queue.listen(RUN_JOBS.IMPORT, async ({ runId }) => void heard.push(runId));
});
after(async () => {
  await queue.close();
  await database.close();
});

async function waitingCount(): Promise<number> {
  const [row] = await database.db.$queryRaw<{ count: bigint }[]>`SELECT count(*) AS count FROM queue.job`;
  return Number(row?.count ?? 0);
}

test('a committed message is delivered soon', async () => {
  const runId = randomUUID();
  await database.transact((tx) => queue.send(tx, RUN_JOBS.IMPORT, { runId }));
  // Polling alone would take up to five seconds.
  await eventually('the message', () => (heard.includes(runId) ? true : undefined), 3_000);
});

test('a message of a transaction that fails is never sent', async () => {
  const before = await waitingCount();
  const runId = randomUUID();
  await assert.rejects(
    database.transact(async (tx) => {
      await queue.send(tx, RUN_JOBS.IMPORT, { runId });
      throw new Error('no');
    }),
    /no/,
  );
  assert.equal(await waitingCount(), before);
  // Messages keep their order: when a later message has arrived, the earlier one would have arrived too.
  const later = randomUUID();
  await database.transact((tx) => queue.send(tx, RUN_JOBS.IMPORT, { runId: later }));
  await eventually('the later message', () => (heard.includes(later) ? true : undefined));
  assert.equal(heard.includes(runId), false);
});

test('something that is not a payload of the job is not sent', async () => {
  await assert.rejects(
    database.transact((tx) => queue.send(tx, RUN_JOBS.IMPORT, { runId: 'nonsense' })),
    { name: 'ZodError' },
  );
});

test('a handler that throws is called again', async () => {
  let calls = 0;
  await queue.listen(RUN_JOBS.EVALUATION, async () => {
    calls += 1;
    if (calls === 1) throw new Error('not now');
  });
  await database.transact((tx) => queue.send(tx, RUN_JOBS.EVALUATION, { runId: randomUUID() }));
  await eventually('the second call', () => (calls === 2 ? true : undefined));
});

test('a message that was sent without a listener is delivered to one that connects later', async () => {
  const runId = randomUUID();
  await database.transact((tx) => queue.send(tx, RUN_JOBS.PRETRAINING, { runId }));
  const late: string[] = [];
  await queue.listen(RUN_JOBS.PRETRAINING, async (payload) => void late.push(payload.runId));
  await eventually('the message', () => (late.length > 0 ? true : undefined));
  assert.deepEqual(late, [runId]);
});
