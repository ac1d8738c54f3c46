/** What a recipe decides. The recipes themselves are in `recipes.ts`. */
import type { Augmentation } from './augmentation.ts';
import type { OptimizerConfig, OptimizerName } from './optimizer.ts';

export const RECIPE_NAMES = ['DEFAULT', 'PAPER'] as const;
export type RecipeName = (typeof RECIPE_NAMES)[number];

/** The size of a run, as far as settings depend on it. */
export interface StepFacts {
  readonly steps: number;
  /** Number of batches in one pass over the images. */
  readonly stepsPerEpoch: number;
}

export interface Recipe {
  readonly optimizerName: OptimizerName;
  /** The parameters of each optimizer, also of those that the recipe never chooses itself. */
  optimizer(name: OptimizerName): OptimizerConfig;
  /** The peak learning rate of the schedule. */
  learningRate(name: OptimizerName, batchSize: number): number;
  /** Number of warm-up steps, 0..steps. */
  warmupSteps(facts: StepFacts): number;
  /** Batch size: at least 2, and at most the number of images unless there are fewer than 2. */
  batchSize(imageCount: number): number;
  /**
   * Side in pixels of the encoder's input, as in its input contract.
   * @param epochsAt64Px the number of epochs that fit into the budget at 64 px; undefined without a budget.
   */
  imageSizePx(epochsAt64Px: number | undefined): number;
  /** Side in pixels of the training views, at most `imageSizePx`. */
  viewSizePx(imageSizePx: number): number;
  /** Side in pixels of the decoded square that views are cut from. */
  sourceSizePx(imageSizePx: number): number;
  /** @param imageSizePx undefined if it is chosen from a budget. */
  augmentation(imageSizePx: number | undefined): Augmentation;
}
