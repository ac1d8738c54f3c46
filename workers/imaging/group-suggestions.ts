/** Where the names of patients or slides may be, if an import gives none: folder levels and columns of a CSV. Pure. */
import { valueOf } from './label-text.ts';
import { splitOf } from './split-names.ts';

/** Either a folder level or a column. */
export interface GroupSuggestion {
  /** Level of the folder, 1 for the first below the imported one. */
  readonly groupLevel: number | null;
  readonly csvColumn: string | null;
  /** The number of groups that it would give. */
  readonly groupCount: number;
  readonly examples: readonly string[];
}

const SUGGESTIONS_MAX = 3;
const EXAMPLES_MAX = 5;

/**
 * Levels whose folders differ, are not all splits, and hold several files each on average.
 * @param holders the folders that hold files: their paths, and the number of files directly in each.
 * @param labelLevel of the label folder; null if there is none.
 */
export function suggestGroupLevels(
  holders: readonly { readonly path: string; readonly fileCount: number }[],
  labelLevel: number | null,
): GroupSuggestion[] {
  const levels: { readonly names: Set<string>; fileCount: number }[] = [];
  for (const { path, fileCount } of holders) {
    for (const [place, name] of (path === '' ? [] : path.split('/')).entries()) {
      const level = (levels[place] ??= { names: new Set(), fileCount: 0 });
      level.names.add(name);
      level.fileCount += fileCount;
    }
  }
  return levels
    .flatMap(({ names, fileCount }, place) => {
      const isOther = place + 1 === labelLevel || [...names].every((name) => splitOf(name) !== undefined);
      return isOther || !areGroups(names.size, fileCount)
        ? []
        : [{ ...suggestionOf(names), groupLevel: place + 1, csvColumn: null }];
    })
    .slice(0, SUGGESTIONS_MAX);
}

/**
 * Columns that have no other role and whose values occur several times on average; first those with the most values,
 * because there are more patients than scanners or sites.
 */
export function suggestGroupColumns(
  header: readonly string[],
  rows: readonly (readonly string[])[],
  usedPlaces: ReadonlySet<number | null>,
): GroupSuggestion[] {
  return header
    .flatMap((written, place) => {
      const csvColumn = written.trim();
      if (csvColumn === '' || usedPlaces.has(place)) return [];
      const values = rows.flatMap((fields) => valueOf(fields[place] ?? '') ?? []);
      const names = new Set(values);
      const isMostlyEmpty = 2 * values.length < rows.length;
      return isMostlyEmpty || !areGroups(names.size, values.length)
        ? []
        : [{ ...suggestionOf(names), groupLevel: null, csvColumn }];
    })
    .sort((a, b) => b.groupCount - a.groupCount)
    .slice(0, SUGGESTIONS_MAX);
}

/** A name for every image says nothing of patients, and one name for all leaves nothing to test on. */
function areGroups(nameCount: number, imageCount: number): boolean {
  return nameCount > 1 && 2 * nameCount <= imageCount;
}

function suggestionOf(names: ReadonlySet<string>): Pick<GroupSuggestion, 'groupCount' | 'examples'> {
  return { groupCount: names.size, examples: [...names].slice(0, EXAMPLES_MAX) };
}
