/** API types for launching imports and for their reports. */
import path from 'node:path';
import { pageArguments } from '../../api/connection-type.ts';
import { arg, enumType, extendType, inputObjectType, list, nonNull, objectType, stringArg } from '../../api/nexus.ts';
import { settle } from '../../api/payload.ts';
import { IMPORT_LAYOUTS, IMPORT_QUESTIONS } from '../../protocol/import.ts';
import { ANNOTATION_SHARE_DEFAULT, SLIDE_OPTION_DEFAULTS, STAIN_NORMALISATIONS } from '../../protocol/slide-options.ts';

const rules = path.join(import.meta.dirname, '../../protocol/import.ts');

export const ImportLayout = enumType({
  name: 'ImportLayout',
  description:
    'How labels are laid out. CSV has the columns path, label, group, split; only path is required. SLIDES: whole slides, from which patches of tissue are cut.',
  members: IMPORT_LAYOUTS,
});
export const ImportQuestion = enumType({
  name: 'ImportQuestion',
  description:
    'Kinds of issues for which an import is refused unless they are accepted: each may be a mistake or intended.',
  members: IMPORT_QUESTIONS,
});

export const CsvColumnsInput = inputObjectType({
  name: 'CsvColumnsInput',
  description: 'Names of columns; case is ignored. An empty name: the column is not read.',
  definition(t) {
    t.string('path');
    t.string('label');
    t.string('group');
    t.string('split');
  },
});

export const StainNormalisation = enumType({
  name: 'StainNormalisation',
  description:
    'Patches as if their slide were stained as a fixed reference. The stain of a slide is estimated once, from patches all over it. MACENKO: Macenko et al. 2009, by two directions of optical density. REINHARD: Reinhard et al. 2001, by mean and standard deviation of colour.',
  members: [...STAIN_NORMALISATIONS],
});

export const AnnotationsInput = inputObjectType({
  name: 'AnnotationsInput',
  description:
    'Annotations have the name of their slide: GeoJSON of QuPath, XML of ASAP or Aperio. A slide without them has the label of the CSV.',
  definition(t) {
    t.string('path', {
      description:
        'A folder of annotations under one of the import roots: a file has the name of its slide, and lies in the same subfolder or in none. Default: they lie beside the slides.',
    });
    t.float('shareMin', {
      description: `Share of a patch that regions of a class must cover for its label. A patch with two such classes is left out, and told. Default: ${ANNOTATION_SHARE_DEFAULT}.`,
    });
    t.string('otherLabel', {
      description: 'Label of patches of which shareMin lies in no region. Default: they have none.',
    });
    t.list.nonNull.string('classes', { description: 'Classes that are used. Default: all.' });
  },
});

export const SlidesInput = inputObjectType({
  name: 'SlidesInput',
  description: 'How patches are cut from whole slides. Their side is patchSizePx.',
  definition(t) {
    t.nonNull.float('micronsPerPixel', {
      description: 'Resolution of the patches, 0.05 to 20; each slide is resampled to it.',
    });
    t.int('overlapPx', { description: 'Overlap of neighbouring patches, in their pixels. Default: 0.' });
    t.int('patchesPerSlideMax', {
      description: `At most this many patches of a slide, drawn evenly over its tissue. Default: ${SLIDE_OPTION_DEFAULTS.patchesPerSlideMax}.`,
    });
    t.boolean('allPatches', { description: 'All patches of a slide, whatever their number.' });
    t.int('seed', { description: 'Draws the patches. Default: 1.' });
    t.float('tissueShareMin', {
      description: `Share of a patch that must be tissue, 0..1. Default: ${SLIDE_OPTION_DEFAULTS.tissueShareMin}.`,
    });
    t.float('penShareMax', {
      description: `A patch with a larger share of pen is left out; 1 switches it off. Default: ${SLIDE_OPTION_DEFAULTS.penShareMax}.`,
    });
    t.float('sharpnessMin', {
      description: `A patch whose Laplacian has a smaller standard deviation is left out as out of focus; 0 switches it off. Default: ${SLIDE_OPTION_DEFAULTS.sharpnessMin}.`,
    });
    t.field('stainNormalisation', {
      type: 'StainNormalisation',
      description: 'Default: NONE.',
    });
    t.field('annotations', {
      type: 'AnnotationsInput',
      description: 'Labels patches by annotations of the slides. Default: annotations are not read.',
    });
  },
});

