/** The query string of a URL, with readable names and values: `?organ=BREAST&organ=LUNG`. */

export type Search = Readonly<Record<string, string | readonly string[] | undefined>>;

/** A name that appears twice gives a list. */
export function parseSearch(text: string): Record<string, string | string[]> {
  // Not a plain object, which would already have a value for a parameter called `toString`.
  const found = new Map<string, string | string[]>();
  for (const [name, value] of new URLSearchParams(text)) {
    const before = found.get(name);
    found.set(name, before === undefined ? value : [...(typeof before === 'string' ? [before] : before), value]);
  }
  return Object.fromEntries(found);
}

/** Empty values are left out. */
export function stringifySearch(search: Search): string {
  const parts = new URLSearchParams();
  for (const [name, value] of Object.entries(search)) {
    for (const each of typeof value === 'string' ? [value] : (value ?? [])) {
      if (each !== '') parts.append(name, each);
    }
  }
  const text = parts.toString();
  return text === '' ? '' : `?${text}`;
}

export function textOf(value: unknown): string | undefined {
  return typeof value === 'string' && value !== '' ? value : undefined;
}

export function listOf(value: unknown): string[] | undefined {
  const items = (Array.isArray(value) ? value : [value]).filter((item) => typeof item === 'string' && item !== '');
  return items.length === 0 ? undefined : items;
}

/** One of the known values, or undefined for any other. */
export function oneOf<Value extends string>(values: readonly Value[], value: unknown): Value | undefined {
  return values.find((known) => known === value);
}

/** Changes only the type: the router then lets a link leave out any part of the query string. */
export function optional<Parts extends object>(parts: Parts): Partial<Parts> {
  return parts;
}
