/** Evaluations in the API. */
import path from 'node:path';
import { connectionType, pageArguments } from '../../api/connection-type.ts';
import { arg, enumType, extendType, idArg, inputObjectType, list, nonNull, objectType } from '../../api/nexus.ts';
import { settle } from '../../api/payload.ts';
import { caveatsOf } from '../datasets/index.ts';
import { BASELINE_KINDS } from './evaluations.records.ts';
import { unbeatenBaselines } from './verdict.rules.ts';

const records = path.join(import.meta.dirname, 'evaluations.records.ts');

export const EvaluationProtocol = enumType({
  name: 'EvaluationProtocol',
  description:
    'LINEAR_PROBE: logistic regression on frozen embeddings. KNN: nearest neighbours by cosine. FINE_TUNE: the whole network is trained on. REGRESSION: ridge regression, for labels that are numbers.',
  members: ['LINEAR_PROBE', 'KNN', 'FINE_TUNE', 'REGRESSION'],
});
export const BaselineKind = enumType({
  name: 'BaselineKind',
  description:
    'RANDOM_ENCODER: the same architecture, freshly initialised. COLOUR_STATISTICS: means and spreads of colour alone. MAJORITY_CLASS: the most frequent label of the training part. MEAN_LABEL: its mean, for REGRESSION.',
  members: BASELINE_KINDS,
});

export const EvaluationMetric = objectType({
  name: 'EvaluationMetric',
  sourceType: { module: records, export: 'EvaluationMetricRecord' },
  definition(t) {
    t.nonNull.string('name', {
      description:
        'macroF1, balancedAccuracy, accuracy, macroAuroc; of REGRESSION meanAbsoluteError, spearmanCorrelation, rSquared.',
    });
    t.nonNull.float('value');
    t.float('ci95Low', { description: 'Of the bootstrap over groups.' });
    t.float('ci95High');
  },
});

export const ConfusionMatrix = objectType({
  name: 'ConfusionMatrix',
  sourceType: { module: records, export: 'ConfusionMatrixRecord' },
  description: 'Rows are the true labels, columns the predicted ones, both in the order of labelNames.',
  definition(t) {
    t.nonNull.list.nonNull.string('labelNames', { resolve: (matrix) => [...matrix.labelNames] });
    t.nonNull.list.nonNull.list.nonNull.int('counts', { resolve: (matrix) => matrix.counts.map((row) => [...row]) });
  },
});

export const ClassReport = objectType({
  name: 'ClassReport',
  sourceType: { module: records, export: 'ClassReportRecord' },
  definition(t) {
    t.nonNull.string('label');
    t.nonNull.float('precision');
    t.nonNull.float('recall');
    t.nonNull.float('f1Score');
    t.nonNull.int('support', { description: 'Images that truly have this label.' });
  },
});

export const EvaluationBaseline = objectType({
  name: 'EvaluationBaseline',
  sourceType: { module: records, export: 'EvaluationBaselineRecord' },
  definition(t) {
    t.nonNull.field('kind', { type: 'BaselineKind' });
    t.nonNull.list.nonNull.field('metrics', { type: 'EvaluationMetric', resolve: (baseline) => [...baseline.metrics] });
    t.nonNull.list.nonNull.field('differences', {
      type: 'EvaluationMetric',
      description: 'Result minus baseline, over the same folds and resamples: the interval is of the difference.',
      resolve: (baseline) => [...baseline.differences],
    });
    t.nonNull.list.nonNull.field('learningCurve', {
      type: 'LearningCurvePoint',
      resolve: (baseline) => [...baseline.learningCurve],
    });
  },
});

export const LearningCurveMetric = objectType({
  name: 'LearningCurveMetric',
  sourceType: { module: records, export: 'LearningCurveMetricRecord' },
  definition(t) {
    t.nonNull.string('name');
    t.nonNull.float('value', { description: 'Mean over the draws.' });
    t.float('ci95Low', { description: 'Of the bootstrap over groups and draws.' });
    t.float('ci95High');
    t.nonNull.float('drawDeviation', { description: 'Standard deviation over the draws.' });
  },
});

