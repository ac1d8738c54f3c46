/** Running sums of lists of tensors: what the parts of a batch add up to. */
import { runOp, T_FLOAT, tf } from '../tensorflow.ts';
import type { Tensor } from '../tensorflow.ts';

export class TensorSums {
  #sums: readonly Tensor[] = [];
  #count = 0;

  /** Takes the tensors over; each is added to the one at its place. */
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

  /** The sums, now the caller's. */
  takeSums(): readonly Tensor[] {
    const sums = this.#sums;
    this.#sums = [];
    this.#count = 0;
    return sums;
  }

  /** The sums divided by how often something was added, now the caller's. */
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
