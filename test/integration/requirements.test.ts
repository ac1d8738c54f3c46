/** Runs reach the workers that have what they need: claims in SQL, the API's sentence, and a precision that fails. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { createLedger, type RunLedger } from '../../src/modules/runs/index.ts';
import {
  NO_CAPABILITIES,
  NO_REQUIREMENTS,
  whyNoWorker,
  type RunRequirements,
  type WorkerCapabilities,
} from '../../src/protocol/requirements.ts';
import type { RunFailureRecord, RunLease } from '../../src/protocol/runs.ts';
import { at } from '../support/catalogue.ts';
import { openTestDatabase, type TestDatabase } from '../support/database.ts';
import { newKey } from '../support/keys.ts';
import { ADMIN } from '../support/registry.ts';
import { startTestServer, type TestServer } from '../support/server.ts';
import { createWorkerRegistry } from '../../workers/registry/http.ts';
import { PROTOCOL_VERSION } from '../../src/protocol/worker-calls.ts';

let database: TestDatabase;
let server: TestServer;
let ledger: RunLedger;
before(async () => {
  database = await openTestDatabase();
  server = await startTestServer(database);
  ledger = createLedger(database.db, database.transact);
});
after(async () => {
  await server.close();
  await database.close();
});

const ROOMY: WorkerCapabilities = {
  ...{ device: 'GPU', bfloat16: true, memoryMiB: 65_536, gpuMemoryMiB: 81_920, longestSeconds: null },
  labels: ['a100', 'basel'],
};
const UNSUPPORTED: RunFailureRecord = {
  ...{ class: 'USER', code: 'PRECISION_UNSUPPORTED', hint: null },
  message: "This worker's device cannot compute in bfloat16.",
};

async function queue(requirements: Partial<RunRequirements> = {}, maxDurationSeconds: number | null = null) {
  const wanted = { ...NO_REQUIREMENTS, ...requirements };
  const { id } = await database.db.run.create({
    data: {
      ...{ kind: 'PRETRAINING', title: 'made by a test', config: {}, maxDurationSeconds },
      requirements: { ...wanted, labels: [...wanted.labels] },
    },
  });
  return id;
}

async function claim(capabilities: WorkerCapabilities, name = 'w', runId: string | null = null) {
  return ledger.claim(['PRETRAINING'], name, null, { capabilities, runId });
}

async function finish(lease: RunLease): Promise<void> {
  await ledger.withLease(lease, (tx) => ledger.succeed(tx, lease, 'Done.'));
}

const REQUIREMENTS: readonly Partial<RunRequirements>[] = [
  {},
  { device: 'CPU' },
  { device: 'GPU' },
  { bfloat16: true },
  { memoryMiB: 16_384 },
  { memoryMiB: 16_385 },
  { device: 'GPU', gpuMemoryMiB: 24_576 },
  { labels: ['basel'] },
  { labels: ['a100', 'basel'] },
];
const WORKERS: readonly WorkerCapabilities[] = [
  NO_CAPABILITIES,
  { ...NO_CAPABILITIES, bfloat16: true, memoryMiB: 16_384, labels: ['basel'] },
  { ...ROOMY, labels: [], gpuMemoryMiB: 24_575 },
  { ...ROOMY, longestSeconds: 60 },
  ROOMY,
];

describe('a claim', () => {
  for (const maxDurationSeconds of [null, 60, 61])
    test(`takes what the sentence says can be taken, of runs of at most ${maxDurationSeconds ?? 'any number of'} s`, async () => {
      let takenCount = 0;
      for (const requirements of REQUIREMENTS) {
        const id = await queue(requirements, maxDurationSeconds);
        const run = await ledger.find(id);
        assert.ok(run !== undefined);
        for (const capabilities of WORKERS) {
          const worker = { name: 'w', isDraining: false, places: [{ kinds: ['PRETRAINING'] as const, capabilities }] };
          const claimed = await claim(capabilities, 'w', id);
          assert.equal(
            claimed !== undefined,
            whyNoWorker(run, [worker]) === null,
            JSON.stringify({ requirements, capabilities, maxDurationSeconds }),
          );
          if (claimed === undefined) continue;
          takenCount += 1;
          await ledger.release(claimed.lease, 'Not now.');
        }
        await server.services.runs.cancel(ADMIN, id);
      }
      assert.ok(takenCount > 0 && takenCount < REQUIREMENTS.length * WORKERS.length, 'both answers were seen');
    });

  test('goes by the order of the queue, and a run that it cannot take holds up no other', async () => {
    const demanding = await queue({ memoryMiB: 65_536 });
    const [first, second] = [await queue(), await queue()];
    const small = { ...NO_CAPABILITIES, memoryMiB: 1024 };
    const claimed = [await claim(small), await claim(small), await claim(small), await claim(ROOMY)];
    assert.deepEqual(
      claimed.map((each) => each?.run.id),
      [first, second, undefined, demanding],
    );
    for (const each of claimed) if (each !== undefined) await finish(each.lease);
  });
});

describe('a precision that the engine cannot compute in', () => {
  test('sends the run to another worker, and never back', async () => {
    const id = await queue({ bfloat16: true });
    const claimed = await claim(ROOMY, 'boaster');
    assert.ok(claimed !== undefined);
    await ledger.fail(claimed.lease, UNSUPPORTED);
    assert.equal((await ledger.find(id))?.status, 'QUEUED');
    assert.equal(await claim(ROOMY, 'boaster'), undefined);
    const other = await claim(ROOMY, 'honest');
    assert.equal(other?.run.id, id);
    assert.ok(other !== undefined);
    await finish(other.lease);
    const events = await database.db.runEvent.findMany({ where: { runId: id, kind: 'REQUEUED' } });
    assert.match(events[0]?.message ?? '', /cannot compute in bfloat16\. The run waits for a worker that can\.$/);
  });

  test('is a requirement from then on, also of a run that was launched without it', async () => {
    const id = await queue();
    const claimed = await claim(NO_CAPABILITIES, 'plain');
    assert.ok(claimed !== undefined);
    await ledger.fail(claimed.lease, UNSUPPORTED);
    assert.equal(await claim(NO_CAPABILITIES, 'plain too'), undefined);
    const able = await claim(ROOMY, 'able');
    assert.equal(able?.run.id, id);
    assert.ok(able !== undefined);
    await finish(able.lease);
  });

  test('still cancels a run that a person cancels', async () => {
    const id = await queue();
    const claimed = await claim(NO_CAPABILITIES, 'plain');
    assert.ok(claimed !== undefined);
    await server.services.runs.cancel(ADMIN, id);
    await ledger.fail(claimed.lease, UNSUPPORTED);
    assert.equal((await ledger.find(id))?.status, 'CANCELED');
  });
});

test('the API says why a run waits, and what workers have, by what their claims say', async () => {
  const id = await queue({ bfloat16: true });
  const obstacle = async (): Promise<unknown> =>
    at(await server.ask('query($id: ID!) { run(id: $id) { obstacle } }', { id }), 'data.run.obstacle');
  assert.equal(await obstacle(), 'no worker takes pretrainings now');
  const registry = createWorkerRegistry({
    url: server.url,
    token: await newKey(server, { role: 'OPERATOR', actions: ['WORK'] }),
  });
  const ask = (workerName: string, capabilities: WorkerCapabilities, runId: string | null = null) =>
    registry.claim(
      {
        ...{ protocolVersion: PROTOCOL_VERSION, programVersion: '1', workerName, kinds: ['PRETRAINING'] },
        ...{ deviceId: `${workerName}/0`, runId, waitSeconds: 0, capabilities },
      },
      AbortSignal.timeout(60_000),
    );
  const small = { ...NO_CAPABILITIES, memoryMiB: 8192 };
  assert.equal(await ask('a', small), undefined);
  assert.equal(await ask('b', small), undefined);
  assert.equal(await obstacle(), 'needs bfloat16: workers a, b have no AVX-512 or GPU');
  const answer = await server.ask(
    '{ workers { name places { kinds capabilities { device bfloat16 memoryMiB gpuMemoryMiB longestSeconds labels } } } }',
  );
  assert.deepEqual(at(answer, 'data.workers.0'), {
    name: 'a',
    places: [{ kinds: ['PRETRAINING'], capabilities: small }],
  });

  assert.equal(await ask('one-shot', ROOMY, '01890000-0000-7000-8000-000000000000'), undefined);
  assert.equal(await obstacle(), 'needs bfloat16: workers a, b have no AVX-512 or GPU', 'it takes only its own run');
  const labelled = await ask('c', { ...ROOMY, labels: [] });
  assert.equal(labelled?.run.id, id);
  assert.equal(await obstacle(), null, 'a run that is not queued');
  await ledger.cancelNow(labelled?.lease ?? { runId: id, epoch: 0 });

  const next = await queue({ device: 'GPU' });
  const again = await server.ask('query($id: ID!) { run(id: $id) { obstacle } }', { id: next });
  assert.equal(at(again, 'data.run.obstacle'), null, 'worker c has a place with a GPU');
});

test('a launcher is offered the runs whose labels its workers have', async () => {
  const [plain, labelled] = [await queue(), await queue({ labels: ['a100'] })];
  const offered = async (labels?: readonly string[]): Promise<unknown> =>
    at(
      await server.ask('query($input: PlacementWorkInput!) { placementWork(input: $input) { waitingRunIds } }', {
        input: { launcher: 'slurm', kinds: ['PRETRAINING'], limit: 100, labels },
      }),
      'data.placementWork.waitingRunIds',
    );
  const isOffered = (ids: unknown, id: string): boolean => Array.isArray(ids) && ids.includes(id);
  assert.deepEqual(
    [await offered(), await offered(['a100', 'basel'])].map((ids) => [isOffered(ids, plain), isOffered(ids, labelled)]),
    [
      [true, false],
      [true, true],
    ],
  );
});
