/** Evaluations in PostgreSQL. */
import { z } from 'zod';
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
import { Prisma } from '../../generated/prisma/client.ts';
import type { EvaluationProtocol } from '../../generated/prisma/enums.ts';
import {
  type CandidateRecord,
  type EvaluationRecord,
  type EvaluationReportRecord,
  type MentionedEvaluationRecord,
  type NewEvaluation,
  type ReportedEvaluationRecord,
} from './evaluations.records.ts';
import {
  BASELINE_KINDS,
  type EvaluationMetricRecord,
  type LeakageRecord,
  type LearningCurvePointRecord,
} from '../../protocol/evaluation.ts';

export interface EvaluationFilter {
  readonly checkpointId?: string | null | undefined;
  readonly datasetVersionId?: string | null | undefined;
  /** Matches any version of the dataset. */
  readonly datasetId?: string | null | undefined;
  readonly protocol?: EvaluationProtocol | null | undefined;
}

const metricSchema = z.object({
  name: z.string(),
  value: z.number(),
  ci95Low: z.number().nullable(),
  ci95High: z.number().nullable(),
});
const learningCurveSchema = z.array(
  z.object({
    labelFraction: z.number().nullable(),
    shotsPerClass: z.number().nullable(),
    drawCount: z.number(),
    trainImageCount: z.number(),
    metrics: z.array(metricSchema.extend({ drawDeviation: z.number() })),
  }),
);
// Older evaluations have only kind and metrics.
const baselinesSchema = z.array(
  z.object({
    kind: z.enum(BASELINE_KINDS),
    metrics: z.array(metricSchema),
    differences: z.array(metricSchema).default([]),
    learningCurve: learningCurveSchema.default([]),
  }),
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
const perClassSchema = z.array(
  z.object({ label: z.string(), precision: z.number(), recall: z.number(), f1Score: z.number(), support: z.number() }),
);

/** As JSON. */
interface LineJson extends Omit<EvaluationRecord, 'createdAt'> {
  readonly createdAt: string;
}
type ReportJson = Readonly<Record<keyof EvaluationReportRecord, unknown>>;

const LINE = Prisma.sql`e.id, e."checkpointId", e."datasetVersionId", e.protocol, e."runId", e.seed, e."predictionsSha256", e."ungroupedImageCount", e."createdAt"`;
const REPORT = Prisma.sql`e.options, e.split, e."confusionMatrix", e."perClass", e.baselines, e."learningCurve", e.leakage`;

/** In one statement, newest first. */
async function readLines(db: Database, where: Prisma.Sql, limit = Prisma.empty): Promise<EvaluationRecord[]> {
  const rows = await jsonRows<LineJson>(
    db,
    Prisma.sql`SELECT ${LINE} FROM "Evaluation" e WHERE ${where} ORDER BY e.id DESC ${limit}`,
  );
  return rows.map(toLine);
}

/** With their reports, newest first. */
async function readReported(
  db: Database,
  where: Prisma.Sql,
  limit = Prisma.empty,
): Promise<ReportedEvaluationRecord[]> {
  const rows = await jsonRows<LineJson & ReportJson>(
    db,
    Prisma.sql`SELECT ${LINE}, ${REPORT} FROM "Evaluation" e WHERE ${where} ORDER BY e.id DESC ${limit}`,
  );
  const metrics = await readMetrics(
    db,
    rows.map(({ id }) => id),
  );
  return rows.map((row) => ({ ...toLine(row), ...toReport(row), metrics: metrics.get(row.id) ?? [] }));
}

/** By evaluation. */
async function readMetrics(
  db: Database,
  ids: readonly string[],
): Promise<ReadonlyMap<string, readonly EvaluationMetricRecord[]>> {
  const rows = await jsonRows<EvaluationMetricRecord & { readonly evaluationId: string }>(
    db,
    Prisma.sql`
    SELECT "evaluationId", name, value, "ci95Low", "ci95High" FROM "EvaluationMetric" WHERE "evaluationId" = ANY(${[...ids]}::uuid[]) ORDER BY "evaluationId", position`,
  );
  const grouped = Map.groupBy(rows, ({ evaluationId }) => evaluationId);
  return new Map(
    [...grouped].map(([id, metrics]) => [
      id,
      metrics.map(({ name, value, ci95Low, ci95High }) => ({ name, value, ci95Low, ci95High })),
    ]),
  );
}

/** Whether a checkpoint's pretraining overlaps with a dataset. */
export interface PretrainingOverlap {
  /** Its pretraining saw a version of the dataset. */
  readonly overlaps: boolean;
  /**
   * Neither this checkpoint nor one with the same weights was trained in this registry: its training data is unknown.
   */
  readonly isImported: boolean;
}

export type EvaluationStore = ReturnType<typeof createEvaluationStore>;

export function createEvaluationStore(db: Database) {
  return {
    find: async (id: string): Promise<EvaluationRecord | undefined> =>
      (await readLines(db, Prisma.sql`e.id = ${id}::uuid`))[0],

    findReported: async (id: string): Promise<ReportedEvaluationRecord | undefined> =>
      (await readReported(db, Prisma.sql`e.id = ${id}::uuid`))[0],

    findByRuns: (runIds: readonly string[]): Promise<EvaluationRecord[]> =>
      readLines(db, Prisma.sql`e."runId" = ANY(${[...runIds]}::uuid[])`),

    metrics: (ids: readonly string[]): Promise<ReadonlyMap<string, readonly EvaluationMetricRecord[]>> =>
      readMetrics(db, ids),

    findMany: (ids: readonly string[]): Promise<EvaluationRecord[]> =>
      readLines(db, Prisma.sql`e.id = ANY(${[...ids]}::uuid[])`),

    /** By evaluation. */
    reports: async (ids: readonly string[]): Promise<ReadonlyMap<string, EvaluationReportRecord>> => {
      const rows = await jsonRows<ReportJson & { readonly id: string }>(
        db,
        Prisma.sql`SELECT e.id, ${REPORT} FROM "Evaluation" e WHERE e.id = ANY(${[...ids]}::uuid[])`,
      );
      return new Map(rows.map((row) => [row.id, toReport(row)]));
    },

    /** With their reports, newest first. */
    ofCheckpoint: (checkpointId: string, limit: number): Promise<ReportedEvaluationRecord[]> =>
      readReported(db, Prisma.sql`e."checkpointId" = ${checkpointId}::uuid`, Prisma.sql`LIMIT ${limit}`),

    list: async (page: PageArguments, filter: EvaluationFilter): Promise<Page<EvaluationRecord>> => {
      const size = pageSizeOf(page);
      const after = decodeIdCursor(page);
      const conditions = [
        ...(filter.checkpointId == null ? [] : [Prisma.sql`e."checkpointId" = ${filter.checkpointId}::uuid`]),
        ...(filter.datasetVersionId == null
          ? []
          : [Prisma.sql`e."datasetVersionId" = ${filter.datasetVersionId}::uuid`]),
        ...(filter.datasetId == null
          ? []
          : [
              Prisma.sql`e."datasetVersionId" IN (SELECT id FROM "DatasetVersion" WHERE "datasetId" = ${filter.datasetId}::uuid)`,
            ]),
        ...(filter.protocol == null ? [] : [Prisma.sql`e.protocol = ${filter.protocol}::"EvaluationProtocol"`]),
      ];
      const behind = after === undefined ? [] : [Prisma.sql`e.id < ${after}::uuid`];
      const records = await readLines(db, allOf([...conditions, ...behind]), Prisma.sql`LIMIT ${size + 1}`);
      const totalCount = async (): Promise<number> => {
        const [counted] = await db.$queryRaw<
          { count: number }[]
        >`SELECT count(*)::int AS count FROM "Evaluation" e WHERE ${allOf(conditions)}`;
        return counted?.count ?? 0;
      };
      return pageOf(records, size, (record) => encodeCursor([record.id]), after !== undefined, totalCount);
    },

    /** The newest evaluation of each checkpoint on a version under a protocol, if it has the metric. */
    candidates: async (
      datasetVersionId: string,
      protocol: EvaluationProtocol,
      metricName: string,
    ): Promise<CandidateRecord[]> => {
      const rows = await jsonRows<
        MentionedEvaluationRecord & Omit<EvaluationMetricRecord, 'name'> & { readonly leakage: unknown }
      >(
        db,
        Prisma.sql`
        SELECT e.id, e."checkpointId", e.leakage, m.value, m."ci95Low", m."ci95High"
        FROM (
          SELECT DISTINCT ON ("checkpointId") id, "checkpointId", leakage FROM "Evaluation"
          WHERE "datasetVersionId" = ${datasetVersionId}::uuid AND protocol = ${protocol}::"EvaluationProtocol" ORDER BY "checkpointId", id DESC) e
        JOIN "EvaluationMetric" m ON m."evaluationId" = e.id AND m.name = ${metricName}`,
      );
      return rows.map(({ id, checkpointId, leakage, value, ci95Low, ci95High }) => ({
        evaluation: { id, checkpointId },
        metric: { name: metricName, value, ci95Low, ci95High },
        leakage: toLeakage(leakage),
      }));
    },

    /** For each checkpoint, its overlap with any version of the dataset that the version belongs to. */
    pretrainingOverlaps: async (
      checkpointIds: readonly string[],
      datasetVersionId: string,
    ): Promise<ReadonlyMap<string, PretrainingOverlap>> => {
      const rows = await db.$queryRaw<(PretrainingOverlap & { readonly id: string })[]>`
        SELECT c.id, NOT EXISTS (
            SELECT 1 FROM "Checkpoint" same
            WHERE (same.id = c.id OR same."tensorDigest" = c."tensorDigest") AND same."sourceRunId" IS NOT NULL) AS "isImported",
          EXISTS (
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
          ...(confusionMatrix === null
            ? {}
            : {
                confusionMatrix: {
                  labelNames: [...confusionMatrix.labelNames],
                  counts: confusionMatrix.counts.map((row) => [...row]),
                },
              }),
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

function toLine({
  id,
  checkpointId,
  datasetVersionId,
  protocol,
  runId,
  seed,
  predictionsSha256,
  ungroupedImageCount,
  createdAt,
}: LineJson): EvaluationRecord {
  return {
    id,
    checkpointId,
    datasetVersionId,
    protocol,
    runId,
    seed,
    predictionsSha256,
    ungroupedImageCount,
    createdAt: new Date(createdAt),
  };
}

function toReport(row: ReportJson): EvaluationReportRecord {
  return {
    options: row.options,
    split: row.split,
    confusionMatrix: row.confusionMatrix === null ? null : confusionMatrixSchema.parse(row.confusionMatrix),
    perClass: row.perClass === null ? [] : perClassSchema.parse(row.perClass),
    baselines: baselinesSchema.parse(row.baselines),
    learningCurve: row.learningCurve === null ? [] : learningCurveSchema.parse(row.learningCurve),
    leakage: toLeakage(row.leakage),
  };
}

function toLeakage(stored: unknown): LeakageRecord | null {
  return stored === null ? null : leakageSchema.parse(stored);
}
