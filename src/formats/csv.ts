/** Fields of the CSV files that Paraffin writes (RFC 4180), which people open in a spreadsheet. */

/** What spreadsheets run as a formula when it begins a cell; OWASP, "CSV Injection". */
const FORMULA_START = /^'*[=+\-@\t\r]/;

/**
 * A field as it stands in a line. A text that a spreadsheet would run as a formula gets an apostrophe before it, as
 * do such texts with apostrophes already, so that `textOfCsvField` gives back what it was.
 */
export function csvField(text: string): string {
  const safe = FORMULA_START.test(text) ? `'${text}` : text;
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

/** The text that `csvField` was given, from what a parser of CSV reads. */
export function textOfCsvField(field: string): string {
  return field.startsWith("'") && FORMULA_START.test(field) ? field.slice(1) : field;
}
