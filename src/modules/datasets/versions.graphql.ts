/** Versions of datasets in the API. */
import path from 'node:path';
import { connectionType, pageArguments } from '../../api/connection-type.ts';
import { arg, enumType, intArg, list, nonNull, objectType, stringArg } from '../../api/nexus.ts';
import { DatasetDigestRule as digestRules, DatasetVersionStatus as statuses } from '../../generated/prisma/enums.ts';

const records = path.join(import.meta.dirname, 'datasets.records.ts');

export const DatasetVersionStatus = enumType({
  name: 'DatasetVersionStatus',
  description: 'DRAFT while the import runs; SEALED: complete and immutable.',
  members: Object.values(statuses),
});

export const DatasetDigestRule = enumType({
  name: 'DatasetDigestRule',
  description:
    'What the digest of a version is. PIXELS: a sha256 over the decoded pixels, size, label, group and split of every image in order, whatever their encoding. MANIFEST_FILE: the sha256 of the manifest, which lists the sha256 of every encoded image; of versions that were sealed before.',
  members: Object.values(digestRules),
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
  description: 'A kind of problem that an import found, with the number of affected images.',
  definition(t) {
    t.nonNull.string('kind', {
      description: 'Kind of problem: UNREADABLE, TRUNCATED, DUPLICATE ...; see docs/importing.md.',
    });
    t.nonNull.int('count');
    t.string('meaning', {
      description:
        'Description of the problem and what to do. Null for a version that was sealed before every issue was listed.',
    });
    t.nonNull.boolean('kept', { description: 'True if the version contains these images anyway.' });
    t.field('examples', { type: nonNull(list(nonNull('String'))), description: 'Paths within the imported folder.' });
  },
});

export const ImportIssueEntry = objectType({
  name: 'ImportIssueEntry',
  sourceType: { module: records, export: 'ImportIssueEntryRecord' },
  description: 'A problem of one file of an import.',
  definition(t) {
    t.nonNull.string('kind');
    t.nonNull.string('path', {
      description: 'Path within the imported folder; for issues of labels and groups their names.',
    });
    t.nonNull.int('count', { description: 'Number of patches of the file; 1 if images are kept whole.' });
    t.nonNull.boolean('kept', { description: 'True if the version contains the image anyway.' });
    t.nonNull.string('reason', { description: 'The problem of this file, and what to do.' });
    t.string('relatedPath', {
      description: 'The other file of the problem, e.g. the one of which this file is a duplicate.',
    });
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
    'The images of a dataset as one import found them. Immutable once SEALED. Runs refer to versions, not to datasets.',
  definition(t) {
    t.implements('Node');
    t.nonNull.field('dataset', {
      type: 'Dataset',
      resolve: (version, _args, ctx) => ctx.loaders.datasets.byId.load(version.datasetId),
    });
    t.nonNull.int('version');
    t.nonNull.field('status', { type: 'DatasetVersionStatus' });
    t.string('digest', { description: 'The same images in the same order give the same digest: see digestRule.' });
    t.nonNull.field('digestRule', { type: 'DatasetDigestRule' });
    t.string('manifestSha256', {
      description:
        'The artifact that lists every image, /artifacts/{sha256}: a Parquet file, or JSON lines for a digestRule of MANIFEST_FILE.',
    });
    t.string('imageHashesSha256', {
      description:
        'For a digestRule of MANIFEST_FILE, the artifact with the sha256 of the pixels and the perceptual hash of every image: uint8 [imageCount, 40] as .npy. Otherwise null: the manifest has both.',
    });
    t.int('patchSizePx', {
      description: 'Side of the patches into which images were cut; null if they were kept whole.',
    });
    t.nonNull.int('imageCount');
    t.nonNull.float('byteSize');
    t.field('labelNames', { type: nonNull(list(nonNull('String'))) });
    t.field('labelCounts', { type: nonNull(list(nonNull('LabelCount'))) });
    t.nonNull.int('groupCount', {
      description: 'Number of known groups (patients or slides); a split never divides a group.',
    });
    t.int('ungroupedImageCount', {
      description:
        'Number of images whose patient or slide is not known; a split keeps only the patches of one file together. Null for a DRAFT, and for a version of an older registry until its images have been counted.',
    });
    t.nonNull.boolean('hasSplit', { description: 'True if the version has a predefined split.' });
    t.field('thumbnails', {
      type: nonNull(list(nonNull('Thumbnail'))),
      description: 'A sample of the images, with each label in proportion.',
      resolve: (version, _args, ctx) => ctx.loaders.datasets.thumbnailsOfVersion.load(version.id),
    });
    t.field('shards', {
      type: nonNull(list(nonNull('DatasetShard'))),
      description: 'All images as WebDataset tars, in reading order.',
      resolve: (version, _args, ctx) => ctx.loaders.datasets.shardsOfVersion.load(version.id),
    });
    t.field('slides', {
      type: nonNull('SlideConnection'),
      description: 'Every slide of the imported folder; empty for a version that was not cut from slides.',
      args: { ...pageArguments, filter: arg({ type: 'SlideFilter' }) },
      resolve: (version, { filter, ...page }, ctx) =>
        ctx.services.datasets.slides(ctx.viewer, version.id, page, filter),
    });
    t.field('slide', {
      type: 'Slide',
      args: { position: nonNull(intArg({ description: 'From 0.' })) },
      resolve: async (version, { position }, ctx) =>
        (await ctx.services.datasets.slide(ctx.viewer, version.id, position)) ?? null,
    });
    t.field('slidePatches', {
      type: 'SlidePatches',
      description: 'Where the patches of the slide at this position lie; read from the manifest.',
      args: { position: nonNull(intArg({ description: 'From 0.' })) },
      resolve: async (version, { position }, ctx) => {
        const slide = await ctx.services.datasets.slide(ctx.viewer, version.id, position);
        return slide === undefined ? null : ctx.services.slidePatches.of(ctx.viewer, slide);
      },
    });
    t.field('issues', {
      type: nonNull(list(nonNull('ImportIssue'))),
      description: 'Issues by kind, with a few examples; issueEntries lists every one.',
    });
    t.field('issueEntries', {
      type: nonNull('ImportIssueEntryConnection'),
      description: 'Every issue, by kind; empty for a version that was sealed before issues were listed.',
      args: { ...pageArguments, kind: stringArg({ description: 'Only issues of this kind.' }) },
      resolve: (version, { kind, ...page }, ctx) =>
        ctx.services.importIssues.list(ctx.viewer, version, page, kind ?? null),
    });
    t.string('issueListUrl', {
      description: 'Path on this server of a CSV of every issue; null if there is none.',
      resolve: (version) => (version.issueListSha256 === null ? null : `/artifacts/${version.issueListSha256}`),
    });
    t.nonNull.field('createdAt', { type: 'DateTime' });
    t.field('sealedAt', { type: 'DateTime' });
  },
});

export const DatasetVersionConnection = connectionType('DatasetVersion');
