/**
 * What a pretraining method gives to the trainer (`train/trainer.ts`), which owns the encoder, the optimizer, the
 * schedule and the step. A method sees two views of each image, and the embeddings of the whole batch also where the
 * encoder computes them in parts.
 */
import type { Architecture } from '../../../src/formats/encoders/index.ts';
import type { TensorExpectation } from '../../../src/formats/tensor-check.ts';
import type { RowNoise, TrainableEncoder } from '../encoders/index.ts';
import type { Parameter } from '../models/parameter.ts';
import type { NamedTensor } from '../named-tensor.ts';
import type { Random } from '../rng.ts';
import type { Tensor, Tensor2D } from '../tensorflow.ts';
import type { StepViews } from '../train/step-views.ts';

/** The encoder that a method trains. */
export interface MethodSetting {
  readonly architecture: Architecture;
  /** D */
  readonly embeddingDim: number;
}

export interface Method {
  /** The tensors that the optimizer trains beside the encoder, in the order of `Learner.parameters`. */
  readonly trained: readonly TensorExpectation[];
  /** The tensors that the method itself changes after a step, such as a momentum encoder and a queue. */
  readonly kept: readonly TensorExpectation[];
  /**
   * New tensors, all of `trained` and `kept`: a function of the stream's state and of the encoder's weights.
   * @param encoderWeights under the names of the state dict.
   */
  initialState(random: Random, encoderWeights: readonly NamedTensor[]): NamedTensor[];
  /** @param tensors all of `trained` and `kept`. @throws WeightsMismatchError for others. */
  open(tensors: readonly NamedTensor[]): Learner;
}

/** The embeddings of one step. Their owner is the trainer. */
export interface EmbeddedBatch {
  /** [2N, D]; rows 0..N-1 the first views, rows N..2N-1 the second ones of the same images. */
  readonly embeddings: Tensor2D;
  readonly views: StepViews;
  /** Images that may go through an encoder at once; it divides N. */
  readonly partSize: number;
  readonly noise: RowNoise;
}

/** What a step learns. The trainer disposes all of it. */
export interface Learned {
  /** Scalar. */
  readonly loss: Tensor;
  /** [2N, D], the gradient of the loss with respect to the embeddings. */
  readonly embeddingGradient: Tensor2D;
  /** Scalars to watch, by the name of their metric. */
  readonly series: Readonly<Record<string, Tensor>>;
}

/** A step that was taken: the optimizer has changed the weights. */
export interface TakenStep {
  readonly encoder: TrainableEncoder;
  /** 0 for the first step. */
  readonly stepIndex: number;
  readonly totalSteps: number;
}

/** A method's tensors on the device. */
export interface Learner {
  /** In the order of `Method.trained`. */
  readonly parameters: readonly Parameter[];
  /**
   * Sets the gradient of each parameter. Nothing else changes before `commit`.
   * @throws RangeError for fewer than 2 images.
   */
  learn(batch: EmbeddedBatch): Learned;
  /** Changes what the method keeps, once the step has succeeded. */
  commit(step: TakenStep): void;
  /** Frees what an abandoned step holds; may be called at any time. */
  discard(): void;
  /** All tensors of `Method.trained` and `Method.kept`. */
  state(): NamedTensor[];
  dispose(): void;
}
