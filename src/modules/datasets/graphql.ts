/** API types and fields of datasets: the catalogue, its facets and its mutations. */
import path from 'node:path';
import { connectionType, pageArguments } from '../../api/connection-type.ts';
import { arg, enumType, extendType, idArg, list, nonNull, objectType, stringArg } from '../../api/nexus.ts';
import { payloadType, settle } from '../../api/payload.ts';
import {
  DatasetProvenance as provenances,
  FactEvidence as evidences,
  ImageKind as imageKinds,
  TaskKind as taskKinds,
} from '../../generated/prisma/enums.ts';
import { DATASET_ORDER_FIELDS, ORDER_DIRECTIONS } from './index.ts';

export * from './inputs.graphql.ts';
export * from './slides.graphql.ts';
export * from './versions.graphql.ts';

const records = path.join(import.meta.dirname, 'datasets.records.ts');

export const DatasetProvenance = enumType({
  name: 'DatasetProvenance',
  description:
    'Relation of the dataset to the paper. PAPER_TABLE: a row of its list of 57. PAPER_TEXT: named in its text. OTHER_SOURCE: another source says that the paper used it. CANDIDATE: similar to the datasets of the paper, without evidence that it was used. LOCAL: created by a user of this registry.',
  members: Object.values(provenances),
});
export const ImageKind = enumType({
  name: 'ImageKind',
  description: 'PATCH: fixed crops. ROI: larger fields of view. TMA: tissue microarray cores. WSI: whole slides.',
  members: Object.values(imageKinds),
});
export const TaskKind = enumType({ name: 'TaskKind', members: Object.values(taskKinds) });
export const FactEvidence = enumType({
  name: 'FactEvidence',
  description: 'READ: read in the named source. RECALLED: known from memory, not yet checked.',
  members: Object.values(evidences),
});
export const DatasetOrderField = enumType({
  name: 'DatasetOrderField',
  description: 'RELEVANCE needs filter.search.',
  members: DATASET_ORDER_FIELDS,
});
export const OrderDirection = enumType({
  name: 'OrderDirection',
  description: 'Unknown values come last in both directions.',
  members: ORDER_DIRECTIONS,
});

export const Organ = objectType({
  name: 'Organ',
  sourceType: { module: records, export: 'OrganRecord' },
  definition(t) {
    t.nonNull.string('code');
    t.nonNull.string('name');
    t.nonNull.int('datasetCount', {
      resolve: (organ, _args, ctx) => ctx.loaders.datasets.organDatasetCount.load(organ.code),
    });
  },
});

export const Stain = objectType({
  name: 'Stain',
  sourceType: { module: records, export: 'StainRecord' },
  definition(t) {
    t.nonNull.string('code');
    t.nonNull.string('name');
    t.nonNull.int('datasetCount', {
      resolve: (stain, _args, ctx) => ctx.loaders.datasets.stainDatasetCount.load(stain.code),
    });
  },
});

export const Resolution = objectType({
  name: 'Resolution',
  sourceType: { module: records, export: 'ResolutionRecord' },
  description: 'A magnification and a um/px are in one resolution only if the source pairs them.',
  definition(t) {
    t.float('magnification', { description: 'Nominal power of the objective.' });
    t.float('totalMagnification', { description: 'Objective times eyepiece, if the source states it so.' });
    t.float('micronsPerPixel', { description: 'Decisive for the resolution, if known.' });
  },
});

export const Citation = objectType({
  name: 'Citation',
  sourceType: { module: records, export: 'CitationRecord' },
  definition(t) {
    t.string('authors');
    t.string('title');
    t.string('venue');
    t.string('doi');
    t.string('arxiv');
  },
});

export const Subcollection = objectType({
  name: 'Subcollection',
  sourceType: { module: records, export: 'SubcollectionRecord' },
  description: 'A part that the source counts separately, e.g. one project of TCGA.',
  definition(t) {
    t.nonNull.string('slug');
    t.string('organ');
    t.nonNull.int('slideCount');
    t.nonNull.list.nonNull.float('magnifications', { resolve: (part) => [...part.magnifications] });
    t.nonNull.string('source');
  },
});

export const FactSource = objectType({
  name: 'FactSource',
  sourceType: { module: records, export: 'FactSourceRecord' },
  description:
    'Source of the value of one field of a dataset. A field without a source is unknown or was set by a user.',
  definition(t) {
    t.nonNull.string('field', { description: 'The field of Dataset, e.g. imageCount or resolutions.micronsPerPixel.' });
    t.nonNull.field('evidence', { type: 'FactEvidence' });
    t.nonNull.list.nonNull.string('sourceUrls', {
      description: 'URLs, or a description of a source without a URL.',
      resolve: (fact) => [...fact.sourceUrls],
    });
  },
});

