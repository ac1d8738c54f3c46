/** Which files an import will read, in an order that no file system decides. */
import type { OpenFolder } from '../../src/platform/open-folder.ts';
import type { IssueLog } from './issues.ts';

export interface SourceImage {
  /** Relative to the imported folder, with `/` between its parts. */
  readonly relativePath: string;
  readonly label: string | null;
  /** Null: the image is a group of its own. */
  readonly group: string | null;
  readonly split: string | null;
}

/** Files that lie beside images everywhere; nobody wants to be told of them. */
const SIDE_FILES =
  /(\.(csv|tsv|txt|json|jsonl|md|xml|yml|yaml|pdf|html?|log|xlsx?|sha256|md5)|^thumbs\.db|^desktop\.ini|^(readme|licen[cs]e|citation)[^.]*)$/i;

/**
 * All files below a folder but hidden ones and side files, sorted by code point. Links and devices become issues and
 * are never followed. With `labelled` the first folder below is the label, and a file outside every such folder has
 * none.
 */
export async function listImages(folder: OpenFolder, labelled: boolean, issues: IssueLog): Promise<SourceImage[]> {
  const files: string[] = [];
  const odd: string[] = [];
  const folders = [''];
  for (let current = folders.pop(); current !== undefined; current = folders.pop()) {
    const entries = await folder.entriesOf(current).catch(() => {
      issues.add('UNREADABLE', current);
      return [];
    });
    for (const entry of entries) {
      if (entry.name.startsWith('.')) continue;
      const relativePath = current === '' ? entry.name : `${current}/${entry.name}`;
      if (entry.isDirectory()) folders.push(relativePath);
      else if (!entry.isFile()) odd.push(relativePath);
      else if (!SIDE_FILES.test(entry.name)) files.push(relativePath);
    }
  }
  for (const relativePath of odd.sort(compareCodePoints)) issues.add('NOT_A_REGULAR_FILE', relativePath);
  return files.sort(compareCodePoints).map((relativePath) => ({
    relativePath,
    label: labelled ? labelOf(relativePath) : null,
    group: null,
    split: null,
  }));
}

function labelOf(relativePath: string): string | null {
  const slash = relativePath.indexOf('/');
  return slash < 0 ? null : relativePath.slice(0, slash);
}

/** The order of UTF-8 bytes, which is that of code points; JavaScript's own puts U+1F600 before U+FF01. */
export function compareCodePoints(a: string, b: string): number {
  const length = Math.min(a.length, b.length);
  for (let index = 0; index < length; index += 1) {
    const unitA = a.charCodeAt(index);
    const unitB = b.charCodeAt(index);
    if (unitA !== unitB) return rankOf(unitA) - rankOf(unitB);
  }
  return a.length - b.length;
}

/** Surrogates stand for code points above every other unit. */
function rankOf(unit: number): number {
  return unit >= 0xd800 && unit <= 0xdfff ? unit + 0x10000 : unit;
}
