/** The learner of a method that consists of a head on the embeddings of two views, and a loss of its projections. */
import type { Parameter } from '../models/parameter.ts';
import type { NamedTensor } from '../named-tensor.ts';
import type { Tensor, Tensor2D } from '../tensorflow.ts';
import { requireViews, type EmbeddedBatch, type Learned, type Learner } from './method.ts';

export interface Head {
  readonly parameters: readonly Parameter[];
  forward(embeddings: Tensor2D): Tensor2D;
  backward(projectionGradient: Tensor2D): Tensor2D;
  discard(): void;
  weights(): NamedTensor[];
  dispose(): void;
}

export interface ProjectionLoss {
  /** Scalar. */
  readonly loss: Tensor;
  /** [2N, P], the gradient of the loss with respect to the projections. */
  readonly gradient: Tensor2D;
  /** Scalars to watch, by the name of their metric. */
  readonly series: Readonly<Record<string, Tensor>>;
}

export class HeadLearner implements Learner {
  readonly #head: Head;
  readonly #lossOf: (projections: Tensor2D) => ProjectionLoss;

  constructor(head: Head, lossOf: (projections: Tensor2D) => ProjectionLoss) {
    this.#head = head;
    this.#lossOf = lossOf;
  }

  get parameters(): readonly Parameter[] {
    return this.#head.parameters;
  }

  learn(batch: EmbeddedBatch): Learned {
    requireViews('This method', batch, [2]);
    const projections = this.#head.forward(batch.embeddings);
    try {
      const { loss, gradient, series } = this.#lossOf(projections);
      const embeddingGradient = this.#head.backward(gradient);
      gradient.dispose();
      return { loss, embeddingGradient, series };
    } finally {
      projections.dispose();
    }
  }

  commit(): void {
    // Nothing is kept beside the head, which the optimizer has changed.
  }

  discard(): void {
    this.#head.discard();
  }

  state(): NamedTensor[] {
    return this.#head.weights();
  }

  dispose(): void {
    this.#head.dispose();
  }
}
