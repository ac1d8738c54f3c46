/**
 * Compaction of what runs report: a run of a million steps keeps the rows that a page shows. The recent part stays as
 * it was reported; of the older part, the shape stays.
 */
import type { Database, Transact, Transaction } from '../../platform/db.ts';
import type { KindReport, Sum } from '../artifacts/index.ts';

/** Events of a run that stay as they are; the log on its page shows the last 500. */
const RECENT_EVENTS = 1000;
/** Of so many consecutive older events that say the same with other numbers, the last one stays. */
export const EVENTS_PER_KEPT = 500;
/** Numbers of events that garbage collection goes through in one transaction. */
const EVENTS_PER_BATCH = 20 * EVENTS_PER_KEPT;

/** Chunks of a series, of about 128 points each, that stay as they are. */
const RECENT_CHUNKS = 128;
/** Of the points of so many consecutive older chunks, the first, last, lowest and highest stay. */
const CHUNKS_PER_SECTION = 4;
/** Sections that become one row. */
const SECTIONS_PER_ROW = 16;
const CHUNKS_PER_ROW = CHUNKS_PER_SECTION * SECTIONS_PER_ROW;
const ROWS_PER_BATCH = 16;

const NOTHING: Sum = { count: 0, byteSize: 0 };

/**
 * Runs that lack an event which compaction leaves in place, whether or not theirs were compacted: one of the recent
 * part, or the last of a section, since nothing in its section comes after it.
 */
export async function runsWithMissingEvents(db: Database): Promise<string[]> {
  const rows = await db.$queryRaw<{ runId: string }[]>`
    WITH numbered AS (
      SELECT "runId", sequence, greatest(0,
        (max(sequence) OVER (PARTITION BY "runId") - ${RECENT_EVENTS}::int) / ${EVENTS_PER_KEPT}::int * ${EVENTS_PER_KEPT}::int) AS old
      FROM "RunEvent")
    SELECT "runId"::text FROM numbered GROUP BY "runId", old
    HAVING count(*) FILTER (WHERE sequence > old) <> max(sequence) - old
      OR count(*) FILTER (WHERE sequence <= old AND sequence % ${EVENTS_PER_KEPT}::int = 0) <> old / ${EVENTS_PER_KEPT}::int`;
  return rows.map(({ runId }) => runId);
}

/**
 * Compacts what has become old when a run has appended the event with this number, which is a multiple of
 * EVENTS_PER_KEPT. The caller holds the lock of the run's row.
 */
export async function compactAsItGoes(tx: Transaction, runId: string, sequence: number): Promise<void> {
  await compactEvents(tx, runId, sequence - RECENT_EVENTS - EVENTS_PER_KEPT, sequence - RECENT_EVENTS);
  await compactMetrics(tx, runId, ROWS_PER_BATCH);
}

/**
 * Deletes repeated events with numbers above `after` up to `upTo`, both multiples of EVENTS_PER_KEPT. Changes of status
 * and results of the probe stay. @returns the number and bytes of the deleted rows.
 */
async function compactEvents(tx: Transaction, runId: string, after: number, upTo: number): Promise<Sum> {
  if (upTo <= 0) return NOTHING;
  const [row] = await tx.$queryRaw<SumRow[]>`
    WITH ranked AS (
      SELECT sequence, row_number() OVER (
        PARTITION BY (sequence - 1) / ${EVENTS_PER_KEPT}::int, kind, regexp_replace(coalesce(message, ''), '[0-9]+', '0', 'g')
        ORDER BY sequence DESC) AS place
      FROM "RunEvent"
      WHERE "runId" = ${runId}::uuid AND sequence > ${after} AND sequence <= ${upTo}
        AND kind IN ('PROGRESS', 'METRICS', 'CHECKPOINT') AND coalesce(metrics::text NOT LIKE '%"probe%', true)
    ), gone AS (
      DELETE FROM "RunEvent" e USING ranked WHERE e."runId" = ${runId}::uuid AND e.sequence = ranked.sequence AND place > 1
      RETURNING pg_column_size(e.*) AS size)
    SELECT count(*)::int AS count, coalesce(sum(size), 0)::bigint AS "byteSize" FROM gone`;
  return toSum(row);
}

