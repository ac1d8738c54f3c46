/** Versions of datasets in the API. */
import path from 'node:path';
import { connectionType } from '../../api/connection-type.ts';
import { enumType, list, nonNull, objectType } from '../../api/nexus.ts';
import { DatasetVersionStatus as statuses } from '../../generated/prisma/enums.ts';

const records = path.join(import.meta.dirname, 'datasets.records.ts');

export const DatasetVersionStatus = enumType({
  name: 'DatasetVersionStatus',
  description: 'DRAFT while its import runs; SEALED for good.',
  members: Object.values(statuses),
});

export const LabelCount = objectType({
  name: 'LabelCount',
  sourceType: { module: records, export: 'LabelCountRecord' },
  definition(t) {
    t.nonNull.string('label');
    t.nonNull.int('count');
  },
});

export const ImportIssue = objectType({
  name: 'ImportIssue',
  sourceType: { module: records, export: 'ImportIssueRecord' },
  description: 'Images of an import that something is wrong with.',
  definition(t) {
    t.nonNull.string('kind', { description: 'What is wrong: unreadable, truncated, duplicate, blank, too small.' });
    t.nonNull.int('count');
    t.nonNull.boolean('kept', { description: 'True where they are in the version all the same.' });
    t.field('examples', { type: nonNull(list(nonNull('String'))), description: 'Paths within the imported folder.' });
  },
});

export const Thumbnail = objectType({
  name: 'Thumbnail',
  sourceType: { module: records, export: 'ThumbnailRecord' },
  description: 'A small WebP picture of one image of a version.',
  definition(t) {
    t.nonNull.int('position', { description: 'From 0.' });
    t.string('label');
    t.nonNull.string('sha256');
    t.nonNull.string('url', {
      description: 'A path on this server.',
      resolve: (thumbnail) => `/artifacts/${thumbnail.sha256}`,
    });
  },
});

export const DatasetShard = objectType({
  name: 'DatasetShard',
  sourceType: { module: records, export: 'ShardRecord' },
  description: 'A WebDataset tar with some of the images of a version.',
  definition(t) {
    t.nonNull.string('sha256');
    t.nonNull.float('byteSize');
    t.nonNull.int('imageCount');
    t.nonNull.string('url', {
      description: 'A path on this server.',
      resolve: (shard) => `/artifacts/${shard.sha256}`,
    });
  },
});

export const DatasetVersion = objectType({
  name: 'DatasetVersion',
  sourceType: { module: records, export: 'DatasetVersionRecord' },
  description:
    'Images as they were on the day of an import. Immutable once SEALED; the only thing that a run may cite.',
  definition(t) {
    t.implements('Node');
    t.nonNull.field('dataset', {
      type: 'Dataset',
      resolve: (version, _args, ctx) => ctx.loaders.datasets.byId.load(version.datasetId),
    });
    t.nonNull.int('version');
    t.nonNull.field('status', { type: 'DatasetVersionStatus' });
    t.string('digest', { description: 'sha256 over the sorted manifest: the same images give the same digest.' });
    t.string('manifestSha256', { description: 'The artifact that lists every image: /artifacts/{sha256}.' });
    t.string('imageHashesSha256', {
      description:
        'The artifact with the sha256 of the pixels and the perceptual hash of every image: uint8 [imageCount, 40] as .npy. Null for a version that was sealed before images were hashed.',
    });
    t.int('patchSizePx', {
      description: 'The side of the patches that images were cut into; null where they were kept whole.',
    });
    t.nonNull.int('imageCount');
    t.nonNull.float('byteSize');
    t.field('labelNames', { type: nonNull(list(nonNull('String'))) });
    t.field('labelCounts', { type: nonNull(list(nonNull('LabelCount'))) });
    t.nonNull.int('groupCount', { description: 'Patients or slides, which no split cuts through.' });
    t.nonNull.boolean('hasSplit', { description: 'True where it brings its own split.' });
    t.field('thumbnails', {
      type: nonNull(list(nonNull('Thumbnail'))),
      description: 'A choice of its images, each label with its share.',
      resolve: (version, _args, ctx) => ctx.loaders.datasets.thumbnailsOfVersion.load(version.id),
    });
    t.field('shards', {
      type: nonNull(list(nonNull('DatasetShard'))),
      description: 'All of its images as WebDataset tars, in reading order.',
      resolve: (version, _args, ctx) => ctx.loaders.datasets.shardsOfVersion.load(version.id),
    });
    t.field('issues', { type: nonNull(list(nonNull('ImportIssue'))) });
    t.nonNull.field('createdAt', { type: 'DateTime' });
    t.field('sealedAt', { type: 'DateTime' });
  },
});

export const DatasetVersionConnection = connectionType('DatasetVersion');
