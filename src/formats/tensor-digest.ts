/**
 * Identifies an encoder by its weights alone, so that the same weights are recognised in any file, with any prefix and
 * input contract.
 */
import { createHash } from 'node:crypto';
import type { SafetensorsTensor } from './safetensors.ts';

/**
 * sha256 over the encoder's tensors in the order of their torchvision names: for each, a line of JSON, `[name, dtype,
 * shape]`, then its bytes, little-endian and row-major. Batch counts (`num_batches_tracked`) are left out: no embedding
 * depends on them, and a changed count must not change the digest.
 * @param tensors of an encoder as this registry stores it: torchvision's names, float32.
 */
export function tensorDigestOf(tensors: readonly SafetensorsTensor[]): string {
  const digest = createTensorDigest();
  for (const tensor of tensors.toSorted(byTensorName)) digest.add(tensor);
  return digest.hex();
}

/** The order in which `createTensorDigest` takes tensors. */
export function byTensorName(a: { readonly name: string }, b: { readonly name: string }): number {
  return a.name < b.name ? -1 : 1;
}

export interface TensorDigest {
  /**
   * Half precision is digested as the float32 of the same value, so that widened weights are the same weights.
   * @throws RangeError for a name that is not after the one before.
   */
  add(tensor: Pick<SafetensorsTensor, 'name' | 'dtype' | 'shape' | 'data'>): void;
  hex(): string;
}

/** `tensorDigestOf` for tensors that come one at a time. */
export function createTensorDigest(): TensorDigest {
  const hash = createHash('sha256');
  let last = '';
  return {
    add: ({ name, dtype, shape, data }) => {
      if (name <= last) throw new RangeError(`${name} comes after ${last} in a digest.`);
      last = name;
      if (name.endsWith('.num_batches_tracked')) return;
      hash.update(`${JSON.stringify([name, dtype, shape])}\n`);
      hash.update(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
    },
    hex: () => hash.digest('hex'),
  };
}
