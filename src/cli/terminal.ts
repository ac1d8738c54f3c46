/** Progress lines: updated in place in a terminal, appended in a log. */
import { stripVTControlCharacters } from 'node:util';

export interface StatusLine {
  /**
   * Replaces the line in a terminal; in a file or pipe a new line without its bar, at most every two seconds and only
   * when it differs.
   */
  show(text: string): void;
  /** Keeps the last text and moves to the next line. */
  end(): void;
}

const LOG_EVERY_MS = 2_000;
const BAR = /\[#*-*\] /;

export function createStatusLine(stream: NodeJS.WriteStream): StatusLine {
  let shown = '';
  let lastMs = Number.NEGATIVE_INFINITY;
  let latest = '';
  return {
    show: (shownOnTerminal) => {
      const text = stream.isTTY ? shownOnTerminal : shownOnTerminal.replace(BAR, '').trimStart();
      latest = text;
      if (stream.isTTY) {
        stream.write(`\r\u001b[2K${text.slice(0, Math.max(20, stream.columns - 1))}`);
        shown = text;
      } else if (text !== shown && performance.now() - lastMs >= LOG_EVERY_MS) {
        lastMs = performance.now();
        shown = text;
        stream.write(`${text}\n`);
      }
    },
    end: () => {
      if (stream.isTTY && shown !== '') stream.write('\n');
      else if (latest !== shown) stream.write(`${latest}\n`);
      shown = '';
      latest = '';
    },
  };
}

/** `[#######---------]` for a fraction 0..1. */
export function progressBar(fraction: number, width = 24): string {
  const filled = Math.round(Math.min(1, Math.max(0, fraction)) * width);
  return `[${'#'.repeat(filled)}${'-'.repeat(width - filled)}]`;
}

/**
 * Makes external text safe for a terminal: control characters, which could move the cursor, set colours or make the
 * terminal send input, become the replacement character. Tabs and line ends are kept.
 */
export function printable(text: string): string {
  return text.replaceAll(/[^\P{Cc}\t\n]|[\u202a-\u202e\u2066-\u2069]/gu, '\ufffd');
}

/** Rows as columns that line up, painted or not; numbers to the right. */
export function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const seen = (cell = ''): string => stripVTControlCharacters(cell);
  const widths = head.map((title, column) => Math.max(title.length, ...rows.map((row) => seen(row[column]).length)));
  const isRight = head.map(
    (_, column) =>
      column > 0 &&
      rows.some((row) => seen(row[column]) !== '') &&
      rows.every((row) => /^([-+\d.]|$)/.test(seen(row[column]))),
  );
  const line = (cells: readonly string[]): string =>
    cells
      .map((cell, column) => {
        const space = ' '.repeat((widths[column] ?? 0) - seen(cell).length);
        return isRight[column] === true ? space + cell : cell + space;
      })
      .join('  ')
      .trimEnd();
  return [line(head), widths.map((width) => '-'.repeat(width)).join('  '), ...rows.map(line)].join('\n');
}

/** e.g. `1.5 GB`; powers of ten, as disks are sold. */
export function formatByteSize(byteSize: number): string {
  const units = ['bytes', 'kB', 'MB', 'GB', 'TB'];
  let amount = byteSize;
  let unit = 0;
  // From 999.5 kB on, three digits would round up to 1.00e+3, so the next unit begins there; bytes are whole.
  while (amount >= (unit === 0 ? 1000 : 999.5) && unit < units.length - 1) {
    amount /= 1000;
    unit += 1;
  }
  return `${unit === 0 ? amount : amount.toPrecision(3)} ${units[unit] ?? ''}`;
}

/** e.g. `4 groups`, `4 groups and 12 images without one`. */
export function formatGroups({
  groupCount,
  ungroupedImageCount,
  imageCount,
}: {
  readonly groupCount: number;
  /** Null if it was not counted, as in a draft. */
  readonly ungroupedImageCount: number | null;
  readonly imageCount: number;
}): string {
  if (ungroupedImageCount === null) return 'groups not counted';
  if (ungroupedImageCount === 0) return `${groupCount} groups`;
  if (ungroupedImageCount === imageCount) return 'no known groups';
  return `${groupCount} groups and ${ungroupedImageCount} images without one`;
}
