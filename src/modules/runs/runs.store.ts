/** Runs in PostgreSQL: compare-and-set on status, numbered events, series. */
import { ADVISORY_LOCKS } from '../../platform/advisory-lock.ts';
import type { Database, Transaction } from '../../platform/db.ts';
import {
  decodeIdCursor,
  encodeCursor,
  pageOf,
  pageSizeOf,
  type Page,
  type PageArguments,
} from '../../platform/page.ts';
import { jsonRows } from '../../platform/sql.ts';
import { Prisma } from '../../generated/prisma/client.ts';
import type { FailureClass, RunKind, RunStatus } from '../../generated/prisma/enums.ts';
import { recordArtifacts } from '../artifacts/index.ts';
import { importReportSchema, type ImportReportRecord } from './imports.rules.ts';
import { laneOf, RUN_KINDS, RUN_LANES, RUN_STATUSES, type MetricWindow } from './runs.rules.ts';
import {
  RUN_EVENT_KINDS,
  type MetricSeriesRecord,
  type RunEventKind,
  type RunEventRecord,
  type RunFailureRecord,
  type RunLease,
  type RunRecord,
  type KeptStateRecord,
  type TrainingStateRecord,
} from './runs.records.ts';
import { checkpointProbeSchema, type CheckpointProbeRecord } from '../models/index.ts';

/** The channel on which a committed event of a run is announced; the payload is the run's id. */
export const RUN_EVENTS_CHANNEL = 'run_events';

export interface RunFilter {
  readonly kinds?: readonly RunKind[] | null | undefined;
  readonly statuses?: readonly RunStatus[] | null | undefined;
}

export interface NewRun {
  readonly kind: RunKind;
  readonly title: string;
  readonly config: object;
  readonly idempotencyKey: string | null;
  readonly inputDigest: string;
  readonly launchedBy: string | null;
  readonly maxDurationSeconds: number | null;
}

export interface NewRunEvent {
  readonly kind: RunEventKind;
  readonly status?: RunStatus;
  readonly progress?: number;
  readonly message?: string;
  readonly metrics?: Readonly<Record<string, number>>;
}

/** How long a lease lasts from now, by what the run is asked to do. */
export interface LeaseSeconds {
  readonly running: number;
  readonly canceling: number;
}

const UNITS: Readonly<Record<string, string>> = {
  imagesPerSecond: 'images/s',
  secondsPerStep: 's',
  peakMemoryBytes: 'bytes',
};

/** What a record is made of. */
interface RunRow extends Omit<RunRecord, 'failure'> {
  readonly failureClass: FailureClass | null;
  readonly failureCode: string | null;
  readonly failureMessage: string | null;
  readonly failureHint: string | null;
}
/** As JSON. */
interface RowJson extends Omit<RunRow, 'queuedAt' | 'startedAt' | 'finishedAt'> {
  readonly queuedAt: string;
  readonly startedAt: string | null;
  readonly finishedAt: string | null;
}

/** @param rest of the SELECT, from WHERE on. */
async function readRuns(tx: Transaction, rest: Prisma.Sql): Promise<RunRecord[]> {
  const rows = await jsonRows<RowJson>(
    tx,
    Prisma.sql`
    SELECT id, kind, status, title, config, attempt, progress, "failureClass", "failureCode", "failureMessage", "failureHint", environment, "launchedBy", "deviceId", "microBatchSize", "maxDurationSeconds", "inputDigest",
      "queuedAt", "startedAt", "finishedAt" FROM "Run" ${rest}`,
  );
  const instant = (text: string | null): Date | null => (text === null ? null : new Date(text));
  return rows.map((row) =>
    toRecord({
      ...row,
      queuedAt: new Date(row.queuedAt),
      startedAt: instant(row.startedAt),
      finishedAt: instant(row.finishedAt),
    }),
  );
}

export type RunStore = ReturnType<typeof createRunStore>;

