/** Digests that identify data, the engine's only use of hashing. */
import { createHash } from 'node:crypto';

/** Lines are hashed in pieces: a call for each line is slow, and millions of lines do not fit into one string. */
const PIECE_CHARACTERS = 64 * 1024;

/** sha256 of the lines' UTF-8 bytes with a newline between each two, lower-case hex. */
export function sha256OfLines(lines: Iterable<string>): string {
  const hash = createHash('sha256');
  let piece = '';
  let isFirst = true;
  for (const line of lines) {
    piece += isFirst ? line : `\n${line}`;
    isFirst = false;
    if (piece.length < PIECE_CHARACTERS) continue;
    hash.update(piece, 'utf8');
    piece = '';
  }
  return hash.update(piece, 'utf8').digest('hex');
}
