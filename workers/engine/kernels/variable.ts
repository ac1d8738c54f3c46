/**
 * A tensor that TensorFlow changes in place, so that an optimiser's step takes one fused op per tensor instead of five
 * passes over all weights.
 */
import { boolAttr, runOp, runOps, shapeAttr, stringAttr, T_FLOAT, tf, typeAttr } from '../tensorflow.ts';
import type { Tensor } from '../tensorflow.ts';

/**
 * TensorFlow's name for a variable that is freed with its handle instead of being kept in a table
 * (`ResourceHandle::ANONYMOUS_NAME`).
 */
const ANONYMOUS = 'cd2c89b7-88b7-44c8-ad83-06c2a9158347';
const DTYPE = typeAttr('dtype', 'float32');

export class Variable {
  readonly shape: readonly number[];
  readonly #handle: Tensor;

  /** Starts with the value of `initial`, which the caller still owns. */
  constructor(initial: Tensor) {
    this.shape = initial.shape;
    const names = [stringAttr('container', ''), stringAttr('shared_name', ANONYMOUS)];
    this.#handle = runOp('VarHandleOp', [...names, DTYPE, shapeAttr('shape', initial.shape)], []);
    this.assign(initial);
  }

  assign(value: Tensor): void {
    runOps('AssignVariableOp', [DTYPE, boolAttr('validate_shape', true)], [this.#handle, value], 0);
  }

  /**
   * The current value, which the caller disposes. It is not a copy: an update copies first if a value that was read is
   * still alive.
   */
  read(): Tensor {
    return runOp('ReadVariableOp', [DTYPE], [this.#handle]);
  }

  /** In place: this = this + factor * other. */
  addScaled(other: Tensor, factor: number): void {
    const minusFactor = tf.scalar(-factor);
    runOps(
      'ResourceApplyGradientDescent',
      [T_FLOAT, boolAttr('use_locking', false)],
      [this.#handle, minusFactor, other],
      0,
    );
    minusFactor.dispose();
  }

  /** In place: this = factor * this. If a value that was read is still alive, the update makes one more copy. */
  scale(factor: number): void {
    const value = this.read();
    const factorOnDevice = tf.scalar(factor);
    const scaled = runOp('Mul', [T_FLOAT], [value, factorOnDevice]);
    this.assign(scaled);
    tf.dispose([value, factorOnDevice, scaled]);
  }

  /**
   * In place, with the rate in the velocity: velocity = momentum * velocity - rate * gradient; this = this + velocity.
   * `rate` and `momentum` are scalars.
   */
  applyScaledMomentum(velocity: Variable, rate: Tensor, gradient: Tensor, momentum: Tensor): void {
    const attrs = [T_FLOAT, boolAttr('use_locking', false), boolAttr('use_nesterov', false)];
    runOps('ResourceApplyKerasMomentum', attrs, [this.#handle, velocity.#handle, rate, gradient, momentum], 0);
  }

  /**
   * In place: velocity = momentum * velocity + gradient; this = this - rate * velocity, or with Nesterov's momentum
   * this = this - rate * (gradient + momentum * velocity). `rate` and `momentum` are scalars.
   */
  applyMomentum(velocity: Variable, rate: Tensor, gradient: Tensor, momentum: Tensor, nesterov: boolean): void {
    const attrs = [T_FLOAT, boolAttr('use_locking', false), boolAttr('use_nesterov', nesterov)];
    runOps('ResourceApplyMomentum', attrs, [this.#handle, velocity.#handle, rate, gradient, momentum], 0);
  }

  /**
   * In place: first = beta1 * first + (1 - beta1) * gradient; second = beta2 * second + (1 - beta2) * gradient^2;
   * this = this - rate * first / (sqrt(second) + epsilon). `rate`, the betas and `epsilon` are scalars; the caller
   * corrects the moments' bias through `rate` and `epsilon`.
   */
  applyAdam(
    first: Variable,
    second: Variable,
    rate: Tensor,
    [beta1, beta2]: readonly [Tensor, Tensor],
    epsilon: Tensor,
    gradient: Tensor,
  ): void {
    const attrs = [T_FLOAT, boolAttr('use_locking', false), boolAttr('use_nesterov', false)];
    // TensorFlow would correct the bias by powers of the betas in float32, where 1 - beta2 has lost five digits. Powers
    // of 0 disable that correction.
    const noPower = tf.scalar(0);
    runOps(
      'ResourceApplyAdam',
      attrs,
      [this.#handle, first.#handle, second.#handle, noPower, noPower, rate, beta1, beta2, epsilon, gradient],
      0,
    );
    noPower.dispose();
  }

  dispose(): void {
    tf.dispose(this.#handle);
  }
}
