/** API types for importing external weights: the request, and the contents found in the file. */
import path from 'node:path';
import { arg, enumType, extendType, inputObjectType, nonNull, objectType } from '../../api/nexus.ts';
import { payloadType, settle } from '../../api/payload.ts';

const records = path.join(import.meta.dirname, 'models.records.ts');

export const ImportedFileFormat = enumType({
  name: 'ImportedFileFormat',
  members: ['SAFETENSORS', 'TORCH_ZIP', 'TORCH_LEGACY'],
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

export const CheckpointPayload = payloadType('CheckpointPayload', 'checkpoint', 'Checkpoint');

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

export const ImportCheckpointMutation = extendType({
  type: 'Mutation',
  definition(t) {
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
  },
});
