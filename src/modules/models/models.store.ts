/** Models, aliases and checkpoints in PostgreSQL. */
import { z } from 'zod';
import { DomainError } from '../../errors.ts';
import { isId } from '../../input.ts';
import { Prisma } from '../../generated/prisma/client.ts';
import type { EncoderArchitecture } from '../../generated/prisma/enums.ts';
import type { Database, Transaction } from '../../platform/db.ts';
import { decodeCursor, encodeCursor, pageOf, pageSizeOf, type Page, type PageArguments } from '../../platform/page.ts';
import { allOf, jsonRows } from '../../platform/sql.ts';
import { lastDeletedVersion } from '../deletions/index.ts';
import type {
  CheckpointRecord,
  GoldenRecord,
  MentionedCheckpointRecord,
  ModelAliasRecord,
  ModelRecord,
  NewCheckpoint,
  NewImportedCheckpoint,
  PretrainingRecord,
} from './models.records.ts';
import { externalSourceSchema, inputContractSchema, trainingFactSchema } from './models.rules.ts';
import { checkpointProbeSchema } from './probe.rules.ts';

export interface ModelFilter {
  /** Part of a slug or name, in any case. */
  readonly search?: string | null | undefined;
}

export interface CheckpointFilter {
  readonly encoder?: EncoderArchitecture | null | undefined;
  readonly modelId?: string | null | undefined;
  readonly sourceRunId?: string | null | undefined;
  /** Any version of it. */
  readonly trainedOnDatasetId?: string | null | undefined;
  readonly trainedOnDatasetVersionId?: string | null | undefined;
  /** Of the catalogue of published checkpoints, or not of it. */
  readonly published?: boolean | null | undefined;
  /** Of its weights, or of a file that was made of them. */
  readonly sha256?: string | null | undefined;
}

/** An import under an idempotency key. */
export interface ImportRequest {
  readonly idempotencyKey: string;
  readonly inputDigest: string;
}

const goldenSchema = z.object({ images: z.string(), embeddings: z.array(z.array(z.number())) });

/** What a pretraining's frozen config says of the images that it used. */
const trainingConfigSchema = z.object({
  datasets: z.array(
    z.object({ datasetVersionId: z.string(), imageCount: z.number(), maxImages: z.number().nullable() }),
  ),
  initialCheckpointId: z.string().nullable(),
});

/** Golden images are large and seldom asked for. */
const LEAN = { golden: true } as const;

/** What a record is made of. */
interface CheckpointRow extends Omit<
  CheckpointRecord,
  'inputContract' | 'importedFrom' | 'trainingFacts' | 'probe' | 'byteSize'
> {
  readonly inputContract: unknown;
  readonly importedFrom: unknown;
  readonly trainingFacts: unknown;
  readonly probe: unknown;
  readonly byteSize: bigint | number | null;
}
/** As JSON. */
interface CheckpointJson extends Omit<CheckpointRow, 'createdAt'> {
  readonly createdAt: string;
}

