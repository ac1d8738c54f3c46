/** API types for launching pretrainings and for their training states. */
import path from 'node:path';
import { arg, enumType, extendType, inputObjectType, nonNull, objectType } from '../../api/nexus.ts';
import { settle } from '../../api/payload.ts';
import { describeMethod, methodNames } from '../../protocol/pretraining/methods/index.ts';
import { OPTIMIZER_NAMES } from '../../protocol/pretraining/optimizer.ts';
import { RECIPE_NAMES } from '../../protocol/pretraining/recipe.ts';

const records = path.join(import.meta.dirname, 'runs.records.ts');
const descriptions = path.join(import.meta.dirname, '../../protocol/pretraining/methods/description.ts');

export const SamplingStrategy = enumType({
  name: 'SamplingStrategy',
  description: 'EVEN: the same share of each dataset. PROPORTIONAL: to the number of images.',
  members: ['EVEN', 'PROPORTIONAL'],
});

export const Precision = enumType({ name: 'Precision', members: ['FLOAT32', 'BFLOAT16'] });

export const PretrainingRecipe = enumType({
  name: 'PretrainingRecipe',
  description:
    'DEFAULT: tuned for trainings of hours. PAPER, for SIMCLR only: as published, with LARS and linear scaling of the learning rate.',
  members: [...RECIPE_NAMES],
});

export const PretrainingMethod = enumType({
  name: 'PretrainingMethod',
  description: 'How an encoder learns from images without labels.',
  members: methodNames().map((name) => {
    const { title, paper, help } = describeMethod(name);
    return { name, value: name, description: `${title} (${paper}). Options: ${help}.` };
  }),
});

export const WatchedSeries = objectType({
  name: 'WatchedSeries',
  sourceType: { module: descriptions, export: 'SeriesDescription' },
  description: 'A series of metrics that a pretraining method watches, and how to read it.',
  definition(t) {
    t.nonNull.string('name', { description: 'As in MetricSeries.' });
    t.nonNull.string('title');
    t.nonNull.string('meaning');
    t.field('level', { type: 'WatchedLevel', resolve: ({ level }) => level ?? null });
  },
});

export const WatchedLevel = objectType({
  name: 'WatchedLevel',
  description: 'A value to compare a series with, such as that of a collapse.',
  definition(t) {
    t.nonNull.float('value');
    t.nonNull.string('label');
  },
});

export const OptimizerName = enumType({ name: 'OptimizerName', members: [...OPTIMIZER_NAMES] });

export const TrainingState = objectType({
  name: 'TrainingState',
  sourceType: { module: records, export: 'KeptStateRecord' },
  description: 'The kept state of a pretraining after a step: weights, optimizer state and position in the data.',
  definition(t) {
    t.nonNull.int('step');
    t.nonNull.field('keptAt', { type: 'DateTime' });
    t.nonNull.boolean('isBest', { description: 'True for the kept state of the run with the best probe result.' });
    t.field('probe', { type: 'CheckpointProbe', description: 'Null if the state was not probed.' });
    t.field('checkpoint', {
      type: 'Checkpoint',
      description: 'Null until the state is registered.',
      resolve: async (state, _args, ctx) =>
        (await ctx.loaders.models.checkpointsByRun.load(state.runId)).find(({ step }) => step === state.step) ?? null,
    });
  },
});

export const PretrainingDatasetInput = inputObjectType({
  name: 'PretrainingDatasetInput',
  definition(t) {
    t.nonNull.id('datasetVersionId');
    t.int('maxImages', { description: 'Use at most this number of its images.' });
    t.float('weight', { description: 'Factor of its share in the sampling. Default 1.' });
  },
});

export const OptimizerInput = inputObjectType({
  name: 'OptimizerInput',
  description:
    'An optimizer with its own parameters; parameters of other optimizers are refused. Defaults are those of the recipe.',
  definition(t) {
    t.nonNull.field('name', { type: 'OptimizerName' });
    t.float('momentum', { description: 'For LARS and SGD: 0 to below 1.' });
    t.boolean('nesterov', { description: 'Of SGD.' });
    t.float('beta1', { description: 'For ADAM and ADAMW: decay rate of the mean gradient.' });
    t.float('beta2', { description: 'For ADAM and ADAMW: decay rate of the mean squared gradient.' });
    t.float('epsilon', { description: 'For ADAM and ADAMW: added to the root of the mean squared gradient.' });
    t.float('weightDecay', {
      description:
        'L2 penalty of the weights, for ADAMW decoupled from the gradient; never applied to biases and batch norms.',
    });
  },
});

