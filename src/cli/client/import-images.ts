/** `paraffin datasets import`: import the images of a dataset, or preview the import. */
import { stat } from 'node:fs/promises';
import path from 'node:path';
import { InvalidArgumentError } from '@commander-js/extra-typings';
import { listOf, namesOf, numberFrom, oneOf, texts, wholeNumberFrom } from '../command.ts';
import { CommandFailure, EXIT } from '../exit-codes.ts';
import { formatGroups, table } from '../terminal.ts';
import { clientCommand, connect, granted, type ClientOptions } from './connection.ts';
import { awaitRun, type RunOutcome } from './follow.ts';
import { USER_ERROR_FIELDS } from './fragments.ts';
import { graphql, type VariablesOf } from './graphql.ts';
import { paint, show } from './output.ts';
import { idOrSlug, noDataset } from './references.ts';

const IMPORT = graphql(
  `
    mutation ImportDataset($input: ImportDatasetVersionInput!) {
      importDatasetVersion(input: $input) {
        run {
          id
          status
          queuePosition
        }
        userErrors {
          ...UserErrorFields
        }
      }
    }
  `,
  [USER_ERROR_FIELDS],
);
type ImportInput = VariablesOf<typeof IMPORT>['input'];

const FIND = graphql(`
  query FindDataset($id: ID, $slug: String) {
    dataset(id: $id, slug: $slug) {
      id
      slug
    }
  }
`);

const LAYOUTS: Readonly<Record<NonNullable<ImportInput['layout']>, true>> = {
  FOLDER_PER_LABEL: true,
  CSV: true,
  FLAT: true,
  SLIDES: true,
};
const STAINS: Readonly<Record<NonNullable<SlidesInput['stainNormalisation']>, true>> = {
  NONE: true,
  MACENKO: true,
  REINHARD: true,
};
const QUESTIONS: Readonly<Record<NonNullable<ImportInput['accept']>[number], true>> = {
  MASKS_AMONG_IMAGES: true,
  LABELS_LOOK_ALIKE: true,
  GROUPS_LOOK_ALIKE: true,
  LABEL_LISTS: true,
  LABELS_MAY_BE_DEEPER: true,
  SPLITS_AMONG_LABELS: true,
  NOT_EVALUABLE: true,
  FEWER_THAN_BEFORE: true,
};
const COLUMNS = { PATH: true, LABEL: true, GROUP: true, SPLIT: true } as const;

interface ColumnName {
  readonly role: keyof typeof COLUMNS;
  readonly name: string;
}

/** `label=Majority Vote Label`; with nothing after the sign the column is ignored. */
function columnName(text: string): ColumnName {
  const sign = text.indexOf('=');
  if (sign < 0) throw new InvalidArgumentError('The value must be a role and a name, such as label=Diagnosis.');
  return { role: oneOf(COLUMNS)(text.slice(0, sign)), name: text.slice(sign + 1) };
}

