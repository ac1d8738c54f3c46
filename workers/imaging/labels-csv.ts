/** The labels CSV: columns path, label, group, split, of which only path is required. */
import { isUtf8 } from 'node:buffer';
import type { Dirent } from 'node:fs';
import type { FileHandle } from 'node:fs/promises';
import path from 'node:path';
import { Readable } from 'node:stream';
import { CsvError, parse } from 'csv-parse';
import { DomainError } from '../../src/errors.ts';
import { OpenError, type OpenFolder } from '../../src/platform/open-folder.ts';
import { compareCodePoints, type SourceImage } from './listing.ts';

const COLUMNS = ['path', 'label', 'group', 'split'] as const;
type Column = (typeof COLUMNS)[number];

/** A million rows of a hundred bytes fit. */
export const CSV_BYTES_MAX = 128 * 1024 * 1024;
/** Of one line; longer ones come from an unclosed quote or from a file that is no CSV. */
const RECORD_BYTES_MAX = 64 * 1024;
const FIELD_LENGTH_MAX = 4096;
const CHUNK_LENGTH = 1 << 20;
/** What an error repeats of an unknown column; anything else may be somebody's secret in a file that is no CSV. */
const COLUMN_NAME = /^\p{L}[\p{L}\p{N}_ -]{0,29}$/u;

interface Row {
  readonly image: SourceImage;
  readonly lineNumber: number;
}

/**
 * Reads the CSV and finds every file that it names, so that nothing is imported from a list with a fault in it.
 * Errors name lines and columns and repeat nothing else of the file: it may not be the one that was meant.
 * @param csv at its beginning; the caller closes it. @param folder that its paths are relative to.
 * @returns the images, sorted by code point of their path.
 * @throws DomainError LABELS_CSV_INVALID with the line and the column.
 */
export async function readLabelsCsv(csv: FileHandle, folder: OpenFolder): Promise<SourceImage[]> {
  const rows = await parseRows(await readText(csv));
  if (rows.length === 0)
    throw invalid('The labels CSV names no image.', 'Give a header line and one line for each image.');
  rejectDuplicates(rows);
  rejectPartialSplit(rows);
  await rejectMissing(rows, folder);
  return rows.map((row) => row.image).sort((a, b) => compareCodePoints(a.relativePath, b.relativePath));
}

async function readText(csv: FileHandle): Promise<string> {
  const { size } = await csv.stat();
  if (size > CSV_BYTES_MAX)
    throw invalid(
      `The labels CSV has ${size} bytes; at most ${CSV_BYTES_MAX} are read.`,
      'Import the images in several datasets.',
    );
  const bytes = await csv.readFile();
  if (!isUtf8(bytes))
    throw invalid(`Line ${brokenLineOf(bytes)}: the text is not UTF-8.`, 'Save the file as CSV UTF-8.');
  return bytes.toString('utf8').replace(/^\uFEFF/, '');
}

/** The first line that is not UTF-8. */
function brokenLineOf(bytes: Buffer): number {
  let lineNumber = 1;
  for (let start = 0; start < bytes.length; lineNumber += 1) {
    const newline = bytes.indexOf(0x0a, start);
    const end = newline < 0 ? bytes.length : newline;
    if (!isUtf8(bytes.subarray(start, end))) return lineNumber;
    start = end + 1;
  }
  return lineNumber;
}

async function parseRows(text: string): Promise<Row[]> {
  const parser = Readable.from(chunksOf(text)).pipe(
    parse({ skip_empty_lines: true, relax_column_count: true, max_record_size: RECORD_BYTES_MAX, info: true }),
  );
  const rows: Row[] = [];
  let columns: readonly Column[] | undefined;
  try {
    // With `info` each item is { record, info }.
    for await (const item of parser) {
      const { record, info }: { readonly record: readonly string[]; readonly info: { readonly lines: number } } = item;
      if (columns === undefined) columns = columnsOf(record, info.lines);
      else rows.push({ image: imageOf(record, columns, info.lines), lineNumber: info.lines });
    }
  } catch (error) {
    if (error instanceof CsvError)
      throw invalid(`Line ${error.lines ?? '?'}: ${faultOfCsv(error)}.`, 'Check quotes and commas.');
    throw error;
  }
  return rows;
}

/** The library's own messages repeat what stands in the file. */
function faultOfCsv({ code }: CsvError): string {
  switch (code) {
    case 'CSV_QUOTE_NOT_CLOSED':
      return 'a quote is opened and never closed';
    case 'INVALID_OPENING_QUOTE':
    case 'CSV_INVALID_CLOSING_QUOTE':
    case 'CSV_NON_TRIMABLE_CHAR_AFTER_CLOSING_QUOTE':
      return 'a quote stands inside a field';
    case 'CSV_MAX_RECORD_SIZE':
      return `it is longer than ${RECORD_BYTES_MAX} bytes`;
    default:
      return 'it cannot be read as CSV';
  }
}

function* chunksOf(text: string): Generator<string> {
  for (let start = 0; start < text.length; start += CHUNK_LENGTH) yield text.slice(start, start + CHUNK_LENGTH);
}

