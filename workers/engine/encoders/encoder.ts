/** What the engine needs of a family of encoders: to compute embeddings, and to train. */
import type { Pooling } from '../../../src/formats/encoders/architecture.ts';
import type { Parameter } from '../models/parameter.ts';
import type { NamedTensor } from '../named-tensor.ts';
import type { Random } from '../rng.ts';
import type { FloatDtype, Tensor, Tensor2D, Tensor4D } from '../tensorflow.ts';

/** A network with weights on the device. */
export interface InferenceEncoder {
  /** D */
  readonly embeddingDim: number;
  /**
   * Float32 images `[N, H, W, 3]`, already normalised as the input contract says, to embeddings `[N, D]`.
   *
   * @throws RangeError for images of a size that the network does not take.
   */
  embed(images: Tensor4D): Tensor2D;
  dispose(): void;
}

/**
 * Random numbers for one image of a training pass, such as which blocks it skips. The stream depends on the step and
 * on the image's row in the whole batch, so that a batch in parts, and the two passes of a part, draw the same numbers.
 *
 * @returns a new stream for the image in this row of the pass, from its beginning.
 */
export type RowNoise = (row: number) => Pick<Random, 'uniform'>;

/** A network whose weights a training changes. It owns the tensors of a forward pass until the backward pass. */
export interface TrainableEncoder extends InferenceEncoder {
  /** In the order of the state dict, without running statistics. */
  readonly parameters: readonly Parameter[];
  /** The embeddings that `forward` gives, bit for bit, without keeping anything for a backward pass. */
  embedInTraining(images: Tensor4D, noise: RowNoise): Tensor2D;
  /**
   * Like `embedInTraining`, for an encoder that is not trained itself but follows one that is: keeps the running
   * statistics of this pass for `takeStatistics`.
   */
  embedAlongside(images: Tensor4D, noise: RowNoise): Tensor2D;
  /** `[N, H, W, 3]` to `[N, D]`; the caller owns the embeddings. The images must live until `backward`. */
  forward(images: Tensor4D, noise: RowNoise): Tensor2D;
  /** Sets every parameter's gradient from the gradient of the embeddings `[N, D]` of the last `forward`. */
  backward(embeddingGradient: Tensor2D): void;
  /**
   * The running statistics after the last `forward` and `backward`, or after the last `embedAlongside`; the caller owns
   * them. None if the network has no batch norm.
   */
  takeStatistics(): Tensor[];
  /** Sets the running statistics, in the order of `takeStatistics`, once their step has succeeded. */
  commitStatistics(statistics?: readonly Tensor[]): void;
  /** Disposes what an abandoned `forward` keeps. */
  discard(): void;
  /** Every tensor under the names and layouts of its state dict. */
  weights(): NamedTensor[];
}

export interface TrainingOptions {
  /** The dtype of activations and their gradients [float32]; weights, their gradients and embeddings are float32. */
  readonly computeDtype?: FloatDtype | undefined;
  /**
   * Stochastic depth (Huang et al. 2016, arXiv:1603.09382): the probability with which an image skips a branch of the
   * last block; it rises linearly from 0 at the first block [0]. Only for networks that have it.
   */
  readonly dropPathRate?: number | undefined;
  /**
   * Each layer's learning rate is this factor times that of the layer after it (Bao et al. 2022, arXiv:2106.08254) [1].
   */
  readonly layerDecay?: number | undefined;
}

export interface EncoderNetwork {
  /** As in `Architecture.family`. */
  readonly family: string;
  /** @throws WeightsMismatchError that lists every missing, unexpected and mismatched tensor. */
  open(specification: unknown, tensors: readonly NamedTensor[], pooling: Pooling): InferenceEncoder;
  /**
   * Like `open`, for training; absent if the family cannot be trained.
   * @throws RangeError for an option that the network does not have.
   */
  train?(
    specification: unknown,
    tensors: readonly NamedTensor[],
    pooling: Pooling,
    options: TrainingOptions,
  ): TrainableEncoder;
  /**
   * New weights, a pure function of the stream's state: the control with which trained ones are compared. Values may be
   * drawn whenever `data` is asked for.
   */
  untrainedWeights(specification: unknown, random: Random): NamedTensor[];
}