export const Dataset = objectType({
  name: 'Dataset',
  sourceType: { module: records, export: 'DatasetRecord' },
  description: 'A dataset as it is described in publications. Unknown facts are null, never guessed.',
  definition(t) {
    t.implements('Node');
    t.nonNull.string('slug');
    t.nonNull.string('name');
    t.string('description');
    t.nonNull.field('provenance', { type: 'DatasetProvenance' });
    t.string('provenanceNote');
    t.nonNull.boolean('synthetic', {
      description: 'True if the images were drawn by a program and show no tissue.',
    });
    t.field('organs', { type: nonNull(list(nonNull('Organ'))) });
    t.field('stains', { type: nonNull(list(nonNull('Stain'))) });
    t.field('ihcMarkers', { type: nonNull(list(nonNull('String'))) });
    t.field('resolutions', { type: nonNull(list(nonNull('Resolution'))) });
    t.nonNull.field('imageKind', { type: 'ImageKind' });
    t.int('imageCount');
    t.int('slideCount');
    t.string('imageSizeNote', { description: 'As stated by the source, e.g. "2048x1536".' });
    t.field('classNames', { type: nonNull(list(nonNull('String'))) });
    t.field('tasks', { type: nonNull(list(nonNull('TaskKind'))) });
    t.string('licence');
    t.int('publishedYear');
    t.field('citation', { type: 'Citation' });
    t.string('homepageUrl');
    t.string('notes');
    t.field('paperRoles', { type: nonNull(list(nonNull('String'))), description: 'Uses of the dataset in the paper.' });
    t.field('parentCollections', {
      type: nonNull(list(nonNull('String'))),
      description:
        'Slugs of the datasets from whose slides the images were taken. Training on one and testing on the other is leakage.',
    });
    t.field('subcollections', { type: nonNull(list(nonNull('Subcollection'))) });
    t.field('sourceUrls', { type: nonNull(list(nonNull('String'))) });
    t.field('factSources', {
      type: nonNull(list(nonNull('FactSource'))),
      resolve: (dataset, _args, ctx) => ctx.loaders.datasets.factSources.load(dataset.id),
    });
    t.nonNull.field('versions', {
      type: 'DatasetVersionConnection',
      description: 'Newest first, drafts included.',
      args: pageArguments,
      resolve: (dataset, args, ctx) => ctx.services.datasets.versions(ctx.viewer, dataset.id, args),
    });
    t.field('latestVersion', {
      type: 'DatasetVersion',
      description: 'The latest SEALED version.',
      resolve: (dataset, _args, ctx) => ctx.loaders.datasets.latestVersion.load(dataset.id),
    });
    t.nonNull.field('createdAt', { type: 'DateTime' });
    t.nonNull.field('updatedAt', { type: 'DateTime' });
    t.field('editedAt', {
      type: 'DateTime',
      description: 'Instant of the last change by a user. A newer catalogue does not overwrite such a dataset.',
    });
  },
});

export const DatasetConnection = connectionType('Dataset');
export const DatasetPayload = payloadType('DatasetPayload', 'dataset', 'Dataset');

export const FacetCount = objectType({
  name: 'FacetCount',
  sourceType: { module: records, export: 'FacetCountRecord' },
  definition(t) {
    t.nonNull.string('value', { description: 'The value to use in the filter.' });
    t.nonNull.string('name');
    t.nonNull.int('count');
  },
});

export const DatasetFacets = objectType({
  name: 'DatasetFacets',
  sourceType: { module: records, export: 'DatasetFacetsRecord' },
  description:
    'Number of datasets with each value under the filter. Each list ignores its own part of the filter, so that it shows the result of choosing another value.',
  definition(t) {
    t.nonNull.int('datasetCount', { description: 'Number of datasets under the whole filter.' });
    for (const facet of [
      'organs',
      'stains',
      'imageKinds',
      'tasks',
      'licences',
      'provenances',
      'magnifications',
    ] as const) {
      t.field(facet, { type: nonNull(list(nonNull('FacetCount'))) });
    }
    t.field('micronsPerPixelBounds', {
      type: nonNull(list(nonNull('FacetCount'))),
      description: 'Datasets with a resolution of the bound or finer; the filter takes it as micronsPerPixel: { max }.',
    });
  },
});

export const DatasetQueries = extendType({
  type: 'Query',
  definition(t) {
    t.field('dataset', {
      type: 'Dataset',
      description: 'By id or by slug; null if no dataset matches.',
      args: { id: idArg(), slug: stringArg() },
      resolve: async (_root, args, ctx) => (await ctx.services.datasets.get(ctx.viewer, args)) ?? null,
    });
    t.nonNull.field('datasets', {
      type: 'DatasetConnection',
      description: 'Default order: by name, or the best match first with filter.search.',
      args: { ...pageArguments, filter: arg({ type: 'DatasetFilter' }), orderBy: arg({ type: 'DatasetOrder' }) },
      resolve: (_root, args, ctx) => ctx.services.datasets.list(ctx.viewer, args, args.filter, args.orderBy),
    });
    t.nonNull.field('datasetFacets', {
      type: 'DatasetFacets',
      args: { filter: arg({ type: 'DatasetFilter' }) },
      resolve: (_root, args, ctx) => ctx.services.datasets.facets(ctx.viewer, args.filter),
    });
    t.field('organs', {
      type: nonNull(list(nonNull('Organ'))),
      resolve: (_root, _args, ctx) => ctx.services.datasets.organs(ctx.viewer),
    });
    t.field('stains', {
      type: nonNull(list(nonNull('Stain'))),
      resolve: (_root, _args, ctx) => ctx.services.datasets.stains(ctx.viewer),
    });
  },
});

export const DatasetMutations = extendType({
  type: 'Mutation',
  definition(t) {
    t.nonNull.field('createDataset', {
      type: 'DatasetPayload',
      description: 'Creates a dataset with provenance LOCAL.',
      args: { input: nonNull(arg({ type: 'CreateDatasetInput' })) },
      resolve: (_root, args, ctx) => settle('dataset', () => ctx.services.datasets.create(ctx.viewer, args.input)),
    });
    t.nonNull.field('updateDataset', {
      type: 'DatasetPayload',
      description:
        'Omitted fields stay unchanged; null makes a fact unknown. The evidence of a changed fact is deleted.',
      args: { input: nonNull(arg({ type: 'UpdateDatasetInput' })) },
      resolve: (_root, args, ctx) => settle('dataset', () => ctx.services.datasets.update(ctx.viewer, args.input)),
    });
  },
});
