/**
 * The defaults of a pretraining: every setting that a launch leaves out, as pure functions of the training
 * data. The server uses them when a run is launched; a worker uses them after it has measured the speed of its device.
 *
 * All numbers of the recipe DEFAULT are in this file, each with its reason; those of a method's own settings are in
 * its file in `methods`. docs/pretraining.md documents them for
 * users.
 */
import { architectureNamed, type NamedEncoder } from '../../formats/encoders/index.ts';
import type { Augmentation } from './augmentation.ts';
import { describeMethod } from './methods/index.ts';
import type { OptimizerConfig, OptimizerName } from './optimizer.ts';
import type { Recipe, RecipeName } from './recipe.ts';

/**
 * Chen et al. 2020, plus rotations by 90 degrees, which tissue allows; the settings of all runs from before recipes
 * existed.
 */
const PAPER_AUGMENTATION: Augmentation = {
  cropScaleMin: 0.08,
  cropScaleMax: 1,
  flip: true,
  quarterTurns: true,
  colourJitterStrength: 1,
  colourJitterProbability: 0.8,
  greyProbability: 0.2,
  blurProbability: 0.5,
  stainJitterStrength: 0,
  stainJitterProbability: 1,
};

/**
 * Twice the image size, so that a small crop still has detail, but at most the usual patch size of 256 px unless the
 * image size itself is larger. Decoding more pixels than the views can show wastes time.
 */
function doubleSize(imageSizePx: number): number {
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
      // Kingma and Ba 2015. Without weight decay, because an L2 term in Adam is not a decay (Loshchilov and Hutter
      // 2019).
      return { name, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 0 };
    case 'ADAMW':
      // Loshchilov and Hutter 2019, with a decay so small that a run of an hour does not depend on it.
      return { name, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 1e-4 };
  }
}

/** The batch size for which the learning rates below are stated. */
const REFERENCE_BATCH_SIZE = 128;
const ADAM_LEARNING_RATE = 1e-3;
/** Above this rate Adam's first steps destabilise a ResNet's batch norms, at any batch size. */
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
      // The noise of a gradient falls with the square root of the batch, and Adam's step does not depend on the
      // gradient's length.
      return Math.min(ADAM_LEARNING_RATE_MAX, ADAM_LEARNING_RATE * Math.sqrt(batchSize / REFERENCE_BATCH_SIZE));
  }
}

const BATCH_SIZE_MAX = 128;
/** With so few images a batch has few negatives, but a smaller batch would have too few to learn from. */
const BATCH_SIZE_MIN = 16;
/** A batch that contains most of the images has nearly the same negatives in every step. */
const STEPS_PER_EPOCH_MIN = 4;

function powerOfTwoUpTo(value: number): number {
  return value < 1 ? 1 : 2 ** Math.floor(Math.log2(value));
}

/** A smaller view would show too little of a cell. */
const VIEW_SIDE_MIN_PX = 32;
/** From this image size on, views are smaller than the images. */
const SMALLER_VIEWS_FROM_PX = 2 * VIEW_SIDE_MIN_PX;

/**
 * Side of a view: a third of the image's, at least VIEW_SIDE_MIN_PX. At 64 px a step costs a quarter of what views of
 * the image's size would cost, from 96 px on a ninth.
 */
const viewSidePx = (imageSizePx: number): number =>
  imageSizePx < SMALLER_VIEWS_FROM_PX ? imageSizePx : Math.max(VIEW_SIDE_MIN_PX, Math.floor(imageSizePx / 3));

/**
 * The areas that views show, around the area at which tissue has the same scale in a view as in the whole image: the
 * encoder then learns at the scale at which it is used (Touvron et al. 2019, "Fixing the train-test resolution
 * discrepancy").
 */
function cropScalesAtInferenceScale(imageSizePx: number): Pick<Augmentation, 'cropScaleMin' | 'cropScaleMax'> {
  if (imageSizePx < SMALLER_VIEWS_FROM_PX) return { cropScaleMin: 0.2, cropScaleMax: 1 };
  const sameScale = (viewSidePx(imageSizePx) / imageSizePx) ** 2;
  const rounded = (share: number): number => Math.round(share * 1000) / 1000;
  return { cropScaleMin: rounded(0.4 * sameScale), cropScaleMax: rounded(1.6 * sameScale) };
}

/**
 * Image sizes by the number of epochs that a budget allows at 64 px. A larger image costs more wherever the encoder is
 * used. The thresholds are not measured; one run at 96 px on histology-mini, after 55 epochs, scored lower than three
 * runs at 64 px on two of its three test sets.
 */
