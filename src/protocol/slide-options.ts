/** How patches are cut from whole slides. Every threshold is part of an import's config, and has one place: here. */
import { z } from 'zod';

const share = z.number().min(0).max(1);

/** MACENKO (2009) and REINHARD (2001): patches as if their slide were stained as a fixed reference. */
export const STAIN_NORMALISATIONS = ['NONE', 'MACENKO', 'REINHARD'] as const;
export type StainNormalisation = (typeof STAIN_NORMALISATIONS)[number];

export const annotationOptionsSchema = z.strictObject({
  /** A folder of annotations; null: they lie beside the slides. Older imports lack this field. */
  path: z.string().nullable().default(null),
  /** Share of a patch that regions of a class must cover for its label. */
  shareMin: z.number().gt(0).max(1),
  /** Label of patches of which this share lies in no region; null: they have none. */
  otherLabel: z.string().min(1).max(200).nullable(),
  /** Classes that are used; null: all. */
  classes: z.array(z.string().min(1).max(200)).min(1).max(1000).nullable(),
});
export type AnnotationOptions = z.infer<typeof annotationOptionsSchema>;

export const ANNOTATION_SHARE_DEFAULT = 0.5;

export const slideOptionsSchema = z.strictObject({
  /** Resolution of the patches. */
  micronsPerPixel: z.number().min(0.05).max(20),
  /** Between neighbouring patches, in pixels of the patch; smaller than its side. */
  overlapPx: z.int().min(0),
  /** At most this many patches of a slide; null: all. */
  patchesPerSlideMax: z.int().min(1).nullable(),
  /** Draws which patches of a slide are taken where there are more. */
  seed: z.int().min(0),
  /** Share of a patch that must be tissue. */
  tissueShareMin: share,
  /** A patch with a larger share of pen is left out. */
  penShareMax: share,
  /**
   * A patch with a smaller standard deviation of its Laplacian, in 8-bit steps of luma, is left out as out of focus.
   * 0 switches the check off.
   */
  sharpnessMin: z.number().min(0).max(255),
  /** The checks for pen and focus look at the patch as it was scanned. Older imports lack this field. */
  stainNormalisation: z.enum(STAIN_NORMALISATIONS).default('NONE'),
  /** Labels from annotations; null: they are not read. Older imports lack this field. */
  annotations: annotationOptionsSchema.nullable().default(null),
});
export type SlideOptions = z.infer<typeof slideOptionsSchema>;

export const SLIDE_OPTION_DEFAULTS: SlideOptions = {
  micronsPerPixel: 0.5,
  overlapPx: 0,
  patchesPerSlideMax: 1000,
  seed: 1,
  tissueShareMin: 0.5,
  penShareMax: 0.05,
  sharpnessMin: 2,
  stainNormalisation: 'NONE',
  annotations: null,
};
