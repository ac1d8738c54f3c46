/**
 * SimCLR's projection head: Linear, ReLU, Linear, from embeddings [B, D] to projections [B, P], with a hand-written
 * backward pass.
 */
import { checkTensors, type TensorExpectation } from '../../../src/formats/tensor-check.ts';
import { relu, reluGradient } from '../kernels/elementwise.ts';
import type { NamedTensor } from '../named-tensor.ts';
import type { Random } from '../rng.ts';
import { asRank2, scoped, tf } from '../tensorflow.ts';
import type { Tensor2D } from '../tensorflow.ts';
import { linearGradient, openLinear, runLinear, type LinearLayer } from './linear.ts';
import { disposeParameter, fromDevice, type Parameter } from './parameter.ts';

interface Trace {
  /** The head's input; owned by the caller. */
  readonly embeddings: Tensor2D;
  readonly hidden: Tensor2D;
}

/** The four tensors under their names in the paper's checkpoints; linear weights are [out, in] as PyTorch's. */
export function projectionHeadExpectations(embeddingDim: number, projectionDim: number): TensorExpectation[] {
  const tensor = (name: string, shape: readonly number[]): TensorExpectation => ({
    name,
    dtype: 'F32',
    shape,
    required: true,
  });
  return [
    tensor('fc.1.weight', [embeddingDim, embeddingDim]),
    tensor('fc.1.bias', [embeddingDim]),
    tensor('fc.3.weight', [projectionDim, embeddingDim]),
    tensor('fc.3.bias', [projectionDim]),
  ];
}

/** New tensors, initialised as PyTorch's Linear initialises them: uniform in +-1 / sqrt(inputs). */
export function randomProjectionHead(embeddingDim: number, projectionDim: number, random: Random): NamedTensor[] {
  const bound = 1 / Math.sqrt(embeddingDim);
  return projectionHeadExpectations(embeddingDim, projectionDim).map(({ name, shape }): NamedTensor => {
    const stream = random.fork(name);
    const length = shape.reduce((product, side) => product * side, 1);
    return { name, dtype: 'F32', shape, data: Float32Array.from({ length }, () => stream.between(-bound, bound)) };
  });
}

export class ProjectionHead {
  readonly parameters: readonly Parameter[];
  readonly #layers: readonly [LinearLayer, LinearLayer];
  #trace: Trace | undefined;

  /** @throws WeightsMismatchError when the tensors are not the four of `projectionHeadExpectations`. */
  constructor(embeddingDim: number, projectionDim: number, tensors: readonly NamedTensor[]) {
    const found = checkTensors('the projection head', tensors, projectionHeadExpectations(embeddingDim, projectionDim));
    this.#layers = [openLinear('fc.1', found), openLinear('fc.3', found)];
    this.parameters = this.#layers.flatMap(({ weight, bias }) => [weight, bias]);
  }

  /** [B, D] to [B, P]; the caller owns the projections. The embeddings must live until `backward`. */
  forward(embeddings: Tensor2D): Tensor2D {
    this.discard();
    const [first, second] = this.#layers;
    const hidden = asRank2(scoped(() => relu(runLinear(first, embeddings))));
    this.#trace = { embeddings, hidden };
    return scoped(() => runLinear(second, hidden));
  }

  /**
   * Sets the four gradients from the gradient of the projections [B, P]; returns the gradient of the embeddings [B, D],
   * which the caller disposes.
   */
  backward(projectionGradient: Tensor2D): Tensor2D {
    if (this.#trace === undefined) throw new Error('Projection head: backward before forward.');
    const { embeddings, hidden } = this.#trace;
    const [first, second] = this.#layers;
    const hiddenGradient = linearGradient(second, hidden, projectionGradient);
    const beforeRelu = asRank2(reluGradient(hiddenGradient, hidden));
    const embeddingGradient = linearGradient(first, embeddings, beforeRelu);
    tf.dispose([hiddenGradient, beforeRelu]);
    this.discard();
    return embeddingGradient;
  }

  /** Frees all tensors of a forward pass. */
  discard(): void {
    this.#trace?.hidden.dispose();
    this.#trace = undefined;
  }

  weights(): NamedTensor[] {
    return this.parameters.map(({ name, value, layout }) => fromDevice(name, value, layout));
  }

  dispose(): void {
    this.discard();
    this.parameters.forEach(disposeParameter);
  }
}
