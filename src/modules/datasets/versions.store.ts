/** Versions of datasets in PostgreSQL: drafts of imports, and sealed versions. */
import { Prisma } from '../../generated/prisma/client.ts';
import { DomainError } from '../../errors.ts';
import type { Database, Transaction } from '../../platform/db.ts';
import { decodeCursor, encodeCursor, pageOf, pageSizeOf, type Page, type PageArguments } from '../../platform/page.ts';
import { jsonRows } from '../../platform/sql.ts';
import { lastDeletedVersion } from '../deletions/index.ts';
import type { DatasetVersionRecord, SealedVersionRecord, ShardRecord, ThumbnailRecord } from './datasets.records.ts';
import { recordArtifacts } from '../artifacts/index.ts';
import { insertSlides } from './slides.store.ts';
import { importIssuesSchema, labelCountsSchema, type SealedContent } from './versions.rules.ts';

/** A row as Prisma returns it. */
interface VersionRow extends Omit<DatasetVersionRecord, 'byteSize' | 'labelCounts' | 'issues'> {
  readonly byteSize: bigint | number;
  readonly labelCounts: unknown;
  readonly issues: unknown;
}
/** A row as PostgreSQL writes it in JSON: instants are text. */
interface RowJson extends Omit<VersionRow, 'createdAt' | 'sealedAt'> {
  readonly createdAt: string;
  readonly sealedAt: string | null;
}

/** @param from everything of the SELECT after FROM, with the versions as "v". */
async function readVersions(db: Database, from: Prisma.Sql): Promise<DatasetVersionRecord[]> {
  const rows = await jsonRows<RowJson>(
    db,
    Prisma.sql`
    SELECT v.id, v."datasetId", v.version, v.status, v.digest, v."digestRule", v."manifestSha256", v."imageHashesSha256", v."issueListSha256", v."patchSizePx", v."imageCount", v."byteSize", coalesce(v."labelNames", '{}') AS "labelNames",
      v."labelCounts", v."groupCount", v."ungroupedImageCount", v."hasSplit", v.issues, v."importRunId", v."createdAt", v."sealedAt" FROM ${from}`,
  );
  return rows.map((row) =>
    toRecord({
      ...row,
      createdAt: new Date(row.createdAt),
      sealedAt: row.sealedAt === null ? null : new Date(row.sealedAt),
    }),
  );
}

export type VersionStore = ReturnType<typeof createVersionStore>;

