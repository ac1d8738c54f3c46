/**
 * Fine-tuning: the whole encoder and a linear classifier on top of it, trained by cross-entropy on augmented images. A
 * part of the training groups is held out for early stopping, and the weights of the epoch with the highest macro F1
 * on it are tested.
 */
import { createAugmenter, type Augmenter } from '../augment/augmenter.ts';
import { pairOf, type AugmentationConfig } from '../augment/config.ts';
import { embeddingBatchSize, normaliseImages, type Normalisation } from '../embed.ts';
import type { EncoderArchitecture } from '../encoders/resnet/network.ts';
import type { NamedTensor } from '../named-tensor.ts';
import { learningRateAt } from '../optim/schedule.ts';
import type { Classifier } from '../probe/classification.ts';
import { ProbeError } from '../probe/errors.ts';
import type { LabelledImages } from '../probe/folds.ts';
import { innerParts, innerScore, isBetter, type InnerScore } from '../probe/inner-choice.ts';
import { createRandom, type Random } from '../rng.ts';
import { asRank4, readFloats, scoped, tf } from '../tensorflow.ts';
import { ClassifyingEncoder, initialClassifier, type EncoderSnapshot } from './classifying-encoder.ts';

export interface FineTuningOptions {
  readonly maxEpochs: number;
  /** Images in a step; each is seen in two views (Hoffer et al. 2020). */
  readonly batchSize: number;
  /** Peak learning rate of the encoder; that of the new classifier is ten times as high. */
  readonly learningRate: number;
  /** Number of epochs without a better validation macro F1 after which the training stops. */
  readonly patienceEpochs: number;
}

export interface FineTuningInput {
  readonly architecture: EncoderArchitecture;
  /** Initial weights under torchvision's names; every part of the split starts from them. */
  readonly initialWeights: readonly NamedTensor[];
  readonly normalisation: Normalisation;
  readonly imageSizePx: number;
  readonly images: LabelledImages;
  /** uint8 RGB `[rows, S, S, 3]` of these images. */
  readonly readPixels: (images: Int32Array) => Uint8Array;
  readonly options: FineTuningOptions;
  readonly seed: number;
}

/** Facts about one fit. */
export interface FineTuningFacts {
  /** Epochs that were trained. */
  readonly epochCount: number;
  /** The epoch whose weights were tested, from 1. */
  readonly bestEpoch: number;
  /**
   * Macro F1 of the validation images at that epoch; null if the training part could not be divided, so that the last
   * epoch is tested.
   */
  readonly validationMacroF1: number | null;
  /** Their mean cross-entropy at that epoch. */
  readonly validationLoss: number | null;
}

/** Weaker augmentation than in pretraining, because the label must stay recognisable. */
const AUGMENTATION: AugmentationConfig = {
  cropScaleMin: 0.5,
  cropScaleMax: 1,
  flip: true,
  quarterTurns: true,
  colourJitterStrength: 0.25,
  colourJitterProbability: 0.8,
  greyProbability: 0,
  blurProbability: 0,
  stainJitterStrength: 0,
  stainJitterProbability: 1,
};
/** Share of the steps in which the learning rate rises. */
const WARMUP_SHARE = 0.1;

/** Throws ProbeError TRAINING_DIVERGED when a loss is not finite. */
export function fineTuned(input: FineTuningInput): Classifier<FineTuningFacts> {
  const augmenter = createAugmenter(pairOf({ sizePx: input.imageSizePx, augmentation: AUGMENTATION }));
  let fitCount = 0;
  return {
    classify: async (train, test, reportProgress) => {
      const random = createRandom(input.seed).fork(`fine-tuning ${fitCount}`);
      fitCount += 1;
      const network = new ClassifyingEncoder(
        input.architecture,
        input.initialWeights,
        initialClassifier(input.architecture, input.images.labelNames.length, random.fork('classifier')),
      );
      try {
        const { facts, best } = await trainNetwork(input, network, augmenter, train, random, reportProgress);
        if (best === null) return { probabilities: predict(network, input, test), facts };
        const chosen = new ClassifyingEncoder(input.architecture, best.encoder, best.classifier);
        try {
          return { probabilities: predict(chosen, input, test), facts };
        } finally {
          chosen.dispose();
        }
      } finally {
        network.dispose();
      }
    },
  };
}

