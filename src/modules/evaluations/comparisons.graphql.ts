/** API types and fields of leaderboards and paired comparisons. */
import path from 'node:path';
import { areGroupsKnown, intervalCaveat } from '../../statistics/interval-caveat.rules.ts';
import { arg, extendType, idArg, nonNull, objectType } from '../../api/nexus.ts';

const records = path.join(import.meta.dirname, 'evaluations.records.ts');

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
        'True if the pretraining saw a version of the same dataset, or any of its images, groups or parent collections (details in Evaluation.leakage); null if unknown, as for an imported checkpoint.',
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
      description: '95 % interval of the difference, by a bootstrap that draws the same groups for both.',
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
    t.nonNull.int('groupCount', {
      description:
        'Number of known groups among the tested images. Where older evaluations are compared, each file whose group is unknown counts as one.',
    });
    t.boolean('groupsKnown', {
      description: 'As of Evaluation: false if the intervals are too narrow because patients or slides are unknown.',
      resolve: ({ ungroupedImageCount }) => areGroupsKnown(ungroupedImageCount),
    });
    t.string('intervalCaveat', {
      description: 'What to say beside the intervals; null if groupsKnown is true.',
      resolve: ({ ungroupedImageCount }) => intervalCaveat(ungroupedImageCount),
    });
    t.nonNull.int('resampleCount');
  },
});

export const ComparisonQueries = extendType({
  type: 'Query',
  definition(t) {
    t.nonNull.list.nonNull.field('leaderboard', {
      type: 'LeaderboardRow',
      description: 'Best first: by highest macroF1, or by lowest meanAbsoluteError for REGRESSION.',
      args: { datasetVersionId: nonNull(idArg()), protocol: nonNull(arg({ type: 'EvaluationProtocol' })) },
      resolve: (_root, args, ctx) =>
        ctx.services.evaluations.leaderboard(ctx.viewer, args.datasetVersionId, args.protocol),
    });
    t.nonNull.field('compareEvaluations', {
      type: 'EvaluationComparison',
      description: 'Two evaluations over the same folds of one dataset version, paired group by group.',
      args: { a: nonNull(idArg()), b: nonNull(idArg()) },
      resolve: (_root, args, ctx) => ctx.services.evaluations.compare(ctx.viewer, args.a, args.b),
    });
  },
});
