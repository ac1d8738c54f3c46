/** How alike the patches of a slide are to one of them: cosines of their stored embeddings. */
import type { Readable } from 'node:stream';
import { npyHeader } from '../../formats/npy.ts';
import type { EmbeddingSetRecord } from './embeddings.records.ts';

/** A range of an artifact; the reader reads or destroys the stream. */
export type OpenRange = (sha256: string, range: { readonly first: number; readonly last: number }) => Promise<Readable>;

const DIGITS = 4;

/**
 * Reads the rows of one slide once, in pieces: memory holds one piece and a number for each row.
 * @param set its file is float32 `[imageCount, embeddingDim]`.
 * @param rows consecutive rows of the set, those of the slide.
 * @param reference the row with which each of them is compared.
 * @returns `[count]`: -1..1, rounded to four places; null where an embedding has length 0 or is not finite.
 */
export async function similaritiesOf(
  open: OpenRange,
  { sha256, byteSize, imageCount, embeddingDim }: EmbeddingSetRecord,
  { firstRow, count }: { readonly firstRow: number; readonly count: number },
  reference: number,
): Promise<(number | null)[]> {
  const dataStart = npyHeader([imageCount, embeddingDim], '<f4').length;
  const rowBytes = embeddingDim * 4;
  if (byteSize !== dataStart + imageCount * rowBytes || firstRow + count > imageCount)
    throw new Error(`Embeddings ${sha256} do not have the rows of the version.`);
  const rowsFrom = async function* (row: number, rowCount: number): AsyncGenerator<Float32Array, void> {
    const first = dataStart + row * rowBytes;
    let rest = Buffer.alloc(0);
    for await (const piece of await open(sha256, { first, last: first + rowCount * rowBytes - 1 })) {
      if (!Buffer.isBuffer(piece)) throw new TypeError('A stream of bytes was expected.');
      const bytes = Buffer.concat([rest, piece]);
      const whole = Math.floor(bytes.length / rowBytes) * rowBytes;
      // A copy, because floats must be aligned to four bytes.
      yield new Float32Array(new Uint8Array(bytes.subarray(0, whole)).buffer);
      rest = bytes.subarray(whole);
    }
  };
  let wanted = new Float32Array(0);
  for await (const values of rowsFrom(reference, 1)) if (values.length > 0) wanted = values.slice();
  const length = Math.sqrt(dot(wanted, wanted));
  const similarities: (number | null)[] = [];
  for await (const values of rowsFrom(firstRow, count))
    for (let start = 0; start < values.length; start += embeddingDim) {
      const row = values.subarray(start, start + embeddingDim);
      const cosine = dot(wanted, row) / (length * Math.sqrt(dot(row, row)));
      similarities.push(Number.isFinite(cosine) ? Number(cosine.toFixed(DIGITS)) : null);
    }
  if (similarities.length !== count) throw new Error(`The file of embeddings ${sha256} is shorter than its shape.`);
  return similarities;
}

function dot(a: Float32Array, b: Float32Array): number {
  let sum = 0;
  for (let index = 0; index < a.length; index += 1) sum += (a[index] ?? 0) * (b[index] ?? 0);
  return sum;
}
