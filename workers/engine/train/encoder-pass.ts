/**
 * The forward and backward pass of a batch through the encoder: whole, or in parts that need only the memory of one
 * part.
 */
import { setGradient, takeGradient } from '../models/parameter.ts';
import type { RowNoise, TrainableEncoder } from '../encoders/index.ts';
import { asRank2, scoped, tf } from '../tensorflow.ts';
import type { Tensor2D, Tensor4D } from '../tensorflow.ts';
import type { StepViews } from './step-views.ts';
import { TensorSums } from './tensor-sums.ts';

/** Call its methods once each, in this order: forward, backward, commitStatistics, dispose. */
export interface EncoderPass {
  /** The embeddings [2N, D] of all views, first views first. The pass keeps ownership of them. */
  forward(): Tensor2D;
  /** Sets the gradient of every parameter of the encoder from the gradient of the embeddings [2N, D]. */
  backward(embeddingGradient: Tensor2D): void;
  /** Updates the encoder's running statistics with this batch. */
  commitStatistics(): void;
  /** Frees all remaining tensors; may be called at any time. */
  dispose(): void;
}

export class WholeBatch implements EncoderPass {
  readonly #encoder: TrainableEncoder;
  readonly #source: StepViews;
  readonly #noise: RowNoise;
  #views: Tensor4D | undefined;
  #embeddings: Tensor2D | undefined;

  /** @param noise of each row of the 2N views. */
  constructor(encoder: TrainableEncoder, source: StepViews, noise: RowNoise) {
    this.#encoder = encoder;
    this.#source = source;
    this.#noise = noise;
  }

  forward(): Tensor2D {
    this.#views = this.#source.make(0, this.#source.imageCount);
    this.#embeddings = this.#encoder.forward(this.#views, this.#noise);
    return this.#embeddings;
  }

  backward(embeddingGradient: Tensor2D): void {
    this.#encoder.backward(embeddingGradient);
  }

  commitStatistics(): void {
    this.#encoder.commitStatistics();
  }

  dispose(): void {
    this.#encoder.discard();
    this.#views?.dispose();
    this.#embeddings?.dispose();
  }
}

export class BatchInParts implements EncoderPass {
  readonly #encoder: TrainableEncoder;
  readonly #source: StepViews;
  readonly #noise: RowNoise;
  /** Images in a part. */
  readonly #partSize: number;
  readonly #gradients = new TensorSums();
  readonly #statistics = new TensorSums();
  #embeddings: Tensor2D | undefined;

  /** @param noise of each row of the 2N views. */
  constructor(encoder: TrainableEncoder, source: StepViews, partSize: number, noise: RowNoise) {
    this.#encoder = encoder;
    this.#source = source;
    this.#partSize = partSize;
    this.#noise = noise;
  }

  /** Runs `work` on the views of each part in turn, and frees them. */
  #eachPart<Result>(work: (views: Tensor4D, start: number) => Result): Result[] {
    const starts = Array.from({ length: this.#source.imageCount / this.#partSize }, (_, part) => part * this.#partSize);
    return starts.map((start) => {
      const views = this.#source.make(start, this.#partSize);
      try {
        return work(views, start);
      } finally {
        views.dispose();
      }
    });
  }

  /** A part holds the first views of its images and then the second ones. */
  #noiseOf(start: number): RowNoise {
    const [size, imageCount] = [this.#partSize, this.#source.imageCount];
    return (row) => this.#noise(row < size ? start + row : imageCount + start + row - size);
  }

  forward(): Tensor2D {
    this.#embeddings = scoped(() => {
      const parts = this.#eachPart((views, start) => this.#encoder.embedInTraining(views, this.#noiseOf(start)));
      const half = (start: number): Tensor2D[] => parts.map((part) => asRank2(tf.slice(part, start, this.#partSize)));
      return tf.concat([...half(0), ...half(this.#partSize)], 0);
    });
    return this.#embeddings;
  }

  backward(embeddingGradient: Tensor2D): void {
    const { parameters } = this.#encoder;
    this.#eachPart((views, start) => {
      this.#encoder.forward(views, this.#noiseOf(start)).dispose();
      const share = scoped(() =>
        asRank2(
          tf.concat(
            [start, this.#source.imageCount + start].map((row) => tf.slice(embeddingGradient, row, this.#partSize)),
          ),
        ),
      );
      this.#encoder.backward(share);
      share.dispose();
      this.#gradients.add(parameters.map(takeGradient));
      this.#statistics.add(this.#encoder.takeStatistics());
    });
    this.#gradients.takeSums().forEach((gradient, index) => {
      const parameter = parameters[index];
      if (parameter !== undefined) setGradient(parameter, gradient);
    });
  }

  commitStatistics(): void {
    this.#encoder.commitStatistics(this.#statistics.takeMeans());
  }

  dispose(): void {
    this.#encoder.discard();
    this.#gradients.dispose();
    this.#statistics.dispose();
    this.#embeddings?.dispose();
  }
}
