/** Texts of many lines as streams of bytes, because one string cannot hold the lines of millions of images. */

/** Large enough that a store writes few pieces, small enough to be nothing in memory. */
const PIECE_CHARACTERS = 256 * 1024;

/** One JSON text a line, in UTF-8. */
export function jsonLinesOf(values: Iterable<object>): AsyncGenerator<Buffer> {
  return bytesOfText(Iterator.from(values).map((value) => `${JSON.stringify(value)}\n`));
}

/** The texts, one after another, in UTF-8. */
export async function* bytesOfText(texts: Iterable<string>): AsyncGenerator<Buffer> {
  let piece = '';
  for (const text of texts) {
    piece += text;
    if (piece.length < PIECE_CHARACTERS) continue;
    yield Buffer.from(piece, 'utf8');
    piece = '';
  }
  if (piece !== '') yield Buffer.from(piece, 'utf8');
}