export const importCommand = clientCommand('import', {
  summary: 'import the images of a dataset, or preview it with --dry-run',
  details: [
    'Reads a folder, checks every image, and seals the valid images as a new version. The folder must be on the server, below one of its import roots.',
    'With --dry-run nothing is registered. The command shows the labels, splits and groups that the folders and columns would give, the skipped files with the reason, and likely mistakes.',
    'An import that finds a likely mistake stops before it seals a version, unless the mistake is accepted with --accept.',
  ].join('\n\n'),
  examples: [
    'datasets import colon-biopsies .paraffin/imports/colon --dry-run',
    'datasets import colon-biopsies .paraffin/imports/colon',
    'datasets import colon-biopsies /data/colon --layout csv --labels-csv /data/colon/labels.csv --patch-size 256',
    'datasets import mhist /data/mhist --layout csv --labels-csv /data/mhist.csv --column "label=Majority Vote Label"',
    'datasets import breakhis /data/breakhis --label-level 1 --group-level 4 --accept labels-may-be-deeper',
    'datasets import tissue /data/tissue --layout flat --detach',
    'datasets import prostate /data/slides --layout slides --microns-per-pixel 0.5 --patch-size 256',
    'datasets import prostate /data/slides --layout slides --microns-per-pixel 0.5 --patch-size 256 --annotations-folder /data/annotations --other-label normal',
    'datasets import prostate /data/slides --layout slides --microns-per-pixel 0.5 --patch-size 256 --labels-csv /data/slides/slides.csv --patches-per-slide 500',
  ],
})
  .argument('<dataset>', 'slug or id')
  .argument('<folder>', 'folder on the server; a relative path is resolved on this machine if it exists here')
  .option('--layout <layout>', namesOf(LAYOUTS).join(', '), oneOf(LAYOUTS), 'FOLDER_PER_LABEL' as const)
  .option(
    '--labels-csv <file>',
    'for --layout csv: columns path, label, group, split; for slides: slide, label, patient, split, micronsPerPixel',
  )
  .option(
    '--column <role=name>',
    'column of the CSV that is the path, label, group or split; may be repeated',
    columnNames,
  )
  .option('--label-level <n>', 'depth of the folder that is the label, 1 for the outermost', wholeNumberFrom(1))
  .option('--group-level <n>', 'depth of the folder that is the patient or slide', wholeNumberFrom(1))
  .option('--patch-size <px>', 'cut images into patches of this side', wholeNumberFrom(1))
  .option('--microns-per-pixel <um>', 'for --layout slides: resolution of the patches', numberFrom(0.05, 20))
  .option('--overlap <px>', 'of neighbouring patches of a slide', wholeNumberFrom(0))
  .option('--patches-per-slide <n>', 'at most so many, evenly over the tissue (default: 1000)', wholeNumberFrom(1))
  .option('--all-patches', 'all patches of a slide')
  .option('--seed <n>', 'draws the patches of a slide (default: 1)', wholeNumberFrom(0))
  .option('--tissue-share <share>', 'of a patch that must be tissue (default: 0.5)', numberFrom(0, 1))
  .option('--pen-share <share>', 'of a patch that may be pen (default: 0.05); 1: unchecked', numberFrom(0, 1))
  .option('--sharpness <value>', 'least sharpness of a patch (default: 2); 0: unchecked', numberFrom(0, 255))
  .option('--annotations', 'for slides: labels from the GeoJSON or XML beside each slide')
  .option('--annotations-folder <folder>', 'the same, from a folder on the server instead of beside the slides')
  .option('--annotation-share <share>', 'of a patch that its class must cover (default: 0.5)', numberFrom(0, 1))
  .option('--annotation-classes <names>', 'classes that are used (default: all)', texts)
  .option('--other-label <label>', 'label of patches outside of all annotations (default: none)')
  .option('--stain-normalisation <method>', `for slides: ${namesOf(STAINS).join(', ')} (default: none)`, oneOf(STAINS))
  .option('--sample-bits <n>', 'significant bits of 16-bit files that do not state it, 8 to 16', wholeNumberFrom(8))
  .option('--keep-conflicts', 'keep images that occur with two labels, splits or groups')
  .option(
    '--accept <kinds>',
    `likely mistakes that are intended: ${namesOf(QUESTIONS).join(', ')}`,
    listOf(oneOf(QUESTIONS)),
  )
  .option('--dry-run', 'read and check everything without registering it')
  .option('--detach', 'print the run and do not wait for it')
  .action(
    async (
      reference,
      folder,
      {
        layout,
        labelsCsv,
        column,
        labelLevel,
        groupLevel,
        patchSize,
        micronsPerPixel,
        overlap,
        patchesPerSlide,
        allPatches,
        seed,
        tissueShare,
        penShare,
        sharpness,
        stainNormalisation,
        annotations,
        annotationsFolder,
        annotationShare,
        annotationClasses,
        otherLabel,
        sampleBits,
        keepConflicts,
        accept,
        dryRun,
        detach,
        ...options
      },
    ) => {
      const slides = slidesInput(micronsPerPixel, {
        ...(overlap === undefined ? {} : { overlapPx: overlap }),
        ...(patchesPerSlide === undefined ? {} : { patchesPerSlideMax: patchesPerSlide }),
        ...(allPatches === undefined ? {} : { allPatches }),
        ...(seed === undefined ? {} : { seed }),
        ...(tissueShare === undefined ? {} : { tissueShareMin: tissueShare }),
        ...(penShare === undefined ? {} : { penShareMax: penShare }),
        ...(sharpness === undefined ? {} : { sharpnessMin: sharpness }),
        ...(stainNormalisation === undefined ? {} : { stainNormalisation }),
        ...annotationsInput(annotations === true || annotationsFolder !== undefined, {
          ...(annotationsFolder === undefined ? {} : { path: await pathOnServer(annotationsFolder) }),
          ...(annotationShare === undefined ? {} : { shareMin: annotationShare }),
          ...(annotationClasses === undefined ? {} : { classes: [...annotationClasses] }),
          ...(otherLabel === undefined ? {} : { otherLabel }),
        }),
      });
      const registry = await connect(options);
      const { dataset } = await registry.ask(FIND, idOrSlug(reference));
      if (dataset === null) throw noDataset(reference);
      const { importDatasetVersion } = await registry.ask(IMPORT, {
        input: {
          datasetId: dataset.id,
          path: await pathOnServer(folder),
          layout,
          ...(labelsCsv === undefined ? {} : { labelsCsvPath: await pathOnServer(labelsCsv) }),
          ...(column === undefined
            ? {}
            : { csvColumns: Object.fromEntries(column.map(({ role, name }) => [role.toLowerCase(), name])) }),
          ...(labelLevel === undefined ? {} : { labelLevel }),
          ...(groupLevel === undefined ? {} : { groupLevel }),
          ...(patchSize === undefined ? {} : { patchSizePx: patchSize }),
          ...(slides === undefined ? {} : { slides }),
          ...(sampleBits === undefined ? {} : { sampleBits }),
          ...(keepConflicts === undefined ? {} : { keepConflicts }),
          ...(accept === undefined ? {} : { accept: [...accept] }),
          ...(dryRun === undefined ? {} : { dryRun }),
        },
      });
      const run = granted(importDatasetVersion.run, importDatasetVersion);
      if (detach === true) {
        show(options, {
          data: run,
          names: [run.id],
          text: `Run ${run.id} imports the folder. Follow it with: paraffin runs logs -f ${run.id}`,
        });
        return;
      }
      const outcome = await awaitRun(registry, options, run.id);
      if (dryRun === true) showDryRun(options, outcome);
      else showImported(options, outcome);
    },
  );

