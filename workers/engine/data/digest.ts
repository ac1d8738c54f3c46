/** Digests that identify data, the engine's only use of hashing. */
import { createHash } from 'node:crypto';

/** sha256 of the text's UTF-8 bytes, lower-case hex. */
export function sha256Hex(text: string): string {
  return createHash('sha256').update(text, 'utf8').digest('hex');
}
