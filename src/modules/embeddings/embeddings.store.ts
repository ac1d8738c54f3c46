/** Sets of embeddings in PostgreSQL; their numbers are in the artifact store. */
import type { Prisma } from '../../generated/prisma/client.ts';
import { isId } from '../../input.ts';
import type { Database, Transaction } from '../../platform/db.ts';
import type { EmbeddingKey, EmbeddingSetRecord, NewEmbeddingSet } from './embeddings.records.ts';

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
  };
}

function toRecord({ rows, ids: _ids, engine: _engine, ...row }: Row): EmbeddingSetRecord {
  return { ...row, byteSize: Number(rows.byteSize) };
}
