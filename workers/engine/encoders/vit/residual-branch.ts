/** A residual branch of a block, tokens + f(tokens), where f is a chain of layers that an image may skip. */
import { asRank2, scoped, tf, type Tensor, type Tensor2D } from '../../tensorflow.ts';
import type { Layer, TokenShape } from './layers.ts';

export class ResidualBranch {
  readonly #layers: readonly Layer[];
  #dropped: Dropped | undefined;

  constructor(layers: readonly Layer[]) {
    this.#layers = layers;
  }

  infer(tokens: Tensor2D, shape: TokenShape, factors?: Float32Array): Tensor2D {
    return this.#plusBranch(tokens, (layer, current) => layer.infer(current, shape), droppedBy(factors, shape));
  }

  /** @param factors of each image for the chain's output: 0 where it skips the branch. */
  forward(tokens: Tensor2D, shape: TokenShape, factors?: Float32Array): Tensor2D {
    this.#dropped = droppedBy(factors, shape);
    return this.#plusBranch(tokens, (layer, current) => layer.forward(current, shape), this.#dropped);
  }

  #plusBranch(
    tokens: Tensor2D,
    pass: (layer: Layer, current: Tensor2D) => Tensor2D,
    dropped: Dropped | undefined,
  ): Tensor2D {
    const branch = through(this.#layers, tokens, pass);
    const sum = scoped(() => asRank2(tf.add(tokens, scaled(branch, dropped))));
    branch.dispose();
    return sum;
  }

  /** Sets the gradients of the parameters; returns that of the tokens. */
  backward(outputGradient: Tensor2D): Tensor2D {
    const start = scoped(() => asRank2(tf.clone(scaled(outputGradient, this.#dropped))));
    const branch = through([...this.#layers].reverse(), start, (layer, gradient) => layer.backward(gradient));
    const sum = asRank2(tf.add(outputGradient, branch));
    tf.dispose([start, branch]);
    this.#dropped = undefined;
    return sum;
  }

  discard(): void {
    for (const layer of this.#layers) layer.discard();
    this.#dropped = undefined;
  }
}

/** Each layer's output to the next one; all but the last are disposed. The caller keeps `first`. */
function through(
  layers: readonly Layer[],
  first: Tensor2D,
  pass: (layer: Layer, current: Tensor2D) => Tensor2D,
): Tensor2D {
  let current = first;
  for (const layer of layers) {
    const next = pass(layer, current);
    if (current !== first) current.dispose();
    current = next;
  }
  return current;
}

interface Dropped {
  readonly factors: Float32Array;
  readonly shape: TokenShape;
}

function droppedBy(factors: Float32Array | undefined, shape: TokenShape): Dropped | undefined {
  return factors === undefined ? undefined : { factors, shape };
}

/** The tokens of each image times its factor. Call it in a scope. */
function scaled(tokens: Tensor2D, dropped: Dropped | undefined): Tensor {
  if (dropped === undefined) return tokens;
  const { imageCount, tokenCount } = dropped.shape;
  const images = tf.reshape(tokens, [imageCount, tokenCount * tokens.shape[1]]);
  return tf.reshape(tf.mul(images, tf.tensor2d(dropped.factors, [imageCount, 1])), tokens.shape);
}