export const ImportDatasetVersionInput = inputObjectType({
  name: 'ImportDatasetVersionInput',
  definition(t) {
    t.nonNull.id('datasetId');
    t.nonNull.string('path', { description: 'A folder under one of the import roots of the server.' });
    t.nonNull.field('layout', { type: 'ImportLayout', default: 'FOLDER_PER_LABEL' });
    t.string('labelsCsvPath', {
      description:
        'For layout CSV, and optionally for SLIDES (columns slide, label, patient, split, micronsPerPixel): a file under one of the import roots.',
    });
    t.field('csvColumns', {
      type: 'CsvColumnsInput',
      description: 'Columns of the CSV, if their names differ from the defaults.',
    });
    t.int('labelLevel', {
      description:
        'Depth of the folder that is the label of an image, 1 for the outermost. Default: the first folder after single wrapper folders and train, validation, test.',
    });
    t.int('groupLevel', {
      description:
        'Depth of the folder that is the patient or slide. Default: only TCGA barcodes in names are recognised.',
    });
    t.field('slides', { type: 'SlidesInput', description: 'For layout SLIDES.' });
    t.int('patchSizePx', {
      description: 'Side of the patches into which images are cut. Default: images are kept whole.',
    });
    t.int('sampleBits', {
      description:
        'Significant bits of the samples in 16-bit files that do not state it, 8 to 16: 12 for images of a 12-bit camera, 16 for dark images. Default: ambiguous images are left out.',
    });
    t.nonNull.boolean('keepConflicts', {
      default: false,
      description: 'Keep an image that occurs with two labels, splits or groups; by default it is left out.',
    });
    t.list.nonNull.field('accept', {
      type: 'ImportQuestion',
      description: 'Kinds of issues that are intended; an import is refused if it finds others.',
    });
    t.nonNull.boolean('dryRun', {
      default: false,
      description: 'Read and check everything but register nothing; Run.importReport shows the result.',
    });
    t.int('maxDurationSeconds', {
      description: 'Longest running time; after it the run is FAILED with class TIMEOUT. Default: no limit.',
    });
    t.string('idempotencyKey', { description: 'The same key with the same input returns the same run.' });
  },
});

export const SplitCount = objectType({
  name: 'SplitCount',
  definition(t) {
    t.nonNull.string('split', { description: 'train, validation or test.' });
    t.nonNull.int('count');
  },
});

export const ImportAssignment = objectType({
  name: 'ImportAssignment',
  sourceType: { module: rules, export: 'ImportAssignmentRecord' },
  description: 'The files of one folder, with the label, group and split that they get.',
  definition(t) {
    t.nonNull.string('folder', { description: 'Path within the imported folder; empty for the folder itself.' });
    t.string('label');
    t.string('split');
    t.nonNull.int('fileCount');
  },
});

export const PassedOver = objectType({
  name: 'PassedOver',
  sourceType: { module: rules, export: 'PassedOverRecord' },
  description: 'Files and folders that an import skipped.',
  definition(t) {
    t.nonNull.string('reason', { description: 'SYSTEM_FOLDER, HIDDEN or SIDE_FILE.' });
    t.nonNull.int('count', { description: 'A folder counts as one, whatever it contains.' });
    t.field('examples', { type: nonNull(list(nonNull('String'))), description: 'Names of folders end in a slash.' });
  },
});

