/** API types and fields of workers. */
import path from 'node:path';
import { arg, extendType, nonNull, objectType, stringArg } from '../../api/nexus.ts';
import { settle } from '../../api/payload.ts';
import { describeCapabilities } from '../../protocol/requirements.ts';
import { isAlive, obstacleOf } from './workers.rules.ts';

const records = path.join(import.meta.dirname, 'workers.records.ts');

export const Worker = objectType({
  name: 'Worker',
  sourceType: { module: records, export: 'WorkerRecord' },
  description: 'A program on some machine that executes runs.',
  definition(t) {
    t.nonNull.id('id', { description: 'Its name.', resolve: (worker) => worker.name });
    t.nonNull.string('name');
    t.nonNull.string('version', { resolve: (worker) => worker.programVersion });
    t.nonNull.list.nonNull.field('kinds', {
      type: 'RunKind',
      description: 'The kinds of runs that it takes.',
      resolve: (worker) => [...worker.kinds],
    });
    t.nonNull.list.nonNull.string('devices', {
      description: 'UUIDs of GPUs, or CPU slots; each takes one training or evaluation at a time.',
      resolve: (worker) => [...worker.deviceIds],
    });
    t.nonNull.list.nonNull.field('places', {
      type: 'WorkerPlace',
      description: 'Empty for a worker that carries only the run that it was given.',
      resolve: (worker) => [...worker.places],
    });
    t.nonNull.boolean('isAlive', {
      description: 'Whether it was heard in the last minute.',
      resolve: (worker) => isAlive(worker, Date.now()),
    });
    t.nonNull.boolean('isDraining', { description: 'It takes no more runs, and ends those that it has.' });
    t.nonNull.field('firstSeenAt', { type: 'DateTime' });
    t.nonNull.field('lastHeardAt', {
      type: 'DateTime',
      description: 'When it last asked for a run, or renewed the lease of one.',
    });
    t.nonNull.list.nonNull.field('runs', {
      type: 'Run',
      description: 'The runs that it holds.',
      resolve: async (worker, _args, ctx) => {
        const runs = await Promise.all(worker.runIds.map((id) => ctx.loaders.runs.byId.load(id)));
        return runs.filter((run) => run !== null);
      },
    });
  },
});

export const RunObstacle = extendType({
  type: 'Run',
  definition(t) {
    t.string('obstacle', {
      description:
        'Why no living worker can take a queued run, such as "needs bfloat16: workers a, b have no AVX-512 or GPU". Null if one can, if the run is not queued, or if it has jobs on a cluster, which say themselves why they wait.',
      resolve: async (run, _args, ctx) => {
        if (run.status !== 'QUEUED' || (await ctx.loaders.placements.byRun.load(run.id)).length > 0) return null;
        return obstacleOf(run, await ctx.loaders.workers.all(), Date.now());
      },
    });
  },
});

export const WorkerCapabilities = objectType({
  name: 'WorkerCapabilities',
  description: 'What a place of a worker has; it takes the runs whose requirements this meets.',
  definition(t) {
    t.nonNull.string('sentence', {
      description: 'Such as "GPU of 80 GiB, bfloat16, 64 GiB of memory, labels a100 and basel".',
    });
    t.nonNull.field('device', { type: 'DeviceKind' });
    t.nonNull.boolean('bfloat16');
    t.nonNull.int('memoryMiB');
    t.int('gpuMemoryMiB');
    t.int('longestSeconds', {
      description: 'It takes only runs whose maxDurationSeconds is at most this; null: any run.',
    });
    t.nonNull.list.nonNull.string('labels');
  },
});

export const WorkerPlace = objectType({
  name: 'WorkerPlace',
  sourceType: { module: records, export: 'WorkerPlace' },
  description: 'Where a worker runs one run at a time.',
  definition(t) {
    t.nonNull.list.nonNull.field('kinds', { type: 'RunKind', resolve: (place) => [...place.kinds] });
    t.nonNull.field('capabilities', {
      type: 'WorkerCapabilities',
      resolve: ({ capabilities }) => ({
        ...capabilities,
        labels: [...capabilities.labels],
        sentence: describeCapabilities(capabilities),
      }),
    });
  },
});

export const WorkerPayload = objectType({
  name: 'WorkerPayload',
  definition(t) {
    t.field('worker', { type: 'Worker' });
    t.nonNull.list.nonNull.field('userErrors', { type: 'UserError' });
  },
});

export const WorkerQueries = extendType({
  type: 'Query',
  definition(t) {
    t.nonNull.list.nonNull.field('workers', {
      type: 'Worker',
      description: 'Every worker that was heard in the last week, by name.',
      resolve: (_root, _args, ctx) => ctx.services.workers.list(ctx.viewer),
    });
  },
});

export const WorkerMutations = extendType({
  type: 'Mutation',
  definition(t) {
    t.nonNull.field('drainWorker', {
      type: 'WorkerPayload',
      description:
        'A draining worker takes no more runs, and ends those that it has. isDraining false lets it take runs again.',
      args: { name: nonNull(stringArg()), isDraining: nonNull(arg({ type: 'Boolean' })) },
      resolve: (_root, { name, isDraining }, ctx) =>
        settle('worker', () => ctx.services.workers.drain(ctx.viewer, name, isDraining)),
    });
  },
});
