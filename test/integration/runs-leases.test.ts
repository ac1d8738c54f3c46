/** Who may write to a run: leases, fencing by the database itself, and how often a run that dies is retried. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { after, beforeEach, describe, test } from 'node:test';
import {
  CANCELING_LEASE_SECONDS,
  createLedger,
  MAX_ATTEMPTS_WITHOUT_PROGRESS,
  MAX_FRUITLESS_ATTEMPTS,
} from '../../src/modules/runs/index.ts';
import { eventually } from '../support/eventually.ts';
import { ADMIN } from '../support/registry.ts';
import { FAULT, openRunStage } from '../support/run-stage.ts';
import { LEASE_SECONDS, type RunFailureRecord } from '../../src/protocol/runs.ts';

const DIED: RunFailureRecord = {
  class: 'INFRASTRUCTURE',
  code: 'CHILD_DIED',
  message: 'The process ended without an error message.',
  hint: null,
};
const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex');

const fixture = await openRunStage();
const {
  database,
  registry,
  datasetId,
  versionId,
  checkpointId,
  launchPretraining,
  launchEvaluation,
  statusOf,
  expireLease,
  claim,
  eventKinds,
  runThatIs,
} = fixture;
after(fixture.close);
// Each test starts with an empty queue.
beforeEach(fixture.emptyQueue);

describe('a lease', () => {
  test('that was lost allows no write', async () => {
    const run = await launchPretraining();
    const stale = (await claim()).lease;
    await registry.ledger.release(stale, 'Given back.');
    const { lease } = await claim();
    const { ledger } = registry;
    const before = await snapshot(run.id);
    const lost = { code: 'LEASE_LOST' };
    await assert.rejects(ledger.report(stale, { progress: 0.9, points: [{ step: 1, metrics: { loss: 1 } }] }), lost);
    await assert.rejects(ledger.setEnvironment(stale, { engine: 'other' }), lost);
    await assert.rejects(
      ledger.withLease(stale, (tx) =>
        ledger.keepTrainingState(tx, stale, { step: 5, sha256: sha256('shard'), probe: null }),
      ),
      lost,
    );
    await assert.rejects(
      ledger.withLease(stale, (tx) => ledger.succeed(tx, stale, 'Done.')),
      lost,
    );
    await assert.rejects(ledger.fail(stale, DIED), lost);
    await assert.rejects(ledger.cancelNow(stale), lost);
    await assert.rejects(ledger.release(stale, 'Again.'), lost);
    assert.equal(await ledger.renew(stale), undefined);
    assert.deepEqual(await snapshot(run.id), before);
    assert.equal((await ledger.renew(lease))?.status, 'RUNNING');
  });

  for (const status of ['SUCCEEDED', 'FAILED', 'CANCELED'] as const) {
    test(`ends with the run: ${status} never changes`, async () => {
      const id = await runThatIs(status);
      const before = await snapshot(id);
      const { leaseEpoch } = await database.db.run.findUniqueOrThrow({ where: { id } });
      const lease = { runId: id, epoch: leaseEpoch };
      await assert.rejects(registry.ledger.report(lease, { progress: 0 }), { code: 'LEASE_LOST' });
      await assert.rejects(registry.ledger.fail(lease, DIED), { code: 'LEASE_LOST' });
      await assert.rejects(registry.ledger.release(lease, 'Again.'), { code: 'LEASE_LOST' });
      await assert.rejects(
        registry.ledger.withLease(lease, (tx) => registry.ledger.succeed(tx, lease, 'Done.')),
        { code: 'LEASE_LOST' },
      );
      assert.equal(await registry.ledger.renew(lease), undefined);
      await registry.ledger.requeueExpired();
      assert.deepEqual(await snapshot(id), before);
    });
  }

  async function snapshot(id: string): Promise<object> {
    const { leaseExpiresAt: _, ...row } = await database.db.run.findUniqueOrThrow({
      where: { id },
      include: { events: true, metricChunks: true, trainingStates: true },
    });
    return row;
  }

  test('that expired returns the run to the queue; one that was renewed does not', async () => {
    const run = await launchPretraining();
    const { lease } = await claim();
    await expireLease(run.id);
    assert.equal((await registry.ledger.renew(lease))?.status, 'RUNNING');
    assert.equal(await registry.ledger.requeueExpired(), 0);
    await expireLease(run.id);
    assert.equal(await registry.ledger.requeueExpired(), 1);
    assert.equal(await statusOf(run.id), 'QUEUED');
    assert.equal(await registry.ledger.renew(lease), undefined);
    assert.equal((await claim()).lease.epoch, lease.epoch + 1);
  });

  test('that expired while the database was unavailable gets the time of a lease to be renewed', async () => {
    const run = await launchPretraining();
    const { lease } = await claim();
    let isUnavailable = true;
    const ledger = createLedger(database.db, (work) =>
      isUnavailable ? Promise.reject(new Error('connect ECONNREFUSED 127.0.0.1:5432')) : database.transact(work),
    );
    await assert.rejects(ledger.requeueExpired(), /ECONNREFUSED/);
    await expireLease(run.id);
    isUnavailable = false;
    assert.equal(await ledger.requeueExpired(), 0);
    assert.notEqual(await ledger.renew(lease), undefined);
    assert.equal(await registry.ledger.requeueExpired(), 0, 'the renewed run keeps its lease');
  });

  test('shows what would be lost with its holder: the steps since the last saved state', async () => {
    await launchPretraining();
    const { lease } = await claim();
    const { ledger } = registry;
    const points = [0, 1, 2, 3, 4].map((step) => ({ step, metrics: { loss: 1 } }));
    await ledger.report(lease, { progress: 0.5, points });
    assert.deepEqual(await registry.runs.unfinishedWork(), { runCount: 1, unkeptStepCount: 5 });
    await ledger.withLease(lease, (tx) =>
      ledger.keepTrainingState(tx, lease, { step: 3, sha256: sha256('shard'), probe: null }),
    );
    assert.deepEqual(await registry.runs.unfinishedWork(), { runCount: 1, unkeptStepCount: 2 });
    await ledger.release(lease, 'Given back.');
    assert.deepEqual(await registry.runs.unfinishedWork(), { runCount: 0, unkeptStepCount: 0 });
  });

  test('that expires while the run is CANCELING makes it CANCELED', async () => {
    const id = await runThatIs('CANCELING');
    await expireLease(id);
    await registry.ledger.requeueExpired();
    assert.equal(await statusOf(id), 'CANCELED');
  });

  test('that expires again and again ends the run as FAILED, but not as soon as a run that fails through its own fault', async () => {
    const run = await launchPretraining();
    for (let attempt = 1; attempt <= MAX_ATTEMPTS_WITHOUT_PROGRESS; attempt += 1) {
      assert.equal(await statusOf(run.id), 'QUEUED', `before attempt ${attempt}`);
      await claim();
      await expireLease(run.id);
      await registry.ledger.requeueExpired();
    }
    const failed = await registry.runs.get(ADMIN, run.id);
    assert.deepEqual(
      [failed?.status, failed?.attempt, failed?.failure?.class, failed?.failure?.code],
      ['FAILED', MAX_ATTEMPTS_WITHOUT_PROGRESS, 'INFRASTRUCTURE', 'WORKER_SILENT'],
    );
  });

  test("identifies the folders in use: those of the run's last lease, while it is running", async () => {
    await launchPretraining();
    const first = await claim();
    await expireLease(first.lease.runId);
    assert.deepEqual(await registry.ledger.held([first.lease]), [first.lease], 'its lease is not requeued yet');
    await registry.ledger.requeueExpired();
    const second = await claim();
    assert.deepEqual(await registry.ledger.held([first.lease, second.lease]), [second.lease]);
    await registry.ledger.fail(second.lease, FAULT);
    assert.deepEqual(await registry.ledger.held([first.lease, second.lease]), []);
  });

  test('that ends later than possible reveals a clock that was set back: a dead worker is noticed one lease later', async () => {
    const run = await launchPretraining();
    const { lease } = await claim();
    // For the database it makes no difference whether its clock goes back an hour or the recorded instant moves an hour
    // ahead.
    await database.db
      .$executeRaw`UPDATE "Run" SET "leaseExpiresAt" = "leaseExpiresAt" + interval '1 hour' WHERE id = ${run.id}::uuid`;
    assert.equal(await registry.ledger.requeueExpired(), 0);
    const [row] = await database.db.$queryRaw<
      { seconds: number }[]
    >`SELECT extract(epoch FROM "leaseExpiresAt" - now()::timestamptz(3))::float8 AS seconds FROM "Run" WHERE id = ${run.id}::uuid`;
    assert.ok(row !== undefined && row.seconds <= LEASE_SECONDS, `${row?.seconds} s`);
    assert.equal((await registry.ledger.renew(lease))?.status, 'RUNNING', 'a living worker loses nothing');
  });

  test('is short while a cancel is pending, renewed or not', async () => {
    const id = await runThatIs('CANCELING');
    // Both instants are rounded to milliseconds, because the column is; rounded up, a lease would look too long.
    const secondsLeft = async (): Promise<number> => {
      const [row] = await database.db.$queryRaw<
        { seconds: number }[]
      >`SELECT extract(epoch FROM "leaseExpiresAt" - now()::timestamptz(3))::float8 AS seconds FROM "Run" WHERE id = ${id}::uuid`;
      return row?.seconds ?? Infinity;
    };
    assert.ok((await secondsLeft()) <= CANCELING_LEASE_SECONDS);
    const { leaseEpoch } = await database.db.run.findUniqueOrThrow({ where: { id } });
    assert.equal((await registry.ledger.renew({ runId: id, epoch: leaseEpoch }))?.status, 'CANCELING');
    assert.ok((await secondsLeft()) <= CANCELING_LEASE_SECONDS);
  });

  test('counts the running time over all attempts, and from zero for a resumed run', async () => {
    const run = await launchPretraining();
    const first = await claim();
    await registry.ledger.renew(first.lease, 1.5);
    await registry.ledger.fail(first.lease, DIED);
    const second = await claim();
    assert.equal(second.run.busySeconds, 1.5);
    assert.equal((await registry.ledger.renew(second.lease, 3.5))?.busySeconds, 3.5);
    // The same again, because an answer was lost, and an older one that arrives late.
    assert.equal((await registry.ledger.renew(second.lease, 3.5))?.busySeconds, 3.5);
    assert.equal((await registry.ledger.renew(second.lease, 2))?.busySeconds, 3.5);
    await registry.ledger.fail(second.lease, FAULT);
    await registry.runs.resume(ADMIN, run.id);
    assert.equal((await registry.ledger.renew((await claim()).lease, 1))?.busySeconds, 1);
  });

  test('that two servers check is reaped once', async () => {
    const run = await launchPretraining();
    await claim();
    await expireLease(run.id);
    const counts = await Promise.all([
      registry.ledger.requeueExpired(),
      registry.ledger.requeueExpired(),
      registry.ledger.requeueExpired(),
    ]);
    assert.equal(
      counts.reduce((sum, count) => sum + count, 0),
      1,
    );
    assert.deepEqual(await eventKinds(run.id), ['QUEUED', 'STARTED', 'REQUEUED']);
  });
});

describe('the database itself', () => {
  const REFUSED = /is written to under its lease alone|does not hold run/;

  /** SQL as a program that does not use our code would send it. */
  async function underLease(lease: string | undefined, sql: string, ...values: readonly unknown[]): Promise<void> {
    await database.transact(async (tx) => {
      if (lease !== undefined) await tx.$queryRaw`SELECT set_config('paraffin.lease', ${lease}, true)`;
      await tx.$executeRawUnsafe(sql, ...values);
    });
  }

  /** A run that was taken twice: the first worker's lease is stale. */
  async function takenTwice(): Promise<{ readonly runId: string; readonly stale: string; readonly current: string }> {
    const { id } = await launchPretraining();
    const first = await claim();
    await registry.ledger.release(first.lease, 'Given back.');
    const second = await claim();
    return { runId: id, stale: `${id}:${first.lease.epoch}`, current: `${id}:${second.lease.epoch}` };
  }

  const modelId = async (): Promise<string> =>
    (await database.db.model.findUniqueOrThrow({ where: { slug: 'runs-test' } })).id;
  const WRITES: readonly (readonly [what: string, sql: string, rest: () => Promise<readonly unknown[]>])[] = [
    [
      'a metric',
      'SELECT append_run_metrics($1::uuid, $2, ARRAY[coalesce((SELECT max("lastStep") + 1 FROM "RunMetricChunk" WHERE "runId" = $1::uuid), 0)], ARRAY[0.5::float8])::text',
      () => Promise.resolve(['loss']),
    ],
    [
      'an event of progress',
      `INSERT INTO "RunEvent" ("runId", sequence, kind) VALUES ($1::uuid, 1000, $2)`,
      () => Promise.resolve(['PROGRESS']),
    ],
    [
      'a training state',
      `INSERT INTO "TrainingState" ("runId", step, sha256) VALUES ($1::uuid, 1, $2)`,
      () => Promise.resolve([sha256('shard')]),
    ],
    [
      'a checkpoint',
      `INSERT INTO "Checkpoint" (id, "modelId", version, encoder, "embeddingDim", "inputContract", "sourceRunId") VALUES (gen_random_uuid(), $2::uuid, 9000 + (random() * 1e6)::int, 'RESNET18', 512, '{}', $1::uuid)`,
      async () => [await modelId()],
    ],
    [
      'an evaluation',
      `INSERT INTO "Evaluation" (id, "checkpointId", "datasetVersionId", protocol, "runId", seed, options, split, baselines) VALUES (gen_random_uuid(), $2::uuid, $3::uuid, 'LINEAR_PROBE', $1::uuid, 1, '{}', '{}', '[]')`,
      () => Promise.resolve([checkpointId, versionId]),
    ],
    [
      'a sealed version',
      `INSERT INTO "DatasetVersion" (id, "datasetId", version, status, "importRunId") VALUES (gen_random_uuid(), $2::uuid, 9000 + (random() * 1e6)::int, 'DRAFT', $1::uuid)`,
      () => Promise.resolve([datasetId]),
    ],
    ['progress', `UPDATE "Run" SET progress = 0.5 WHERE id = $1::uuid AND $2 = $2`, () => Promise.resolve([''])],
  ];
  for (const [what, sql, rest] of WRITES) {
    test(`refuses ${what} under a stale lease, takes it under the current one, and refuses it again when the run has ended`, async () => {
      const { runId, stale, current } = await takenTwice();
      const write = async (lease: string | undefined): Promise<void> =>
        underLease(lease, sql, runId, ...(await rest()));
      await assert.rejects(write(stale), REFUSED);
      if (what !== 'progress') await assert.rejects(write(undefined), REFUSED, 'and under none');
      await write(current);
      await registry.ledger.cancelNow({ runId, epoch: 2 });
      await assert.rejects(write(current), REFUSED);
    });
  }

  test('never lowers an epoch, and restarts an ended run only if it is resumed', async () => {
    const { runId } = await takenTwice();
    await assert.rejects(database.db.run.update({ where: { id: runId }, data: { leaseEpoch: 1 } }), /never falls/);
    const succeeded = await runThatIs('SUCCEEDED');
    for (const status of ['QUEUED', 'RUNNING', 'FAILED'] as const)
      await assert.rejects(database.db.run.update({ where: { id: succeeded }, data: { status } }), /has ended/);
    const failed = await runThatIs('FAILED');
    await assert.rejects(database.db.run.update({ where: { id: failed }, data: { status: 'RUNNING' } }), /has ended/);
  });

  test('never places two runs on one device', async () => {
    await launchPretraining();
    const other = await launchPretraining();
    const first = await registry.ledger.claim(['PRETRAINING'], 'one', 'GPU-1');
    assert.equal(first?.run.deviceId, 'GPU-1');
    assert.equal(await registry.ledger.claim(['PRETRAINING'], 'two', 'GPU-1'), undefined);
    await assert.rejects(
      database.db.run.update({ where: { id: other.id }, data: { status: 'RUNNING', deviceId: 'GPU-1' } }),
      /Unique constraint/,
    );
    // A claim passes over a row that is locked, as it is until the rejected change is rolled back.
    const second = await eventually('the second run to be claimed', () =>
      registry.ledger.claim(['PRETRAINING'], 'two', 'GPU-2'),
    );
    assert.equal(second.run.id, other.id);
    await registry.ledger.cancelNow(first.lease);
    const third = await launchPretraining();
    assert.equal((await registry.ledger.claim(['PRETRAINING'], 'two', 'GPU-1'))?.run.id, third.id);
  });
});

