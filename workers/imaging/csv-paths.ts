/** Finds the files that a CSV names, under the paths that they have on disk. */
import type { Dirent } from 'node:fs';
import path from 'node:path';
import type { DomainError } from '../../src/errors.ts';
import { OpenError, type OpenFolder } from '../../src/platform/open-folder.ts';
import { csvInvalid } from './csv-text.ts';
import { recordIssues } from './issues.ts';
import { listFiles } from './listing.ts';

export interface NamedFile {
  /** As the CSV names it, relative to the folder. */
  readonly named: string;
  readonly lineNumber: number;
}

export interface FoundFiles {
  /** Their paths below the folder, in the order in which the CSV names them. */
  readonly paths: readonly string[];
  /** How many of them were found under another spelling. */
  readonly respelledCount: number;
}

/**
 * Returns the path of each file below the folder. A name that does not exist as written is looked up again with `\` as
 * `/`, without leading and trailing spaces, and in the other Unicode normal forms.
 * @throws DomainError LABELS_CSV_INVALID with the first line at fault, the number of all missing files, and the file on
 * disk that was probably meant.
 */
export async function findNamedFiles(files: readonly NamedFile[], folder: OpenFolder): Promise<FoundFiles> {
  const exact = await filesAsNamed(files, folder);
  if (files.every((file) => exact.has(file))) return { paths: files.map(({ named }) => named), respelledCount: 0 };
  const onDisk = indexOf([...(await listFiles(folder, recordIssues())).files]);
  const missing: NamedFile[] = [];
  const paths = files.flatMap((file) => {
    const relativePath = exact.has(file) ? file.named : onDisk.equivalent(file.named);
    if (relativePath === undefined) missing.push(file);
    return relativePath ?? [];
  });
  const [first] = missing;
  if (first !== undefined) throw missingFiles(first, missing, files.length, onDisk);
  return { paths, respelledCount: paths.length - exact.size };
}

/** Those that exist under exactly this name. Each folder is listed once, however many of its files are named. */
async function filesAsNamed(files: readonly NamedFile[], folder: OpenFolder): Promise<ReadonlySet<NamedFile>> {
  const found = new Set<NamedFile>();
  const parentOf = ({ named }: NamedFile): string => named.slice(0, Math.max(0, named.lastIndexOf('/')));
  for (const [parent, named] of Map.groupBy(files, parentOf)) {
    const entries = await entriesOf(folder, parent, named);
    for (const file of named) {
      const entry = entries.get(path.posix.basename(file.named));
      if (entry?.isFile() === true) found.add(file);
      else if (entry !== undefined) throw notAFile(file);
    }
  }
  return found;
}

async function entriesOf(
  folder: OpenFolder,
  parent: string,
  [first]: readonly NamedFile[],
): Promise<ReadonlyMap<string, Dirent>> {
  const entries = await folder.entriesOf(parent).catch((error: unknown) => {
    if (error instanceof OpenError && error.fault === 'NOT_A_REGULAR_FILE' && first !== undefined)
      throw notAFile(first);
    return [];
  });
  return new Map(entries.map((entry) => [entry.name, entry]));
}

function notAFile({ lineNumber }: NamedFile): DomainError {
  return csvInvalid(
    `Line ${lineNumber}, column path: this is not a file, or the path contains a symbolic link.`,
    'Name the file itself.',
  );
}

interface FilesOnDisk {
  /** The file whose name has the same letters in another encoding. */
  equivalent(named: string): string | undefined;
  /** The file that was probably meant. */
  likely(named: string): string | undefined;
}

function indexOf(files: readonly string[]): FilesOnDisk {
  const byForm = new Map(files.map((file) => [formOf(file), file]));
  const byLowerCase = Map.groupBy(files, (file) => formOf(file).toLowerCase());
  const byName = Map.groupBy(files, (file) => path.posix.basename(formOf(file)).toLowerCase());
  const byStem = Map.groupBy(files, (file) => stemOf(formOf(file)).toLowerCase());
  const only = (candidates: readonly string[] | undefined): string | undefined =>
    candidates?.length === 1 ? candidates[0] : undefined;
  return {
    equivalent: (named) => byForm.get(formOf(named)),
    likely: (named) => {
      const form = formOf(named).toLowerCase();
      const sameName = byName.get(path.posix.basename(form)) ?? [];
      const shifted = sameName.filter((file) => {
        const candidate = formOf(file).toLowerCase();
        return candidate.endsWith(`/${form}`) || form.endsWith(`/${candidate}`);
      });
      return (
        only(byLowerCase.get(form)) ??
        only(shifted) ??
        only(byStem.get(form)) ??
        only(byStem.get(stemOf(form))) ??
        only(sameName)
      );
    },
  };
}

function formOf(named: string): string {
  return path.posix.normalize(named.replaceAll('\\', '/').normalize('NFC').trim());
}

function stemOf(file: string): string {
  return file.slice(0, file.length - path.posix.extname(file).length);
}

function missingFiles(
  first: NamedFile,
  missing: readonly NamedFile[],
  fileCount: number,
  onDisk: FilesOnDisk,
): DomainError {
  const meant = onDisk.likely(first.named);
  const likelyCount = missing.filter(({ named }) => onDisk.likely(named) !== undefined).length;
  const others =
    likelyCount > 1 ? ` In the same way ${likelyCount} of the ${missing.length} missing files can be found.` : '';
  return csvInvalid(
    `Line ${first.lineNumber}, column path: the file does not exist; ${missing.length} of the ${fileCount} files that the CSV names ${missing.length === 1 ? 'is' : 'are'} missing.`,
    meant === undefined
      ? 'Paths are relative to the imported folder.'
      : `Did you mean ${JSON.stringify(meant)}? Paths are relative to the imported folder.${others}`,
  );
}
