/** Validation of imports. Pure. */
import { z } from 'zod';
import { DomainError } from '../../errors.ts';
import { idempotencyKeySchema } from '../../input.ts';
import { csvColumnsSchema, IMPORT_LAYOUTS, IMPORT_QUESTIONS } from '../../protocol/import.ts';
import {
  ANNOTATION_SHARE_DEFAULT,
  annotationOptionsSchema,
  SLIDE_OPTION_DEFAULTS,
  slideOptionsSchema,
  STAIN_NORMALISATIONS,
  type SlideOptions,
} from '../../protocol/slide-options.ts';
import { maxDurationSchema } from './runs.rules.ts';

/** @param importPath a file or folder; the title contains only its last part. */
export function titleOfImport(datasetSlug: string, importPath: string, isDryRun: boolean): string {
  return `${isDryRun ? 'dry run: ' : ''}${datasetSlug} from ${importPath.replace(/\/+$/, '').replace(/^.*\//s, '') || importPath}`;
}

const folderLevelSchema = z.number().int().min(1, 'must be at least 1').max(100, 'must be at most 100');

const { micronsPerPixel, ...slideDefaults } = slideOptionsSchema.shape;
/** `SlidesInput`: what is not given is the default. */
const slidesInputSchema = z.strictObject({
  micronsPerPixel,
  overlapPx: slideDefaults.overlapPx.nullish(),
  patchesPerSlideMax: slideDefaults.patchesPerSlideMax.nullish(),
  allPatches: z.boolean().nullish(),
  seed: slideDefaults.seed.nullish(),
  tissueShareMin: slideDefaults.tissueShareMin.nullish(),
  penShareMax: slideDefaults.penShareMax.nullish(),
  sharpnessMin: slideDefaults.sharpnessMin.nullish(),
  stainNormalisation: z.enum(STAIN_NORMALISATIONS).nullish(),
  annotations: z
    .strictObject({
      path: z.string().min(1, 'must name a folder').max(4096).nullish(),
      shareMin: annotationOptionsSchema.shape.shareMin.nullish(),
      otherLabel: annotationOptionsSchema.shape.otherLabel.nullish(),
      classes: annotationOptionsSchema.shape.classes.nullish(),
    })
    .nullish(),
});

/**
 * All options of an import of slides; null for other layouts.
 * @param annotationsPath the real path of the folder of annotations; null if they lie beside the slides.
 */
export function slideOptionsOf(
  { slides }: Pick<ImportDatasetVersionInput, 'slides'>,
  annotationsPath: string | null,
): SlideOptions | null {
  if (slides === null || slides === undefined) return null;
  const defaults = SLIDE_OPTION_DEFAULTS;
  return {
    micronsPerPixel: slides.micronsPerPixel,
    overlapPx: slides.overlapPx ?? defaults.overlapPx,
    patchesPerSlideMax: slides.allPatches === true ? null : (slides.patchesPerSlideMax ?? defaults.patchesPerSlideMax),
    seed: slides.seed ?? defaults.seed,
    tissueShareMin: slides.tissueShareMin ?? defaults.tissueShareMin,
    penShareMax: slides.penShareMax ?? defaults.penShareMax,
    sharpnessMin: slides.sharpnessMin ?? defaults.sharpnessMin,
    stainNormalisation: slides.stainNormalisation ?? defaults.stainNormalisation,
    annotations:
      slides.annotations == null
        ? null
        : {
            path: annotationsPath,
            shareMin: slides.annotations.shareMin ?? ANNOTATION_SHARE_DEFAULT,
            otherLabel: slides.annotations.otherLabel ?? null,
            classes: slides.annotations.classes ?? null,
          },
  };
}

