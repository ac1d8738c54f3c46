/**
 * Interprets the folders of a listing: wrappers, splits, labels and groups. Pure except for the issues that it adds.
 */
import { suggestGroupLevels, type GroupSuggestion } from './group-suggestions.ts';
import type { IssueSink } from './issues.ts';
import { mergedSpellings, valueOf } from './label-text.ts';
import type { Listing, SourceImage, SourceList } from './listing.ts';
import { parentOf, type PathList } from './path-list.ts';
import { splitOf } from './split-names.ts';
import { tcgaPatientOf } from './tcga.ts';

export interface FolderLayoutOptions {
  /** False: the images have no labels. */
  readonly labelled: boolean;
  /** The level of the label folder, 1 for the first below the imported one; null: found by rule. */
  readonly labelLevel: number | null;
  /** The level of the patient or slide folder; null: there is none. */
  readonly groupLevel: number | null;
}

export interface PlannedImages {
  readonly sources: SourceList;
  /** Sentences that say how the folders were interpreted. */
  readonly notes: readonly string[];
  /** Empty if every image has a group, or if the user has said where they are. */
  readonly groupSuggestions: readonly GroupSuggestion[];
}

const IMAGE_NAME = /\.(png|jpe?g|tiff?|bmp|webp)$/i;
/** The number of folders that a note names. */
const NAMED_MAX = 5;

/** A folder that holds files. A million images lie in a few folders, so that folders are interpreted, not files. */
interface Located {
  /** Its path; empty for the imported folder itself. */
  readonly path: string;
  /** The folders of the path, without wrappers and the split. */
  readonly folders: readonly string[];
  readonly split: string | null;
  /** Of the files directly in it. */
  readonly fileCount: number;
  /** Whether one of them has the name of an image. */
  readonly holdsImages: boolean;
}

/**
 * Takes labels from the first folder below the imported one, after entering a single wrapper folder and taking
 * `train/`, `val/` and `test/`, above or below the labels, for splits. Groups come from `groupLevel`, otherwise from
 * TCGA barcodes.
 * @param listing without masks.
 */
export function readFolderLayout(listing: Listing, options: FolderLayoutOptions, issues: IssueSink): PlannedImages {
  const found = foldersAmong(listing.files);
  const groupOfFolder = (folder: string): string | null => {
    const name = options.groupLevel === null ? undefined : namesOf(folder)[options.groupLevel - 1];
    return name === undefined ? null : valueOf(name);
  };
  const planned = (placed: readonly Located[], labelLevel: number | null): Omit<PlannedImages, 'notes'> => {
    const facts = new Map(
      placed.map(({ path, folders: [label], split }) => [
        path,
        { label: label === undefined ? null : valueOf(label), split, group: groupOfFolder(path) },
      ]),
    );
    const sources = sourcesOf(listing.files, (relativePath) => {
      const { label = null, split = null, group = null } = facts.get(parentOf(relativePath)) ?? {};
      return {
        relativePath,
        label,
        group: options.groupLevel === null ? tcgaPatientOf(relativePath) : group,
        split,
      };
    });
    const areGroupsMissing = options.groupLevel === null && hasUngrouped(sources);
    return { sources, groupSuggestions: areGroupsMissing ? suggestGroupLevels(found, labelLevel) : [] };
  };
  if (!options.labelled) {
    const unlabelled = found.map((each) => ({ ...each, folders: [] }));
    return { ...planned(unlabelled, null), notes: [] };
  }
  const notes: string[] = [];
  const located = options.labelLevel === null ? findLabels(found, notes) : atLevel(found, options.labelLevel);
  if (options.labelLevel === null) addLevelIssue(located, options.groupLevel === null, issues);
  const levelOfLabels = depthOfLabels(located);
  for (const folder of listing.emptyFolders)
    if (namesOf(folder).length === levelOfLabels) issues.add('EMPTY_LABEL_FOLDER', folder);
  notes.push(...mergedSpellings(located.flatMap(({ folders }) => folders[0] ?? [])));
  const inner = [...new Set(located.flatMap(({ folders }) => folders[1] ?? []))];
  if (inner.length > 0 && options.groupLevel === null)
    notes.push(`Folders within those of the labels are not read: ${named(inner)}.`);
  return { ...planned(located, options.labelLevel ?? levelOfLabels), notes };
}

/** Each image is made from its path when it is asked for, because a million of them take 50 MB and more. */
function sourcesOf(files: PathList, sourceOf: (relativePath: string) => SourceImage): SourceList {
  const at = (place: number): SourceImage | undefined => {
    const path = files.at(place);
    return path === undefined ? undefined : sourceOf(path);
  };
  function* slice(start: number, end = files.length): Generator<SourceImage> {
    for (let place = start; place < Math.min(end, files.length); place += 1) {
      const source = at(place);
      if (source !== undefined) yield source;
    }
  }
  return { length: files.length, at, slice, [Symbol.iterator]: () => slice(0) };
}

function hasUngrouped(sources: SourceList): boolean {
  for (const { group } of sources) if (group === null) return true;
  return false;
}

