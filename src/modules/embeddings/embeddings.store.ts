/** Sets of embeddings in PostgreSQL; their numbers are in the artifact store. */
import type { Prisma } from '../../generated/prisma/client.ts';
import { isId } from '../../input.ts';
import type { Database, Transaction } from '../../platform/db.ts';
import type { DroppedReferences } from '../artifacts/index.ts';
import type {
  EmbeddingBlockRecord,
  EmbeddingSetRecord,
  NewEmbeddingBlock,
  NewEmbeddingSet,
} from './embeddings.records.ts';
import type { EmbeddingKey } from '../../protocol/embeddings.ts';

const withSize = { rows: { select: { byteSize: true } }, ids: { select: { byteSize: true } } } as const;
type Row = Prisma.EmbeddingSetGetPayload<{ include: typeof withSize }>;

export type EmbeddingStore = ReturnType<typeof createEmbeddingStore>;

export function createEmbeddingStore(db: Database) {
  return {
    find: async (id: string): Promise<(EmbeddingSetRecord & { readonly idsByteSize: number }) | undefined> => {
      const row = isId(id) ? await db.embeddingSet.findUnique({ where: { id }, include: withSize }) : null;
      return row === null ? undefined : { ...toRecord(row), idsByteSize: Number(row.ids.byteSize) };
    },

    findByKey: async (key: EmbeddingKey): Promise<EmbeddingSetRecord | undefined> => {
      const { encoderDigest, datasetDigest, preparationDigest } = key;
      const row = await db.embeddingSet.findUnique({
        where: { encoderDigest_datasetDigest_preparationDigest: { encoderDigest, datasetDigest, preparationDigest } },
        include: withSize,
      });
      return row === null ? undefined : toRecord(row);
    },

    /** Newest first. */
    ofEncoder: async (encoderDigest: string): Promise<EmbeddingSetRecord[]> =>
      (await db.embeddingSet.findMany({ where: { encoderDigest }, orderBy: { id: 'desc' }, include: withSize })).map(
        toRecord,
      ),

    ofDataset: async (datasetDigest: string): Promise<EmbeddingSetRecord[]> =>
      (await db.embeddingSet.findMany({ where: { datasetDigest }, orderBy: { id: 'desc' }, include: withSize })).map(
        toRecord,
      ),

    /** Another worker may have registered the same set in the meantime; that set is then kept. */
    create: async (tx: Transaction, { rows, ids, engine, ...facts }: NewEmbeddingSet): Promise<void> => {
      await tx.embeddingSet.createMany({
        data: [{ ...facts, sha256: rows.sha256, idsSha256: ids.sha256, engine: { ...engine } }],
        skipDuplicates: true,
      });
    },

    /** In the order of their positions. */
    blocks: (runId: string, key: EmbeddingKey, engine: object): Promise<EmbeddingBlockRecord[]> =>
      db.embeddingBlock.findMany({
        where: { ...blockKey(runId, key), engine: { equals: { ...engine } } },
        orderBy: { position: 'asc' },
        select: { position: true, imageCount: true, sha256: true },
      }),

    keepBlock: async (
      tx: Transaction,
      { runId, key, position, imageCount, rows, engine }: NewEmbeddingBlock,
    ): Promise<void> => {
      const id = { ...blockKey(runId, key), position };
      const content = { imageCount, sha256: rows.sha256, engine: { ...engine } };
      await tx.embeddingBlock.upsert({
        where: { runId_encoderDigest_preparationDigest_position: id },
        create: { ...id, ...content },
        update: content,
      });
    },

    dropBlocks: async (tx: Transaction, runId: string, key: EmbeddingKey): Promise<void> => {
      await tx.embeddingBlock.deleteMany({ where: blockKey(runId, key) });
    },
  };
}

/**
 * Deletes the sets whose dataset version is gone, and the sets of a checkpoint that is gone. Versions with the same
 * digest share their sets, as do checkpoints with the same weights: a set stays until the last of them is deleted. The
 * baselines belong to the version alone, because every checkpoint is compared with them.
 */
export async function dropSetsWithoutOwner(tx: Transaction): Promise<DroppedReferences> {
  const dropped = await tx.$queryRaw<{ sha256: string; idsSha256: string }[]>`
    DELETE FROM "EmbeddingSet" s
    WHERE NOT EXISTS (SELECT 1 FROM "DatasetVersion" v WHERE v.digest = s."datasetDigest")
      OR (s.source = 'CHECKPOINT' AND NOT EXISTS (SELECT 1 FROM "Checkpoint" c WHERE c.sha256 = s."encoderDigest"))
    RETURNING s.sha256, s."idsSha256"`;
  const [kept] = await tx.$queryRaw<{ count: number; byteSize: bigint }[]>`
    SELECT (SELECT count(*)::int FROM "EmbeddingSet") AS count, coalesce(sum(a."byteSize"), 0)::bigint AS "byteSize"
    FROM "Artifact" a WHERE a.sha256 IN (SELECT sha256 FROM "EmbeddingSet" UNION SELECT "idsSha256" FROM "EmbeddingSet")`;
  return {
    kind: 'embedding sets',
    droppedCount: dropped.length,
    sha256s: dropped.flatMap((set) => [set.sha256, set.idsSha256]),
    kept: { count: kept?.count ?? 0, byteSize: Number(kept?.byteSize ?? 0) },
  };
}

/** Deletes the blocks of runs that have ended: an evaluation that is launched again is another run. */
export async function dropBlocksOfEndedRuns(tx: Transaction): Promise<DroppedReferences> {
  const dropped = await tx.$queryRaw<{ sha256: string }[]>`
    DELETE FROM "EmbeddingBlock" b USING "Run" r
    WHERE r.id = b."runId" AND r.status IN ('SUCCEEDED', 'FAILED', 'CANCELED') RETURNING b.sha256`;
  const [kept] = await tx.$queryRaw<{ count: number; byteSize: bigint }[]>`
    SELECT count(*)::int AS count, coalesce(sum(a."byteSize"), 0)::bigint AS "byteSize"
    FROM "EmbeddingBlock" b JOIN "Artifact" a USING (sha256)`;
  return {
    kind: 'embedding blocks',
    droppedCount: dropped.length,
    sha256s: dropped.map(({ sha256 }) => sha256),
    kept: { count: kept?.count ?? 0, byteSize: Number(kept?.byteSize ?? 0) },
  };
}

/** A run embeds the images of one version, so the digest of the dataset is not part of a block's key. */
function blockKey(runId: string, { encoderDigest, preparationDigest }: EmbeddingKey) {
  return { runId, encoderDigest, preparationDigest };
}

function toRecord({ rows, ids: _ids, engine: _engine, ...row }: Row): EmbeddingSetRecord {
  return { ...row, byteSize: Number(rows.byteSize) };
}