export const LearningCurvePoint = objectType({
  name: 'LearningCurvePoint',
  sourceType: { module: records, export: 'LearningCurvePointRecord' },
  description: 'The same protocol and folds, learned from fewer labels.',
  definition(t) {
    t.float('labelFraction', { description: 'Share of the labels, drawn group by group.' });
    t.int('shotsPerClass', { description: 'Images of each label, drawn one by one.' });
    t.nonNull.int('drawCount');
    t.nonNull.float('trainImageCount', { description: 'Mean over draws and parts of the split.' });
    t.nonNull.list.nonNull.field('metrics', { type: 'LearningCurveMetric', resolve: (point) => [...point.metrics] });
  },
});

export const Leakage = objectType({
  name: 'Leakage',
  sourceType: { module: records, export: 'LeakageRecord' },
  description: 'How much of what was tested the checkpoint had seen in its pretraining, inherited trainings included.',
  definition(t) {
    t.nonNull.boolean('isComplete', { description: 'False where an ancestor came from elsewhere: there may be more.' });
    t.nonNull.boolean('isUpperBound', {
      description:
        'True where a training used only a part of a version (maxImages): not all that is counted need have been seen.',
    });
    t.nonNull.int('testImageCount');
    t.int('exactImageCount', {
      description: 'The same pixels. Null where a version that takes part was sealed before images were hashed.',
    });
    t.int('nearDuplicateImageCount', {
      description: 'Other pixels, the same picture: recompressed, resized, mirrored or turned.',
    });
    t.nonNull.int('testGroupCount');
    t.nonNull.int('sharedGroupCount', {
      description: 'Patients or slides, by name within a dataset, by barcode where they are of TCGA.',
    });
    t.nonNull.list.nonNull.string('sharedDatasets', { resolve: (leakage) => [...leakage.sharedDatasets] });
    t.nonNull.list.nonNull.string('sharedCollections', {
      description: 'Parent collections that both are cut from, such as tcga.',
      resolve: (leakage) => [...leakage.sharedCollections],
    });
    t.nonNull.int('unhashedVersionCount');
  },
});

export const Evaluation = objectType({
  name: 'Evaluation',
  sourceType: { module: records, export: 'EvaluationSource' },
  description: 'A checkpoint on a dataset version under a protocol. Immutable.',
  definition(t) {
    t.implements('Node');
    t.nonNull.field('checkpoint', {
      type: 'Checkpoint',
      resolve: (evaluation, _args, ctx) => ctx.loaders.models.mentionedById.load(evaluation.checkpointId),
    });
    t.nonNull.field('datasetVersion', {
      type: 'DatasetVersion',
      resolve: async (evaluation, _args, ctx) =>
        ctx.loaders.datasets.versionById.load((await ctx.loaders.evaluations.whole(evaluation)).datasetVersionId),
    });
    t.nonNull.field('protocol', {
      type: 'EvaluationProtocol',
      resolve: async (evaluation, _args, ctx) => (await ctx.loaders.evaluations.whole(evaluation)).protocol,
    });
    t.nonNull.field('run', {
      type: 'Run',
      resolve: async (evaluation, _args, ctx) =>
        ctx.loaders.runs.existing((await ctx.loaders.evaluations.whole(evaluation)).runId),
    });
    t.nonNull.int('seed', {
      resolve: async (evaluation, _args, ctx) => (await ctx.loaders.evaluations.whole(evaluation)).seed,
    });
    t.nonNull.list.nonNull.field('metrics', {
      type: 'EvaluationMetric',
      resolve: async (evaluation, _args, ctx) => [...(await ctx.loaders.evaluations.metrics.load(evaluation.id))],
    });
    t.field('confusionMatrix', {
      type: 'ConfusionMatrix',
      resolve: async (evaluation, _args, ctx) =>
        (await ctx.loaders.evaluations.report.load(evaluation.id)).confusionMatrix,
    });
    t.nonNull.list.nonNull.field('perClass', {
      type: 'ClassReport',
      resolve: async (evaluation, _args, ctx) => [
        ...(await ctx.loaders.evaluations.report.load(evaluation.id)).perClass,
      ],
    });
    t.nonNull.list.nonNull.field('baselines', {
      type: 'EvaluationBaseline',
      resolve: async (evaluation, _args, ctx) => [
        ...(await ctx.loaders.evaluations.report.load(evaluation.id)).baselines,
      ],
    });
    t.nonNull.list.nonNull.field('unbeatenBaselines', {
      type: 'BaselineKind',
      description:
        'Baselines that the result does not beat: the 95 % interval of the difference in the metric that leaderboards rank by holds 0, or lies on the wrong side of it.',
      resolve: async (evaluation, _args, ctx) => {
        const [{ protocol }, metrics, { baselines }] = await Promise.all([
          ctx.loaders.evaluations.whole(evaluation),
          ctx.loaders.evaluations.metrics.load(evaluation.id),
          ctx.loaders.evaluations.report.load(evaluation.id),
        ]);
        return unbeatenBaselines(protocol, metrics, baselines);
      },
    });
    t.nonNull.list.nonNull.field('learningCurve', {
      type: 'LearningCurvePoint',
      description: 'Where options asked for label fractions or shots.',
      resolve: async (evaluation, _args, ctx) => [
        ...(await ctx.loaders.evaluations.report.load(evaluation.id)).learningCurve,
      ],
    });
    t.field('leakage', {
      type: 'Leakage',
      description: 'Null where nothing is known of what the checkpoint has seen, as for an imported one.',
      resolve: async (evaluation, _args, ctx) => (await ctx.loaders.evaluations.report.load(evaluation.id)).leakage,
    });
    t.field('caveats', {
      type: nonNull(list(nonNull('ImportIssue'))),
      description:
        'What about the images makes the score too high or less sure, of the issues of their import: NO_GROUPS where patients or slides are not known.',
      resolve: async (evaluation, _args, ctx) => {
        const { datasetVersionId } = await ctx.loaders.evaluations.whole(evaluation);
        return caveatsOf(await ctx.loaders.datasets.versionById.load(datasetVersionId));
      },
    });
    t.string('predictionsUrl', {
      description:
        'JSON lines, one for each tested image: key, group, label, predicted, probabilities in the order of confusionMatrix.labelNames; of REGRESSION key, group, target, predicted.',
      resolve: async (evaluation, _args, ctx) => {
        const { predictionsSha256 } = await ctx.loaders.evaluations.whole(evaluation);
        return predictionsSha256 === null ? null : `/artifacts/${predictionsSha256}`;
      },
    });
    t.nonNull.field('options', {
      type: 'JSON',
      description: 'With the defaults filled in.',
      resolve: async (evaluation, _args, ctx) => (await ctx.loaders.evaluations.report.load(evaluation.id)).options,
    });
    t.nonNull.field('split', {
      type: 'JSON',
      description: 'How it was drawn, by which group, its digest.',
      resolve: async (evaluation, _args, ctx) => (await ctx.loaders.evaluations.report.load(evaluation.id)).split,
    });
    t.nonNull.field('createdAt', {
      type: 'DateTime',
      resolve: async (evaluation, _args, ctx) => (await ctx.loaders.evaluations.whole(evaluation)).createdAt,
    });
  },
});

