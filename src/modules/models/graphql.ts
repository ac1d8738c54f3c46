/** Models, checkpoints and aliases in the API. */
import path from 'node:path';
import { connectionType, pageArguments } from '../../api/connection-type.ts';
import { arg, enumType, extendType, idArg, inputObjectType, nonNull, objectType, stringArg } from '../../api/nexus.ts';
import { payloadType, settle } from '../../api/payload.ts';
import { CHANNEL_ORDERS, RESIZE_RULES, WEIGHTS_FORMATS } from './models.rules.ts';
import {
  PROBE_SPLITS,
  PROBE_VERDICTS,
  probeAdvice,
  probeOverlapSentence,
  probeSentence,
  verdictOf,
} from './probe.rules.ts';

const records = path.join(import.meta.dirname, 'models.records.ts');
const probeRules = path.join(import.meta.dirname, 'probe.rules.ts');
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

export const ExternalSource = objectType({
  name: 'ExternalSource',
  sourceType: { module: records, export: 'ExternalSourceRecord' },
  definition(t) {
    t.string('url');
    t.string('fileName');
    t.float('byteSize');
    t.string('sha256');
    t.string('licence');
    t.field('contents', { type: 'ImportedContents', description: 'Null until the file was read here.' });
  },
});

export const ImportedFileFormat = enumType({
  name: 'ImportedFileFormat',
  members: ['SAFETENSORS', 'TORCH_ZIP', 'TORCH_LEGACY'],
});

export const ImportedContents = objectType({
  name: 'ImportedContents',
  sourceType: { module: records, export: 'ImportedContentsRecord' },
  description:
    "What was found in an imported file beside the encoder's tensors. Nothing of it was run, and none of it is in the stored weights.",
  definition(t) {
    t.nonNull.field('format', { type: 'ImportedFileFormat' });
    t.nonNull.string('keyPrefix', { description: 'What every name of the encoder began with, e.g. model.resnet.' });
    t.nonNull.list.nonNull.string('inertGlobals', {
      description: 'Classes and functions that the pickle names, e.g. posix.system: Python would have imported them.',
      resolve: (contents) => [...contents.inertGlobals],
    });
    t.field('projectionHead', { type: 'FoundProjectionHead' });
    t.field('classifier', { type: 'FoundClassifier' });
    t.nonNull.list.nonNull.string('ignoredParts', {
      description: 'e.g. optimizer_states: 122 tensors',
      resolve: (contents) => [...contents.ignoredParts],
    });
    t.nonNull.field('scalars', {
      type: 'JSON',
      description: '[{ path value }]: numbers and texts of the file, hyper-parameters among them.',
    });
  },
});

export const FoundProjectionHead = objectType({
  name: 'FoundProjectionHead',
  definition(t) {
    t.nonNull.int('hiddenDim');
    t.nonNull.int('projectionDim');
  },
});

