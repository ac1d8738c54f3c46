/** Exported weights for other frameworks, in the API. */
import path from 'node:path';
import { arg, enumType, extendType, inputObjectType, nonNull, objectType } from '../../api/nexus.ts';
import { settle } from '../../api/payload.ts';
import { EXPORT_FORMATS } from '../../protocol/export.ts';

const records = path.join(import.meta.dirname, 'exports.records.ts');

export const ExportFormat = enumType({
  name: 'ExportFormat',
  description: 'WeightsFormat without SAFETENSORS, the stored format.',
  members: [...EXPORT_FORMATS],
});
export const ExportStatus = enumType({
  name: 'ExportStatus',
  description: 'REFUSED: the file failed its check and cannot be downloaded.',
  members: ['AVAILABLE', 'REFUSED'],
});

export const CheckpointExport = objectType({
  name: 'CheckpointExport',
  sourceType: { module: records, export: 'ExportRecord' },
  description:
    "The weights as a file for another framework, loaded back by that framework's own reader and compared with the engine on three images.",
  definition(t) {
    t.nonNull.field('format', { type: 'ExportFormat' });
    t.nonNull.field('status', { type: 'ExportStatus' });
    t.string('sha256', { description: 'sha256 of the file, also its ETag; null if it is REFUSED.' });
    t.float('byteSize');
    t.float('maxRelativeDifference', {
      description:
        "Largest difference of one component of an embedding, relative to that embedding's root mean square; at most 1e-4 if AVAILABLE. Null if the file yielded NaN.",
    });
    t.string('reason', { description: 'Reason of a refusal.' });
    t.nonNull.field('checkedAt', { type: 'DateTime' });
    t.nonNull.field('run', { type: 'Run', resolve: (made, _args, ctx) => ctx.loaders.runs.existing(made.runId) });
  },
});

export const CheckpointExports = extendType({
  type: 'Checkpoint',
  definition(t) {
    t.nonNull.list.nonNull.field('formats', {
      type: 'WeightsFormat',
      description:
        'Formats that can be downloaded. Each file is made and checked at the first request; a format that failed its check is not listed.',
      resolve: async (checkpoint, _args, ctx) => {
        const { sha256 } = await ctx.loaders.models.wholeCheckpoint(checkpoint);
        if (sha256 === null) return [];
        const exports = await ctx.loaders.exports.byCheckpoint.load(checkpoint.id);
        const refused = new Set(exports.flatMap(({ format, status }) => (status === 'REFUSED' ? [format] : [])));
        return ['SAFETENSORS' as const, ...EXPORT_FORMATS.filter((format) => !refused.has(format))];
      },
    });
    t.string('downloadUrl', {
      description: 'Null for a format that is not listed in formats. A path is relative to this server.',
      args: { format: nonNull(arg({ type: 'WeightsFormat', default: 'SAFETENSORS' })) },
      resolve: async (checkpoint, { format }, ctx) => {
        const exports = await ctx.loaders.exports.byCheckpoint.load(checkpoint.id);
        const isRefused = exports.some((made) => made.format === format && made.status === 'REFUSED');
        return isRefused
          ? null
          : ctx.services.models.downloadUrl(await ctx.loaders.models.wholeCheckpoint(checkpoint), format);
      },
    });
    t.nonNull.list.nonNull.field('exports', {
      type: 'CheckpointExport',
      description: 'All formats that have been made and checked.',
      resolve: async (checkpoint, _args, ctx) => [...(await ctx.loaders.exports.byCheckpoint.load(checkpoint.id))],
    });
  },
});

export const ExportCheckpointInput = inputObjectType({
  name: 'ExportCheckpointInput',
  definition(t) {
    t.nonNull.id('checkpointId');
    t.nonNull.list.nonNull.field('formats', {
      type: 'ExportFormat',
      default: [...EXPORT_FORMATS],
      description: 'An empty list makes only the golden embedding.',
    });
    t.string('idempotencyKey', { description: 'The same key with the same input returns the same run.' });
  },
});

export const ExportMutations = extendType({
  type: 'Mutation',
  definition(t) {
    t.nonNull.field('exportCheckpoint', {
      type: 'RunPayload',
      description:
        'Makes and checks files for other frameworks, before the first download or again. If a run is already making these formats, it is returned instead.',
      args: { input: nonNull(arg({ type: 'ExportCheckpointInput' })) },
      resolve: (_root, args, ctx) => settle('run', () => ctx.services.exports.launch(ctx.viewer, args.input)),
    });
  },
});
