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
    "Contents of an imported file other than the encoder's tensors. None of it was executed, and none of it is in the stored weights.",
  definition(t) {
    t.nonNull.field('format', { type: 'ImportedFileFormat' });
    t.nonNull.string('keyPrefix', {
      description: "The common prefix of the encoder's tensor names, e.g. model.resnet.",
    });
    t.nonNull.list.nonNull.string('inertGlobals', {
      description: 'Classes and functions that the pickle names, e.g. posix.system. Python would have imported them.',
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
      description: '[{ path value }]: numbers and texts in the file, such as hyper-parameters.',
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
    t.string('accessUrl', {
      description: 'Page where the publisher grants access to the file; null if the file is open.',
    });
    t.field('contents', {
      type: 'ImportedContents',
      description: 'Null until the file has been read by this registry.',
    });
  },
});

export const CheckpointPayload = payloadType('CheckpointPayload', 'checkpoint', 'Checkpoint');

export const InputContractInput = inputObjectType({
  name: 'InputContractInput',
  description:
    'See InputContract. Evaluations support only the default values of these fields: another value is refused, not ignored.',
  definition(t) {
    t.nonNull.int('imageSizePx');
    t.nonNull.field('resizeRule', { type: 'ResizeRule', default: 'SHORT_SIDE_THEN_CENTRE_CROP' });
    t.nonNull.field('interpolation', { type: 'Interpolation', default: 'BILINEAR' });
    t.nonNull.field('pooling', {
      type: 'Pooling',
      default: 'AVGPOOL',
      description: 'A vision transformer needs CLS, MEAN or CLS_AND_MEAN, as its publisher uses it.',
    });
    t.nonNull.field('channelOrder', { type: 'ChannelOrder', default: 'RGB' });
    t.nonNull.list.nonNull.float('valueRange', { default: [0, 1] });
    t.nonNull.list.nonNull.float('channelMean', { description: 'In the units of valueRange.' });
    t.nonNull.list.nonNull.float('channelStd');
    t.string('embeddingLayer', { description: 'Default: avgpool for the pooling AVGPOOL, norm for the others.' });
    t.float('micronsPerPixelMin');
    t.float('micronsPerPixelMax');
  },
});

export const ImportCheckpointInput = inputObjectType({
  name: 'ImportCheckpointInput',
  description:
    'Give either modelSlug, inputContract, and one of path, url and uploadId; or only publishedCheckpoint; or only one of path, url and uploadId, for a file that is recognised as a published checkpoint.',
  definition(t) {
    t.string('modelSlug', { description: 'Slug of the model, which is created if it does not exist.' });
    t.string('path', { description: 'Absolute path on the server, below one of its import roots.' });
    t.string('url', {
      description:
        'http or https URL, fetched by the server; only from the public internet unless the administrator allows private addresses.',
    });
    t.string('uploadId', {
      description:
        'Id of a complete upload: the last part of the URL that POST /uploads returned (tus protocol). The upload is deleted once the checkpoint is registered.',
    });
    t.string('sha256', {
      description:
        'sha256 of the file, if known: a different file is refused. Required for an upload, here or when it is begun.',
    });
    t.field('encoder', {
      type: 'EncoderArchitecture',
      description: 'If given, the file must contain this architecture.',
    });
    t.field('specification', {
      type: 'JSON',
      description:
        'Facts of the network that names and shapes of its tensors do not tell, by their names in Checkpoint.architecture.specification, e.g. {"headCount": 12}. An encoder that needs one says so.',
    });
    t.string('keyPrefix', {
      description:
        "Prefix of the encoder's tensor names, including the dot; common prefixes are detected. Everything else in the file is left out and listed in contents.ignoredParts.",
    });
    t.field('inputContract', { type: 'InputContractInput' });
    t.string('name', { description: 'Name of a new model.' });
    t.string('description', { description: 'Name of a new model.' });
    t.string('licence', { description: 'Licence of the file and of a new model.' });
    t.string('publishedCheckpoint', {
      description:
        'publishedSlug of a checkpoint whose facts are in the catalogue. An additional path, url or uploadId names another copy of its file.',
    });
    t.string('idempotencyKey', {
      description: 'The same key with the same input returns the same checkpoint; with another input it is an error.',
    });
    t.boolean('validateOnly', {
      description:
        'Only validate the rest of the input, before any bytes are sent: path, url and uploadId may be missing, nothing is imported, and checkpoint is null.',
    });
  },
});

export const ImportCheckpointMutation = extendType({
  type: 'Mutation',
  definition(t) {
    t.nonNull.field('importCheckpoint', {
      type: 'CheckpointPayload',
      description:
        'Imports external weights (PyTorch or safetensors) with strict mapping of names, without executing anything. The same weights are registered once.',
      args: { input: nonNull(arg({ type: 'ImportCheckpointInput' })) },
      resolve: (_root, args, ctx) =>
        settle('checkpoint', () =>
          ctx.services.checkpointImports.importCheckpoint(ctx.viewer, args.input, ctx.clientGone),
        ),
    });
  },
});
