/** An IMPORT: a folder of images in, a sealed dataset version and a report out. */
import { z } from 'zod';
import { sha256Schema, storedBytesSchema } from './artifacts.ts';
import { shardSchema } from './dataset-version.ts';
import { importedSlideSchema } from './imported-slide.ts';
import { slideOptionsSchema } from './slide-options.ts';

/**
 * Kinds of issues that suggest a mistake. An import does not seal a version that has them unless the user accepts each
 * kind.
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

export const IMPORT_LAYOUTS = ['FLAT', 'FOLDER_PER_LABEL', 'CSV', 'SLIDES'] as const;

const columnSchema = z.string().max(200).nullish();
export const csvColumnsSchema = z.strictObject({
  path: columnSchema,
  label: columnSchema,
  group: columnSchema,
  split: columnSchema,
});

/** Frozen at launch. */
export const importConfigSchema = z.object({
  datasetId: z.string(),
  path: z.string(),
  layout: z.enum(IMPORT_LAYOUTS),
  labelsCsvPath: z.string().nullable(),
  patchSizePx: z.number().int().nullable(),
  // Older imports lack these fields.
  csvColumns: csvColumnsSchema.default({}),
  labelLevel: z.number().int().nullable().default(null),
  groupLevel: z.number().int().nullable().default(null),
  slides: slideOptionsSchema.nullable().default(null),
  sampleBits: z.number().int().nullable().default(null),
  keepConflicts: z.boolean().default(false),
  accept: z.array(z.enum(IMPORT_QUESTIONS)).default([]),
  dryRun: z.boolean().default(false),
  importRoots: z.array(z.string()),
});
export type ImportConfig = z.infer<typeof importConfigSchema>;

const count = z.number().int().min(0);
const texts = z.array(z.string()).readonly();

/** The report of an import or of its preview, stored with its run. */
export const importReportSchema = z.object({
  isDryRun: z.boolean(),
  /** False if the file names alone raised questions, so that no image was read; the counts are then of files. */
  imagesChecked: z.boolean(),
  /** Number of files that were recognised as images. */
  fileCount: count,
  imageCount: count,
  groupCount: count,
  /** Number of images whose patient or slide is unknown. */
  ungroupedImageCount: count,
  labelCounts: z.array(z.object({ label: z.string(), count })).readonly(),
  splitCounts: z.array(z.object({ split: z.string(), count })).readonly(),
  /** For each folder, relative to the imported one (empty for the imported folder itself): what its files become. */
  assignments: z
    .array(
      z.object({ folder: z.string(), label: z.string().nullable(), split: z.string().nullable(), fileCount: count }),
    )
    .readonly(),
  /** Total count; `assignments` holds only the first few hundred. */
  assignmentCount: count,
  /** Skipped files and folders: SYSTEM_FOLDER, HIDDEN, SIDE_FILE. */
  passedOver: z.array(z.object({ reason: z.string(), count, examples: texts })).readonly(),
  /** Sentences that explain how folders and columns were interpreted. */
  notes: texts,
  /** Folder levels and CSV columns that may name the patients or slides of images without a group. */
  groupSuggestions: z
    .array(
      z.object({
        groupLevel: z.number().int().nullable(),
        csvColumn: z.string().nullable(),
        groupCount: count,
        examples: texts,
      }),
    )
    .readonly()
    .default([]),
  issues: z
    .array(
      z.object({
        ...{ kind: z.string(), count, kept: z.boolean(), meaning: z.string().nullable(), examples: texts },
        // Reports from before every issue was listed have neither these fields nor the list.
        entries: z.object({ count, firstByte: count, byteSize: count }).nullable().default(null),
      }),
    )
    .readonly(),
  /** The artifact that lists every issue; null if there is none. */
  issueList: z.object({ sha256: z.string(), byteSize: count }).nullable().default(null),
  /** Kinds of issues that the user must accept before a version is sealed. */
  questions: z.array(z.enum(IMPORT_QUESTIONS)).readonly(),
});
export type ImportReportRecord = z.infer<typeof importReportSchema>;
export type ImportAssignmentRecord = ImportReportRecord['assignments'][number];
export type GroupSuggestionRecord = ImportReportRecord['groupSuggestions'][number];
export type PassedOverRecord = ImportReportRecord['passedOver'][number];

/** What an import has learnt of consecutive files: see workers/imaging/import-blocks.ts. */
export const importBlockSchema = z.object({
  /** 0 for the first one. */
  position: count,
  sha256: sha256Schema,
  /** The shard that was sealed after these files; null in a pass that will be repeated. */
  shardSha256: sha256Schema.nullable(),
  /** Progress of the run after these files, 0..1. */
  progress: z.number().min(0).max(1),
});
export type ImportBlockRecord = Readonly<z.infer<typeof importBlockSchema>>;

/** A block whose bytes have just been stored. */
export const newImportBlockSchema = z.strictObject({
  position: count,
  facts: storedBytesSchema,
  shard: storedBytesSchema.nullable(),
  progress: z.number().min(0).max(1),
  /** Images up to here, for the event. */
  imageCount: count,
});
export type NewImportBlock = Readonly<z.infer<typeof newImportBlockSchema>>;

/** The content of the version that the import seals; null for a dry run, which seals nothing. */
export const importOutcomeSchema = z.strictObject({
  kind: z.literal('IMPORT'),
  sealed: z
    .strictObject({
      digest: sha256Schema,
      manifest: storedBytesSchema,
      /** The CSV that lists every issue; null in a version without issues. */
      issueList: storedBytesSchema.nullable(),
      imageCount: count,
      byteSize: count,
      labelNames: texts,
      labelCounts: z.array(z.object({ label: z.string(), count })).readonly(),
      /** Known groups. */
      groupCount: count,
      /** Images whose patient or slide is unknown. */
      ungroupedImageCount: count,
      hasSplit: z.boolean(),
      issues: importReportSchema.shape.issues,
      /** In reading order. */
      shards: z.array(shardSchema).readonly(),
      thumbnails: z.array(storedBytesSchema.extend({ label: z.string().nullable() })).readonly(),
      /** Of layout SLIDES: every slide of the folder, by its path. Older workers send none. */
      slides: z.array(importedSlideSchema).readonly().default([]),
    })
    .nullable(),
});
export type ImportOutcome = Readonly<z.infer<typeof importOutcomeSchema>>;
