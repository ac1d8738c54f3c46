/**
 * LARS (You et al. 2017, arXiv:1708.03888) as SimCLR uses it (Chen et al. 2020): momentum SGD whose step for each weight tensor
 * is in proportion to that tensor's own length, which keeps large batches stable.
 */
import { fromDevice, takeGradient, toDevice } from '../models/parameter.ts';
import type { Parameter } from '../models/parameter.ts';
import type { NamedTensor } from '../named-tensor.ts';
import type { TensorExpectation } from '../models/weights.ts';
import { scoped, tf } from '../tensorflow.ts';
import type { Tensor } from '../tensorflow.ts';

/** How far, of its own length, a weight tensor may go at a learning rate of 1. */
const TRUST_COEFFICIENT = 0.001;
const PREFIX = 'optimizer.';

export interface LarsOptions {
  readonly momentum: number;
  /** L2, added to the gradient of weights; never to biases and batch norms. */
  readonly weightDecay: number;
}

/**
 * For a weight w with gradient g, at learning rate r:
 *
 *     g' = g + weightDecay * w
 *     trust = 0.001 * |w| / |g'|      (1 where either length is 0)
 *     v = momentum * v + r * trust * g'
 *     w = w - v
 *
 * Biases and batch norms: the same with no decay and trust = 1.
 */
export class Lars {
  readonly #options: LarsOptions;
  readonly #slots: readonly { readonly parameter: Parameter; velocity: Tensor }[];

  constructor(parameters: readonly Parameter[], options: LarsOptions) {
    this.#options = options;
    this.#slots = parameters.map((parameter) => ({ parameter, velocity: tf.zeros(parameter.value.shape) }));
  }

  /** One step: takes every parameter's gradient and puts a new value in its place. */
  apply(learningRate: number): void {
    const { momentum, weightDecay } = this.#options;
    for (const slot of this.#slots) {
      const { parameter } = slot;
      const gradient = takeGradient(parameter);
      const { velocity, value } = scoped(() => {
        const step = parameter.role === 'WEIGHT' ? adaptedStep(parameter.value, gradient, weightDecay, learningRate) : tf.mul(gradient, learningRate);
        const nextVelocity = tf.add(tf.mul(slot.velocity, momentum), step);
        return { velocity: nextVelocity, value: tf.sub(parameter.value, nextVelocity) };
      });
      tf.dispose([gradient, slot.velocity, parameter.value]);
      slot.velocity = velocity;
      parameter.value = value;
    }
  }

  /** The velocities, named `optimizer.` and the parameter's name, in the parameter's outside layout. */
  state(): NamedTensor[] {
    return this.#slots.map(({ parameter, velocity }) => fromDevice(`${PREFIX}${parameter.name}`, velocity, parameter.layout));
  }

  /** What `restore` needs to find. */
  expectations(): TensorExpectation[] {
    return this.state().map(({ name, shape }) => ({ name, dtype: 'F32', shape, required: true }));
  }

  /** @param tensors checked against `expectations`. */
  restore(tensors: ReadonlyMap<string, NamedTensor>): void {
    for (const slot of this.#slots) {
      const tensor = tensors.get(`${PREFIX}${slot.parameter.name}`);
      if (tensor === undefined) throw new Error(`${PREFIX}${slot.parameter.name} is missing from a state that was checked.`);
      slot.velocity.dispose();
      slot.velocity = toDevice(tensor, slot.parameter.layout);
    }
  }

  dispose(): void {
    for (const { velocity } of this.#slots) velocity.dispose();
  }
}

function adaptedStep(weight: Tensor, gradient: Tensor, weightDecay: number, learningRate: number): Tensor {
  const decayed = tf.add(gradient, tf.mul(weight, weightDecay));
  const weightLength = tf.norm(weight);
  const gradientLength = tf.norm(decayed);
  const trust = tf.div(tf.mul(weightLength, TRUST_COEFFICIENT), gradientLength);
  const usable = tf.logicalAnd(tf.greater(weightLength, 0), tf.greater(gradientLength, 0));
  return tf.mul(decayed, tf.mul(tf.where(usable, trust, tf.onesLike(trust)), learningRate));
}