/** In the order of their first file. */
function foldersAmong(files: PathList): readonly Located[] {
  const counts = new Map<string, { fileCount: number; holdsImages: boolean }>();
  for (const file of files) {
    const folder = parentOf(file);
    const counted = counts.get(folder) ?? { fileCount: 0, holdsImages: false };
    counted.fileCount += 1;
    counted.holdsImages ||= IMAGE_NAME.test(file);
    counts.set(folder, counted);
  }
  return Array.from(counts, ([path, counted]) => ({ path, folders: namesOf(path), split: null, ...counted }));
}

function named(folders: readonly string[]): string {
  const shown = folders.slice(0, NAMED_MAX).map((folder) => JSON.stringify(folder));
  return `${shown.join(', ')}${folders.length > NAMED_MAX ? ` and ${folders.length - NAMED_MAX} more` : ''}`;
}

function namesOf(folder: string): string[] {
  return folder === '' ? [] : folder.split('/');
}

function findLabels(found: readonly Located[], notes: string[]): readonly Located[] {
  const { located: entered, wrappers } = enterWrappers(found);
  const divided = takeSplits(entered);
  const { located, wrappers: inner } = divided.isDivided
    ? enterWrappers(divided.located)
    : { located: entered, wrappers: [] };
  for (const wrapper of [...wrappers, ...inner])
    notes.push(`The folder ${JSON.stringify(wrapper)} is the only one at its level: its folders are read instead.`);
  if (divided.isDivided) notes.push(`The folders ${divided.names.join(', ')} are splits.`);
  return located;
}

/** Enters a folder that is the only one and holds only folders, as archives are unpacked into one. */
function enterWrappers(located: readonly Located[]): { located: readonly Located[]; wrappers: string[] } {
  const wrappers: string[] = [];
  let current = located;
  for (;;) {
    const deciding = decidingOf(current);
    const [first] = deciding[0]?.folders ?? [];
    if (first === undefined || !deciding.every(({ folders }) => folders.length > 1 && folders[0] === first)) break;
    wrappers.push(first);
    current = current.map((each) => ({ ...each, folders: each.folders.slice(1) }));
  }
  return { located: current, wrappers };
}

/**
 * The folders that show the purpose of a level: files outside every folder have no label in any case, and a folder of
 * documents has no images.
 */
function decidingOf(located: readonly Located[]): readonly Located[] {
  const placed = located.filter(({ folders }) => folders.length > 0);
  const images = placed.filter(({ holdsImages }) => holdsImages);
  return images.length > 0 ? images : placed;
}

/**
 * Splits are the first folders, or those within the labels, if all folders of a level have names of splits and at least
 * two differ.
 */
function takeSplits(located: readonly Located[]): { located: readonly Located[]; isDivided: boolean; names: string[] } {
  for (const level of [0, 1]) {
    const placed = decidingOf(located);
    const names = new Set(placed.map(({ folders }) => folders[level]));
    const splits = new Set([...names].map((name) => (name === undefined ? undefined : splitOf(name))));
    if (placed.length === 0 || splits.has(undefined) || splits.size < 2) continue;
    return {
      located: located.map((each) => ({
        ...each,
        folders: each.folders.filter((_, index) => index !== level),
        split: splitOf(each.folders[level] ?? '') ?? null,
      })),
      isDivided: true,
      names: [...names].flatMap((name) => name ?? []).sort(),
    };
  }
  return { located, isDivided: false, names: [] };
}

/** If the user has named the label level, any other level of which all folders are splits is the split. */
function atLevel(located: readonly Located[], labelLevel: number): Located[] {
  const deepest = located.reduce((most, { folders }) => Math.max(most, folders.length), 0);
  const splitLevel = Array.from({ length: deepest }, (_, level) => level).find((level) => {
    const splits = new Set(located.map(({ folders }) => splitOf(folders[level] ?? '')));
    return level !== labelLevel - 1 && !splits.has(undefined) && splits.size > 1;
  });
  return located.map((each) => ({
    ...each,
    folders: each.folders.slice(labelLevel - 1),
    split: splitLevel === undefined ? null : (splitOf(each.folders[splitLevel] ?? '') ?? null),
  }));
}

/** Labels that were probably taken from the wrong level. */
function addLevelIssue(located: readonly Located[], groupsMayBeFolders: boolean, issues: IssueSink): void {
  const labelled = decidingOf(located);
  const labels = new Set(labelled.flatMap(({ folders }) => folders[0] ?? []));
  for (const label of labels) if (splitOf(label) !== undefined) issues.add('SPLITS_AMONG_LABELS', label);
  const within = new Set(labelled.map(({ folders }) => folders[1]));
  const arePatients = [...within].every((folder) => folder !== undefined && tcgaPatientOf(folder) !== null);
  if (!groupsMayBeFolders || arePatients || within.has(undefined) || within.size < 2) return;
  const examples = new Set(labelled.map(({ folders }) => `${folders[0]}/${folders[1]}`));
  for (const example of examples) issues.add('LABELS_MAY_BE_DEEPER', example);
}

/** The depth of the label folders below the imported one. */
function depthOfLabels(located: readonly Located[]): number {
  const [first] = decidingOf(located);
  return first === undefined ? 1 : namesOf(first.path).length - first.folders.length + 1;
}
