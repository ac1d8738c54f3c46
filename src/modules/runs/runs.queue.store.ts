/** The queue of runs and their leases in PostgreSQL: the order of the queue, and which worker holds which run. */
import { ADVISORY_LOCKS } from '../../platform/advisory-lock.ts';
import type { Database, Transaction } from '../../platform/db.ts';
import { Prisma } from '../../generated/prisma/client.ts';
import type { RunKind, RunStatus } from '../../generated/prisma/enums.ts';
import type { HeardWorker } from './runs.heard.ts';
import type { RunRecord } from './runs.records.ts';
import { laneOf } from './runs.rules.ts';
import { toRunRecord } from './runs.store.ts';
import type { WorkerCapabilities } from '../../protocol/requirements.ts';
import { type RunLease, RUN_LANES } from '../../protocol/runs.ts';

/** How long a lease lasts from now, depending on the run's status. */
export interface LeaseSeconds {
  readonly running: number;
  readonly canceling: number;
}

/** The runs among which the next one is claimed. */
export interface ClaimableRuns {
  readonly kinds: readonly RunKind[];
  /** Only this run; null: any. */
  readonly runId?: string | null;
}

/** The place of a worker that asks for a run. */
export interface ClaimingWorker {
  readonly name: string;
  readonly deviceId: string | null;
  readonly tokenDigest: string | null;
  readonly capabilities: WorkerCapabilities;
}

/**
 * The condition on a row of "Run" that the worker, if it is not draining, can take it. On the requirements it means the
 * same as `whyNoWorker`.
 */
export function mayTake({ name, capabilities }: Pick<ClaimingWorker, 'name' | 'capabilities'>): Prisma.Sql {
  const { device, bfloat16, memoryMiB, gpuMemoryMiB, longestSeconds, labels } = capabilities;
  return Prisma.sql`coalesce(requirements->>'device', ${device}) = ${device}
    AND (${bfloat16} OR NOT coalesce((requirements->>'bfloat16')::boolean, false))
    AND coalesce((requirements->>'memoryMiB')::int, 0) <= ${memoryMiB}::int
    AND coalesce((requirements->>'gpuMemoryMiB')::int, 0) <= ${gpuMemoryMiB ?? 0}::int
    AND coalesce(requirements->'labels', '[]') <@ ${JSON.stringify(labels)}::jsonb
    AND (${longestSeconds}::int IS NULL OR "maxDurationSeconds" <= ${longestSeconds}::int)
    AND NOT (${name} = ANY("excludedWorkers"))
    AND NOT EXISTS (SELECT 1 FROM "Worker" WHERE "Worker".name = ${name} AND "isDraining")`;
}

export type RunQueueStore = ReturnType<typeof createRunQueueStore>;

