/**
 * Deletes rows and writes their tombstones. Garbage collection later deletes the bytes that nothing references any
 * more.
 */
import type { Prisma, Tombstone } from '../../generated/prisma/client.ts';
import type { Database, Transaction } from '../../platform/db.ts';
import { decodeCursor, encodeCursor, pageOf, pageSizeOf, type Page, type PageArguments } from '../../platform/page.ts';
import { DomainError } from '../../errors.ts';
import type { DeletableKind, DeletableObject, TombstoneRecord } from './deletions.rules.ts';

/** How one kind of object is inspected and deleted. The lock of its row prevents new citations meanwhile. */
interface Deletable {
  find(tx: Transaction, id: string): Promise<DeletableObject | undefined>;
  remove(tx: Transaction, id: string): Promise<unknown>;
}

const UNENDED: Prisma.RunWhereInput = { status: { in: ['QUEUED', 'RUNNING', 'CANCELING'] } };

const dataset: Deletable = {
  find: async (tx, id) => {
    await tx.$queryRaw`SELECT 1 FROM "Dataset" WHERE id = ${id}::uuid FOR UPDATE`;
    const row = await tx.dataset.findUnique({ where: { id }, include: { _count: { select: { versions: true } } } });
    if (row === null) return undefined;
    const needs = [
      counted(row._count.versions, 'version'),
      row.catalogueDigest === null ? [] : ['the catalogue, which would restore it'],
      await unendedRunsNaming(tx, id),
    ];
    return {
      name: row.slug,
      digest: null,
      parentId: null,
      version: null,
      neededBy: needs.flat(),
      hint: 'Delete its versions first; entries of the catalogue stay.',
    };
  },
  remove: (tx, id) => tx.dataset.delete({ where: { id } }),
};

const datasetVersion: Deletable = {
  find: async (tx, id) => {
    await tx.$queryRaw`SELECT 1 FROM "DatasetVersion" WHERE id = ${id}::uuid FOR UPDATE`;
    const row = await tx.datasetVersion.findUnique({
      where: { id },
      include: { dataset: true, _count: { select: { trainedInto: true, evaluations: true } } },
    });
    if (row === null) return undefined;
    const importing = row.importRunId === null ? 0 : await tx.run.count({ where: { id: row.importRunId, ...UNENDED } });
    const needs = [
      counted(row._count.trainedInto, 'checkpoint'),
      counted(row._count.evaluations, 'evaluation'),
      counted(importing, 'import'),
      await unendedRunsNaming(tx, id),
    ];
    return {
      name: `${row.dataset.slug} version ${row.version}`,
      digest: row.digest,
      parentId: row.datasetId,
      version: row.version,
      neededBy: needs.flat(),
      hint: 'Delete everything that was made from it first, or keep it as the record of their origin.',
    };
  },
  remove: (tx, id) => tx.datasetVersion.delete({ where: { id } }),
};

const model: Deletable = {
  find: async (tx, id) => {
    await tx.$queryRaw`SELECT 1 FROM "Model" WHERE id = ${id}::uuid FOR UPDATE`;
    const row = await tx.model.findUnique({ where: { id }, include: { _count: { select: { checkpoints: true } } } });
    if (row === null) return undefined;
    return {
      name: row.slug,
      digest: null,
      parentId: null,
      version: null,
      neededBy: counted(row._count.checkpoints, 'checkpoint'),
      hint: 'Delete its checkpoints first.',
    };
  },
  remove: (tx, id) => tx.model.delete({ where: { id } }),
};

const checkpoint: Deletable = {
  find: async (tx, id) => {
    await tx.$queryRaw`SELECT 1 FROM "Checkpoint" WHERE id = ${id}::uuid FOR UPDATE`;
    const row = await tx.checkpoint.findUnique({
      where: { id },
      omit: { golden: true },
      include: { model: true, _count: { select: { evaluations: true, aliases: true } } },
    });
    if (row === null) return undefined;
    const needs = [
      counted(row._count.evaluations, 'evaluation'),
      counted(row._count.aliases, 'alias', 'aliases'),
      row.publishedSlug === null ? [] : ['the catalogue, which would restore it'],
      await checkpointsTrainedFrom(tx, id),
      await unendedRunsNaming(tx, id),
    ];
    return {
      name: `${row.model.slug} version ${row.version}`,
      digest: row.sha256,
      parentId: row.modelId,
      version: row.version,
      neededBy: needs.flat(),
      hint: 'Delete what was trained from it and the runs of its evaluations, and move its aliases first.',
    };
  },
  remove: (tx, id) => tx.checkpoint.delete({ where: { id } }),
};

/**
 * Also deletes the run's events, metrics and training states, and the evaluation that it produced, which has no meaning
 * without the run.
 */
