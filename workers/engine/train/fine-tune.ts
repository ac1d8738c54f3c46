/**
 * Fine-tuning: the whole encoder and a linear classifier on top of it, trained by cross-entropy on augmented images. Where to stop is seen on a
 * part of the training groups; the weights of the best epoch are the ones that are tested.
 */
import { createAugmenter, type Augmenter } from '../augment/augmenter.ts';
import type { AugmentationConfig } from '../augment/config.ts';
import { embeddingBatchSize, normaliseImages, type Normalisation } from '../embed.ts';
import { multiplyMatrices } from '../kernels/elementwise.ts';
import { createParameter, disposeParameter, fromDevice, setGradient, type Parameter } from '../models/parameter.ts';
import { encoderFromWeights, type Encoder, type EncoderArchitecture } from '../models/resnet.ts';
import type { NamedTensor } from '../named-tensor.ts';
import { Momentum } from '../optim/momentum.ts';
import { learningRateAt } from '../optim/schedule.ts';
import type { Classifier } from '../probe/classification.ts';
import { ProbeError } from '../probe/errors.ts';
import { assignInnerFolds, type LabelledImages } from '../probe/folds.ts';
import { createRandom, type Random } from '../rng.ts';
import { asRank2, asRank4, readFloat, readFloats, scoped, tf, type Tensor2D, type Tensor4D } from '../tensorflow.ts';

export interface FineTuningOptions {
  readonly maxEpochs: number;
  /** Images in a step; each is seen in two views (Hoffer et al. 2020). */
  readonly batchSize: number;
  /** Of the encoder, at its peak; the new classifier learns ten times as fast. */
  readonly learningRate: number;
  /** Epochs without a better validation loss after which it stops. */
  readonly patienceEpochs: number;
}

export interface FineTuningInput {
  readonly architecture: EncoderArchitecture;
  /** Under torchvision's names; every part of the split begins from them. */
  readonly initialWeights: readonly NamedTensor[];
  readonly normalisation: Normalisation;
  readonly imageSizePx: number;
  readonly images: LabelledImages;
  /** uint8 RGB `[rows, S, S, 3]` of these images. */
  readonly readPixels: (images: Int32Array) => Uint8Array;
  readonly options: FineTuningOptions;
  readonly seed: number;
}

/** How one fit went. */
export interface FineTuningFacts {
  /** Epochs that were trained. */
  readonly epochCount: number;
  /** The epoch whose weights were tested, from 1. */
  readonly bestEpoch: number;
  /** Mean cross-entropy of the validation images at that epoch; null where the training part could not be divided, so that the last epoch counts. */
  readonly validationLoss: number | null;
}

/** Gentler than a pretraining's: the label must stay visible. */
const AUGMENTATION: AugmentationConfig = {
  cropScaleMin: 0.5, cropScaleMax: 1, flip: true, quarterTurns: true, colourJitterStrength: 0.25, colourJitterProbability: 0.8, greyProbability: 0, blurProbability: 0,
};
const MOMENTUM = 0.9;
const WEIGHT_DECAY = 1e-4;
const CLASSIFIER_RATE = 10;
/** Share of the steps in which the learning rate rises. */
const WARMUP_SHARE = 0.1;

/** Throws ProbeError TRAINING_DIVERGED when a loss is not finite. */
export function fineTuned(input: FineTuningInput): Classifier<FineTuningFacts> {
  const augmenter = createAugmenter(AUGMENTATION, input.imageSizePx);
  let fitCount = 0;
  return {
    classify: async (train, test, tell) => {
      const random = createRandom(input.seed).fork(`fine-tuning ${fitCount}`);
      fitCount += 1;
      const network = new Network(input, random.fork('classifier'));
      try {
        const { facts, best } = await trainNetwork(input, network, augmenter, train, random, tell);
        if (best === null) return { probabilities: network.predict(input, test), facts };
        const chosen = new Network({ ...input, initialWeights: best.encoder }, random, best.classifier);
        try {
          return { probabilities: chosen.predict(input, test), facts };
        } finally {
          chosen.dispose();
        }
      } finally {
        network.dispose();
      }
    },
  };
}

