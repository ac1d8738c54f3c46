/** Evaluations in PostgreSQL. */
import { z } from 'zod';
import type { Database, Transaction } from '../../platform/db.ts';
import { decodeIdCursor, encodeCursor, pageOf, pageSizeOf, type Page, type PageArguments } from '../../platform/page.ts';
import { allOf, jsonRows } from '../../platform/sql.ts';
import { Prisma } from '../../generated/prisma/client.ts';
import type { EvaluationProtocol } from '../../generated/prisma/enums.ts';
import { BASELINE_KINDS, type EvaluationRecord, type LearningCurvePointRecord, type NewEvaluation } from './evaluations.records.ts';

export interface EvaluationFilter {
  readonly checkpointId?: string | null | undefined;
  readonly datasetVersionId?: string | null | undefined;
  readonly protocol?: EvaluationProtocol | null | undefined;
}

const metricSchema = z.object({ name: z.string(), value: z.number(), ci95Low: z.number().nullable(), ci95High: z.number().nullable() });
const learningCurveSchema = z.array(
  z.object({
    labelFraction: z.number().nullable(),
    shotsPerClass: z.number().nullable(),
    drawCount: z.number(),
    trainImageCount: z.number(),
    metrics: z.array(metricSchema.extend({ drawDeviation: z.number() })),
  }),
);
// Evaluations of before have kind and metrics alone.
const baselinesSchema = z.array(
  z.object({ kind: z.enum(BASELINE_KINDS), metrics: z.array(metricSchema), differences: z.array(metricSchema).default([]), learningCurve: learningCurveSchema.default([]) }),
);
const leakageSchema = z.object({
  isComplete: z.boolean(),
  isUpperBound: z.boolean(),
  testImageCount: z.number(),
  exactImageCount: z.number().nullable(),
  nearDuplicateImageCount: z.number().nullable(),
  testGroupCount: z.number(),
  sharedGroupCount: z.number(),
  sharedDatasets: z.array(z.string()),
  sharedCollections: z.array(z.string()),
  unhashedVersionCount: z.number(),
});
const confusionMatrixSchema = z.object({ labelNames: z.array(z.string()), counts: z.array(z.array(z.number())) });
const perClassSchema = z.array(z.object({ label: z.string(), precision: z.number(), recall: z.number(), f1Score: z.number(), support: z.number() }));

/** As it stands in JSON. */
interface RowJson extends Omit<EvaluationRecord, 'createdAt' | CheckedField>, Readonly<Record<CheckedField, unknown>> {
  readonly createdAt: string;
}
type CheckedField = 'confusionMatrix' | 'perClass' | 'baselines' | 'learningCurve' | 'leakage';

/** Whole records in one statement, newest first. */
async function readEvaluations(db: Database, where: Prisma.Sql, limit = Prisma.empty): Promise<EvaluationRecord[]> {
  const rows = await jsonRows<RowJson>(db, Prisma.sql`
    SELECT e.id, e."checkpointId", e."datasetVersionId", e.protocol, e."runId", e.seed, e.options, e.split, e."confusionMatrix", e."perClass", e.baselines, e."learningCurve", e.leakage, e."predictionsSha256", e."createdAt",
      coalesce((SELECT json_agg(json_build_object('name', m.name, 'value', m.value, 'ci95Low', m."ci95Low", 'ci95High', m."ci95High") ORDER BY m.position)
        FROM "EvaluationMetric" m WHERE m."evaluationId" = e.id), '[]') AS metrics
    FROM "Evaluation" e WHERE ${where} ORDER BY e.id DESC ${limit}`);
  return rows.map(toRecord);
}

/** What a checkpoint may have seen of a dataset. */
export interface Acquaintance {
  /** Its pretraining saw a version of the dataset. */
  readonly overlaps: boolean;
  /** It was not trained here: what it has seen is not known. */
  readonly isImported: boolean;
}

export type EvaluationStore = ReturnType<typeof createEvaluationStore>;

