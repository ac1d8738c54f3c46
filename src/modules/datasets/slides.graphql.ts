/** Slides of dataset versions in the API. */
import path from 'node:path';
import { connectionType } from '../../api/connection-type.ts';
import { enumType, inputObjectType, list, nonNull, objectType } from '../../api/nexus.ts';
import { SLIDE_STATUSES } from '../../protocol/imported-slide.ts';
import { MPP_SOURCES } from '../../protocol/slide-facts.ts';

const records = path.join(import.meta.dirname, 'datasets.records.ts');

export const SlideStatus = enumType({
  name: 'SlideStatus',
  description: 'IMPORTED: the version has patches of the slide. LEFT_OUT: it has none; Slide.reason says why.',
  members: SLIDE_STATUSES,
});

export const MicronsPerPixelSource = enumType({
  name: 'MicronsPerPixelSource',
  description:
    'GIVEN: by the CSV of the import. OPENSLIDE: by the property of OpenSlide. VENDOR: by a property of the vendor. TIFF_RESOLUTION: by the resolution of the TIFF with its unit.',
  members: MPP_SOURCES,
});

export const SlideFilter = inputObjectType({
  name: 'SlideFilter',
  description: 'All given conditions must match.',
  definition(t) {
    t.field('status', { type: 'SlideStatus' });
    t.string('label');
    t.string('search', { description: 'A part of the path, in upper or lower case.' });
  },
});

export const SlideLevel = objectType({
  name: 'SlideLevel',
  sourceType: { module: records, export: 'SlideLevelRecord' },
  description: 'A level of the pyramid of a slide.',
  definition(t) {
    t.nonNull.int('width', { description: 'In pixels.' });
    t.nonNull.int('height', { description: 'In pixels.' });
    t.nonNull.float('downsample', { description: 'Pixels of level 0 for one pixel of this level, along each axis.' });
  },
});

export const SlideResolution = objectType({
  name: 'SlideResolution',
  sourceType: { module: records, export: 'SlideResolutionRecord' },
  description: 'Microns per pixel of level 0, and where they were learned.',
  definition(t) {
    t.nonNull.float('x', { description: 'From left to right.' });
    t.nonNull.float('y', { description: 'From top to bottom.' });
    t.nonNull.field('source', { type: 'MicronsPerPixelSource' });
    t.string('property', { description: 'The property that states them; null if they were given.' });
  },
});

export const SlidePatches = objectType({
  name: 'SlidePatches',
  sourceType: { module: records, export: 'SlidePatchesRecord' },
  description:
    'The patches that a version has of a slide: x and y have an entry for each, in the order of the version.',
  definition(t) {
    t.nonNull.int('firstRow', { description: 'Row of the first of them in the manifest, from 0; the others follow.' });
    t.nonNull.int('width', { description: 'Of each patch, in pixels of level 0.' });
    t.nonNull.int('height', { description: 'Of each patch, in pixels of level 0.' });
    t.nonNull.list.nonNull.int('x', {
      description: 'Of the top left corners, in pixels of level 0.',
      resolve: ({ x }) => [...x],
    });
    t.nonNull.list.nonNull.int('y', {
      description: 'Of the top left corners, in pixels of level 0.',
      resolve: ({ y }) => [...y],
    });
    t.nonNull.list.nonNull.string('labelNames', {
      description: 'The labels of these patches, each once.',
      resolve: ({ labelNames }) => [...labelNames],
    });
    t.field('labels', {
      type: nonNull(list('Int')),
      description: 'The place of the label of each patch in labelNames, from 0; null for a patch without a label.',
      resolve: ({ labels }) => [...labels],
    });
  },
});

export const Slide = objectType({
  name: 'Slide',
  sourceType: { module: records, export: 'SlideRecord' },
  description:
    'A whole slide of the folder from which a version was imported. Neither label and macro images nor free text of the slide are kept, because they may name a patient.',
  definition(t) {
    t.nonNull.int('position', { description: 'From 0, in the order of the paths.' });
    t.nonNull.string('path', {
      description: 'Of its file, within the imported folder: the column slide of the manifest.',
    });
    t.nonNull.field('status', { type: 'SlideStatus' });
    t.string('issueKind', {
      description: 'The kind of ImportIssue for which it was left out; null if no single issue was the cause.',
    });
    t.string('reason', { description: 'Why it was left out; null for an imported slide.' });
    t.string('fileDigest', {
      description:
        'sha256 of its file as it was imported, without further files such as the folder of an .mrxs; null if it was not read.',
    });
    t.float('fileByteSize');
    t.string('label');
    t.string('group', { description: 'The patient if known, otherwise the slide.' });
    t.string('split');
    t.string('vendor', { description: 'The format as OpenSlide names it; null if the slide cannot be opened.' });
    t.int('width', { description: 'Of level 0, in pixels.', resolve: ({ levels }) => levels[0]?.width ?? null });
    t.int('height', { description: 'Of level 0, in pixels.', resolve: ({ levels }) => levels[0]?.height ?? null });
    t.field('levels', {
      type: nonNull(list(nonNull('SlideLevel'))),
      description: 'From the finest; empty if the slide cannot be opened.',
    });
    t.field('micronsPerPixel', { type: 'SlideResolution', description: 'Null if they are not known.' });
    t.float('objective', { description: 'Nominal magnification; null if the slide states none.' });
    t.nonNull.int('patchCount', { description: 'Images of the version that were cut from it.' });
    t.nonNull.string('tilesUrl', {
      description:
        'Path on this server below which {level}/{column}_{row}.jpg are the tiles of a Deep Zoom pyramid of 512 px without overlap, cut from the file that was imported. They exist only as long as that file is where it was.',
      resolve: ({ versionId, position }) => `/versions/${versionId}/slides/${position}/tiles`,
    });
    t.float('tissueFraction', { description: 'Share of the slide, 0 to 1; null if tissue was not looked for.' });
    t.float('penFraction', { description: 'Share of the slide, 0 to 1; null if tissue was not looked for.' });
    t.string('thumbnailUrl', {
      description: 'Path on this server of a WebP of the whole slide; null if tissue was not looked for.',
      resolve: ({ thumbnailSha256 }) => pathOf(thumbnailSha256),
    });
    t.string('tissueMaskUrl', {
      description:
        'Path on this server of a PNG with one channel: 255 for tissue, else 0. It shows what the thumbnail shows.',
      resolve: ({ tissueMaskSha256 }) => pathOf(tissueMaskSha256),
    });
  },
});

export const SlideConnection = connectionType('Slide');

function pathOf(sha256: string | null): string | null {
  return sha256 === null ? null : `/artifacts/${sha256}`;
}
