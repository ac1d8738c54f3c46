/** Checkpoints in PostgreSQL: rows, lists, imports, golden images and embeddings. */
import { z } from 'zod';
import { isId } from '../../input.ts';
import { Prisma } from '../../generated/prisma/client.ts';
import {
  architectureNamed,
  architectureSchema,
  describeEncoder,
  encoderNameOf,
  type Architecture,
} from '../../formats/encoders/index.ts';
import type { EncoderArchitecture } from '../../generated/prisma/enums.ts';
import type { Database, Transaction } from '../../platform/db.ts';
import {
  decodeIdCursor,
  encodeCursor,
  pageOf,
  pageSizeOf,
  type Page,
  type PageArguments,
} from '../../platform/page.ts';
import { allOf, jsonRows } from '../../platform/sql.ts';
import { lastDeletedVersion } from '../deletions/index.ts';
import type {
  CheckpointRecord,
  MentionedCheckpointRecord,
  NewCheckpoint,
  NewImportedCheckpoint,
} from './models.records.ts';
import { externalSourceSchema, trainingFactSchema } from './models.rules.ts';
import { type GoldenRecord, goldenSchema, inputContractSchema } from '../../protocol/checkpoint.ts';
import { checkpointProbeSchema } from '../../protocol/checkpoint-probe.ts';

export interface CheckpointFilter {
  readonly encoder?: EncoderArchitecture | null | undefined;
  readonly modelId?: string | null | undefined;
  readonly sourceRunId?: string | null | undefined;
  /** Matches any version of the dataset. */
  readonly trainedOnDatasetId?: string | null | undefined;
  readonly trainedOnDatasetVersionId?: string | null | undefined;
  /** True selects only checkpoints of the published catalogue, false only the others. */
  readonly published?: boolean | null | undefined;
  /** Digest of its weights or of a file exported from them. */
  readonly sha256?: string | null | undefined;
}

/** The request of an import that has an idempotency key. */
export interface ImportRequest {
  readonly idempotencyKey: string;
  readonly inputDigest: string;
}

/** Leaves out the golden images and embeddings: they are large and rarely needed. */
const WITHOUT_GOLDEN = { golden: true } as const;

/** A row as Prisma returns it. */
interface CheckpointRow extends Omit<
  CheckpointRecord,
  'architecture' | 'inputContract' | 'importedFrom' | 'trainingFacts' | 'probe' | 'byteSize'
> {
  readonly architecture: unknown;
  readonly inputContract: unknown;
  readonly importedFrom: unknown;
  readonly trainingFacts: unknown;
  readonly probe: unknown;
  readonly byteSize: bigint | number | null;
}
/** A row as PostgreSQL writes it in JSON: the instant is text. */
interface CheckpointJson extends Omit<CheckpointRow, 'createdAt'> {
  readonly createdAt: string;
}

/**
 * Whole records, except their golden images.
 *
 * @param rest everything of the SELECT from WHERE on, with the checkpoints as "c".
 */
async function readCheckpoints(tx: Transaction, rest: Prisma.Sql): Promise<CheckpointRecord[]> {
  const rows = await jsonRows<CheckpointJson>(
    tx,
    Prisma.sql`
    SELECT c.id, c."modelId", c.version, c.encoder, c.architecture, c."embeddingDim", c."inputContract", c."sourceRunId", c."importedFrom", c."publishedSlug", c."trainingFacts", c.step, c.epoch, c.probe, c.sha256, c."byteSize", c."tensorDigest", c."createdAt"
    FROM "Checkpoint" c ${rest}`,
  );
  return rows.map((row) => toRecord({ ...row, createdAt: new Date(row.createdAt) }));
}

export type CheckpointStore = ReturnType<typeof createCheckpointStore>;

