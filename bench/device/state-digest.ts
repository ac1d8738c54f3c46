import { createHash } from 'node:crypto';
import type { Trainer } from '../../workers/engine/train/trainer.ts';

/** SHA-256 of every tensor from which a training continues, with their names. */
export function stateDigestOf(trainer: Trainer): string {
  const hash = createHash('sha256');
  for (const { name, data } of trainer.saveState())
    hash.update(`${name}\0`).update(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
  return hash.digest('hex');
}
