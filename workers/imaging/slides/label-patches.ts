/** Gives the patches of a slide the labels of its annotations, by share of area. */
import type { AnnotationOptions } from '../../../src/protocol/slide-options.ts';
import type { Finding } from '../formats/image-header.ts';
import type { AnnotationFiles } from './annotation-files.ts';
import { selfCrossingOf, sharesOf, type PatchShares } from './annotated-area.ts';
import {
  ANNOTATION_BYTES_MAX,
  AnnotationsError,
  readAnnotations,
  type Annotations,
  type Region,
} from './annotations.ts';
import type { PatchPlace } from './patch-grid.ts';

export interface SlideToLabel {
  readonly relativePath: string;
  /** Of the CSV: the label of all patches of a slide without annotations. */
  readonly label: string | null;
  readonly places: readonly PatchPlace[];
  /** Of a patch, and of level 0, in pixels of level 0. */
  readonly patch: { readonly width: number; readonly height: number };
  readonly slide: { readonly width: number; readonly height: number };
}

export interface LabelledPatches {
  /** By label, in the order of the labels; null is last. Patches of two labels are in none. */
  readonly byLabel: ReadonlyMap<string | null, readonly PatchPlace[]>;
  readonly notices: readonly Finding[];
}

/** Where annotations are, and how they become labels. */
export interface AnnotationsToUse {
  readonly files: AnnotationFiles;
  readonly options: AnnotationOptions;
}

/** @param annotations null: they are not read, and all patches have the label of the slide. */
export async function labelPatches(
  slide: SlideToLabel,
  annotations: AnnotationsToUse | null,
): Promise<LabelledPatches> {
  const { places, label, relativePath } = slide;
  const all = { byLabel: new Map([[label, places]]), notices: [] };
  if (annotations === null) return all;
  const { folder } = annotations.files;
  const files = await annotations.files.of(relativePath);
  const [file] = files;
  if (file === undefined) return all;
  const unlabelled = (reason: string): LabelledPatches => ({
    byLabel: new Map([[null, places]]),
    notices: [{ issue: 'ANNOTATIONS_UNREADABLE', reason }],
  });
  if (files.length > 1) return unlabelled(`There are several: ${files.join(', ')}. Keep one.`);
  try {
    return labelsBy(await readFileOf(folder, file), slide, annotations.options);
  } catch (error) {
    if (error instanceof AnnotationsError) return unlabelled(`${file}: ${error.message}`);
    throw error;
  }
}

async function readFileOf(folder: AnnotationFiles['folder'], relativePath: string): Promise<Annotations> {
  await using file = await folder.openFile(relativePath);
  const { size } = await file.stat();
  if (size > ANNOTATION_BYTES_MAX)
    throw new AnnotationsError(`It has ${size} bytes, more than the ${ANNOTATION_BYTES_MAX} that are read.`);
  const bytes = Buffer.alloc(size);
  await file.read(bytes, 0, size, 0);
  return readAnnotations(bytes);
}

function labelsBy(
  { regions, leftOut }: Annotations,
  { places, patch, slide }: SlideToLabel,
  options: AnnotationOptions,
): LabelledPatches {
  const notices: Finding[] = leftOut.map((reason) => ({ issue: 'ANNOTATION_LEFT_OUT', reason }));
  const used = regions.filter((region) => {
    const reason = reasonAgainst(region, slide, options);
    if (reason !== null) notices.push({ issue: 'ANNOTATION_LEFT_OUT', reason });
    return reason === null;
  });
  for (const { rings, name } of used) {
    const crossing = rings.map(selfCrossingOf).find((place) => place !== null);
    if (crossing !== undefined)
      notices.push({
        issue: 'ANNOTATION_CROSSES_ITSELF',
        reason: `The ${name}, near ${crossing.x}, ${crossing.y}: what it encloses twice counts as outside.`,
      });
  }
  const found = new Map<string | null, PatchPlace[]>();
  for (const [index, shares] of sharesOf(used, places, patch).entries()) {
    const place = places[index];
    if (place === undefined) continue;
    const labels = labelsWith(shares, options);
    const [label = null, second] = labels;
    if (second !== undefined)
      notices.push({
        issue: 'ANNOTATIONS_DISAGREE',
        reason: `The patch at ${place.x}, ${place.y} in pixels of level 0: ${labels.join(', ')}.`,
      });
    else if (!found.has(label)) found.set(label, [place]);
    else found.get(label)?.push(place);
  }
  const sorted = [...found.keys()].sort((a, b) => (a === null ? 1 : b === null ? -1 : a < b ? -1 : 1));
  return { byLabel: new Map(sorted.map((label) => [label, found.get(label) ?? []])), notices };
}

/** Sums of 64 lines round. */
const ROUNDING = 1e-9;

function labelsWith({ byLabel, outside }: PatchShares, { shareMin, otherLabel }: AnnotationOptions): string[] {
  const labels = [...byLabel].flatMap(([label, share]) => (share >= shareMin - ROUNDING ? [label] : []));
  if (labels.length > 0) return labels.sort();
  return otherLabel !== null && outside >= shareMin - ROUNDING ? [otherLabel] : [];
}

function reasonAgainst(
  { label, rings, name }: Region,
  { width, height }: SlideToLabel['slide'],
  { classes }: AnnotationOptions,
): string | null {
  if (classes !== null && !classes.includes(label))
    return `The ${name} is of a class that is not among the given ones.`;
  const outline = rings[0] ?? new Float64Array(0);
  let [left, right, top, bottom] = [Infinity, -Infinity, Infinity, -Infinity];
  for (let at = 0; at < outline.length; at += 2) {
    const [x, y] = [outline[at] ?? 0, outline[at + 1] ?? 0];
    [left, right, top, bottom] = [Math.min(left, x), Math.max(right, x), Math.min(top, y), Math.max(bottom, y)];
  }
  return left >= width || right <= 0 || top >= height || bottom <= 0
    ? `The ${name} lies outside of the slide of ${width} x ${height} px.`
    : null;
}
