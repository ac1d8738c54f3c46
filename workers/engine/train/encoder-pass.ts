/**
 * The forward and backward pass of a batch's views through the encoder. The views of one size go through it together:
 * of all images at once, or in parts that need only the memory of one part.
 */
import { setGradient, takeGradient } from '../models/parameter.ts';
import type { RowNoise, TrainableEncoder } from '../encoders/index.ts';
import { asRank2, scoped, tf } from '../tensorflow.ts';
import type { Tensor2D, Tensor4D } from '../tensorflow.ts';
import type { StepViews } from './step-views.ts';
import { TensorSums } from './tensor-sums.ts';

/** The views of one group of consecutive images. */
interface Part {
  readonly group: number;
  readonly start: number;
  /** The group's first view, among all views of an image. */
  readonly firstView: number;
  readonly viewCount: number;
}

/** Call its methods once each, in this order: forward, backward, commitStatistics, dispose. */
export class EncoderPass {
  readonly #encoder: TrainableEncoder;
  readonly #source: StepViews;
  readonly #noise: RowNoise;
  /** Images in a part. */
  readonly #partSize: number;
  readonly #parts: readonly Part[];
  readonly #gradients = new TensorSums();
  readonly #statistics = new TensorSums();
  /** The views whose activations the encoder keeps from `forward` to `backward`. */
  #keptViews: Tensor4D | undefined;
  #embeddings: Tensor2D | undefined;

  /** @param noise of each row of the V * N views. */
  constructor(encoder: TrainableEncoder, source: StepViews, partSize: number, noise: RowNoise) {
    this.#encoder = encoder;
    this.#source = source;
    this.#partSize = partSize;
    this.#noise = noise;
    this.#parts = partsOf(source, partSize);
  }

  /** The embeddings [V * N, D] of all views, first views first. The pass keeps ownership of them. */
  forward(): Tensor2D {
    const [first, ...others] = this.#parts;
    if (first === undefined) throw new RangeError('A step needs views.');
    // Where the batch is whole, the activations of the first group, which has the largest views, are kept, and only the
    // other groups need a second forward pass. In parts, only the memory of one part is wanted.
    if (this.#partSize !== this.#source.imageCount) {
      this.#embeddings = scoped(() => this.#joined(this.#parts.map((part) => this.#embed(part))));
      return this.#embeddings;
    }
    const kept = this.#forwardKept(first);
    this.#embeddings = kept;
    if (others.length > 0) {
      this.#embeddings = scoped(() => this.#joined([kept, ...others.map((part) => this.#embed(part))]));
      kept.dispose();
    }
    return this.#embeddings;
  }

  #embed(part: Part): Tensor2D {
    const views = this.#viewsOf(part);
    try {
      return this.#encoder.embedInTraining(views, this.#noiseOf(part));
    } finally {
      views.dispose();
    }
  }

  #forwardKept(part: Part): Tensor2D {
    this.#keptViews = this.#viewsOf(part);
    return this.#encoder.forward(this.#keptViews, this.#noiseOf(part));
  }

  #viewsOf({ start, group }: Part): Tensor4D {
    return this.#source.make(start, this.#partSize, group);
  }

  /** The embeddings of all parts by view and image. Call it in a scope. */
  #joined(embedded: readonly Tensor2D[]): Tensor2D {
    const rows = this.#parts.flatMap(({ firstView, viewCount, start }, index) => {
      const part = embedded[index];
      if (part === undefined) throw new Error('A part of a batch has no embeddings.');
      return Array.from({ length: viewCount }, (_, view) => ({
        row: this.#rowOf(firstView + view, start),
        slice: tf.slice(part, view * this.#partSize, this.#partSize),
      }));
    });
    const inOrder = rows.toSorted((left, right) => left.row - right.row);
    return asRank2(tf.concat(inOrder.map(({ slice }) => slice)));
  }

  #rowOf(view: number, image: number): number {
    return view * this.#source.imageCount + image;
  }

  /** A part holds the first views of its images, then the second ones, and so on. */
  #noiseOf({ firstView, start }: Part): RowNoise {
    const size = this.#partSize;
    return (row) => this.#noise(this.#rowOf(firstView + Math.floor(row / size), start + (row % size)));
  }

  /** Sets the gradient of every parameter of the encoder from the gradient of the embeddings [V * N, D]. */
  backward(embeddingGradient: Tensor2D): void {
    const { parameters } = this.#encoder;
    for (const part of this.#parts) {
      const views = this.#keptViews ?? this.#viewsOf(part);
      try {
        if (this.#keptViews === undefined) this.#encoder.forward(views, this.#noiseOf(part)).dispose();
        const share = this.#shareOf(embeddingGradient, part);
        this.#encoder.backward(share);
        share.dispose();
      } finally {
        views.dispose();
        this.#keptViews = undefined;
      }
      this.#gradients.add(parameters.map(takeGradient));
      this.#statistics.add(this.#encoder.takeStatistics());
    }
    this.#gradients.takeSums().forEach((gradient, index) => {
      const parameter = parameters[index];
      if (parameter !== undefined) setGradient(parameter, gradient);
    });
  }

  #shareOf(embeddingGradient: Tensor2D, { firstView, viewCount, start }: Part): Tensor2D {
    const starts = Array.from({ length: viewCount }, (_, view) => this.#rowOf(firstView + view, start));
    return scoped(() => asRank2(tf.concat(starts.map((row) => tf.slice(embeddingGradient, row, this.#partSize)))));
  }

  /** Updates the encoder's running statistics with this batch. */
  commitStatistics(): void {
    this.#encoder.commitStatistics(this.#statistics.takeMeans());
  }

  /** Frees all remaining tensors; may be called at any time. */
  dispose(): void {
    this.#encoder.discard();
    this.#gradients.dispose();
    this.#statistics.dispose();
    this.#keptViews?.dispose();
    this.#embeddings?.dispose();
  }
}

function partsOf({ imageCount, viewCounts }: StepViews, partSize: number): Part[] {
  return viewCounts.flatMap((viewCount, group) => {
    const firstView = viewCounts.slice(0, group).reduce((sum, count) => sum + count, 0);
    return Array.from({ length: imageCount / partSize }, (_, part) => ({
      group,
      start: part * partSize,
      firstView,
      viewCount,
    }));
  });
}