async function trainNetwork(
  input: FineTuningInput,
  network: ClassifyingEncoder,
  augmenter: Augmenter,
  train: Int32Array,
  random: Random,
  onProgress: (done: number) => Promise<void>,
): Promise<{ readonly facts: FineTuningFacts; readonly best: EncoderSnapshot | null }> {
  const { images, options } = input;
  const { fitted, heldOut } = innerParts(images, train, input.seed)?.[0] ?? {
    fitted: train,
    heldOut: new Int32Array(0),
  };
  const heldOutLabels = heldOut.map((image) => images.labels[image] ?? 0);
  const stepsPerEpoch = Math.max(1, Math.floor(fitted.length / options.batchSize));
  const totalSteps = stepsPerEpoch * options.maxEpochs;
  const schedule = {
    peakLearningRate: options.learningRate,
    warmupSteps: Math.floor(totalSteps * WARMUP_SHARE),
    totalSteps,
  };
  let best: { readonly snapshot: EncoderSnapshot; readonly epoch: number; readonly score: InnerScore } | null = null;
  let step = 0;
  let epoch = 0;
  for (; epoch < options.maxEpochs && epoch - (best?.epoch ?? epoch) < options.patienceEpochs;) {
    const epochRandom = random.fork(`epoch ${epoch}`);
    const order = Int32Array.from(epochRandom.shuffled([...fitted]));
    for (let batch = 0; batch < stepsPerEpoch; batch += 1) {
      const chosen = order.subarray(batch * options.batchSize, (batch + 1) * options.batchSize);
      const loss = trainStep(
        network,
        augmenter,
        input,
        chosen,
        epochRandom.fork(`views ${batch}`),
        learningRateAt(schedule, step),
      );
      if (!Number.isFinite(loss))
        throw new ProbeError(
          'TRAINING_DIVERGED',
          'input.options.learningRate',
          `The loss of step ${step} of the fine-tuning is ${loss}.`,
        );
      step += 1;
      await onProgress(step / totalSteps);
    }
    epoch += 1;
    if (heldOut.length > 0) {
      const score = innerScore(heldOutLabels, predict(network, input, heldOut), images.labelNames.length);
      if (best === null || isBetter(score, best.score)) best = { snapshot: network.snapshot(), epoch, score };
    }
  }
  return {
    facts: {
      epochCount: epoch,
      bestEpoch: best?.epoch ?? epoch,
      validationMacroF1: best?.score.macroF1 ?? null,
      validationLoss: best?.score.crossEntropy ?? null,
    },
    best: best?.snapshot ?? null,
  };
}

function trainStep(
  network: ClassifyingEncoder,
  augmenter: Augmenter,
  { images, readPixels, normalisation, imageSizePx }: FineTuningInput,
  chosen: Int32Array,
  random: Random,
  learningRate: number,
): number {
  const pixels = tf.tensor4d(readPixels(chosen), [chosen.length, imageSizePx, imageSizePx, 3], 'int32');
  const views = augmenter.views(pixels, random);
  // The augmenter returns values in -1..1.
  const inputs = scoped(() => normaliseImages(asRank4(tf.div(tf.add(views, 1), 2)), normalisation));
  const labels = Int32Array.from([...chosen, ...chosen], (image) => images.labels[image] ?? 0);
  try {
    return network.step(inputs, labels, learningRate);
  } finally {
    tf.dispose([pixels, views, inputs]);
  }
}

/** Probabilities `[rows, K]`, with the running statistics. */
function predict(
  network: ClassifyingEncoder,
  { images, readPixels, normalisation, imageSizePx }: FineTuningInput,
  rows: Int32Array,
): Float64Array {
  const labelCount = images.labelNames.length;
  const probabilities = new Float64Array(rows.length * labelCount);
  const size = embeddingBatchSize(imageSizePx);
  for (let start = 0; start < rows.length; start += size) {
    const chosen = rows.subarray(start, start + size);
    const predicted = scoped(() => {
      const pixels = tf.cast(
        tf.tensor4d(readPixels(chosen), [chosen.length, imageSizePx, imageSizePx, 3], 'int32'),
        'float32',
      );
      return network.probabilities(normaliseImages(tf.div(pixels, 255), normalisation));
    });
    probabilities.set(readFloats(predicted), start * labelCount);
    predicted.dispose();
  }
  return probabilities;
}