/** Whole records but for their golden images. @param rest of the SELECT, from WHERE on, with the checkpoints as "c". */
async function readCheckpoints(tx: Transaction, rest: Prisma.Sql): Promise<CheckpointRecord[]> {
  const rows = await jsonRows<CheckpointJson>(
    tx,
    Prisma.sql`
    SELECT c.id, c."modelId", c.version, c.encoder, c."embeddingDim", c."inputContract", c."sourceRunId", c."importedFrom", c."publishedSlug", c."trainingFacts", c.step, c.epoch, c.probe, c.sha256, c."byteSize", c."tensorDigest", c."createdAt"
    FROM "Checkpoint" c ${rest}`,
  );
  return rows.map((row) => toRecord({ ...row, createdAt: new Date(row.createdAt) }));
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
      const after = idAfter(page);
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
      const [made] = await tx.model.createManyAndReturn({ data: [model], skipDuplicates: true });
      return made;
    },

    /** Locks the row until the transaction ends, so that versions are given out one after another. */
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

    findCheckpoint: async (id: string, tx: Transaction = db): Promise<CheckpointRecord | undefined> => {
      if (!isId(id)) return undefined;
      const [checkpoint] = await readCheckpoints(tx, Prisma.sql`WHERE c.id = ${id}::uuid`);
      return checkpoint;
    },

    findCheckpoints: (ids: readonly string[]): Promise<CheckpointRecord[]> =>
      readCheckpoints(db, Prisma.sql`WHERE c.id = ANY(${[...ids]}::uuid[])`),

    mentionCheckpoints: (ids: readonly string[]): Promise<MentionedCheckpointRecord[]> =>
      jsonRows<MentionedCheckpointRecord>(
        db,
        Prisma.sql`SELECT id, "modelId", version, encoder FROM "Checkpoint" WHERE id = ANY(${[...ids]}::uuid[])`,
      ),

    findCheckpointOfRun: async (
      tx: Transaction,
      sourceRunId: string,
      step: number,
    ): Promise<CheckpointRecord | undefined> => {
      const row = await tx.checkpoint.findUnique({ where: { sourceRunId_step: { sourceRunId, step } }, omit: LEAN });
      return row === null ? undefined : toRecord(row);
    },

    checkpointsOfRuns: (runIds: readonly string[]): Promise<CheckpointRecord[]> =>
      readCheckpoints(db, Prisma.sql`WHERE c."sourceRunId" = ANY(${[...runIds]}::uuid[]) ORDER BY c.step`),

    listCheckpoints: async (page: PageArguments, filter: CheckpointFilter): Promise<Page<CheckpointRecord>> => {
      const size = pageSizeOf(page);
      const after = idAfter(page);
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
    newestCheckpointsOf: (modelIds: readonly string[], count: number): Promise<CheckpointRecord[]> =>
      readCheckpoints(
        db,
        Prisma.sql`
        WHERE c.id IN (
          SELECT newest.id FROM unnest(${[...modelIds]}::uuid[]) AS model(id),
            LATERAL (SELECT id FROM "Checkpoint" WHERE "modelId" = model.id ORDER BY id DESC LIMIT ${count}) AS newest)
        ORDER BY c.id DESC`,
      ),

    /** A model that has none is left out. */
    countCheckpointsOf: async (modelIds: readonly string[]): Promise<ReadonlyMap<string, number>> => {
      const counted = await db.$queryRaw<
        { modelId: string; count: number }[]
      >`SELECT "modelId", count(*)::int AS count FROM "Checkpoint" WHERE "modelId" = ANY(${[...modelIds]}::uuid[]) GROUP BY "modelId"`;
      return new Map(counted.map(({ modelId, count }) => [modelId, count]));
    },

    /** The caller holds the lock of the model. */
    createCheckpoint: async (
      tx: Transaction,
      modelId: string,
      checkpoint: NewCheckpoint,
    ): Promise<CheckpointRecord> => {
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
        omit: LEAN,
      });
      return toRecord(row);
    },

    findCheckpointBySha256: async (
      tx: Transaction,
      modelId: string,
      sha256: string,
    ): Promise<CheckpointRecord | undefined> => {
      const row = await tx.checkpoint.findFirst({
        where: { modelId, sha256 },
        omit: LEAN,
        orderBy: { version: 'asc' },
      });
      return row === null ? undefined : toRecord(row);
    },

    /** The caller holds the lock of the model. */
    createImportedCheckpoint: async (
      tx: Transaction,
      modelId: string,
      checkpoint: NewImportedCheckpoint,
    ): Promise<CheckpointRecord> => {
      const version = await nextVersion(tx, modelId);
      return toRecord(
        await tx.checkpoint.create({
          data: { ...checkpoint, importedFrom: externalSourceSchema.parse(checkpoint.importedFrom), modelId, version },
          omit: LEAN,
        }),
      );
    },

    findImport: async (
      idempotencyKey: string,
      tx: Transaction = db,
    ): Promise<{ inputDigest: string; checkpoint: CheckpointRecord } | undefined> => {
      const row = await tx.checkpointImport.findUnique({
        where: { idempotencyKey },
        include: { checkpoint: { omit: LEAN } },
      });
      return row === null ? undefined : { inputDigest: row.inputDigest, checkpoint: toRecord(row.checkpoint) };
    },

    /** Fails, and the transaction with it, when the key was taken at the same moment. */
    recordImport: async (
      tx: Transaction,
      request: ImportRequest,
      checkpoint: CheckpointRecord,
    ): Promise<CheckpointRecord> => {
      await tx.checkpointImport.create({ data: { ...request, checkpointId: checkpoint.id } });
      return checkpoint;
    },

    findPublished: async (publishedSlug: string, tx: Transaction = db): Promise<CheckpointRecord | undefined> => {
      const row = await tx.checkpoint.findUnique({ where: { publishedSlug }, omit: LEAN });
      return row === null ? undefined : toRecord(row);
    },

    /**
     * A published checkpoint whose weights have come in: beside its golden embedding the one change that a checkpoint
     * ever sees. Undefined when they were there already.
     */
    fillPublished: async (
      tx: Transaction,
      id: string,
      weights: Pick<NewImportedCheckpoint, 'sha256' | 'byteSize' | 'tensorDigest' | 'importedFrom'>,
    ): Promise<CheckpointRecord | undefined> => {
      const { count } = await tx.checkpoint.updateMany({
        where: { id, sha256: null },
        data: { ...weights, importedFrom: externalSourceSchema.parse(weights.importedFrom) },
      });
      return count === 0 ? undefined : toRecord(await tx.checkpoint.findUniqueOrThrow({ where: { id }, omit: LEAN }));
    },

    /** One that is there stays. */
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

    /** The others whose tensors are the same. */
    sameWeights: async (
      digests: readonly string[],
      tx: Transaction = db,
    ): Promise<(MentionedCheckpointRecord & { readonly tensorDigest: string })[]> =>
      jsonRows(
        tx,
        Prisma.sql`SELECT id, "modelId", version, encoder, "tensorDigest" FROM "Checkpoint" WHERE "tensorDigest" = ANY(${[...digests]}) ORDER BY id`,
      ),

    /** Checkpoints whose weights are here and have no digest yet, the oldest first. */
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
     * What any of the checkpoints with these tensors has seen, all of them have seen, and so have those that were
     * trained from one of them, and theirs.
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

    /** Follows the trainings back to the first, from each checkpoint also those of the same weights. */
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
     * Of which of the checkpoints everything that they have seen is known: each, and each that it began from, was
     * trained here, or is the same weights as one that was.
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

