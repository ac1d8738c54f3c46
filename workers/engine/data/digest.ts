/** Names for data: the one use that the engine has for hashing. */
import { createHash } from 'node:crypto';

/** sha256 of the text's UTF-8 bytes, lower-case hex. */
export function sha256Hex(text: string): string {
  return createHash('sha256').update(text, 'utf8').digest('hex');
}
