/** The labels CSV: the images with their labels, groups and splits. Only the path is required. */
import type { FileHandle } from 'node:fs/promises';
import path from 'node:path';
import type { OpenFolder } from '../../src/platform/open-folder.ts';
import { columnsOf, type ColumnChoice, type CsvColumns, type CsvRole } from './csv-columns.ts';
import { findNamedFiles, type NamedFile } from './csv-paths.ts';
import { csvInvalid, readCsv, type CsvRecord } from './csv-text.ts';
import type { PlannedImages } from './folder-layout.ts';
import { suggestGroupColumns } from './group-suggestions.ts';
import type { IssueSink } from './issues.ts';
import { mergedSpellings, valueOf } from './label-text.ts';
import { compareCodePoints, type SourceImage } from './listing.ts';
import { splitOf } from './split-names.ts';
import { tcgaPatientOf } from './tcga.ts';

const FIELD_LENGTH_MAX = 4096;

interface Row extends NamedFile {
  readonly writtenLabel: string;
  readonly label: string | null;
  readonly group: string | null;
  /** As it is written. */
  readonly split: string | null;
}

export interface LabelsCsvOptions {
  /** The folder to which the paths are relative. */
  readonly folder: OpenFolder;
  /** The path of the folder: absolute paths below it are taken for relative ones. */
  readonly folderPath: string | null;
  readonly csvColumns: ColumnChoice;
}

/**
 * Reads the CSV and finds every file that it names, so that no image is imported from a list with a fault.
 * @param csv positioned at its beginning; the caller closes it.
 * @returns the images, sorted by code point of their path.
 * @throws DomainError LABELS_CSV_INVALID with the line and the column.
 */
export async function readLabelsCsv(
  csv: FileHandle,
  { folder, folderPath, csvColumns }: LabelsCsvOptions,
  issues: IssueSink,
): Promise<PlannedImages & { readonly sources: readonly SourceImage[]; readonly hasLabels: boolean }> {
  const [header, ...records] = await readCsv(csv);
  if (header === undefined || (records.length === 0 && header.fields.some((field) => /^path$/i.test(field.trim()))))
    throw csvInvalid('The labels CSV names no image.', 'Give a header line and one line for each image.');
  const columns = columnsOf(header, csvColumns);
  if (records.length === 0)
    throw csvInvalid('The labels CSV names no image.', 'Give a header line and one line for each image.');
  const rows = records.map((record) => rowOf(record, header.fields.length, columns, folderPath));
  const { paths, respelledCount } = await findNamedFiles(rows, folder);
  rejectDuplicates(rows, paths);
  const splits = rows.map(splitOfRow(rows));
  // A column that is empty in every row means that the images have no labels, not that a label is missing from each.
  const hasLabels = rows.some(({ writtenLabel }) => writtenLabel.trim() !== '');
  const hasGroups = rows.some(({ group }) => group !== null);
  const sources = rows.map(({ label, group }, index) => {
    const relativePath = paths[index] ?? '';
    if (hasLabels && label === null) issues.add('LABEL_MISSING', relativePath);
    return {
      relativePath,
      label,
      group: hasGroups ? group : tcgaPatientOf(relativePath),
      split: splits[index] ?? null,
    };
  });
  const usedPlaces = new Set<number | null>([columns.path, columns.label, columns.group, columns.split]);
  return {
    groupSuggestions:
      !hasGroups && csvColumns.group == null && sources.some(({ group }) => group === null)
        ? suggestGroupColumns(
            header.fields,
            records.map(({ fields }) => fields),
            usedPlaces,
          )
        : [],
    sources: sources.sort((a, b) => compareCodePoints(a.relativePath, b.relativePath)),
    notes: [
      ...notesOf(header, columns),
      ...mergedSpellings(rows.map(({ writtenLabel }) => writtenLabel)),
      ...(respelledCount === 0
        ? []
        : [
            `${respelledCount} ${respelledCount === 1 ? 'file was' : 'files were'} found with \\ as /, without leading and trailing spaces, or in another Unicode form.`,
          ]),
    ],
    hasLabels,
  };
}

