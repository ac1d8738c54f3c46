/** Telemetry of runs in PostgreSQL: numbered events and series of metrics. */
import type { Database, Transaction } from '../../platform/db.ts';
import type { RunStatus } from '../../generated/prisma/enums.ts';
import { RUN_EVENT_KINDS, type MetricSeriesRecord, type RunEventKind, type RunEventRecord } from './runs.records.ts';
import { compactAsItGoes, EVENTS_PER_KEPT } from './runs.compaction.store.ts';
import type { MetricWindow } from './runs.rules.ts';

/** The channel on which a committed event of a run is announced; the payload is the run's id. */
export const RUN_EVENTS_CHANNEL = 'run_events';

export interface NewRunEvent {
  readonly kind: RunEventKind;
  readonly status?: RunStatus;
  readonly progress?: number;
  readonly message?: string;
  readonly metrics?: Readonly<Record<string, number>>;
}

const UNITS: Readonly<Record<string, string>> = {
  imagesPerSecond: 'images/s',
  secondsPerStep: 's',
  peakMemoryBytes: 'bytes',
};

export type RunTelemetryStore = ReturnType<typeof createRunTelemetryStore>;

export function createRunTelemetryStore(db: Database) {
  return {
    /**
     * Appends an event under the lock of the run's row, so that it gets the next number, and notifies listeners at
     * commit. From time to time it compacts what has become old.
     */
    appendEvent: async (tx: Transaction, id: string, event: NewRunEvent): Promise<void> => {
      const { kind, status = null, progress = null, message = null, metrics } = event;
      const metricsJson = metrics === undefined ? null : JSON.stringify(metrics);
      const [appended] = await tx.$queryRaw<{ sequence: number }[]>`
        WITH appended AS (
          INSERT INTO "RunEvent" ("runId", sequence, kind, status, progress, message, metrics)
          SELECT ${id}::uuid, coalesce(max(sequence), 0) + 1, ${kind}, ${status}::"RunStatus", ${progress}::float8, ${message}, ${metricsJson}::jsonb
          FROM "RunEvent" WHERE "runId" = ${id}::uuid RETURNING sequence)
        SELECT sequence, pg_notify(${RUN_EVENTS_CHANNEL}, ${id})::text FROM appended`;
      if (appended !== undefined && appended.sequence % EVENTS_PER_KEPT === 0)
        await compactAsItGoes(tx, id, appended.sequence);
    },

    eventsAfter: async (runId: string, sequence: number, limit: number): Promise<RunEventRecord[]> => {
      const rows = await db.runEvent.findMany({
        where: { runId, sequence: { gt: sequence } },
        orderBy: { sequence: 'asc' },
        take: limit,
      });
      return rows.map((row) => ({ ...row, kind: eventKind(row.kind) }));
    },

    /** One index lookup per run, independent of its number of events. */
    lastSequences: async (runIds: readonly string[]): Promise<ReadonlyMap<string, number>> => {
      const rows = await db.$queryRaw<{ id: string; last: number }[]>`
        SELECT run.id::text, (SELECT max(sequence) FROM "RunEvent" WHERE "runId" = run.id) AS last FROM unnest(${[...runIds]}::uuid[]) AS run(id)`;
      return new Map(rows.map(({ id, last }) => [id, last]));
    },

    /**
     * The steps of a series only increase. After a restart, steps that were already recorded arrive again with the same
     * values, and are skipped.
     */
    addMetrics: async (
      tx: Transaction,
      id: string,
      points: readonly { readonly step: number; readonly metrics: Readonly<Record<string, number>> }[],
    ): Promise<void> => {
      const values = points.flatMap(({ step, metrics }) =>
        Object.entries(metrics).flatMap(([name, value]) => (Number.isFinite(value) ? [{ name, step, value }] : [])),
      );
      if (values.length === 0) return;
      const series = [...Map.groupBy(values, ({ name }) => name)].map(([name, ofName]) => ({
        name,
        steps: ofName.map(({ step }) => step),
        values: ofName.map(({ value }) => value),
      }));
      await tx.$queryRaw`
        SELECT append_run_metrics(${id}::uuid, series.name, series.steps, series."values")::text
        FROM jsonb_to_recordset(${JSON.stringify(series)}::jsonb) AS series(name text, steps int[], "values" float8[])`;
    },

    /**
     * Series by name and step. A long series is thinned in the database: it is split into parts of equal width, and the
     * lowest and highest point of each part are kept, plus the first and last point of the series, so that a plot shows
     * every spike. If a series has more than about eight times the requested points (a chunk has 128 or slightly more),
     * only the extremes of each chunk are read: reading 25,000 points takes the database 60 ms, and a plot cannot show
     * them. The older part of a very long series was compacted to the extremes of sections; up to sixteen times the
     * requested points of it are read whole.
     */
    metrics: async (
      runId: string,
      names: readonly string[] | null,
      { fromStep, toStep, maxPoints }: MetricWindow,
    ): Promise<MetricSeriesRecord[]> => {
      // PostgreSQL rejects a NUL character, and no name contains one.
      const known = names?.filter((name) => !name.includes('\0'));
      const rows = await db.$queryRaw<{ name: string; step: number; value: number; at: Date }[]>`
        WITH chunk AS (
          SELECT *, row_number() OVER (PARTITION BY name ORDER BY "firstStep") AS place, count(*) OVER (PARTITION BY name) AS chunks,
            sum(cardinality(steps)) FILTER (WHERE "isCompacted") OVER (PARTITION BY name) AS "compactedPoints"
          FROM "RunMetricChunk"
          WHERE "runId" = ${runId}::uuid AND (${known === undefined} OR name = ANY(${[...(known ?? [])]}::text[])) AND "lastStep" >= ${fromStep} AND "firstStep" <= ${toStep}
        ), sorted AS (
          SELECT *, 16 * chunks <= ${maxPoints} OR place = 1 OR place = chunks OR ("isCompacted" AND "compactedPoints" <= 16 * ${maxPoints}::int) AS "isRead" FROM chunk
        ), point AS (
          SELECT name, each.step, each.value, each.at FROM sorted, unnest(steps, "values", "recordedAts") AS each(step, value, at) WHERE "isRead" AND each.step BETWEEN ${fromStep} AND ${toStep}
          UNION ALL SELECT name, "minStep", "minValue", "minRecordedAt" FROM sorted WHERE NOT "isRead"
          UNION ALL SELECT name, "maxStep", "maxValue", "maxRecordedAt" FROM sorted WHERE NOT "isRead"
        ), extent AS (
          SELECT name, count(*) AS points, min(step) AS first, max(step) AS last FROM point GROUP BY name
        ), part AS (
          SELECT name, min(ARRAY[value, step, extract(epoch FROM at)::float8]) AS lowest, max(ARRAY[value, step, extract(epoch FROM at)::float8]) AS highest
          FROM point JOIN extent USING (name) WHERE points > ${maxPoints}
          GROUP BY name, width_bucket(step::float8, first::float8, last::float8 + 1, ${Math.floor((maxPoints - 2) / 2)}::int)
        )
        SELECT name, step, value, at FROM point JOIN extent USING (name) WHERE points <= ${maxPoints} OR step IN (first, last)
        UNION SELECT name, lowest[2]::int, lowest[1], to_timestamp(lowest[3])::timestamptz(3) FROM part
        UNION SELECT name, highest[2]::int, highest[1], to_timestamp(highest[3])::timestamptz(3) FROM part
        ORDER BY name, step`;
      return [...Map.groupBy(rows, (row) => row.name)].map(([name, points]) => ({
        name,
        unit: UNITS[name] ?? null,
        points: points.map(({ step, value, at }) => ({ step, value, recordedAt: at })),
      }));
    },
  };
}

function eventKind(kind: string): RunEventKind {
  const known = RUN_EVENT_KINDS.find((candidate) => candidate === kind);
  if (known === undefined) throw new Error(`The database contains an unknown kind of event: ${kind}`);
  return known;
}
