/** API types for launching pretrainings and for their training states. */
import path from 'node:path';
import { arg, enumType, extendType, inputObjectType, nonNull, objectType } from '../../api/nexus.ts';
import { settle } from '../../api/payload.ts';
import { OPTIMIZER_NAMES } from '../../protocol/pretraining/optimizer.ts';
import { RECIPE_NAMES } from '../../protocol/pretraining/recipes.ts';

const records = path.join(import.meta.dirname, 'runs.records.ts');

export const SamplingStrategy = enumType({
  name: 'SamplingStrategy',
  description: 'EVEN over datasets, or PROPORTIONAL to their images.',
  members: ['EVEN', 'PROPORTIONAL'],
});

export const Precision = enumType({ name: 'Precision', members: ['FLOAT32', 'BFLOAT16'] });

export const PretrainingRecipe = enumType({
  name: 'PretrainingRecipe',
  description: 'DEFAULT learns most within hours; PAPER is SimCLR as published: LARS by the linear rule.',
  members: [...RECIPE_NAMES],
});

export const OptimizerName = enumType({ name: 'OptimizerName', members: [...OPTIMIZER_NAMES] });

export const TrainingState = objectType({
  name: 'TrainingState',
  sourceType: { module: records, export: 'KeptStateRecord' },
  description: 'A pretraining as it was after a step: weights, optimiser and position.',
  definition(t) {
    t.nonNull.int('step');
    t.nonNull.field('keptAt', { type: 'DateTime' });
    t.nonNull.boolean('isBest', { description: 'No kept state of the run was probed better.' });
    t.field('probe', { type: 'CheckpointProbe', description: 'Null where it was not probed.' });
    t.field('checkpoint', {
      type: 'Checkpoint',
      description: 'Null until it is registered.',
      resolve: async (state, _args, ctx) =>
        (await ctx.loaders.models.checkpointsByRun.load(state.runId)).find(({ step }) => step === state.step) ?? null,
    });
  },
});

export const PretrainingDatasetInput = inputObjectType({
  name: 'PretrainingDatasetInput',
  definition(t) {
    t.nonNull.id('datasetVersionId');
    t.int('maxImages', { description: 'Use at most this many of its images.' });
    t.float('weight', { description: 'Multiplies its share of the sampling. Default 1.' });
  },
});

export const OptimizerInput = inputObjectType({
  name: 'OptimizerInput',
  description: "An optimizer with its own parameters; one that is another's is refused. Defaults are the recipe's.",
  definition(t) {
    t.nonNull.field('name', { type: 'OptimizerName' });
    t.float('momentum', { description: 'Of LARS and SGD: 0 to below 1.' });
    t.boolean('nesterov', { description: 'Of SGD.' });
    t.float('beta1', { description: 'Of ADAM and ADAMW: decay rate of the mean gradient.' });
    t.float('beta2', { description: 'Of ADAM and ADAMW: decay rate of the mean squared gradient.' });
    t.float('epsilon', { description: 'Of ADAM and ADAMW: added to the root of the mean squared gradient.' });
    t.float('weightDecay', {
      description: 'L2 of the weights, for ADAMW decoupled from the gradient; never of biases and batch norms.',
    });
  },
});

export const PretrainingProbeInput = inputObjectType({
  name: 'PretrainingProbeInput',
  definition(t) {
    t.nonNull.boolean('enabled', { default: true });
    t.id('datasetVersionId', {
      description: "With labels. Default: one of the training's own, or the latest labelled one of their datasets.",
    });
    t.int('everySteps', {
      description: 'Default: one in ten, or fewer where that would cost more than about a twentieth of the run.',
    });
  },
});