export function createEvaluationStore(db: Database) {
  return {
    find: async (id: string): Promise<EvaluationRecord | undefined> => (await readEvaluations(db, Prisma.sql`e.id = ${id}::uuid`))[0],

    findByRuns: (runIds: readonly string[]): Promise<EvaluationRecord[]> => readEvaluations(db, Prisma.sql`e."runId" = ANY(${[...runIds]}::uuid[])`),

    list: async (page: PageArguments, filter: EvaluationFilter): Promise<Page<EvaluationRecord>> => {
      const size = pageSizeOf(page);
      const after = decodeIdCursor(page);
      const conditions = [
        ...(filter.checkpointId == null ? [] : [Prisma.sql`e."checkpointId" = ${filter.checkpointId}::uuid`]),
        ...(filter.datasetVersionId == null ? [] : [Prisma.sql`e."datasetVersionId" = ${filter.datasetVersionId}::uuid`]),
        ...(filter.protocol == null ? [] : [Prisma.sql`e.protocol = ${filter.protocol}::"EvaluationProtocol"`]),
      ];
      const behind = after === undefined ? [] : [Prisma.sql`e.id < ${after}::uuid`];
      const records = await readEvaluations(db, allOf([...conditions, ...behind]), Prisma.sql`LIMIT ${size + 1}`);
      const totalCount = async (): Promise<number> => {
        const [counted] = await db.$queryRaw<{ count: number }[]>`SELECT count(*)::int AS count FROM "Evaluation" e WHERE ${allOf(conditions)}`;
        return counted?.count ?? 0;
      };
      return pageOf(records, size, (record) => encodeCursor([record.id]), after !== undefined, totalCount);
    },

    /** Every evaluation of a version under a protocol, for ranking; newest first. */
    ofVersion: (datasetVersionId: string, protocol: EvaluationProtocol): Promise<EvaluationRecord[]> =>
      readEvaluations(db, Prisma.sql`e."datasetVersionId" = ${datasetVersionId}::uuid AND e.protocol = ${protocol}::"EvaluationProtocol"`),

    /** By checkpoint, of the dataset that the version belongs to, any version of it. */
    acquaintances: async (checkpointIds: readonly string[], datasetVersionId: string): Promise<ReadonlyMap<string, Acquaintance>> => {
      const rows = await db.$queryRaw<(Acquaintance & { readonly id: string })[]>`
        SELECT c.id, c."sourceRunId" IS NULL AS "isImported", EXISTS (
            SELECT 1 FROM "CheckpointTrainedOn" t JOIN "DatasetVersion" v ON v.id = t."datasetVersionId"
            WHERE t."checkpointId" = c.id AND v."datasetId" = (SELECT "datasetId" FROM "DatasetVersion" WHERE id = ${datasetVersionId}::uuid)) AS overlaps
        FROM "Checkpoint" c WHERE c.id = ANY(${[...checkpointIds]}::uuid[])`;
      return new Map(rows.map((row) => [row.id, row]));
    },

    create: async (tx: Transaction, evaluation: NewEvaluation): Promise<void> => {
      const { metrics, confusionMatrix, leakage, learningCurve, ...rest } = evaluation;
      await tx.evaluation.create({
        data: {
          ...rest,
          ...(confusionMatrix === null ? {} : { confusionMatrix: { labelNames: [...confusionMatrix.labelNames], counts: confusionMatrix.counts.map((row) => [...row]) } }),
          ...(leakage === null ? {} : { leakage: leakageSchema.parse(leakage) }),
          learningCurve: curveJson(learningCurve),
          perClass: rest.perClass.map((report) => ({ ...report })),
          baselines: rest.baselines.map((baseline) => ({
            kind: baseline.kind,
            metrics: baseline.metrics.map((metric) => ({ ...metric })),
            differences: baseline.differences.map((metric) => ({ ...metric })),
            learningCurve: curveJson(baseline.learningCurve),
          })),
          metrics: { create: metrics.map((metric, position) => ({ ...metric, position })) },
        },
      });
    },
  };
}

function curveJson(curve: readonly LearningCurvePointRecord[]) {
  return curve.map((point) => ({ ...point, metrics: point.metrics.map((metric) => ({ ...metric })) }));
}

function toRecord(row: RowJson): EvaluationRecord {
  return {
    ...row,
    confusionMatrix: row.confusionMatrix === null ? null : confusionMatrixSchema.parse(row.confusionMatrix),
    perClass: row.perClass === null ? [] : perClassSchema.parse(row.perClass),
    baselines: baselinesSchema.parse(row.baselines),
    learningCurve: row.learningCurve === null ? [] : learningCurveSchema.parse(row.learningCurve),
    leakage: row.leakage === null ? null : leakageSchema.parse(row.leakage),
    createdAt: new Date(row.createdAt),
  };
}
