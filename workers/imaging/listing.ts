/** Lists the files that an import examines, in an order that does not depend on the file system. */
import type { OpenFolder } from '../../src/platform/open-folder.ts';
import type { IssueSink } from './issues.ts';
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

/** One source for each file: a slide's sources follow each other. */
export function firstOfEachFile(sources: readonly SourceImage[]): SourceImage[] {
  return sources.filter(({ relativePath }, index) => relativePath !== sources[index - 1]?.relativePath);
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

export interface Listing {
  /** Sorted by code point. */
  readonly files: readonly string[];
  /** Folders that contain no file of `files` at any depth, sorted. */
  readonly emptyFolders: readonly string[];
  readonly passedOver: readonly PassedOver[];
}

const EXAMPLES_MAX = 5;

/**
 * All files below a folder, except hidden ones, side files and those in system folders. Links and devices become issues
 * and are never followed; the same holds for files whose name is not UTF-8, because such a name cannot be opened.
 */
export async function listFiles(folder: OpenFolder, issues: IssueSink): Promise<Listing> {
  const files: string[] = [];
  const irregular: string[] = [];
  const passedOver: Record<PassedOverReason, string[]> = { SYSTEM_FOLDER: [], HIDDEN: [], SIDE_FILE: [] };
  const folders = [''];
  for (let place = 0; place < folders.length; place += 1) {
    const current = folders[place] ?? '';
    const entries = await folder.entriesOf(current).catch(() => {
      issues.add('UNREADABLE', current);
      return [];
    });
    for (const entry of entries) {
      const relativePath = current === '' ? entry.name : `${current}/${entry.name}`;
      const isFolder = entry.isDirectory();
      if (isFolder && SYSTEM_FOLDERS.test(entry.name)) passedOver.SYSTEM_FOLDER.push(`${relativePath}/`);
      else if (entry.name.startsWith('.')) passedOver.HIDDEN.push(`${relativePath}${isFolder ? '/' : ''}`);
      else if (isFolder) folders.push(relativePath);
      else if (!entry.isFile()) irregular.push(relativePath);
      else if (SIDE_FILES.test(entry.name)) passedOver.SIDE_FILE.push(relativePath);
      // Node replaces bytes that are not UTF-8 by this character.
      else if (entry.name.includes('\uFFFD')) issues.add('NAME_NOT_UTF8', relativePath);
      else files.push(relativePath);
    }
  }
  for (const relativePath of irregular.sort(compareCodePoints)) issues.add('NOT_A_REGULAR_FILE', relativePath);
  return {
    files: files.sort(compareCodePoints),
    emptyFolders: withoutFiles(folders.slice(1), files),
    passedOver: PASSED_OVER_REASONS.flatMap((reason) => {
      const paths = passedOver[reason].sort(compareCodePoints);
      return paths.length === 0 ? [] : [{ reason, count: paths.length, examples: paths.slice(0, EXAMPLES_MAX) }];
    }),
  };
}

/** The folder of a file; empty for the imported folder itself. */
export function parentOf(relativePath: string): string {
  return relativePath.slice(0, Math.max(0, relativePath.lastIndexOf('/')));
}

/** The files of each folder, in the order of the first of them. */
export function byFolder(files: readonly string[]): Iterable<readonly string[]> {
  return Map.groupBy(files, parentOf).values();
}

function withoutFiles(folders: readonly string[], files: readonly string[]): string[] {
  const filled = new Set<string>();
  for (const file of files) {
    for (let slash = file.lastIndexOf('/'); slash > 0; slash = file.lastIndexOf('/', slash - 1)) {
      const above = file.slice(0, slash);
      if (filled.has(above)) break;
      filled.add(above);
    }
  }
  return folders.filter((folder) => !filled.has(folder)).sort(compareCodePoints);
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
