/** API types for launching imports and for their reports. */
import path from 'node:path';
import { pageArguments } from '../../api/connection-type.ts';
import { arg, enumType, extendType, inputObjectType, list, nonNull, objectType, stringArg } from '../../api/nexus.ts';
import { settle } from '../../api/payload.ts';
import { IMPORT_QUESTIONS } from './imports.rules.ts';

const rules = path.join(import.meta.dirname, 'imports.rules.ts');

export const ImportLayout = enumType({
  name: 'ImportLayout',
  description: 'How labels are laid out. CSV has the columns path, label, group, split; only path is required.',
  members: ['FLAT', 'FOLDER_PER_LABEL', 'CSV'],
});
export const ImportQuestion = enumType({
  name: 'ImportQuestion',
  description:
    'Kinds of issues for which an import is refused unless they are accepted: each looks like a mistake and may be meant.',
  members: IMPORT_QUESTIONS,
});

export const CsvColumnsInput = inputObjectType({
  name: 'CsvColumnsInput',
  description: 'Names of columns, in any case. An empty name: that column is not read.',
  definition(t) {
    t.string('path');
    t.string('label');
    t.string('group');
    t.string('split');
  },
});

export const ImportDatasetVersionInput = inputObjectType({
  name: 'ImportDatasetVersionInput',
  definition(t) {
    t.nonNull.id('datasetId');
    t.nonNull.string('path', { description: 'A folder under one of the import roots of the server.' });
    t.nonNull.field('layout', { type: 'ImportLayout', default: 'FOLDER_PER_LABEL' });
    t.string('labelsCsvPath', { description: 'For layout CSV: a file under one of the import roots.' });
    t.field('csvColumns', {
      type: 'CsvColumnsInput',
      description: 'Which columns of the CSV are which, where their names do not say.',
    });
    t.int('labelLevel', {
      description:
        'Which folder on the way to an image is its label, 1 for the first. Default: the first one after single wrapper folders and train, validation, test.',
    });
    t.int('groupLevel', { description: 'Which folder is the patient or slide. Default: none but TCGA barcodes.' });
    t.int('patchSizePx', { description: 'Cut images into patches of this side; left out, images are kept whole.' });
    t.int('sampleBits', {
      description:
        'How many bits the samples of 16-bit files have that do not say so, 8 to 16: 12 for pictures of a 12-bit camera, 16 for dark pictures. Left out, those that may be either are left out.',
    });
    t.nonNull.boolean('keepConflicts', {
      default: false,
      description: 'Keep one picture under two labels, splits or groups under both; otherwise it is left out of both.',
    });
    t.list.nonNull.field('accept', {
      type: 'ImportQuestion',
      description: 'What looks like a mistake and is meant: an import is refused for the others that it finds.',
    });
    t.nonNull.boolean('dryRun', {
      default: false,
      description: 'Read and check everything, register nothing: Run.importReport says what would become what.',
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
  description: 'Files of one folder and what they become.',
  definition(t) {
    t.nonNull.string('folder', { description: 'Within the imported folder; empty for that itself.' });
    t.string('label');
    t.string('split');
    t.nonNull.int('fileCount');
  },
});

export const PassedOver = objectType({
  name: 'PassedOver',
  sourceType: { module: rules, export: 'PassedOverRecord' },
  description: 'What an import did not look into.',
  definition(t) {
    t.nonNull.string('reason', { description: 'SYSTEM_FOLDER, HIDDEN or SIDE_FILE.' });
    t.nonNull.int('count', { description: 'A folder counts once, with all that it holds.' });
    t.field('examples', { type: nonNull(list(nonNull('String'))), description: 'Folders end in a slash.' });
  },
});

export const ImportReport = objectType({
  name: 'ImportReport',
  sourceType: { module: rules, export: 'ImportReportRecord' },
  description: 'What an import came to, or would come to.',
  definition(t) {
    t.nonNull.boolean('isDryRun');
    t.nonNull.boolean('imagesChecked', {
      description: 'False where names alone raised questions, so that no image was read: then counts are of files.',
    });
    t.nonNull.int('fileCount', { description: 'Files that were taken for images.' });
    t.nonNull.int('imageCount');
    t.nonNull.int('groupCount');
    t.nonNull.int('ungroupedImageCount', { description: 'Images whose patient or slide is not known.' });
    t.field('labelCounts', { type: nonNull(list(nonNull('LabelCount'))) });
    t.field('splitCounts', { type: nonNull(list(nonNull('SplitCount'))) });
    t.field('assignments', {
      type: nonNull(list(nonNull('ImportAssignment'))),
      description: 'By folder, the first hundreds; assignmentCount says of how many.',
    });
    t.nonNull.int('assignmentCount');
    t.field('passedOver', { type: nonNull(list(nonNull('PassedOver'))) });
    t.field('notes', {
      type: nonNull(list(nonNull('String'))),
      description: 'How folders and columns were read, in sentences.',
    });
    t.field('issues', { type: nonNull(list(nonNull('ImportIssue'))) });
    t.field('issueEntries', {
      type: nonNull('ImportIssueEntryConnection'),
      description: 'Every single issue, by kind.',
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
      description: 'What needs an answer (ImportDatasetVersionInput.accept) before a version is sealed.',
    });
  },
});

export const RunImportReport = extendType({
  type: 'Run',
  definition(t) {
    t.field('importReport', {
      type: 'ImportReport',
      description: 'Of an IMPORT that has looked at its files: what it found, also where it was refused for that.',
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
