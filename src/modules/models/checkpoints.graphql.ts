/** API types of checkpoints: weights, input contract and training data. */
import path from 'node:path';
import { connectionType, pageArguments } from '../../api/connection-type.ts';
import { arg, enumType, extendType, idArg, inputObjectType, nonNull, objectType } from '../../api/nexus.ts';
import { CHANNEL_ORDERS, RESIZE_RULES, WEIGHTS_FORMATS } from './models.rules.ts';

const records = path.join(import.meta.dirname, 'models.records.ts');
const rules = path.join(import.meta.dirname, 'models.rules.ts');

export const EncoderArchitecture = enumType({
  name: 'EncoderArchitecture',
  description: "torchvision's ResNets.",
  members: ['RESNET18', 'RESNET34', 'RESNET50', 'RESNET101'],
});

export const WeightsFormat = enumType({ name: 'WeightsFormat', members: [...WEIGHTS_FORMATS] });

export const ResizeRule = enumType({
  name: 'ResizeRule',
  description: 'How an image of another size becomes imageSizePx square. Resizing is bilinear and antialiased.',
  members: [...RESIZE_RULES],
});

export const ChannelOrder = enumType({ name: 'ChannelOrder', members: [...CHANNEL_ORDERS] });

export const InputContract = objectType({
  name: 'InputContract',
  sourceType: { module: rules, export: 'InputContract' },
  description:
    'How an image becomes the input of the encoder: resize, bring pixel values to valueRange, subtract channelMean, divide by channelStd.',
  definition(t) {
    t.nonNull.int('imageSizePx');
    t.nonNull.field('resizeRule', { type: 'ResizeRule' });
    t.nonNull.field('channelOrder', { type: 'ChannelOrder' });
    t.nonNull.list.nonNull.float('valueRange', {
      description: 'Lowest and highest pixel value before mean and standard deviation are applied, e.g. [0, 1].',
    });
    t.nonNull.list.nonNull.float('channelMean', { description: 'In units of valueRange.' });
    t.nonNull.list.nonNull.float('channelStd');
    t.nonNull.string('embeddingLayer', {
      description: "torchvision's name of the layer whose output is the embedding.",
    });
    t.float('micronsPerPixelMin', {
      description: 'Finest resolution of the images that it was trained on, where known.',
    });
    t.float('micronsPerPixelMax', {
      description: 'Coarsest resolution of the images that it was trained on, where known.',
    });
  },
});

export const TrainingFactEvidence = enumType({
  name: 'TrainingFactEvidence',
  description: 'READ in the named source; SECOND_HAND: from somebody who says that they read it there.',
  members: ['READ', 'SECOND_HAND'],
});

export const TrainingFact = objectType({
  name: 'TrainingFact',
  sourceType: { module: records, export: 'TrainingFactRecord' },
  definition(t) {
    t.nonNull.string('name', { description: 'e.g. optimiser, batchSize' });
    t.string('value', { description: 'Null is unknown.' });
    t.field('evidence', { type: 'TrainingFactEvidence', description: 'Null where nothing is known.' });
    t.nonNull.list.nonNull.string('sources', { resolve: (fact) => [...fact.sources] });
  },
});

