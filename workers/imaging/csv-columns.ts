/** Which column of a labels CSV is which. Pure. */
import type { DomainError } from '../../src/errors.ts';
import { csvInvalid, type CsvRecord } from './csv-text.ts';
import { normaliseText } from './label-text.ts';

export const CSV_ROLES = ['path', 'label', 'group', 'split'] as const;
export type CsvRole = (typeof CSV_ROLES)[number];

/** What an error repeats of a header. */
const COLUMN_NAME = /^\p{L}[\p{L}\p{N}_ -]{0,29}$/u;

/** Names by which a person says which column is which; an empty name: the CSV has none. */
export type ColumnChoice = { readonly [Role in CsvRole]?: string | null | undefined };

/** The place of each role's column, from 0. */
export type CsvColumns = { readonly path: number } & { readonly [Role in Exclude<CsvRole, 'path'>]: number | null };

/** In lower case, without spaces and marks, the surest first: of two columns that could be the group, one is. */
const NAMES: Readonly<Record<CsvRole, readonly string[]>> = {
  path: ['path', 'filepath', 'imagepath', 'filename', 'file', 'imagename', 'imagefile', 'image', 'img', 'imageid'],
  label: ['label', 'labels', 'class', 'classname', 'category', 'target', 'diagnosis'],
  group: ['group', 'patient', 'patientid', 'case', 'caseid', 'subject', 'subjectid', 'slide', 'slideid', 'wsi'],
  split: ['split', 'partition', 'subset', 'set'],
};

/**
 * The columns by the names that people give them, in any case; a name that ends in a known word (`Majority Vote Label`)
 * counts where no other does. Columns with other names are passed over.
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
      throw csvInvalid(`Line ${lineNumber}: there is no column ${JSON.stringify(chosen)}.`, columnsInWords(fields));
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
      ? 'This line names an image: put a header before it, such as path,label,group,split.'
      : `Call the column with the paths of the images path, or say which one it is with csvColumns. ${columnsInWords(fields)}`,
  );
}

/** Anything but the name of a column may be somebody's secret in a file that is not a CSV. */
function columnsInWords(fields: readonly string[]): string {
  const names = fields.map((field) => normaliseText(field)).filter((name) => COLUMN_NAME.test(name));
  return names.length === 0 ? 'It holds no names of columns.' : `The columns are ${names.join(', ')}.`;
}
