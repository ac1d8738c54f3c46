/** Recognises annotations of the images beside them (GlaS, BUSI, MoNuSeg) by their names. Pure. */
import { placesByFolder, type PathList } from './path-list.ts';

const ANNOTATION =
  'masks?|anno(?:tation)?s?|annot|seg(?:mentation)?s?|gt|ground[ _-]?truth|labels?|manual|contours?|overlay';
const ANNOTATION_WORD = new RegExp(ANNOTATION, 'i');
/** `train_0_anno`, `m (0)_mask_1`. */
const SUFFIX = new RegExp(`^(?<image>.+?)[ _.-]+(?:${ANNOTATION})(?:[ _.-]*\\d+)?$`, 'i');
/** `mask_7` beside `7`, `img_7` or `image_7`. */
const PREFIX = new RegExp(`^(?:${ANNOTATION})[ _.-]+(?<image>.+)$`, 'i');
/** Folder names of masks that no class has: `masks`, `train_label_masks`, `Annotations`, `Ground Truth`. */
const CERTAIN_MASK_FOLDER = /mask|annotation|ground[ _-]?truth/i;
/** Names that may be classes too, unless a folder of images is beside the folder. */
const MASK_FOLDER = new RegExp(`${CERTAIN_MASK_FOLDER.source}|^(?:${ANNOTATION})(?:[ _-]?\\d+)?$`, 'i');
const IMAGE_FOLDER =
  /^(images?|imgs?|tissue[ _-]?images?|originals?|raw|data|patches|tiles|slides?|h&?e)([ _-]?\d+)?$/i;

/** Words that occur in no name of an image or a class, alone or with others. */
const CERTAIN_WORD = /(?:^|[^a-z])(?:masks?|annotations?|ground[ _-]?truth)(?:$|[^a-z])/;

/** True if a file or one of its folders has the name of masks, whether or not the annotated image exists. */
export function isNamedLikeMask(file: string): boolean {
  return CERTAIN_WORD.test(stemOf(file));
}

/**
 * The files that annotate another file of the list: named after it in the same folder, or with its name in a folder of
 * masks beside its own.
 * @param files relative paths.
 * @returns their places in the list.
 */
export function masksAmong(files: PathList): ReadonlySet<number> {
  const masks = new Set<number>();
  const stemAt = (place: number): string => nameStemOf(files.at(place) ?? '');
  // The names of one folder at a time are in memory.
  for (const places of placesByFolder(files).values()) {
    const annotations = places.filter((place) => imagesNamedBy(stemAt(place)).length > 0);
    if (annotations.length === 0) continue;
    const stems = new Set(places.map(stemAt));
    for (const place of annotations)
      if (imagesNamedBy(stemAt(place)).some((partner) => stems.has(partner))) masks.add(place);
  }
  for (const mask of masksInFolders(files)) masks.add(mask);
  return masks;
}

/** Path without extension, in lower case. */
export function stemOf(file: string): string {
  const name = file.slice(file.lastIndexOf('/') + 1);
  const dot = name.lastIndexOf('.');
  return (dot <= 0 ? file : file.slice(0, file.length - name.length + dot)).toLowerCase();
}

/** Name without folders and extension, in lower case. */
export function nameStemOf(file: string): string {
  return stemOf(file.slice(file.lastIndexOf('/') + 1));
}

/** The possible names of the image that an annotation with this name belongs to. */
export function imagesNamedBy(name: string): string[] {
  // Few of a million names contain such a word, and the patterns below are slower.
  if (!ANNOTATION_WORD.test(name)) return [];
  const before = SUFFIX.exec(name)?.groups?.['image'];
  const after = PREFIX.exec(name)?.groups?.['image'];
  return [
    ...(before === undefined ? [] : [before]),
    ...(after === undefined ? [] : [after, `img_${after}`, `image_${after}`]),
  ];
}

function masksInFolders(files: PathList): number[] {
  const candidates: { place: number; parts: string[]; level: number }[] = [];
  for (const [folder, places] of placesByFolder(files)) {
    const level = folder
      .toLowerCase()
      .split('/')
      .findLastIndex((part) => MASK_FOLDER.test(part));
    if (folder === '' || level < 0) continue;
    for (const place of places) candidates.push({ place, parts: stemOf(files.at(place) ?? '').split('/'), level });
  }
  if (candidates.length === 0) return [];
  const parents = new Set(candidates.map(({ parts, level }) => parts.slice(0, level).join('/')));
  // The folders below those parents, with their files: most folders have no masks beside them, and are not indexed.
  const holders = new Map<string, string[]>();
  for (const file of files) {
    const parts = stemOf(file).split('/');
    for (let level = 0; level < parts.length - 1; level += 1) {
      const parent = parts.slice(0, level).join('/');
      const folder = parts[level] ?? '';
      if (!parents.has(parent) || MASK_FOLDER.test(folder)) continue;
      const key = `${parent}\0${parts.slice(level + 1).join('/')}`;
      holders.set(key, [...(holders.get(key) ?? []), folder]);
    }
  }
  candidates.sort((a, b) => a.place - b.place);
  return candidates.flatMap(({ place, parts, level }) => {
    const inside = parts.slice(level + 1);
    const name = inside.at(-1) ?? '';
    const keys = [name, ...imagesNamedBy(name)].map(
      (each) => `${parts.slice(0, level).join('/')}\0${[...inside.slice(0, -1), each].join('/')}`,
    );
    const beside = keys.flatMap((key) => holders.get(key) ?? []);
    const isMask = CERTAIN_MASK_FOLDER.test(parts[level] ?? '')
      ? beside.length > 0
      : beside.some((folder) => IMAGE_FOLDER.test(folder));
    return isMask ? [place] : [];
  });
}
