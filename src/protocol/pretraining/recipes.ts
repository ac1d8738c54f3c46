/**
 * What a pretraining uses where its launch names nothing: every default of SimCLR, as pure functions of the encoder's
 * data. The server asks when a run is launched; a worker asks once it has measured how fast its device is.
 *
 * All numbers of the recipe DEFAULT stand in this file, each with its reason. docs/pretraining.md says the same to
 * people.
 */
import type { Augmentation } from './augmentation.ts';
import type { OptimizerConfig, OptimizerName } from './optimizer.ts';

export const RECIPE_NAMES = ['DEFAULT', 'PAPER'] as const;
export type RecipeName = (typeof RECIPE_NAMES)[number];

/** How much a run sees, as far as it decides anything. */
export interface StepFacts {
  readonly steps: number;
  /** Batches in one pass over the images. */
  readonly stepsPerEpoch: number;
}

export interface Recipe {
  readonly optimizerName: OptimizerName;
  /** The parameters of each optimizer, also of those that the recipe does not choose by itself. */
  optimizer(name: OptimizerName): OptimizerConfig;
  /** The peak of the schedule. */
  learningRate(name: OptimizerName, batchSize: number): number;
  /** Steps in which the learning rate rises, 0..steps. */
  warmupSteps(facts: StepFacts): number;
  /** Images in a step, at least 2, and never more than there are unless there are fewer than 2. */
  batchSize(imageCount: number): number;
  /**
   * Side in pixels of the images that the encoder is made for: what its input contract says.
   * @param epochsAt64Px how often the images would be seen at 64 px within the budget; undefined without a budget.
   */
  imageSizePx(epochsAt64Px: number | undefined): number;
  /** Side in pixels of the views that it learns from, at most `imageSizePx`. */
  viewSizePx(imageSizePx: number): number;
  /** Side in pixels of the decoded square that views are cut from. */
  sourceSizePx(imageSizePx: number): number;
  readonly temperature: number;
  /** @param imageSizePx undefined: chosen within a budget. */
  augmentation(imageSizePx: number | undefined): Augmentation;
  /** Length of a projection. */
  readonly projectionDim: number;
}

/** Chen et al. 2020, with the quarter turns that tissue allows: what every run used before there was another recipe. */
const PAPER_AUGMENTATION: Augmentation = {
  cropScaleMin: 0.08,
  cropScaleMax: 1,
  flip: true,
  quarterTurns: true,
  colourJitterStrength: 1,
  colourJitterProbability: 0.8,
  greyProbability: 0.2,
  blurProbability: 0.5,
};

/**
 * Twice the size, so that a small crop still holds detail, but no more than a usual patch of 256 px unless the size
 * itself is larger. Decoding more than views can show is time lost.
 */
function twiceTheSize(imageSizePx: number): number {
  return Math.min(2 * imageSizePx, Math.max(imageSizePx, 256));
}

function optimizerOf(name: OptimizerName): OptimizerConfig {
  switch (name) {
    case 'LARS':
      // Chen et al. 2020, section 2.2.
      return { name, momentum: 0.9, weightDecay: 1e-6 };
    case 'SGD':
      // Chen and He 2021 (SimSiam), section 3.
      return { name, momentum: 0.9, nesterov: false, weightDecay: 1e-4 };
    case 'ADAM':
      // Kingma and Ba 2015; its L2 term is not a decay (Loshchilov and Hutter 2019), so there is none.
      return { name, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 0 };
    case 'ADAMW':
      // Loshchilov and Hutter 2019, with a decay so small that a run of an hour does not depend on it.
      return { name, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 1e-4 };
  }
}

/** The batch at which the learning rates below are stated. */
const REFERENCE_BATCH_SIZE = 128;
const ADAM_LEARNING_RATE = 1e-3;
/** Above this Adam's first steps throw a ResNet's batch norms off, whatever the batch. */
const ADAM_LEARNING_RATE_MAX = 4e-3;

function learningRateOf(name: OptimizerName, batchSize: number): number {
  switch (name) {
    case 'LARS':
      // Chen et al. 2020, appendix B.1: the square-root rule, for small batches and few epochs.
      return 0.075 * Math.sqrt(batchSize);
    case 'SGD':
      // Chen and He 2021, section 3: the linear rule of SGD.
      return (0.05 * batchSize) / 256;
    case 'ADAM':
    case 'ADAMW':
      // The noise of a gradient falls with the root of the batch, and Adam's step does not depend on its length.
      return Math.min(ADAM_LEARNING_RATE_MAX, ADAM_LEARNING_RATE * Math.sqrt(batchSize / REFERENCE_BATCH_SIZE));
  }
}

