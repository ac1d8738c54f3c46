/** Runs in PostgreSQL: compare-and-set on status, numbered events, series. */
import type { Database, Transaction } from '../../platform/db.ts';
import { decodeIdCursor, encodeCursor, pageOf, pageSizeOf, type Page, type PageArguments } from '../../platform/page.ts';
import { Prisma, type Run } from '../../generated/prisma/client.ts';
import type { RunKind, RunStatus } from '../../generated/prisma/enums.ts';
import { laneOf } from './runs.rules.ts';
import { RUN_EVENT_KINDS, type MetricSeriesRecord, type RunEventKind, type RunEventRecord, type RunFailureRecord, type RunLease, type RunRecord, type TrainingStateRecord } from './runs.records.ts';

/** The channel on which a committed event of a run is announced; the payload is the run's id. */
export const RUN_EVENTS_CHANNEL = 'run_events';

export interface RunFilter {
  readonly kinds?: readonly RunKind[] | null | undefined;
  readonly statuses?: readonly RunStatus[] | null | undefined;
}

export interface NewRun {
  readonly kind: RunKind;
  readonly config: object;
  readonly idempotencyKey: string | null;
  readonly inputDigest: string;
}

export interface NewRunEvent {
  readonly kind: RunEventKind;
  readonly status?: RunStatus;
  readonly progress?: number;
  readonly message?: string;
  readonly metrics?: Readonly<Record<string, number>>;
}

const UNITS: Readonly<Record<string, string>> = { imagesPerSecond: 'images/s', secondsPerStep: 's', peakMemoryBytes: 'bytes' };

export type RunStore = ReturnType<typeof createRunStore>;

