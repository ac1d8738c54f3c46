/** Embeddings in the API. */
import path from 'node:path';
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
} from '../../api/nexus.ts';
import { settle } from '../../api/payload.ts';
import { EmbeddingSource as sources } from '../../generated/prisma/enums.ts';

const records = path.join(import.meta.dirname, 'embeddings.records.ts');

export const EmbeddingSource = enumType({
  name: 'EmbeddingSource',
  description:
    'CHECKPOINT: registered weights. RANDOM_ENCODER: the same architecture, freshly initialised. COLOUR_STATISTICS: means, standard deviations and histograms of colour.',
  members: Object.values(sources),
});

export const EmbeddingSet = objectType({
  name: 'EmbeddingSet',
  sourceType: { module: records, export: 'EmbeddingSetRecord' },
  description:
    'The embeddings of every image of a dataset version, made by launchEmbedding or by the first evaluation that needed them. Immutable.',
  definition(t) {
    t.nonNull.id('id');
    t.nonNull.field('source', { type: 'EmbeddingSource' });
    t.field('checkpoint', {
      type: 'Checkpoint',
      description: 'The oldest checkpoint with the weights of the encoder; null for a baseline.',
      resolve: ({ source, encoderDigest }, _args, ctx) =>
        source === 'CHECKPOINT' ? ctx.loaders.models.firstWithWeights.load(encoderDigest) : null,
    });
    t.nonNull.string('encoderDigest', { description: "sha256 of the encoder's weights: Checkpoint.sha256." });
    t.nonNull.string('datasetDigest', { description: 'DatasetVersion.digest.' });
    t.nonNull.string('preparationDigest', {
      description: 'sha256 over the preprocessing fields of the input contract.',
    });
    t.nonNull.int('imageCount');
    t.nonNull.int('embeddingDim');
    t.nonNull.string('sha256', { description: 'Sha256 of the .npy file.' });
    t.nonNull.float('byteSize');
    t.nonNull.string('npyUrl', {
      description: 'float32 [imageCount, embeddingDim]; numpy.load reads it.',
      resolve: (set) => `/embeddings/${set.id}.npy`,
    });
    t.nonNull.string('idsUrl', {
      description: 'CSV with a line for each row: key, label, group, split, sourcePath.',
      resolve: (set) => `/embeddings/${set.id}.csv`,
    });
    t.nonNull.field('createdAt', { type: 'DateTime' });
  },
});

export const CheckpointEmbeddings = extendType({
  type: 'Checkpoint',
  definition(t) {
    t.nonNull.list.nonNull.field('embeddings', {
      type: 'EmbeddingSet',
      description: 'Embeddings that were computed with these weights, newest first.',
      resolve: async (checkpoint, _args, ctx) => {
        const { sha256 } = await ctx.loaders.models.wholeCheckpoint(checkpoint);
        return sha256 === null ? [] : ctx.services.embeddings.ofEncoder(ctx.viewer, sha256);
      },
    });
    t.field('embeddingsOf', {
      type: 'EmbeddingSet',
      description:
        'The embeddings of the images of a version, prepared as inputContract says. Null: not made yet; launchEmbedding makes them.',
      args: { datasetVersionId: nonNull(idArg()) },
      resolve: async ({ id }, { datasetVersionId }, ctx) =>
        (await ctx.services.embeddings.ofCheckpointOn(ctx.viewer, id, datasetVersionId)) ?? null,
    });
  },
});

export const LaunchEmbeddingInput = inputObjectType({
  name: 'LaunchEmbeddingInput',
  definition(t) {
    t.nonNull.id('checkpointId');
    t.nonNull.id('datasetVersionId', { description: 'A sealed version; labels are not needed.' });
    t.int('maxDurationSeconds', {
      description: 'Longest running time; after it the run is FAILED with class TIMEOUT. Default: no limit.',
    });
    t.field('requirements', { type: 'RunRequirementsInput', description: 'Default: nothing.' });
    t.string('idempotencyKey', { description: 'The same key with the same input returns the same run.' });
  },
});

export const EmbeddingMutations = extendType({
  type: 'Mutation',
  definition(t) {
    t.nonNull.field('launchEmbedding', {
      type: 'RunPayload',
      description:
        'Embeds every image of a version and stores the set, which Checkpoint.embeddingsOf then returns. A set that is stored is not made again.',
      args: { input: nonNull(arg({ type: 'LaunchEmbeddingInput' })) },
      resolve: (_root, args, ctx) => settle('run', () => ctx.services.embeddings.launch(ctx.viewer, args.input)),
    });
  },
});

export const DatasetVersionEmbeddings = extendType({
  type: 'DatasetVersion',
  definition(t) {
    t.nonNull.list.nonNull.field('embeddings', {
      type: 'EmbeddingSet',
      description: 'Embeddings by every encoder that was evaluated on the version, and by the baselines; newest first.',
      resolve: (version, _args, ctx) =>
        version.digest === null ? [] : ctx.services.embeddings.ofDataset(ctx.viewer, version.digest),
    });
    t.field('slideSimilarity', {
      type: list('Float'),
      description:
        'The cosine of the embedding of one patch of a slide with that of each of its patches, -1..1, in the order of slidePatches; null for an embedding of length 0. Rounded to four places.',
      args: {
        position: nonNull(intArg({ description: 'Of the slide, from 0.' })),
        patch: nonNull(intArg({ description: 'From 0, in the order of slidePatches.' })),
        embeddingSetId: nonNull(idArg({ description: 'One of embeddings.' })),
      },
      resolve: async (version, args, ctx) =>
        (await ctx.services.embeddings.slideSimilarity(ctx.viewer, { versionId: version.id, ...args })) ?? null,
    });
  },
});