export const FoundClassifier = objectType({
  name: 'FoundClassifier',
  definition(t) {
    t.nonNull.int('classCount');
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

export const Model = objectType({
  name: 'Model',
  sourceType: { module: records, export: 'ModelRecord' },
  description: 'A line of encoders under one name; its checkpoints are its versions.',
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
  description: 'A moving name for one checkpoint of a model, e.g. champion.',
  definition(t) {
    t.nonNull.string('name');
    t.nonNull.field('checkpoint', {
      type: 'Checkpoint',
      resolve: (alias, _args, ctx) => ctx.loaders.models.mentionedById.load(alias.checkpointId),
    });
    t.nonNull.field('updatedAt', { type: 'DateTime' });
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

export const ProbeSplit = enumType({
  name: 'ProbeSplit',
  description:
    'How the images of a probe are divided: by the split of the version, by folds over groups, or by folds over images where neither can be done.',
  members: [...PROBE_SPLITS],
});
export const ProbeVerdict = enumType({
  name: 'ProbeVerdict',
  description: 'BETTER or WORSE where the paired 95 % interval leaves 0 out.',
  members: [...PROBE_VERDICTS],
});

export const ProbeScores = objectType({
  name: 'ProbeScores',
  definition(t) {
    t.nonNull.float('ridgeMacroF1');
    t.nonNull.float('knnMacroF1');
  },
});

export const ProbeDifference = objectType({
  name: 'ProbeDifference',
  sourceType: { module: probeRules, export: 'PairedDifference' },
  description: "Of the ridge's macro F1, with the paired 95 % interval by a bootstrap over groups.",
  definition(t) {
    t.nonNull.float('value');
    t.nonNull.float('ci95Low');
    t.nonNull.float('ci95High');
    t.nonNull.field('verdict', { type: 'ProbeVerdict', resolve: verdictOf });
  },
});

export const CheckpointProbe = objectType({
  name: 'CheckpointProbe',
  sourceType: { module: probeRules, export: 'CheckpointProbeRecord' },
  description:
    'What a pretraining measured of its own encoder: kNN and ridge regression on a fixed subset of labelled images, beside a random encoder and colour statistics.',
  definition(t) {
    t.nonNull.id('datasetVersionId');
    t.nonNull.string('datasetVersionName', { description: 'slug@version, as it was called at the launch.' });
    t.nonNull.int('imageCount');
    t.nonNull.int('groupCount', { description: 'An image without a group counts as one.' });
    t.nonNull.field('split', { type: 'ProbeSplit' });
    t.nonNull.int('step');
    t.nonNull.float('ridgeMacroF1', { description: '0..1' });
    t.nonNull.float('knnMacroF1', { description: '0..1' });
    t.nonNull.field('randomEncoder', { type: 'ProbeScores' });
    t.nonNull.field('colourStatistics', { type: 'ProbeScores' });
    t.nonNull.field('overRandomEncoder', { type: 'ProbeDifference' });
    t.nonNull.field('overColourStatistics', { type: 'ProbeDifference' });
    t.nonNull.int('sharedImageCount', { description: 'Images that the training sees too, without their labels.' });
    t.nonNull.int('sharedGroupCount');
    t.nonNull.string('sentence', {
      description: 'e.g. worse than a random encoder on kather@1 by 0.063 (95 % interval 0.040 to 0.086), ...',
      resolve: probeSentence,
    });
    t.string('overlap', {
      description: 'What the probe and the training have in common; null for nothing.',
      resolve: probeOverlapSentence,
    });
    t.string('advice', { description: 'What to try; null for one that is better than random.', resolve: probeAdvice });
  },
});

export const ModelConnection = connectionType('Model');
export const CheckpointConnection = connectionType('Checkpoint');
export const CheckpointPayload = payloadType('CheckpointPayload', 'checkpoint', 'Checkpoint');
export const ModelPayload = payloadType('ModelPayload', 'model', 'Model');

export const ModelFilter = inputObjectType({
  name: 'ModelFilter',
  definition(t) {
    t.string('search', { description: 'Part of a slug or name, in any case.' });
  },
});

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
    t.id('checkpointId', { description: "One of the model's own checkpoints; null or left out removes the alias." });
  },
});

export const InputContractInput = inputObjectType({
  name: 'InputContractInput',
  description:
    'See InputContract. What has a default is also what evaluations here compute with: another value is refused, not ignored.',
  definition(t) {
    t.nonNull.int('imageSizePx');
    t.nonNull.field('resizeRule', { type: 'ResizeRule', default: 'SHORT_SIDE_THEN_CENTRE_CROP' });
    t.nonNull.field('channelOrder', { type: 'ChannelOrder', default: 'RGB' });
    t.nonNull.list.nonNull.float('valueRange', { default: [0, 1] });
    t.nonNull.list.nonNull.float('channelMean', { description: 'In units of valueRange.' });
    t.nonNull.list.nonNull.float('channelStd');
    t.nonNull.string('embeddingLayer', { default: 'avgpool' });
    t.float('micronsPerPixelMin');
    t.float('micronsPerPixelMax');
  },
});

export const ImportCheckpointInput = inputObjectType({
  name: 'ImportCheckpointInput',
  description: 'Give modelSlug, inputContract, and one of path, url and uploadId; or publishedCheckpoint alone.',
  definition(t) {
    t.string('modelSlug', { description: 'Made if new.' });
    t.string('path', { description: 'Absolute, on the server, below one of its import roots.' });
    t.string('url', {
      description: 'http or https; fetched by the server, from the public internet unless its owner allows more.',
    });
    t.string('uploadId', {
      description:
        'The last part of an address that POST /uploads gave (tus protocol), when all of the file is there. The upload is gone when its checkpoint is here.',
    });
    t.string('sha256', {
      description: 'Of the file, if known: another file is refused. Needed for an upload, here or when it began.',
    });
    t.field('encoder', { type: 'EncoderArchitecture', description: 'If stated, the file must hold that one.' });
    t.string('keyPrefix', {
      description:
        "What the encoder's names begin with, dot included; the usual ones are found. Everything outside of it is left out and listed in contents.ignoredParts.",
    });
    t.field('inputContract', { type: 'InputContractInput' });
    t.string('name', { description: 'Of a model that is new.' });
    t.string('description', { description: 'Of a model that is new.' });
    t.string('licence', { description: 'Of the file, and of a model that is new.' });
    t.string('publishedCheckpoint', {
      description:
        'publishedSlug of a checkpoint: everything about it is known. A path, url or uploadId beside it says where else its file lies.',
    });
    t.string('idempotencyKey', {
      description: 'The same key with the same input gives the same checkpoint; with another input it is an error.',
    });
    t.boolean('validateOnly', {
      description:
        'Only say what is wrong with the rest of the input, before any bytes are sent: path, url and uploadId may be missing, nothing is imported, and checkpoint is null.',
    });
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
    t.nonNull.field('importCheckpoint', {
      type: 'CheckpointPayload',
      description:
        'Imports weights that were made elsewhere: PyTorch or safetensors, mapped strictly, nothing run. The same weights are registered once.',
      args: { input: nonNull(arg({ type: 'ImportCheckpointInput' })) },
      resolve: (_root, args, ctx) =>
        settle('checkpoint', () =>
          ctx.services.checkpointImports.importCheckpoint(ctx.viewer, args.input, ctx.clientGone),
        ),
    });
    t.nonNull.field('setModelAlias', {
      type: 'ModelPayload',
      description: 'Makes an alias point at a checkpoint, moving it in one step; without a checkpoint removes it.',
      args: { input: nonNull(arg({ type: 'SetModelAliasInput' })) },
      resolve: (_root, args, ctx) => settle('model', () => ctx.services.models.setAlias(ctx.viewer, args.input)),
    });
  },
});
