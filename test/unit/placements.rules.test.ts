/** What a placement means for its run, how it is told, and when the next one may follow. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { PLACEMENT_STATES } from '../../src/protocol/placements.ts';
import {
  isWorkerOf,
  mayBecome,
  nameOfPlacement,
  nextPlacementAt,
  sentenceOf,
  useOf,
} from '../../src/modules/placements/placements.rules.ts';

const RUN_ID = '0198a7c2-0000-7000-8000-000000000001';
const name = nameOfPlacement(RUN_ID, 2);
const facts = {
  id: 'p',
  runId: RUN_ID,
  attempt: 3,
  number: 2,
  launcher: 'slurm',
  name,
  externalId: '4711',
  schedulerState: null,
  reason: null,
  position: null,
  createdAt: new Date(0),
  submittedAt: null,
  startedAt: null,
  endedAt: null,
};

describe('what the registry knows outranks what the scheduler says', () => {
  const use = (status: 'QUEUED' | 'RUNNING' | 'CANCELING' | 'SUCCEEDED', attempt: number, workerName: string | null) =>
    useOf({ name, attempt: 3, run: { status, attempt, workerName } });

  test('a run that waits for the attempt needs the job; one whose attempt is over does not', () => {
    assert.equal(use('QUEUED', 2, null), 'NEEDED');
    assert.equal(use('QUEUED', 3, `${name}@node1`), 'OVER');
    assert.equal(use('SUCCEEDED', 3, `${name}@node1`), 'OVER');
  });

  test('a run is carried only by a worker of this very job', () => {
    assert.equal(use('RUNNING', 3, `${name}@node1`), 'CARRIED');
    assert.equal(use('CANCELING', 3, name), 'CARRIED');
    assert.equal(use('RUNNING', 3, 'another:17'), 'OVER');
    assert.equal(isWorkerOf(nameOfPlacement(RUN_ID, 2), `${nameOfPlacement(RUN_ID, 22)}@node1`), false);
    assert.equal(isWorkerOf(name, null), false);
  });
});

test('a sentence names the scheduler, the reason and the position', () => {
  const say = (changes: Partial<Parameters<typeof sentenceOf>[0]>): string =>
    sentenceOf({ ...facts, state: 'WAITING', ...changes });
  assert.equal(say({ reason: 'Priority', position: 14 }), 'waiting in slurm: Priority, position 14');
  assert.equal(say({ reason: 'Resources' }), 'waiting in slurm: Resources');
  assert.equal(say({}), 'waiting in slurm');
  assert.equal(say({ state: 'RUNNING' }), 'running in slurm as job 4711');
  assert.equal(say({ state: 'ENDED', schedulerState: 'TIMEOUT' }), 'ended in slurm as job 4711: TIMEOUT');
  assert.equal(
    say({ state: 'PLANNED', externalId: null, reason: 'invalid partition specified: gpu' }),
    'not yet submitted to slurm: invalid partition specified: gpu',
  );
  assert.match(say({ state: 'UNKNOWN' }), /does not know job 4711/);
});

describe('the next job for a run', () => {
  const ended = (attempt: number, second: number, schedulerState = 'FAILED') => ({
    attempt,
    schedulerState,
    endedAt: new Date(second * 1000),
  });

  test('follows at once after a job whose worker took the run, a preempted one, or a lost node', () => {
    assert.equal(nextPlacementAt([], 0), undefined);
    assert.equal(nextPlacementAt([ended(1, 10)], 1), undefined);
    assert.equal(nextPlacementAt([ended(1, 10, 'PREEMPTED'), ended(1, 5, 'NODE_FAIL')], 0), undefined);
    assert.equal(
      nextPlacementAt([ended(1, 10, 'DeletionByTaintManager'), ended(1, 5, 'PreemptionByScheduler')], 0),
      undefined,
    );
    // A pod that outgrows its volume is the fault of the job.
    assert.ok(nextPlacementAt([ended(1, 10, 'Evicted')], 0) instanceof Date);
  });

  test('waits twice as long with each job that ended before its worker took the run, and at most ten minutes', () => {
    const pauseMs = (count: number): number | undefined => {
      const jobs = Array.from({ length: count }, () => ended(1, 100));
      const at = nextPlacementAt(jobs, 0);
      return at === undefined ? undefined : at.getTime() - 100_000;
    };
    assert.deepEqual([1, 2, 3, 20].map(pauseMs), [15_000, 30_000, 60_000, 600_000]);
    // Jobs of an earlier attempt, whose worker did take the run, do not count.
    assert.equal(nextPlacementAt([ended(2, 100), ended(1, 90), ended(1, 80)], 1)?.getTime(), 115_000);
  });
});

test('what has ended stays so, and a job is submitted by one launcher alone', () => {
  for (const next of PLACEMENT_STATES) assert.equal(mayBecome('ENDED', next), false);
  assert.deepEqual(
    PLACEMENT_STATES.filter((state) => mayBecome(state, 'SUBMITTING')),
    ['PLANNED'],
  );
  assert.ok(mayBecome('SUBMITTING', 'PLANNED'), 'a submission that never arrived is made again');
});