export function createVersionStore(db: Database) {
  return {
    /** The next version of a dataset, empty. Undefined when the dataset does not exist. */
    createDraft: async (
      tx: Transaction,
      draft: { datasetId: string; importRunId: string | null; patchSizePx: number | null },
    ): Promise<DatasetVersionRecord | undefined> => {
      // Locking the dataset's row serialises numbering, so that two imports at once get two numbers.
      const locked = await tx.$queryRaw<
        unknown[]
      >`SELECT 1 FROM "Dataset" WHERE id = ${draft.datasetId}::uuid FOR UPDATE`;
      if (locked.length === 0) return undefined;
      const last = await tx.datasetVersion.aggregate({
        where: { datasetId: draft.datasetId },
        _max: { version: true },
      });
      return toRecord(
        await tx.datasetVersion.create({
          data: {
            ...draft,
            version: Math.max(last._max.version ?? 0, await lastDeletedVersion(tx, draft.datasetId)) + 1,
          },
        }),
      );
    },

    /** Locks the row until the transaction ends. */
    lock: async (tx: Transaction, id: string): Promise<DatasetVersionRecord | undefined> => {
      await tx.$queryRaw`SELECT 1 FROM "DatasetVersion" WHERE id = ${id}::uuid FOR UPDATE`;
      const row = await tx.datasetVersion.findUnique({ where: { id } });
      return row === null ? undefined : toRecord(row);
    },

    seal: async (tx: Transaction, versionId: string, content: SealedContent): Promise<DatasetVersionRecord> => {
      await recordArtifacts(tx, content.artifacts);
      await tx.datasetShard.createMany({
        data: content.shards.map((shard, position) => ({ ...shard, datasetVersionId: versionId, position })),
      });
      await tx.datasetThumbnail.createMany({
        data: content.thumbnails.map((thumbnail, position) => ({
          ...thumbnail,
          datasetVersionId: versionId,
          position,
        })),
      });
      await insertSlides(tx, versionId, content.slides ?? []);
      const { digest, manifestSha256, issueListSha256 = null } = content;
      const { imageCount, byteSize, groupCount, ungroupedImageCount, hasSplit } = content;
      const row = await tx.datasetVersion.update({
        where: { id: versionId },
        data: {
          ...{ digest, manifestSha256, issueListSha256 },
          ...{ imageCount, byteSize, groupCount, ungroupedImageCount, hasSplit },
          labelNames: [...content.labelNames],
          labelCounts: content.labelCounts.map((each) => ({ ...each })),
          issues: importIssuesSchema.parse(content.issues),
          status: 'SEALED',
          sealedAt: new Date(),
        },
      });
      return toRecord(row);
    },

    /** Sealed versions whose images without a group were never counted. */
    withoutGroupCount: (
      after: string | undefined,
      limit: number,
    ): Promise<{ readonly id: string; readonly manifestSha256: string; readonly imageCount: number }[]> =>
      jsonRows(
        db,
        Prisma.sql`
        SELECT id, "manifestSha256", "imageCount" FROM "DatasetVersion"
        WHERE status = 'SEALED' AND "ungroupedImageCount" IS NULL AND ${after === undefined ? Prisma.sql`TRUE` : Prisma.sql`id > ${after}::uuid`}
        ORDER BY id LIMIT ${limit}`,
      ),

    fillGroupCount: async (
      tx: Transaction,
      id: string,
      counts: { readonly groupCount: number; readonly ungroupedImageCount: number },
    ): Promise<void> => {
      await tx.datasetVersion.updateMany({ where: { id, ungroupedImageCount: null }, data: counts });
    },

    /** Deletes a draft; a sealed version stays. */
    dropDraft: async (tx: Transaction, id: string): Promise<boolean> =>
      (await tx.datasetVersion.deleteMany({ where: { id, status: 'DRAFT' } })).count === 1,

    findMany: (ids: readonly string[]): Promise<DatasetVersionRecord[]> =>
      readVersions(db, Prisma.sql`"DatasetVersion" v WHERE v.id = ANY(${[...ids]}::uuid[])`),

    findByImportRuns: (runIds: readonly string[]): Promise<DatasetVersionRecord[]> =>
      readVersions(db, Prisma.sql`"DatasetVersion" v WHERE v."importRunId" = ANY(${[...runIds]}::uuid[])`),

    findSealed: async (ids: readonly string[]): Promise<SealedVersionRecord[]> => {
      const rows = await db.datasetVersion.findMany({
        where: { id: { in: [...ids] }, status: 'SEALED' },
        include: { shards: { orderBy: { position: 'asc' } } },
      });
      return rows.map((row) => {
        const { digest, manifestSha256 } = row;
        if (digest === null || manifestSha256 === null)
          throw new Error(`Sealed dataset version ${row.id} has no digest.`);
        const shards = row.shards.map((shard) => ({
          sha256: shard.sha256,
          byteSize: Number(shard.byteSize),
          imageCount: shard.imageCount,
        }));
        return { ...toRecord(row), status: 'SEALED', digest, manifestSha256, shards };
      });
    },

    /** The latest sealed version of each dataset that has one. */
    findLatest: (datasetIds: readonly string[]): Promise<DatasetVersionRecord[]> =>
      readVersions(
        db,
        Prisma.sql`
        unnest(${[...datasetIds]}::uuid[]) AS dataset(id),
        LATERAL (SELECT * FROM "DatasetVersion" WHERE "datasetId" = dataset.id AND status = 'SEALED' ORDER BY version DESC LIMIT 1) AS v`,
      ),

    /** The latest sealed version of each dataset that has at least two labels. */
    latestLabelled: (datasetIds: readonly string[]): Promise<DatasetVersionRecord[]> =>
      readVersions(
        db,
        Prisma.sql`
        unnest(${[...datasetIds]}::uuid[]) AS dataset(id),
        LATERAL (SELECT * FROM "DatasetVersion" WHERE "datasetId" = dataset.id AND status = 'SEALED' AND cardinality("labelNames") > 1 ORDER BY version DESC LIMIT 1) AS v`,
      ),

    /** The versions of one dataset, newest first. */
    list: async (datasetId: string, page: PageArguments): Promise<Page<DatasetVersionRecord>> => {
      const size = pageSizeOf(page);
      const after = decodeCursor(page, 2);
      const [madeFor, version] = after ?? [];
      if (
        after !== undefined &&
        (madeFor !== 'VERSION' || !Number.isInteger(version) || Math.abs(Number(version)) >= 2 ** 31)
      ) {
        throw new DomainError({
          code: 'CURSOR_INVALID',
          message: '`after` is not a cursor of this list.',
          field: 'after',
          hint: 'Pass pageInfo.endCursor of the previous page.',
        });
      }
      const behind = after === undefined ? Prisma.empty : Prisma.sql`AND v.version < ${Number(version)}`;
      const records = await readVersions(
        db,
        Prisma.sql`"DatasetVersion" v WHERE v."datasetId" = ${datasetId}::uuid ${behind} ORDER BY v.version DESC LIMIT ${size + 1}`,
      );
      return pageOf(
        records,
        size,
        (record) => encodeCursor(['VERSION', record.version]),
        after !== undefined,
        () => db.datasetVersion.count({ where: { datasetId } }),
      );
    },

    /** Thumbnail `position`, from 0, of a dataset's latest sealed version. */
    findThumbnail: async (datasetId: string, position: number): Promise<ThumbnailRecord | undefined> => {
      const row = await db.datasetThumbnail.findFirst({
        where: { position, datasetVersion: { datasetId, status: 'SEALED' } },
        orderBy: { datasetVersion: { version: 'desc' } },
        include: { artifact: true },
      });
      return row === null
        ? undefined
        : { position: row.position, sha256: row.sha256, byteSize: Number(row.artifact.byteSize), label: row.label };
    },

    /** By version, each in the order of its positions. */
    thumbnailsOf: async (versionIds: readonly string[]): Promise<Map<string, ThumbnailRecord[]>> => {
      const rows = await db.datasetThumbnail.findMany({
        where: { datasetVersionId: { in: [...versionIds] } },
        orderBy: { position: 'asc' },
        include: { artifact: true },
      });
      return Map.groupBy(
        rows.map((row) => ({
          versionId: row.datasetVersionId,
          position: row.position,
          sha256: row.sha256,
          byteSize: Number(row.artifact.byteSize),
          label: row.label,
        })),
        (row) => row.versionId,
      );
    },

    /** By version, each in reading order. */
    shardsOf: async (versionIds: readonly string[]): Promise<Map<string, ShardRecord[]>> => {
      const rows = await db.datasetShard.findMany({
        where: { datasetVersionId: { in: [...versionIds] } },
        orderBy: { position: 'asc' },
      });
      return Map.groupBy(
        rows.map((row) => ({
          versionId: row.datasetVersionId,
          sha256: row.sha256,
          byteSize: Number(row.byteSize),
          imageCount: row.imageCount,
        })),
        (row) => row.versionId,
      );
    },
  };
}

function toRecord(row: VersionRow): DatasetVersionRecord {
  return {
    id: row.id,
    datasetId: row.datasetId,
    version: row.version,
    status: row.status,
    digest: row.digest,
    digestRule: row.digestRule,
    manifestSha256: row.manifestSha256,
    imageHashesSha256: row.imageHashesSha256,
    issueListSha256: row.issueListSha256,
    patchSizePx: row.patchSizePx,
    imageCount: row.imageCount,
    byteSize: Number(row.byteSize),
    labelNames: row.labelNames,
    labelCounts: labelCountsSchema.parse(row.labelCounts),
    groupCount: row.groupCount,
    ungroupedImageCount: row.ungroupedImageCount,
    hasSplit: row.hasSplit,
    issues: importIssuesSchema.parse(row.issues),
    importRunId: row.importRunId,
    createdAt: row.createdAt,
    sealedAt: row.sealedAt,
  };
}
