/** Placements in the database: planned once, reported by their launcher, and shown with their run. */
import { RUN_KINDS } from '../../src/protocol/runs.ts';
import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { createPlacementLoaders, type PlacementRecord } from '../../src/modules/placements/index.ts';
import { ADMIN } from '../support/registry.ts';
import { openRunStage } from '../support/run-stage.ts';
import { keyHolder } from '../support/viewers.ts';

const stage = await openRunStage();
const { registry, database, launchPretraining, launchEvaluation } = stage;
const { placements, ledger } = registry;
after(stage.close);

const work = (launcher = 'slurm', limit = 100) => placements.work(ADMIN, { launcher, kinds: ['PRETRAINING'], limit });

async function placed(runId: string, launcher = 'slurm'): Promise<PlacementRecord> {
  const [placement, ...others] = await placements.place(ADMIN, { launcher, runIds: [runId] });
  assert.ok(placement !== undefined && others.length === 0);
  return placement;
}

async function report(id: string, facts: object, launcher = 'slurm'): Promise<PlacementRecord | undefined> {
  return (await placements.report(ADMIN, { launcher, reports: [{ id, ...facts }] }))[0];
}

test('a waiting run is offered until a job is planned for it, and then looked after until the job ends', async () => {
  const { id } = await launchPretraining();
  const evaluation = await launchEvaluation();
  assert.ok((await work()).waitingRunIds.includes(id));
  assert.ok(!(await work()).waitingRunIds.includes(evaluation.id), 'a launcher gets the kinds that it asks for');
  const placement = await placed(id);
  assert.deepEqual(
    { attempt: placement.attempt, number: placement.number, state: placement.state, name: placement.name },
    { attempt: 1, number: 1, state: 'PLANNED', name: `paraffin-${id}-1` },
  );
  assert.ok(!(await work()).waitingRunIds.includes(id));
  assert.deepEqual(
    (await work()).open.map((open) => open.id),
    [placement.id],
  );
  assert.deepEqual((await work('kubernetes')).open, [], 'each launcher looks after its own');

  await report(placement.id, { state: 'SUBMITTING' });
  const waiting = await report(placement.id, { state: 'WAITING', externalId: '17', reason: 'Priority', position: 14 });
  assert.equal(waiting?.externalId, '17');
  assert.ok(waiting.submittedAt !== null);
  const unknown = await report(placement.id, { state: 'UNKNOWN' });
  assert.equal(unknown?.externalId, '17', 'an id that is known is not forgotten');
  assert.equal(unknown.position, null);
  assert.ok((await report(placement.id, { state: 'RUNNING' }))?.startedAt !== null);
  const ended = await report(placement.id, { state: 'ENDED', schedulerState: 'NODE_FAIL' });
  assert.ok(ended?.endedAt !== null);
  assert.deepEqual((await work()).open, []);
  assert.ok((await work()).waitingRunIds.includes(id), 'the loss of a node is not the fault of the job');
  assert.equal((await placed(id)).number, 2);
  const shown = await createPlacementLoaders(database.db).byRun.load(id);
  assert.deepEqual(
    shown.map(({ number }) => number),
    [2, 1],
  );
});

describe('one run, one job', () => {
  test('two launchers that place the same run at the same time plan one job', async () => {
    const { id } = await launchPretraining();
    const both = await Promise.all(
      ['slurm', 'kubernetes', 'slurm'].map((launcher) => placements.place(ADMIN, { launcher, runIds: [id] })),
    );
    assert.equal(both.flat().length, 1);
  });

  test('of two launchers with one name only one submits', async () => {
    const placement = await placed((await launchPretraining()).id);
    const both = await Promise.all([1, 2].map(() => report(placement.id, { state: 'SUBMITTING' })));
    assert.deepEqual(both.map((each) => each?.state).toSorted(), ['SUBMITTING', undefined]);
  });

  test('a run that has begun elsewhere, or was cancelled, is not placed', async () => {
    const taken = await launchPretraining();
    assert.ok((await ledger.claim(RUN_KINDS, 'another', null, { runId: taken.id })) !== undefined);
    const canceled = await launchPretraining();
    await registry.runs.cancel(ADMIN, canceled.id);
    assert.deepEqual(await placements.place(ADMIN, { launcher: 'slurm', runIds: [taken.id, canceled.id] }), []);
  });

  test('a report of another launcher changes nothing, nor one after the end', async () => {
    const placement = await placed((await launchPretraining()).id);
    assert.equal(await report(placement.id, { state: 'RUNNING' }, 'kubernetes'), undefined);
    assert.equal((await work()).open.find(({ id }) => id === placement.id)?.state, 'PLANNED');
    await report(placement.id, { state: 'ENDED', schedulerState: 'FAILED' });
    assert.equal(await report(placement.id, { state: 'RUNNING' }), undefined);
  });
});

