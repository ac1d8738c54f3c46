/**
 * The settings with which a cell of the experiment trains, read by our engine (train.ts) and by PyTorch
 * (peer/simclr_recipe.py).
 */
import { z } from 'zod';

const positive = z.number().positive();
const share = z.number().min(0).max(1);

export const recipeSchema = z.strictObject({
  optimizer: z.strictObject({ name: z.enum(['LARS', 'SGD', 'ADAM', 'ADAMW']) }),
  /** Learning rate of the first step after the warm-up; a cosine to zero follows. */
  learningRate: positive,
  /** L2 for LARS, SGD and Adam, decoupled for AdamW; never applied to biases and batch norms. */
  weightDecay: z.number().min(0),
  /** Of all steps. */
  warmupShare: share,
  /** Images drawn over the whole training, each shown in two views. */
  imagesSeen: z.int().min(0),
  batchSize: z.int().min(2),
  temperature: positive,
  /** Least and largest part of the image's area that a view shows. */
  cropScaleMin: positive.max(1),
  cropScaleMax: positive.max(1),
  /** 1 is SimCLR's colour jitter, 0 none. */
  jitterStrength: z.number().min(0).max(2),
  greyProbability: share,
  blurProbability: share,
  viewSizePx: z.int().min(32),
  /** Side of the decoded images that views are cut from. */
  sourceSizePx: z.int().min(32),
  precision: z.enum(['FLOAT32', 'BFLOAT16']),
  projectionDim: z.int().min(1),
  /** Number of linear layers of the projection head; Paraffin's has 2, other numbers are trained in PyTorch. */
  headDepth: z.int().min(1).max(3),
  /** Hidden width of the head; null: the length of the encoder's embedding, as in Paraffin. */
  headWidth: z.int().min(1).nullable(),
  /**
   * RECALIBRATED: running statistics are measured again over the training images, prepared as the probe prepares them.
   */
  batchNorm: z.enum(['RUNNING', 'RECALIBRATED']),
  /** Image size in the probe. */
  evaluationSizePx: z.int().min(32),
});

export type Recipe = z.infer<typeof recipeSchema>;

/**
 * The paper's recipe with the linear scaling rule for LARS, at the experiment's image size and length: the earlier
 * default.
 */
export const PAPER_RECIPE: Recipe = {
  optimizer: { name: 'LARS' },
  learningRate: (0.3 * 128) / 256,
  weightDecay: 1e-6,
  warmupShare: 0.1,
  imagesSeen: 30_000,
  batchSize: 128,
  temperature: 0.5,
  cropScaleMin: 0.08,
  cropScaleMax: 1,
  jitterStrength: 1,
  greyProbability: 0.2,
  blurProbability: 0.5,
  viewSizePx: 32,
  sourceSizePx: 128,
  precision: 'BFLOAT16',
  projectionDim: 128,
  headDepth: 2,
  headWidth: null,
  batchNorm: 'RUNNING',
  evaluationSizePx: 32,
};

/** The recipe DEFAULT at 64 px and the experiment's length: the base of every one-at-a-time change. */
export const BASE_RECIPE: Recipe = {
  ...PAPER_RECIPE,
  optimizer: { name: 'ADAMW' },
  learningRate: 1e-3,
  weightDecay: 1e-4,
  warmupShare: 0.05,
  temperature: 0.2,
  cropScaleMin: 0.1,
  cropScaleMax: 0.4,
  jitterStrength: 0.2,
  greyProbability: 0,
  evaluationSizePx: 64,
};

/** Number of steps of a whole training. */
export function stepsOf({ imagesSeen, batchSize }: Recipe): number {
  return Math.floor(imagesSeen / batchSize);
}

/** Whether our engine can train it; it cannot train a head of another depth or width. */
export function isEngineRecipe({ headDepth, headWidth }: Recipe): boolean {
  return headDepth === 2 && headWidth === null;
}
