/** The reports of a run: numbered events, metric series, lists, and live updates. */
import assert from 'node:assert/strict';
import { after, beforeEach, describe, test } from 'node:test';
import { createRunEvents } from '../../src/api/run-events.ts';
import { RUN_EVENTS_CHANNEL } from '../../src/modules/runs/index.ts';
import { listenForAnnouncements } from '../../src/platform/announcements.ts';
import { eventually } from '../support/eventually.ts';
import { assertTakenSince } from '../support/instants.ts';
import { ADMIN } from '../support/registry.ts';
import { openRunStage } from '../support/run-stage.ts';

const UNKNOWN_ID = '00000000-0000-7000-8000-000000000000';

const fixture = await openRunStage();
const { database, registry, launchPretraining, launchImport, claim } = fixture;
const announcements = await listenForAnnouncements(database.url, RUN_EVENTS_CHANNEL, () => undefined);
after(async () => {
  await announcements.close();
  await fixture.close();
});
// Each test starts with an empty queue.
beforeEach(fixture.emptyQueue);

describe('the reports of a run', () => {
  test('events are numbered 1, 2, 3 even with simultaneous writers', async () => {
    const run = await launchPretraining();
    const { lease } = await claim();
    await Promise.all([
      ...Array.from({ length: 12 }, (_, step) =>
        registry.ledger.report(lease, { progress: step / 20, points: [{ step, metrics: { loss: 1 } }] }),
      ),
      registry.runs.cancel(ADMIN, run.id),
      registry.runs.cancel(ADMIN, run.id),
    ]);
    const events = await registry.runs.eventsAfter(ADMIN, run.id, 0);
    assert.deepEqual(
      events.map((event) => event.sequence),
      Array.from({ length: 15 }, (_, index) => index + 1),
    );
    assert.deepEqual(
      (await registry.runs.eventsAfter(ADMIN, run.id, 13)).map((event) => event.sequence),
      [14, 15],
    );
  });

  test('metrics become series; a step reported twice keeps its first value, and NaN is left out', async () => {
    const run = await launchPretraining();
    const { lease } = await claim();
    const beganMs = Date.now();
    await registry.ledger.report(lease, {
      progress: 0.1,
      points: [
        { step: 0, metrics: { loss: 3, imagesPerSecond: 50 } },
        { step: 1, metrics: { loss: 2 } },
      ],
    });
    await registry.ledger.report(lease, {
      progress: 0.2,
      points: [
        { step: 1, metrics: { loss: 9 } },
        { step: 2, metrics: { loss: Number.NaN } },
        { step: 3, metrics: { loss: 1 } },
      ],
    });
    const series = await registry.runs.metrics(ADMIN, run.id, null);
    assert.deepEqual(
      series.map(({ name, unit, points }) => [name, unit, points.map(({ step, value }) => [step, value])]),
      [
        ['imagesPerSecond', 'images/s', [[0, 50]]],
        [
          'loss',
          null,
          [
            [0, 3],
            [1, 2],
            [3, 1],
          ],
        ],
      ],
    );
    for (const { recordedAt } of series.flatMap(({ points }) => points)) assertTakenSince(beganMs, recordedAt);
    assert.deepEqual(
      (await registry.runs.metrics(ADMIN, run.id, ['loss', 'unknown'])).map(({ name }) => name),
      ['loss'],
    );
    assert.deepEqual(await registry.runs.metrics(ADMIN, run.id, []), []);
    assert.deepEqual(await registry.runs.metrics(ADMIN, run.id, ['a\0b']), []);
  });

  /** A falling curve with a spike: 5,000 points of which one stands out. */
  const NEEDLE_STEP = 3_217;
  const valueAt = (step: number): number => (step === NEEDLE_STEP ? 100 : 5 - step / 1000);

  test('a long series is thinned to the requested number of points, keeps its ends and every spike, and shows every point of a window', async () => {
    const run = await launchPretraining();
    const { lease } = await claim();
    for (let start = 0; start < 5_000; start += 50) {
      await registry.ledger.report(lease, {
        progress: 0.5,
        points: Array.from({ length: 50 }, (_, index) => ({
          step: start + index,
          metrics: { loss: valueAt(start + index) },
        })),
      });
    }
    const chunks = await database.db.runMetricChunk.findMany({
      where: { runId: run.id },
      orderBy: { firstStep: 'asc' },
    });
    assert.deepEqual(
      chunks.flatMap((chunk) => chunk.steps),
      Array.from({ length: 5_000 }, (_, step) => step),
    );
    assert.ok(chunks.length <= 40, `${chunks.length} rows for 5,000 points`);
    // With 10 and 40, each part merges the extremes of several chunks; with 100 the chunks are used unchanged; with
    // 1000, parts have only a few points.
    for (const maxPoints of [10, 40, 100, 1000]) {
      const [series] = await registry.runs.metrics(ADMIN, run.id, ['loss'], { maxPoints });
      const points = series?.points ?? [];
      assert.ok(points.length <= maxPoints && points.length >= maxPoints / 3, `${points.length} of ${maxPoints}`);
      assert.deepEqual([points[0]?.step, points.at(-1)?.step], [0, 4_999]);
      assert.ok(
        points.some(({ step, value }) => step === NEEDLE_STEP && value === 100),
        'the needle',
      );
      assert.deepEqual(
        points.map(({ step }) => step),
        points.map(({ step }) => step).toSorted((a, b) => a - b),
      );
      for (const { step, value } of points)
        assert.equal(value, valueAt(step), 'a point that was recorded, none made up');
    }
    const [whole] = await registry.runs.metrics(ADMIN, run.id, null);
    assert.ok(
      whole !== undefined && whole.points.length > 900 && whole.points.length <= 1000,
      'what a plot needs, unasked',
    );
    const [window] = await registry.runs.metrics(ADMIN, run.id, null, { fromStep: 3_000, toStep: 3_299 });
    assert.deepEqual(
      window?.points.map(({ step, value }) => [step, value]),
      Array.from({ length: 300 }, (_, index) => [3_000 + index, valueAt(3_000 + index)]),
    );
    const [all] = await registry.runs.metrics(ADMIN, run.id, null, { maxPoints: 5_000 });
    assert.equal(all?.points.length, 5_000);
  });

  test('an invalid window is refused', async () => {
    const { id } = await launchPretraining();
    for (const [field, window] of [
      ['maxPoints', { maxPoints: 1 }],
      ['maxPoints', { maxPoints: 1_000_000 }],
      ['fromStep', { fromStep: -1 }],
      ['toStep', { toStep: -1 }],
    ] as const) {
      await assert.rejects(async () => registry.runs.metrics(ADMIN, id, null, window), { code: 'BAD_INPUT', field });
    }
  });

  test('lists are paged newest first, and refuse a cursor of another list', async () => {
    const launched = [await launchPretraining(), await launchPretraining(), await launchImport()]
      .map((run) => run.id)
      .reverse();
    const filter = { statuses: ['QUEUED'] } as const;
    const first = await registry.runs.list(ADMIN, { first: 2 }, filter);
    const rest = await registry.runs.list(ADMIN, { first: 2, after: first.pageInfo.endCursor }, filter);
    assert.deepEqual(
      [...first.edges, ...rest.edges].map((edge) => edge.node.id),
      launched,
    );
    assert.deepEqual(
      [first.pageInfo.hasNextPage, rest.pageInfo.hasNextPage, await first.totalCount()],
      [true, false, 3],
    );
    assert.equal((await registry.runs.list(ADMIN, {}, { ...filter, kinds: ['IMPORT'] })).edges.length, 1);
    for (const after of [
      'nonsense',
      Buffer.from('["x"]').toString('base64url'),
      Buffer.from('[null]').toString('base64url'),
    ]) {
      await assert.rejects(async () => registry.runs.list(ADMIN, { after }, {}), { code: 'CURSOR_INVALID' });
      await assert.rejects(async () => registry.evaluations.list(ADMIN, { after }, {}), { code: 'CURSOR_INVALID' });
    }
  });
});

