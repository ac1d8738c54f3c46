/** What a long run keeps of its events and metrics. */
import assert from 'node:assert/strict';
import { after, beforeEach, describe, test } from 'node:test';
import { compactTelemetry, runsWithMissingEvents } from '../../src/modules/runs/index.ts';
import { ADMIN } from '../support/registry.ts';
import { FAULT, openRunStage } from '../support/run-stage.ts';

const stage = await openRunStage();
const { database, registry, launchPretraining, claim } = stage;
const { db, transact } = database;
after(() => stage.close());
beforeEach(async () => {
  await stage.emptyQueue();
  await db.runEvent.deleteMany();
  await db.runMetricChunk.deleteMany();
});

const compact = (dryRun: boolean) => compactTelemetry({ db, transact, dryRun });

/** Numbers of the events that are left. */
const sequencesOf = async (runId: string): Promise<number[]> =>
  (await db.runEvent.findMany({ where: { runId }, orderBy: { sequence: 'asc' }, select: { sequence: true } })).map(
    ({ sequence }) => sequence,
  );

describe('the events of a long run', () => {
  /** A run with events as a worker of an older version has left them. */
  async function runWithEvents(
    count: number,
  ): Promise<{ runId: string; lease: Awaited<ReturnType<typeof claim>>['lease'] }> {
    const { id } = await launchPretraining();
    const { lease } = await claim();
    await registry.ledger.withLease(lease, async (tx) => {
      await tx.$executeRaw`
        INSERT INTO "RunEvent" ("runId", sequence, kind, status, progress, message, metrics)
        SELECT ${id}::uuid, n, CASE WHEN n % 100 = 0 THEN 'CHECKPOINT' ELSE 'METRICS' END, 'RUNNING', n / 10000.0,
          CASE WHEN n % 100 = 0 THEN 'Kept everything needed to continue from step ' || n || '.' WHEN n = 777 THEN 'Registered the encoder.' END,
          CASE WHEN n % 100 = 0 THEN NULL WHEN n = 333 THEN '{"step": 333, "probeRidgeMacroF1": 0.5}'::jsonb ELSE jsonb_build_object('step', n, 'loss', 1.0 / n) END
        FROM generate_series(3, ${count}) AS n`;
    });
    return { runId: id, lease };
  }

  test('are compacted by garbage collection, and a dry run reports the same', async () => {
    const { runId, lease } = await runWithEvents(2_998);
    await registry.ledger.fail(lease, FAULT);
    // 2,999 events: those up to 1,500 are old, in sections of 500.
    const recent = Array.from({ length: 1_499 }, (_, index) => 1_501 + index);
    const expected = [1, 2, 333, 499, 500, 777, 999, 1_000, 1_499, 1_500, ...recent];
    const planned = await compact(true);
    assert.equal((await sequencesOf(runId)).length, 2_999);
    assert.deepEqual(await compact(false), planned);
    assert.deepEqual(await sequencesOf(runId), expected, 'changes of status, the probe, and one of each section');
    assert.equal(planned[0]?.kind, 'events of runs');
    assert.deepEqual([planned[0]?.deleted.count, planned[0]?.kept.count], [2_999 - expected.length, expected.length]);
    assert.ok((planned[0]?.deleted.byteSize ?? 0) > 50 * 1_000);
    assert.equal((await compact(false))[0]?.deleted.count, 0, 'a second time changes nothing');
    const [page] = [await registry.runs.eventsAfter(ADMIN, runId, 0)];
    assert.deepEqual(
      page?.slice(0, 3).map(({ sequence }) => sequence),
      [1, 2, 333],
    );
  });

  test('are compacted while the run goes on, and the next ones get the next numbers', async () => {
    const { runId, lease } = await runWithEvents(1_499);
    await registry.ledger.report(lease, { progress: 0.5, points: [{ step: 5_000, metrics: { loss: 1 } }] });
    const first = await sequencesOf(runId);
    assert.deepEqual(first.slice(0, 6), [1, 2, 333, 499, 500, 501]);
    assert.equal(first.at(-1), 1_500);
    await registry.ledger.report(lease, { progress: 0.6 });
    assert.equal((await sequencesOf(runId)).at(-1), 1_501);
  });
});

test('an event that is missing is found among those that compaction leaves, at any number of events', async () => {
  const { id: runId } = await launchPretraining();
  for (const last of [1, 2, 499, 1_500, 1_999, 3_210]) {
    for (const isCompacted of [false, true]) {
      const kept = [last, last - 1, ...(last > 2_000 ? [500, 2_000] : last >= 1_500 ? [500, 501] : [])];
      for (const lost of [0, ...kept.filter((sequence) => sequence > 0 && sequence < last)]) {
        await db.runEvent.deleteMany();
        await db.$executeRaw`
          INSERT INTO "RunEvent" ("runId", sequence, kind, status)
          SELECT ${runId}::uuid, n, 'METRICS', 'RUNNING' FROM generate_series(1, ${last}) AS n`;
        if (isCompacted) await compact(false);
        await db.runEvent.deleteMany({ where: { sequence: lost } });
        const expected = lost === 0 ? [] : [runId];
        assert.deepEqual(await runsWithMissingEvents(db), expected, `${last} events, without ${lost}`);
      }
    }
  }
});

