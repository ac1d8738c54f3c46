/** Finds the role of each column of a labels CSV. Pure. */
import type { DomainError } from '../../src/errors.ts';
import { csvInvalid, type CsvRecord } from './csv-text.ts';
import { normaliseText } from './label-text.ts';

export const CSV_ROLES = ['path', 'label', 'group', 'split'] as const;
export type CsvRole = (typeof CSV_ROLES)[number];

/** Only headers like this are repeated in an error. */
const COLUMN_NAME = /^\p{L}[\p{L}\p{N}_ -]{0,29}$/u;

/** The names of the columns that the user assigns to roles; an empty name means that the CSV has no such column. */
export type ColumnChoice = { readonly [Role in CsvRole]?: string | null | undefined };

/** The index of each role's column, from 0. */
export type CsvColumns = { readonly path: number } & { readonly [Role in Exclude<CsvRole, 'path'>]: number | null };

/**
 * In lower case, without spaces and punctuation, the most specific first: if two columns could be the group, the first
 * one is.
 */
const NAMES: Readonly<Record<CsvRole, readonly string[]>> = {
  path: ['path', 'filepath', 'imagepath', 'filename', 'file', 'imagename', 'imagefile', 'image', 'img', 'imageid'],
  label: ['label', 'labels', 'class', 'classname', 'category', 'target', 'diagnosis'],
  group: ['group', 'patient', 'patientid', 'case', 'caseid', 'subject', 'subjectid', 'slide', 'slideid', 'wsi'],
  split: ['split', 'partition', 'subset', 'set'],
};

/**
 * Finds the columns by their usual names, in any case; a name that ends in a known word (`Majority Vote Label`) counts
 * if no other name matches. Columns with other names are ignored.
 * @throws DomainError LABELS_CSV_INVALID without a path, or with two columns of one name.
 */
export function columnsOf({ fields, lineNumber }: CsvRecord, choice: ColumnChoice): CsvColumns {
  const headers = fields.map((field) => keyOf(field));
  const place = (role: CsvRole): number | null => {
    const chosen = choice[role];
    if (chosen === '') return null;
    const names = typeof chosen === 'string' ? [keyOf(chosen)] : NAMES[role];
    const exact = names.find((name) => headers.includes(name));
    const places = headers.flatMap((header, index) => (header === exact ? [index] : []));
    if (places.length > 1)
      throw csvInvalid(`Line ${lineNumber}: the column ${role} appears twice.`, 'Name each column once.');
    const [found] = places;
    if (found !== undefined) return found;
    if (typeof chosen === 'string')
      throw csvInvalid(
        `Line ${lineNumber}: the header has no column ${JSON.stringify(chosen)}.`,
        describeColumns(fields),
      );
    return byLastWord(fields, NAMES[role]);
  };
  const path = place('path');
  if (path === null) throw withoutPath(fields, lineNumber);
  return { path, label: place('label'), group: place('group'), split: place('split') };
}

function keyOf(header: string): string {
  return normaliseText(header)
    .toLowerCase()
    .replace(/[^\p{L}\p{N}]+/gu, '');
}

function byLastWord(fields: readonly string[], names: readonly string[]): number | null {
  const places = fields.flatMap((field, index) => {
    const last = normaliseText(field)
      .split(/[^\p{L}\p{N}]+|(?<=\p{Ll})(?=\p{Lu})/u)
      .at(-1);
    return last !== undefined && names.includes(last.toLowerCase()) ? [index] : [];
  });
  return places.length === 1 ? (places[0] ?? null) : null;
}

function withoutPath(fields: readonly string[], lineNumber: number): DomainError {
  const isData = fields.some((field) => /\.(png|jpe?g|tiff?|bmp|webp)$/i.test(field.trim()));
  return csvInvalid(
    `Line ${lineNumber}: the column path is missing.`,
    isData
      ? 'This line names an image. Add a header line above it, such as path,label,group,split.'
      : `Call the column with the paths of the images path, or name it with csvColumns. ${describeColumns(fields)}`,
  );
}

/** Text that is not a column name is not repeated: in a file that is not a CSV it may be a secret. */
function describeColumns(fields: readonly string[]): string {
  const names = fields.map((field) => normaliseText(field)).filter((name) => COLUMN_NAME.test(name));
  return names.length === 0 ? 'It contains no column names.' : `The columns are ${names.join(', ')}.`;
}
