/** API types of checkpoints: weights, input contract and training data. */
import path from 'node:path';
import { connectionType, pageArguments } from '../../api/connection-type.ts';
import { arg, enumType, extendType, idArg, inputObjectType, nonNull, objectType } from '../../api/nexus.ts';
import {
  describeEncoder,
  NAMED_ENCODERS,
  parameterCountOf,
  POOLINGS,
  WEIGHTS_DTYPES,
} from '../../formats/encoders/index.ts';
import { WEIGHTS_FORMATS } from './models.rules.ts';
import { precisionSentence } from './precision.rules.ts';
import { CHANNEL_ORDERS, INTERPOLATIONS, RESIZE_RULES } from '../../protocol/checkpoint.ts';

const records = path.join(import.meta.dirname, 'models.records.ts');
const rules = path.join(import.meta.dirname, '../../protocol/checkpoint.ts');

export const EncoderArchitecture = enumType({
  name: 'EncoderArchitecture',
  description:
    "The encoders that can be trained: torchvision's ResNets, and timm's ViT-Ti, S and B with patches of 16 px. OTHER: any other encoder; Checkpoint.architecture says which.",
  members: [...NAMED_ENCODERS, 'OTHER'],
});

export const CheckpointArchitecture = objectType({
  name: 'CheckpointArchitecture',
  sourceType: { module: records, export: 'CheckpointRecord' },
  description: 'The network of an encoder.',
  definition(t) {
    t.nonNull.string('family', {
      description: 'RESNET (residual networks) or VIT (vision transformers).',
      resolve: ({ architecture }) => architecture.family,
    });
    t.nonNull.string('name', {
      description: 'e.g. RESNET18 or VIT_B14_REG4.',
      resolve: ({ architecture }) => describeEncoder(architecture).name,
    });
    t.nonNull.float('parameterCount', {
      description: 'Numbers that a training changes, without any head.',
      resolve: ({ architecture }) => parameterCountOf(describeEncoder(architecture)),
    });
    t.nonNull.field('specification', {
      type: 'JSON',
      description: 'Everything that is needed to build the network, as its family names it.',
      resolve: ({ architecture }) => architecture.specification,
    });
  },
});

export const WeightsFormat = enumType({ name: 'WeightsFormat', members: [...WEIGHTS_FORMATS] });

export const ResizeRule = enumType({
  name: 'ResizeRule',
  description: 'How an image of another size is brought to a square of imageSizePx. Resizing is antialiased.',
  members: [...RESIZE_RULES],
});

export const Interpolation = enumType({
  name: 'Interpolation',
  description: 'How pixels are interpolated when an image is resized, always antialiased.',
  members: [...INTERPOLATIONS],
});

export const Pooling = enumType({
  name: 'Pooling',
  description:
    'How the output of a network becomes one embedding. AVGPOOL: the mean over the pixels of the last feature map. CLS: the class token. MEAN: the mean of the patch tokens. CLS_AND_MEAN: both, one behind the other.',
  members: [...POOLINGS],
});

export const WeightsDtype = enumType({
  name: 'WeightsDtype',
  description: 'A dtype of stored weights. Embeddings are always computed in float32.',
  members: [...WEIGHTS_DTYPES],
});

export const WeightsRounding = objectType({
  name: 'WeightsRounding',
  description: 'How far rounding the weights to a dtype moves the golden embedding.',
  definition(t) {
    t.nonNull.field('dtype', { type: 'WeightsDtype' });
    t.float('maxRelativeDifference', {
      description:
        "Largest difference of a component, divided by the embedding's root mean square. Null if the rounded weights give no finite embedding.",
    });
  },
});

export const WeightsPrecision = objectType({
  name: 'WeightsPrecision',
  definition(t) {
    t.nonNull.field('dtype', {
      type: 'WeightsDtype',
      description: 'The least precise dtype in which a weight is stored, as it was imported.',
    });
    t.list.nonNull.field('rounding', {
      type: 'WeightsRounding',
      description:
        'Of float32 weights for each narrower dtype, by rounding them. Of others for their own dtype, with weights drawn from those that round to the stored ones. Null until it is measured.',
    });
    t.nonNull.string('sentence', { description: 'The same in words.' });
  },
});

export const ChannelOrder = enumType({ name: 'ChannelOrder', members: [...CHANNEL_ORDERS] });

export const InputContract = objectType({
  name: 'InputContract',
  sourceType: { module: rules, export: 'InputContract' },
  description:
    'How an image is preprocessed for the encoder: resize, scale pixel values to valueRange, subtract channelMean, divide by channelStd.',
  definition(t) {
    t.nonNull.int('imageSizePx');
    t.nonNull.field('resizeRule', { type: 'ResizeRule' });
    t.nonNull.field('interpolation', { type: 'Interpolation' });
    t.nonNull.field('channelOrder', { type: 'ChannelOrder' });
    t.nonNull.list.nonNull.float('valueRange', {
      description: 'Lowest and highest pixel value before mean and standard deviation are applied, e.g. [0, 1].',
    });
    t.nonNull.list.nonNull.float('channelMean', { description: 'In the units of valueRange.' });
    t.nonNull.list.nonNull.float('channelStd');
    t.nonNull.string('embeddingLayer', {
      description:
        "Name of the layer from which the embedding comes: avgpool of torchvision's ResNets, whose output it is; norm of timm's vision transformers, whose output is pooled.",
    });
    t.nonNull.field('pooling', { type: 'Pooling' });
    t.nonNull.field('weightsDtype', {
      type: 'WeightsDtype',
      description: 'The least precise dtype in which a weight is stored.',
    });
    t.float('micronsPerPixelMin', {
      description: 'Finest resolution of the training images, if known.',
    });
    t.float('micronsPerPixelMax', {
      description: 'Coarsest resolution of the training images, if known.',
    });
  },
});

