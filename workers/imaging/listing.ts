/** Lists the files that an import examines, in an order that does not depend on the file system. */
import type { OpenFolder } from '../../src/platform/open-folder.ts';
import type { IssueSink } from './issues.ts';
import { createPathList, type PathList } from './path-list.ts';
import type { SlideBatch } from './slides/read-batch.ts';

export interface SourceImage {
  /** Relative to the imported folder, with `/` between its parts. */
  readonly relativePath: string;
  readonly label: string | null;
  /** Patient or slide; null if unknown. */
  readonly group: string | null;
  readonly split: string | null;
  /** For a slide, which is several sources: those of its patches that this one stands for. */
  readonly slide?: SlideBatch;
}

/**
 * One source for each file and each of its labels: annotations give the patches of a slide several. A slide's sources
 * follow each other, label by label.
 */
export function* firstOfEachLabel(sources: Iterable<SourceImage>): Generator<SourceImage> {
  let before: SourceImage | undefined;
  for (const source of sources) {
    if (source.relativePath !== before?.relativePath || source.label !== before.label) yield source;
    before = source;
  }
}

/** Documents that most datasets contain beside their images; they are counted, and not listed as issues. */
const SIDE_FILES =
  /(\.(csv|tsv|txt|json|jsonl|md|xml|yml|yaml|pdf|html?|log|xlsx?|sha256|md5)|^thumbs\.db|^desktop\.ini|^(readme|licen[cs]e|citation)[^.]*)$/i;

/** Folders in which operating systems, network storage and editors keep copies of images and deleted files. */
const SYSTEM_FOLDERS =
  /^(__macosx|\$recycle\.bin|recycler|#recycle|@recycle|@recently-snapshot|@eadir|#snapshot|system volume information|lost\+found|found\.\d{3}|__pycache__)$/i;

/** Files and folders that a listing skips. */
export const PASSED_OVER_REASONS = ['SYSTEM_FOLDER', 'HIDDEN', 'SIDE_FILE'] as const;
export type PassedOverReason = (typeof PASSED_OVER_REASONS)[number];

export interface PassedOver {
  readonly reason: PassedOverReason;
  /** The number of files, and of folders with everything in them. */
  readonly count: number;
  /** Up to five paths; folders end in `/`. */
  readonly examples: readonly string[];
}

/** The images of an import, sorted by code point of their path. An array of them is one too. */
export interface SourceList extends Iterable<SourceImage> {
  readonly length: number;
  /** Undefined behind the last one. A compact list makes the image at each call. */
  at(place: number): SourceImage | undefined;
  slice(start: number, end?: number): Iterable<SourceImage>;
}

export interface Listing {
  /** Sorted by code point. */
  readonly files: PathList;
  /** Folders that contain no file of `files` at any depth, sorted. */
  readonly emptyFolders: readonly string[];
  readonly passedOver: readonly PassedOver[];
}

const EXAMPLES_MAX = 5;

/**
 * All files below a folder, except hidden ones, side files and those in system folders. Links and devices become issues
 * and are never followed; the same holds for files whose name is not UTF-8, because such a name cannot be opened.
 *
 * Folders are read in the order of their paths, so that the files come sorted, and the entries of one folder and of
 * those above it are in memory at a time.
 */
export async function listFiles(folder: OpenFolder, issues: IssueSink): Promise<Listing> {
  const files = createPathList();
  const emptyFolders: string[] = [];
  const passedOver: Record<PassedOverReason, { count: number; readonly examples: string[] }> = {
    SYSTEM_FOLDER: { count: 0, examples: [] },
    HIDDEN: { count: 0, examples: [] },
    SIDE_FILE: { count: 0, examples: [] },
  };
  const passOver = (reason: PassedOverReason, path: string): void => {
    const { examples } = passedOver[reason];
    passedOver[reason].count += 1;
    if (examples.length < EXAMPLES_MAX) examples.push(path);
  };
  /** @returns whether the folder holds a listed file, at any depth. */
  const walk = async (current: string): Promise<boolean> => {
    let isFilled = false;
    for (const { name, kind } of await entriesInOrder(folder, current, issues)) {
      // Not for every file: a million texts would be made in vain.
      const pathOf = (): string => (current === '' ? name : `${current}/${name}`);
      if (kind === 'FOLDER' && SYSTEM_FOLDERS.test(name)) passOver('SYSTEM_FOLDER', `${pathOf()}/`);
      else if (name.startsWith('.')) passOver('HIDDEN', kind === 'FOLDER' ? `${pathOf()}/` : pathOf());
      else if (kind === 'FOLDER') isFilled = (await walk(pathOf())) || isFilled;
      else if (kind === 'IRREGULAR') issues.add('NOT_A_REGULAR_FILE', pathOf());
      else if (SIDE_FILES.test(name)) passOver('SIDE_FILE', pathOf());
      // Node replaces bytes that are not UTF-8 by this character.
      else if (name.includes('\uFFFD')) issues.add('NAME_NOT_UTF8', pathOf());
      else {
        files.add(current, name);
        isFilled = true;
      }
    }
    if (!isFilled && current !== '') emptyFolders.push(current);
    return isFilled;
  };
  await walk('');
  return {
    files: files.finish(),
    emptyFolders: emptyFolders.sort(compareCodePoints),
    passedOver: PASSED_OVER_REASONS.flatMap((reason) =>
      passedOver[reason].count === 0 ? [] : [{ reason, ...passedOver[reason] }],
    ),
  };
}

interface Entry {
  readonly name: string;
  readonly kind: 'FOLDER' | 'FILE' | 'IRREGULAR';
}

/** In the order of the paths of the files below them: a folder sorts as its name with a slash. */
async function entriesInOrder(folder: OpenFolder, current: string, issues: IssueSink): Promise<Entry[]> {
  const entries = await folder.entriesOf(current).catch(() => {
    issues.add('UNREADABLE', current);
    return [];
  });
  const keyOf = ({ name, kind }: Entry): string => (kind === 'FOLDER' ? `${name}/` : name);
  return entries
    .map((entry): Entry => {
      const kind = entry.isDirectory() ? 'FOLDER' : entry.isFile() ? 'FILE' : 'IRREGULAR';
      return { name: entry.name, kind };
    })
    .sort((a, b) => compareCodePoints(keyOf(a), keyOf(b)));
}

/** The order of UTF-8 bytes, which is that of code points; JavaScript's own order puts U+1F600 before U+FF01. */
export function compareCodePoints(a: string, b: string): number {
  const length = Math.min(a.length, b.length);
  for (let index = 0; index < length; index += 1) {
    const unitA = a.charCodeAt(index);
    const unitB = b.charCodeAt(index);
    if (unitA !== unitB) return rankOf(unitA) - rankOf(unitB);
  }
  return a.length - b.length;
}

/** Surrogates encode code points above every other UTF-16 unit. */
function rankOf(unit: number): number {
  return unit >= 0xd800 && unit <= 0xdfff ? unit + 0x10000 : unit;
}