export function createCheckpointStore(db: Database) {
  return {
    find: async (id: string, tx: Transaction = db): Promise<CheckpointRecord | undefined> => {
      if (!isId(id)) return undefined;
      const [checkpoint] = await readCheckpoints(tx, Prisma.sql`WHERE c.id = ${id}::uuid`);
      return checkpoint;
    },

    findMany: (ids: readonly string[]): Promise<CheckpointRecord[]> =>
      readCheckpoints(db, Prisma.sql`WHERE c.id = ANY(${[...ids]}::uuid[])`),

    mention: (ids: readonly string[]): Promise<MentionedCheckpointRecord[]> =>
      jsonRows<MentionedCheckpointRecord>(
        db,
        Prisma.sql`SELECT id, "modelId", version, encoder FROM "Checkpoint" WHERE id = ANY(${[...ids]}::uuid[])`,
      ),

    findOfRun: async (tx: Transaction, sourceRunId: string, step: number): Promise<CheckpointRecord | undefined> => {
      const row = await tx.checkpoint.findUnique({
        where: { sourceRunId_step: { sourceRunId, step } },
        omit: WITHOUT_GOLDEN,
      });
      return row === null ? undefined : toRecord(row);
    },

    ofRuns: (runIds: readonly string[]): Promise<CheckpointRecord[]> =>
      readCheckpoints(db, Prisma.sql`WHERE c."sourceRunId" = ANY(${[...runIds]}::uuid[]) ORDER BY c.step`),

    list: async (page: PageArguments, filter: CheckpointFilter): Promise<Page<CheckpointRecord>> => {
      const size = pageSizeOf(page);
      const after = decodeIdCursor(page);
      const conditions = [
        ...(filter.encoder == null ? [] : [Prisma.sql`c.encoder = ${filter.encoder}::"EncoderArchitecture"`]),
        ...(filter.modelId == null ? [] : [Prisma.sql`c."modelId" = ${filter.modelId}::uuid`]),
        ...(filter.sourceRunId == null ? [] : [Prisma.sql`c."sourceRunId" = ${filter.sourceRunId}::uuid`]),
        ...(filter.published == null
          ? []
          : [filter.published ? Prisma.sql`c."publishedSlug" IS NOT NULL` : Prisma.sql`c."publishedSlug" IS NULL`]),
        ...(filter.sha256 == null
          ? []
          : [
              Prisma.sql`(c.sha256 = ${filter.sha256} OR c.id IN (SELECT "checkpointId" FROM "CheckpointExport" WHERE sha256 = ${filter.sha256}))`,
            ]),
        ...(filter.trainedOnDatasetId == null
          ? []
          : [
              Prisma.sql`c.id IN (SELECT t."checkpointId" FROM "CheckpointTrainedOn" t JOIN "DatasetVersion" v ON v.id = t."datasetVersionId" WHERE v."datasetId" = ${filter.trainedOnDatasetId}::uuid)`,
            ]),
        ...(filter.trainedOnDatasetVersionId == null
          ? []
          : [
              Prisma.sql`c.id IN (SELECT "checkpointId" FROM "CheckpointTrainedOn" WHERE "datasetVersionId" = ${filter.trainedOnDatasetVersionId}::uuid)`,
            ]),
      ];
      const behind = after === undefined ? [] : [Prisma.sql`c.id < ${after}::uuid`];
      const records = await readCheckpoints(
        db,
        Prisma.sql`WHERE ${allOf([...conditions, ...behind])} ORDER BY c.id DESC LIMIT ${size + 1}`,
      );
      const totalCount = async (): Promise<number> => {
        const [counted] = await db.$queryRaw<
          { count: number }[]
        >`SELECT count(*)::int AS count FROM "Checkpoint" c WHERE ${allOf(conditions)}`;
        return counted?.count ?? 0;
      };
      return pageOf(records, size, (checkpoint) => encodeCursor([checkpoint.id]), after !== undefined, totalCount);
    },

    /** The newest `count` checkpoints of each of the models, newest first. */
    newestOf: (modelIds: readonly string[], count: number): Promise<CheckpointRecord[]> =>
      readCheckpoints(
        db,
        Prisma.sql`
        WHERE c.id IN (
          SELECT newest.id FROM unnest(${[...modelIds]}::uuid[]) AS model(id),
            LATERAL (SELECT id FROM "Checkpoint" WHERE "modelId" = model.id ORDER BY id DESC LIMIT ${count}) AS newest)
        ORDER BY c.id DESC`,
      ),

    /** A model that has none is left out. */
    countOf: async (modelIds: readonly string[]): Promise<ReadonlyMap<string, number>> => {
      const counted = await db.$queryRaw<
        { modelId: string; count: number }[]
      >`SELECT "modelId", count(*)::int AS count FROM "Checkpoint" WHERE "modelId" = ANY(${[...modelIds]}::uuid[]) GROUP BY "modelId"`;
      return new Map(counted.map(({ modelId, count }) => [modelId, count]));
    },

    /** The caller must hold the lock of the model. */
    create: async (tx: Transaction, modelId: string, checkpoint: NewCheckpoint): Promise<CheckpointRecord> => {
      const { modelSlug: _slug, trainedOnVersionIds, initialCheckpointId, golden, probe, ...facts } = checkpoint;
      const inherited =
        initialCheckpointId === null
          ? []
          : await tx.checkpointTrainedOn.findMany({ where: { checkpointId: initialCheckpointId } });
      const seen = new Set([...trainedOnVersionIds, ...inherited.map((row) => row.datasetVersionId)]);
      const row = await tx.checkpoint.create({
        data: {
          ...facts,
          modelId,
          version: await nextVersion(tx, modelId),
          ...(golden === null ? {} : { golden: goldenSchema.parse(golden) }),
          ...(probe === null ? {} : { probe: checkpointProbeSchema.parse(probe) }),
          trainedOn: { createMany: { data: [...seen].map((datasetVersionId) => ({ datasetVersionId })) } },
        },
        omit: WITHOUT_GOLDEN,
      });
      return toRecord(row);
    },

    findBySha256: async (tx: Transaction, modelId: string, sha256: string): Promise<CheckpointRecord | undefined> => {
      const row = await tx.checkpoint.findFirst({
        where: { modelId, sha256 },
        omit: WITHOUT_GOLDEN,
        orderBy: { version: 'asc' },
      });
      return row === null ? undefined : toRecord(row);
    },

    /** The caller must hold the lock of the model. */
    createImported: async (
      tx: Transaction,
      modelId: string,
      checkpoint: NewImportedCheckpoint,
    ): Promise<CheckpointRecord> => {
      const version = await nextVersion(tx, modelId);
      const { architecture, ...facts } = checkpoint;
      return toRecord(
        await tx.checkpoint.create({
          data: {
            ...facts,
            ...networkColumns(architecture),
            importedFrom: externalSourceSchema.parse(checkpoint.importedFrom),
            modelId,
            version,
          },
          omit: WITHOUT_GOLDEN,
        }),
      );
    },

    findImport: async (
      idempotencyKey: string,
      tx: Transaction = db,
    ): Promise<{ inputDigest: string; checkpoint: CheckpointRecord } | undefined> => {
      const row = await tx.checkpointImport.findUnique({
        where: { idempotencyKey },
        include: { checkpoint: { omit: WITHOUT_GOLDEN } },
      });
      return row === null ? undefined : { inputDigest: row.inputDigest, checkpoint: toRecord(row.checkpoint) };
    },

    /** Fails and aborts the transaction if a concurrent request took the key. */
    recordImport: async (
      tx: Transaction,
      request: ImportRequest,
      checkpoint: CheckpointRecord,
    ): Promise<CheckpointRecord> => {
      await tx.checkpointImport.create({ data: { ...request, checkpointId: checkpoint.id } });
      return checkpoint;
    },

    findPublished: async (publishedSlug: string, tx: Transaction = db): Promise<CheckpointRecord | undefined> => {
      const row = await tx.checkpoint.findUnique({ where: { publishedSlug }, omit: WITHOUT_GOLDEN });
      return row === null ? undefined : toRecord(row);
    },

    /** The published checkpoints with this file, or with the same tensors in a file of another format. */
    findPublishedByFile: async (file: {
      readonly sha256: string;
      readonly tensorDigest: string;
    }): Promise<CheckpointRecord[]> => {
      const rows = await db.checkpoint.findMany({
        where: {
          publishedSlug: { not: null },
          OR: [{ importedFrom: { path: ['sha256'], equals: file.sha256 } }, { tensorDigest: file.tensorDigest }],
        },
        orderBy: { publishedSlug: 'asc' },
        omit: WITHOUT_GOLDEN,
      });
      return rows.map(toRecord);
    },

    allPublished: async (): Promise<CheckpointRecord[]> => {
      const rows = await db.checkpoint.findMany({
        where: { publishedSlug: { not: null } },
        orderBy: { publishedSlug: 'asc' },
        omit: WITHOUT_GOLDEN,
      });
      return rows.map(toRecord);
    },

    /**
     * Adds the imported weights to a published checkpoint, and the details of its network that only they tell: apart
     * from its golden embedding, the only change that a checkpoint ever undergoes. Undefined if it already had weights.
     */
    fillPublished: async (
      tx: Transaction,
      id: string,
      { architecture, inputContract, importedFrom, ...weights }: Omit<NewImportedCheckpoint, 'embeddingDim'>,
    ): Promise<CheckpointRecord | undefined> => {
      const { count } = await tx.checkpoint.updateMany({
        where: { id, sha256: null },
        data: {
          ...weights,
          ...networkColumns(architecture),
          inputContract: inputContractSchema.parse(inputContract),
          importedFrom: externalSourceSchema.parse(importedFrom),
        },
      });
      return count === 0
        ? undefined
        : toRecord(await tx.checkpoint.findUniqueOrThrow({ where: { id }, omit: WITHOUT_GOLDEN }));
    },

    /** An existing one is kept. */
    fillGolden: async (tx: Transaction, id: string, golden: GoldenRecord): Promise<void> => {
      await tx.checkpoint.updateMany({
        where: { id, golden: { equals: Prisma.DbNull } },
        data: { golden: goldenSchema.parse(golden) },
      });
    },

    goldenOf: async (checkpointIds: readonly string[]): Promise<Map<string, GoldenRecord>> => {
      const rows = await db.checkpoint.findMany({
        where: { id: { in: [...checkpointIds] } },
        select: { id: true, golden: true },
      });
      return new Map(
        rows.flatMap((row) => (row.golden === null ? [] : [[row.id, goldenSchema.parse(row.golden)] as const])),
      );
    },
  };
}