const IMAGE_SIZES = [
  { sizePx: 64, epochs: 0 },
  { sizePx: 96, epochs: 450 },
  { sizePx: 128, epochs: 800 },
  { sizePx: 224, epochs: 2450 },
] as const;

const RESNET_RECIPES: Readonly<Record<RecipeName, Recipe>> = {
  DEFAULT: {
    // LARS by the linear rule does not learn in an hour; Adam's step does not depend on the gradient's length.
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
      (IMAGE_SIZES.findLast(({ epochs }) => epochsAt64Px >= epochs) ?? IMAGE_SIZES[0]).sizePx,
    viewSizePx: viewSidePx,
    sourceSizePx: doubleSize,
    // Strong colour jitter and greyscale teach an encoder to ignore the stain, but the stain distinguishes tissues.
    // With a fifth of the jitter and no greyscale, the encoder keeps colour information. This choice rests on one seed
    // on histology-mini; on pcam-mini, encoders trained for four epochs with stronger jitter scored slightly higher.
    augmentation: (imageSizePx = SMALLER_VIEWS_FROM_PX) => ({
      ...PAPER_AUGMENTATION,
      ...cropScalesAtInferenceScale(imageSizePx),
      colourJitterStrength: 0.2,
      greyProbability: 0,
    }),
  },
  /** Chen et al. 2020, section 2.2 and appendix A; the settings of all runs from before recipes existed. */
  PAPER: {
    optimizerName: 'LARS',
    optimizer: optimizerOf,
    learningRate: (name, batchSize) => (name === 'LARS' ? (0.3 * batchSize) / 256 : learningRateOf(name, batchSize)),
    warmupSteps: ({ steps, stepsPerEpoch }) => Math.min(10 * stepsPerEpoch, Math.floor(steps / 10)),
    batchSize: () => 256,
    imageSizePx: () => 224,
    viewSizePx: (imageSizePx) => imageSizePx,
    sourceSizePx: doubleSize,
    augmentation: () => PAPER_AUGMENTATION,
  },
};

/**
 * Where a vision transformer needs other settings: those of MoCo v3 (Chen, Xie and He 2021, arXiv:2104.02057), which
 * compares contrastive methods on vision transformers, and of DINO (Caron et al. 2021, arXiv:2104.14294).
 */
const VIT_CHANGES: Partial<Recipe> = {
  optimizer: (name) => {
    const usual = optimizerOf(name);
    // MoCo v3, appendix A.
    return usual.name === 'ADAMW' ? { ...usual, weightDecay: 0.1 } : usual;
  },
  learningRate: (name, batchSize) =>
    // DINO, section 3.2: the linear rule. MoCo v3's rate, a third of it, is for batches of thousands of images.
    name === 'ADAMW' ? (5e-4 * batchSize) / 256 : learningRateOf(name, batchSize),
  // Both papers: about a tenth of the training. The first steps of a transformer diverge without it.
  warmupSteps: ({ steps }) => Math.floor(steps / 10),
  // A view of a third of the image would be a handful of patches.
  viewSizePx: (imageSizePx) => imageSizePx,
  augmentation: () => ({
    ...PAPER_AUGMENTATION,
    cropScaleMin: 0.2,
    cropScaleMax: 1,
    colourJitterStrength: 0.2,
    greyProbability: 0,
  }),
};

/**
 * The recipe PAPER has the paper's settings for every encoder; DEFAULT follows the encoder and the method.
 * @param method its name, or its config.
 */
export function recipeFor({
  recipe,
  encoder,
  method,
}: {
  readonly recipe: RecipeName;
  readonly encoder: NamedEncoder;
  readonly method: string | { readonly name: string };
}): Recipe {
  const usual = RESNET_RECIPES[recipe];
  if (recipe !== 'DEFAULT') return usual;
  const ofEncoder = isVisionTransformer(encoder) ? { ...usual, ...VIT_CHANGES } : usual;
  const { recipeChanges } = describeMethod(typeof method === 'string' ? method : method.name);
  return { ...ofEncoder, ...recipeChanges?.(ofEncoder) };
}

export function isVisionTransformer(encoder: NamedEncoder): boolean {
  return architectureNamed(encoder).family === 'VIT';
}

/** Above this rate no run with the optimizer has learned; such a rate is probably meant for another optimizer. */
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

/** The interval at which a run keeps its state: at most ten epochs, and at most 1,000 steps. */
export function checkpointEveryStepsFor(stepsPerEpoch: number): number {
  return Math.max(1, Math.min(1000, stepsPerEpoch * 10));
}