const BATCH_SIZE_MAX = 128;
/** Of so few images a batch has few negatives, but fewer still would have none that matter. */
const BATCH_SIZE_MIN = 16;
/** A batch that is most of the images shows the same negatives in every step. */
const STEPS_PER_EPOCH_MIN = 4;

function powerOfTwoUpTo(value: number): number {
  return value < 1 ? 1 : 2 ** Math.floor(Math.log2(value));
}

/** Views of half the image's side, from images of this size on: a smaller view would hold too little of a cell. */
const HALVED_FROM_PX = 64;
const isHalved = (imageSizePx: number): boolean => imageSizePx >= HALVED_FROM_PX;

const IMAGE_SIZES_PX = [64, 96, 128, 224] as const;
/** A larger view is worth its pixels only after the images have been seen this often at that size. */
const EPOCHS_BEFORE_LARGER_VIEWS = 200;

export const RECIPES: Readonly<Record<RecipeName, Recipe>> = {
  DEFAULT: {
    // LARS by the linear rule does not learn in an hour; Adam's step does not depend on the gradient's length, and its
    // rate needs no tuning between 3e-4 and 3e-3.
    optimizerName: 'ADAMW',
    optimizer: optimizerOf,
    learningRate: learningRateOf,
    // Adam's second moment has seen enough gradients after a few hundred steps.
    warmupSteps: ({ steps }) => Math.floor(steps / 20),
    batchSize: (imageCount) => {
      const wanted = Math.min(BATCH_SIZE_MAX, powerOfTwoUpTo(imageCount / STEPS_PER_EPOCH_MIN));
      return Math.max(2, Math.min(imageCount, Math.max(BATCH_SIZE_MIN, wanted)));
    },
    imageSizePx: (epochsAt64Px = 0) =>
      IMAGE_SIZES_PX.findLast((sizePx) => epochsAt64Px >= EPOCHS_BEFORE_LARGER_VIEWS * (sizePx / 64) ** 2) ??
      IMAGE_SIZES_PX[0],
    // A view of half the side costs a quarter of the computation. It shows 10 to 40 % of the area, a quarter in the
    // middle: tissue as large as the whole image shows it, so that the encoder learns at the scale it is used at
    // (Touvron et al. 2019, "Fixing the train-test resolution discrepancy").
    viewSizePx: (imageSizePx) => (isHalved(imageSizePx) ? Math.floor(imageSizePx / 2) : imageSizePx),
    sourceSizePx: twiceTheSize,
    // A run of few epochs has to tell near neighbours apart early on.
    temperature: 0.2,
    // Strong jitter and grey teach an encoder to ignore the stain, and the stain tells tissues apart: with a fifth of
    // the jitter and no grey it keeps what colour says and adds what it does not.
    augmentation: (imageSizePx = HALVED_FROM_PX) => ({
      ...PAPER_AUGMENTATION,
      ...(isHalved(imageSizePx) ? { cropScaleMin: 0.1, cropScaleMax: 0.4 } : { cropScaleMin: 0.2 }),
      colourJitterStrength: 0.2,
      greyProbability: 0,
    }),
    projectionDim: 128,
  },
  /** Chen et al. 2020, section 2.2 and appendix A: what every run used before there was another recipe. */
  PAPER: {
    optimizerName: 'LARS',
    optimizer: optimizerOf,
    learningRate: (name, batchSize) => (name === 'LARS' ? (0.3 * batchSize) / 256 : learningRateOf(name, batchSize)),
    warmupSteps: ({ steps, stepsPerEpoch }) => Math.min(10 * stepsPerEpoch, Math.floor(steps / 10)),
    batchSize: () => 256,
    imageSizePx: () => 224,
    viewSizePx: (imageSizePx) => imageSizePx,
    sourceSizePx: twiceTheSize,
    temperature: 0.5,
    augmentation: () => PAPER_AUGMENTATION,
    projectionDim: 128,
  },
};

/** Beyond this no run with the optimizer has learned: such a rate is meant for another one. */
export function largestLearningRate(name: OptimizerName): number {
  switch (name) {
    case 'LARS':
      return 1000;
    case 'SGD':
      return 10;
    case 'ADAM':
    case 'ADAMW':
      return 0.1;
  }
}

/** How often a run keeps its state: ten epochs at most, and 1,000 steps at most. */
export function checkpointEveryStepsFor(stepsPerEpoch: number): number {
  return Math.max(1, Math.min(1000, stepsPerEpoch * 10));
}