interface Snapshot {
  readonly encoder: readonly NamedTensor[];
  readonly classifier: readonly NamedTensor[];
}

async function trainNetwork(
  input: FineTuningInput,
  network: Network,
  augmenter: Augmenter,
  train: Int32Array,
  random: Random,
  tell: (done: number) => Promise<void>,
): Promise<{ readonly facts: FineTuningFacts; readonly best: Snapshot | null }> {
  const { images, options } = input;
  const inner = assignInnerFolds(images, train, input.seed);
  const learned = inner === null ? train : train.filter((_, row) => inner[row] !== 0);
  const held = inner === null ? new Int32Array(0) : train.filter((_, row) => inner[row] === 0);
  const stepsPerEpoch = Math.max(1, Math.floor(learned.length / options.batchSize));
  const totalSteps = stepsPerEpoch * options.maxEpochs;
  const schedule = { peakLearningRate: options.learningRate, warmupSteps: Math.floor(totalSteps * WARMUP_SHARE), totalSteps };
  let best: { readonly snapshot: Snapshot; readonly epoch: number; readonly loss: number } | null = null;
  let step = 0;
  let epoch = 0;
  for (; epoch < options.maxEpochs && epoch - (best?.epoch ?? epoch) < options.patienceEpochs; ) {
    const epochRandom = random.fork(`epoch ${epoch}`);
    const order = Int32Array.from(epochRandom.shuffled([...learned]));
    for (let batch = 0; batch < stepsPerEpoch; batch += 1) {
      const chosen = order.subarray(batch * options.batchSize, (batch + 1) * options.batchSize);
      const loss = trainStep(network, augmenter, input, chosen, epochRandom.fork(`views ${batch}`), learningRateAt(schedule, step));
      if (!Number.isFinite(loss)) throw new ProbeError('TRAINING_DIVERGED', 'input.options.learningRate', `The loss of step ${step} of the fine-tuning is ${loss}.`);
      step += 1;
      await tell(step / totalSteps);
    }
    epoch += 1;
    if (held.length > 0) {
      const loss = crossEntropy(network.predict(input, held), images, held);
      if (best === null || loss < best.loss) best = { snapshot: network.snapshot(), epoch, loss };
    }
  }
  return { facts: { epochCount: epoch, bestEpoch: best?.epoch ?? epoch, validationLoss: best?.loss ?? null }, best: best?.snapshot ?? null };
}

function trainStep(
  network: Network,
  augmenter: Augmenter,
  { images, readPixels, normalisation, imageSizePx }: FineTuningInput,
  chosen: Int32Array,
  random: Random,
  learningRate: number,
): number {
  const pixels = tf.tensor4d(readPixels(chosen), [chosen.length, imageSizePx, imageSizePx, 3], 'int32');
  const views = augmenter.views(pixels, random);
  // The augmenter answers -1..1.
  const inputs = scoped(() => normaliseImages(asRank4(tf.div(tf.add(views, 1), 2)), normalisation));
  const labels = Int32Array.from([...chosen, ...chosen], (image) => images.labels[image] ?? 0);
  try {
    return network.step(inputs, labels, learningRate);
  } finally {
    tf.dispose([pixels, views, inputs]);
  }
}

function crossEntropy(probabilities: Float64Array, { labels, labelNames }: LabelledImages, images: Int32Array): number {
  return images.reduce((sum, image, row) => sum - Math.log(Math.max(probabilities[row * labelNames.length + (labels[image] ?? 0)] ?? 0, 1e-12)), 0) / images.length;
}

/** Encoder, classifier and their optimisers. */
class Network {
  readonly #encoder: Encoder;
  readonly #weight: Parameter;
  readonly #bias: Parameter;
  readonly #encoderOptimizer: Momentum;
  readonly #classifierOptimizer: Momentum;
  readonly #labelCount: number;