describe('a run whose process dies', () => {
  test('is retried as long as it saves progress in between', async () => {
    const run = await launchPretraining();
    for (let attempt = 1; attempt <= MAX_FRUITLESS_ATTEMPTS + 2; attempt += 1) {
      const { lease } = await claim();
      await registry.ledger.withLease(lease, (tx) =>
        registry.ledger.keepTrainingState(tx, lease, { step: attempt, sha256: sha256('shard'), probe: null }),
      );
      await registry.ledger.fail(lease, DIED);
      assert.equal(await statusOf(run.id), 'QUEUED');
    }
    assert.deepEqual(await registry.ledger.latestTrainingState(run.id), {
      step: MAX_FRUITLESS_ATTEMPTS + 2,
      sha256: sha256('shard'),
      probe: null,
    });
  });

  const failure = (failureClass: RunFailureRecord['class'], code: string): RunFailureRecord => ({
    class: failureClass,
    code,
    message: 'It failed.',
    hint: null,
  });
  for (const facts of [
    failure('USER', 'TRAINING_DIVERGED'),
    failure('DATA', 'IMPORT_NOTHING_READABLE'),
    failure('INTERNAL', 'INTERNAL'),
    failure('INFRASTRUCTURE', 'ARTIFACT_CORRUPT'),
    failure('TIMEOUT', 'TIMED_OUT'),
  ]) {
    test(`of ${facts.class} ${facts.code} is not retried: it would come to the same end`, async () => {
      const run = await launchPretraining();
      await registry.ledger.fail((await claim()).lease, facts);
      assert.equal(await statusOf(run.id), 'FAILED');
    });
  }
  for (const facts of [failure('INFRASTRUCTURE', 'ENOSPC'), failure('TIMEOUT', 'NO_PROGRESS')]) {
    test(`of ${facts.class} ${facts.code} is retried, and abandoned after ${MAX_FRUITLESS_ATTEMPTS} attempts that kept nothing`, async () => {
      const run = await launchPretraining();
      for (let attempt = 1; attempt < MAX_FRUITLESS_ATTEMPTS; attempt += 1) {
        await registry.ledger.fail((await claim()).lease, facts);
        assert.equal(await statusOf(run.id), 'QUEUED');
      }
      await registry.ledger.fail((await claim()).lease, facts);
      const failed = await registry.runs.get(ADMIN, run.id);
      assert.deepEqual([failed?.status, failed?.failure?.code], ['FAILED', facts.code]);
    });
  }

  test('that ran out of memory continues with half the micro-batch, the batch as it was, until there is nothing to halve', async () => {
    const run = await launchPretraining({ batchSize: 8 });
    const noMemory = failure('OUT_OF_MEMORY', 'OUT_OF_MEMORY');
    const taken: (number | null)[] = [];
    for (;;) {
      const claimed = await registry.ledger.claim(['PRETRAINING'], 'tester');
      if (claimed === undefined) break;
      taken.push(claimed.run.microBatchSize);
      assert.deepEqual(claimed.run.config, run.config);
      await registry.ledger.fail(claimed.lease, noMemory);
    }
    assert.deepEqual(taken, [null, 4, 2]);
    assert.equal(await statusOf(run.id), 'FAILED');
    const { id } = await launchEvaluation();
    await registry.ledger.fail((await claim('EVALUATION')).lease, noMemory);
    assert.equal(await statusOf(id), 'FAILED', 'an evaluation has no batch to split');
  });

  test('does not lose attempts to a silent worker or a database that did not answer, however often between its own faults', async () => {
    const run = await launchPretraining();
    const unreachable = failure('INFRASTRUCTURE', 'DATABASE_UNREACHABLE');
    for (let round = 1; round < MAX_FRUITLESS_ATTEMPTS; round += 1) {
      await registry.ledger.fail((await claim()).lease, DIED);
      for (let count = 0; count < MAX_FRUITLESS_ATTEMPTS; count += 1) {
        await registry.ledger.fail((await claim()).lease, unreachable);
        await claim();
        await expireLease(run.id);
        await registry.ledger.requeueExpired();
        assert.equal(await statusOf(run.id), 'QUEUED');
      }
    }
    await registry.ledger.fail((await claim()).lease, DIED);
    assert.equal(await statusOf(run.id), 'FAILED');
  });

  test('has all attempts again when it is resumed', async () => {
    const run = await launchPretraining();
    for (let attempt = 1; attempt <= MAX_FRUITLESS_ATTEMPTS; attempt += 1)
      await registry.ledger.fail((await claim()).lease, DIED);
    assert.equal(await statusOf(run.id), 'FAILED');
    await registry.runs.resume(ADMIN, run.id);
    await registry.ledger.fail((await claim()).lease, DIED);
    assert.equal(await statusOf(run.id), 'QUEUED');
  });
});