export const Checkpoint = objectType({
  name: 'Checkpoint',
  sourceType: { module: records, export: 'CheckpointSource' },
  description: "An encoder's weights with everything needed to use them. Immutable.",
  definition(t) {
    t.implements('Node');
    t.nonNull.field('model', {
      type: 'Model',
      resolve: (checkpoint, _args, ctx) => ctx.loaders.models.modelById.load(checkpoint.modelId),
    });
    t.nonNull.int('version', { description: 'Counts from 1 within its model.' });
    t.nonNull.field('encoder', { type: 'EncoderArchitecture' });
    t.nonNull.int('embeddingDim', {
      resolve: async (checkpoint, _args, ctx) => (await ctx.loaders.models.wholeCheckpoint(checkpoint)).embeddingDim,
    });
    t.nonNull.field('inputContract', {
      type: 'InputContract',
      resolve: async (checkpoint, _args, ctx) => (await ctx.loaders.models.wholeCheckpoint(checkpoint)).inputContract,
    });
    t.field('importedFrom', {
      type: 'ExternalSource',
      description: 'Null for one that was trained here.',
      resolve: async (checkpoint, _args, ctx) => (await ctx.loaders.models.wholeCheckpoint(checkpoint)).importedFrom,
    });
    t.string('publishedSlug', {
      description: 'Its name among the published checkpoints, for importCheckpoint.',
      resolve: async (checkpoint, _args, ctx) => (await ctx.loaders.models.wholeCheckpoint(checkpoint)).publishedSlug,
    });
    t.string('tensorDigest', {
      description:
        "sha256 over the encoder's tensors: equal for the same weights in whatever file, under whatever names and input contract. Null until it is computed.",
      resolve: async (checkpoint, _args, ctx) => (await ctx.loaders.models.wholeCheckpoint(checkpoint)).tensorDigest,
    });
    t.nonNull.list.nonNull.field('sameWeights', {
      type: 'Checkpoint',
      description: 'Others with the same tensors. What one of them has seen, all of them have seen.',
      resolve: async (checkpoint, _args, ctx) => {
        const { tensorDigest } = await ctx.loaders.models.wholeCheckpoint(checkpoint);
        if (tensorDigest === null) return [];
        const same = await ctx.loaders.models.sameWeightsByDigest.load(tensorDigest);
        return same.filter(({ id }) => id !== checkpoint.id);
      },
    });
    t.nonNull.boolean('isTrainingKnown', {
      description:
        'True where trainedOn is all that the weights have seen, and nothing where it is empty. False where they, or those that they began from, came from elsewhere.',
      resolve: (checkpoint, _args, ctx) => ctx.loaders.models.isTrainingKnown.load(checkpoint.id),
    });
    t.nonNull.list.nonNull.field('trainingFacts', {
      type: 'TrainingFact',
      description:
        'What is known of a training that was not done here, and what is not. Empty for one of ours: its run says everything.',
      resolve: async (checkpoint, _args, ctx) => [
        ...(await ctx.loaders.models.wholeCheckpoint(checkpoint)).trainingFacts,
      ],
    });
    t.nonNull.list.nonNull.field('trainedOn', {
      type: 'DatasetVersion',
      description: 'The versions whose images it has seen.',
      resolve: async (checkpoint, _args, ctx) => {
        const versionIds = await ctx.loaders.models.trainedOnByCheckpoint.load(checkpoint.id);
        return Promise.all(versionIds.map((id) => ctx.loaders.datasets.versionById.load(id)));
      },
    });
    t.int('step', {
      resolve: async (checkpoint, _args, ctx) => (await ctx.loaders.models.wholeCheckpoint(checkpoint)).step,
    });
    t.float('epoch', {
      resolve: async (checkpoint, _args, ctx) => (await ctx.loaders.models.wholeCheckpoint(checkpoint)).epoch,
    });
    t.field('probe', {
      type: 'CheckpointProbe',
      description: "What its own pretraining's probe said of it; null where there was none.",
      resolve: async (checkpoint, _args, ctx) => (await ctx.loaders.models.wholeCheckpoint(checkpoint)).probe,
    });
    t.string('sha256', {
      description: 'Of the stored safetensors; null while only an external source is known.',
      resolve: async (checkpoint, _args, ctx) => (await ctx.loaders.models.wholeCheckpoint(checkpoint)).sha256,
    });
    t.float('byteSize', {
      description: 'Of the stored safetensors.',
      resolve: async (checkpoint, _args, ctx) => (await ctx.loaders.models.wholeCheckpoint(checkpoint)).byteSize,
    });
    t.field('golden', {
      type: 'JSON',
      description:
        'To prove your own preparation: images (base64 of uint8 [count, imageSizePx, imageSizePx, 3]) and their embeddings ([count, embeddingDim]).',
      resolve: (checkpoint, _args, ctx) => ctx.loaders.models.goldenByCheckpoint.load(checkpoint.id),
    });
    t.nonNull.field('createdAt', {
      type: 'DateTime',
      resolve: async (checkpoint, _args, ctx) => (await ctx.loaders.models.wholeCheckpoint(checkpoint)).createdAt,
    });
  },
});

export const CheckpointConnection = connectionType('Checkpoint');

export const CheckpointFilter = inputObjectType({
  name: 'CheckpointFilter',
  definition(t) {
    t.field('encoder', { type: 'EncoderArchitecture' });
    t.string('modelSlug');
    t.id('sourceRunId');
    t.id('trainedOnDatasetId', { description: 'Any version of it.' });
    t.id('trainedOnDatasetVersionId');
    t.boolean('published', {
      description: 'True: those of the catalogue of published checkpoints alone; false: all others.',
    });
    t.string('sha256', {
      description: 'Of its safetensors, or of a file that was made of them: finds what a file on disk is.',
    });
  },
});

export const CheckpointQueries = extendType({
  type: 'Query',
  definition(t) {
    t.field('checkpoint', {
      type: 'Checkpoint',
      args: { id: nonNull(idArg()) },
      resolve: async (_root, args, ctx) => (await ctx.services.models.getCheckpoint(ctx.viewer, args.id)) ?? null,
    });
    t.nonNull.field('checkpoints', {
      type: 'CheckpointConnection',
      description: 'Newest first.',
      args: { ...pageArguments, filter: arg({ type: 'CheckpointFilter' }) },
      resolve: (_root, args, ctx) => ctx.services.models.listCheckpoints(ctx.viewer, args, args.filter ?? {}),
    });
  },
});
