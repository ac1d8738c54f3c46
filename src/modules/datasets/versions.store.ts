/** Versions of datasets: drafts of imports, and what is sealed for good. */
import type { DatasetVersion, Prisma } from '../../generated/prisma/client.ts';
import { DomainError } from '../../errors.ts';
import type { Database, Transaction } from '../../platform/db.ts';
import { decodeCursor, encodeCursor, pageOf, pageSizeOf, type Page, type PageArguments } from '../../platform/page.ts';
import { lastDeletedVersion } from '../deletions/index.ts';
import type { DatasetVersionRecord, SealedVersionRecord, ShardRecord, ThumbnailRecord } from './datasets.records.ts';
import { recordArtifacts } from '../artifacts/index.ts';
import { importIssuesSchema, labelCountsSchema, type SealedContent } from './versions.rules.ts';

export type VersionStore = ReturnType<typeof createVersionStore>;

export function createVersionStore(db: Database) {
  return {
    /** The next version of a dataset, empty. Undefined when there is no such dataset. */
    createDraft: async (tx: Transaction, draft: { datasetId: string; importRunId: string | null; patchSizePx: number | null }): Promise<DatasetVersionRecord | undefined> => {
      // The dataset's row is the lock under which numbers are given: two imports at once get two numbers.
      const locked = await tx.$queryRaw<unknown[]>`SELECT 1 FROM "Dataset" WHERE id = ${draft.datasetId}::uuid FOR UPDATE`;
      if (locked.length === 0) return undefined;
      const last = await tx.datasetVersion.aggregate({ where: { datasetId: draft.datasetId }, _max: { version: true } });
      return toRecord(await tx.datasetVersion.create({ data: { ...draft, version: Math.max(last._max.version ?? 0, await lastDeletedVersion(tx, draft.datasetId)) + 1 } }));
    },

    /** Locks the row until the transaction ends. */
    lock: async (tx: Transaction, id: string): Promise<DatasetVersionRecord | undefined> => {
      await tx.$queryRaw`SELECT 1 FROM "DatasetVersion" WHERE id = ${id}::uuid FOR UPDATE`;
      const row = await tx.datasetVersion.findUnique({ where: { id } });
      return row === null ? undefined : toRecord(row);
    },

    seal: async (tx: Transaction, versionId: string, content: SealedContent): Promise<DatasetVersionRecord> => {
      await recordArtifacts(tx, content.artifacts);
      await tx.datasetShard.createMany({ data: content.shards.map((shard, position) => ({ ...shard, datasetVersionId: versionId, position })) });
      await tx.datasetThumbnail.createMany({ data: content.thumbnails.map((thumbnail, position) => ({ ...thumbnail, datasetVersionId: versionId, position })) });
      const { digest, manifestSha256, imageHashesSha256 = null, imageCount, byteSize, groupCount, hasSplit } = content;
      const row = await tx.datasetVersion.update({
        where: { id: versionId },
        data: {
          ...{ digest, manifestSha256, imageHashesSha256, imageCount, byteSize, groupCount, hasSplit },
          labelNames: [...content.labelNames],
          labelCounts: content.labelCounts.map((each) => ({ ...each })),
          issues: content.issues.map((issue) => ({ ...issue, examples: [...issue.examples] })),
          status: 'SEALED',
          sealedAt: new Date(),
        },
      });
      return toRecord(row);
    },

    /** Drops it if it is a draft; a sealed one stays. */
    dropDraft: async (tx: Transaction, id: string): Promise<boolean> => (await tx.datasetVersion.deleteMany({ where: { id, status: 'DRAFT' } })).count === 1,

    findMany: async (ids: readonly string[]): Promise<DatasetVersionRecord[]> => (await db.datasetVersion.findMany({ where: { id: { in: [...ids] } } })).map(toRecord),

    findByImportRuns: async (runIds: readonly string[]): Promise<DatasetVersionRecord[]> =>
      (await db.datasetVersion.findMany({ where: { importRunId: { in: [...runIds] } } })).map(toRecord),

    findSealed: async (ids: readonly string[]): Promise<SealedVersionRecord[]> => {
      const rows = await db.datasetVersion.findMany({ where: { id: { in: [...ids] }, status: 'SEALED' }, include: { shards: { orderBy: { position: 'asc' } } } });
      return rows.map((row) => {
        const { digest, manifestSha256 } = row;
        if (digest === null || manifestSha256 === null) throw new Error(`Sealed dataset version ${row.id} has no digest.`);
        const shards = row.shards.map((shard) => ({ sha256: shard.sha256, byteSize: Number(shard.byteSize), imageCount: shard.imageCount }));
        return { ...toRecord(row), status: 'SEALED', digest, manifestSha256, shards };
      });
    },

    /** The latest sealed version of each dataset that has one. */
    findLatest: async (datasetIds: readonly string[]): Promise<DatasetVersionRecord[]> => {
      // Prisma's own distinct would fetch every version and choose here.
      const latest = await db.$queryRaw<{ id: string }[]>`
        SELECT DISTINCT ON ("datasetId") id FROM "DatasetVersion" WHERE "datasetId" = ANY(${[...datasetIds]}::uuid[]) AND status = 'SEALED' ORDER BY "datasetId", version DESC`;
      const rows = await db.datasetVersion.findMany({ where: { id: { in: latest.map((row) => row.id) } } });
      return rows.map(toRecord);
    },

    /** The versions of one dataset, newest first. */
    list: async (datasetId: string, page: PageArguments): Promise<Page<DatasetVersionRecord>> => {
      const size = pageSizeOf(page);
      const after = decodeCursor(page, 2);
      const [madeFor, version] = after ?? [];
      if (after !== undefined && (madeFor !== 'VERSION' || !Number.isInteger(version) || Math.abs(Number(version)) >= 2 ** 31)) {
        throw new DomainError({ code: 'CURSOR_INVALID', message: 'after is not a cursor of this list.', field: 'after', hint: 'Pass pageInfo.endCursor of the previous page.' });
      }
      const where: Prisma.DatasetVersionWhereInput = { datasetId };
      const rows = await db.datasetVersion.findMany({
        where: after === undefined ? where : { ...where, version: { lt: Number(version) } },
        orderBy: { version: 'desc' },
        take: size + 1,
      });
      return pageOf(rows.map(toRecord), size, (row) => encodeCursor(['VERSION', row.version]), after !== undefined, () => db.datasetVersion.count({ where }));
    },

    /** Thumbnail `position`, from 0, of a dataset's latest sealed version. */
    findThumbnail: async (datasetId: string, position: number): Promise<ThumbnailRecord | undefined> => {
      const row = await db.datasetThumbnail.findFirst({
        where: { position, datasetVersion: { datasetId, status: 'SEALED' } },
        orderBy: { datasetVersion: { version: 'desc' } },
        include: { artifact: true },
      });
      return row === null ? undefined : { position: row.position, sha256: row.sha256, byteSize: Number(row.artifact.byteSize), label: row.label };
    },

    /** By version, each in the order of its positions. */
    thumbnailsOf: async (versionIds: readonly string[]): Promise<Map<string, ThumbnailRecord[]>> => {
      const rows = await db.datasetThumbnail.findMany({ where: { datasetVersionId: { in: [...versionIds] } }, orderBy: { position: 'asc' }, include: { artifact: true } });
      return Map.groupBy(
        rows.map((row) => ({ versionId: row.datasetVersionId, position: row.position, sha256: row.sha256, byteSize: Number(row.artifact.byteSize), label: row.label })),
        (row) => row.versionId,
      );
    },

    /** By version, each in reading order. */
    shardsOf: async (versionIds: readonly string[]): Promise<Map<string, ShardRecord[]>> => {
      const rows = await db.datasetShard.findMany({ where: { datasetVersionId: { in: [...versionIds] } }, orderBy: { position: 'asc' } });
      return Map.groupBy(
        rows.map((row) => ({ versionId: row.datasetVersionId, sha256: row.sha256, byteSize: Number(row.byteSize), imageCount: row.imageCount })),
        (row) => row.versionId,
      );
    },
  };
}

function toRecord(row: DatasetVersion): DatasetVersionRecord {
  return {
    id: row.id,
    datasetId: row.datasetId,
    version: row.version,
    status: row.status,
    digest: row.digest,
    manifestSha256: row.manifestSha256,
    imageHashesSha256: row.imageHashesSha256,
    patchSizePx: row.patchSizePx,
    imageCount: row.imageCount,
    byteSize: Number(row.byteSize),
    labelNames: row.labelNames,
    labelCounts: labelCountsSchema.parse(row.labelCounts),
    groupCount: row.groupCount,
    hasSplit: row.hasSplit,
    issues: importIssuesSchema.parse(row.issues),
    importRunId: row.importRunId,
    createdAt: row.createdAt,
    sealedAt: row.sealedAt,
  };
}