describe('the metrics of a long run', () => {
  const STEPS = 40_000;
  const HIGHEST_STEP = 1_234;
  const LOWEST_STEP = 7_890;
  const valueAt = (step: number): number =>
    step === HIGHEST_STEP ? 100 : step === LOWEST_STEP ? -100 : Math.sin(step);
  /** Reports the steps as a worker does, 128 at a time; the events are those of a short run. */
  async function train(count: number): Promise<{ runId: string; lease: Awaited<ReturnType<typeof claim>>['lease'] }> {
    const { id } = await launchPretraining();
    const { lease } = await claim();
    await registry.ledger.withLease(lease, async (tx) => {
      for (let start = 0; start < count; start += 128) {
        const steps = Array.from({ length: Math.min(128, count - start) }, (_, index) => start + index);
        for (const name of ['loss', 'probeRidgeMacroF1'])
          await tx.$queryRaw`SELECT append_run_metrics(${id}::uuid, ${name}, ${steps}::int[], ${steps.map(valueAt)}::float8[])::text`;
      }
    });
    return { runId: id, lease };
  }

  test('keep the recent part, the shape of the rest with its extremes, and every point of the probe', async () => {
    const { runId, lease } = await train(STEPS);
    await registry.ledger.fail(lease, FAULT);
    const planned = await compact(true);
    assert.equal(await db.runMetricChunk.count({ where: { runId, isCompacted: true } }), 0);
    assert.deepEqual(await compact(false), planned);
    const [loss, probe] = await registry.runs.metrics(ADMIN, runId, ['loss', 'probeRidgeMacroF1'], {
      maxPoints: 100_000,
    });
    assert.equal(probe?.points.length, STEPS);
    const points = loss?.points ?? [];
    for (const { step, value } of points) assert.equal(value, valueAt(step), 'no point is made up');
    const steps = new Set(points.map(({ step }) => step));
    assert.ok([0, HIGHEST_STEP, LOWEST_STEP, STEPS - 1].every((step) => steps.has(step)));
    // 313 chunks: two times 64 old ones in sections of four, 512 points each; the other 185 stay.
    const firstFine = 128 * 128;
    assert.deepEqual(
      points.filter(({ step }) => step >= firstFine).map(({ step }) => step),
      Array.from({ length: STEPS - firstFine }, (_, index) => firstFine + index),
    );
    const old = points.filter(({ step }) => step < firstFine);
    for (let start = 0; start < firstFine; start += 512) {
      const all = Array.from({ length: 512 }, (_, index) => start + index);
      const byValue = all.toSorted((a, b) => valueAt(a) - valueAt(b));
      const expected = new Set([start, start + 511, byValue[0], byValue.at(-1)]);
      assert.deepEqual(
        old.filter(({ step }) => step >= start && step < start + 512).map(({ step }) => step),
        [...expected].map(Number).toSorted((a, b) => a - b),
      );
    }
    assert.deepEqual(planned[1]?.deleted.count, firstFine - old.length);
    assert.deepEqual(planned[1].kept.count, STEPS + points.length);
    assert.ok(planned[1].deleted.byteSize > 10 * 15_000);
    assert.equal((await compact(false))[1]?.deleted.count, 0);

    // A plot still shows both spikes, and a resumed run goes on.
    const [plot] = await registry.runs.metrics(ADMIN, runId, ['loss']);
    assert.ok((plot?.points.length ?? 0) <= 1_000);
    const plotted = new Set(plot?.points.map(({ step }) => step));
    assert.ok([0, HIGHEST_STEP, LOWEST_STEP, STEPS - 1].every((step) => plotted.has(step)));
    await registry.runs.resume(ADMIN, runId);
    const again = await claim();
    await registry.ledger.report(again.lease, { progress: 0.9, points: [{ step: STEPS, metrics: { loss: 3 } }] });
    const [resumed] = await registry.runs.metrics(ADMIN, runId, ['loss']);
    assert.deepEqual([resumed?.points.at(-1)?.step, resumed?.points.at(-1)?.value], [STEPS, 3]);
  });

  test('are compacted while the run goes on', async () => {
    const { runId, lease } = await train(128 * 192);
    assert.equal(await db.runMetricChunk.count({ where: { runId, isCompacted: true } }), 0);
    await registry.ledger.withLease(lease, async (tx) => {
      await tx.$executeRaw`
        INSERT INTO "RunEvent" ("runId", sequence, kind, status, progress) SELECT ${runId}::uuid, n, 'PROGRESS', 'RUNNING', 0.5 FROM generate_series(3, 499) AS n`;
    });
    await registry.ledger.report(lease, { progress: 0.5 });
    assert.equal(await db.runMetricChunk.count({ where: { runId, name: 'loss', isCompacted: true } }), 1);
    assert.equal(await db.runMetricChunk.count({ where: { runId, name: 'loss' } }), 1 + 128);
    assert.equal(await db.runMetricChunk.count({ where: { runId, name: 'probeRidgeMacroF1' } }), 192);
  });
});
