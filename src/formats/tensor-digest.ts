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
  const hash = createHash('sha256');
  const computing = tensors
    .filter(({ name }) => !name.endsWith('.num_batches_tracked'))
    .toSorted((a, b) => (a.name < b.name ? -1 : 1));
  for (const { name, dtype, shape, data } of computing) {
    hash.update(`${JSON.stringify([name, dtype, shape])}\n`);
    hash.update(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
  }
  return hash.digest('hex');
}
