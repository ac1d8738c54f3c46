/** The CSV that says which image each row of a set of embeddings is. */
import { csvField } from './csv.ts';

export interface EmbeddedImage {
  readonly key: string;
  readonly label: string | null;
  readonly group: string | null;
  readonly split: string | null;
  readonly sourcePath: string | null;
}

const CSV_LINES_PER_CHUNK = 1000;

/** CSV as in RFC 4180, one line for each row of the array, in the same order; in chunks of a thousand lines. */
export function* idsCsvChunks(images: Iterable<EmbeddedImage>): Generator<Buffer, void> {
  let lines = ['key,label,group,split,sourcePath\r\n'];
  for (const { key, label, group, split, sourcePath } of images) {
    lines.push(`${[key, label, group, split, sourcePath].map((value) => csvField(value ?? '')).join(',')}\r\n`);
    if (lines.length < CSV_LINES_PER_CHUNK) continue;
    yield Buffer.from(lines.join(''));
    lines = [];
  }
  yield Buffer.from(lines.join(''));
}