function notesOf({ fields }: CsvRecord, columns: CsvColumns): string[] {
  const roles: readonly CsvRole[] = ['path', 'label', 'group', 'split'];
  const used = roles.flatMap((role) => {
    const place = columns[role];
    return place === null ? [] : [`${role} from ${JSON.stringify(fields[place]?.trim())}`];
  });
  const places = new Set<number | null>(roles.map((role) => columns[role]));
  const unused = fields.filter((field, place) => !places.has(place) && field.trim() !== '');
  return [
    `Columns: ${used.join(', ')}.`,
    ...(unused.length === 0
      ? []
      : [`Columns ignored: ${unused.map((field) => JSON.stringify(field.trim())).join(', ')}.`]),
  ];
}

function rowOf(
  { fields, lineNumber }: CsvRecord,
  columnCount: number,
  columns: CsvColumns,
  folderPath: string | null,
): Row {
  // Spreadsheets end some lines with more delimiters than others.
  const surplus = fields.slice(columnCount);
  if (fields.length < columnCount || surplus.some((field) => field.trim() !== ''))
    throw csvInvalid(
      `Line ${lineNumber}: it has ${fields.length} ${fields.length === 1 ? 'field' : 'fields'}, and the header has ${columnCount}.`,
      'Put a field that holds a delimiter between double quotes.',
    );
  const textOf = (role: CsvRole): string => {
    const place = columns[role];
    const text = place === null ? '' : (fields[place] ?? '');
    if (text.length > FIELD_LENGTH_MAX)
      throw csvInvalid(
        `Line ${lineNumber}, column ${role}: it is longer than ${FIELD_LENGTH_MAX} characters.`,
        'Shorten it.',
      );
    return text;
  };
  return {
    named: pathOf(textOf('path'), folderPath, lineNumber),
    lineNumber,
    writtenLabel: textOf('label'),
    label: valueOf(textOf('label')),
    group: valueOf(textOf('group')),
    split: valueOf(textOf('split')),
  };
}

function pathOf(text: string, folderPath: string | null, lineNumber: number): string {
  const refuse = (what: string, hint: string) => csvInvalid(`Line ${lineNumber}, column path: ${what}.`, hint);
  if (text.trim() === '') throw refuse('it is empty', 'Name an image in every line.');
  if (text.includes('\0')) throw refuse('it holds a zero byte', 'Write paths as plain text.');
  const isBelow = folderPath !== null && text.startsWith(`${folderPath}/`);
  const inside = isBelow ? text.slice(folderPath.length + 1) : text;
  if (path.posix.isAbsolute(inside) || path.win32.isAbsolute(inside)) {
    throw refuse('it is absolute, and not below the imported folder', 'Write paths relative to the imported folder.');
  }
  const normal = path.posix.normalize(inside);
  // A backslash is taken for a slash, so it can leave the folder too.
  const slashed = path.posix.normalize(inside.replaceAll('\\', '/'));
  if ([normal, slashed].some((each) => each === '..' || each.startsWith('../')))
    throw refuse('it leaves the folder', 'Name only files below the imported folder.');
  return normal;
}

function rejectDuplicates(rows: readonly Row[], paths: readonly string[]): void {
  const lines = new Map<string, number>();
  for (const [index, { lineNumber }] of rows.entries()) {
    const relativePath = paths[index] ?? '';
    const earlier = lines.get(relativePath);
    if (earlier !== undefined) {
      throw csvInvalid(
        `Line ${lineNumber}, column path: the same file is already listed in line ${earlier}.`,
        'Name each image once.',
      );
    }
    lines.set(relativePath, lineNumber);
  }
}

/** Either every row has a known split or none has: an image without one would be in no part, or in every part. */
function splitOfRow(rows: readonly Row[]): (row: Row) => string | null {
  const isDivided = rows.some(({ split }) => split !== null);
  return ({ split, lineNumber }) => {
    if (!isDivided) return null;
    if (split === null)
      throw csvInvalid(
        `Line ${lineNumber}, column split: it is empty, but other lines have a split.`,
        'Give a split in every line or in none.',
      );
    const known = splitOf(split);
    if (known !== undefined) return known;
    throw csvInvalid(
      `Line ${lineNumber}, column split: it is not train, validation or test.`,
      /^\d+$/.test(split)
        ? 'Numbers of folds are not read: leave the column out (csvColumns: { split: "" }), and evaluations draw folds.'
        : 'Use train, validation and test in any usual spelling, such as Training, val, dev, test_set.',
    );
  };
}