function columnsOf(record: readonly string[], lineNumber: number): Column[] {
  const columns = record.map((text, index) => {
    const name = text.trim();
    const column = COLUMNS.find((known) => known === name);
    if (column === undefined) {
      const hint = /[;\t]/.test(name) ? 'Fields are divided by commas.' : `The columns are ${COLUMNS.join(', ')}.`;
      const what = COLUMN_NAME.test(name) ? `the column ${JSON.stringify(name)}` : `column ${index + 1} of the header`;
      throw invalid(`Line ${lineNumber}: ${what} is not known.`, hint);
    }
    return column;
  });
  const doubled = columns.find((column, index) => columns.indexOf(column) !== index);
  if (doubled !== undefined)
    throw invalid(`Line ${lineNumber}: the column ${doubled} stands twice.`, 'Name each column once.');
  if (!columns.includes('path'))
    throw invalid(
      `Line ${lineNumber}: the column path is missing.`,
      `The columns are ${COLUMNS.join(', ')}; path is required.`,
    );
  return columns;
}

function imageOf(record: readonly string[], columns: readonly Column[], lineNumber: number): SourceImage {
  if (record.length !== columns.length) {
    throw invalid(
      `Line ${lineNumber}: it has ${record.length} fields, and the header has ${columns.length}.`,
      'Put a field that holds a comma between double quotes.',
    );
  }
  const field = (column: Column): string => {
    const value = record[columns.indexOf(column)] ?? '';
    if (value.length > FIELD_LENGTH_MAX)
      throw invalid(
        `Line ${lineNumber}, column ${column}: it is longer than ${FIELD_LENGTH_MAX} letters.`,
        'Shorten it.',
      );
    return value;
  };
  const textOrNull = (column: Column): string | null => field(column).trim() || null;
  return {
    relativePath: pathOf(field('path'), lineNumber),
    label: textOrNull('label'),
    group: textOrNull('group'),
    split: textOrNull('split'),
  };
}

function pathOf(text: string, lineNumber: number): string {
  const refuse = (what: string, hint: string): DomainError =>
    invalid(`Line ${lineNumber}, column path: ${what}.`, hint);
  if (text.trim() === '') throw refuse('it is empty', 'Name an image in every line.');
  if (text.includes('\0')) throw refuse('it holds a zero byte', 'Write paths as plain text.');
  if (path.posix.isAbsolute(text) || path.win32.isAbsolute(text)) {
    throw refuse('it is absolute', 'Write paths relative to the imported folder.');
  }
  const normal = path.posix.normalize(text);
  if (normal === '..' || normal.startsWith('../'))
    throw refuse('it climbs out of the folder', 'Name only files below the imported folder.');
  return normal;
}

function rejectDuplicates(rows: readonly Row[]): void {
  const lines = new Map<string, number>();
  for (const { image, lineNumber } of rows) {
    const earlier = lines.get(image.relativePath);
    if (earlier !== undefined) {
      throw invalid(
        `Line ${lineNumber}, column path: the same file stands in line ${earlier} already.`,
        'Name each image once.',
      );
    }
    lines.set(image.relativePath, lineNumber);
  }
}

/** A line without a split would be in none of them, or in all: nobody could say. */
function rejectPartialSplit(rows: readonly Row[]): void {
  const without = rows.find((row) => row.image.split === null);
  if (without === undefined || rows.every((row) => row.image.split === null)) return;
  throw invalid(
    `Line ${without.lineNumber}, column split: it is empty, and other lines have one.`,
    'Give a split in every line or in none.',
  );
}

/** Each folder is listed once, however many of its files are named. */
async function rejectMissing(rows: readonly Row[], folder: OpenFolder): Promise<void> {
  let listed: string | undefined;
  let entries = new Map<string, Dirent>();
  const inOrderOfFolders = rows
    .map((row) => ({ ...row, ...splitPath(row.image.relativePath) }))
    .sort((a, b) => compareCodePoints(a.parent, b.parent) || a.lineNumber - b.lineNumber);
  for (const { lineNumber, parent, name } of inOrderOfFolders) {
    if (parent !== listed) {
      entries = new Map((await entriesOf(folder, parent, lineNumber)).map((entry) => [entry.name, entry]));
      listed = parent;
    }
    const entry = entries.get(name);
    if (entry === undefined) throw missing(lineNumber);
    if (!entry.isFile()) throw notAFile(lineNumber);
  }
}

function splitPath(relativePath: string): { readonly parent: string; readonly name: string } {
  const slash = relativePath.lastIndexOf('/');
  return { parent: relativePath.slice(0, Math.max(0, slash)), name: relativePath.slice(slash + 1) };
}

async function entriesOf(folder: OpenFolder, parent: string, lineNumber: number): Promise<Dirent[]> {
  return folder.entriesOf(parent).catch((error: unknown) => {
    throw error instanceof OpenError && error.fault === 'NOT_A_REGULAR_FILE'
      ? notAFile(lineNumber)
      : missing(lineNumber);
  });
}

function missing(lineNumber: number): DomainError {
  return invalid(
    `Line ${lineNumber}, column path: the file does not exist.`,
    'Paths are relative to the imported folder.',
  );
}

function notAFile(lineNumber: number): DomainError {
  return invalid(
    `Line ${lineNumber}, column path: it is not a file, or goes through a symbolic link.`,
    'Name the file itself.',
  );
}

function invalid(message: string, hint: string): DomainError {
  return new DomainError({ code: 'LABELS_CSV_INVALID', message, field: 'input.labelsCsvPath', hint });
}
