/** Deletions in the API. */
import path from 'node:path';
import { connectionType, pageArguments } from '../../api/connection-type.ts';
import { arg, enumType, extendType, idArg, inputObjectType, nonNull, objectType } from '../../api/nexus.ts';
import { payloadType, settle } from '../../api/payload.ts';
import { DELETABLE_KINDS, type DeletableKind } from './index.ts';

export const TombstoneKind = enumType({ name: 'TombstoneKind', members: [...DELETABLE_KINDS] });

export const Tombstone = objectType({
  name: 'Tombstone',
  sourceType: { module: path.join(import.meta.dirname, 'deletions.rules.ts'), export: 'TombstoneRecord' },
  description:
    'The record of a deletion: who, when, why, and the digest of the deleted bytes. Never changed or removed.',
  definition(t) {
    t.nonNull.id('id', { description: 'Id of the deleted object; never used again.' });
    t.nonNull.field('kind', { type: 'TombstoneKind' });
    t.nonNull.string('name', {
      description: 'Name of the deleted object, e.g. "tissue-encoder version 3". The number is not used again.',
    });
    t.string('digest', { description: "sha256 of a checkpoint's weights, digest of a dataset version." });
    t.nonNull.string('reason');
    t.nonNull.string('deletedBy', { description: 'Owner of the key that requested the deletion.' });
    t.nonNull.field('deletedAt', { type: 'DateTime' });
  },
});

export const TombstoneConnection = connectionType('Tombstone');
export const TombstonePayload = payloadType('TombstonePayload', 'tombstone', 'Tombstone');

export const DeleteInput = inputObjectType({
  name: 'DeleteInput',
  definition(t) {
    t.nonNull.id('id');
    t.nonNull.string('reason', { description: 'Reason of the deletion; kept permanently.' });
  },
});

export const DeletionQueries = extendType({
  type: 'Query',
  definition(t) {
    t.field('tombstone', {
      type: 'Tombstone',
      description: 'The tombstone of a deleted object, by its id.',
      args: { id: nonNull(idArg()) },
      resolve: async (_root, args, ctx) => (await ctx.services.deletions.get(ctx.viewer, args.id)) ?? null,
    });
    t.nonNull.field('tombstones', {
      type: 'TombstoneConnection',
      description: 'Newest first.',
      args: pageArguments,
      resolve: (_root, args, ctx) => ctx.services.deletions.list(ctx.viewer, args),
    });
  },
});

const MUTATIONS: readonly (readonly [string, DeletableKind, string])[] = [
  ['deleteDataset', 'DATASET', 'A dataset without versions that is not part of the catalogue.'],
  ['deleteDatasetVersion', 'DATASET_VERSION', 'A version from which nothing was made.'],
  ['deleteModel', 'MODEL', 'A model without checkpoints.'],
  [
    'deleteCheckpoint',
    'CHECKPOINT',
    'A checkpoint without evaluations and aliases, from which none was trained; with its exported files.',
  ],
  [
    'deleteRun',
    'RUN',
    'A run that has ended and made no checkpoint, version or exported file; with it, the evaluation that it made.',
  ],
];

export const DeletionMutations = extendType({
  type: 'Mutation',
  definition(t) {
    for (const [name, kind, description] of MUTATIONS) {
      t.nonNull.field(name, {
        type: 'TombstonePayload',
        description: `${description} Refused with CONFLICT if another object needs it. Bytes that no other object refers to are deleted by the next garbage collection.`,
        args: { input: nonNull(arg({ type: 'DeleteInput' })) },
        resolve: (_root, args, ctx) =>
          settle('tombstone', () => ctx.services.deletions.delete(ctx.viewer, kind, args.input)),
      });
    }
  },
});
