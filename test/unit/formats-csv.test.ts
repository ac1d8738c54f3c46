/** Fields of CSV files as spreadsheets and parsers read them. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parse } from 'csv-parse/sync';
import { csvField, textOfCsvField } from '../../src/formats/csv.ts';

const TEXTS = [
  '',
  'a',
  'a,b',
  'say "so"',
  'two\r\nlines',
  '=1+1',
  '+1',
  '-1',
  '@SUM(A1)',
  '\t=1',
  '\r=1',
  "'a'",
  "'=1",
  "''=1",
  'a=1',
];

test('no cell begins with text that a spreadsheet would run as a formula', () => {
  for (const text of TEXTS) {
    const [[cell = ''] = []]: string[][] = parse(csvField(text), { relax_column_count: true });
    assert.doesNotMatch(cell, /^[=+\-@\t\r]/, JSON.stringify(text));
  }
});

test('every text is read back unchanged by a parser', () => {
  const line = TEXTS.map(csvField).join(',');
  const [fields = []]: string[][] = parse(`${line}\r\n`, { record_delimiter: '\r\n' });
  assert.deepEqual(fields.map(textOfCsvField), TEXTS);
});
