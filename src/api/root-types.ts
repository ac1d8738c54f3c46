/** GraphQL types that belong to no module: Node, and information about the server. */
import { authorise } from '../modules/access/index.ts';
import { extendType, idArg, interfaceType, nonNull, objectType } from './nexus.ts';

export const Node = interfaceType({
  name: 'Node',
  description: 'An object with an id. Ids are opaque.',
  resolveType: (node) => {
    // Records have no type name, but each kind has a field that the others do not have.
    if ('inputContract' in node) return 'Checkpoint';
    if ('datasetVersionId' in node) return 'Evaluation';
    if ('queuedAt' in node) return 'Run';
    if ('labelNames' in node) return 'DatasetVersion';
    if ('provenance' in node) return 'Dataset';
    return 'Model';
  },
  definition(t) {
    t.nonNull.id('id');
  },
});

export const EngineInfo = objectType({
  name: 'EngineInfo',
  definition(t) {
    t.nonNull.string('library');
    t.nonNull.string('version');
    t.nonNull.string('device');
  },
});

export const RegistryCounts = objectType({
  name: 'RegistryCounts',
  definition(t) {
    t.nonNull.int('datasets');
    t.nonNull.int('models');
    t.nonNull.int('checkpoints');
    t.nonNull.int('runs');
    t.nonNull.int('evaluations');
  },
});

export const ServerInfo = objectType({
  name: 'ServerInfo',
  definition(t) {
    t.nonNull.string('version');
    t.nonNull.field('startedAt', { type: 'DateTime' });
    t.nonNull.string('database', { description: 'e.g. PostgreSQL 18.4.' });
    t.field('engine', { type: 'EngineInfo', description: 'Null while the engine is missing.' });
    t.string('engineHint', { description: 'The command that installs a missing engine.' });
    t.nonNull.field('counts', {
      type: 'RegistryCounts',
      description: 'Numbers of objects; counted only when selected.',
      resolve: async (_server, _args, { services, viewer }) => {
        const one = { first: 1 };
        const [datasets, models, checkpoints, runs, evaluations] = await Promise.all([
          services.datasets.list(viewer, one, {}, null).then((page) => page.totalCount()),
          services.models.list(viewer, one, {}).then((page) => page.totalCount()),
          services.models.listCheckpoints(viewer, one, {}).then((page) => page.totalCount()),
          services.runs.list(viewer, one, {}).then((page) => page.totalCount()),
          services.evaluations.list(viewer, one, {}).then((page) => page.totalCount()),
        ]);
        return { datasets, models, checkpoints, runs, evaluations };
      },
    });
  },
});

export const RootQueries = extendType({
  type: 'Query',
  definition(t) {
    t.field('node', {
      type: 'Node',
      args: { id: nonNull(idArg()) },
      resolve: async (_root, { id }, { services, viewer }) =>
        (await services.datasets.get(viewer, { id })) ??
        (await services.datasets.getVersion(viewer, id)) ??
        (await services.models.get(viewer, { id })) ??
        (await services.models.getCheckpoint(viewer, id)) ??
        (await services.runs.get(viewer, id)) ??
        (await services.evaluations.get(viewer, id)) ??
        null,
    });
    t.nonNull.field('server', {
      type: 'ServerInfo',
      resolve: async (_root, _args, { server, viewer }) => {
        authorise(viewer, 'READER');
        return {
          version: server.version,
          startedAt: server.startedAt,
          database: `PostgreSQL ${await server.databaseVersion()}`,
          engine: server.engine(),
          engineHint: server.engineHint(),
        };
      },
    });
  },
});
