/** Parts of runs in PostgreSQL, and which worker has which part. */
import { z } from 'zod';
import type { Database, Transaction } from '../../platform/db.ts';
import { IMPORT_PART_MEDIA_TYPE, recordArtifacts } from '../artifacts/index.ts';
import {
  refusalSchema,
  type PartOutcome,
  type PartState,
  type PlannedPart,
  type Refusal,
} from '../../protocol/part-calls.ts';
import type { PartLease } from '../../protocol/runs.ts';
import type { StoredBytes } from '../../protocol/artifacts.ts';
import { mayTake, type ClaimingWorker } from './runs.queue.store.ts';

export type RunPartStore = ReturnType<typeof createRunPartStore>;

export interface TakenPart {
  readonly lease: PartLease;
  readonly plan: StoredBytes;
}

/** A slide whose workers die each time is left to the worker of the run. */
const CLAIMS_MAX = 3;

/** Rows that go into one statement. */
const ROWS_AT_ONCE = 5_000;

const isPartMedia = (stored: StoredBytes) => ({ ...stored, mediaType: IMPORT_PART_MEDIA_TYPE });

export function createRunPartStore(db: Database) {
  /** True if the lease holds the part; its row is then changed by `change`. */
  const changeHeld = async (
    tx: Transaction,
    { runId, part, partEpoch }: PartLease,
    change: Parameters<Transaction['runPart']['updateMany']>[0]['data'],
  ): Promise<boolean> => {
    const { count } = await tx.runPart.updateMany({
      where: {
        ...{ runId, number: part, epoch: partEpoch, leaseTokenDigest: { not: null } },
        // A part outlives the death of the run's worker, and not its cancellation.
        run: { status: { in: ['QUEUED', 'RUNNING'] } },
      },
      data: change,
    });
    return count === 1;
  };

  return {
    /** Replaces the parts of the run. Those with the same plan keep their outcome, or the worker that has them. */
    plan: async (tx: Transaction, runId: string, parts: readonly PlannedPart[]): Promise<void> => {
      await recordArtifacts(
        tx,
        parts.map(({ plan }) => isPartMedia(plan)),
      );
      const numbers = parts.map(({ number }) => number);
      const digests = parts.map(({ plan }) => plan.sha256);
      await tx.$executeRaw`
        DELETE FROM "RunPart" part WHERE part."runId" = ${runId}::uuid AND NOT EXISTS (
          SELECT 1 FROM unnest(${numbers}::int[], ${digests}::text[]) AS planned(number, sha256)
          WHERE planned.number = part.number AND planned.sha256 = part."planSha256")`;
      await tx.runPart.updateMany({ where: { runId, isOfLead: true }, data: { isOfLead: false } });
      for (let first = 0; first < parts.length; first += ROWS_AT_ONCE)
        await tx.runPart.createMany({
          data: parts
            .slice(first, first + ROWS_AT_ONCE)
            .map(({ number, plan }) => ({ runId, number, planSha256: plan.sha256 })),
          skipDuplicates: true,
        });
    },

    /**
     * Takes the part for the worker that holds the run, unless another one has it or has settled it; undefined if there
     * is no such part.
     */
    takeForLead: async (tx: Transaction, runId: string, number: number): Promise<PartState | undefined> => {
      await tx.$executeRaw`
        UPDATE "RunPart" SET "isOfLead" = true, epoch = epoch + 1, "workerName" = NULL, "leaseTokenDigest" = NULL, "leaseExpiresAt" = NULL
        WHERE "runId" = ${runId}::uuid AND number = ${number}::int AND "factsSha256" IS NULL AND NOT "isOfLead"
          AND ("leaseExpiresAt" IS NULL OR "leaseExpiresAt" < now())`;
      const part = await tx.runPart.findUnique({
        where: { runId_number: { runId, number } },
        include: { facts: true, patches: true },
      });
      if (part === null) return undefined;
      const { facts, patches, workerName, givenBack } = part;
      const worker = workerName ?? '';
      if (facts !== null) {
        const outcome = { facts: storedIn(facts), patches: patches === null ? null : storedIn(patches) };
        return { state: 'SETTLED', worker, outcome };
      }
      return part.isOfLead ? { state: 'YOURS', givenBack: refusalsIn(givenBack) } : { state: 'TAKEN', worker };
    },

    /**
     * Takes the next part of a running import for another worker, in the order of the queue; undefined if there is none
     * that it may take.
     */
    claimNext: async (
      tx: Transaction,
      worker: ClaimingWorker,
      leaseSeconds: number,
    ): Promise<TakenPart | undefined> => {
      const refused = JSON.stringify([{ worker: worker.name }]);
      const [taken] = await tx.$queryRaw<{ runId: string; number: number; epoch: number; planSha256: string }[]>`
        UPDATE "RunPart" SET epoch = epoch + 1, "workerName" = ${worker.name}, "leaseTokenDigest" = ${worker.tokenDigest},
          "leaseExpiresAt" = now() + make_interval(secs => ${leaseSeconds})
        WHERE ("runId", number) = (
          SELECT part."runId", part.number FROM "RunPart" part JOIN "Run" ON "Run".id = part."runId"
          WHERE "Run".status = 'RUNNING' AND ${mayTake(worker)}
            AND part."factsSha256" IS NULL AND NOT part."isOfLead" AND part.epoch < ${CLAIMS_MAX}::int
            AND (part."leaseExpiresAt" IS NULL OR part."leaseExpiresAt" < now())
            AND NOT EXISTS (SELECT 1 FROM "RunPart" other WHERE other."runId" = part."runId" AND other."givenBack" @> ${refused}::jsonb)
          ORDER BY "Run".turn, "Run"."queuedAt", "Run".id, part.number LIMIT 1 FOR UPDATE OF part SKIP LOCKED)
        RETURNING "runId"::text, number, epoch, "planSha256"`;
      if (taken === undefined) return undefined;
      const { runId, number: part, epoch: partEpoch, planSha256 } = taken;
      const plan = await tx.artifact.findUniqueOrThrow({ where: { sha256: planSha256 } });
      return { lease: { runId, part, partEpoch }, plan: storedIn(plan) };
    },

    /** The digest of the token that has the part, and the part's epoch; undefined if there is no such part. */
    tokenOf: async ({
      runId,
      part,
    }: PartLease): Promise<{ readonly tokenDigest: string | null; readonly epoch: number } | undefined> => {
      const row = await db.runPart.findUnique({
        where: { runId_number: { runId, number: part } },
        select: { leaseTokenDigest: true, epoch: true },
      });
      return row === null ? undefined : { tokenDigest: row.leaseTokenDigest, epoch: row.epoch };
    },

    /** False when the lease is lost. */
    renew: async ({ runId, part, partEpoch }: PartLease, leaseSeconds: number): Promise<boolean> =>
      (await db.$executeRaw`
        UPDATE "RunPart" SET "leaseExpiresAt" = now() + make_interval(secs => ${leaseSeconds})
        WHERE "runId" = ${runId}::uuid AND number = ${part}::int AND epoch = ${partEpoch}::int AND "leaseTokenDigest" IS NOT NULL
          AND EXISTS (SELECT 1 FROM "Run" WHERE id = ${runId}::uuid AND status IN ('QUEUED', 'RUNNING'))`) === 1,

    /** False when the lease is lost. */
    settle: async (tx: Transaction, lease: PartLease, { facts, patches }: PartOutcome): Promise<boolean> => {
      await recordArtifacts(tx, [facts, ...(patches === null ? [] : [patches])].map(isPartMedia));
      return changeHeld(tx, lease, {
        ...{ factsSha256: facts.sha256, patchesSha256: patches?.sha256 ?? null },
        ...{ leaseTokenDigest: null, leaseExpiresAt: null },
      });
    },

    /** False when the lease is lost. */
    giveBack: async (tx: Transaction, lease: PartLease, reason: string | null): Promise<boolean> => {
      const { runId, part: number } = lease;
      const row = await tx.runPart.findUnique({ where: { runId_number: { runId, number } } });
      if (row === null) return false;
      const givenBack = [
        ...refusalsIn(row.givenBack),
        ...(reason === null ? [] : [{ worker: row.workerName ?? '', reason }]),
      ];
      return changeHeld(tx, lease, { givenBack, workerName: null, leaseTokenDigest: null, leaseExpiresAt: null });
    },

    /** Those that have their parts; a lapsed one counts until its part is taken by another. */
    heldLeases: async (leases: readonly PartLease[]): Promise<PartLease[]> => {
      if (leases.length === 0) return [];
      const rows = await db.runPart.findMany({
        where: { runId: { in: leases.map(({ runId }) => runId) }, leaseTokenDigest: { not: null } },
        select: { runId: true, number: true, epoch: true },
      });
      return leases.filter(({ runId, part, partEpoch }) =>
        rows.some((row) => row.runId === runId && row.number === part && row.epoch === partEpoch),
      );
    },
  };
}

function storedIn({ sha256, byteSize }: { readonly sha256: string; readonly byteSize: bigint }): StoredBytes {
  return { sha256, byteSize: Number(byteSize) };
}

/** The column `givenBack`. */
function refusalsIn(column: unknown): Refusal[] {
  return z.array(refusalSchema).parse(column);
}
