/** Training data of checkpoints, read from PostgreSQL through their trainings and through equal tensors. */
import { z } from 'zod';
import { Prisma } from '../../generated/prisma/client.ts';
import type { Database, Transaction } from '../../platform/db.ts';
import { jsonRows } from '../../platform/sql.ts';
import type { MentionedCheckpointRecord, PretrainingRecord } from './models.records.ts';

/** The part of a pretraining's frozen config that describes its images. */
const trainingConfigSchema = z.object({
  datasets: z.array(
    z.object({ datasetVersionId: z.string(), imageCount: z.number(), maxImages: z.number().nullable() }),
  ),
  initialCheckpointId: z.string().nullable(),
});

export type LineageStore = ReturnType<typeof createLineageStore>;

export function createLineageStore(db: Database) {
  return {
    /** Other checkpoints with the same tensors. */
    sameWeights: async (
      digests: readonly string[],
      tx: Transaction = db,
    ): Promise<(MentionedCheckpointRecord & { readonly tensorDigest: string })[]> =>
      jsonRows(
        tx,
        Prisma.sql`SELECT id, "modelId", version, encoder, "tensorDigest" FROM "Checkpoint" WHERE "tensorDigest" = ANY(${[...digests]}) ORDER BY id`,
      ),

    /** For each sha256 of stored weights the oldest checkpoint that has them. */
    firstWithWeights: (
      sha256s: readonly string[],
    ): Promise<(MentionedCheckpointRecord & { readonly sha256: string })[]> =>
      jsonRows(
        db,
        Prisma.sql`SELECT DISTINCT ON (sha256) id, "modelId", version, encoder, sha256 FROM "Checkpoint" WHERE sha256 = ANY(${[...sha256s]}) ORDER BY sha256, id`,
      ),

    /** Checkpoints with stored weights but without a tensor digest, oldest first. */
    withoutTensorDigest: (
      after: string | undefined,
      limit: number,
    ): Promise<{ readonly id: string; readonly sha256: string }[]> =>
      jsonRows(
        db,
        Prisma.sql`
        SELECT id, sha256 FROM "Checkpoint"
        WHERE sha256 IS NOT NULL AND "tensorDigest" IS NULL AND ${after === undefined ? Prisma.sql`TRUE` : Prisma.sql`id > ${after}::uuid`}
        ORDER BY id LIMIT ${limit}`,
      ),

    fillTensorDigest: async (tx: Transaction, id: string, tensorDigest: string): Promise<void> => {
      await tx.checkpoint.updateMany({ where: { id, tensorDigest: null }, data: { tensorDigest } });
    },

    /**
     * Checkpoints with equal tensors share their training data, and every checkpoint inherits the training data of the
     * one that its training started from.
     */
    shareTrainedOn: async (tx: Transaction, tensorDigest: string): Promise<void> => {
      if ((await tx.checkpoint.count({ where: { tensorDigest } })) < 2) return;
      await tx.$executeRaw`
        WITH RECURSIVE heir AS (
          SELECT id FROM "Checkpoint" WHERE "tensorDigest" = ${tensorDigest}
          UNION
          SELECT next.id FROM heir JOIN "Checkpoint" c ON c.id = heir.id, LATERAL (
            SELECT same.id FROM "Checkpoint" same WHERE same."tensorDigest" = c."tensorDigest"
            UNION ALL
            SELECT child.id FROM "Run" r JOIN "Checkpoint" child ON child."sourceRunId" = r.id
            WHERE r.kind = 'PRETRAINING' AND r.config->>'initialCheckpointId' = c.id::text) AS next)
        INSERT INTO "CheckpointTrainedOn" ("checkpointId", "datasetVersionId")
        SELECT heir.id, seen."datasetVersionId" FROM heir CROSS JOIN (
          SELECT DISTINCT t."datasetVersionId" FROM "CheckpointTrainedOn" t JOIN "Checkpoint" k ON k.id = t."checkpointId"
          WHERE k."tensorDigest" = ${tensorDigest}) AS seen
        ON CONFLICT DO NOTHING`;
    },

    /**
     * Follows the trainings back to the first; at each checkpoint it also follows the checkpoints with the same
     * weights.
     */
    pretrainingOf: async (checkpointId: string): Promise<PretrainingRecord> => {
      const trainedOn = await db.checkpointTrainedOn.findMany({
        where: { checkpointId },
        orderBy: { datasetVersionId: 'asc' },
      });
      const usedWhole = new Set<string>();
      const usedInPart = new Set<string>();
      const visited = new Set<string>();
      let isComplete = true;
      for (const pending = [checkpointId]; pending.length > 0;) {
        const id = pending.pop();
        if (id === undefined || visited.has(id)) continue;
        visited.add(id);
        const known = await db.checkpoint.findUnique({ where: { id }, select: { tensorDigest: true } });
        const tensorDigest = known?.tensorDigest ?? null;
        const same = await db.checkpoint.findMany({
          where: tensorDigest === null ? { id } : { tensorDigest },
          select: { id: true, sourceRun: { select: { config: true } } },
        });
        for (const each of same) visited.add(each.id);
        const configs = same.flatMap(({ sourceRun }) => trainingConfigSchema.safeParse(sourceRun?.config).data ?? []);
        if (configs.length === 0) isComplete = false;
        for (const { datasets, initialCheckpointId } of configs) {
          for (const { datasetVersionId, imageCount, maxImages } of datasets) {
            if (maxImages !== null && maxImages < imageCount) usedInPart.add(datasetVersionId);
            else usedWhole.add(datasetVersionId);
          }
          if (initialCheckpointId !== null) pending.push(initialCheckpointId);
        }
      }
      return {
        versions: trainedOn.map(({ datasetVersionId }) => ({
          datasetVersionId,
          isPart: usedInPart.has(datasetVersionId) && !usedWhole.has(datasetVersionId),
        })),
        isComplete,
      };
    },

    /**
     * The checkpoints whose training data is completely known: each of them, and each that its training started from,
     * was trained in this registry or has the same weights as one that was.
     */
    withKnownTraining: async (checkpointIds: readonly string[]): Promise<ReadonlySet<string>> => {
      const rows = await db.$queryRaw<{ readonly id: string }[]>`
        WITH RECURSIVE line AS (
          SELECT root, root AS id FROM unnest(${[...checkpointIds]}::uuid[]) AS root
          UNION
          SELECT line.root, (r.config->>'initialCheckpointId')::uuid
          FROM line JOIN "Checkpoint" c ON c.id = line.id
            JOIN "Checkpoint" same ON same.id = c.id OR same."tensorDigest" = c."tensorDigest"
            JOIN "Run" r ON r.id = same."sourceRunId"
          WHERE r.config->>'initialCheckpointId' IS NOT NULL)
        SELECT line.root::text AS id FROM line GROUP BY line.root
        HAVING bool_and(EXISTS (
          SELECT 1 FROM "Checkpoint" c JOIN "Checkpoint" same ON same.id = c.id OR same."tensorDigest" = c."tensorDigest"
          WHERE c.id = line.id AND same."sourceRunId" IS NOT NULL))`;
      return new Set(rows.map(({ id }) => id));
    },

    trainedOnOf: (checkpointIds: readonly string[]): Promise<{ checkpointId: string; datasetVersionId: string }[]> =>
      jsonRows(
        db,
        Prisma.sql`SELECT "checkpointId", "datasetVersionId" FROM "CheckpointTrainedOn" WHERE "checkpointId" = ANY(${[...checkpointIds]}::uuid[]) ORDER BY "datasetVersionId"`,
      ),
  };
}
