/** What an import may be asked to do, and what it says of its images. Pure. */
import { z } from 'zod';
import { DomainError } from '../../errors.ts';
import { idempotencyKeySchema } from '../../input.ts';
import { maxDurationSchema } from './runs.rules.ts';

/** @param importPath a file or folder, of which the last part is named. */
export function titleOfImport(datasetSlug: string, importPath: string, isDryRun: boolean): string {
  return `${isDryRun ? 'dry run: ' : ''}${datasetSlug} from ${importPath.replace(/\/+$/, '').replace(/^.*\//s, '') || importPath}`;
}

/**
 * What an import asks before it seals a version that was probably not meant: kinds of its issues, each of which a
 * person may accept.
 */
export const IMPORT_QUESTIONS = [
  'MASKS_AMONG_IMAGES',
  'LABELS_LOOK_ALIKE',
  'GROUPS_LOOK_ALIKE',
  'LABEL_LISTS',
  'LABELS_MAY_BE_DEEPER',
  'SPLITS_AMONG_LABELS',
  'NOT_EVALUABLE',
  'FEWER_THAN_BEFORE',
] as const;
export type ImportQuestion = (typeof IMPORT_QUESTIONS)[number];

const columnSchema = z.string().max(200).nullish();
const csvColumnsSchema = z.strictObject({
  path: columnSchema,
  label: columnSchema,
  group: columnSchema,
  split: columnSchema,
});
const folderLevelSchema = z.number().int().min(1, 'must be at least 1').max(100, 'must be at most 100');

/** `ImportDatasetVersionInput`. A patch under 32 px is too small for any encoder. */
export const importDatasetVersionSchema = z.object({
  datasetId: z.string(),
  path: z.string().min(1, 'must name a folder').max(4096),
  layout: z.enum(['FLAT', 'FOLDER_PER_LABEL', 'CSV']),
  labelsCsvPath: z.string().min(1).max(4096).nullish(),
  csvColumns: csvColumnsSchema.nullish(),
  labelLevel: folderLevelSchema.nullish(),
  groupLevel: folderLevelSchema.nullish(),
  patchSizePx: z.number().int().min(32, 'must be at least 32').max(4096, 'must be at most 4096').nullish(),
  sampleBits: z.number().int().min(8, 'must be at least 8').max(16, 'must be at most 16').nullish(),
  keepConflicts: z.boolean().nullish(),
  accept: z.array(z.enum(IMPORT_QUESTIONS)).nullish(),
  dryRun: z.boolean().nullish(),
  maxDurationSeconds: maxDurationSchema.nullish(),
  idempotencyKey: idempotencyKeySchema.nullish(),
});
export type ImportDatasetVersionInput = z.infer<typeof importDatasetVersionSchema>;

export const importConfigSchema = z.object({
  datasetId: z.string(),
  path: z.string(),
  layout: z.enum(['FLAT', 'FOLDER_PER_LABEL', 'CSV']),
  labelsCsvPath: z.string().nullable(),
  patchSizePx: z.number().int().nullable(),
  // Imports from before these existed have none.
  csvColumns: csvColumnsSchema.default({}),
  labelLevel: z.number().int().nullable().default(null),
  groupLevel: z.number().int().nullable().default(null),
  sampleBits: z.number().int().nullable().default(null),
  keepConflicts: z.boolean().default(false),
  accept: z.array(z.enum(IMPORT_QUESTIONS)).default([]),
  dryRun: z.boolean().default(false),
  importRoots: z.array(z.string()),
});
export type ImportConfig = z.infer<typeof importConfigSchema>;

/** CSV needs a file, the other layouts must not name one: a forgotten layout would lose the labels in silence. */
export function checkImportChoice(input: ImportDatasetVersionInput): void {
  const hasCsv = input.labelsCsvPath !== null && input.labelsCsvPath !== undefined;
  if (input.layout === 'CSV' && !hasCsv) {
    throw new DomainError({
      code: 'BAD_INPUT',
      message: 'layout CSV needs labelsCsvPath.',
      field: 'input.labelsCsvPath',
      hint: 'Name a CSV with the columns path, label, group, split; only path is required.',
    });
  }
  if (input.layout !== 'CSV' && hasCsv) {
    throw new DomainError({
      code: 'BAD_INPUT',
      message: `labelsCsvPath is not read with layout ${input.layout}.`,
      field: 'input.labelsCsvPath',
      hint: 'Set layout to CSV.',
    });
  }
  const unread = unreadOptionOf(input);
  if (unread === undefined) return;
  throw new DomainError({
    code: 'BAD_INPUT',
    message: `${unread} is not read with layout ${input.layout}.`,
    field: `input.${unread}`,
    hint: 'Leave it out, or choose the layout that it is for.',
  });
}

function unreadOptionOf(input: ImportDatasetVersionInput): string | undefined {
  const isGiven = (value: unknown): boolean => value !== null && value !== undefined;
  if (input.layout !== 'CSV' && isGiven(input.csvColumns)) return 'csvColumns';
  if (input.layout !== 'FOLDER_PER_LABEL' && isGiven(input.labelLevel)) return 'labelLevel';
  return input.layout === 'CSV' && isGiven(input.groupLevel) ? 'groupLevel' : undefined;
}

const count = z.number().int().min(0);
const texts = z.array(z.string()).readonly();

/** What an import came to, or would come to, as it is kept beside its run. */
export const importReportSchema = z.object({
  isDryRun: z.boolean(),
  /** False where the names alone raised questions, so that no image was read: then counts are of files. */
  imagesChecked: z.boolean(),
  /** Files that were taken for images. */
  fileCount: count,
  imageCount: count,
  groupCount: count,
  /** Images whose patient or slide is not known. */
  ungroupedImageCount: count,
  labelCounts: z.array(z.object({ label: z.string(), count })).readonly(),
  splitCounts: z.array(z.object({ split: z.string(), count })).readonly(),
  /** Folder by folder, relative to the imported one (empty for that itself): what its files become. */
  assignments: z
    .array(
      z.object({ folder: z.string(), label: z.string().nullable(), split: z.string().nullable(), fileCount: count }),
    )
    .readonly(),
  /** Of all; the first hundreds stand in `assignments`. */
  assignmentCount: count,
  /** What was not looked into: SYSTEM_FOLDER, HIDDEN, SIDE_FILE. */
  passedOver: z.array(z.object({ reason: z.string(), count, examples: texts })).readonly(),
  /** How folders and columns were read, in sentences. */
  notes: texts,
  issues: z
    .array(
      z.object({
        ...{ kind: z.string(), count, kept: z.boolean(), meaning: z.string().nullable(), examples: texts },
        // Reports from before every single issue was listed have neither these nor the list.
        entries: z.object({ count, firstByte: count, byteSize: count }).nullable().default(null),
      }),
    )
    .readonly(),
  /** The artifact that lists every single issue; null where there is none. */
  issueList: z.object({ sha256: z.string(), byteSize: count }).nullable().default(null),
  /** Kinds of issues that need an answer before a version is sealed. */
  questions: z.array(z.enum(IMPORT_QUESTIONS)).readonly(),
});
export type ImportReportRecord = z.infer<typeof importReportSchema>;
export type ImportAssignmentRecord = ImportReportRecord['assignments'][number];
export type PassedOverRecord = ImportReportRecord['passedOver'][number];
