/**
 * SimCLR (Chen et al. 2020, arXiv:2002.05709): a two-layer projection head, and NT-Xent over the projections of the
 * whole batch.
 */
import type { TensorExpectation } from '../../../../src/formats/tensor-check.ts';
import { ntXent } from '../../losses/nt-xent.ts';
import { ProjectionHead, projectionHeadExpectations, randomProjectionHead } from '../../models/projection-head.ts';
import type { NamedTensor } from '../../named-tensor.ts';
import { tf } from '../../tensorflow.ts';
import type { EmbeddedBatch, Learned, Learner, Method, MethodSetting } from '../method.ts';

/** The paper's values are in brackets. */
export interface SimclrConfig {
  readonly name: 'SIMCLR';
  /** P, the length of a projection [128]. */
  readonly projectionDim: number;
  /** Temperature of NT-Xent [0.5]. */
  readonly temperature: number;
}

/** @throws RangeError for a value out of range. */
export function simclr({ projectionDim, temperature }: SimclrConfig, { embeddingDim }: MethodSetting): Method {
  if (!Number.isSafeInteger(projectionDim) || projectionDim < 1)
    throw new RangeError(`projectionDim must be a whole number of at least 1, not ${projectionDim}.`);
  if (!(temperature > 0 && Number.isFinite(temperature)))
    throw new RangeError(`temperature must be positive, not ${temperature}.`);
  const trained: readonly TensorExpectation[] = projectionHeadExpectations(embeddingDim, projectionDim);
  return {
    trained,
    kept: [],
    initialState: (random) => randomProjectionHead(embeddingDim, projectionDim, random.fork('projection head')),
    open: (tensors) => new SimclrLearner(new ProjectionHead(embeddingDim, projectionDim, tensors), temperature),
  };
}

class SimclrLearner implements Learner {
  readonly #head: ProjectionHead;
  readonly #temperature: number;

  constructor(head: ProjectionHead, temperature: number) {
    this.#head = head;
    this.#temperature = temperature;
  }

  get parameters() {
    return this.#head.parameters;
  }

  learn({ embeddings }: EmbeddedBatch): Learned {
    const projections = this.#head.forward(embeddings);
    try {
      const { loss, gradient, positiveSimilarity } = ntXent(projections, this.#temperature);
      const embeddingGradient = this.#head.backward(gradient);
      gradient.dispose();
      return { loss, embeddingGradient, series: { positiveSimilarity } };
    } finally {
      tf.dispose(projections);
    }
  }

  commit(): void {
    // Nothing beside the head is kept.
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
