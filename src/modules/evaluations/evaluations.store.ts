/** Evaluations in PostgreSQL. */
import { z } from 'zod';
import type { Database, Transaction } from '../../platform/db.ts';
import { decodeIdCursor, encodeCursor, pageOf, pageSizeOf, type Page, type PageArguments } from '../../platform/page.ts';
import type { Prisma } from '../../generated/prisma/client.ts';
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

const withMetrics = { metrics: { orderBy: { position: 'asc' } } } as const;
type Row = Prisma.EvaluationGetPayload<{ include: typeof withMetrics }>;

export type EvaluationStore = ReturnType<typeof createEvaluationStore>;

export function createEvaluationStore(db: Database) {
  return {
    find: async (id: string): Promise<EvaluationRecord | undefined> => {
      const row = await db.evaluation.findUnique({ where: { id }, include: withMetrics });
      return row === null ? undefined : toRecord(row);
    },

    findByRuns: async (runIds: readonly string[]): Promise<EvaluationRecord[]> =>
      (await db.evaluation.findMany({ where: { runId: { in: [...runIds] } }, include: withMetrics })).map(toRecord),

    list: async (page: PageArguments, filter: EvaluationFilter): Promise<Page<EvaluationRecord>> => {
      const size = pageSizeOf(page);
      const after = decodeIdCursor(page);
      const where = {
        ...(filter.checkpointId == null ? {} : { checkpointId: filter.checkpointId }),
        ...(filter.datasetVersionId == null ? {} : { datasetVersionId: filter.datasetVersionId }),
        ...(filter.protocol == null ? {} : { protocol: filter.protocol }),
      };
      const rows = await db.evaluation.findMany({
        where: after === undefined ? where : { AND: [where, { id: { lt: after } }] },
        orderBy: { id: 'desc' },
        take: size + 1,
        include: withMetrics,
      });
      return pageOf(rows.map(toRecord), size, (row) => encodeCursor([row.id]), after !== undefined, () => db.evaluation.count({ where }));
    },

    /** Every evaluation of a version under a protocol, for ranking. */
    ofVersion: async (datasetVersionId: string, protocol: EvaluationProtocol): Promise<EvaluationRecord[]> =>
      (await db.evaluation.findMany({ where: { datasetVersionId, protocol }, include: withMetrics })).map(toRecord),

    /** Of these checkpoints, those whose pretraining saw any version of the dataset that the version belongs to. */
    trainedOnSameDataset: async (checkpointIds: readonly string[], datasetVersionId: string): Promise<Set<string>> => {
      const rows = await db.checkpointTrainedOn.findMany({
        where: { checkpointId: { in: [...checkpointIds] }, datasetVersion: { dataset: { versions: { some: { id: datasetVersionId } } } } },
        select: { checkpointId: true },
      });
      return new Set(rows.map((row) => row.checkpointId));
    },

    /** Those that were not trained here: what they have seen is not known. */
    importedOf: async (checkpointIds: readonly string[]): Promise<Set<string>> => {
      const rows = await db.checkpoint.findMany({ where: { id: { in: [...checkpointIds] }, sourceRunId: null }, select: { id: true } });
      return new Set(rows.map((row) => row.id));
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

function toRecord(row: Row): EvaluationRecord {
  return {
    id: row.id,
    checkpointId: row.checkpointId,
    datasetVersionId: row.datasetVersionId,
    protocol: row.protocol,
    runId: row.runId,
    seed: row.seed,
    options: row.options,
    split: row.split,
    metrics: row.metrics.map(({ name, value, ci95Low, ci95High }) => ({ name, value, ci95Low, ci95High })),
    confusionMatrix: row.confusionMatrix === null ? null : confusionMatrixSchema.parse(row.confusionMatrix),
    perClass: row.perClass === null ? [] : perClassSchema.parse(row.perClass),
    baselines: baselinesSchema.parse(row.baselines),
    learningCurve: row.learningCurve === null ? [] : learningCurveSchema.parse(row.learningCurve),
    leakage: row.leakage === null ? null : leakageSchema.parse(row.leakage),
    predictionsSha256: row.predictionsSha256,
    createdAt: row.createdAt,
  };
}