test('a run whose jobs end before a worker takes it waits before the next one', async () => {
  await database.db.run.updateMany({ where: { status: 'QUEUED' }, data: { status: 'CANCELED' } });
  const { id } = await launchPretraining();
  await report((await placed(id)).id, { state: 'ENDED', schedulerState: 'FAILED' });
  assert.ok(!(await work()).waitingRunIds.includes(id));
  const next = await launchPretraining();
  assert.deepEqual((await work('slurm', 1)).waitingRunIds, [next.id], 'a run that pauses holds up no other');
  await database.db.placement.updateMany({ where: { runId: id }, data: { endedAt: new Date(Date.now() - 20_000) } });
  assert.ok((await work()).waitingRunIds.includes(id));
});

describe('a run is claimed by name', () => {
  test('only that one, and only while it is queued', async () => {
    const first = await launchPretraining();
    const second = await launchPretraining();
    const claimed = await ledger.claim(RUN_KINDS, 'worker', 'device-1', { runId: second.id });
    assert.equal(claimed?.run.id, second.id);
    assert.equal(await ledger.claim(RUN_KINDS, 'late', null, { runId: second.id }), undefined);
    assert.equal(
      await ledger.claim(RUN_KINDS, 'worker', 'device-1', { runId: first.id }),
      undefined,
      'a device has one run at a time',
    );
    assert.equal((await ledger.find(first.id))?.status, 'QUEUED');
  });
});

describe('bad input', () => {
  const refused = (work_: Promise<unknown>, field: string) => assert.rejects(work_, { code: 'BAD_INPUT', field });

  test('names its field', async () => {
    await refused(placements.work(ADMIN, { launcher: 'No Name', kinds: ['IMPORT'], limit: 1 }), 'input.launcher');
    await refused(placements.work(ADMIN, { launcher: 'slurm', kinds: [], limit: 1 }), 'input.kinds');
    await refused(placements.work(ADMIN, { launcher: 'slurm', kinds: ['IMPORT'], limit: -1 }), 'input.limit');
    await refused(placements.place(ADMIN, { launcher: 'slurm', runIds: ['x'] }), 'input.runIds.0');
    await refused(report('x', { state: 'RUNNING' }), 'input.reports.0.id');
    await refused(
      report('0198a7c2-0000-7000-8000-000000000001', { state: 'RUNNING', reason: 'x'.repeat(501) }),
      'input.reports.0.reason',
    );
  });

  test('a run that does not exist is not placed, and a placement that does not exist is not reported', async () => {
    const nobody = '0198a7c2-0000-7000-8000-000000000001';
    assert.deepEqual(await placements.place(ADMIN, { launcher: 'slurm', runIds: [nobody] }), []);
    assert.equal(await report(nobody, { state: 'RUNNING' }), undefined);
  });

  test('launchers need the role of an operator', async () => {
    const contributor = keyHolder('CONTRIBUTOR');
    const input = { launcher: 'slurm', kinds: ['PRETRAINING'], limit: 1 };
    await assert.rejects(placements.work(contributor, input), { code: 'FORBIDDEN' });
    await assert.rejects(placements.place(contributor, { launcher: 'slurm', runIds: [] }), { code: 'FORBIDDEN' });
    await assert.rejects(placements.report(contributor, { launcher: 'slurm', reports: [] }), { code: 'FORBIDDEN' });
  });
});
