/** API input types for querying and editing datasets. Lengths and ranges are in datasets.rules.ts. */
import { inputObjectType, list, nonNull } from '../../api/nexus.ts';

export const FloatRange = inputObjectType({
  name: 'FloatRange',
  description: 'Both bounds are inclusive; an omitted bound is open.',
  definition(t) {
    t.float('min');
    t.float('max');
  },
});

export const DatasetFilter = inputObjectType({
  name: 'DatasetFilter',
  description: 'All given conditions must match. A list matches if the dataset has any of its values.',
  definition(t) {
    t.string('search', { description: 'Words, "phrases", or, -not; the last word may be unfinished.' });
    t.field('organs', { type: list(nonNull('String')), description: 'Codes or names.' });
    t.field('stains', { type: list(nonNull('String')), description: 'Codes or names.' });
    t.field('imageKinds', { type: list(nonNull('ImageKind')) });
    t.field('tasks', { type: list(nonNull('TaskKind')) });
    t.field('licences', {
      type: list(nonNull('String')),
      description: 'Exact text; UNKNOWN for datasets without a known licence.',
    });
    t.field('provenances', { type: list(nonNull('DatasetProvenance')) });
    t.field('magnification', {
      type: 'FloatRange',
      description: 'Magnification of the objective. A dataset without a known value does not match.',
    });
    t.field('micronsPerPixel', {
      type: 'FloatRange',
      description: 'A dataset without a known value does not match.',
    });
    t.boolean('hasVersions', { description: 'Whether the dataset has a SEALED version.' });
    t.boolean('synthetic');
  },
});

export const DatasetOrder = inputObjectType({
  name: 'DatasetOrder',
  definition(t) {
    t.nonNull.field('field', { type: 'DatasetOrderField' });
    t.field('direction', { type: 'OrderDirection', description: 'Default: ASC, or DESC for RELEVANCE.' });
  },
});

export const ResolutionInput = inputObjectType({
  name: 'ResolutionInput',
  definition(t) {
    t.float('magnification');
    t.float('totalMagnification');
    t.float('micronsPerPixel');
  },
});

export const CitationInput = inputObjectType({
  name: 'CitationInput',
  definition(t) {
    t.string('authors');
    t.string('title');
    t.string('venue');
    t.string('doi');
    t.string('arxiv');
  },
});

type Block<Name extends string> = Parameters<Parameters<typeof inputObjectType<Name>>[0]['definition']>[0];

function defineFacts<Name extends 'CreateDatasetInput' | 'UpdateDatasetInput'>(t: Block<Name>): void {
  t.string('description');
  t.field('organs', { type: list(nonNull('String')), description: 'Codes or names of known organs (query organs).' });
  t.field('stains', { type: list(nonNull('String')), description: 'Codes or names of known stains (query stains).' });
  t.field('resolutions', { type: list(nonNull('ResolutionInput')) });
  t.int('imageCount');
  t.int('slideCount');
  t.string('imageSizeNote');
  t.field('classNames', { type: list(nonNull('String')) });
  t.field('tasks', { type: list(nonNull('TaskKind')) });
  t.field('ihcMarkers', { type: list(nonNull('String')) });
  t.string('licence');
  t.int('publishedYear');
  t.field('citation', { type: 'CitationInput' });
  t.string('homepageUrl');
  t.string('notes');
  t.field('parentCollections', {
    type: list(nonNull('String')),
    description: 'Slugs of the datasets from whose slides the images were taken.',
  });
}

export const CreateDatasetInput = inputObjectType({
  name: 'CreateDatasetInput',
  definition(t) {
    t.nonNull.string('name');
    t.string('slug', { description: 'Default: derived from the name.' });
    t.nonNull.field('imageKind', { type: 'ImageKind', default: 'PATCH' });
    t.nonNull.boolean('synthetic', { default: false, description: 'True if the images were drawn by a program.' });
    defineFacts(t);
  },
});

export const UpdateDatasetInput = inputObjectType({
  name: 'UpdateDatasetInput',
  definition(t) {
    t.nonNull.id('id');
    t.string('name');
    t.field('imageKind', { type: 'ImageKind' });
    t.boolean('synthetic');
    defineFacts(t);
  },
});
