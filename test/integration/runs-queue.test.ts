/** Runs between launch and end: their order in the queue, and cancelling and resuming them. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, beforeEach, describe, test } from 'node:test';
import { UNLIMITED } from '../../src/modules/access/index.ts';
import { CancelRequestedError, type RunRecord } from '../../src/modules/runs/index.ts';
import { ADMIN } from '../support/registry.ts';
import { openRunStage } from '../support/run-stage.ts';
import type { RunFailureRecord, RunStatus } from '../../src/protocol/runs.ts';

const UNKNOWN_ID = '00000000-0000-7000-8000-000000000000';
const DIED: RunFailureRecord = {
  class: 'INFRASTRUCTURE',
  code: 'CHILD_DIED',
  message: 'The process ended without an error message.',
  hint: null,
};

const fixture = await openRunStage();
const {
  database,
  registry,
  pretrainingInput,
  launchPretraining,
  launchImport,
  statusOf,
  claim,
  eventKinds,
  runThatIs,
} = fixture;
after(fixture.close);
// Each test starts with an empty queue.
beforeEach(fixture.emptyQueue);

describe('cancelling', () => {
  const expected: readonly (readonly [RunStatus, RunStatus | 'RUN_NOT_CANCELABLE'])[] = [
    ['QUEUED', 'CANCELED'],
    ['RUNNING', 'CANCELING'],
    ['CANCELING', 'CANCELING'],
    ['CANCELED', 'CANCELED'],
    ['SUCCEEDED', 'RUN_NOT_CANCELABLE'],
    ['FAILED', 'RUN_NOT_CANCELABLE'],
  ];
  for (const [from, to] of expected) {
    test(`${from} becomes ${to}, and once more changes nothing`, async () => {
      const id = await runThatIs(from);
      for (const _time of ['first', 'second']) {
        if (to === 'RUN_NOT_CANCELABLE') {
          await assert.rejects(registry.runs.cancel(ADMIN, id), { code: to, field: 'id' });
          assert.equal(await statusOf(id), from);
        } else {
          assert.equal((await registry.runs.cancel(ADMIN, id)).status, to);
        }
      }
      const kinds = await eventKinds(id);
      assert.equal(new Set(kinds).size, kinds.length, `nothing is reported twice: ${kinds.join(' ')}`);
    });
  }

  test('unknown ids', async () => {
    for (const id of [UNKNOWN_ID, 'nonsense', '']) {
      await assert.rejects(registry.runs.cancel(ADMIN, id), { code: 'RUN_NOT_FOUND', field: 'id' });
      await assert.rejects(registry.runs.resume(ADMIN, id), { code: 'RUN_NOT_FOUND', field: 'id' });
      assert.equal(await registry.runs.get(ADMIN, id), undefined);
    }
  });

  test('a run that succeeds while it is being cancelled is CANCELED, and registers nothing', async () => {
    const run = await launchPretraining();
    const { lease } = await claim();
    await registry.runs.cancel(ADMIN, run.id);
    const finishing = registry.ledger.withLease(lease, async (tx) => {
      await tx.model.create({ data: { slug: 'too-late', name: 'Too late' } });
      await registry.ledger.succeed(tx, lease, 'Done.');
    });
    await assert.rejects(finishing, CancelRequestedError);
    assert.equal(await database.db.model.count({ where: { slug: 'too-late' } }), 0);
    await registry.ledger.fail(lease, DIED);
    assert.equal(await statusOf(run.id), 'CANCELED', 'and so is one that fails');
  });
});

describe('resuming', () => {
  const expected: readonly (readonly [RunStatus, RunStatus | 'RUN_NOT_RESUMABLE'])[] = [
    ['QUEUED', 'QUEUED'],
    ['RUNNING', 'RUNNING'],
    ['CANCELING', 'RUN_NOT_RESUMABLE'],
    ['CANCELED', 'QUEUED'],
    ['FAILED', 'QUEUED'],
    ['SUCCEEDED', 'RUN_NOT_RESUMABLE'],
  ];
  for (const [from, to] of expected) {
    test(`${from} becomes ${to}`, async () => {
      const id = await runThatIs(from);
      if (to === 'RUN_NOT_RESUMABLE') {
        await assert.rejects(registry.runs.resume(ADMIN, id), { code: to, field: 'id' });
        assert.equal(await statusOf(id), from);
        return;
      }
      const resumed = await registry.runs.resume(ADMIN, id);
      assert.deepEqual([resumed.status, resumed.failure, resumed.finishedAt], [to, null, null]);
    });
  }

  test('an import or an evaluation cannot be resumed, only launched again', async () => {
    const { id } = await launchImport();
    await registry.runs.cancel(ADMIN, id);
    await assert.rejects(registry.runs.resume(ADMIN, id), { code: 'RUN_NOT_RESUMABLE' });
  });

  test('a resumed run is claimed again, under a higher epoch and attempt', async () => {
    const id = await runThatIs('FAILED');
    await registry.runs.resume(ADMIN, id);
    const again = await claim();
    assert.deepEqual([again.run.id, again.run.attempt, again.lease.epoch], [id, 2, 2]);
  });
});

describe('claiming', () => {
  test('takes the oldest of the wanted kinds', async () => {
    const first = await launchPretraining();
    const second = await launchImport();
    const third = await launchPretraining();
    // Imports wait in a separate queue.
    const positions = await Promise.all([first, second, third].map((run) => registry.runs.queuePosition(run)));
    assert.deepEqual(positions, [1, 1, 2]);
    assert.equal((await claim('IMPORT')).run.id, second.id);
    assert.equal((await claim()).run.id, first.id);
    assert.equal((await claim()).run.id, third.id);
    assert.equal(await registry.ledger.claim(['PRETRAINING', 'IMPORT', 'EVALUATION'], 'tester'), undefined);
    assert.equal(await registry.runs.queuePosition({ ...first, status: 'RUNNING' }), null);
  });

  test('never gives one run to two workers', async () => {
    for (let count = 0; count < 5; count += 1) await launchPretraining();
    const claimed = await Promise.all(
      Array.from({ length: 8 }, (_, index) => registry.ledger.claim(['PRETRAINING'], `claimer ${index}`)),
    );
    const ids = claimed.flatMap((each) => (each === undefined ? [] : [each.run.id]));
    assert.equal(new Set(ids).size, ids.length);
    assert.ok(ids.length >= 1);
    for (
      let more = await registry.ledger.claim(['PRETRAINING'], 'last');
      more !== undefined;
      more = await registry.ledger.claim(['PRETRAINING'], 'last')
    )
      ids.push(more.run.id);
    assert.equal(new Set(ids).size, 5);
    assert.equal(ids.length, 5);
  });
});

describe('the order of the queue', () => {
  /** Each launch uses a different key, because turns are counted by user, not by key. */
  const launchBy = (owner: string): Promise<RunRecord> =>
    registry.runs.launchPretraining(
      { kind: 'KEY', keyId: randomUUID(), name: randomUUID(), owner, role: 'ADMIN', scopes: UNLIMITED },
      pretrainingInput(),
    );

  async function order(runs: readonly RunRecord[]): Promise<(number | null)[]> {
    return Promise.all(
      runs.map(async (run) => registry.runs.queuePosition((await registry.runs.get(ADMIN, run.id)) ?? run)),
    );
  }

  test('rotates among the users who launch, and the queue position shows it', async () => {
    const ann = [await launchBy('ann'), await launchBy('ann'), await launchBy('ann')];
    assert.equal((await claim()).run.id, ann[0]?.id);
    const bob = [await launchBy('bob'), await launchBy('bob')];
    const cat = [await launchBy('cat')];
    const expected = [bob[0], cat[0], ann[1], bob[1], ann[2]].flatMap((run) => (run === undefined ? [] : [run]));
    assert.deepEqual(await order(expected), [1, 2, 3, 4, 5]);
    const started: (string | undefined)[] = [];
    for (let index = 0; index < expected.length; index += 1) {
      assert.deepEqual(
        await order(expected.slice(index)),
        Array.from({ length: expected.length - index }, (_, place) => place + 1),
        'true all along',
      );
      started.push((await claim()).run.id);
    }
    assert.deepEqual(
      started,
      expected.map(({ id }) => id),
    );
  });

  test('does not count runs that never began', async () => {
    const many = await Promise.all(Array.from({ length: 5 }, () => launchBy('dan')));
    for (const { id } of many) await registry.runs.cancel(ADMIN, id);
    const eve = [await launchBy('eve'), await launchBy('eve')];
    const dan = await launchBy('dan');
    const ids = [(await claim()).run.id, (await claim()).run.id, (await claim()).run.id];
    assert.deepEqual([ids[2], new Set(ids.slice(0, 2))], [eve[1]?.id, new Set([eve[0]?.id, dan.id])]);
  });

  test('gives a requeued run its old place, and a resumed one a new place', async () => {
    const first = await launchBy('fay');
    const { lease } = await claim();
    const second = await launchBy('fay');
    await registry.ledger.release(lease, 'Given back.');
    assert.deepEqual(await order([first, second]), [1, 2]);
    await registry.runs.cancel(ADMIN, first.id);
    await registry.runs.resume(ADMIN, first.id);
    assert.deepEqual(await order([second, first]), [1, 2]);
  });
});
