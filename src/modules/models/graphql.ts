/** API types and fields of models and aliases. */
import path from 'node:path';
import { connectionType, pageArguments } from '../../api/connection-type.ts';
import { arg, extendType, idArg, inputObjectType, nonNull, objectType, stringArg } from '../../api/nexus.ts';
import { payloadType, settle } from '../../api/payload.ts';

export * from './checkpoint-imports.graphql.ts';
export * from './checkpoints.graphql.ts';
export * from './probe.graphql.ts';

const records = path.join(import.meta.dirname, 'models.records.ts');

export const Model = objectType({
  name: 'Model',
  sourceType: { module: records, export: 'ModelRecord' },
  description: 'A named series of encoders; its checkpoints are its versions.',
  definition(t) {
    t.implements('Node');
    t.nonNull.string('slug');
    t.nonNull.string('name');
    t.string('description');
    t.string('licence');
    t.nonNull.field('createdAt', { type: 'DateTime' });
    t.nonNull.list.nonNull.field('aliases', {
      type: 'ModelAlias',
      resolve: async (model, _args, ctx) => [...(await ctx.loaders.models.aliasesByModel.load(model.id))],
    });
    t.nonNull.field('checkpoints', {
      type: 'CheckpointConnection',
      description: 'Newest first.',
      args: pageArguments,
      resolve: (model, args, ctx) =>
        args.after == null
          ? ctx.loaders.models.firstCheckpointsOfModel(model.id, args)
          : ctx.services.models.listCheckpointsOfModel(ctx.viewer, args, model.id),
    });
  },
});

export const ModelAlias = objectType({
  name: 'ModelAlias',
  sourceType: { module: records, export: 'ModelAliasRecord' },
  description: 'A name for one checkpoint of a model that can be moved to another, e.g. champion.',
  definition(t) {
    t.nonNull.string('name');
    t.nonNull.field('checkpoint', {
      type: 'Checkpoint',
      resolve: (alias, _args, ctx) => ctx.loaders.models.mentionedById.load(alias.checkpointId),
    });
    t.nonNull.field('updatedAt', { type: 'DateTime' });
  },
});

export const ModelConnection = connectionType('Model');

export const ModelPayload = payloadType('ModelPayload', 'model', 'Model');

export const ModelFilter = inputObjectType({
  name: 'ModelFilter',
  definition(t) {
    t.string('search', { description: 'Part of a slug or name; case is ignored.' });
  },
});

export const ModelQueries = extendType({
  type: 'Query',
  definition(t) {
    t.field('model', {
      type: 'Model',
      description: 'By exactly one of id and slug.',
      args: { id: idArg(), slug: stringArg() },
      resolve: async (_root, args, ctx) => (await ctx.services.models.get(ctx.viewer, args)) ?? null,
    });
    t.nonNull.field('models', {
      type: 'ModelConnection',
      description: 'Newest first.',
      args: { ...pageArguments, filter: arg({ type: 'ModelFilter' }) },
      resolve: (_root, args, ctx) => ctx.services.models.list(ctx.viewer, args, args.filter ?? {}),
    });
  },
});

export const CreateModelInput = inputObjectType({
  name: 'CreateModelInput',
  definition(t) {
    t.nonNull.string('slug', { description: 'Lower-case words joined by hyphens.' });
    t.nonNull.string('name');
    t.string('description');
    t.string('licence');
  },
});

export const SetModelAliasInput = inputObjectType({
  name: 'SetModelAliasInput',
  description: 'Give one of modelId and modelSlug.',
  definition(t) {
    t.id('modelId');
    t.string('modelSlug');
    t.nonNull.string('name', { description: 'Lower-case words joined by hyphens, e.g. champion.' });
    t.id('checkpointId', { description: 'A checkpoint of the model; null removes the alias.' });
  },
});

export const ModelMutations = extendType({
  type: 'Mutation',
  definition(t) {
    t.nonNull.field('createModel', {
      type: 'ModelPayload',
      args: { input: nonNull(arg({ type: 'CreateModelInput' })) },
      resolve: (_root, args, ctx) => settle('model', () => ctx.services.models.create(ctx.viewer, args.input)),
    });
    t.nonNull.field('setModelAlias', {
      type: 'ModelPayload',
      description: 'Sets or moves an alias to a checkpoint, atomically; without a checkpoint it removes the alias.',
      args: { input: nonNull(arg({ type: 'SetModelAliasInput' })) },
      resolve: (_root, args, ctx) => settle('model', () => ctx.services.models.setAlias(ctx.viewer, args.input)),
    });
  },
});
