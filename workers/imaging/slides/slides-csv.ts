/** Reads the CSV of an import of slides: slide, label, patient, split, micronsPerPixel; only slide is required. */
import type { FileHandle } from 'node:fs/promises';
import { csvInvalid, readCsv } from '../csv-text.ts';
import { normaliseText, valueOf } from '../label-text.ts';
import { splitOf } from '../split-names.ts';

export interface SlideRow {
  /** As written: a path, a file name, or a file name without its extension. */
  readonly slide: string;
  readonly label: string | null;
  readonly patient: string | null;
  readonly split: string | null;
  readonly micronsPerPixel: number | null;
}

/** In lower case, without spaces and punctuation; the first that the header has is read. */
const COLUMNS = {
  slide: ['slide', 'slideid', 'path', 'filepath', 'filename', 'file', 'wsi', 'image'],
  label: ['label', 'class', 'category', 'target', 'diagnosis'],
  patient: ['patient', 'patientid', 'case', 'caseid', 'subject', 'subjectid', 'group'],
  split: ['split', 'partition', 'subset', 'set'],
  micronsPerPixel: ['micronsperpixel', 'mpp', 'umperpixel', 'umpx'],
} as const;
type Column = keyof typeof COLUMNS;

/**
 * @param csv positioned at its beginning; the caller closes it.
 * @throws DomainError LABELS_CSV_INVALID with the line, also for a slide that is listed twice.
 */
export async function readSlidesCsv(csv: FileHandle): Promise<SlideRow[]> {
  const [header, ...records] = await readCsv(csv);
  if (header === undefined) throw csvInvalid('The CSV is empty.', 'Give the columns slide, label, patient, split.');
  const names = header.fields.map((field) =>
    normaliseText(field)
      .toLowerCase()
      .replace(/[^\p{L}\p{N}]+/gu, ''),
  );
  const placeOf = (column: Column): number => {
    const known = COLUMNS[column].find((name) => names.includes(name));
    return known === undefined ? -1 : names.indexOf(known);
  };
  const places: Readonly<Record<Column, number>> = {
    ...{ slide: placeOf('slide'), label: placeOf('label'), patient: placeOf('patient') },
    ...{ split: placeOf('split'), micronsPerPixel: placeOf('micronsPerPixel') },
  };
  if (places.slide < 0)
    throw csvInvalid(
      `Line ${header.lineNumber}: the column slide is missing.`,
      'Call the column with the names or paths of the slides slide.',
    );
  const lines = new Map<string, number>();
  const rows = records.map(({ fields, lineNumber }) => {
    const textOf = (column: Column): string => (places[column] < 0 ? '' : (fields[places[column]] ?? ''));
    const slide = normaliseText(textOf('slide')).replaceAll('\\', '/');
    if (slide === '') throw csvInvalid(`Line ${lineNumber}, column slide: it is empty.`, 'Name a slide in every line.');
    const earlier = lines.get(slide);
    if (earlier !== undefined)
      throw csvInvalid(
        `Line ${lineNumber}, column slide: the same slide is already listed in line ${earlier}.`,
        'Name each slide once.',
      );
    lines.set(slide, lineNumber);
    return {
      slide,
      label: valueOf(textOf('label')),
      patient: valueOf(textOf('patient')),
      split: splitIn(textOf('split'), lineNumber),
      micronsPerPixel: micronsIn(textOf('micronsPerPixel'), lineNumber),
    };
  });
  const withoutSplit = rows.find(({ split }) => split === null);
  if (withoutSplit !== undefined && rows.some(({ split }) => split !== null))
    throw csvInvalid(
      `Line ${lines.get(withoutSplit.slide) ?? 0}, column split: it is empty, but other lines have a split.`,
      'Give a split in every line or in none.',
    );
  return rows;
}

function splitIn(text: string, lineNumber: number): string | null {
  const written = valueOf(text);
  if (written === null) return null;
  const split = splitOf(written);
  if (split !== undefined) return split;
  throw csvInvalid(
    `Line ${lineNumber}, column split: it is not train, validation or test.`,
    'Use train, validation and test in any usual spelling.',
  );
}

/** Whether the value makes sense is said of each slide: nanometres, for instance. */
function micronsIn(text: string, lineNumber: number): number | null {
  const written = valueOf(text);
  if (written === null) return null;
  const value = Number(written.replace(',', '.'));
  if (Number.isFinite(value) && value > 0) return value;
  throw csvInvalid(
    `Line ${lineNumber}, column micronsPerPixel: it is not a positive number.`,
    'Write microns per pixel of the finest level, such as 0.25, or leave the field empty.',
  );
}
