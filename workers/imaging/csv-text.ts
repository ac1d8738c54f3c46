/**
 * Parses a CSV file as spreadsheets and scripts save it into records of fields: handles its encoding, its delimiter,
 * and lines before the header.
 */
import { isUtf8 } from 'node:buffer';
import type { FileHandle } from 'node:fs/promises';
import { Readable } from 'node:stream';
import { CsvError, parse } from 'csv-parse';
import { DomainError } from '../../src/errors.ts';

/** A million rows of a hundred bytes fit. */
export const CSV_BYTES_MAX = 128 * 1024 * 1024;
/** The maximum of one line; longer ones come from an unclosed quote or from a file that is not a CSV. */
const RECORD_BYTES_MAX = 64 * 1024;
const CHUNK_LENGTH = 1 << 20;
const DELIMITERS = [',', ';', '\t', '|'] as const;

export interface CsvRecord {
  readonly fields: readonly string[];
  /** Line in the file, from 1. */
  readonly lineNumber: number;
}

/**
 * Yields the records of a CSV in UTF-8 (with or without a byte order mark) or UTF-16 (with one). The delimiter is the
 * one that Excel's `sep=` line names, otherwise the most frequent in the header among comma, semicolon, tab and
 * vertical bar. Lines before the header that begin with `#`, and records whose fields are all empty, are skipped.
 * @param csv positioned at its beginning; the caller closes it.
 * @throws DomainError LABELS_CSV_INVALID with the line.
 */
export async function readCsv(csv: FileHandle): Promise<CsvRecord[]> {
  const { head, body } = splitHead(await readText(csv));
  const separator = /^sep=(.)$/i.exec(head.find((line) => /^sep=.$/i.test(line)) ?? '')?.[1];
  const delimiter = separator ?? delimiterOf(body.slice(0, body.search(/[\r\n]|$/)));
  const parser = Readable.from(chunksOf(body)).pipe(
    parse({
      delimiter,
      skip_empty_lines: true,
      relax_column_count: true,
      // A quote inside a field that does not begin with one is an ordinary character: 5" wide.
      relax_quotes: true,
      max_record_size: RECORD_BYTES_MAX,
      record_delimiter: ['\r\n', '\n', '\r'],
      info: true,
    }),
  );
  const records: CsvRecord[] = [];
  try {
    // With `info` each item is { record, info }.
    for await (const item of parser) {
      const { record, info }: { readonly record: readonly string[]; readonly info: { readonly lines: number } } = item;
      if (record.some((field) => field.trim() !== ''))
        records.push({ fields: record, lineNumber: info.lines + head.length });
    }
  } catch (error) {
    if (error instanceof CsvError)
      throw csvInvalid(
        `Line ${Number(error['lines'] ?? 0) + head.length}: ${faultOfCsv(error)}.`,
        'Check quotes and delimiters.',
      );
    throw error;
  }
  return records;
}

/** Errors name lines and columns, and repeat nothing else of the file, because it may be the wrong file. */
export function csvInvalid(message: string, hint: string): DomainError {
  return new DomainError({ code: 'LABELS_CSV_INVALID', message, field: 'input.labelsCsvPath', hint });
}

/** The library's own messages repeat the file's content. */
function faultOfCsv({ code }: CsvError): string {
  switch (code) {
    case 'CSV_QUOTE_NOT_CLOSED':
      return 'a quote is opened and never closed';
    case 'INVALID_OPENING_QUOTE':
    case 'CSV_INVALID_CLOSING_QUOTE':
    case 'CSV_NON_TRIMABLE_CHAR_AFTER_CLOSING_QUOTE':
      return 'there is a quote inside a field';
    case 'CSV_MAX_RECORD_SIZE':
      return `it is longer than ${RECORD_BYTES_MAX} bytes`;
    default:
      return 'it cannot be read as CSV';
  }
}

async function readText(csv: FileHandle): Promise<string> {
  const { size } = await csv.stat();
  if (size > CSV_BYTES_MAX)
    throw csvInvalid(
      `The labels CSV has ${size} bytes; at most ${CSV_BYTES_MAX} are read.`,
      'Import the images in several datasets.',
    );
  const bytes = await csv.readFile();
  const isUtf16 = (bytes[0] === 0xff && bytes[1] === 0xfe) || (bytes[0] === 0xfe && bytes[1] === 0xff);
  if (isUtf16) return new TextDecoder(bytes[0] === 0xff ? 'utf-16le' : 'utf-16be').decode(bytes);
  if (!isUtf8(bytes))
    throw csvInvalid(`Line ${brokenLineOf(bytes)}: the text is not UTF-8.`, 'Save the file as CSV UTF-8.');
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

/** The lines before the header, and the rest. A path may begin with `#`, so only the first lines can be comments. */
function splitHead(text: string): { readonly head: readonly string[]; readonly body: string } {
  const head: string[] = [];
  let body = text;
  for (;;) {
    const line = /^(#[^\r\n]*|sep=.|[ \t]*)(\r\n|\n|\r)/i.exec(body);
    if (line === null) return { head, body };
    head.push(line[1] ?? '');
    body = body.slice(line[0].length);
  }
}

function delimiterOf(header: string): string {
  const bare = header.replace(/"[^"]*"/g, '');
  const counts = DELIMITERS.map((delimiter) => ({ delimiter, count: bare.split(delimiter).length }));
  return counts.reduce((best, each) => (each.count > best.count ? each : best)).delimiter;
}

function* chunksOf(text: string): Generator<string> {
  for (let start = 0; start < text.length; start += CHUNK_LENGTH) yield text.slice(start, start + CHUNK_LENGTH);
}
