/** Blocks of imports that have not ended, in PostgreSQL; their bytes are in the artifact store. */
import type { Database, Transaction } from '../../platform/db.ts';
import { IMPORT_BLOCK_MEDIA_TYPE, recordArtifacts, type DroppedReferences } from '../artifacts/index.ts';
import type { ImportBlockRecord, NewImportBlock } from '../../protocol/import.ts';

export type ImportBlockStore = ReturnType<typeof createImportBlockStore>;

export function createImportBlockStore(db: Database) {
  return {
    /** In the order of their positions. */
    blocks: (runId: string): Promise<ImportBlockRecord[]> =>
      db.importBlock.findMany({
        where: { runId },
        orderBy: { position: 'asc' },
        select: { position: true, sha256: true, shardSha256: true, progress: true },
      }),

    /** Replaces the block at this position and deletes those after it, which followed another block. */
    addBlock: async (tx: Transaction, runId: string, block: NewImportBlock): Promise<void> => {
      const { position, facts, shard, progress } = block;
      await recordArtifacts(tx, [
        { ...facts, mediaType: IMPORT_BLOCK_MEDIA_TYPE },
        ...(shard === null ? [] : [{ ...shard, mediaType: 'application/x-tar' }]),
      ]);
      await tx.importBlock.deleteMany({ where: { runId, position: { gte: position } } });
      await tx.importBlock.create({
        data: { runId, position, sha256: facts.sha256, shardSha256: shard?.sha256 ?? null, progress },
      });
      await tx.run.update({ where: { id: runId }, data: { fruitlessAttempts: 0 } });
    },
  };
}

/** A run drops its blocks when it ends; this finds those of a run that ended in any other way. */
export async function dropBlocksOfEndedImports(tx: Transaction): Promise<DroppedReferences> {
  const dropped = await tx.$queryRaw<{ sha256: string; shardSha256: string | null }[]>`
    DELETE FROM "ImportBlock" b USING "Run" r
    WHERE r.id = b."runId" AND r.status IN ('SUCCEEDED', 'FAILED', 'CANCELED') RETURNING b.sha256, b."shardSha256"`;
  const [kept] = await tx.$queryRaw<{ count: number; byteSize: bigint }[]>`
    SELECT (SELECT count(*)::int FROM "ImportBlock") AS count, coalesce(sum(a."byteSize"), 0)::bigint AS "byteSize"
    FROM "Artifact" a WHERE a.sha256 IN (SELECT sha256 FROM "ImportBlock" UNION SELECT "shardSha256" FROM "ImportBlock")`;
  return {
    kind: 'import blocks',
    droppedCount: dropped.length,
    sha256s: dropped.flatMap(({ sha256, shardSha256 }) => (shardSha256 === null ? [sha256] : [sha256, shardSha256])),
    kept: { count: kept?.count ?? 0, byteSize: Number(kept?.byteSize ?? 0) },
  };
}
