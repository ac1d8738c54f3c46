/** What a launcher does about a placement: what the registry knows outranks what the scheduler says. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { NO_REQUIREMENTS } from '../../src/protocol/requirements.ts';
import type { JobSight } from '../../workers/launchers/launcher.ts';
import { decide, NOTHING_REMEMBERED, type Memory, type Placement } from '../../workers/launchers/reconcile.ts';

const PATIENCE = { misses: 3, missedForMs: 60_000, uselessForMs: 60_000 };

const placement = (changes: Partial<Placement> = {}): Placement => ({
  id: 'p',
  runId: 'r',
  name: 'paraffin-r-1',
  externalId: '17',
  state: 'RUNNING',
  schedulerState: null,
  reason: null,
  position: null,
  use: 'NEEDED',
  requirements: NO_REQUIREMENTS,
  secondsLeft: null,
  ...changes,
});
const job = (changes: Partial<JobSight> = {}): JobSight => ({
  externalId: '17',
  phase: 'RUNNING',
  schedulerState: 'RUNNING',
  reason: null,
  position: null,
  ...changes,
});
const look = (of: Placement, jobs: readonly JobSight[], memory: Memory = NOTHING_REMEMBERED, nowMs = 0) =>
  decide(of, jobs, memory, nowMs, PATIENCE);

/** Looks every 30 s that find no job. @returns the decision of the last. */
function missed(of: Placement, times: number) {
  let memory = NOTHING_REMEMBERED;
  for (let index = 0; ; index += 1) {
    const decision = look(of, [], memory, index * 30_000);
    if (index === times - 1) return decision;
    ({ memory } = decision);
  }
}

describe('a job that the scheduler knows', () => {
  test('is told with its state, reason and position, and only when something is new', () => {
    const waiting = job({ phase: 'WAITING', schedulerState: 'PENDING', reason: 'Priority', position: 14 });
    const { report, cancel } = look(placement({ state: 'WAITING' }), [waiting]);
    assert.deepEqual(report, {
      id: 'p',
      state: 'WAITING',
      externalId: '17',
      schedulerState: 'PENDING',
      reason: 'Priority',
      position: 14,
    });
    assert.deepEqual(cancel, []);
    const known = placement({ state: 'WAITING', schedulerState: 'PENDING', reason: 'Priority', position: 14 });
    assert.equal(look(known, [waiting]).report, undefined);
  });

  for (const end of ['COMPLETED', 'FAILED', 'TIMEOUT', 'NODE_FAIL', 'PREEMPTED', 'OUT_OF_MEMORY', 'CANCELLED']) {
    test(`and that ended as ${end} is ended, but not while its worker holds the run`, () => {
      const ended = job({ phase: 'ENDED', schedulerState: end });
      const { report } = look(placement(), [ended]);
      assert.deepEqual([report?.state, report?.schedulerState], ['ENDED', end]);
      assert.equal(look(placement({ use: 'CARRIED' }), [ended]).report, undefined);
    });
  }

  test('that waits for a run that is over is cancelled at once, one that runs after its worker had time to end', () => {
    const over = placement({ use: 'OVER' });
    assert.deepEqual(look(over, [job({ phase: 'WAITING' })]).cancel, ['17']);
    const first = look(over, [job()]);
    assert.deepEqual(first.cancel, []);
    assert.deepEqual(look(over, [job()], first.memory, 59_999).cancel, []);
    assert.deepEqual(look(over, [job()], first.memory, 60_000).cancel, ['17']);
  });

  test('twice, because the answer to a submission was lost: the one that runs is kept, the other one cancelled', () => {
    const { report, cancel } = look(placement({ state: 'SUBMITTING', externalId: null }), [
      job({ externalId: '21', phase: 'WAITING' }),
      job({ externalId: '20', phase: 'RUNNING' }),
      job({ externalId: '19', phase: 'ENDED' }),
    ]);
    assert.equal(report?.externalId, '20');
    assert.deepEqual(cancel, ['21']);
  });

  test('twice, and both run: neither is cancelled while one of their workers holds the run', () => {
    const jobs = [job({ externalId: '20' }), job({ externalId: '21' }), job({ externalId: '22', phase: 'WAITING' })];
    assert.deepEqual(look(placement({ use: 'CARRIED' }), jobs).cancel, ['22']);
    assert.deepEqual(look(placement({ use: 'NEEDED' }), jobs).cancel, ['20', '22']);
  });
});

describe('a job that the scheduler does not know', () => {
  test('is unknown, and only several looks over a minute end it', () => {
    const of = placement();
    assert.equal(missed(of, 1).report?.state, 'UNKNOWN');
    assert.equal(missed(of, 2).report?.state, 'UNKNOWN');
    const { report } = missed(of, 3);
    assert.deepEqual([report?.state, report?.schedulerState], ['ENDED', 'VANISHED']);
  });

  test('is not ended by many quick looks', () => {
    let memory = NOTHING_REMEMBERED;
    for (let index = 0; index < 20; index += 1) {
      const decision = look(placement(), [], memory, index);
      assert.notEqual(decision.report?.state, 'ENDED');
      ({ memory } = decision);
    }
  });

  test('is not ended while its worker renews the lease of the run', () => {
    const { report, submit, cancel } = missed(placement({ use: 'CARRIED' }), 10);
    assert.deepEqual({ report, submit, cancel }, { report: undefined, submit: false, cancel: [] });
  });

  test('and that is found again is as it was', () => {
    const { memory } = missed(placement(), 2);
    assert.deepEqual(look(placement({ state: 'UNKNOWN' }), [job()], memory, 60_000).memory, NOTHING_REMEMBERED);
  });
});

describe('a submission', () => {
  test('that was only planned is made; one whose run no longer waits is not', () => {
    const planned = { state: 'PLANNED', externalId: null } as const;
    assert.equal(look(placement(planned), []).submit, true);
    const { submit, report } = look(placement({ ...planned, use: 'OVER' }), []);
    assert.equal(submit, false);
    assert.deepEqual([report?.state, report?.schedulerState], ['ENDED', 'NOT_SUBMITTED']);
  });

  test('whose answer was lost is found by its name', () => {
    const { report } = look(placement({ state: 'SUBMITTING', externalId: null }), [job({ phase: 'WAITING' })]);
    assert.deepEqual([report?.state, report?.externalId], ['WAITING', '17']);
  });

  test('whose answer was lost is made again only when several looks have not found it', () => {
    const submitting = placement({ state: 'SUBMITTING', externalId: null });
    for (const times of [1, 2])
      assert.deepEqual([missed(submitting, times).report, missed(submitting, times).submit], [undefined, false]);
    assert.equal(missed(submitting, 3).report?.state, 'PLANNED');
  });
});