  constructor({ architecture, initialWeights, images }: Pick<FineTuningInput, 'architecture' | 'initialWeights' | 'images'>, random: Random, classifier?: readonly NamedTensor[]) {
    this.#encoder = encoderFromWeights(architecture, initialWeights);
    this.#labelCount = images.labelNames.length;
    const { embeddingDim } = this.#encoder;
    const bound = 1 / Math.sqrt(embeddingDim);
    const [weight, bias] = classifier ?? [
      { name: 'fc.weight', dtype: 'F32', shape: [this.#labelCount, embeddingDim], data: Float32Array.from({ length: this.#labelCount * embeddingDim }, () => random.between(-bound, bound)) },
      { name: 'fc.bias', dtype: 'F32', shape: [this.#labelCount], data: new Float32Array(this.#labelCount) },
    ] as const;
    if (weight === undefined || bias === undefined) throw new Error('A classifier has a weight and a bias.');
    this.#weight = createParameter(weight, 'WEIGHT', 'AS_IS');
    this.#bias = createParameter(bias, 'BIAS_OR_NORM', 'AS_IS');
    this.#encoderOptimizer = new Momentum(this.#encoder.parameters, { momentum: MOMENTUM, weightDecay: WEIGHT_DECAY });
    this.#classifierOptimizer = new Momentum([this.#weight, this.#bias], { momentum: MOMENTUM, weightDecay: WEIGHT_DECAY });
  }

  /** Answers the mean cross-entropy of the batch before the step. Nothing changes when it is not finite. */
  step(inputs: Tensor4D, labels: Int32Array, learningRate: number): number {
    const embeddings = this.#encoder.forward(inputs);
    const truth = scoped(() => asRank2(tf.oneHot(tf.tensor1d(labels, 'int32'), this.#labelCount, 1, 0, 'float32')));
    const logits = this.#logits(embeddings);
    const logProbabilities = tf.logSoftmax(logits);
    const lossTensor = scoped(() => tf.neg(tf.div(tf.sum(tf.mul(logProbabilities, truth)), labels.length)));
    const gradient = asRank2(scoped(() => tf.div(tf.sub(tf.exp(logProbabilities), truth), labels.length)));
    const loss = readFloat(lossTensor);
    if (Number.isFinite(loss)) {
      setGradient(this.#weight, multiplyMatrices(gradient, embeddings, { transposeLeft: true }));
      setGradient(this.#bias, tf.sum(gradient, 0));
      const embeddingGradient = multiplyMatrices(gradient, this.#weight.value);
      this.#encoder.backward(embeddingGradient);
      embeddingGradient.dispose();
      this.#encoderOptimizer.apply(learningRate);
      this.#classifierOptimizer.apply(learningRate * CLASSIFIER_RATE);
      this.#encoder.commitStatistics();
    }
    this.#encoder.discard();
    tf.dispose([embeddings, truth, logits, logProbabilities, lossTensor, gradient]);
    return loss;
  }

  /** `[rows, K]`, by the running statistics. */
  predict({ readPixels, normalisation, imageSizePx }: Pick<FineTuningInput, 'readPixels' | 'normalisation' | 'imageSizePx'>, rows: Int32Array): Float64Array {
    const probabilities = new Float64Array(rows.length * this.#labelCount);
    const size = embeddingBatchSize(imageSizePx);
    for (let start = 0; start < rows.length; start += size) {
      const chosen = rows.subarray(start, start + size);
      const said = scoped(() => {
        const pixels = tf.cast(tf.tensor4d(readPixels(chosen), [chosen.length, imageSizePx, imageSizePx, 3], 'int32'), 'float32');
        return tf.softmax(this.#logits(this.#encoder.embed(normaliseImages(tf.div(pixels, 255), normalisation))));
      });
      probabilities.set(readFloats(said), start * this.#labelCount);
      said.dispose();
    }
    return probabilities;
  }

  #logits(embeddings: Tensor2D): Tensor2D {
    return asRank2(scoped(() => tf.add(multiplyMatrices(embeddings, this.#weight.value, { transposeRight: true }), this.#bias.value)));
  }

  snapshot(): Snapshot {
    return { encoder: this.#encoder.weights(), classifier: [this.#weight, this.#bias].map(({ name, value, layout }) => fromDevice(name, value, layout)) };
  }

  dispose(): void {
    this.#encoder.dispose();
    disposeParameter(this.#weight);
    disposeParameter(this.#bias);
    this.#encoderOptimizer.dispose();
    this.#classifierOptimizer.dispose();
  }
}
