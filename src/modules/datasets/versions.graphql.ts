/** Versions of datasets in the API. */
import path from 'node:path';
import { connectionType, pageArguments } from '../../api/connection-type.ts';
import { enumType, list, nonNull, objectType, stringArg } from '../../api/nexus.ts';
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
    t.nonNull.string('kind', { description: 'What is wrong: UNREADABLE, TRUNCATED, DUPLICATE; docs/importing.md.' });
    t.nonNull.int('count');
    t.string('meaning', {
      description: 'What it is and what to do. Null for a version that was sealed before every issue was listed.',
    });
    t.nonNull.boolean('kept', { description: 'True where they are in the version nevertheless.' });
    t.field('examples', { type: nonNull(list(nonNull('String'))), description: 'Paths within the imported folder.' });
  },
});

export const ImportIssueEntry = objectType({
  name: 'ImportIssueEntry',
  sourceType: { module: records, export: 'ImportIssueEntryRecord' },
  description: 'What an import says of one file.',
  definition(t) {
    t.nonNull.string('kind');
    t.nonNull.string('path', {
      description: 'Within the imported folder; for issues of labels and groups their names.',
    });
    t.nonNull.int('count', { description: 'Patches of the file; 1 where images are kept whole.' });
    t.nonNull.boolean('kept', { description: 'True where the image is in the version nevertheless.' });
    t.nonNull.string('reason', { description: 'What is wrong with this file, and what to do.' });
    t.string('relatedPath', { description: 'The other file that it is about: what it is a duplicate of.' });
  },
});

export const ImportIssueEntryConnection = connectionType('ImportIssueEntry');

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
    t.nonNull.int('groupCount', { description: 'Patients or slides, which no split divides.' });
    t.nonNull.int('ungroupedImageCount', {
      description: 'Images whose patient or slide is not known: each is a group of its own.',
    });
    t.nonNull.boolean('hasSplit', { description: 'True where it has a split of its own.' });
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
    t.field('issues', {
      type: nonNull(list(nonNull('ImportIssue'))),
      description: 'By kind, with a few examples; issueEntries has every single one.',
    });
    t.field('issueEntries', {
      type: nonNull('ImportIssueEntryConnection'),
      description: 'Every single issue, by kind; empty for a version that was sealed before they were listed.',
      args: { ...pageArguments, kind: stringArg({ description: 'Only issues of this kind.' }) },
      resolve: (version, { kind, ...page }, ctx) =>
        ctx.services.importIssues.list(ctx.viewer, version, page, kind ?? null),
    });
    t.string('issueListUrl', {
      description: 'A CSV of every single issue, as a path on this server; null where there is none.',
      resolve: (version) => (version.issueListSha256 === null ? null : `/artifacts/${version.issueListSha256}`),
    });
    t.nonNull.field('createdAt', { type: 'DateTime' });
    t.field('sealedAt', { type: 'DateTime' });
  },
});

export const DatasetVersionConnection = connectionType('DatasetVersion');