type SlidesInput = NonNullable<ImportInput['slides']>;

/** Undefined for images. */
function slidesInput(
  micronsPerPixel: number | undefined,
  others: Omit<SlidesInput, 'micronsPerPixel'>,
): SlidesInput | undefined {
  if (micronsPerPixel !== undefined) return { micronsPerPixel, ...others };
  const [option] = Object.keys(others);
  if (option === undefined) return undefined;
  throw new CommandFailure({
    exitCode: EXIT.INVALID_ARGUMENTS,
    message: 'Options of slides need --layout slides and --microns-per-pixel.',
    hint: 'For instance: --layout slides --microns-per-pixel 0.5 --patch-size 256',
  });
}

/** Nothing where annotations are not read. */
function annotationsInput(
  areRead: boolean,
  input: NonNullable<SlidesInput['annotations']>,
): Pick<SlidesInput, 'annotations'> {
  if (areRead) return { annotations: input };
  if (Object.keys(input).length === 0) return {};
  throw new CommandFailure({
    exitCode: EXIT.INVALID_ARGUMENTS,
    message: 'Options of annotations need --annotations or --annotations-folder.',
    hint: 'For instance: --annotations --annotation-share 0.75 --other-label normal',
  });
}

function columnNames(text: string, before: readonly ColumnName[] = []): readonly ColumnName[] {
  return [...before, columnName(text)];
}

type Report = NonNullable<RunOutcome['importReport']>;

function showDryRun(options: ClientOptions, { importReport: report }: RunOutcome): void {
  if (report === null) throw new CommandFailure({ message: 'The dry run succeeded without a report.' });
  const { questions } = report;
  show(options, {
    data: report,
    names: questions,
    text: [
      paint('bold', `A dry run: ${report.imageCount} images of ${report.fileCount} files; nothing was registered.`),
      ...assignmentLines(report),
      ...reportLines(report),
      ...groupHints(report),
      questions.length === 0
        ? paint('green', 'An import would seal this version.')
        : `${paint('yellow', `An import would be refused for ${questions.join(', ')}.`)} Correct the folder, or add --accept ${questions.map((each) => each.toLowerCase().replaceAll('_', '-')).join(',')}`,
    ].join('\n'),
  });
}

