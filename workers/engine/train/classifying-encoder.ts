/** An encoder with a linear classifier on top, trained together by cross-entropy. */
import { multiplyMatrices } from '../kernels/elementwise.ts';
import { embeddingDimOf } from '../encoders/resnet/architecture.ts';
import { createParameter, disposeParameter, fromDevice, setGradient, type Parameter } from '../models/parameter.ts';
import { encoderFromWeights, type Encoder, type EncoderArchitecture } from '../encoders/resnet/network.ts';
import type { NamedTensor } from '../named-tensor.ts';
import { Momentum } from '../optim/momentum.ts';
import type { Random } from '../rng.ts';
import { asRank2, readFloat, scoped, tf, type Tensor2D, type Tensor4D } from '../tensorflow.ts';

/** Weight `[K, D]` and bias `[K]` of the classifier of K labels. */
export type ClassifierWeights = readonly [weight: NamedTensor, bias: NamedTensor];

export interface EncoderSnapshot {
  readonly encoder: readonly NamedTensor[];
  readonly classifier: ClassifierWeights;
}

const MOMENTUM = 0.9;
const WEIGHT_DECAY = 1e-4;
/** Factor of the classifier's learning rate: the classifier starts untrained and must learn faster than the encoder. */
const CLASSIFIER_RATE = 10;

/** Initialised as PyTorch's Linear, except for the bias, which is 0. */
export function initialClassifier(
  architecture: EncoderArchitecture,
  labelCount: number,
  random: Random,
): ClassifierWeights {
  const embeddingDim = embeddingDimOf(architecture);
  const bound = 1 / Math.sqrt(embeddingDim);
  return [
    {
      name: 'fc.weight',
      dtype: 'F32',
      shape: [labelCount, embeddingDim],
      data: Float32Array.from({ length: labelCount * embeddingDim }, () => random.between(-bound, bound)),
    },
    { name: 'fc.bias', dtype: 'F32', shape: [labelCount], data: new Float32Array(labelCount) },
  ];
}

/** Encoder, classifier and their optimisers. */
export class ClassifyingEncoder {
  readonly #encoder: Encoder;
  readonly #weight: Parameter;
  readonly #bias: Parameter;
  readonly #encoderOptimizer: Momentum;
  readonly #classifierOptimizer: Momentum;
  readonly #labelCount: number;

  /** @param encoderWeights under torchvision's names */
  constructor(
    architecture: EncoderArchitecture,
    encoderWeights: readonly NamedTensor[],
    [weight, bias]: ClassifierWeights,
  ) {
    this.#encoder = encoderFromWeights(architecture, encoderWeights);
    this.#weight = createParameter(weight, 'WEIGHT', 'AS_IS');
    this.#bias = createParameter(bias, 'BIAS_OR_NORM', 'AS_IS');
    this.#labelCount = bias.data.length;
    this.#encoderOptimizer = new Momentum(this.#encoder.parameters, { momentum: MOMENTUM, weightDecay: WEIGHT_DECAY });
    this.#classifierOptimizer = new Momentum([this.#weight, this.#bias], {
      momentum: MOMENTUM,
      weightDecay: WEIGHT_DECAY,
    });
  }

  /**
   * One step on normalised images `[N, H, W, 3]`. Returns the mean cross-entropy of the batch before the step, or NaN
   * if a gradient is not finite. If the result is not finite, nothing has changed.
   * @param learningRate of the encoder; the classifier's is ten times as high.
   */
  step(inputs: Tensor4D, labels: Int32Array, learningRate: number): number {
    const embeddings = this.#encoder.forward(inputs);
    const truth = scoped(() => asRank2(tf.oneHot(tf.tensor1d(labels, 'int32'), this.#labelCount, 1, 0, 'float32')));
    const logits = this.#logits(embeddings);
    const logProbabilities = tf.logSoftmax(logits);
    const lossTensor = scoped(() => tf.neg(tf.div(tf.sum(tf.mul(logProbabilities, truth)), labels.length)));
    const gradient = asRank2(scoped(() => tf.div(tf.sub(tf.exp(logProbabilities), truth), labels.length)));
    let loss = readFloat(lossTensor);
    if (Number.isFinite(loss)) {
      setGradient(this.#weight, multiplyMatrices(gradient, embeddings, { transposeLeft: true }));
      setGradient(this.#bias, tf.sum(gradient, 0));
      const embeddingGradient = multiplyMatrices(gradient, this.#weight.value);
      this.#encoder.backward(embeddingGradient);
      embeddingGradient.dispose();
      // The encoder's gradients are computed from the classifier's, which are therefore finite if all of the encoder's
      // are.
      if (this.#encoderOptimizer.apply(learningRate) && this.#classifierOptimizer.apply(learningRate * CLASSIFIER_RATE))
        this.#encoder.commitStatistics();
      else loss = Number.NaN;
    }
    this.#encoder.discard();
    tf.dispose([embeddings, truth, logits, logProbabilities, lossTensor, gradient]);
    return loss;
  }

  /** Probabilities `[N, K]` for normalised images `[N, H, W, 3]`, with the running statistics. */
  probabilities(inputs: Tensor4D): Tensor2D {
    return asRank2(scoped(() => tf.softmax(this.#logits(this.#encoder.embed(inputs)))));
  }

  #logits(embeddings: Tensor2D): Tensor2D {
    return asRank2(
      scoped(() =>
        tf.add(multiplyMatrices(embeddings, this.#weight.value, { transposeRight: true }), this.#bias.value),
      ),
    );
  }

  snapshot(): EncoderSnapshot {
    const read = ({ name, value, layout }: Parameter): NamedTensor => fromDevice(name, value, layout);
    return { encoder: this.#encoder.weights(), classifier: [read(this.#weight), read(this.#bias)] };
  }

  dispose(): void {
    this.#encoder.dispose();
    disposeParameter(this.#weight);
    disposeParameter(this.#bias);
    this.#encoderOptimizer.dispose();
    this.#classifierOptimizer.dispose();
  }
}
