/** Runs in the API: launching, watching live, cancelling, resuming. */
import path from 'node:path';
import { connectionType, pageArguments } from '../../api/connection-type.ts';
import {
  arg,
  enumType,
  extendType,
  idArg,
  inputObjectType,
  intArg,
  list,
  nonNull,
  objectType,
  stringArg,
  subscriptionType,
} from '../../api/nexus.ts';
import { payloadType, settle } from '../../api/payload.ts';
import { OPTIMIZER_NAMES } from '../../protocol/pretraining/optimizer.ts';
import { RECIPE_NAMES } from '../../protocol/pretraining/recipes.ts';
import { explanationOf } from './pretraining.rules.ts';
import { configShownTo, METRIC_POINTS_DEFAULT } from './runs.rules.ts';
import { RUN_EVENT_KINDS } from './runs.records.ts';

export * from './imports.graphql.ts';

const records = path.join(import.meta.dirname, 'runs.records.ts');

export const RunKind = enumType({ name: 'RunKind', members: ['IMPORT', 'PRETRAINING', 'EVALUATION', 'EXPORT'] });
export const RunStatus = enumType({
  name: 'RunStatus',
  members: ['QUEUED', 'RUNNING', 'CANCELING', 'SUCCEEDED', 'FAILED', 'CANCELED'],
});
export const FailureClass = enumType({
  name: 'FailureClass',
  members: ['USER', 'DATA', 'OUT_OF_MEMORY', 'INFRASTRUCTURE', 'TIMEOUT', 'INTERNAL'],
});
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

export const RunFailure = objectType({
  name: 'RunFailure',
  definition(t) {
    t.nonNull.field('class', {
      type: 'FailureClass',
      description: 'The cause: the request, the data, memory, the machine, time, or Paraffin.',
    });
    t.nonNull.string('code');
    t.nonNull.string('message');
    t.string('hint');
  },
});

export const MetricPoint = objectType({
  name: 'MetricPoint',
  sourceType: { module: records, export: 'MetricPointRecord' },
  definition(t) {
    t.nonNull.int('step');
    t.nonNull.float('value');
    t.nonNull.field('recordedAt', { type: 'DateTime' });
  },
});

export const MetricSeries = objectType({
  name: 'MetricSeries',
  sourceType: { module: records, export: 'MetricSeriesRecord' },
  definition(t) {
    t.nonNull.string('name');
    t.string('unit');
    t.nonNull.list.nonNull.field('points', { type: 'MetricPoint' });
  },
});

export const Run = objectType({
  name: 'Run',
  sourceType: { module: records, export: 'RunRecord' },
  description: 'One piece of work: an import, a pretraining, an evaluation or an export.',
  definition(t) {
    t.implements('Node');
    t.nonNull.field('kind', { type: 'RunKind' });
    t.nonNull.field('status', { type: 'RunStatus' });
    t.nonNull.string('title', {
      description: 'What it makes of what, in one line, by the names that things had at launch.',
    });
    t.nonNull.field('config', {
      type: 'JSON',
      description:
        'Frozen at launch, defaults filled in, seed included. With a budget, what the speed of the device decides is filled in and frozen when the run starts. Of a path on the server, only a CONTRIBUTOR sees more than the last part.',
      resolve: (run, _args, ctx) => configShownTo(ctx.viewer, run.config),
    });
    t.nonNull.list.nonNull.string('explanation', {
      description: 'Why a pretraining has the steps, size, precision and optimizer that it has, in sentences.',
      resolve: (run) => (run.kind === 'PRETRAINING' ? explanationOf(run.config) : []),
    });
    t.nonNull.int('attempt');
    t.nonNull.float('progress', { description: '0..1' });
    t.int('queuePosition', {
      description: '1 for the next to run; null for a run that does not wait.',
      resolve: (run, _args, ctx) => (run.status === 'QUEUED' ? ctx.loaders.runs.queuePosition.load(run.id) : null),
    });
    t.field('failure', { type: 'RunFailure' });
    t.nonNull.list.nonNull.field('metrics', {
      type: 'MetricSeries',
      description:
        'A series of more than maxPoints comes back as the lowest and highest of as many parts as fit, so that a plot shows every spike; narrow the steps for every point.',
      args: {
        names: list(nonNull(stringArg())),
        maxPoints: intArg({ default: METRIC_POINTS_DEFAULT, description: '10 to 100000, for each series.' }),
        fromStep: intArg(),
        toStep: intArg({ description: 'The last one that counts.' }),
      },
      resolve: async (run, { names, ...window }, ctx) => [
        ...(await ctx.services.runs.metrics(ctx.viewer, run.id, names ?? null, window)),
      ],
    });
    t.field('datasetVersion', {
      type: 'DatasetVersion',
      description: 'Of an IMPORT: what it made.',
      resolve: (run, _args, ctx) =>
        run.kind === 'IMPORT' ? ctx.loaders.datasets.versionByImportRun.load(run.id) : null,
    });
    t.nonNull.list.nonNull.field('checkpoints', {
      type: 'Checkpoint',
      resolve: (run, _args, ctx) => ctx.loaders.models.checkpointsByRun.load(run.id),
    });
    t.nonNull.list.nonNull.field('trainingStates', {
      type: 'TrainingState',
      description: 'What is kept of a pretraining, by step: each can be registered by registerTrainingState.',
      resolve: async (run, _args, ctx) => [...(await ctx.loaders.runs.keptStates.load(run.id))],
    });
    t.string('launchedBy', { description: 'The person who launched it; the queue rotates among people.' });
    t.int('maxDurationSeconds', { description: 'Longest time under way, over all attempts; null: no limit.' });
    t.int('microBatchSize', {
      description:
        'Images that one pass of the network takes since a run ran out of memory; the effective batch stays as it was.',
    });
    t.string('deviceId', { description: 'What carries or carried it: the UUID of a GPU, or a CPU slot of a worker.' });
    t.field('environment', { type: 'JSON', description: 'Engine, device, versions, code revision.' });
    t.nonNull.int('eventCount', {
      description: 'Events so far: the sequence of the latest one.',
      resolve: (run, _args, ctx) => ctx.loaders.runs.eventCount.load(run.id),
    });
    t.nonNull.field('queuedAt', { type: 'DateTime' });
    t.field('startedAt', { type: 'DateTime' });
    t.field('finishedAt', { type: 'DateTime' });
  },
});

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

