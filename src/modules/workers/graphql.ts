/** API types and fields of workers. */
import path from 'node:path';
import { arg, extendType, nonNull, objectType, stringArg } from '../../api/nexus.ts';
import { settle } from '../../api/payload.ts';

const records = path.join(import.meta.dirname, 'workers.records.ts');

/** A worker asks every 20 s, and renews every second. */
const ALIVE_MS = 60_000;

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
    t.nonNull.boolean('isAlive', {
      description: 'Whether it was heard in the last minute.',
      resolve: (worker) => Date.now() - worker.lastHeardAt.getTime() < ALIVE_MS,
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
