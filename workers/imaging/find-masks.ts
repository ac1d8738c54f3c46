/**
 * Finds annotations among the files of a folder: by their names, or, where the names do not show it, by the pixels of a
 * few files of each naming pattern.
 */
import type { Flatness } from './flatness.ts';
import { counted } from './formats/image-header.ts';
import type { IssueSink } from './issues.ts';
import { imagesNamedBy, isNamedLikeMask, masksAmong, nameStemOf, stemOf } from './masks.ts';
import { pickPaths, placesByFolder, placesWhere, type PathList } from './path-list.ts';

/** The properties of one image that show whether it can be a mask. */
export interface ImageTraits {
  readonly width: number;
  readonly height: number;
  readonly flatness: Flatness;
}

/** Null for a file that does not decode. */
export type Examine = (relativePath: string) => Promise<ImageTraits | null>;

/** Separators between the words of a name. */
const SEPARATORS = ' _.-';
/** How many files of a pattern are examined; a photograph among them ends the search. */
const EXAMINED_COUNT = 4;
/** The largest patterns are examined. */
const KINDS_MAX = 64;

/** Files whose names share a pattern, by their places in the list. */
interface Kind {
  /** As a sentence names it. */
  readonly name: string;
  readonly places: readonly number[] | Uint32Array;
  /** The image that a file may annotate, by its name; if the name gives none, sibling folders are searched. */
  readonly partnerOf: ReadonlyMap<number, number>;
}

/**
 * @returns the files without those that annotate others. Each annotation becomes a MASK issue; a file that may be one,
 * but has no image that it belongs to, becomes a MASKS_AMONG_IMAGES issue and stays.
 */
export async function withoutMasks(files: PathList, examine: Examine, issues: IssueSink): Promise<PathList> {
  const byName = masksAmong(files);
  for (const mask of byName) issues.add('MASK', files.at(mask) ?? '');
  const candidates =
    byName.size === 0
      ? files
      : pickPaths(
          files,
          placesWhere(files.length, (place) => !byName.has(place)),
        );
  const cache = new Map<number, Promise<ImageTraits | null>>();
  const examineOnce: ExaminePlace = async (place) => {
    const traits = cache.get(place) ?? examine(candidates.at(place) ?? '');
    cache.set(place, traits);
    return traits;
  };
  const masks = new Set<number>();
  const askedOf = new Set<number>();
  for (const kind of [...kindsBesideImages(candidates), ...kindsByFolder(candidates)]) {
    const rest = kind.places.filter((place) => !masks.has(place) && !askedOf.has(place));
    const [first] = rest;
    if (first === undefined || !(await areFlat(rest, examineOnce))) continue;
    if (await belongToImages(rest, kind, candidates, examineOnce)) {
      const reason = `An annotation: its pixels have a few flat tones, and its size is that of its image: ${kind.name}.`;
      for (const place of rest) {
        masks.add(place);
        issues.add('MASK', candidates.at(place) ?? '', { reason });
      }
    } else {
      const reason = `${counted(rest.length, 'image')} of a few flat tones, like masks, and without photographs of the same size that they could annotate: ${kind.name}.`;
      for (const place of rest) askedOf.add(place);
      issues.add('MASKS_AMONG_IMAGES', candidates.at(first) ?? '', { reason, count: rest.length });
    }
  }
  const isKept = (place: number): boolean => !masks.has(place);
  let place = 0;
  for (const file of candidates) {
    if (isKept(place) && !askedOf.has(place) && isNamedLikeMask(file)) issues.add('MASKS_AMONG_IMAGES', file);
    place += 1;
  }
  return masks.size === 0 ? candidates : pickPaths(candidates, placesWhere(candidates.length, isKept));
}

type ExaminePlace = (place: number) => Promise<ImageTraits | null>;

/** True if all examined files are flat, and at least one of them has tones. */
async function areFlat(places: Kind['places'], examine: ExaminePlace): Promise<boolean> {
  let hasTones = false;
  for (const place of sampleEvenly(places)) {
    const traits = await examine(place);
    if (traits === null || traits.flatness === 'PICTURE') return false;
    hasTones ||= traits.flatness === 'MASK';
  }
  return hasTones;
}

/** True if each examined file has a photograph of its size. */
async function belongToImages(
  places: Kind['places'],
  { partnerOf }: Kind,
  candidates: PathList,
  examine: ExaminePlace,
): Promise<boolean> {
  for (const place of sampleEvenly(places)) {
    const mask = await examine(place);
    const partner = partnerOf.get(place);
    let belongs = false;
    for (const other of partner === undefined
      ? imagesInOtherFolders(candidates.at(place) ?? '', candidates)
      : [partner]) {
      const image = await examine(other);
      belongs ||= image?.flatness === 'PICTURE' && image.width === mask?.width && image.height === mask.height;
    }
    if (!belongs) return false;
  }
  return true;
}

