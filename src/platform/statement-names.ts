/**
 * Which statements PostgreSQL keeps prepared: it parses and plans them once for each connection and not for each
 * request.
 */

/** Each keeps a plan in every connection, some tens of kilobytes. */
const NAMES_MAX = 200;
const SEEN_MAX = 1_000;
/** A list of values written out has another text for each length: no text of it comes back often enough. */
const LISTS_VALUES = /\(\s*\$\d+,\s*\$\d+/;

/**
 * Gives a statement its name by its text, the same one for ever, or '' for one that is not kept. A text is named when
 * it comes a second time, and only so many are: the statements that clients can cause, filter by filter, fills neither
 * our memory nor the database's.
 */
export function createStatementNames(): (statement: { readonly sql: string }) => string {
  const names = new Map<string, string>();
  const seen = new Set<string>();
  return ({ sql }) => {
    const known = names.get(sql);
    if (known !== undefined) return known;
    if (names.size >= NAMES_MAX || LISTS_VALUES.test(sql)) return '';
    if (!seen.delete(sql)) {
      if (seen.size >= SEEN_MAX) seen.clear();
      seen.add(sql);
      return '';
    }
    const name = `paraffin_${names.size + 1}`;
    names.set(sql, name);
    return name;
  };
}