export function createRunStore(db: Database) {
  return {
    find: async (id: string, tx: Transaction = db): Promise<RunRecord | undefined> => {
      const row = await tx.run.findUnique({ where: { id } });
      return row === null ? undefined : toRecord(row);
    },

    findMany: async (ids: readonly string[]): Promise<RunRecord[]> => (await db.run.findMany({ where: { id: { in: [...ids] } } })).map(toRecord),

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
      const rows = await db.run.findMany({
        where: after === undefined ? where : { AND: [where, { id: { lt: after } }] },
        orderBy: { id: 'desc' },
        take: size + 1,
      });
      return pageOf(rows.map(toRecord), size, (run) => encodeCursor([run.id]), after !== undefined, () => db.run.count({ where }));
    },

    create: async (tx: Transaction, run: NewRun): Promise<RunRecord> =>
      toRecord(await tx.run.create({ data: { kind: run.kind, config: run.config, idempotencyKey: run.idempotencyKey, inputDigest: run.inputDigest } })),

    /** Locks the row until the transaction ends, so that events keep their order. */
    lock: async (tx: Transaction, id: string): Promise<RunRecord | undefined> => {
      await tx.$queryRaw`SELECT 1 FROM "Run" WHERE id = ${id}::uuid FOR UPDATE`;
      const row = await tx.run.findUnique({ where: { id } });
      return row === null ? undefined : toRecord(row);
    },

    /** Locks the row if the lease still holds it; false when another worker took over or the run has ended. */
    lockLeased: async (tx: Transaction, lease: RunLease): Promise<boolean> => {
      const rows = await tx.$queryRaw<unknown[]>`
        SELECT 1 FROM "Run" WHERE id = ${lease.runId}::uuid AND "leaseEpoch" = ${lease.epoch} AND status IN ('RUNNING', 'CANCELING') FOR UPDATE`;
      return rows.length === 1;
    },

    /** Takes the oldest waiting run of these kinds, raising its epoch; undefined when none waits. */
    claimNext: async (tx: Transaction, kinds: readonly RunKind[], workerName: string, leaseSeconds: number): Promise<{ run: RunRecord; lease: RunLease } | undefined> => {
      const [claimed] = await tx.$queryRaw<{ id: string }[]>`
        UPDATE "Run" SET status = 'RUNNING', attempt = attempt + 1, "leaseEpoch" = "leaseEpoch" + 1, "workerName" = ${workerName},
          "leaseExpiresAt" = now() + make_interval(secs => ${leaseSeconds}), "startedAt" = coalesce("startedAt", now())
        WHERE id = (
          SELECT id FROM "Run" WHERE status = 'QUEUED' AND kind = ANY(${[...kinds]}::"RunKind"[])
          ORDER BY "queuedAt", id LIMIT 1 FOR UPDATE SKIP LOCKED)
        RETURNING id`;
      if (claimed === undefined) return undefined;
      const row = await tx.run.findUniqueOrThrow({ where: { id: claimed.id } });
      return { run: toRecord(row), lease: { runId: row.id, epoch: row.leaseEpoch } };
    },

    /** Prolongs the lease; gives the status, or undefined when the lease is lost. */
    renewLease: async (lease: RunLease, leaseSeconds: number): Promise<RunStatus | undefined> => {
      const [row] = await db.$queryRaw<{ status: RunStatus }[]>`
        UPDATE "Run" SET "leaseExpiresAt" = now() + make_interval(secs => ${leaseSeconds})
        WHERE id = ${lease.runId}::uuid AND "leaseEpoch" = ${lease.epoch} AND status IN ('RUNNING', 'CANCELING') RETURNING status::text AS status`;
      return row?.status;
    },

    /** Runs whose worker has not been heard of since its lease lapsed; locked, skipping those that others look at. */
    lockLapsed: async (tx: Transaction): Promise<RunRecord[]> => {
      const rows = await tx.$queryRaw<{ id: string }[]>`
        SELECT id FROM "Run" WHERE status IN ('RUNNING', 'CANCELING') AND "leaseExpiresAt" < now() FOR UPDATE SKIP LOCKED`;
      const found = await tx.run.findMany({ where: { id: { in: rows.map((row) => row.id) } } });
      return found.map(toRecord);
    },

    setProgress: async (tx: Transaction, id: string, progress: number): Promise<void> => {
      await tx.run.update({ where: { id }, data: { progress } });
    },

    setEnvironment: async (tx: Transaction, id: string, environment: object): Promise<void> => {
      await tx.run.update({ where: { id }, data: { environment } });
    },

    /** Moves the run on. A terminal status sets finishedAt, voids the lease, and keeps or clears the failure. */
    setStatus: async (tx: Transaction, id: string, status: RunStatus, failure: RunFailureRecord | null): Promise<void> => {
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

    /** Puts the run back into the queue as the newest, for a resumed one. */
    requeueNow: async (tx: Transaction, id: string): Promise<void> => {
      await tx.run.update({ where: { id }, data: { queuedAt: new Date() } });
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
      const rows = await db.runEvent.findMany({ where: { runId, sequence: { gt: sequence } }, orderBy: { sequence: 'asc' }, take: limit });
      return rows.map((row) => ({ ...row, kind: eventKind(row.kind) }));
    },

    /** Attempts that began since the run last kept a training state, or since it last ended (a resumed one starts afresh). */
    countFruitlessAttempts: async (tx: Transaction, id: string): Promise<number> => {
      const landmark = await tx.runEvent.aggregate({ where: { runId: id, kind: { in: ['CHECKPOINT', 'FAILED', 'CANCELED'] } }, _max: { sequence: true } });
      return tx.runEvent.count({ where: { runId: id, kind: 'STARTED', sequence: { gt: landmark._max.sequence ?? 0 } } });
    },

    /** A step that was recorded before a restart is recorded again with the same value; the first one stays. */
    addMetrics: async (tx: Transaction, id: string, points: readonly { readonly step: number; readonly metrics: Readonly<Record<string, number>> }[]): Promise<void> => {
      const data = points.flatMap(({ step, metrics }) =>
        Object.entries(metrics).flatMap(([name, value]) => (Number.isFinite(value) ? [{ runId: id, name, step, value }] : [])),
      );
      if (data.length > 0) await tx.runMetricPoint.createMany({ data, skipDuplicates: true });
    },

    metrics: async (runId: string, names: readonly string[] | null): Promise<MetricSeriesRecord[]> => {
      // A NUL would be a fault to PostgreSQL, and no name has one.
      const known = names?.filter((name) => !name.includes('\0'));
      const rows = await db.runMetricPoint.findMany({
        where: { runId, ...(known === undefined ? {} : { name: { in: known } }) },
        orderBy: [{ name: 'asc' }, { step: 'asc' }],
      });
      const series = Map.groupBy(rows, (row) => row.name);
      return [...series].map(([name, points]) => ({
        name,
        unit: UNITS[name] ?? null,
        points: points.map(({ step, value, recordedAt }) => ({ step, value, recordedAt })),
      }));
    },

    addTrainingState: async (tx: Transaction, id: string, state: TrainingStateRecord): Promise<void> => {
      const key = { runId: id, step: state.step };
      await tx.trainingState.upsert({ where: { runId_step: key }, create: { ...key, sha256: state.sha256 }, update: { sha256: state.sha256 } });
    },

    latestTrainingState: async (id: string): Promise<TrainingStateRecord | undefined> => {
      const row = await db.trainingState.findFirst({ where: { runId: id }, orderBy: { step: 'desc' } });
      return row === null ? undefined : { step: row.step, sha256: row.sha256 };
    },

    /** Place in its lane's queue, 1 for the next to run; null for a run that does not wait. */
    queuePosition: async (run: RunRecord): Promise<number | null> => {
      if (run.status !== 'QUEUED') return null;
      const [row] = await db.$queryRaw<{ ahead: bigint }[]>`
        SELECT count(*) AS ahead FROM "Run" WHERE status = 'QUEUED' AND kind = ANY(${[...laneOf(run.kind)]}::"RunKind"[]) AND ("queuedAt", id) <= (SELECT "queuedAt", id FROM "Run" WHERE id = ${run.id}::uuid)`;
      return Number(row?.ahead ?? 1);
    },

    countByStatus: async (): Promise<Record<string, number>> => {
      const rows = await db.run.groupBy({ by: ['status'], _count: { _all: true } });
      return Object.fromEntries(rows.map((row) => [row.status, row._count._all]));
    },
  };
}

function eventKind(kind: string): RunEventKind {
  const known = RUN_EVENT_KINDS.find((candidate) => candidate === kind);
  if (known === undefined) throw new Error(`The database holds an unknown kind of event: ${kind}`);
  return known;
}

function toRecord(row: Run): RunRecord {
  return {
    id: row.id,
    kind: row.kind,
    status: row.status,
    config: row.config,
    attempt: row.attempt,
    progress: row.progress,
    failure:
      row.failureClass === null
        ? null
        : { class: row.failureClass, code: row.failureCode ?? 'INTERNAL', message: row.failureMessage ?? '', hint: row.failureHint },
    environment: row.environment,
    inputDigest: row.inputDigest,
    queuedAt: row.queuedAt,
    startedAt: row.startedAt,
    finishedAt: row.finishedAt,
  };
}
