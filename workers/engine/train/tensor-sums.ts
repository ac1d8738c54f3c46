/** Running sums of lists of tensors over the parts of a batch. */
import { runOp, T_FLOAT, tf } from '../tensorflow.ts';
import type { Tensor } from '../tensorflow.ts';

export class TensorSums {
  #sums: readonly Tensor[] = [];
  #count = 0;

  /** Takes ownership of the tensors and adds each to the sum at its index. */
  add(tensors: readonly Tensor[]): void {
    const earlier = this.#sums;
    this.#count += 1;
    if (this.#count === 1) {
      this.#sums = tensors;
      return;
    }
    this.#sums = tensors.map((tensor, index) => {
      const sum = earlier[index];
      if (sum === undefined) throw new RangeError(`Expected ${earlier.length} tensors, got ${tensors.length}.`);
      const next = runOp('AddV2', [T_FLOAT], [sum, tensor]);
      tf.dispose([sum, tensor]);
      return next;
    });
  }

  /** The sums; the caller now owns them. */
  takeSums(): readonly Tensor[] {
    const sums = this.#sums;
    this.#sums = [];
    this.#count = 0;
    return sums;
  }

  /** The sums divided by the number of additions; the caller now owns them. */
  takeMeans(): readonly Tensor[] {
    const count = this.#count;
    const sums = this.takeSums();
    if (count === 1) return sums;
    const means = sums.map((sum) => tf.div(sum, count));
    tf.dispose([...sums]);
    return means;
  }

  dispose(): void {
    tf.dispose([...this.takeSums()]);
  }
}
