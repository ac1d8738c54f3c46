/**
 * The augmentation that makes the two views of an image. Strengths and probabilities are 0..1, crop scales are
 * fractions of the area.
 */
import { z } from 'zod';

const FIELDS = {
  cropScaleMin: z.number().gt(0).max(1),
  cropScaleMax: z.number().gt(0).max(1),
  flip: z.boolean(),
  quarterTurns: z.boolean(),
  colourJitterStrength: z.number().min(0).max(2),
  colourJitterProbability: z.number().min(0).max(1),
  greyProbability: z.number().min(0).max(1),
  blurProbability: z.number().min(0).max(1),
  stainJitterStrength: z.number().min(0).max(1),
  stainJitterProbability: z.number().min(0).max(1),
};

/** The form that is stored in a run. Runs from before stain jitter existed have none. */
export const augmentationSchema = z.object({
  ...FIELDS,
  stainJitterStrength: FIELDS.stainJitterStrength.default(0),
  stainJitterProbability: FIELDS.stainJitterProbability.default(1),
});
export type Augmentation = z.infer<typeof augmentationSchema>;

/** The form in a launch: omitted values are taken from the recipe. */
export const augmentationChoiceSchema = z.strictObject(FIELDS).partial();
export type AugmentationChoice = z.infer<typeof augmentationChoiceSchema>;
