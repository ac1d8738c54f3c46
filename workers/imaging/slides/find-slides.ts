/** Which files of a folder are slides, and what a CSV says about them. Pure but for the issues that it adds. */
import type { IssueSink } from '../issues.ts';
import { compareCodePoints } from '../listing.ts';
import { parentOf } from '../path-list.ts';
import { tcgaPatientOf } from '../tcga.ts';
import type { SlideRow } from './slides-csv.ts';

export interface FoundSlide {
  /** Of its file; of the first file of a DICOM series. */
  readonly relativePath: string;
  readonly label: string | null;
  /** The patient if known, otherwise the slide: patches of one slide never count as independent. */
  readonly group: string;
  readonly split: string | null;
  readonly givenMicronsPerPixel: number | null;
}

const SLIDE_NAME = /\.(svs|svslide|ndpi|mrxs|scn|vms|vmu|bif|tiff?|czi|avs|dcm)$/i;
/** As CLAM, TRIDENT and others name coordinates and features. */
const FEATURES_NAME = /\.(h5|hdf5|pt)$/i;
/** Their other files lie beside them, as images. */
const WITH_COMPANIONS = /\.(vms|vmu)$/i;

/** Where annotations are expected among the files of an import. */
export interface ExpectedAnnotations {
  /** Whether those beside a slide are read. */
  readonly areBeside: boolean;
  /** The folder of annotations, relative to that of the slides; null if it lies elsewhere, or if there is none. */
  readonly below: string | null;
}

/**
 * A slide's own further files are left alone: the folder of an .mrxs, the images of a .vms, the other files of a DICOM
 * folder. Any other file is an issue.
 * @param files sorted, as `listFiles` gives them.
 * @param annotations which GeoJSON is not an issue; XML and JSON are passed over by the listing.
 * @returns sorted by path.
 */
export function slideFilesAmong(
  files: readonly string[],
  annotations: ExpectedAnnotations,
  issues: IssueSink,
): string[] {
  const slides = files.filter((file) => SLIDE_NAME.test(file));
  const companionFolders = new Set(
    slides.flatMap((file) => (/\.mrxs$/i.test(file) ? [file.slice(0, file.lastIndexOf('.'))] : [])),
  );
  const foldersWithCompanions = new Set(slides.flatMap((file) => (WITH_COMPANIONS.test(file) ? [parentOf(file)] : [])));
  const foldersOfDicom = new Set<string>();
  return files.filter((file) => {
    const folder = parentOf(file);
    if (companionFolders.has(folder)) return false;
    if (!SLIDE_NAME.test(file)) {
      if (/\.geojson$/i.test(file)) {
        if (annotations.below !== null && file.startsWith(`${annotations.below}/`)) return false;
        if (!annotations.areBeside)
          issues.add('NOT_A_SLIDE', file, { reason: 'It holds annotations, which were not asked for.' });
        else if (!isBeside(file, slides))
          issues.add('NOT_A_SLIDE', file, { reason: 'It holds annotations, and no slide of its name lies beside it.' });
      } else if (FEATURES_NAME.test(file)) issues.add('FEATURES_FILE', file);
      else if (!foldersWithCompanions.has(folder))
        issues.add('NOT_A_SLIDE', file, { reason: 'Its name is not that of a slide, such as .svs, .ndpi or .tiff.' });
      return false;
    }
    if (!/\.dcm$/i.test(file)) return true;
    if (foldersOfDicom.has(folder)) return false;
    foldersOfDicom.add(folder);
    return true;
  });
}

function isBeside(annotations: string, slides: readonly string[]): boolean {
  const name = annotations.replace(/\.[^.]+$/, '');
  return slides.some((slide) => slide === name || slide.replace(SLIDE_NAME, '') === name);
}

/** @param rows of the CSV; null: there is none, and every slide is taken, without a label. */
export function describeSlides(
  slideFiles: readonly string[],
  rows: readonly SlideRow[] | null,
  issues: IssueSink,
): FoundSlide[] {
  if (rows === null)
    return slideFiles.map((relativePath) => ({
      ...{ relativePath, label: null, split: null, givenMicronsPerPixel: null },
      group: tcgaPatientOf(relativePath) ?? relativePath,
    }));
  const byName = Map.groupBy(
    slideFiles.flatMap((file) => namesOf(file).map((name) => ({ name, file }))),
    ({ name }) => name,
  );
  const rowOf = new Map<string, SlideRow>();
  const ambiguous = new Set<string>();
  for (const row of rows) {
    const candidates = byName.get(row.slide.normalize('NFC').replace(/^\.\//, '')) ?? [];
    const [first, second] = candidates;
    if (first === undefined) {
      issues.add('SLIDE_NOT_FOUND', row.slide);
      continue;
    }
    if (second !== undefined || rowOf.has(first.file)) {
      const reason = `${JSON.stringify(row.slide)} names more than one slide or line.`;
      for (const { file } of candidates) {
        if (!ambiguous.has(file)) issues.add('SLIDE_NAME_AMBIGUOUS', file, { reason });
        ambiguous.add(file);
      }
      continue;
    }
    rowOf.set(first.file, row);
  }
  return slideFiles
    .flatMap((relativePath): FoundSlide[] => {
      if (ambiguous.has(relativePath)) return [];
      const row = rowOf.get(relativePath);
      if (row === undefined) {
        issues.add('SLIDE_NOT_IN_CSV', relativePath);
        return [];
      }
      const { label, split, patient, micronsPerPixel: givenMicronsPerPixel } = row;
      const group = patient ?? tcgaPatientOf(relativePath) ?? relativePath;
      return [{ relativePath, label, split, group, givenMicronsPerPixel }];
    })
    .sort((a, b) => compareCodePoints(a.relativePath, b.relativePath));
}

/** The path, the file name, and both without the extension. */
function namesOf(file: string): readonly string[] {
  const whole = file.normalize('NFC');
  const name = whole.slice(whole.lastIndexOf('/') + 1);
  const withoutExtension = (text: string): string => text.replace(SLIDE_NAME, '');
  return [...new Set([whole, name, withoutExtension(whole), withoutExtension(name)])];
}