export const PretrainingProbeInput = inputObjectType({
  name: 'PretrainingProbeInput',
  definition(t) {
    t.nonNull.boolean('enabled', { default: true });
    t.id('datasetVersionId', {
      description:
        "A labelled version. Default: one of the training's own versions, or the latest labelled version of their datasets.",
    });
    t.int('everySteps', {
      description:
        'Interval in steps. Default: a tenth of the run, or more if probes would take more than about 5 % of the run.',
    });
  },
});

export const LaunchPretrainingInput = inputObjectType({
  name: 'LaunchPretrainingInput',
  definition(t) {
    t.nonNull.string('modelSlug', { description: 'Slug of the model, which is created if it does not exist.' });
    t.nonNull.list.nonNull.field('datasets', { type: 'PretrainingDatasetInput' });
    t.nonNull.field('encoder', { type: 'EncoderArchitecture', default: 'RESNET18' });
    t.nonNull.field('method', { type: 'PretrainingMethod', default: 'SIMCLR' });
    t.field('methodOptions', {
      type: 'JSON',
      description:
        "The method's own settings, see PretrainingMethod; options of other methods are refused. Defaults are those of the recipe.",
    });
    t.int('imageSizePx', {
      default: 224,
      description:
        'Side of the images for which the encoder is made; the recipe decides the size of the views. null: chosen by the recipe.',
    });
    t.int('batchSize', {
      default: 256,
      description: 'Images per step, each in as many views as the method wants. null: chosen by the recipe.',
    });
    t.int('microBatchSize', {
      description:
        'Images in memory at once, a divisor of batchSize: the loss still sees the whole batch (gradient caching), batch norm sees parts of this size. Default: the whole batch.',
    });
    t.string('budget', {
      description:
        'Time for the training, such as 90s, 45m, 1h30m or 2d (a number alone is seconds); the number of steps follows from the speed that the worker measures. Give one of budget, epochs and steps.',
    });
    t.float('epochs', { description: 'Number of passes over the images.' });
    t.int('steps', { description: '0 registers the freshly initialised encoder, the control for comparisons.' });
    t.nonNull.field('recipe', {
      type: 'PretrainingRecipe',
      default: 'DEFAULT',
      description: 'Source of all values that are not given.',
    });
    t.field('optimizer', { type: 'OptimizerInput', description: "Default: the recipe's." });
    t.float('learningRate', {
      description: 'Peak of the schedule. Default: chosen by the recipe for the optimizer and batch size.',
    });
    t.float('dropPathRate', {
      description:
        'Vision transformers: probability with which an image skips a branch of the last block (stochastic depth), 0 to 0.9. Default: 0.',
    });
    t.float('layerDecay', {
      description:
        'Vision transformers: factor between the learning rates of a layer and the one after it, up to 1. Default: 1, the same rate for all.',
    });
    t.float('temperature', {
      default: 0.5,
      description: 'Temperature of the loss, for methods that have one. null: chosen by the recipe.',
    });
    t.nonNull.field('sampling', { type: 'SamplingStrategy', default: 'EVEN' });
    t.field('precision', {
      type: 'Precision',
      default: 'FLOAT32',
      description: 'null: with a budget the faster precision of the device, otherwise FLOAT32.',
    });
    t.int('checkpointEverySteps');
    t.id('initialCheckpointId');
    t.field('augmentation', {
      type: 'JSON',
      description:
        'cropScaleMin, cropScaleMax, flip, quarterTurns, colourJitterStrength, colourJitterProbability, greyProbability, blurProbability, stainJitterStrength (0: none), stainJitterProbability. Defaults are those of the recipe.',
    });
    t.int('seed');
    t.field('probe', {
      type: 'PretrainingProbeInput',
      description:
        'The probe evaluates the encoder during the training: at step 0, at an interval of steps, and at the end. Default: on the labels of the training datasets, if there are any. It never changes the training.',
    });
    t.list.nonNull.int('registerSteps', {
      description: 'Steps after which the encoder is registered, in addition to the last, up to 100.',
    });
    t.nonNull.boolean('registerBest', {
      default: false,
      description: 'Register the encoder with the best probe result, in addition to the last.',
    });
    t.int('keepStates', {
      description:
        'Training states that stay while the run goes on, 1 to 1000, default 2: the last ones, in addition to the best and those of registerSteps.',
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

export const RegisterTrainingStateInput = inputObjectType({
  name: 'RegisterTrainingStateInput',
  definition(t) {
    t.nonNull.id('runId');
    t.nonNull.int('step', { description: 'Step of one of the trainingStates of the run.' });
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
      description: 'Registers a kept state as a checkpoint, as the run itself would do; an existing one is returned.',
      args: { input: nonNull(arg({ type: 'RegisterTrainingStateInput' })) },
      resolve: (_root, args, ctx) =>
        settle('checkpoint', () => ctx.services.trainingStates.register(ctx.viewer, args.input)),
    });
  },
});
