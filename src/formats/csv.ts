/** Fields of the CSV files that Paraffin writes (RFC 4180), which people open in a spreadsheet. */

/** Characters that make spreadsheets run a cell as a formula; OWASP, "CSV Injection". */
const FORMULA_START = /^'*[=+\-@\t\r]/;

/**
 * A field as written in a line. A text that a spreadsheet would run as a formula is prefixed with an apostrophe, also
 * if it already has one, so that `textOfCsvField` restores the original.
 */
export function csvField(text: string): string {
  const safe = FORMULA_START.test(text) ? `'${text}` : text;
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

/** The original text of `csvField`, from the value that a CSV parser reads. */
export function textOfCsvField(field: string): string {
  return field.startsWith("'") && FORMULA_START.test(field) ? field.slice(1) : field;
}