/** Files with the same name in a sibling of one of the file's own folders. */
function imagesInOtherFolders(file: string, candidates: PathList): number[] {
  const parts = stemOf(file).split('/');
  const name = parts.at(-1) ?? '';
  const names = [name, ...imagesNamedBy(name)];
  const found: number[] = [];
  let place = -1;
  for (const candidate of candidates) {
    place += 1;
    const others = stemOf(candidate).split('/');
    if (others.length !== parts.length || !names.includes(others.at(-1) ?? '')) continue;
    if (parts.slice(0, -1).filter((folder, level) => folder !== others[level]).length === 1) found.push(place);
    if (found.length === EXAMINED_COUNT) break;
  }
  return found;
}

/** `x_bnd` and `bnd_x` beside `x`, and `x.png` beside `x.jpg`: by the added text, ignoring numbers. */
function kindsBesideImages(files: PathList): Kind[] {
  const kinds = new Map<string, { readonly name: string; places: number[]; partnerOf: Map<number, number> }>();
  const add = (name: string, place: number, partner: number): void => {
    const kind = kinds.get(name) ?? { name, places: [], partnerOf: new Map<number, number>() };
    kinds.set(name, kind);
    if (kind.partnerOf.has(place)) return;
    kind.places.push(place);
    kind.partnerOf.set(place, partner);
  };
  // The names of one folder at a time are in memory.
  for (const places of placesByFolder(files).values()) {
    const byStem = new Map<string, number>();
    for (const place of places) {
      const file = files.at(place) ?? '';
      const stem = nameStemOf(file);
      const same = byStem.get(stem);
      byStem.set(stem, same ?? place);
      if (same === undefined) continue;
      const [one, other] = [extensionOf(file), extensionOf(files.at(same) ?? '')];
      add(`names with the ending ${one} beside ${other}`, place, same);
      add(`names with the ending ${other} beside ${one}`, same, place);
    }
    for (const [name, place] of byStem) {
      for (let index = 1; index < name.length - 1; index += 1) {
        if (!SEPARATORS.includes(name.charAt(index))) continue;
        const before = byStem.get(name.slice(0, index));
        if (before !== undefined) add(`names with ${withoutNumbers(name.slice(index))} added`, place, before);
        const after = byStem.get(name.slice(index + 1));
        if (after !== undefined) add(`names with ${withoutNumbers(name.slice(0, index + 1))} before`, place, after);
      }
    }
  }
  return largest([...kinds.values()]);
}

/** With its dot, in lower case; empty without one. */
function extensionOf(file: string): string {
  const name = file.slice(file.lastIndexOf('/') + 1);
  const dot = name.lastIndexOf('.');
  return dot <= 0 ? '' : name.slice(dot).toLowerCase();
}

/** All files below folders of one name, and all files. */
function kindsByFolder(files: PathList): Kind[] {
  const within = placesByFolder(files);
  const countOf = new Map<string, number>();
  for (const [folder, places] of within)
    for (const name of namesOf(folder)) countOf.set(name, (countOf.get(name) ?? 0) + places.length);
  // In the order of their first file, which `placesByFolder` keeps: a sort leaves equally large ones as they are.
  const shown = [...countOf].sort(([, a], [, b]) => b - a).slice(0, KINDS_MAX);
  const kinds = shown.map(([name]): Kind => {
    const places = [...within].flatMap(([folder, inside]) => (namesOf(folder).has(name) ? inside : []));
    return {
      name: `the folder ${JSON.stringify(name)}`,
      places: Uint32Array.from(places).sort(),
      partnerOf: new Map(),
    };
  });
  return [...kinds, { name: 'the whole folder', places: placesWhere(files.length, () => true), partnerOf: new Map() }];
}

function namesOf(folder: string): ReadonlySet<string> {
  return new Set(folder === '' ? [] : folder.split('/'));
}

function largest(kinds: readonly Kind[]): Kind[] {
  return [...kinds].sort((a, b) => b.places.length - a.places.length).slice(0, KINDS_MAX);
}

function withoutNumbers(text: string): string {
  return text.replaceAll(/\d+/g, '#');
}

/** A few files, evenly spaced from the first to the last. */
function sampleEvenly(files: Kind['places']): number[] {
  const count = Math.min(files.length, EXAMINED_COUNT);
  const places = Array.from({ length: count }, (_, index) =>
    Math.round((index * (files.length - 1)) / (count - 1 || 1)),
  );
  return places.flatMap((place) => [...files.slice(place, place + 1)]);
}
