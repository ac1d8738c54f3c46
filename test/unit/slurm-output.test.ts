/** What Slurm prints, read: the output of a real Slurm, and its complaints word by word. */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, test } from 'node:test';
import {
  complaintOf,
  isRefusal,
  isWithoutAccounting,
  readPositions,
  readSacct,
  readSbatch,
  readSqueue,
} from '../../workers/launchers/slurm/output.ts';
import { phaseOf } from '../../workers/launchers/slurm/states.ts';

const printed = (name: string): Promise<string> =>
  readFile(path.resolve(import.meta.dirname, '../fixtures/slurm-22.05', name), 'utf8');
const ALL = new Set(['c1', 'f1', 'sig', 't1', 'held', 'big', 'ks', 'nf', 'urg', 'w1', 'pre1', 'pre2', 'wrap']);

describe('squeue', async () => {
  const jobs = readSqueue(await printed('squeue.txt'), ALL);
  const only = (name: string) => {
    const [job, ...others] = jobs.get(name) ?? [];
    assert.equal(others.length, 0);
    assert.ok(job !== undefined);
    return { phase: job.phase, schedulerState: job.schedulerState, reason: job.reason };
  };

  test('each way to end has its name', () => {
    assert.deepEqual(only('c1'), { phase: 'ENDED', schedulerState: 'COMPLETED', reason: null });
    assert.deepEqual(only('f1'), { phase: 'ENDED', schedulerState: 'FAILED', reason: 'NonZeroExitCode' });
    assert.deepEqual(only('t1'), { phase: 'ENDED', schedulerState: 'TIMEOUT', reason: 'TimeLimit' });
    assert.deepEqual(only('ks'), { phase: 'ENDED', schedulerState: 'PREEMPTED', reason: null });
    assert.deepEqual(only('nf'), { phase: 'ENDED', schedulerState: 'NODE_FAIL', reason: 'NodeDown' });
    assert.deepEqual(only('big'), { phase: 'ENDED', schedulerState: 'CANCELLED', reason: null });
  });

  test('a job that waits says why, one that runs says where, and one that is held says how to let it go', () => {
    assert.deepEqual(only('pre1'), { phase: 'WAITING', schedulerState: 'PENDING', reason: 'Resources' });
    assert.deepEqual(only('wrap'), { phase: 'WAITING', schedulerState: 'PENDING', reason: 'PartitionTimeLimit' });
    assert.deepEqual(only('urg'), { phase: 'RUNNING', schedulerState: 'RUNNING', reason: 'n1' });
    assert.equal(only('held').reason, 'JobHeldUser (held; "scontrol release 5" lets it go)');
  });

  test('a job of another name is not ours, even if its id was', async () => {
    assert.deepEqual([...readSqueue(await printed('squeue.txt'), new Set(['paraffin-x-1'])).keys()], []);
  });
});

describe('sacct', async () => {
  const jobs = readSacct(await printed('sacct.txt'), ALL);

  test('states lose what is behind them, and exit codes become words', () => {
    const told = (name: string) => `${jobs.get(name)?.[0]?.schedulerState}: ${jobs.get(name)?.[0]?.reason}`;
    assert.deepEqual(['big', 'f1', 'sig', 'nf'].map(told), [
      'CANCELLED: on n1',
      'FAILED: exit code 5 on n1',
      'FAILED: signal 9 on n2',
      'NODE_FAIL: on n2',
    ]);
  });

  test('a job that the accounts believe to run is left to squeue, and duplicates are all told', () => {
    assert.equal(readSacct('9|c1|RUNNING|0:0|n1\n', ALL).size, 0);
    assert.equal(readSacct('9|c1|FAILED|1:0|n1\n12|c1|COMPLETED|0:0|n1\n', ALL).get('c1')?.length, 2);
  });
});

test('every state of the manual has a phase; a job in a state that is not known still exists', () => {
  assert.deepEqual(
    ['OUT_OF_MEMORY', 'BOOT_FAIL', 'DEADLINE', 'REVOKED'].map((state) => phaseOf(state)?.phase),
    ['ENDED', 'ENDED', 'ENDED', 'ENDED'],
  );
  assert.deepEqual(
    ['SUSPENDED', 'COMPLETING', 'REQUEUE_HOLD', 'SPECIAL_EXIT'].map((state) => phaseOf(state)?.phase),
    ['RUNNING', 'RUNNING', 'WAITING', 'WAITING'],
  );
  assert.equal(phaseOf('CANCELLED+')?.name, 'CANCELLED');
  assert.equal(phaseOf('TELEPORTED'), undefined);
  const [unknown] = readSqueue('1|c1|TELEPORTED|None|n1\n', ALL).get('c1') ?? [];
  assert.deepEqual([unknown?.phase, unknown?.schedulerState], ['RUNNING', 'TELEPORTED']);
});

test('sbatch prints an id, with a cluster behind it on a federation; anything else is a lost answer', () => {
  assert.deepEqual(readSbatch('4711\n'), { kind: 'SUBMITTED', externalId: '4711' });
  assert.deepEqual(readSbatch('4711;north\n'), { kind: 'SUBMITTED', externalId: '4711' });
  assert.deepEqual(readSbatch('Welcome to the login node!\n4711\n'), { kind: 'SUBMITTED', externalId: '4711' });
  assert.equal(readSbatch('').kind, 'LOST');
});

describe('complaints', () => {
  const NO_PARTITION =
    'sbatch: error: invalid partition specified: nothere\nsbatch: error: Batch job submission failed: Invalid partition name specified\n';

  test('are passed on without the names of programs', () => {
    assert.equal(
      complaintOf(NO_PARTITION),
      'invalid partition specified: nothere; Batch job submission failed: Invalid partition name specified',
    );
    assert.equal(
      complaintOf('sbatch: unrecognized option \'--frobnicate\'\nTry "sbatch --help" for more information\n'),
      "unrecognized option '--frobnicate'",
    );
    assert.equal(complaintOf(''), 'no reason was given');
  });

  test('of a controller that does not answer are never a refusal', () => {
    assert.ok(isRefusal(NO_PARTITION));
    assert.ok(isRefusal('allocation failure: Requested node configuration is not available'));
    for (const outage of [
      'sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)',
      'slurm_load_jobs error: Unable to contact slurm controller (connect failure)',
      'sbatch: error: Batch job submission failed: Socket timed out on send/recv operation',
      'sacct: error: Problem talking to the database: Connection refused',
      'user@login: Permission denied (publickey,keyboard-interactive).',
    ])
      assert.equal(isRefusal(outage), false, outage);
  });

  test('a cluster without accounts is told from one whose accounts do not answer', () => {
    assert.ok(isWithoutAccounting('Slurm accounting storage is disabled'));
    assert.equal(isWithoutAccounting('sacct: error: Problem talking to the database: Connection refused'), false);
  });
});

test('the place of a waiting job counts within its partition', () => {
  assert.deepEqual(
    [...readPositions('8|gpu\n3|cpu\n9|gpu\n')],
    [
      ['8', 1],
      ['3', 1],
      ['9', 2],
    ],
  );
});