export const TrainingFactEvidence = enumType({
  name: 'TrainingFactEvidence',
  description: 'READ: read in the named source. SECOND_HAND: from another source that cites it.',
  members: ['READ', 'SECOND_HAND'],
});

export const TrainingFact = objectType({
  name: 'TrainingFact',
  sourceType: { module: records, export: 'TrainingFactRecord' },
  definition(t) {
    t.nonNull.string('name', { description: 'e.g. optimiser, batchSize' });
    t.string('value', { description: 'Null if unknown.' });
    t.field('evidence', { type: 'TrainingFactEvidence', description: 'Null if unknown.' });
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
    t.nonNull.int('version', { description: 'Number within the model, from 1.' });
    t.nonNull.field('encoder', { type: 'EncoderArchitecture' });
    t.nonNull.field('architecture', {
      type: 'CheckpointArchitecture',
      resolve: (checkpoint, _args, ctx) => ctx.loaders.models.wholeCheckpoint(checkpoint),
    });
    t.nonNull.int('embeddingDim', {
      resolve: async (checkpoint, _args, ctx) => (await ctx.loaders.models.wholeCheckpoint(checkpoint)).embeddingDim,
    });
    t.nonNull.field('inputContract', {
      type: 'InputContract',
      resolve: async (checkpoint, _args, ctx) => (await ctx.loaders.models.wholeCheckpoint(checkpoint)).inputContract,
    });
    t.field('importedFrom', {
      type: 'ExternalSource',
      description: 'Null for a checkpoint that was trained in this registry.',
      resolve: async (checkpoint, _args, ctx) => (await ctx.loaders.models.wholeCheckpoint(checkpoint)).importedFrom,
    });
    t.string('publishedSlug', {
      description: 'Name in the catalogue of published checkpoints, for importCheckpoint.',
      resolve: async (checkpoint, _args, ctx) => (await ctx.loaders.models.wholeCheckpoint(checkpoint)).publishedSlug,
    });
    t.string('tensorDigest', {
      description:
        "sha256 over the encoder's tensors: equal for the same weights, whatever their file format, names and input contract. Null until it is computed.",
      resolve: async (checkpoint, _args, ctx) => (await ctx.loaders.models.wholeCheckpoint(checkpoint)).tensorDigest,
    });
    t.nonNull.list.nonNull.field('sameWeights', {
      type: 'Checkpoint',
      description: 'Other checkpoints with the same tensors. Images that one of them has seen count as seen by all.',
      resolve: async (checkpoint, _args, ctx) => {
        const { tensorDigest } = await ctx.loaders.models.wholeCheckpoint(checkpoint);
        if (tensorDigest === null) return [];
        const same = await ctx.loaders.models.sameWeightsByDigest.load(tensorDigest);
        return same.filter(({ id }) => id !== checkpoint.id);
      },
    });
    t.nonNull.boolean('isTrainingKnown', {
      description:
        'True if trainedOn lists all images that the weights have seen. False if the weights, or those from which their training started, were imported.',
      resolve: (checkpoint, _args, ctx) => ctx.loaders.models.isTrainingKnown.load(checkpoint.id),
    });
    t.nonNull.list.nonNull.field('trainingFacts', {
      type: 'TrainingFact',
      description:
        'Known and unknown facts about a training outside this registry. Empty for a checkpoint that was trained here, whose run has all facts.',
      resolve: async (checkpoint, _args, ctx) => [
        ...(await ctx.loaders.models.wholeCheckpoint(checkpoint)).trainingFacts,
      ],
    });
    t.nonNull.list.nonNull.field('trainedOn', {
      type: 'DatasetVersion',
      description: 'The dataset versions on whose images the checkpoint was trained.',
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
      description: 'Result of the probe during its pretraining; null if there was none.',
      resolve: async (checkpoint, _args, ctx) => (await ctx.loaders.models.wholeCheckpoint(checkpoint)).probe,
    });
    t.string('sha256', {
      description: 'sha256 of the stored safetensors file; null while only an external source is known.',
      resolve: async (checkpoint, _args, ctx) => (await ctx.loaders.models.wholeCheckpoint(checkpoint)).sha256,
    });
    t.float('byteSize', {
      description: 'Byte size of the stored safetensors file.',
      resolve: async (checkpoint, _args, ctx) => (await ctx.loaders.models.wholeCheckpoint(checkpoint)).byteSize,
    });
    t.nonNull.field('precision', {
      type: 'WeightsPrecision',
      resolve: async (checkpoint, _args, ctx) => {
        const { inputContract } = await ctx.loaders.models.wholeCheckpoint(checkpoint);
        const golden = await ctx.loaders.models.goldenByCheckpoint.load(checkpoint.id);
        const rounding = golden?.rounding;
        return {
          dtype: inputContract.weightsDtype,
          rounding: rounding === undefined ? null : [...rounding],
          sentence: precisionSentence(inputContract.weightsDtype, rounding),
        };
      },
    });
    t.field('golden', {
      type: 'JSON',
      description:
        'To verify your own preprocessing: images (base64 of uint8 [count, imageSizePx, imageSizePx, 3]) and their embeddings ([count, embeddingDim]).',
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
    t.id('trainedOnDatasetId', { description: 'Trained on any version of this dataset.' });
    t.id('trainedOnDatasetVersionId');
    t.boolean('published', {
      description: 'true: only checkpoints of the catalogue of published checkpoints; false: all others.',
    });
    t.string('sha256', {
      description: 'sha256 of the safetensors file or of an exported file; identifies a file on disk.',
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
