/**
 * A tensor that TensorFlow changes in place: an optimiser's step takes one fused op per tensor instead of five passes
 * over all weights.
 */
import { boolAttr, runOp, runOps, shapeAttr, stringAttr, T_FLOAT, tf, typeAttr } from '../tensorflow.ts';
import type { Tensor } from '../tensorflow.ts';

/**
 * TensorFlow's name for a variable that dies with its handle instead of living in a table
 * (`ResourceHandle::ANONYMOUS_NAME`).
 */
const ANONYMOUS = 'cd2c89b7-88b7-44c8-ad83-06c2a9158347';
const DTYPE = typeAttr('dtype', 'float32');

export class Variable {
  readonly shape: readonly number[];
  readonly #handle: Tensor;

  /** Begins with the value of `initial`, which stays the caller's. */
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
   * The present value, the caller's to dispose. No copy is made: an update copies first if a value that was read still
   * lives.
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

  /**
   * In place: velocity = momentum * velocity - rate * gradient; this = this + velocity. `rate` and `momentum` are
   * scalars.
   */
  applyMomentum(velocity: Variable, rate: Tensor, gradient: Tensor, momentum: Tensor): void {
    const attrs = [T_FLOAT, boolAttr('use_locking', false), boolAttr('use_nesterov', false)];
    runOps('ResourceApplyKerasMomentum', attrs, [this.#handle, velocity.#handle, rate, gradient, momentum], 0);
  }

  dispose(): void {
    tf.dispose(this.#handle);
  }
}
