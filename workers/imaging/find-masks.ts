/**
 * Finds annotations among the files of a folder: by their names, or, where the names do not show it, by the pixels of a
 * few files of each naming pattern.
 */
import type { Flatness } from './flatness.ts';
import { counted } from './formats/image-header.ts';
import type { IssueSink } from './issues.ts';
import { byFolder } from './listing.ts';
import { imagesNamedBy, isNamedLikeMask, masksAmong, nameStemOf, stemOf } from './masks.ts';

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

/** Files whose names share a pattern. */
interface Kind {
  /** As a sentence names it. */
  readonly name: string;
  readonly files: string[];
  /** The image that a file may annotate, by its name; if the name gives none, sibling folders are searched. */
  readonly partnerOf: Map<string, string>;
}

function emptyKind(name: string): Kind {
  return { name, files: [], partnerOf: new Map() };
}

/**
 * @returns the files without those that annotate others. Each annotation becomes a MASK issue; a file that may be one,
 * but has no image that it belongs to, becomes a MASKS_AMONG_IMAGES issue and stays.
 */
export async function withoutMasks(files: readonly string[], examine: Examine, issues: IssueSink): Promise<string[]> {
  const byName = masksAmong(files);
  for (const mask of byName) issues.add('MASK', mask);
  const candidates = files.filter((file) => !byName.has(file));
  const cache = new Map<string, Promise<ImageTraits | null>>();
  const examineOnce: Examine = async (file) => {
    const traits = cache.get(file) ?? examine(file);
    cache.set(file, traits);
    return traits;
  };
  const masks = new Set<string>();
  const askedOf = new Set<string>();
  for (const kind of [...kindsBesideImages(candidates), ...kindsByFolder(candidates)]) {
    const rest = kind.files.filter((file) => !masks.has(file) && !askedOf.has(file));
    const [first] = rest;
    if (first === undefined || !(await areFlat(rest, examineOnce))) continue;
    if (await belongToImages(rest, kind, candidates, examineOnce)) {
      const reason = `An annotation: its pixels have a few flat tones, and its size is that of its image: ${kind.name}.`;
      for (const file of rest) {
        masks.add(file);
        issues.add('MASK', file, { reason });
      }
    } else {
      const reason = `${counted(rest.length, 'image')} of a few flat tones, like masks, and without photographs of the same size that they could annotate: ${kind.name}.`;
      for (const file of rest) askedOf.add(file);
      issues.add('MASKS_AMONG_IMAGES', first, { reason, count: rest.length });
    }
  }
  const kept = candidates.filter((file) => !masks.has(file));
  for (const file of kept) if (isNamedLikeMask(file) && !askedOf.has(file)) issues.add('MASKS_AMONG_IMAGES', file);
  return kept;
}

/** True if all examined files are flat, and at least one of them has tones. */
async function areFlat(files: readonly string[], examine: Examine): Promise<boolean> {
  let hasTones = false;
  for (const file of sampleEvenly(files)) {
    const traits = await examine(file);
    if (traits === null || traits.flatness === 'PICTURE') return false;
    hasTones ||= traits.flatness === 'MASK';
  }
  return hasTones;
}

/** True if each examined file has a photograph of its size. */
async function belongToImages(
  files: readonly string[],
  { partnerOf }: Kind,
  candidates: readonly string[],
  examine: Examine,
): Promise<boolean> {
  for (const file of sampleEvenly(files)) {
    const mask = await examine(file);
    const partner = partnerOf.get(file);
    let belongs = false;
    for (const other of partner === undefined ? imagesInOtherFolders(file, candidates) : [partner]) {
      const image = await examine(other);
      belongs ||= image?.flatness === 'PICTURE' && image.width === mask?.width && image.height === mask.height;
    }
    if (!belongs) return false;
  }
  return true;
}

/** Files with the same name in a sibling of one of the file's own folders. */
function imagesInOtherFolders(file: string, candidates: readonly string[]): string[] {
  const parts = stemOf(file).split('/');
  const name = parts.at(-1) ?? '';
  const names = [name, ...imagesNamedBy(name)];
  return candidates
    .filter((candidate) => {
      const others = stemOf(candidate).split('/');
      if (others.length !== parts.length || !names.includes(others.at(-1) ?? '')) return false;
      return parts.slice(0, -1).filter((folder, level) => folder !== others[level]).length === 1;
    })
    .slice(0, EXAMINED_COUNT);
}

/** `x_bnd` and `bnd_x` beside `x`, and `x.png` beside `x.jpg`: by the added text, ignoring numbers. */
function kindsBesideImages(files: readonly string[]): Kind[] {
  const kinds = new Map<string, Kind>();
  const add = (name: string, file: string, partner: string): void => {
    const kind = kinds.get(name) ?? emptyKind(name);
    kinds.set(name, kind);
    if (kind.partnerOf.has(file)) return;
    kind.files.push(file);
    kind.partnerOf.set(file, partner);
  };
  for (const within of byFolder(files)) {
    const byStem = new Map<string, string>();
    for (const file of within) {
      const stem = nameStemOf(file);
      const same = byStem.get(stem);
      byStem.set(stem, same ?? file);
      if (same === undefined) continue;
      const [one, other] = [extensionOf(file), extensionOf(same)];
      add(`names with the ending ${one} beside ${other}`, file, same);
      add(`names with the ending ${other} beside ${one}`, same, file);
    }
    for (const [name, file] of byStem) {
      for (let index = 1; index < name.length - 1; index += 1) {
        if (!SEPARATORS.includes(name.charAt(index))) continue;
        const before = byStem.get(name.slice(0, index));
        if (before !== undefined) add(`names with ${withoutNumbers(name.slice(index))} added`, file, before);
        const after = byStem.get(name.slice(index + 1));
        if (after !== undefined) add(`names with ${withoutNumbers(name.slice(0, index + 1))} before`, file, after);
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
function kindsByFolder(files: readonly string[]): Kind[] {
  const kinds = new Map<string, Kind>();
  for (const file of files) {
    const folders = new Set(file.split('/').slice(0, -1));
    for (const folder of folders) {
      const kind = kinds.get(folder) ?? emptyKind(`the folder ${JSON.stringify(folder)}`);
      kind.files.push(file);
      kinds.set(folder, kind);
    }
  }
  return [...largest([...kinds.values()]), { ...emptyKind('the whole folder'), files: [...files] }];
}

function largest(kinds: readonly Kind[]): Kind[] {
  return [...kinds].sort((a, b) => b.files.length - a.files.length).slice(0, KINDS_MAX);
}

function withoutNumbers(text: string): string {
  return text.replaceAll(/\d+/g, '#');
}

/** A few files, evenly spaced from the first to the last. */
function sampleEvenly(files: readonly string[]): string[] {
  const count = Math.min(files.length, EXAMINED_COUNT);
  const places = Array.from({ length: count }, (_, index) =>
    Math.round((index * (files.length - 1)) / (count - 1 || 1)),
  );
  return places.flatMap((place) => files.slice(place, place + 1));
}