function showImported(options: ClientOptions, { datasetVersion, importReport }: RunOutcome): void {
  if (datasetVersion === null) throw new CommandFailure({ message: 'The import succeeded without a version.' });
  const { id, version, digest, imageCount, labelCounts, issues, dataset } = datasetVersion;
  show(options, {
    data: datasetVersion,
    names: [id],
    text: [
      `${paint('bold', `${dataset.slug}@${version}`)}: ${imageCount} images, ${formatGroups(datasetVersion)}, digest ${digest ?? ''}`,
      ...(importReport === null
        ? [`labels: ${labelCounts.map(({ label, count }) => `${label} ${count}`).join(', ')}`]
        : [...reportLines(importReport), ...groupHints(importReport)]),
      ...(issues.length === 0 ? ['No problems were found.'] : []),
    ].join('\n'),
  });
}

/** Folders that are listed on a terminal. */
const ASSIGNMENTS_SHOWN = 40;

function assignmentLines({ assignments, assignmentCount }: Report): string[] {
  const shown = assignments.slice(0, ASSIGNMENTS_SHOWN);
  const rows = shown.map(({ folder, label, split, fileCount }) => [
    folder === '' ? '.' : folder,
    label ?? '-',
    split ?? '-',
    String(fileCount),
  ]);
  return [
    table(['folder', 'label', 'split', 'files'], rows),
    ...(assignmentCount > shown.length ? [`and ${assignmentCount - shown.length} more`] : []),
  ];
}

function reportLines(report: Report): string[] {
  const { labelCounts, splitCounts, notes, passedOver, issues } = report;
  return [
    ...notes,
    ...(labelCounts.length === 0
      ? []
      : [`labels: ${labelCounts.map(({ label, count }) => `${label} ${count}`).join(', ')}`]),
    ...(splitCounts.length === 0
      ? []
      : [`splits: ${splitCounts.map(({ split, count }) => `${split} ${count}`).join(', ')}`]),
    `groups: ${formatGroups(report)}`,
    ...passedOver.map(
      ({ reason, count, examples }) =>
        `skipped, ${reason.toLowerCase().replaceAll('_', ' ')}: ${count}, e.g. ${examples.join('; ')}`,
    ),
    ...issues.map(
      ({ kind, count, kept, meaning, examples }) =>
        `${paint(kept ? 'cyan' : 'yellow', kind)} ${count}${kept ? ' (kept)' : ''}: ${meaning ?? ''} ${paint('dim', `e.g. ${examples.slice(0, 2).join('; ')}`)}`,
    ),
  ];
}

/** How to import again so that the patients or slides are known; nothing if they are. */
function groupHints({ ungroupedImageCount, groupSuggestions }: Report): string[] {
  if (ungroupedImageCount === 0) return [];
  const hints = groupSuggestions.map(({ groupLevel, csvColumn, groupCount, examples }) => {
    const named = examples.slice(0, GROUPS_NAMED).join(', ');
    return csvColumn === null
      ? [
          `--group-level ${groupLevel ?? 1}`,
          `if the ${groupCount} folders of this level are patients or slides: ${named}`,
        ]
      : [`--column ${quoted(`group=${csvColumn}`)}`, `if its ${groupCount} values are patients or slides: ${named}`];
  });
  const general = ['--layout csv --labels-csv FILE', 'with a CSV of the columns path, label and group'];
  return [
    paint('yellow', 'Without groups, images of one patient may be in training and test, and intervals are too narrow.'),
    'To give groups, import again with what fits:',
    table(['option', ''], [...hints, general]),
  ];
}

/** Names of groups after a hint. */
const GROUPS_NAMED = 3;

/** As a POSIX shell reads it. */
function quoted(text: string): string {
  return /^[\w=.-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

/** An absolute path if it exists on this machine; any other path is sent as it is. */
async function pathOnServer(given: string): Promise<string> {
  const here = path.resolve(given);
  return (await stat(here).then(
    () => true,
    () => false,
  ))
    ? here
    : given;
}