export const CheckpointSourceRun = extendType({
  type: 'Checkpoint',
  definition(t) {
    t.field('sourceRun', {
      type: 'Run',
      description: 'The pretraining that made it; null for an imported one.',
      resolve: async (checkpoint, _args, ctx) => {
        const { sourceRunId } = await ctx.loaders.models.wholeCheckpoint(checkpoint);
        return sourceRunId === null ? null : ctx.loaders.runs.byId.load(sourceRunId);
      },
    });
  },
});

export const RunConnection = connectionType('Run');
export const RunPayload = payloadType('RunPayload', 'run', 'Run');

export const RunFilter = inputObjectType({
  name: 'RunFilter',
  definition(t) {
    t.list.nonNull.field('kinds', { type: 'RunKind' });
    t.list.nonNull.field('statuses', { type: 'RunStatus' });
  },
});

export const RunQueries = extendType({
  type: 'Query',
  definition(t) {
    t.field('run', {
      type: 'Run',
      args: { id: nonNull(idArg()) },
      resolve: async (_root, args, ctx) => (await ctx.services.runs.get(ctx.viewer, args.id)) ?? null,
    });
    t.nonNull.field('runs', {
      type: 'RunConnection',
      args: { ...pageArguments, filter: arg({ type: 'RunFilter' }) },
      resolve: (_root, args, ctx) => ctx.services.runs.list(ctx.viewer, args, args.filter ?? {}),
    });
    t.nonNull.list.nonNull.string('importRoots', {
      description: 'Folders of the server below which images and weights may be imported. For a CONTRIBUTOR.',
      resolve: (_root, _args, ctx) => [...ctx.services.runs.importRoots(ctx.viewer)],
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
      description: 'It is ended as FAILED, class TIMEOUT, when it has been under way for so long. Default: no limit.',
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

export const RunMutations = extendType({
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
    t.nonNull.field('cancelRun', {
      type: 'RunPayload',
      args: { id: nonNull(idArg()) },
      resolve: (_root, args, ctx) => settle('run', () => ctx.services.runs.cancel(ctx.viewer, args.id)),
    });
    t.nonNull.field('resumeRun', {
      type: 'RunPayload',
      description: 'A FAILED or CANCELED pretraining continues from its last checkpoint.',
      args: { id: nonNull(idArg()) },
      resolve: (_root, args, ctx) => settle('run', () => ctx.services.runs.resume(ctx.viewer, args.id)),
    });
  },
});

export const RunEvent = objectType({
  name: 'RunEvent',
  sourceType: { module: records, export: 'RunEventRecord' },
  description: 'Numbered from 1 within its run, without holes.',
  definition(t) {
    t.nonNull.int('sequence');
    t.nonNull.field('at', { type: 'DateTime' });
    t.nonNull.string('kind', { description: RUN_EVENT_KINDS.join(', ') });
    t.field('status', { type: 'RunStatus' });
    t.float('progress');
    t.string('message');
    t.field('metrics', { type: 'JSON' });
  },
});

export const RunSubscription = subscriptionType({
  definition(t) {
    t.nonNull.field('runEvents', {
      type: 'RunEvent',
      description:
        'Replays from afterSequence, then continues live until the run has ended; nothing is lost across a dropped socket.',
      args: { runId: nonNull(idArg()), afterSequence: intArg() },
      subscribe: (_root, args, ctx) => ctx.runEvents.follow(ctx.viewer, args.runId, args.afterSequence ?? 0),
      resolve: (event) => event,
    });
  },
});