export const EvaluationConnection = connectionType('Evaluation');

export const LeaderboardRow = objectType({
  name: 'LeaderboardRow',
  sourceType: { module: records, export: 'LeaderboardRowRecord' },
  definition(t) {
    t.nonNull.int('rank');
    t.nonNull.field('checkpoint', {
      type: 'Checkpoint',
      resolve: (row, _args, ctx) => ctx.loaders.models.mentionedById.load(row.evaluation.checkpointId),
    });
    t.nonNull.field('evaluation', { type: 'Evaluation' });
    t.nonNull.field('metric', { type: 'EvaluationMetric' });
    t.boolean('overlapsPretraining', {
      description:
        'True where the pretraining saw a version of the same dataset, or any of its images, groups or parent collections (Evaluation.leakage says what); null where it is not known, as for an imported checkpoint.',
    });
  },
});

export const MetricComparison = objectType({
  name: 'MetricComparison',
  sourceType: { module: records, export: 'MetricComparisonRecord' },
  definition(t) {
    t.nonNull.string('name');
    t.nonNull.float('first');
    t.nonNull.float('second');
    t.nonNull.float('difference', { description: 'first - second.' });
    t.nonNull.float('ci95Low', {
      description: 'Of the difference, by a bootstrap over groups that draws the same groups for both.',
    });
    t.nonNull.float('ci95High');
  },
});

export const EvaluationComparison = objectType({
  name: 'EvaluationComparison',
  sourceType: { module: records, export: 'EvaluationComparisonRecord' },
  definition(t) {
    t.nonNull.field('first', { type: 'Evaluation' });
    t.nonNull.field('second', { type: 'Evaluation' });
    t.nonNull.list.nonNull.field('metrics', {
      type: 'MetricComparison',
      resolve: (comparison) => [...comparison.metrics],
    });
    t.nonNull.int('imageCount');
    t.nonNull.int('groupCount');
    t.nonNull.int('resampleCount');
  },
});

