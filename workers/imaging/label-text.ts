/** Normalises the text of a label, a group or a split: one rule for folder names and CSV fields. Pure. */

/**
 * Soft hyphen, zero-width and bidirectional marks, byte order mark: they are invisible, and can split one label into
 * two.
 */
const INVISIBLE = /[\u00AD\u200B-\u200F\u202A-\u202E\u2060-\u2064\u2066-\u2069\uFEFF]/gu;
/** Line breaks, tabs, no-break and other typographic spaces, control characters. */
const WHITE_SPACE = /[\s\p{Z}\p{Cc}]+/gu;
/** In lower case; pandas and R write these for a missing value. */
const MISSING_VALUES: ReadonlySet<string> = new Set(['', 'na', 'n/a', 'nan', 'null', '<na>', '#n/a']);

/** Removes invisible characters, applies Unicode NFC, turns white space of any kind into one space, and trims. */
export function normaliseText(written: string): string {
  return written.replace(INVISIBLE, '').normalize('NFC').replace(WHITE_SPACE, ' ').trim();
}

/** The normalised text, or null for a missing value. `None` is Python's missing value; `none` may be a class. */
export function valueOf(written: string): string | null {
  const text = normaliseText(written);
  return MISSING_VALUES.has(text.toLowerCase()) || text === 'None' ? null : text;
}

/** Sentences that say which values have several spellings with the same normalised text. */
export function mergedSpellings(written: Iterable<string>): string[] {
  const byValue = Map.groupBy(new Set(written), valueOf);
  return [...byValue].flatMap(([value, spellings]) =>
    value === null || spellings.length === 1
      ? []
      : [
          `${JSON.stringify(value)} is written in ${spellings.length} ways that differ only in white space or invisible characters.`,
        ],
  );
}

const NUMBER = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i;

/** True for a number as it is written in a table. */
export function isNumeric(text: string): boolean {
  return NUMBER.test(text);
}

/** Letters of other alphabets that look like Latin ones, in lower case. */
const LATIN_OF: ReadonlyMap<string, string> = new Map(
  Object.entries({
    ...{ а: 'a', е: 'e', о: 'o', р: 'p', с: 'c', у: 'y', х: 'x', і: 'i', ј: 'j', ѕ: 's', к: 'k', м: 'm', т: 't' },
    ...{ в: 'b', н: 'h', α: 'a', ο: 'o', ρ: 'p', ν: 'v', τ: 't', κ: 'k', ι: 'i', ı: 'i', μ: 'u' },
  }),
);

/**
 * Equal for texts that a reader would take for the same: those that differ in case, accents, width, look-alike letters,
 * in spaces, hyphens and underscores between words, or in the notation of a number (`1`, `1.0`, `01`).
 */
export function lookAlikeKey(text: string): string {
  if (isNumeric(text)) return `number ${Number(text)}`;
  const folded = text
    .normalize('NFKD')
    .replace(/\p{M}+/gu, '')
    .toLowerCase();
  return Array.from(folded, (letter) => LATIN_OF.get(letter) ?? letter)
    .join('')
    .replace(/(?<=\S)[\s_-]+(?=\S)/g, '');
}

/** Sets of at least two texts that look alike, each sorted. */
export function lookAlikes(texts: Iterable<string>): string[][] {
  return [...Map.groupBy(new Set(texts), lookAlikeKey).values()]
    .filter((alike) => alike.length > 1)
    .map((alike) => alike.sort());
}