describe('following a run', () => {
  async function collect(runId: string, after: number, sequences: number[]): Promise<number[]> {
    for await (const event of createRunEvents(registry.runs, announcements).follow(ADMIN, runId, after))
      sequences.push(event.sequence);
    return sequences;
  }

  test('replays, continues live, and ends with the run', async () => {
    const run = await launchPretraining();
    const { lease } = await claim();
    const fromStart: number[] = [];
    const fromThird: number[] = [];
    const all = [collect(run.id, 0, fromStart), collect(run.id, 2, fromThird)];
    await eventually('the replay', () => (fromStart.length === 2 ? true : undefined));
    for (const progress of [0.1, 0.2, 0.3]) {
      const seen = fromStart.length;
      await registry.ledger.report(lease, { progress });
      await eventually(
        'a live event, long before the next poll',
        () => (fromStart.length > seen ? true : undefined),
        2_000,
      );
    }
    await registry.ledger.withLease(lease, (tx) => registry.ledger.succeed(tx, lease, 'Done.'));
    await Promise.all(all);
    assert.deepEqual(
      [fromStart, fromThird],
      [
        [1, 2, 3, 4, 5, 6],
        [3, 4, 5, 6],
      ],
    );
    assert.deepEqual(await collect(run.id, 4, []), [5, 6], 'afterwards too');
    assert.deepEqual(await collect(run.id, 99, []), []);
  });

  test('loses none of a hundred events that arrive while it reads', async () => {
    const run = await launchPretraining();
    const { lease } = await claim();
    const following = collect(run.id, 0, []);
    for (let step = 0; step < 100; step += 1) await registry.ledger.report(lease, { progress: step / 100 });
    await registry.ledger.cancelNow(lease);
    assert.deepEqual(
      await following,
      Array.from({ length: 103 }, (_, index) => index + 1),
    );
  });

  test('continues after its connection to the database was cut', async () => {
    const run = await launchPretraining();
    const { lease } = await claim();
    const sequences: number[] = [];
    const following = collect(run.id, 0, sequences);
    await eventually('the replay', () => (sequences.length === 2 ? true : undefined));
    await database.db
      .$queryRaw`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%run_events%' AND pid <> pg_backend_pid()`;
    await registry.ledger.cancelNow(lease);
    assert.deepEqual(await following, [1, 2, 3]);
  });

  test('an unknown run is reported at once', async () => {
    for (const id of [UNKNOWN_ID, 'nonsense'])
      await assert.rejects(collect(id, 0, []), { code: 'RUN_NOT_FOUND', field: 'runId' });
  });

  test('a reader that leaves while nothing happens is released', async () => {
    const run = await launchPretraining();
    const events = createRunEvents(registry.runs, announcements).follow(ADMIN, run.id, 0);
    assert.equal((await events.next()).value?.sequence, 1);
    const waiting = events.next();
    await events.return();
    assert.deepEqual(await waiting, { value: undefined, done: true });
    assert.deepEqual(await events.next(), { value: undefined, done: true });
  });
});