/**
 * Replaces the older chunks of each series by rows of sections. The series of the probe have few points, and stay.
 * @param maxRows rows that are made of each series.
 * @returns the number of points that are gone, and the bytes that the rows are smaller by.
 */
async function compactMetrics(tx: Transaction, runId: string, maxRows: number): Promise<Sum> {
  const [row] = await tx.$queryRaw<SumRow[]>`
    WITH fine AS (
      SELECT name, "firstStep", row_number() OVER (PARTITION BY name ORDER BY "firstStep") - 1 AS place, count(*) OVER (PARTITION BY name) AS chunks
      FROM "RunMetricChunk" WHERE "runId" = ${runId}::uuid AND NOT "isCompacted" AND name NOT LIKE 'probe%'
    ), old AS (
      SELECT name, "firstStep", place / ${CHUNKS_PER_ROW}::int AS part, place / ${CHUNKS_PER_SECTION}::int AS section FROM fine
      WHERE place < ${CHUNKS_PER_ROW}::int * least((chunks - ${RECENT_CHUNKS}::int) / ${CHUNKS_PER_ROW}::int, ${maxRows}::int)
    ), gone AS (
      DELETE FROM "RunMetricChunk" c USING old WHERE c."runId" = ${runId}::uuid AND c.name = old.name AND c."firstStep" = old."firstStep"
      RETURNING c.*, old.part, old.section, pg_column_size(c.*) AS size
    ), candidate AS (
      SELECT name, part, section, steps[1] AS step, "values"[1] AS value, "recordedAts"[1] AS at FROM gone
      UNION ALL SELECT name, part, section, "lastStep", "values"[cardinality("values")], "recordedAts"[cardinality("recordedAts")] FROM gone
      UNION ALL SELECT name, part, section, "minStep", "minValue", "minRecordedAt" FROM gone
      UNION ALL SELECT name, part, section, "maxStep", "maxValue", "maxRecordedAt" FROM gone
    ), ranked AS (
      SELECT *, rank() OVER (PARTITION BY name, section ORDER BY step) AS "fromFirst", rank() OVER (PARTITION BY name, section ORDER BY step DESC) AS "fromLast",
        rank() OVER (PARTITION BY name, section ORDER BY value, step) AS "fromLowest", rank() OVER (PARTITION BY name, section ORDER BY value DESC, step) AS "fromHighest"
      FROM candidate
    ), point AS (
      SELECT DISTINCT name, part, step, value, at FROM ranked WHERE 1 IN ("fromFirst", "fromLast", "fromLowest", "fromHighest")
    ), made AS (
      INSERT INTO "RunMetricChunk" AS c ("runId", name, "firstStep", "lastStep", steps, "values", "recordedAts",
        "minValue", "minStep", "minRecordedAt", "maxValue", "maxStep", "maxRecordedAt", "isCompacted")
      SELECT ${runId}::uuid, name, min(step), max(step), array_agg(step ORDER BY step), array_agg(value ORDER BY step), array_agg(at ORDER BY step),
        min(value), (array_agg(step ORDER BY value, step))[1], (array_agg(at ORDER BY value, step))[1],
        max(value), (array_agg(step ORDER BY value DESC, step))[1], (array_agg(at ORDER BY value DESC, step))[1], true
      FROM point GROUP BY name, part
      RETURNING cardinality(c.steps) AS points, pg_column_size(c.*) AS size)
    SELECT (SELECT coalesce(sum(cardinality(steps)), 0) FROM gone)::int - (SELECT coalesce(sum(points), 0) FROM made)::int AS count,
      (SELECT coalesce(sum(size), 0) FROM gone)::bigint - (SELECT coalesce(sum(size), 0) FROM made)::bigint AS "byteSize"`;
  return toSum(row);
}

export interface TelemetryCompaction {
  readonly db: Database;
  readonly transact: Transact;
  /** If true, only reports what would be deleted. */
  readonly dryRun: boolean;
}

