/**
 * Plans an import from file names, the labels CSV and the pixels of a few files: the files that it reads, with their
 * labels, groups and splits.
 */
import type { FileHandle } from 'node:fs/promises';
import { DomainError } from '../../src/errors.ts';
import type { OpenFolder } from '../../src/platform/open-folder.ts';
import type { ColumnChoice } from './csv-columns.ts';
import { withoutMasks, type Examine } from './find-masks.ts';
import { readFolderLayout } from './folder-layout.ts';
import type { GroupSuggestion } from './group-suggestions.ts';
import { recordIssues, type RecordedIssues } from './issues.ts';
import { readLabelsCsv } from './labels-csv.ts';
import { listFiles, type PassedOver, type SourceList } from './listing.ts';
import type { PictureFolder, PlannedSlide } from './slides/imported-slides.ts';
import { planSlides, type SlidesToPlan } from './slides/plan-slides.ts';

export type ImportLayout = 'FLAT' | 'FOLDER_PER_LABEL' | 'CSV' | 'SLIDES';

export interface LayoutOptions {
  readonly folder: OpenFolder;
  /** Path of the folder, for a CSV with absolute paths. */
  readonly folderPath?: string;
  readonly layout: ImportLayout;
  /** Required by layout CSV, optional for SLIDES, otherwise ignored. The caller closes it. */
  readonly labelsCsv: FileHandle | null;
  /** The roles of CSV columns whose names do not show them. */
  readonly csvColumns?: ColumnChoice;
  /** Which folder level is the label, from 1; null: found by rule. */
  readonly labelLevel?: number | null;
  /** Which folder level is the patient or slide; null: none. */
  readonly groupLevel?: number | null;
  /** Required by layout SLIDES, otherwise ignored. */
  readonly slides?: Omit<SlidesToPlan, 'folder' | 'slidesCsv' | 'pictures'> | null;
}

export interface ImportPlan {
  /** Sorted by code point of their path. */
  readonly sources: SourceList;
  /** True if the images should have labels. */
  readonly isLabelled: boolean;
  readonly notes: readonly string[];
  readonly groupSuggestions: readonly GroupSuggestion[];
  readonly passedOver: readonly PassedOver[];
  readonly issues: RecordedIssues;
  /** Of layout SLIDES: every slide of the folder, by its path. */
  readonly slides?: readonly PlannedSlide[];
}

/**
 * @param examine measures an image of the folder, to recognise masks.
 * @param pictures where those of slides are kept; null: nowhere.
 * @throws DomainError IMPORT_FOLDER_EMPTY, LABELS_CSV_INVALID.
 */
export async function planImport(
  options: LayoutOptions,
  examine: Examine,
  pictures: PictureFolder | null,
): Promise<ImportPlan> {
  const {
    folder,
    folderPath = null,
    layout,
    labelsCsv,
    csvColumns = {},
    labelLevel = null,
    groupLevel = null,
    slides = null,
  } = options;
  const issues = recordIssues();
  if (layout === 'SLIDES') {
    if (slides === null) throw new Error('The layout SLIDES needs readers of slides.');
    const planned = await planSlides({ ...slides, folder, slidesCsv: labelsCsv, pictures }, issues);
    return { ...planned, groupSuggestions: [], issues };
  }
  if (layout === 'CSV') {
    if (labelsCsv === null) {
      throw new DomainError({
        code: 'LABELS_CSV_INVALID',
        message: 'The layout CSV needs a labels CSV.',
        field: 'input.labelsCsvPath',
        hint: 'Give its path.',
      });
    }
    const { hasLabels, ...planned } = await readLabelsCsv(labelsCsv, { folder, folderPath, csvColumns }, issues);
    return { ...planned, isLabelled: hasLabels, passedOver: [], issues };
  }
  const isLabelled = layout === 'FOLDER_PER_LABEL';
  const listing = await listFiles(folder, issues);
  const files = await withoutMasks(listing.files, examine, issues);
  const planned = readFolderLayout({ ...listing, files }, { labelled: isLabelled, labelLevel, groupLevel }, issues);
  if (planned.sources.length > 0) return { ...planned, isLabelled, passedOver: listing.passedOver, issues };
  const hidden = listing.passedOver.map(({ reason, count }) => `${count} ${reason}`);
  throw new DomainError({
    code: 'IMPORT_FOLDER_EMPTY',
    message: 'The folder holds no images.',
    field: 'input.path',
    hint: `Put PNG, JPEG, TIFF, BMP or WebP files there.${hidden.length === 0 ? '' : ` Skipped: ${hidden.join(', ')}.`}`,
  });
}
