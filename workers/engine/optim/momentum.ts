/** Stochastic gradient descent with momentum and weight decay (Sutskever et al. 2013), as PyTorch's SGD: for fine-tuning, where LARS's trust ratio is made for other batches. */
import { Variable } from '../kernels/variable.ts';
import { takeGradient, type Parameter } from '../models/parameter.ts';
import { scoped, tf } from '../tensorflow.ts';

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

  /** One step: takes every parameter's gradient and puts a new value in its place. */
  apply(learningRate: number): void {
    const rate = tf.scalar(learningRate);
    const momentum = tf.scalar(this.#options.momentum);
    for (const { parameter, weight, velocity } of this.#slots) {
      const gradient = takeGradient(parameter);
      const isDecayed = parameter.role === 'WEIGHT' && this.#options.weightDecay > 0;
      const applied = isDecayed ? scoped(() => tf.add(gradient, tf.mul(parameter.value, this.#options.weightDecay))) : gradient;
      // Freed first, so that nothing but the variable holds the numbers and the update needs no copy.
      parameter.value.dispose();
      weight.applyMomentum(velocity, rate, applied, momentum);
      parameter.value = weight.read();
      tf.dispose([gradient, applied]);
    }
    tf.dispose([rate, momentum]);
  }

  dispose(): void {
    for (const { weight, velocity } of this.#slots) {
      weight.dispose();
      velocity.dispose();
    }
  }
}
