/** Evaluations in the API. */
import path from 'node:path';
import { connectionType, pageArguments } from '../../api/connection-type.ts';
import { arg, enumType, extendType, idArg, inputObjectType, nonNull, objectType } from '../../api/nexus.ts';
import { settle } from '../../api/payload.ts';

const records = path.join(import.meta.dirname, 'evaluations.records.ts');

export const EvaluationProtocol = enumType({ name: 'EvaluationProtocol', members: ['LINEAR_PROBE', 'KNN', 'FINE_TUNE', 'REGRESSION'] });
export const BaselineKind = enumType({
  name: 'BaselineKind',
  description: 'RANDOM_ENCODER: the same architecture, freshly initialised. COLOUR_STATISTICS: means and spreads of colour alone.',
  members: ['RANDOM_ENCODER', 'COLOUR_STATISTICS'],
});

export const EvaluationMetric = objectType({
  name: 'EvaluationMetric',
  sourceType: { module: records, export: 'EvaluationMetricRecord' },
  definition(t) {
    t.nonNull.string('name', { description: 'macroF1, balancedAccuracy, accuracy, macroAuroc.' });
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
  },
});

export const Evaluation = objectType({
  name: 'Evaluation',
  sourceType: { module: records, export: 'EvaluationRecord' },
  description: 'A checkpoint on a dataset version under a protocol. Immutable.',
  definition(t) {
    t.implements('Node');
    t.nonNull.field('checkpoint', { type: 'Checkpoint', resolve: (evaluation, _args, ctx) => ctx.loaders.models.checkpointById.load(evaluation.checkpointId) });
    t.nonNull.field('datasetVersion', { type: 'DatasetVersion', resolve: (evaluation, _args, ctx) => ctx.loaders.datasets.versionById.load(evaluation.datasetVersionId) });
    t.nonNull.field('protocol', { type: 'EvaluationProtocol' });
    t.nonNull.field('run', { type: 'Run', resolve: (evaluation, _args, ctx) => ctx.loaders.runs.existing(evaluation.runId) });
    t.nonNull.int('seed');
    t.nonNull.list.nonNull.field('metrics', { type: 'EvaluationMetric', resolve: (evaluation) => [...evaluation.metrics] });
    t.field('confusionMatrix', { type: 'ConfusionMatrix' });
    t.nonNull.list.nonNull.field('perClass', { type: 'ClassReport', resolve: (evaluation) => [...evaluation.perClass] });
    t.nonNull.list.nonNull.field('baselines', { type: 'EvaluationBaseline', resolve: (evaluation) => [...evaluation.baselines] });
    t.nonNull.field('split', { type: 'JSON', description: 'How it was drawn, by which group, its digest.' });
    t.nonNull.field('createdAt', { type: 'DateTime' });
  },
});

export const EvaluationConnection = connectionType('Evaluation');

export const LeaderboardRow = objectType({
  name: 'LeaderboardRow',
  sourceType: { module: records, export: 'LeaderboardRowRecord' },
  definition(t) {
    t.nonNull.int('rank');
    t.nonNull.field('checkpoint', { type: 'Checkpoint', resolve: (row, _args, ctx) => ctx.loaders.models.checkpointById.load(row.evaluation.checkpointId) });
    t.nonNull.field('evaluation', { type: 'Evaluation' });
    t.nonNull.field('metric', { type: 'EvaluationMetric' });
    t.boolean('overlapsPretraining', { description: 'True where the pretraining saw a version of the same dataset; null where it is not known, as for an imported checkpoint.' });
  },
});

export const EvaluationFilter = inputObjectType({
  name: 'EvaluationFilter',
  definition(t) {
    t.id('checkpointId');
    t.id('datasetVersionId');
    t.field('protocol', { type: 'EvaluationProtocol' });
  },
});

export const EvaluationQueries = extendType({
  type: 'Query',
  definition(t) {
    t.field('evaluation', { type: 'Evaluation', args: { id: nonNull(idArg()) }, resolve: async (_root, args, ctx) => (await ctx.services.evaluations.get(ctx.viewer, args.id)) ?? null });
    t.nonNull.field('evaluations', {
      type: 'EvaluationConnection',
      args: { ...pageArguments, filter: arg({ type: 'EvaluationFilter' }) },
      resolve: (_root, args, ctx) => ctx.services.evaluations.list(ctx.viewer, args, args.filter ?? {}),
    });
    t.nonNull.list.nonNull.field('leaderboard', {
      type: 'LeaderboardRow',
      description: 'Best macroF1 first.',
      args: { datasetVersionId: nonNull(idArg()), protocol: nonNull(arg({ type: 'EvaluationProtocol' })) },
      resolve: (_root, args, ctx) => ctx.services.evaluations.leaderboard(ctx.viewer, args.datasetVersionId, args.protocol),
    });
  },
});

export const CheckpointEvaluations = extendType({
  type: 'Checkpoint',
  definition(t) {
    t.nonNull.field('evaluations', {
      type: 'EvaluationConnection',
      args: pageArguments,
      resolve: (checkpoint, args, ctx) => ctx.services.evaluations.list(ctx.viewer, args, { checkpointId: checkpoint.id }),
    });
  },
});

export const RunEvaluation = extendType({
  type: 'Run',
  definition(t) {
    t.field('evaluation', { type: 'Evaluation', description: 'Of an EVALUATION: what it found.', resolve: (run, _args, ctx) => (run.kind === 'EVALUATION' ? ctx.loaders.evaluations.byRun.load(run.id) : null) });
  },
});

export const LaunchEvaluationInput = inputObjectType({
  name: 'LaunchEvaluationInput',
  definition(t) {
    t.nonNull.id('checkpointId');
    t.nonNull.id('datasetVersionId');
    t.nonNull.field('protocol', { type: 'EvaluationProtocol', default: 'LINEAR_PROBE' });
    t.nonNull.int('folds', { default: 5, description: "Grouped by the version's groups; ignored where the version brings its own split." });
    t.int('seed');
    t.field('options', { type: 'JSON', description: 'LINEAR_PROBE: bootstrapResamples (100..10000, default 1000).' });
    t.int('maxDurationSeconds', { description: 'It is ended as FAILED, class TIMEOUT, when it has been under way for so long. Default: no limit.' });
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