export const EvaluationFilter = inputObjectType({
  name: 'EvaluationFilter',
  definition(t) {
    t.id('checkpointId');
    t.id('datasetVersionId');
    t.id('datasetId', { description: 'On any version of it.' });
    t.field('protocol', { type: 'EvaluationProtocol' });
  },
});

export const EvaluationQueries = extendType({
  type: 'Query',
  definition(t) {
    t.field('evaluation', {
      type: 'Evaluation',
      args: { id: nonNull(idArg()) },
      resolve: async (_root, args, ctx) => (await ctx.services.evaluations.get(ctx.viewer, args.id)) ?? null,
    });
    t.nonNull.field('evaluations', {
      type: 'EvaluationConnection',
      args: { ...pageArguments, filter: arg({ type: 'EvaluationFilter' }) },
      resolve: (_root, args, ctx) => ctx.services.evaluations.list(ctx.viewer, args, args.filter ?? {}),
    });
    t.nonNull.list.nonNull.field('leaderboard', {
      type: 'LeaderboardRow',
      description: 'Best first: by macroF1, or by least meanAbsoluteError for REGRESSION.',
      args: { datasetVersionId: nonNull(idArg()), protocol: nonNull(arg({ type: 'EvaluationProtocol' })) },
      resolve: (_root, args, ctx) =>
        ctx.services.evaluations.leaderboard(ctx.viewer, args.datasetVersionId, args.protocol),
    });
  },
});

export const EvaluationComparisonQuery = extendType({
  type: 'Query',
  definition(t) {
    t.nonNull.field('compareEvaluations', {
      type: 'EvaluationComparison',
      description: 'Two evaluations over the same folds of one dataset version, paired group by group.',
      args: { a: nonNull(idArg()), b: nonNull(idArg()) },
      resolve: (_root, args, ctx) => ctx.services.evaluations.compare(ctx.viewer, args.a, args.b),
    });
  },
});

export const CheckpointEvaluations = extendType({
  type: 'Checkpoint',
  definition(t) {
    t.nonNull.field('evaluations', {
      type: 'EvaluationConnection',
      args: pageArguments,
      resolve: (checkpoint, args, ctx) =>
        ctx.services.evaluations.list(ctx.viewer, args, { checkpointId: checkpoint.id }),
    });
  },
});

export const RunEvaluation = extendType({
  type: 'Run',
  definition(t) {
    t.field('evaluation', {
      type: 'Evaluation',
      description: 'Of an EVALUATION: what it found.',
      resolve: (run, _args, ctx) => (run.kind === 'EVALUATION' ? ctx.loaders.evaluations.byRun.load(run.id) : null),
    });
  },
});

export const LaunchEvaluationInput = inputObjectType({
  name: 'LaunchEvaluationInput',
  definition(t) {
    t.nonNull.id('checkpointId');
    t.nonNull.id('datasetVersionId');
    t.nonNull.field('protocol', { type: 'EvaluationProtocol', default: 'LINEAR_PROBE' });
    t.nonNull.int('folds', {
      default: 5,
      description: "Grouped by the version's groups; ignored where the version has its own split.",
    });
    t.int('seed');
    t.field('options', {
      type: 'JSON',
      description: [
        'All: bootstrapResamples (100..10000, default 1000).',
        'LINEAR_PROBE and KNN: labelFractions (list of 0..1), shotsPerClass (list of counts), drawCount (1..100, default 10), which give a learningCurve.',
        'FINE_TUNE: maxEpochs (1..500, default 30), batchSize (1..1024, default 32), learningRate (default 0.003), patienceEpochs (1..500, default 5).',
      ].join(' '),
    });
    t.int('maxDurationSeconds', {
      description: 'It is ended as FAILED, class TIMEOUT, when it has been under way for so long. Default: no limit.',
    });
    t.string('idempotencyKey');
  },
});

export const EvaluationMutations = extendType({
  type: 'Mutation',
  definition(t) {
    t.nonNull.field('launchEvaluation', {
      type: 'RunPayload',
      args: { input: nonNull(arg({ type: 'LaunchEvaluationInput' })) },
      resolve: (_root, args, ctx) => settle('run', () => ctx.services.evaluations.launch(ctx.viewer, args.input)),
    });
  },
});