const run: Deletable = {
  find: async (tx, id) => {
    await tx.$queryRaw`SELECT 1 FROM "Run" WHERE id = ${id}::uuid FOR UPDATE`;
    const row = await tx.run.findUnique({
      where: { id },
      include: { _count: { select: { checkpoints: true, exports: true } }, datasetVersion: { select: { id: true } } },
    });
    if (row === null) return undefined;
    const isUnended = row.status === 'QUEUED' || row.status === 'RUNNING' || row.status === 'CANCELING';
    const needs = [
      counted(row._count.checkpoints, 'checkpoint'),
      counted(row._count.exports, 'exported file'),
      counted(row.datasetVersion === null ? 0 : 1, 'dataset version'),
    ];
    return {
      name: `${row.kind} of ${row.queuedAt.toISOString()}`,
      digest: null,
      parentId: null,
      version: null,
      neededBy: needs.flat(),
      isUnderWay: isUnended,
      hint: isUnended
        ? 'Cancel it or wait until it has ended, then delete it.'
        : 'Delete its results first, because a run is the record of their origin.',
    };
  },
  remove: async (tx, id) => {
    await tx.evaluation.deleteMany({ where: { runId: id } });
    await tx.run.delete({ where: { id } });
  },
};

const DELETABLES: Readonly<Record<DeletableKind, Deletable>> = {
  DATASET: dataset,
  DATASET_VERSION: datasetVersion,
  MODEL: model,
  CHECKPOINT: checkpoint,
  RUN: run,
};

export type DeletionStore = ReturnType<typeof createDeletionStore>;

export function createDeletionStore(db: Database) {
  return {
    find: (tx: Transaction, kind: DeletableKind, id: string): Promise<DeletableObject | undefined> =>
      DELETABLES[kind].find(tx, id),

    replaceByTombstone: async (
      tx: Transaction,
      tombstone: Omit<TombstoneRecord, 'deletedAt'>,
      { parentId, version }: DeletableObject,
    ): Promise<TombstoneRecord> => {
      await DELETABLES[tombstone.kind].remove(tx, tombstone.id);
      return toRecord(await tx.tombstone.create({ data: { ...tombstone, parentId, version } }));
    },

    get: async (id: string): Promise<TombstoneRecord | undefined> => {
      const row = await db.tombstone.findUnique({ where: { id } });
      return row === null ? undefined : toRecord(row);
    },

    /** Newest first. */
    list: async (page: PageArguments): Promise<Page<TombstoneRecord>> => {
      const size = pageSizeOf(page);
      const after = placeAfter(page);
      const where =
        after === undefined
          ? {}
          : { OR: [{ deletedAt: { lt: after.deletedAt } }, { deletedAt: after.deletedAt, id: { lt: after.id } }] };
      const rows = await db.tombstone.findMany({
        where,
        orderBy: [{ deletedAt: 'desc' }, { id: 'desc' }],
        take: size + 1,
      });
      return pageOf(
        rows.map(toRecord),
        size,
        ({ deletedAt, id }) => encodeCursor([deletedAt.getTime(), id]),
        after !== undefined,
        () => db.tombstone.count(),
      );
    },
  };
}

/** The highest number that was ever given to a deleted checkpoint of a model, or version of a dataset; 0 for none. */
export async function lastDeletedVersion(tx: Transaction, parentId: string): Promise<number> {
  return (await tx.tombstone.aggregate({ where: { parentId }, _max: { version: true } }))._max.version ?? 0;
}

function toRecord({ parentId: _parentId, version: _version, ...row }: Tombstone): TombstoneRecord {
  return row;
}

function counted(count: number, one: string, many = `${one}s`): string[] {
  return count === 0 ? [] : [`${count} ${count === 1 ? one : many}`];
}

/**
 * Without the run, the images that these checkpoints have seen would be unknown, and their leakage would be
 * understated.
 */
async function checkpointsTrainedFrom(tx: Transaction, id: string): Promise<string[]> {
  const count = await tx.checkpoint.count({
    where: { sourceRun: { config: { path: ['initialCheckpointId'], equals: id } } },
  });
  return counted(count, 'checkpoint that was trained from it', 'checkpoints that were trained from it');
}

/** Runs cite their inputs in the frozen config, which no foreign key protects. */
async function unendedRunsNaming(tx: Transaction, id: string): Promise<string[]> {
  const rows = await tx.$queryRaw<
    { count: bigint }[]
  >`SELECT count(*) AS count FROM "Run" WHERE status IN ('QUEUED', 'RUNNING', 'CANCELING') AND strpos(config::text, ${id}) > 0`;
  return counted(Number(rows[0]?.count ?? 0), 'run that has not ended', 'runs that have not ended');
}

function placeAfter(page: PageArguments): { deletedAt: Date; id: string } | undefined {
  const [ms, id] = decodeCursor(page, 2) ?? [];
  if (ms === undefined) return undefined;
  if (typeof ms === 'number' && Math.abs(ms) <= 8.64e15 && typeof id === 'string' && /^[0-9a-f-]{36}$/.test(id))
    return { deletedAt: new Date(ms), id };
  throw new DomainError({
    code: 'CURSOR_INVALID',
    message: '`after` is not a cursor of this list.',
    field: 'after',
    hint: 'Pass pageInfo.endCursor of the previous page.',
  });
}