export const LaunchPretrainingInput = inputObjectType({
  name: 'LaunchPretrainingInput',
  definition(t) {
    t.nonNull.string('modelSlug', { description: 'Made if new.' });
    t.nonNull.list.nonNull.field('datasets', { type: 'PretrainingDatasetInput' });
    t.nonNull.field('encoder', { type: 'EncoderArchitecture', default: 'RESNET18' });
    t.int('imageSizePx', {
      default: 224,
      description:
        'Side of the images that the encoder is made for; the recipe says how large the views are. null: chosen by the recipe.',
    });
    t.int('batchSize', {
      default: 256,
      description: 'Images per step; views are twice that. null: chosen by the recipe.',
    });
    t.int('microBatchSize', {
      description:
        'Images in memory at once, a divisor of batchSize: the loss still sees the whole batch (gradient caching), batch norm sees parts of this size. Default: the whole batch.',
    });
    t.string('budget', {
      description:
        'Give one of budget, epochs and steps. The time that the training may take, such as 90s, 45m, 1h30m or 2d (a number alone is seconds): the steps follow from the speed that the worker measures.',
    });
    t.float('epochs', { description: 'Passes over the images.' });
    t.int('steps', { description: '0 registers the freshly initialised encoder: the random control.' });
    t.nonNull.field('recipe', {
      type: 'PretrainingRecipe',
      default: 'DEFAULT',
      description: 'Whatever is not named here is taken from it.',
    });
    t.field('optimizer', { type: 'OptimizerInput', description: "Default: the recipe's." });
    t.float('learningRate', {
      description: "The peak of the schedule. Default: the recipe's, by optimizer and batch.",
    });
    t.float('temperature', { default: 0.5, description: 'Of the loss. null: chosen by the recipe.' });
    t.nonNull.field('sampling', { type: 'SamplingStrategy', default: 'EVEN' });
    t.field('precision', {
      type: 'Precision',
      default: 'FLOAT32',
      description: 'null: with a budget the faster one that the device has, else FLOAT32.',
    });
    t.int('checkpointEverySteps');
    t.id('initialCheckpointId');
    t.field('augmentation', {
      type: 'JSON',
      description:
        "cropScaleMin, cropScaleMax, flip, quarterTurns, colourJitterStrength, colourJitterProbability, greyProbability, blurProbability. What is left out is the recipe's.",
    });
    t.int('seed');
    t.field('probe', {
      type: 'PretrainingProbeInput',
      description:
        'What the run measures its own encoder by: at step 0, every so many steps and at the end. By default on the labels of its own datasets, where there are any. It never changes the training.',
    });
    t.list.nonNull.int('registerSteps', {
      description: 'Steps after which the encoder is registered besides the last, up to 100.',
    });
    t.nonNull.boolean('registerBest', {
      default: false,
      description: 'Register the encoder of the best probe, besides the last.',
    });
    t.int('maxDurationSeconds', {
      description: 'Longest running time; after it the run is FAILED with class TIMEOUT. Default: no limit.',
    });
    t.string('idempotencyKey');
  },
});

export const RegisterTrainingStateInput = inputObjectType({
  name: 'RegisterTrainingStateInput',
  definition(t) {
    t.nonNull.id('runId');
    t.nonNull.int('step', { description: "One of the run's trainingStates." });
  },
});

export const PretrainingMutations = extendType({
  type: 'Mutation',
  definition(t) {
    t.nonNull.field('launchPretraining', {
      type: 'RunPayload',
      args: { input: nonNull(arg({ type: 'LaunchPretrainingInput' })) },
      resolve: (_root, args, ctx) => settle('run', () => ctx.services.runs.launchPretraining(ctx.viewer, args.input)),
    });
    t.nonNull.field('registerTrainingState', {
      type: 'CheckpointPayload',
      description:
        'Makes a checkpoint of a kept state, as the run itself would have; one that is there is given again.',
      args: { input: nonNull(arg({ type: 'RegisterTrainingStateInput' })) },
      resolve: (_root, args, ctx) =>
        settle('checkpoint', () => ctx.services.trainingStates.register(ctx.viewer, args.input)),
    });
  },
});