async function nextVersion(tx: Transaction, modelId: string): Promise<number> {
  const last = await tx.checkpoint.aggregate({ where: { modelId }, _max: { version: true } });
  return Math.max(last._max.version ?? 0, await lastDeletedVersion(tx, modelId)) + 1;
}

function idAfter(page: PageArguments): string | undefined {
  const after = decodeCursor(page, 1);
  if (after === undefined) return undefined;
  const [id] = after;
  if (typeof id === 'string' && isId(id)) return id;
  throw new DomainError({
    code: 'CURSOR_INVALID',
    message: 'after is not a cursor of this list.',
    field: 'after',
    hint: 'Pass pageInfo.endCursor of the previous page.',
  });
}

/** % and _ are letters in what a person searches for. */
function escapeLike(text: string): string {
  return text.replaceAll(/[\\%_]/g, (letter) => `\\${letter}`);
}

function toRecord(row: CheckpointRow): CheckpointRecord {
  return {
    ...row,
    inputContract: inputContractSchema.parse(row.inputContract),
    importedFrom: row.importedFrom === null ? null : externalSourceSchema.parse(row.importedFrom),
    trainingFacts: row.trainingFacts === null ? [] : z.array(trainingFactSchema).parse(row.trainingFacts),
    probe: row.probe === null ? null : checkpointProbeSchema.parse(row.probe),
    byteSize: row.byteSize === null ? null : Number(row.byteSize),
  };
}
