/** Models and their aliases in PostgreSQL. */
import { isId } from '../../input.ts';
import { Prisma } from '../../generated/prisma/client.ts';
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
import type { ModelAliasRecord, ModelRecord } from './models.records.ts';

export interface ModelFilter {
  /** Part of a slug or name, in any case. */
  readonly search?: string | null | undefined;
}

export type ModelStore = ReturnType<typeof createModelStore>;

export function createModelStore(db: Database) {
  return {
    findBy: async (
      reference: { readonly id: string } | { readonly slug: string },
      tx: Transaction = db,
    ): Promise<ModelRecord | undefined> => {
      if ('id' in reference && !isId(reference.id)) return undefined;
      return (await tx.model.findUnique({ where: reference })) ?? undefined;
    },

    findMany: async (ids: readonly string[]): Promise<ModelRecord[]> => {
      const rows = await jsonRows<Omit<ModelRecord, 'createdAt'> & { readonly createdAt: string }>(
        db,
        Prisma.sql`SELECT id, slug, name, description, licence, "createdAt" FROM "Model" WHERE id = ANY(${[...ids]}::uuid[])`,
      );
      return rows.map((row) => ({ ...row, createdAt: new Date(row.createdAt) }));
    },

    list: async (page: PageArguments, filter: ModelFilter): Promise<Page<ModelRecord>> => {
      const size = pageSizeOf(page);
      const after = decodeIdCursor(page);
      const search = filter.search?.trim() ?? '';
      const where: Prisma.ModelWhereInput =
        search === ''
          ? {}
          : {
              OR: [
                { slug: { contains: escapeLike(search), mode: 'insensitive' } },
                { name: { contains: escapeLike(search), mode: 'insensitive' } },
              ],
            };
      // Ids are uuid v7: newest first by id alone.
      const rows = await db.model.findMany({
        where: after === undefined ? where : { AND: [where, { id: { lt: after } }] },
        orderBy: { id: 'desc' },
        take: size + 1,
      });
      return pageOf(
        rows,
        size,
        (model) => encodeCursor([model.id]),
        after !== undefined,
        () => db.model.count({ where }),
      );
    },

    /** Undefined when the slug is taken. */
    create: async (
      tx: Transaction,
      model: Pick<ModelRecord, 'slug' | 'name' | 'description' | 'licence'>,
    ): Promise<ModelRecord | undefined> => {
      // ON CONFLICT DO NOTHING: a failed INSERT would end the caller's transaction.
      const [created] = await tx.model.createManyAndReturn({ data: [model], skipDuplicates: true });
      return created;
    },

    /** Locks the row until the transaction ends, so that versions are numbered one at a time. */
    lock: async (tx: Transaction, modelId: string): Promise<void> => {
      await tx.$queryRaw`SELECT 1 FROM "Model" WHERE id = ${modelId}::uuid FOR UPDATE`;
    },

    aliasesOf: async (modelIds: readonly string[]): Promise<ModelAliasRecord[]> => {
      const rows = await jsonRows<Omit<ModelAliasRecord, 'updatedAt'> & { readonly updatedAt: string }>(
        db,
        Prisma.sql`SELECT "modelId", name, "checkpointId", "updatedAt" FROM "ModelAlias" WHERE "modelId" = ANY(${[...modelIds]}::uuid[]) ORDER BY name`,
      );
      return rows.map((row) => ({ ...row, updatedAt: new Date(row.updatedAt) }));
    },

    setAlias: async (
      tx: Transaction,
      alias: Pick<ModelAliasRecord, 'modelId' | 'name' | 'checkpointId'>,
    ): Promise<void> => {
      const { modelId, name, checkpointId } = alias;
      await tx.modelAlias.upsert({
        where: { modelId_name: { modelId, name } },
        create: alias,
        update: { checkpointId },
      });
    },

    removeAlias: async (tx: Transaction, modelId: string, name: string): Promise<void> => {
      await tx.modelAlias.deleteMany({ where: { modelId, name } });
    },
  };
}

/** Escapes % and _, which are literal characters in a user's search. */
function escapeLike(text: string): string {
  return text.replaceAll(/[\\%_]/g, (letter) => `\\${letter}`);
}