/** Rolls back a batch of a dry run after it has counted. */
class RollbackError extends Error {}

/**
 * Compacts the events and metrics of all runs, also of those from before runs compacted their own. Each batch is a
 * transaction of its own, so that the registry stays in use.
 */
export async function compactTelemetry({ db, transact, dryRun }: TelemetryCompaction): Promise<KindReport[]> {
  const batch = async (runId: string, work: (tx: Transaction) => Promise<Sum>): Promise<Sum> => {
    let sum = NOTHING;
    const compacting = transact(async (tx) => {
      await tx.$queryRaw`SELECT 1 FROM "Run" WHERE id = ${runId}::uuid FOR UPDATE`;
      sum = await work(tx);
      if (dryRun) throw new RollbackError();
    });
    await compacting.catch((error: unknown) => {
      if (!(error instanceof RollbackError)) throw error;
    });
    return sum;
  };

  const [allEvents] = await db.$queryRaw<SumRow[]>`
    SELECT count(*)::int AS count, coalesce(sum(pg_column_size(e.*)), 0)::bigint AS "byteSize" FROM "RunEvent" e`;
  const runs = await db.$queryRaw<{ runId: string; last: number }[]>`
    SELECT "runId"::text, max(sequence) AS last FROM "RunEvent" GROUP BY 1 HAVING max(sequence) >= ${RECENT_EVENTS + EVENTS_PER_KEPT}`;
  let events = NOTHING;
  for (const { runId, last } of runs) {
    const end = Math.floor((last - RECENT_EVENTS) / EVENTS_PER_KEPT) * EVENTS_PER_KEPT;
    for (let after = 0; after < end; after += EVENTS_PER_BATCH) {
      const upTo = Math.min(end, after + EVENTS_PER_BATCH);
      events = added(events, await batch(runId, (tx) => compactEvents(tx, runId, after, upTo)));
    }
  }

  const [allPoints] = await db.$queryRaw<SumRow[]>`
    SELECT coalesce(sum(cardinality(steps)), 0)::int AS count, coalesce(sum(pg_column_size(c.*)), 0)::bigint AS "byteSize" FROM "RunMetricChunk" c`;
  const trained = await db.$queryRaw<{ runId: string; chunks: number }[]>`
    SELECT "runId"::text, max(chunks)::int AS chunks FROM (
      SELECT "runId", count(*) AS chunks FROM "RunMetricChunk" WHERE NOT "isCompacted" AND name NOT LIKE 'probe%' GROUP BY "runId", name) AS series
    GROUP BY 1 HAVING max(chunks) >= ${RECENT_CHUNKS + CHUNKS_PER_ROW}`;
  let points = NOTHING;
  for (const { runId, chunks } of trained) {
    const rows = Math.ceil(chunks / CHUNKS_PER_ROW);
    // A dry run rolls each batch back, so it counts all in one.
    const rowsPerBatch = dryRun ? rows : ROWS_PER_BATCH;
    for (let done = 0; done < rows; done += rowsPerBatch)
      points = added(points, await batch(runId, (tx) => compactMetrics(tx, runId, rowsPerBatch)));
  }
  return [
    { kind: 'events of runs', deleted: events, kept: without(toSum(allEvents), events) },
    { kind: 'points of metrics', deleted: points, kept: without(toSum(allPoints), points) },
  ];
}

interface SumRow {
  readonly count: number;
  readonly byteSize: bigint;
}

function toSum(row: SumRow | undefined): Sum {
  return row === undefined ? NOTHING : { count: row.count, byteSize: Number(row.byteSize) };
}

function added(first: Sum, second: Sum): Sum {
  return { count: first.count + second.count, byteSize: first.byteSize + second.byteSize };
}

/** Runs may report while they are counted, so a difference is never below zero. */
function without(all: Sum, gone: Sum): Sum {
  return { count: Math.max(0, all.count - gone.count), byteSize: Math.max(0, all.byteSize - gone.byteSize) };
}
