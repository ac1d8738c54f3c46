/** The parts of a page that a command writes, between two comments with its name. */
import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';

/**
 * Replaces what is between `<!-- NAME: ... -->` and `<!-- NAME: end -->`.
 * @param content what to put there, made from what is there.
 * @throws Error if the page does not have both comments.
 */
export async function writeMarked(page: string, name: string, content: (old: string) => string): Promise<void> {
  const text = await readFile(page, 'utf8');
  const marked = new RegExp(`(<!-- ${name}: (?!end -->)[^\\n]*-->\\n)([^]*?)(<!-- ${name}: end -->)`).exec(text);
  if (marked === null) throw new Error(`${page} has no markers for the tables of ${name}.`);
  const [whole, begin = '', old = '', end = ''] = marked;
  const after = marked.index + whole.length;
  await writeFile(page, `${text.slice(0, marked.index)}${begin}\n${content(old).trim()}\n\n${end}${text.slice(after)}`);
}

/** As `writeMarked`, and all figures into `NAME.json` beside the page. */
export async function writeFigures(page: string, name: string, content: string, figures: object): Promise<void> {
  await writeMarked(page, name, () => content);
  await writeFile(path.join(path.dirname(page), `${name}.json`), `${JSON.stringify(figures, null, 2)}\n`);
}

export function markdownTable(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const row = (cells: readonly string[]): string =>
    `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`;
  return [row(head), row(head.map(() => '---')), ...rows.map(row)].join('\n');
}