async function nextVersion(tx: Transaction, modelId: string): Promise<number> {
  const last = await tx.checkpoint.aggregate({ where: { modelId }, _max: { version: true } });
  return Math.max(last._max.version ?? 0, await lastDeletedVersion(tx, modelId)) + 1;
}

/** The columns that name the network, or specify one that has no name. */
export function networkColumns(
  architecture: Architecture,
): Pick<Prisma.CheckpointUncheckedCreateInput, 'encoder' | 'architecture'> {
  const encoder = encoderNameOf(describeEncoder(architecture));
  return { encoder, architecture: encoder === 'OTHER' ? architectureSchema.parse(architecture) : Prisma.DbNull };
}

/** @throws ZodError for a row that this program did not write. */
export function toRecord(row: CheckpointRow): CheckpointRecord {
  return {
    ...row,
    architecture: row.encoder === 'OTHER' ? architectureSchema.parse(row.architecture) : architectureNamed(row.encoder),
    inputContract: inputContractSchema.parse(row.inputContract),
    importedFrom: row.importedFrom === null ? null : externalSourceSchema.parse(row.importedFrom),
    trainingFacts: row.trainingFacts === null ? [] : z.array(trainingFactSchema).parse(row.trainingFacts),
    probe: row.probe === null ? null : checkpointProbeSchema.parse(row.probe),
    byteSize: row.byteSize === null ? null : Number(row.byteSize),
  };
}
