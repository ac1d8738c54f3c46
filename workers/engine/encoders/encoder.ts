/** What the engine needs of a family of encoders to compute embeddings. */
import type { Pooling } from '../../../src/formats/encoders/architecture.ts';
import type { NamedTensor } from '../named-tensor.ts';
import type { Random } from '../rng.ts';
import type { Tensor2D, Tensor4D } from '../tensorflow.ts';

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

export interface EncoderNetwork {
  /** As in `Architecture.family`. */
  readonly family: string;
  /** @throws WeightsMismatchError that lists every missing, unexpected and mismatched tensor. */
  open(specification: unknown, tensors: readonly NamedTensor[], pooling: Pooling): InferenceEncoder;
  /** New weights, a pure function of the stream's state: the control with which trained ones are compared. */
  untrainedWeights(specification: unknown, random: Random): NamedTensor[];
}
