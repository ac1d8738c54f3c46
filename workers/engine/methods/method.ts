/**
 * What a pretraining method gives to the trainer (`train/trainer.ts`), which owns the encoder, the optimizer, the
 * schedule and the step. A method says which views of each image it wants, and sees the embeddings of the whole batch
 * also where the encoder computes them in parts.
 */
import type { Architecture } from '../../../src/formats/encoders/index.ts';
import type { TensorExpectation } from '../../../src/formats/tensor-check.ts';
import type { ViewGroup, ViewSpec } from '../augment/config.ts';
import type { RowNoise, TrainableEncoder } from '../encoders/index.ts';
import type { Parameter } from '../models/parameter.ts';
import type { NamedTensor } from '../named-tensor.ts';
import type { Random } from '../rng.ts';
import type { Tensor, Tensor2D } from '../tensorflow.ts';
import type { StepViews } from '../train/step-views.ts';

/** A method by the name that configs have. */
export interface PretrainingMethod<Config extends { readonly name: string }> {
  readonly name: Config['name'];
  /** @throws RangeError for a setting out of range. */
  prepare(config: Config, setting: MethodSetting): Method;
}

/** The encoder that a method trains. */
export interface MethodSetting {
  readonly architecture: Architecture;
  /** D */
  readonly embeddingDim: number;
  /** The encoder's state dict. */
  readonly encoderTensors: readonly TensorExpectation[];
  /**
   * Another encoder of the same network and precision, which skips no branches.
   * @throws WeightsMismatchError for tensors other than `encoderTensors`.
   */
  openEncoder(tensors: readonly NamedTensor[]): TrainableEncoder;
}

export interface Method {
  /**
   * The views of each image, in the order of the embeddings' rows. The views of a group go through the encoder
   * together, and batch norm normalises them together; the group of the largest views should come first.
   * @param usual the view that the run's own settings describe.
   */
  views(usual: ViewSpec): readonly ViewGroup[];
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
  /** [V * N, D]; rows 0..N-1 the first views, rows N..2N-1 the second ones of the same images, and so on. */
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
  /** [V * N, D], the gradient of the loss with respect to the embeddings. */
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
   * @throws RangeError for fewer than 2 images, or for other views than the method's.
   */
  learn(batch: EmbeddedBatch): Learned;
  /** Changes what the method keeps, once the step has succeeded. */
  commit(step: TakenStep): void;
  /** Frees what an abandoned step holds; may be called at any time. */
  discard(): void;
  /** All tensors of `Method.trained` and `Method.kept`. */
  state(): NamedTensor[];
  /**
   * The encoder to export, under the names of the state dict, if it is not the one that is trained. Its tensors are in
   * the state too, with `EXPORTED_ENCODER` before their names, by which the registry finds them in a saved state.
   */
  exportedEncoder?(): NamedTensor[];
  dispose(): void;
}

/** Asserts the number of views of each image. @throws RangeError */
export function requireViews(title: string, { views: { viewCounts } }: EmbeddedBatch, wanted: readonly number[]): void {
  if (viewCounts.join(' ') !== wanted.join(' '))
    throw new RangeError(
      `${title} takes groups of ${wanted.join(' and ')} views of each image, not ${viewCounts.join(' and ')}.`,
    );
}
