/** Evaluations in the API. */
import path from 'node:path';
import { connectionType, pageArguments } from '../../api/connection-type.ts';
import { arg, enumType, extendType, idArg, inputObjectType, list, nonNull, objectType } from '../../api/nexus.ts';
import type { ApiContext } from '../../api/context.ts';
import { settle } from '../../api/payload.ts';
import { areGroupsKnown, intervalCaveat } from '../../statistics/interval-caveat.rules.ts';
import { caveatsOf } from '../datasets/index.ts';
import type { EvaluationSource } from './evaluations.records.ts';
import { ungroupedImageCountOf } from './evaluations.rules.ts';
import { unbeatenBaselines } from './verdict.rules.ts';

export * from './comparisons.graphql.ts';
export * from './results.graphql.ts';
export * from './slide-predictions.graphql.ts';

const records = path.join(import.meta.dirname, 'evaluations.records.ts');

export const EvaluationProtocol = enumType({
  name: 'EvaluationProtocol',
  description:
    'LINEAR_PROBE: logistic regression on frozen embeddings. KNN: nearest neighbours by cosine. FINE_TUNE: the whole network is trained further. REGRESSION: ridge regression, for labels that are numbers.',
  members: ['LINEAR_PROBE', 'KNN', 'FINE_TUNE', 'REGRESSION'],
});

async function ungroupedImageCountFor(source: EvaluationSource, { loaders }: ApiContext): Promise<number | null> {
  const evaluation = await loaders.evaluations.whole(source);
  return ungroupedImageCountOf(evaluation, await loaders.datasets.versionById.load(evaluation.datasetVersionId));
}

export const Evaluation = objectType({
  name: 'Evaluation',
  sourceType: { module: records, export: 'EvaluationSource' },
  description: 'The result of a checkpoint on a dataset version under a protocol. Immutable.',
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
        'Baselines that the result does not beat: the 95 % interval of the difference in the ranked metric contains 0 or lies on the wrong side of it.',
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
      description: 'Results for the label fractions and shots of the options.',
      resolve: async (evaluation, _args, ctx) => [
        ...(await ctx.loaders.evaluations.report.load(evaluation.id)).learningCurve,
      ],
    });
    t.field('leakage', {
      type: 'Leakage',
      description: 'Null if the training data of the checkpoint is unknown, as for an imported one.',
      resolve: async (evaluation, _args, ctx) => (await ctx.loaders.evaluations.report.load(evaluation.id)).leakage,
    });
    t.field('caveats', {
      type: nonNull(list(nonNull('ImportIssue'))),
      description:
        'Import issues of the images that make the score too high or less certain, e.g. NO_GROUPS: patients or slides are not known.',
      resolve: async (evaluation, _args, ctx) => {
        const { datasetVersionId } = await ctx.loaders.evaluations.whole(evaluation);
        return caveatsOf(await ctx.loaders.datasets.versionById.load(datasetVersionId));
      },
    });
    t.boolean('groupsKnown', {
      description:
        'True if the patient or slide of every image, trained on or tested on, is known. False: an image without one counts as its own group, together only with the other patches of its file, so that the intervals are too narrow. Null for an older evaluation for which this cannot be known.',
      resolve: async (evaluation, _args, ctx) => areGroupsKnown(await ungroupedImageCountFor(evaluation, ctx)),
    });
    t.string('intervalCaveat', {
      description: 'What to say beside every interval of the evaluation; null if groupsKnown is true.',
      resolve: async (evaluation, _args, ctx) => intervalCaveat(await ungroupedImageCountFor(evaluation, ctx)),
    });
    t.string('predictionsUrl', {
      description:
        'JSON lines, one for each tested image: key, group (null if unknown), resamplingUnit (the group or, if it is unknown, the source file), label, predicted, probabilities in the order of confusionMatrix.labelNames; of REGRESSION target and predicted instead of the last three.',
      resolve: async (evaluation, _args, ctx) => {
        const { predictionsSha256 } = await ctx.loaders.evaluations.whole(evaluation);
        return predictionsSha256 === null ? null : `/artifacts/${predictionsSha256}`;
      },
    });
    t.nonNull.field('options', {
      type: 'JSON',
      description: 'Options, with the defaults filled in.',
      resolve: async (evaluation, _args, ctx) => (await ctx.loaders.evaluations.report.load(evaluation.id)).options,
    });
    t.nonNull.field('split', {
      type: 'JSON',
      description: 'How the split was drawn, by which group, and its digest.',
      resolve: async (evaluation, _args, ctx) => (await ctx.loaders.evaluations.report.load(evaluation.id)).split,
    });
    t.nonNull.field('createdAt', {
      type: 'DateTime',
      resolve: async (evaluation, _args, ctx) => (await ctx.loaders.evaluations.whole(evaluation)).createdAt,
    });
  },
});

export const EvaluationConnection = connectionType('Evaluation');

export const EvaluationFilter = inputObjectType({
  name: 'EvaluationFilter',
  definition(t) {
    t.id('checkpointId');
    t.id('datasetVersionId');
    t.id('datasetId', { description: 'Evaluations on any version of the dataset.' });
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
      description: 'Result of an EVALUATION.',
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
      description: 'Folds divide the groups of the version; ignored if the version has a predefined split.',
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
      description: 'Longest running time; after it the run is FAILED with class TIMEOUT. Default: no limit.',
    });
    t.field('requirements', {
      type: 'RunRequirementsInput',
      description: 'Default: what follows from the other fields.',
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