export const GroupSuggestion = objectType({
  name: 'GroupSuggestion',
  sourceType: { module: rules, export: 'GroupSuggestionRecord' },
  description: 'A folder level or a CSV column that may name patients or slides. Either is given.',
  definition(t) {
    t.int('groupLevel', { description: 'Value for ImportDatasetVersionInput.groupLevel.' });
    t.string('csvColumn', { description: 'Value for ImportDatasetVersionInput.csvColumns.group.' });
    t.nonNull.int('groupCount', { description: 'Number of groups that it would give.' });
    t.field('examples', { type: nonNull(list(nonNull('String'))) });
  },
});

export const ImportReport = objectType({
  name: 'ImportReport',
  sourceType: { module: rules, export: 'ImportReportRecord' },
  description: 'The result of an import or of a dry run.',
  definition(t) {
    t.nonNull.boolean('isDryRun');
    t.nonNull.boolean('imagesChecked', {
      description: 'False if the names alone raised questions, so that no image was read; counts are then of files.',
    });
    t.nonNull.int('fileCount', { description: 'Number of files that are images by their name.' });
    t.nonNull.int('imageCount');
    t.nonNull.int('groupCount', { description: 'Number of known groups.' });
    t.nonNull.int('ungroupedImageCount', { description: 'Number of images whose patient or slide is not known.' });
    t.field('labelCounts', { type: nonNull(list(nonNull('LabelCount'))) });
    t.field('splitCounts', { type: nonNull(list(nonNull('SplitCount'))) });
    t.field('assignments', {
      type: nonNull(list(nonNull('ImportAssignment'))),
      description: 'Labels, groups and splits by folder; only the first few hundred of assignmentCount.',
    });
    t.nonNull.int('assignmentCount');
    t.field('passedOver', { type: nonNull(list(nonNull('PassedOver'))) });
    t.field('notes', {
      type: nonNull(list(nonNull('String'))),
      description: 'How folders and columns were interpreted, in sentences.',
    });
    t.field('groupSuggestions', {
      type: nonNull(list(nonNull('GroupSuggestion'))),
      description: 'Where groups may be found for images without one; empty where nothing looks like them.',
    });
    t.field('issues', { type: nonNull(list(nonNull('ImportIssue'))) });
    t.field('issueEntries', {
      type: nonNull('ImportIssueEntryConnection'),
      description: 'Every issue, by kind.',
      args: { ...pageArguments, kind: stringArg({ description: 'Only issues of this kind.' }) },
      resolve: ({ issues, issueList }, { kind, ...page }, ctx) => {
        const listed = { issues, issueListSha256: issueList?.sha256 ?? null };
        return ctx.services.importIssues.list(ctx.viewer, listed, page, kind ?? null);
      },
    });
    t.string('issueListUrl', {
      description: 'Path on this server of a CSV of every issue; null if there is none.',
      resolve: ({ issueList }) => (issueList === null ? null : `/artifacts/${issueList.sha256}`),
    });
    t.field('questions', {
      type: nonNull(list(nonNull('ImportQuestion'))),
      description: 'Issues that must be accepted (ImportDatasetVersionInput.accept) before a version is sealed.',
    });
  },
});

export const RunImportReport = extendType({
  type: 'Run',
  definition(t) {
    t.field('importReport', {
      type: 'ImportReport',
      description:
        'The findings of an IMPORT, as soon as it has checked its files; also if the import was then refused.',
      resolve: (run, _args, ctx) => (run.kind === 'IMPORT' ? ctx.loaders.runs.importReport.load(run.id) : null),
    });
  },
});

export const ImportMutation = extendType({
  type: 'Mutation',
  definition(t) {
    t.nonNull.field('importDatasetVersion', {
      type: 'RunPayload',
      args: { input: nonNull(arg({ type: 'ImportDatasetVersionInput' })) },
      resolve: (_root, args, ctx) => settle('run', () => ctx.services.runs.launchImport(ctx.viewer, args.input)),
    });
  },
});