export function createRunStore(db: Database) {
  return {
    find: async (id: string, tx: Transaction = db): Promise<RunRecord | undefined> =>
      (await readRuns(tx, Prisma.sql`WHERE id = ${id}::uuid`))[0],

    findMany: (ids: readonly string[]): Promise<RunRecord[]> =>
      readRuns(db, Prisma.sql`WHERE id = ANY(${[...ids]}::uuid[])`),

    findByIdempotencyKey: async (tx: Transaction, key: string): Promise<RunRecord | undefined> => {
      const row = await tx.run.findUnique({ where: { idempotencyKey: key } });
      return row === null ? undefined : toRecord(row);
    },

    list: async (page: PageArguments, filter: RunFilter): Promise<Page<RunRecord>> => {
      const size = pageSizeOf(page);
      const after = decodeIdCursor(page);
      const kinds = filter.kinds ?? [];
      const statuses = filter.statuses ?? [];
      const where = {
        ...(kinds.length === 0 ? {} : { kind: { in: [...kinds] } }),
        ...(statuses.length === 0 ? {} : { status: { in: [...statuses] } }),
      };
      // Ids are uuid v7: newest first by id alone.
      const isFiltered = kinds.length + statuses.length > 0;
      const among = isFiltered
        ? Prisma.sql`WHERE id IN (${newestOf(kinds, statuses, after, size + 1)})`
        : after === undefined
          ? Prisma.empty
          : Prisma.sql`WHERE id < ${after}::uuid`;
      const records = await readRuns(db, Prisma.sql`${among} ORDER BY id DESC LIMIT ${size + 1}`);
      return pageOf(
        records,
        size,
        (run) => encodeCursor([run.id]),
        after !== undefined,
        () => db.run.count({ where }),
      );
    },

    create: async (tx: Transaction, run: NewRun): Promise<RunRecord> =>
      toRecord(await tx.run.create({ data: { ...run, turn: await nextTurn(tx, run.kind, run.launchedBy) } })),

    /** Locks the row until the transaction ends, so that events keep their order. */
    lock: async (tx: Transaction, id: string): Promise<RunRecord | undefined> => {
      await tx.$queryRaw`SELECT 1 FROM "Run" WHERE id = ${id}::uuid FOR UPDATE`;
      const row = await tx.run.findUnique({ where: { id } });
      return row === null ? undefined : toRecord(row);
    },

    /**
     * Locks the row if the lease still holds it; false when another worker took over or the run has ended. From here on
     * the transaction carries the lease, and the database itself refuses what a stale one writes (the migration says
     * how).
     */
    lockLeased: async (tx: Transaction, lease: RunLease): Promise<boolean> => {
      await tx.$queryRaw`SELECT set_config('paraffin.lease', ${`${lease.runId}:${lease.epoch}`}, true)`;
      const rows = await tx.$queryRaw<unknown[]>`
        SELECT 1 FROM "Run" WHERE id = ${lease.runId}::uuid AND "leaseEpoch" = ${lease.epoch} AND status IN ('RUNNING', 'CANCELING') FOR UPDATE`;
      return rows.length === 1;
    },

    /**
     * Takes the waiting run of these kinds whose turn it is, raising its epoch; undefined when none waits, or when the
     * device carries a run already.
     */
    claimNext: async (
      tx: Transaction,
      kinds: readonly RunKind[],
      worker: { readonly name: string; readonly deviceId: string | null },
      leaseSeconds: number,
    ): Promise<{ run: RunRecord; lease: RunLease } | undefined> => {
      const [claimed] = await tx.$queryRaw<{ id: string }[]>`
        UPDATE "Run" SET status = 'RUNNING', attempt = attempt + 1, "leaseEpoch" = "leaseEpoch" + 1, "workerName" = ${worker.name}, "deviceId" = ${worker.deviceId},
          "leaseExpiresAt" = now() + make_interval(secs => ${leaseSeconds}), "startedAt" = coalesce("startedAt", now())
        WHERE id = (
          SELECT id FROM "Run" WHERE status = 'QUEUED' AND kind = ANY(${[...kinds]}::"RunKind"[])
          ORDER BY turn, "queuedAt", id LIMIT 1 FOR UPDATE SKIP LOCKED)
        AND NOT EXISTS (SELECT 1 FROM "Run" WHERE "deviceId" = ${worker.deviceId} AND status IN ('RUNNING', 'CANCELING'))
        RETURNING id`;
      if (claimed === undefined) return undefined;
      const row = await tx.run.findUniqueOrThrow({ where: { id: claimed.id } });
      return { run: toRecord(row), lease: { runId: row.id, epoch: row.leaseEpoch } };
    },

    /** Prolongs the lease and adds to the time under way; undefined when the lease is lost. */
    renewLease: async (
      lease: RunLease,
      leaseSeconds: LeaseSeconds,
      busySeconds: number,
    ): Promise<{ status: RunStatus; busySeconds: number } | undefined> => {
      const [row] = await db.$queryRaw<{ status: RunStatus; busySeconds: number }[]>`
        UPDATE "Run" SET "busySeconds" = "busySeconds" + ${busySeconds}::float8,
          "leaseExpiresAt" = now() + make_interval(secs => CASE status WHEN 'CANCELING' THEN ${leaseSeconds.canceling}::float8 ELSE ${leaseSeconds.running}::float8 END)
        WHERE id = ${lease.runId}::uuid AND "leaseEpoch" = ${lease.epoch} AND status IN ('RUNNING', 'CANCELING') RETURNING status::text AS status, "busySeconds"`;
      return row;
    },

    heldLeases: async (leases: readonly RunLease[]): Promise<RunLease[]> => {
      const rows = await db.run.findMany({
        where: { id: { in: leases.map(({ runId }) => runId) }, status: { in: ['RUNNING', 'CANCELING'] } },
        select: { id: true, leaseEpoch: true },
      });
      return leases.filter(({ runId, epoch }) => rows.some((row) => row.id === runId && row.leaseEpoch === epoch));
    },

    /** Nobody waits long for a worker that may be dead. */
    shortenLease: async (tx: Transaction, id: string, leaseSeconds: number): Promise<void> => {
      await tx.$executeRaw`UPDATE "Run" SET "leaseExpiresAt" = least("leaseExpiresAt", now() + make_interval(secs => ${leaseSeconds})) WHERE id = ${id}::uuid`;
    },

    /**
     * Runs whose worker has not been heard of since its lease lapsed; locked, skipping those that others look at. A
     * lease that ends later than any could that was taken or renewed by now reveals a clock that was set back: it is
     * cut to what a renewal would give, so that a dead worker's run waits one lease longer and not for the clock.
     */
    lockLapsed: async (tx: Transaction, leaseSeconds: number): Promise<RunRecord[]> => {
      await tx.$executeRaw`
        UPDATE "Run" SET "leaseExpiresAt" = now() + make_interval(secs => ${leaseSeconds}) WHERE id IN (
          SELECT id FROM "Run" WHERE status IN ('RUNNING', 'CANCELING') AND "leaseExpiresAt" > clock_timestamp() + make_interval(secs => ${leaseSeconds}) FOR UPDATE SKIP LOCKED)`;
      const rows = await tx.$queryRaw<{ id: string }[]>`
        SELECT id FROM "Run" WHERE status IN ('RUNNING', 'CANCELING') AND "leaseExpiresAt" < now() FOR UPDATE SKIP LOCKED`;
      const found = await tx.run.findMany({ where: { id: { in: rows.map((row) => row.id) } } });
      return found.map(toRecord);
    },

    lockUnderWay: async (tx: Transaction): Promise<RunRecord[]> => {
      const rows = await tx.$queryRaw<
        { id: string }[]
      >`SELECT id FROM "Run" WHERE status IN ('RUNNING', 'CANCELING') FOR UPDATE`;
      return (await tx.run.findMany({ where: { id: { in: rows.map((row) => row.id) } } })).map(toRecord);
    },

    setProgress: async (tx: Transaction, id: string, progress: number): Promise<void> => {
      await tx.run.update({ where: { id }, data: { progress } });
    },

    setConfig: async (tx: Transaction, id: string, config: object): Promise<void> => {
      await tx.run.update({ where: { id }, data: { config } });
    },

    setEnvironment: async (tx: Transaction, id: string, environment: object): Promise<void> => {
      await tx.run.update({ where: { id }, data: { environment } });
    },

    /** An attempt that begins again replaces what an earlier one said. */
    setImportReport: async (tx: Transaction, runId: string, report: ImportReportRecord): Promise<void> => {
      const { issueList } = report;
      if (issueList !== null) await recordArtifacts(tx, [{ ...issueList, mediaType: 'text/csv; charset=utf-8' }]);
      const said = { report, issueListSha256: issueList?.sha256 ?? null };
      await tx.importReport.upsert({ where: { runId }, create: { runId, ...said }, update: said });
    },

    importReports: async (runIds: readonly string[]): Promise<Map<string, ImportReportRecord>> => {
      const rows = await db.importReport.findMany({ where: { runId: { in: [...runIds] } } });
      return new Map(rows.map(({ runId, report }) => [runId, importReportSchema.parse(report)]));
    },

    /** Moves the run on. A terminal status sets finishedAt, voids the lease, and keeps or clears the failure. */
    setStatus: async (
      tx: Transaction,
      id: string,
      status: RunStatus,
      failure: RunFailureRecord | null,
    ): Promise<void> => {
      const ended = status === 'SUCCEEDED' || status === 'FAILED' || status === 'CANCELED';
      await tx.run.update({
        where: { id },
        data: {
          status,
          failureClass: failure?.class ?? null,
          failureCode: failure?.code ?? null,
          failureMessage: failure?.message ?? null,
          failureHint: failure?.hint ?? null,
          finishedAt: ended ? new Date() : null,
          ...(status === 'SUCCEEDED' ? { progress: 1 } : {}),
          ...(ended || status === 'QUEUED' ? { leaseExpiresAt: null } : {}),
        },
      });
    },

    /** Puts the run back into the queue as the newest of its launcher's, with its time before it, for a resumed one. */
    requeueNow: async (tx: Transaction, run: RunRecord): Promise<void> => {
      await tx.run.update({
        where: { id: run.id },
        data: {
          queuedAt: new Date(),
          busySeconds: 0,
          fruitlessAttempts: 0,
          turn: await nextTurn(tx, run.kind, run.launchedBy),
        },
      });
    },

    /** For the next attempt: images that one pass of the network takes. */
    setMicroBatchSize: async (tx: Transaction, id: string, microBatchSize: number): Promise<void> => {
      await tx.run.update({ where: { id }, data: { microBatchSize } });
    },

    /** Appends under the lock of the run's row, which numbers events without holes, and announces it at commit. */
    appendEvent: async (tx: Transaction, id: string, event: NewRunEvent): Promise<void> => {
      const last = await tx.runEvent.aggregate({ where: { runId: id }, _max: { sequence: true } });
      await tx.runEvent.create({
        data: {
          runId: id,
          sequence: (last._max.sequence ?? 0) + 1,
          kind: event.kind,
          status: event.status ?? null,
          progress: event.progress ?? null,
          message: event.message ?? null,
          metrics: event.metrics ?? Prisma.DbNull,
        },
      });
      await tx.$queryRaw`SELECT pg_notify(${RUN_EVENTS_CHANNEL}, ${id})::text`;
    },

    eventsAfter: async (runId: string, sequence: number, limit: number): Promise<RunEventRecord[]> => {
      const rows = await db.runEvent.findMany({
        where: { runId, sequence: { gt: sequence } },
        orderBy: { sequence: 'asc' },
        take: limit,
      });
      return rows.map((row) => ({ ...row, kind: eventKind(row.kind) }));
    },

    /** Gives how many there are now. */
    addFruitlessAttempt: async (tx: Transaction, id: string): Promise<number> =>
      (await tx.run.update({ where: { id }, data: { fruitlessAttempts: { increment: 1 } } })).fruitlessAttempts,

    /** One look into the index for each run, however many events it has. */
    lastSequences: async (runIds: readonly string[]): Promise<ReadonlyMap<string, number>> => {
      const rows = await db.$queryRaw<{ id: string; last: number }[]>`
        SELECT run.id::text, (SELECT max(sequence) FROM "RunEvent" WHERE "runId" = run.id) AS last FROM unnest(${[...runIds]}::uuid[]) AS run(id)`;
      return new Map(rows.map(({ id, last }) => [id, last]));
    },

    /**
     * Attempts that began since the run last kept a training state, or since it last ended (a resumed one starts
     * afresh).
     */
    countAttemptsWithoutProgress: async (tx: Transaction, id: string): Promise<number> => {
      const landmark = await tx.runEvent.aggregate({
        where: { runId: id, kind: { in: ['CHECKPOINT', 'FAILED', 'CANCELED'] } },
        _max: { sequence: true },
      });
      return tx.runEvent.count({
        where: { runId: id, kind: 'STARTED', sequence: { gt: landmark._max.sequence ?? 0 } },
      });
    },

    /**
     * Steps of a series only rise: one that was recorded before a restart comes again with the same value, and is left
     * out.
     */
    addMetrics: async (
      tx: Transaction,
      id: string,
      points: readonly { readonly step: number; readonly metrics: Readonly<Record<string, number>> }[],
    ): Promise<void> => {
      const values = points.flatMap(({ step, metrics }) =>
        Object.entries(metrics).flatMap(([name, value]) => (Number.isFinite(value) ? [{ name, step, value }] : [])),
      );
      for (const [name, series] of Map.groupBy(values, (point) => point.name)) {
        await tx.$queryRaw`SELECT append_run_metrics(${id}::uuid, ${name}, ${series.map(({ step }) => step)}::int[], ${series.map(({ value }) => value)}::float8[])::text`;
      }
    },

    /**
     * Series by name and step. One of many points is thinned in the database: split into parts of equal width, of which
     * the lowest and the highest point stay, with the first and the last of all; so a plot shows every spike. Of a
     * series of more than some eight times as many points as are wanted (a chunk has 128 or a few more) only each
     * chunk's extremes are read: to look at 25,000 points takes the database 60 ms, and a plot has no room for them.
     */
    metrics: async (
      runId: string,
      names: readonly string[] | null,
      { fromStep, toStep, maxPoints }: MetricWindow,
    ): Promise<MetricSeriesRecord[]> => {
      // A NUL would be a fault to PostgreSQL, and no name has one.
      const known = names?.filter((name) => !name.includes('\0'));
      const rows = await db.$queryRaw<{ name: string; step: number; value: number; at: Date }[]>`
        WITH chunk AS (
          SELECT *, row_number() OVER (PARTITION BY name ORDER BY "firstStep") AS place, count(*) OVER (PARTITION BY name) AS chunks
          FROM "RunMetricChunk"
          WHERE "runId" = ${runId}::uuid AND (${known === undefined} OR name = ANY(${[...(known ?? [])]}::text[])) AND "lastStep" >= ${fromStep} AND "firstStep" <= ${toStep}
        ), sorted AS (
          SELECT *, 16 * chunks <= ${maxPoints} OR place = 1 OR place = chunks AS "isRead" FROM chunk
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

    addTrainingState: async (tx: Transaction, id: string, state: TrainingStateRecord): Promise<void> => {
      const key = { runId: id, step: state.step };
      const { sha256, probe } = state;
      // The same step kept twice has the same state: once because it is due, once because it is the best.
      const probed = probe === null ? {} : { probe, probeMacroF1: probe.ridgeMacroF1 };
      await tx.trainingState.upsert({
        where: { runId_step: key },
        create: { ...key, sha256, ...probed },
        update: { sha256, ...probed },
      });
      await tx.run.update({ where: { id }, data: { fruitlessAttempts: 0 } });
    },

    latestTrainingState: async (id: string): Promise<TrainingStateRecord | undefined> => {
      const row = await db.trainingState.findFirst({ where: { runId: id }, orderBy: { step: 'desc' } });
      return row === null ? undefined : stateRecord(row);
    },

    /** The one of the highest probed macro F1, of equal ones the earliest. */
    bestTrainingState: async (id: string): Promise<TrainingStateRecord | undefined> => {
      const row = await db.trainingState.findFirst({
        where: { runId: id, probeMacroF1: { not: null } },
        orderBy: [{ probeMacroF1: 'desc' }, { step: 'asc' }],
      });
      return row === null ? undefined : stateRecord(row);
    },

    /** Of each run, by step. */
    keptStates: async (runIds: readonly string[]): Promise<KeptStateRecord[]> => {
      const rows = await db.trainingState.findMany({
        where: { runId: { in: [...runIds] } },
        orderBy: [{ runId: 'asc' }, { step: 'asc' }],
      });
      const byRun = Map.groupBy(rows, (row) => row.runId);
      return rows.map((row) => {
        const scores = (byRun.get(row.runId) ?? []).map(({ probeMacroF1 }) => probeMacroF1 ?? -1);
        const best = Math.max(...scores);
        return {
          ...stateRecord(row),
          runId: row.runId,
          keptAt: row.createdAt,
          isBest: best >= 0 && byRun.get(row.runId)?.[scores.indexOf(best)]?.step === row.step,
        };
      });
    },

    /**
     * Places in their lanes' fair order, 1 for the next to run, by id; nothing for a run that does not wait. The cost
     * is that of the queue, no matter who asks and for how many.
     */
    queuePositions: async (ids: readonly string[]): Promise<Map<string, number>> => {
      const lanes = RUN_LANES.flatMap((kinds, lane) => kinds.map((kind) => ({ kind, lane })));
      const rows = await db.$queryRaw<{ id: string; position: bigint }[]>`
        SELECT id, position FROM (
          SELECT id, row_number() OVER (PARTITION BY lane ORDER BY turn, "queuedAt", id) AS position
          FROM "Run" JOIN unnest(${lanes.map(({ kind }) => kind)}::"RunKind"[], ${lanes.map(({ lane }) => lane)}::int[]) AS lanes(kind, lane) USING (kind)
          WHERE status = 'QUEUED') AS waiting
        WHERE id = ANY(${[...ids]}::uuid[])`;
      return new Map(rows.map((row) => [row.id, Number(row.position)]));
    },

    /** Runs that somebody is at work on, and steps of trainings that would be taken again if he were gone. */
    workUnderWay: async (): Promise<{ readonly runCount: number; readonly unkeptStepCount: number }> => {
      const [row] = await db.$queryRaw<{ runCount: number; unkeptStepCount: number }[]>`
        SELECT count(*)::int AS "runCount",
          coalesce(sum(greatest(0, learned.step + 1 - coalesce(kept.step, 0))), 0)::int AS "unkeptStepCount"
        FROM "Run" r
        LEFT JOIN LATERAL (SELECT max("lastStep") AS step FROM "RunMetricChunk" WHERE "runId" = r.id AND name = 'loss') AS learned ON true
        LEFT JOIN LATERAL (SELECT max(step) AS step FROM "TrainingState" WHERE "runId" = r.id) AS kept ON true
        WHERE r.status IN ('RUNNING', 'CANCELING')`;
      return row ?? { runCount: 0, unkeptStepCount: 0 };
    },

    countByStatus: async (): Promise<Record<string, number>> => {
      const rows = await db.run.groupBy({ by: ['status'], _count: { _all: true } });
      return Object.fromEntries(rows.map((row) => [row.status, row._count._all]));
    },
  };
}

/**
 * Start-time fair queueing: a launcher's runs take one turn each, beginning with the turn that the lane has come to. So
 * lanes rotate among those who wait, no matter who queued how much and when, and a run's turn never changes while it
 * waits.
 */
async function nextTurn(tx: Transaction, kind: RunKind, launchedBy: string | null): Promise<number> {
  const lane = [...laneOf(kind)];
  // One launch of a lane after another, or two at once would take the same turn.
  await tx.$queryRaw`SELECT pg_advisory_xact_lock(${ADVISORY_LOCKS.RUN_TURNS}::int, hashtext(${lane.join()}))::text`;
  const [row] = await tx.$queryRaw<{ turn: number }[]>`
    SELECT greatest(
      (SELECT max(come) FROM unnest(${lane}::"RunKind"[]) AS lane(kind), LATERAL (SELECT max(turn) AS come FROM "Run" WHERE "Run".kind = lane.kind AND "startedAt" IS NOT NULL) AS latest),
      (SELECT max(own) + 1 FROM unnest(${lane}::"RunKind"[]) AS lane(kind), LATERAL (
        SELECT max(turn) AS own FROM "Run" WHERE "Run".kind = lane.kind AND "launchedBy" = ${launchedBy} AND ("startedAt" IS NOT NULL OR status = 'QUEUED')) AS latest),
      0) AS turn`;
  return row?.turn ?? 0;
}

/**
 * Ids of the newest runs of these kinds in these states, of all where none is named. Each pair of kind and state is
 * read from the end of its own stretch of the index, so that a rare one costs no more than a common one.
 */
function newestOf(
  kinds: readonly RunKind[],
  statuses: readonly RunStatus[],
  after: string | undefined,
  limit: number,
): Prisma.Sql {
  const behind = after === undefined ? Prisma.empty : Prisma.sql`AND id < ${after}::uuid`;
  return Prisma.sql`
    SELECT run.id FROM unnest(${kinds.length === 0 ? [...RUN_KINDS] : [...new Set(kinds)]}::"RunKind"[]) AS of_kind, unnest(${statuses.length === 0 ? [...RUN_STATUSES] : [...new Set(statuses)]}::"RunStatus"[]) AS in_status,
      LATERAL (SELECT id FROM "Run" WHERE kind = of_kind AND status = in_status ${behind} ORDER BY id DESC LIMIT ${limit}) AS run
    ORDER BY run.id DESC LIMIT ${limit}`;
}

function stateRecord(row: {
  readonly step: number;
  readonly sha256: string;
  readonly probe: unknown;
}): TrainingStateRecord {
  const probe: CheckpointProbeRecord | null = row.probe === null ? null : checkpointProbeSchema.parse(row.probe);
  return { step: row.step, sha256: row.sha256, probe };
}

function eventKind(kind: string): RunEventKind {
  const known = RUN_EVENT_KINDS.find((candidate) => candidate === kind);
  if (known === undefined) throw new Error(`The database holds an unknown kind of event: ${kind}`);
  return known;
}

function toRecord(row: RunRow): RunRecord {
  return {
    id: row.id,
    kind: row.kind,
    status: row.status,
    title: row.title,
    config: row.config,
    attempt: row.attempt,
    progress: row.progress,
    failure:
      row.failureClass === null
        ? null
        : {
            class: row.failureClass,
            code: row.failureCode ?? 'INTERNAL',
            message: row.failureMessage ?? '',
            hint: row.failureHint,
          },
    environment: row.environment,
    launchedBy: row.launchedBy,
    deviceId: row.deviceId,
    microBatchSize: row.microBatchSize,
    maxDurationSeconds: row.maxDurationSeconds,
    inputDigest: row.inputDigest,
    queuedAt: row.queuedAt,
    startedAt: row.startedAt,
    finishedAt: row.finishedAt,
  };
}
