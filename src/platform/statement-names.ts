/**
 * Names SQL statements, so that PostgreSQL keeps them prepared: it then parses and plans them once per connection
 * instead of per request.
 */

/** Limit of prepared statements: each keeps a plan of some tens of kilobytes in every connection. */
const NAMES_MAX = 200;
const SEEN_MAX = 1_000;
/** An IN list has a different text for each length, so that none of the texts repeats often enough. */
const LISTS_VALUES = /\(\s*\$\d+,\s*\$\d+/;

/**
 * Gives each statement text a permanent name, or '' where it is not prepared. A text gets a name when it occurs a
 * second time, and the number of names is limited, so that the many statements that clients can cause by combining
 * filters fill neither our memory nor the database's.
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
