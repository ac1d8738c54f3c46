/** Rows of runs in PostgreSQL: launch, status and result. */
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
import type { RunRecord } from './runs.records.ts';
import { runRequirementsSchema, type RunRequirements } from '../../protocol/requirements.ts';
import { RUN_KINDS, RUN_STATUSES, type RunFailureRecord } from '../../protocol/runs.ts';

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
  readonly requirements: RunRequirements;
  /** Its position in the fair order, from `nextTurn`. */
  readonly turn: number;
}

/** A row as Prisma returns it. */
interface RunRow extends Omit<RunRecord, 'failure' | 'requirements'> {
  readonly requirements: unknown;
  readonly failureClass: FailureClass | null;
  readonly failureCode: string | null;
  readonly failureMessage: string | null;
  readonly failureHint: string | null;
}
/** A row as PostgreSQL writes it in JSON: instants are text. */
interface RowJson extends Omit<RunRow, 'queuedAt' | 'startedAt' | 'finishedAt'> {
  readonly queuedAt: string;
  readonly startedAt: string | null;
  readonly finishedAt: string | null;
}

/** @param rest everything of the SELECT from WHERE on. */
async function readRuns(tx: Transaction, rest: Prisma.Sql): Promise<RunRecord[]> {
  const rows = await jsonRows<RowJson>(
    tx,
    Prisma.sql`
    SELECT id, kind, status, title, config, attempt, progress, "failureClass", "failureCode", "failureMessage", "failureHint", environment, "launchedBy", "deviceId", "microBatchSize", "maxDurationSeconds", "busySeconds", requirements, "excludedWorkers", "inputDigest",
      "queuedAt", "startedAt", "finishedAt" FROM "Run" ${rest}`,
  );
  const instant = (text: string | null): Date | null => (text === null ? null : new Date(text));
  return rows.map((row) =>
    toRunRecord({
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
      return row === null ? undefined : toRunRecord(row);
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

    create: async (tx: Transaction, { requirements, ...run }: NewRun): Promise<RunRecord> =>
      toRunRecord(
        await tx.run.create({ data: { ...run, requirements: { ...requirements, labels: [...requirements.labels] } } }),
      ),

    /** Locks the row until the transaction ends, so that events keep their order. */
    lock: async (tx: Transaction, id: string): Promise<RunRecord | undefined> => {
      await tx.$queryRaw`SELECT 1 FROM "Run" WHERE id = ${id}::uuid FOR UPDATE`;
      const row = await tx.run.findUnique({ where: { id } });
      return row === null ? undefined : toRunRecord(row);
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

    /**
     * Changes the status. A terminal status sets finishedAt, voids the lease, keeps or clears the failure, and drops
     * the blocks and parts of an import, because a resumed import starts again.
     */
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
      if (!ended) return;
      await tx.importBlock.deleteMany({ where: { runId: id } });
      await tx.runPart.deleteMany({ where: { runId: id } });
    },

    /** For the next attempt: the number of images in one pass of the network. */
    setMicroBatchSize: async (tx: Transaction, id: string, microBatchSize: number): Promise<void> => {
      await tx.run.update({ where: { id }, data: { microBatchSize } });
    },

    /** Keeps the run from a worker that cannot compute in bfloat16, and from all others that cannot. */
    excludeWithoutBfloat16: async (tx: Transaction, id: string): Promise<void> => {
      await tx.$executeRaw`
        UPDATE "Run" SET requirements = requirements || '{"bfloat16": true}',
          "excludedWorkers" = ARRAY(SELECT DISTINCT unnest("excludedWorkers" || "workerName") ORDER BY 1)
        WHERE id = ${id}::uuid AND "workerName" IS NOT NULL`;
    },

    /**
     * The number of runs that workers hold, and the number of training steps that would be repeated if all workers died
     * now.
     */
    unfinishedWork: async (): Promise<{ readonly runCount: number; readonly unkeptStepCount: number }> => {
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
 * Ids of the newest runs of these kinds in these states, of all where none is named. Each pair of kind and state is
 * read from the end of its own range of the index, so that a rare pair costs no more than a common one.
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

/** @param row a row with every column that a record needs. */
export function toRunRecord(row: RunRow): RunRecord {
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
    requirements: runRequirementsSchema.parse(row.requirements),
    excludedWorkers: row.excludedWorkers,
    busySeconds: row.busySeconds,
    inputDigest: row.inputDigest,
    queuedAt: row.queuedAt,
    startedAt: row.startedAt,
    finishedAt: row.finishedAt,
  };
}