export function createRunQueueStore(db: Database) {
  return {
    /**
     * Start-time fair queueing: the runs of one launcher take one turn each, beginning with the turn that the lane has
     * reached. A lane thus rotates among its launchers, independent of the number of runs that each has queued, and a
     * run's turn never changes while it waits.
     */
    nextTurn: async (tx: Transaction, kind: RunKind, launchedBy: string | null): Promise<number> => {
      const lane = [...laneOf(kind)];
      // Serialises the launches of a lane, because two concurrent launches would take the same turn.
      await tx.$queryRaw`SELECT pg_advisory_xact_lock(${ADVISORY_LOCKS.RUN_TURNS}::int, hashtext(${lane.join()}))::text`;
      const [row] = await tx.$queryRaw<{ turn: number }[]>`
        SELECT greatest(
          (SELECT max(come) FROM unnest(${lane}::"RunKind"[]) AS lane(kind), LATERAL (SELECT max(turn) AS come FROM "Run" WHERE "Run".kind = lane.kind AND "startedAt" IS NOT NULL) AS latest),
          (SELECT max(own) + 1 FROM unnest(${lane}::"RunKind"[]) AS lane(kind), LATERAL (
            SELECT max(turn) AS own FROM "Run" WHERE "Run".kind = lane.kind AND "launchedBy" = ${launchedBy} AND ("startedAt" IS NOT NULL OR status = 'QUEUED')) AS latest),
          0) AS turn`;
      return row?.turn ?? 0;
    },

    /**
     * Requeues a resumed run as if it were launched now, with its full time limit.
     *
     * @param turn from `nextTurn`.
     */
    requeueNow: async (tx: Transaction, id: string, turn: number): Promise<void> => {
      await tx.run.update({
        where: { id },
        data: {
          queuedAt: new Date(),
          busySeconds: 0,
          fruitlessAttempts: 0,
          leaseTokenDigest: null,
          turn,
        },
      });
    },

    /**
     * Positions in the fair order of their lanes by run id, 1 for the next; absent for runs that are not queued. The
     * cost grows with the length of the queue, not with the number of ids.
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

    /**
     * Claims the next queued run among these that the worker can take, and raises its epoch; undefined if there is
     * none, if the worker is draining, or if the device already has a run.
     */
    claimNext: async (
      tx: Transaction,
      { kinds, runId = null }: ClaimableRuns,
      worker: ClaimingWorker,
      leaseSeconds: number,
    ): Promise<{ run: RunRecord; lease: RunLease } | undefined> => {
      const [claimed] = await tx.$queryRaw<{ id: string }[]>`
        UPDATE "Run" SET status = 'RUNNING', attempt = attempt + 1, "leaseEpoch" = "leaseEpoch" + 1, "workerName" = ${worker.name}, "deviceId" = ${worker.deviceId},
          "leaseTokenDigest" = ${worker.tokenDigest}, "reportSequence" = 0,
          "leaseExpiresAt" = now() + make_interval(secs => ${leaseSeconds}), "startedAt" = coalesce("startedAt", now())
        WHERE id = (
          SELECT id FROM "Run" WHERE status = 'QUEUED' AND kind = ANY(${[...kinds]}::"RunKind"[]) AND (${runId}::uuid IS NULL OR id = ${runId}::uuid)
            AND ${mayTake(worker)}
          ORDER BY turn, "queuedAt", id LIMIT 1 FOR UPDATE SKIP LOCKED)
        AND NOT EXISTS (SELECT 1 FROM "Run" WHERE "deviceId" = ${worker.deviceId} AND status IN ('RUNNING', 'CANCELING'))
        RETURNING id`;
      if (claimed === undefined) return undefined;
      const row = await tx.run.findUniqueOrThrow({ where: { id: claimed.id } });
      return { run: toRunRecord(row), lease: { runId: row.id, epoch: row.leaseEpoch } };
    },

    /**
     * Locks the row if the lease still holds it; false when another worker took over or the run has ended. From here on
     * the transaction carries the lease, and the database itself refuses writes with a stale one (see the migration).
     */
    lockLeased: async (tx: Transaction, lease: RunLease): Promise<boolean> => {
      const rows = await tx.$queryRaw<unknown[]>`
        SELECT set_config('paraffin.lease', ${`${lease.runId}:${lease.epoch}`}, true) FROM "Run"
        WHERE id = ${lease.runId}::uuid AND "leaseEpoch" = ${lease.epoch} AND status IN ('RUNNING', 'CANCELING') FOR UPDATE`;
      return rows.length === 1;
    },

    /**
     * A lease that lapsed while its worker could not be heard holds again, if no other worker has taken the run since.
     * A worker that gave the run back, or whose run has ended, has no token any more.
     */
    retakeLease: async (tx: Transaction, lease: RunLease, leaseSeconds: number): Promise<boolean> => {
      await tx.$queryRaw`SELECT set_config('paraffin.lease', '', true)`;
      const retaken = await tx.$executeRaw`
        UPDATE "Run" SET status = 'RUNNING', "leaseExpiresAt" = now() + make_interval(secs => ${leaseSeconds})
        WHERE id = ${lease.runId}::uuid AND "leaseEpoch" = ${lease.epoch} AND status = 'QUEUED' AND "leaseTokenDigest" IS NOT NULL
        AND NOT EXISTS (SELECT 1 FROM "Run" busy WHERE busy."deviceId" = "Run"."deviceId" AND busy.status IN ('RUNNING', 'CANCELING'))`;
      return retaken === 1;
    },

    /** The digest of the token that holds the run, and its epoch; undefined if the run does not exist. */
    tokenOf: async (runId: string): Promise<{ tokenDigest: string | null; epoch: number } | undefined> => {
      const row = await db.run.findUnique({
        where: { id: runId },
        select: { leaseTokenDigest: true, leaseEpoch: true },
      });
      return row === null ? undefined : { tokenDigest: row.leaseTokenDigest, epoch: row.leaseEpoch };
    },

    dropToken: async (tx: Transaction, id: string): Promise<void> => {
      await tx.run.update({ where: { id }, data: { leaseTokenDigest: null } });
    },

    /** Counts the report if it is the next one. @returns the number of the last report that was accepted before. */
    countReport: async (tx: Transaction, id: string, sequence: number): Promise<number> => {
      const { count } = await tx.run.updateMany({
        where: { id, reportSequence: sequence - 1 },
        data: { reportSequence: sequence },
      });
      if (count === 1) return sequence - 1;
      return (await tx.run.findUniqueOrThrow({ where: { id }, select: { reportSequence: true } })).reportSequence;
    },

    /** Renews the lease, and raises the running time to `busySeconds`; undefined when the lease is lost. */
    renewLease: async (
      lease: RunLease,
      leaseSeconds: LeaseSeconds,
      busySeconds: number,
    ): Promise<{ status: RunStatus; busySeconds: number } | undefined> => {
      const [row] = await db.$queryRaw<{ status: RunStatus; busySeconds: number }[]>`
        UPDATE "Run" SET "busySeconds" = greatest("busySeconds", ${busySeconds}::float8),
          "leaseExpiresAt" = now() + make_interval(secs => CASE status WHEN 'CANCELING' THEN ${leaseSeconds.canceling}::float8 ELSE ${leaseSeconds.running}::float8 END)
        WHERE id = ${lease.runId}::uuid AND "leaseEpoch" = ${lease.epoch} AND status IN ('RUNNING', 'CANCELING') RETURNING status::text AS status, "busySeconds"`;
      return row;
    },

    /** Those that hold their runs, and those that lapsed and may be taken up again. */
    heldLeases: async (leases: readonly RunLease[]): Promise<RunLease[]> => {
      const rows = await db.run.findMany({
        where: {
          id: { in: leases.map(({ runId }) => runId) },
          OR: [{ status: { in: ['RUNNING', 'CANCELING'] } }, { status: 'QUEUED', leaseTokenDigest: { not: null } }],
        },
        select: { id: true, leaseEpoch: true },
      });
      return leases.filter(({ runId, epoch }) => rows.some((row) => row.id === runId && row.leaseEpoch === epoch));
    },

    /**
     * Renews the leases of workers whose calls arrive at a server, if they end soon: the server could not write their
     * renewals. The token must be that of the lease, because another worker may have taken the run. A run that another
     * transaction has locked is skipped: its worker is about to write.
     */
    renewHeard: async (
      tx: Transaction,
      heard: readonly HeardWorker[],
      leaseSeconds: LeaseSeconds,
      endingWithinSeconds: number,
    ): Promise<void> => {
      if (heard.length === 0) return;
      const runIds = heard.map(({ runId }) => runId);
      const tokenDigests = heard.map(({ tokenDigest }) => tokenDigest);
      const secondsAgo = heard.map((worker) => worker.secondsAgo);
      await tx.$executeRaw`
        UPDATE "Run" SET "leaseExpiresAt" = now() + make_interval(secs => ending.seconds) FROM (
          SELECT run.id, lease.seconds FROM "Run" AS run
          JOIN unnest(${runIds}::uuid[], ${tokenDigests}::text[], ${secondsAgo}::float8[]) AS heard(id, digest, ago) ON run.id = heard.id AND run."leaseTokenDigest" = heard.digest,
            LATERAL (SELECT CASE run.status WHEN 'CANCELING' THEN ${leaseSeconds.canceling}::float8 ELSE ${leaseSeconds.running}::float8 END AS seconds) AS lease
          WHERE run.status IN ('RUNNING', 'CANCELING') AND heard.ago < lease.seconds AND run."leaseExpiresAt" < now() + make_interval(secs => ${endingWithinSeconds})
          FOR UPDATE OF run SKIP LOCKED) AS ending
        WHERE "Run".id = ending.id`;
    },

    /** A cancellation must not wait a whole lease for a worker that may be dead. */
    shortenLease: async (tx: Transaction, id: string, leaseSeconds: number): Promise<void> => {
      await tx.$executeRaw`UPDATE "Run" SET "leaseExpiresAt" = least("leaseExpiresAt", now() + make_interval(secs => ${leaseSeconds})) WHERE id = ${id}::uuid`;
    },

    /**
     * Runs with an expired lease, locked; runs that another transaction has locked are skipped. A lease that ends later
     * than a renewal made now would is a sign that the clock was set back. It is shortened to the length of a renewal,
     * so that a dead worker's run waits at most one lease longer.
     */
    lockExpired: async (tx: Transaction, leaseSeconds: number): Promise<RunRecord[]> => {
      await tx.$executeRaw`
        UPDATE "Run" SET "leaseExpiresAt" = now() + make_interval(secs => ${leaseSeconds}) WHERE id IN (
          SELECT id FROM "Run" WHERE status IN ('RUNNING', 'CANCELING') AND "leaseExpiresAt" > clock_timestamp() + make_interval(secs => ${leaseSeconds}) FOR UPDATE SKIP LOCKED)`;
      const rows = await tx.$queryRaw<{ id: string }[]>`
        SELECT id FROM "Run" WHERE status IN ('RUNNING', 'CANCELING') AND "leaseExpiresAt" < now() FOR UPDATE SKIP LOCKED`;
      const found = await tx.run.findMany({ where: { id: { in: rows.map((row) => row.id) } } });
      return found.map(toRunRecord);
    },

    lockActive: async (tx: Transaction): Promise<RunRecord[]> => {
      const rows = await tx.$queryRaw<
        { id: string }[]
      >`SELECT id FROM "Run" WHERE status IN ('RUNNING', 'CANCELING') FOR UPDATE`;
      return (await tx.run.findMany({ where: { id: { in: rows.map((row) => row.id) } } })).map(toRunRecord);
    },

    /** @returns the new count. */
    addFruitlessAttempt: async (tx: Transaction, id: string): Promise<number> =>
      (await tx.run.update({ where: { id }, data: { fruitlessAttempts: { increment: 1 } } })).fruitlessAttempts,

    /**
     * Attempts that began since the run last kept a training state, or since it last ended (resuming resets the count).
     */
    countAttemptsWithoutProgress: async (tx: Transaction, id: string): Promise<number> => {
      const lastEvent = await tx.runEvent.aggregate({
        where: { runId: id, kind: { in: ['CHECKPOINT', 'FAILED', 'CANCELED'] } },
        _max: { sequence: true },
      });
      return tx.runEvent.count({
        where: { runId: id, kind: 'STARTED', sequence: { gt: lastEvent._max.sequence ?? 0 } },
      });
    },
  };
}
