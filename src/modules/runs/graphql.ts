/** API types and fields of runs: status, metrics and events. */
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
import { configShownTo, METRIC_POINTS_DEFAULT } from './runs.rules.ts';
import { RUN_EVENT_KINDS } from './runs.records.ts';
import { explanationOf } from '../../protocol/pretraining/config.ts';
import { describeMethod, methodNameIn } from '../../protocol/pretraining/methods/index.ts';
import { RUN_KINDS } from '../../protocol/runs.ts';

export * from './imports.graphql.ts';
export * from './pretraining.graphql.ts';
export * from './requirements.graphql.ts';

const records = path.join(import.meta.dirname, 'runs.records.ts');

export const RunKind = enumType({ name: 'RunKind', members: [...RUN_KINDS] });

export const RunStatus = enumType({
  name: 'RunStatus',
  members: ['QUEUED', 'RUNNING', 'CANCELING', 'SUCCEEDED', 'FAILED', 'CANCELED'],
});

export const FailureClass = enumType({
  name: 'FailureClass',
  members: ['USER', 'DATA', 'OUT_OF_MEMORY', 'INFRASTRUCTURE', 'TIMEOUT', 'INTERNAL'],
});

export const RunFailure = objectType({
  name: 'RunFailure',
  definition(t) {
    t.nonNull.field('class', {
      type: 'FailureClass',
      description:
        'Cause of a failure: the request, the data, memory, the infrastructure, a time limit, or an internal error.',
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
      description: 'One line with the inputs and the output, by their names at launch.',
    });
    t.nonNull.field('config', {
      type: 'JSON',
      description:
        'Frozen at launch, with all defaults and the seed. With a budget, the values that depend on the speed of the device are filled in when the run starts. Only a CONTRIBUTOR sees whole paths of the server; others see the last part.',
      resolve: (run, _args, ctx) => configShownTo(ctx.viewer, run.config),
    });
    t.nonNull.list.nonNull.string('explanation', {
      description: 'Sentences that explain the steps, image size, precision and optimizer of a pretraining.',
      resolve: (run) => (run.kind === 'PRETRAINING' ? explanationOf(run.config) : []),
    });
    t.nonNull.int('attempt');
    t.nonNull.float('progress', { description: '0..1' });
    t.int('queuePosition', {
      description: '1 for the next run to start; null for a run that is not queued.',
      resolve: (run, _args, ctx) => (run.status === 'QUEUED' ? ctx.loaders.runs.queuePosition.load(run.id) : null),
    });
    t.field('failure', { type: 'RunFailure' });
    t.nonNull.list.nonNull.field('metrics', {
      type: 'MetricSeries',
      description:
        'A series of more than maxPoints is reduced to the lowest and highest point of equal sections, so that a plot shows every spike. Select fewer steps to get every point. Of a series of more than about 24,000 points, the last 16,000 are kept, and of every 512 older ones the first, last, lowest and highest.',
      args: {
        names: list(nonNull(stringArg())),
        maxPoints: intArg({
          default: METRIC_POINTS_DEFAULT,
          description: 'Largest number of points of each series, 10 to 100000.',
        }),
        fromStep: intArg(),
        toStep: intArg({ description: 'Inclusive.' }),
      },
      resolve: async (run, { names, ...window }, ctx) => [
        ...(await ctx.services.runs.metrics(ctx.viewer, run.id, names ?? null, window)),
      ],
    });
    t.nonNull.list.nonNull.field('watchedSeries', {
      type: 'WatchedSeries',
      description:
        'What the method of a PRETRAINING watches beside the series that all of them have; none for other kinds.',
      resolve: ({ kind, config }) => (kind === 'PRETRAINING' ? [...describeMethod(methodNameIn(config)).series] : []),
    });
    t.field('datasetVersion', {
      type: 'DatasetVersion',
      description: 'The version that an IMPORT created.',
      resolve: (run, _args, ctx) =>
        run.kind === 'IMPORT' ? ctx.loaders.datasets.versionByImportRun.load(run.id) : null,
    });
    t.nonNull.list.nonNull.field('checkpoints', {
      type: 'Checkpoint',
      resolve: (run, _args, ctx) => ctx.loaders.models.checkpointsByRun.load(run.id),
    });
    t.nonNull.list.nonNull.field('trainingStates', {
      type: 'TrainingState',
      description: 'The kept states of a pretraining, by step; registerTrainingState makes a checkpoint of one.',
      resolve: async (run, _args, ctx) => [...(await ctx.loaders.runs.keptStates.load(run.id))],
    });
    t.string('launchedBy', { description: 'The person who launched the run. The queue rotates among people.' });
    t.int('maxDurationSeconds', { description: 'Longest running time, over all attempts; null: no limit.' });
    t.nonNull.float('busySeconds', {
      description: 'Running time so far, over all attempts since the launch or the last resume.',
    });
    t.int('microBatchSize', {
      description:
        'Images in one pass of the network after the run ran out of memory; the effective batch size is unchanged. Null otherwise.',
    });
    t.string('deviceId', {
      description: 'The device that runs or ran it: the UUID of a GPU, or a CPU slot of a worker.',
    });
    t.field('environment', { type: 'JSON', description: 'Engine, device, versions, code revision.' });
    t.nonNull.int('eventCount', {
      description: 'The sequence of the latest event.',
      resolve: (run, _args, ctx) => ctx.loaders.runs.eventCount.load(run.id),
    });
    t.nonNull.field('queuedAt', { type: 'DateTime' });
    t.field('startedAt', { type: 'DateTime' });
    t.field('finishedAt', { type: 'DateTime' });
  },
});

export const CheckpointSourceRun = extendType({
  type: 'Checkpoint',
  definition(t) {
    t.field('sourceRun', {
      type: 'Run',
      description: 'The pretraining that made the checkpoint; null if it was imported.',
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
      description: 'Folders of the server below which images and weights may be imported; visible to a CONTRIBUTOR.',
      resolve: (_root, _args, ctx) => [...ctx.services.runs.importRoots(ctx.viewer)],
    });
  },
});

export const RunMutations = extendType({
  type: 'Mutation',
  definition(t) {
    t.nonNull.field('cancelRun', {
      type: 'RunPayload',
      args: { id: nonNull(idArg()) },
      resolve: (_root, args, ctx) => settle('run', () => ctx.services.runs.cancel(ctx.viewer, args.id)),
    });
    t.nonNull.field('resumeRun', {
      type: 'RunPayload',
      description: 'Continues a FAILED or CANCELED pretraining from its last kept state.',
      args: { id: nonNull(idArg()) },
      resolve: (_root, args, ctx) => settle('run', () => ctx.services.runs.resume(ctx.viewer, args.id)),
    });
  },
});

export const RunEvent = objectType({
  name: 'RunEvent',
  sourceType: { module: records, export: 'RunEventRecord' },
  description:
    'An event of a run. Its sequence is its number within the run, from 1. The last 1,000 events are all kept; of every 500 older ones that differ only in numbers, the last one.',
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
        'Replays the kept events after afterSequence, then continues live until the run has ended. A client that reconnects misses none of the last 1,000 events.',
      args: { runId: nonNull(idArg()), afterSequence: intArg() },
      subscribe: (_root, args, ctx) => ctx.runEvents.follow(ctx.viewer, args.runId, args.afterSequence ?? 0),
      resolve: (event) => event,
    });
  },
});
