/** The heads of MoCo v3: layers that end with a batch norm without scale and offset. */
import { Mlp, normalise, normaliseGradient, viewsOf, type MlpShape, type Normalised } from '../../models/mlp.ts';
import type { Parameter } from '../../models/parameter.ts';
import type { NamedTensor } from '../../named-tensor.ts';
import { asRank2, scoped, tf } from '../../tensorflow.ts';
import type { Tensor2D } from '../../tensorflow.ts';
import type { Head } from '../head-learner.ts';

/** An Mlp, whose output is normalised too, each view apart. */
export class NormalisedMlp implements Head {
  readonly #mlp: Mlp;
  #normalised: Normalised | undefined;

  /** @throws WeightsMismatchError when the tensors are not those of `mlpExpectations`. */
  constructor(shape: MlpShape, tensors: readonly NamedTensor[]) {
    this.#mlp = new Mlp(shape, tensors);
  }

  get parameters(): readonly Parameter[] {
    return this.#mlp.parameters;
  }

  /** [2N, D] to [2N, P]; the caller owns the output. The input must live until `backward`. */
  forward(input: Tensor2D): Tensor2D {
    this.discard();
    const values = this.#mlp.forward(input);
    this.#normalised = scoped(() => ({ ...normalise(viewsOf(values)) }));
    values.dispose();
    return asRank2(tf.reshape(this.#normalised.units, values.shape));
  }

  backward(outputGradient: Tensor2D): Tensor2D {
    const normalised = this.#normalised;
    if (normalised === undefined) throw new Error('MoCo: backward before forward.');
    const gradient = asRank2(
      scoped(() => tf.reshape(normaliseGradient(viewsOf(outputGradient), normalised), outputGradient.shape)),
    );
    const inputGradient = this.#mlp.backward(gradient);
    gradient.dispose();
    this.discard();
    return inputGradient;
  }

  discard(): void {
    this.#mlp.discard();
    if (this.#normalised !== undefined) tf.dispose([this.#normalised.units, this.#normalised.inverseStd]);
    this.#normalised = undefined;
  }

  weights(): NamedTensor[] {
    return this.#mlp.weights();
  }

  dispose(): void {
    this.discard();
    this.#mlp.dispose();
  }
}

/** One head after the other. */
export class HeadChain implements Head {
  readonly #first: Head;
  readonly #second: Head;
  #between: Tensor2D | undefined;

  constructor(first: Head, second: Head) {
    this.#first = first;
    this.#second = second;
  }

  /** Those of the first head come first. */
  get parameters(): readonly Parameter[] {
    return [...this.#first.parameters, ...this.#second.parameters];
  }

  forward(input: Tensor2D): Tensor2D {
    this.discard();
    this.#between = this.#first.forward(input);
    return this.#second.forward(this.#between);
  }

  backward(outputGradient: Tensor2D): Tensor2D {
    const gradient = this.#second.backward(outputGradient);
    const inputGradient = this.#first.backward(gradient);
    gradient.dispose();
    this.discard();
    return inputGradient;
  }

  discard(): void {
    this.#first.discard();
    this.#second.discard();
    this.#between?.dispose();
    this.#between = undefined;
  }

  weights(): NamedTensor[] {
    return [...this.#first.weights(), ...this.#second.weights()];
  }

  dispose(): void {
    this.discard();
    this.#first.dispose();
    this.#second.dispose();
  }
}
