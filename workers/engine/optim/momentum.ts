/**
 * Stochastic gradient descent with momentum and weight decay (Sutskever et al. 2013): for fine-tuning, because LARS's
 * trust ratio is meant for large batches. The learning rate is part of the velocity, as in that paper; PyTorch's SGD
 * multiplies by it afterwards, which is the same while the rate is constant.
 */
import { Variable } from '../kernels/variable.ts';
import { takeGradient, type Parameter } from '../models/parameter.ts';
import { readFloats, runOp, scoped, T_FLOAT, tf, type Tensor } from '../tensorflow.ts';

export interface MomentumOptions {
  readonly momentum: number;
  /** L2, added to the gradient of weights; never to biases and batch norms. */
  readonly weightDecay: number;
}

interface Slot {
  readonly parameter: Parameter;
  readonly weight: Variable;
  readonly velocity: Variable;
}

/** For a weight w with gradient g, at learning rate r: v = momentum * v - r * (g + weightDecay * w); w = w + v. */
export class Momentum {
  readonly #options: MomentumOptions;
  readonly #slots: readonly Slot[];

  /** From now on the optimiser puts a new `value` into each parameter at every step. */
  constructor(parameters: readonly Parameter[], options: MomentumOptions) {
    this.#options = options;
    this.#slots = parameters.map((parameter) => {
      const zeros = tf.zeros(parameter.value.shape);
      const velocity = new Variable(zeros);
      zeros.dispose();
      return { parameter, weight: new Variable(parameter.value), velocity };
    });
  }

  /**
   * One step: takes every parameter's gradient and puts a new value in its place.
   * @returns false, without having changed anything, if a gradient is not finite. Only the gradients show this:
   * oneDNN's batch norm with ReLU turns NaN into 0, so that the loss of a diverged network may be finite.
   */
  apply(learningRate: number): boolean {
    const gradients = this.#slots.map(({ parameter }) => takeGradient(parameter));
    const lengths = scoped(() => tf.stack(gradients.map((gradient) => runOp('L2Loss', [T_FLOAT], [gradient]))));
    const isFinite = readFloats(lengths).every((length) => Number.isFinite(length));
    lengths.dispose();
    if (isFinite) this.#move(learningRate, gradients);
    tf.dispose(gradients);
    return isFinite;
  }

  #move(learningRate: number, gradients: readonly Tensor[]): void {
    const rate = tf.scalar(learningRate);
    const momentum = tf.scalar(this.#options.momentum);
    this.#slots.forEach(({ parameter, weight, velocity }, index) => {
      const gradient = gradients[index];
      if (gradient === undefined) throw new Error(`${parameter.name} has no gradient.`);
      const isDecayed = parameter.role === 'WEIGHT' && this.#options.weightDecay > 0;
      const applied = isDecayed
        ? scoped(() => tf.add(gradient, tf.mul(parameter.value, this.#options.weightDecay)))
        : gradient;
      // The old value is freed first, so that only the variable holds the numbers and the update needs no copy.
      parameter.value.dispose();
      weight.applyScaledMomentum(velocity, rate, applied, momentum);
      parameter.value = weight.read();
      if (isDecayed) applied.dispose();
    });
    tf.dispose([rate, momentum]);
  }

  dispose(): void {
    for (const { weight, velocity } of this.#slots) {
      weight.dispose();
      velocity.dispose();
    }
  }
}