/** `ImportDatasetVersionInput`. A patch under 32 px is too small for any encoder. */
export const importDatasetVersionSchema = z.object({
  datasetId: z.string(),
  path: z.string().min(1, 'must name a folder').max(4096),
  layout: z.enum(IMPORT_LAYOUTS),
  labelsCsvPath: z.string().min(1).max(4096).nullish(),
  csvColumns: csvColumnsSchema.nullish(),
  labelLevel: folderLevelSchema.nullish(),
  groupLevel: folderLevelSchema.nullish(),
  slides: slidesInputSchema.nullish(),
  patchSizePx: z.number().int().min(32, 'must be at least 32').max(4096, 'must be at most 4096').nullish(),
  sampleBits: z.number().int().min(8, 'must be at least 8').max(16, 'must be at most 16').nullish(),
  keepConflicts: z.boolean().nullish(),
  accept: z.array(z.enum(IMPORT_QUESTIONS)).nullish(),
  dryRun: z.boolean().nullish(),
  maxDurationSeconds: maxDurationSchema.nullish(),
  idempotencyKey: idempotencyKeySchema.nullish(),
});
export type ImportDatasetVersionInput = z.infer<typeof importDatasetVersionSchema>;

/**
 * CSV needs a labels file, and the other layouts must not name one: if the layout were forgotten, the labels would be
 * lost silently.
 */
export function checkImportChoice(input: ImportDatasetVersionInput): void {
  const hasCsv = input.labelsCsvPath !== null && input.labelsCsvPath !== undefined;
  if (input.layout === 'CSV' && !hasCsv) {
    throw new DomainError({
      code: 'BAD_INPUT',
      message: 'layout CSV needs labelsCsvPath.',
      field: 'input.labelsCsvPath',
      hint: 'Give the path of a CSV with the columns path, label, group, split; only path is required.',
    });
  }
  if (input.layout !== 'CSV' && input.layout !== 'SLIDES' && hasCsv) {
    throw new DomainError({
      code: 'BAD_INPUT',
      message: `labelsCsvPath is not used with layout ${input.layout}.`,
      field: 'input.labelsCsvPath',
      hint: 'Set layout to CSV.',
    });
  }
  if (input.layout === 'SLIDES') checkSlideChoice(input);
  const unread = unreadOptionOf(input);
  if (unread === undefined) return;
  throw new DomainError({
    code: 'BAD_INPUT',
    message: `${unread} is not used with layout ${input.layout}.`,
    field: `input.${unread}`,
    hint: 'Leave it out, or choose the layout to which it belongs.',
  });
}

/** A slide has no resolution of its own at which patches could be cut by default. */
function checkSlideChoice({ slides, patchSizePx }: ImportDatasetVersionInput): void {
  const missing = slides === null || slides === undefined ? 'slides' : patchSizePx == null ? 'patchSizePx' : null;
  if (missing !== null)
    throw new DomainError({
      code: 'BAD_INPUT',
      message: `layout SLIDES needs ${missing}.`,
      field: `input.${missing}`,
      hint: 'Give slides: { micronsPerPixel: 0.5 } and patchSizePx: 256, for instance.',
    });
  const overlapPx = slides?.overlapPx ?? 0;
  if (overlapPx >= (patchSizePx ?? 0))
    throw new DomainError({
      code: 'BAD_INPUT',
      message: `An overlap of ${overlapPx} px leaves no step between patches of ${patchSizePx ?? 0} px.`,
      field: 'input.slides.overlapPx',
      hint: 'Give an overlap smaller than the side of a patch.',
    });
}

function unreadOptionOf(input: ImportDatasetVersionInput): string | undefined {
  const isGiven = (value: unknown): boolean => value !== null && value !== undefined;
  if (input.layout === 'SLIDES' && isGiven(input.sampleBits)) return 'sampleBits';
  if (input.layout !== 'SLIDES' && isGiven(input.slides)) return 'slides';
  if (input.layout !== 'CSV' && isGiven(input.csvColumns)) return 'csvColumns';
  if (input.layout !== 'FOLDER_PER_LABEL' && isGiven(input.labelLevel)) return 'labelLevel';
  return (input.layout === 'CSV' || input.layout === 'SLIDES') && isGiven(input.groupLevel) ? 'groupLevel' : undefined;
}
