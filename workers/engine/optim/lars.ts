/**
 * LARS (You et al. 2017, arXiv:1708.03888) as SimCLR uses it (Chen et al. 2020): momentum SGD whose step for each
 * weight tensor is in proportion to that tensor's own length, which keeps large batches stable.
 */
import { Variable } from '../kernels/variable.ts';
import { fromDevice, takeGradient, toDevice } from '../models/parameter.ts';
import type { Parameter } from '../models/parameter.ts';
import type { TensorExpectation } from '../models/weights.ts';
import type { NamedTensor } from '../named-tensor.ts';
import { runOp, scoped, T_FLOAT, tf } from '../tensorflow.ts';
import type { Tensor } from '../tensorflow.ts';

/** How far, of its own length, a weight tensor may go at a learning rate of 1. */
const TRUST_COEFFICIENT = 0.001;
const PREFIX = 'optimizer.';

export interface LarsOptions {
  readonly momentum: number;
  /** L2, added to the gradient of weights; never to biases and batch norms. */
  readonly weightDecay: number;
}

/** A gradient holds a number that is not finite. No parameter has changed. */
export class NonFiniteGradientError extends Error {
  constructor(parameterName: string) {
    super(`The gradient of ${parameterName} is not finite; a lower learning rate or a higher temperature may help.`);
    this.name = 'NonFiniteGradientError';
  }
}

interface Slot {
  readonly parameter: Parameter;
  readonly weight: Variable;
  readonly velocity: Variable;
}

/**
 * One step on its way: its trust ratios need lengths from the device, which whoever trains reads together with the
 * loss. A device that computes beside this program would stand still at each read.
 */
export interface LarsStep {
  /** [2 * parameters]: of each gradient and then of each weight, half its squared length. */
  readonly squaredHalves: Tensor;
  /**
   * Puts a new value in the place of every parameter's. Once.
   * @param read `squaredHalves`, read.
   * @throws NonFiniteGradientError before anything changes.
   */
  apply(learningRate: number, read: Float32Array): void;
  /** Frees the gradients, applied or not. */
  dispose(): void;
}

/**
 * For a weight w with gradient g, at learning rate r:
 *
 *     g' = g + weightDecay * w
 *     trust = 0.001 * |w| / |g'|      (1 where either length is 0)
 *     v = momentum * v - r * trust * g'
 *     w = w + v
 *
 * Biases and batch norms: the same with no decay and trust = 1.
 */
export class Lars {
  readonly #options: LarsOptions;
  readonly #slots: readonly Slot[];

  /** From now on the optimiser puts a new `value` into each parameter at every step. */
  constructor(parameters: readonly Parameter[], options: LarsOptions) {
    this.#options = options;
    this.#slots = parameters.map((parameter) => {
      const zeros = tf.zeros(parameter.value.shape);
      const velocity = new Variable(zeros);
      zeros.dispose();
      return { parameter, weight: new Variable(parameter.value), velocity };
    });
  }

  /** Takes every parameter's gradient over, and begins a step with them. Nothing has changed until it is applied. */
  prepare(): LarsStep {
    const gradients = this.#slots.map(({ parameter }) => this.#decayed(parameter, takeGradient(parameter)));
    const lengths = scoped(() => squaredHalves([...gradients, ...this.#slots.map(({ parameter }) => parameter.value)]));
    return {
      squaredHalves: lengths,
      apply: (learningRate, read) => this.#move(gradients, this.#rates(learningRate, read)),
      dispose: () => tf.dispose([...gradients, lengths]),
    };
  }

  #move(gradients: readonly Tensor[], rates: readonly number[]): void {
    const momentum = tf.scalar(this.#options.momentum);
    this.#slots.forEach(({ parameter, weight, velocity }, index) => {
      const gradient = gradients[index];
      if (gradient === undefined) throw new Error(`${parameter.name} has no gradient.`);
      const rate = tf.scalar(rates[index] ?? Number.NaN);
      // Freed first, so that nothing but the variable holds the numbers and the update needs no copy.
      parameter.value.dispose();
      weight.applyMomentum(velocity, rate, gradient, momentum);
      parameter.value = weight.read();
      rate.dispose();
    });
    momentum.dispose();
  }

  /** Takes the gradient over and returns it with the decay added, where there is one. */
  #decayed(parameter: Parameter, gradient: Tensor): Tensor {
    const { weightDecay } = this.#options;
    if (parameter.role !== 'WEIGHT' || weightDecay === 0) return gradient;
    const decayed = new Variable(gradient);
    // The variable alone holds the numbers now, and adds to them without a copy.
    gradient.dispose();
    decayed.addScaled(parameter.value, weightDecay);
    const value = decayed.read();
    decayed.dispose();
    return value;
  }

  /** Each parameter's own learning rate, from half the squared length of each gradient and then of each weight. */
  #rates(learningRate: number, halves: Float32Array): number[] {
    const lengthAt = (place: number): number => Math.sqrt(2 * (halves[place] ?? Number.NaN));
    this.#slots.forEach(({ parameter }, index) => {
      if (!Number.isFinite(lengthAt(index))) throw new NonFiniteGradientError(parameter.name);
    });
    return this.#slots.map(({ parameter }, index) => {
      const gradientLength = lengthAt(index);
      const weightLength = lengthAt(this.#slots.length + index);
      if (parameter.role !== 'WEIGHT' || weightLength === 0 || gradientLength === 0) return learningRate;
      return (learningRate * TRUST_COEFFICIENT * weightLength) / gradientLength;
    });
  }

  /** The velocities, named `optimizer.` and the parameter's name, in the parameter's outside layout. */
  state(): NamedTensor[] {
    return this.#slots.map(({ parameter, velocity }) => {
      const value = velocity.read();
      const named = fromDevice(`${PREFIX}${parameter.name}`, value, parameter.layout);
      value.dispose();
      return named;
    });
  }

  /** @param tensors those of `state`, checked against `larsExpectations`. */
  restore(tensors: ReadonlyMap<string, NamedTensor>): void {
    for (const { parameter, velocity } of this.#slots) {
      const tensor = tensors.get(`${PREFIX}${parameter.name}`);
      if (tensor === undefined) throw new Error(`${PREFIX}${parameter.name} is missing from a state that was checked.`);
      const value = toDevice(tensor, parameter.layout);
      velocity.assign(value);
      value.dispose();
    }
  }

  dispose(): void {
    for (const { weight, velocity } of this.#slots) {
      weight.dispose();
      velocity.dispose();
    }
  }
}

/** What `restore` needs to find, from what the parameters' own weights must be. */
export function larsExpectations(parameters: readonly TensorExpectation[]): TensorExpectation[] {
  return parameters.map((expectation) => ({ ...expectation, name: `${PREFIX}${expectation.name}` }));
}

/** Half the squared Euclidean length of each tensor: [tensors]. */
function squaredHalves(tensors: readonly Tensor[]): Tensor {
  return tf.stack(tensors.map((tensor) => runOp('L2Loss', [T_FLOAT], [tensor])));
}
