/** Plans an import of slides: looks at each slide once, and lists its patches in batches. */
import type { FileHandle } from 'node:fs/promises';
import { DomainError, UnreachableCaseError } from '../../../src/errors.ts';
import type { OpenFolder } from '../../../src/platform/open-folder.ts';
import type { SlideFacts } from '../../../src/protocol/slide-facts.ts';
import type { SlideOptions } from '../../../src/protocol/slide-options.ts';
import type { Finding } from '../formats/image-header.ts';
import { formatOf, MAGIC_BYTES } from '../formats/index.ts';
import { mapInOrder } from '../in-order.ts';
import type { IssueSink } from '../issues.ts';
import { listFiles, type PassedOver, type SourceImage } from '../listing.ts';
import { annotationsBeside, annotationsIn } from './annotation-files.ts';
import { describeSlides, slideFilesAmong, type FoundSlide } from './find-slides.ts';
import { isFineEnough, level0SizeOf } from './geometry.ts';
import { fileDigestOf, keptFactsOf, type PictureFolder, type PlannedSlide } from './imported-slides.ts';
import { labelPatches, type AnnotationsToUse } from './label-patches.ts';
import { inBlocks } from './patch-grid.ts';
import type { SlideBatch } from './read-batch.ts';
import { SlideReaderError, type SlideRefusal, type SlideSurvey } from './slide-process.ts';
import { PLACES_MAX } from './slide-protocol.ts';
import type { SlideReaders } from './slide-readers.ts';
import { readSlidesCsv } from './slides-csv.ts';

export interface SlidesToPlan {
  readonly folder: OpenFolder;
  /** Null: every slide is taken, without a label. The caller closes it. */
  readonly slidesCsv: FileHandle | null;
  readonly patchSizePx: number;
  readonly options: SlideOptions;
  readonly readers: SlideReaders;
  /** Null: annotations lie beside the slides. The caller closes it. */
  readonly annotationFolder: AnnotationFolder | null;
  /** For a version that keeps its slides. Null: a dry run, which neither keeps pictures nor digests files. */
  readonly pictures: PictureFolder | null;
  /** Called for each slide, in order; an error that it throws ends the import. */
  readonly onSlide: (done: number, slideCount: number) => Promise<void>;
}

export interface AnnotationFolder {
  readonly folder: OpenFolder;
  /** Relative to the folder of the slides; null if it lies elsewhere. */
  readonly below: string | null;
}

export interface PlannedSlides {
  /** Batches of patches, slide by slide in the order of their paths. */
  readonly sources: readonly SourceImage[];
  readonly isLabelled: boolean;
  /** Every slide of the folder, by its path. */
  readonly slides: readonly PlannedSlide[];
  /** What each slide is and gives. */
  readonly notes: readonly string[];
  readonly passedOver: readonly PassedOver[];
}

/** Slides that are described one by one in the report. */
const NOTES_MAX = 500;
/** Of the pixels of a batch, so that a few batches of large patches fit in the memory of an import. */
const BATCH_BYTES_MAX = 64 * 1024 * 1024;

/** @throws DomainError IMPORT_FOLDER_EMPTY, LABELS_CSV_INVALID. */
export async function planSlides(
  { folder, slidesCsv, patchSizePx, options, readers, annotationFolder, pictures, onSlide }: SlidesToPlan,
  issues: IssueSink,
): Promise<PlannedSlides> {
  const rows = slidesCsv === null ? null : await readSlidesCsv(slidesCsv);
  const listing = await listFiles(folder, issues);
  const expected = {
    areBeside: options.annotations !== null && annotationFolder === null,
    below: annotationFolder?.below ?? null,
  };
  const slideFiles = slideFilesAmong([...listing.files], expected, issues);
  if (slideFiles.length === 0)
    throw new DomainError({
      code: 'IMPORT_FOLDER_EMPTY',
      message: 'The folder holds no slides.',
      field: 'input.path',
      hint: 'Put SVS, NDPI, MRXS, SCN, VMS, BIF, CZI, DICOM or pyramidal TIFF files there; for images use another layout.',
    });
  const slides = describeSlides(slideFiles, rows, issues);
  const annotations = annotationsOf(options, folder, annotationFolder, slideFiles);
  const annotationNotes = await notesOnAnnotations(annotations, annotationFolder, slideFiles);
  const isLabelled = options.annotations !== null || slides.some(({ label }) => label !== null);
  const sources: SourceImage[] = [];
  const notes: string[] = [];
  const surveyed = new Map<string, PlannedSlide>();
  let done = 0;
  const limits = { windowSize: readers.processCount, shared: {} };
  const look = async (slide: FoundSlide) => {
    // Its process looks for tissue while this one reads the file.
    const digested = pictures === null ? null : fileDigestOf(folder, slide.relativePath);
    const { survey, ...found } = await surveyOf(folder, slide, patchSizePx, options, readers, annotations);
    const tissue =
      survey === null || pictures === null
        ? null
        : {
            ...{ tissueFraction: survey.tissueFraction, penFraction: survey.penFraction },
            pictures: await pictures.keep(survey.pictures),
          };
    return { ...found, slide, tissue, file: await digested };
  };
  for await (const { slide, finding, notices, batches, note, facts, tissue, file } of mapInOrder(
    slides,
    limits,
    look,
  )) {
    if (finding !== null) issues.add(finding.issue, slide.relativePath, reasonIn(finding));
    for (const notice of notices) issues.add(notice.issue, slide.relativePath, reasonIn(notice));
    if (isLabelled && batches.some(({ label }) => label === null)) issues.add('LABEL_MISSING', slide.relativePath);
    const { relativePath, group, split } = slide;
    for (const { label, batch } of batches) sources.push({ relativePath, label, group, split, slide: batch });
    if (note !== null) notes.push(note);
    surveyed.set(relativePath, {
      ...{ path: relativePath, label: slide.label, group, split, file, facts, tissue },
      leftOut: finding === null ? null : { issueKind: finding.issue, reason: finding.reason ?? null },
      plannedPatchCount: batches.reduce((sum, { batch }) => sum + batch.places.length, 0),
    });
    done += 1;
    await onSlide(done, slides.length);
  }
  const [shown, hiddenCount] = [notes.slice(0, NOTES_MAX), Math.max(0, notes.length - NOTES_MAX)];
  return {
    ...{ sources, isLabelled, passedOver: listing.passedOver },
    slides: slideFiles.map((file) => surveyed.get(file) ?? notDescribed(file)),
    notes: [
      `${notes.length} of ${slideFiles.length} slides give patches of ${patchSizePx} px at ${options.micronsPerPixel} um/px.`,
      ...annotationNotes,
      ...shown,
      ...(hiddenCount === 0 ? [] : [`And ${hiddenCount} more slides.`]),
    ],
  };
}

function annotationsOf(
  { annotations: options }: SlideOptions,
  folder: OpenFolder,
  annotationFolder: AnnotationFolder | null,
  slideFiles: readonly string[],
): AnnotationsToUse | null {
  if (options === null) return null;
  const files =
    annotationFolder === null ? annotationsBeside(folder) : annotationsIn(annotationFolder.folder, slideFiles);
  return { files, options };
}

/**
 * How many slides have annotations, before hours are spent on reading them.
 * @throws DomainError IMPORT_FOLDER_EMPTY for a folder of annotations in which no file has the name of a slide.
 */
async function notesOnAnnotations(
  annotations: AnnotationsToUse | null,
  annotationFolder: AnnotationFolder | null,
  slideFiles: readonly string[],
): Promise<string[]> {
  if (annotations === null) return [];
  let count = 0;
  for (const file of slideFiles) if ((await annotations.files.of(file)).length > 0) count += 1;
  if (count === 0 && annotationFolder !== null)
    throw new DomainError({
      code: 'IMPORT_FOLDER_EMPTY',
      message: 'No file of the folder of annotations has the name of a slide.',
      field: 'input.slides.annotations.path',
      hint: 'The annotations of S1.svs are S1.geojson, S1.json or S1.xml, in the folder itself or in the subfolder that the slide is in.',
    });
  return [`${count} of ${slideFiles.length} slides have annotations.`];
}

/** A slide that the CSV does not name, or that it names together with another one. */
function notDescribed(path: string): PlannedSlide {
  return {
    ...{ path, label: null, group: null, split: null, file: null, facts: null, tissue: null, plannedPatchCount: 0 },
    leftOut: { issueKind: null, reason: 'The CSV has no line that names this slide and no other one.' },
  };
}

interface Surveyed {
  /** Why the slide gives no patches; null if it gives some. */
  readonly finding: Finding | null;
  readonly notices: readonly Finding[];
  readonly batches: readonly { readonly label: string | null; readonly batch: SlideBatch }[];
  readonly note: string | null;
  /** Null for a slide that cannot be opened. */
  readonly facts: PlannedSlide['facts'];
  /** Null if tissue was not looked for. */
  readonly survey: SlideSurvey | null;
}

function without(finding: Finding, facts: PlannedSlide['facts'], survey: SlideSurvey | null): Surveyed {
  return { finding, notices: [], batches: [], note: null, facts, survey };
}

async function surveyOf(
  folder: OpenFolder,
  { relativePath, label, givenMicronsPerPixel }: FoundSlide,
  patchSizePx: number,
  options: SlideOptions,
  readers: SlideReaders,
  annotations: AnnotationsToUse | null,
): Promise<Surveyed> {
  const file = { folder, relativePath, givenMicronsPerPixel };
  const isUsable = ({ micronsPerPixel, levels }: SlideFacts): boolean =>
    micronsPerPixel.outcome === 'FOUND' && isFineEnough({ levels, micronsPerPixel }, options.micronsPerPixel);
  try {
    const { facts, survey } = await readers.survey(file, patchSizePx, options, isUsable);
    const { micronsPerPixel, levels } = facts;
    const kept = keptFactsOf(facts);
    if (micronsPerPixel.outcome === 'REFUSED')
      return without({ issue: 'MICRONS_PER_PIXEL_UNKNOWN', reason: micronsPerPixel.reason }, kept, null);
    const { x, y, property, disagreesWithObjective } = micronsPerPixel;
    if (survey === null)
      return without(
        {
          issue: 'SLIDE_TOO_COARSE',
          reason: `Its finest level has ${rounded(x)} um/px; patches were asked for at ${options.micronsPerPixel}.`,
        },
        kept,
        null,
      );
    const percent = (share: number): string => `${Number((share * 100).toPrecision(2))} %`;
    if (survey.places.length === 0)
      return without(
        {
          issue: 'NO_TISSUE',
          reason: `${percent(survey.tissueFraction)} of the slide is tissue, ${percent(survey.penFraction)} pen, and no patch has enough.`,
        },
        kept,
        survey,
      );
    const { stain } = survey;
    if (stain === null && options.stainNormalisation !== 'NONE')
      return without(
        {
          issue: 'STAIN_NOT_FOUND',
          reason: `Its patches show too little for ${options.stainNormalisation}: too few pixels of tissue, or one colour.`,
        },
        kept,
        survey,
      );
    const size = level0SizeOf({ levels, micronsPerPixel }, { ...options, patchSizePx });
    const [level0] = levels;
    const patch = { width: Math.round(size.width), height: Math.round(size.height) };
    const whole = { width: level0?.width ?? 0, height: level0?.height ?? 0 };
    const { byLabel, notices } = await labelPatches(
      { relativePath, label, places: survey.places, patch, slide: whole },
      annotations,
    );
    const batches: Surveyed['batches'][number][] = [];
    const batchSize = Math.max(1, Math.min(PLACES_MAX, Math.floor(BATCH_BYTES_MAX / (patchSizePx * patchSizePx * 3))));
    const step = level0SizeOf(
      { levels, micronsPerPixel },
      { ...options, patchSizePx: patchSizePx - options.overlapPx },
    );
    for (const [ofPatches, rowByRow] of byLabel) {
      const places = inBlocks(rowByRow, step);
      for (let first = 0; first < places.length; first += batchSize)
        batches.push({
          label: ofPatches,
          batch: {
            ...{ givenMicronsPerPixel, stain, level0: patch, slide: whole },
            places: places.slice(first, first + batchSize),
          },
        });
    }
    const from = property ?? 'the CSV';
    return {
      finding: null,
      notices: [
        ...notices,
        ...(disagreesWithObjective
          ? [
              {
                issue: 'OBJECTIVE_DISAGREES' as const,
                reason: `${rounded(x)} um/px from ${from}, objective ${facts.objective ?? 0}x.`,
              },
            ]
          : []),
      ],
      ...{ batches, facts: kept, survey },
      note: `${relativePath}: ${survey.places.length} patches, ${percent(survey.tissueFraction)} tissue, ${rounded(x)} um/px${rounded(x) === rounded(y) ? '' : ` across and ${rounded(y)} down`} from ${from}.`,
    };
  } catch (error) {
    if (!(error instanceof SlideReaderError)) throw error;
    return without(await findingOf(error.refusal, folder, relativePath), null, null);
  }
}

async function findingOf({ code, reason }: SlideRefusal, folder: OpenFolder, relativePath: string): Promise<Finding> {
  switch (code) {
    case 'NOT_A_SLIDE':
      return { issue: 'NOT_A_SLIDE', reason: `${reason} ${await whatItIs(folder, relativePath)}`.trim() };
    case 'UNREADABLE':
    case 'REGION_UNREADABLE':
      return { issue: 'SLIDE_UNREADABLE', reason };
    case 'READER_FAILED':
      return { issue: 'SLIDE_READER_FAILED', reason };
    default:
      throw new UnreachableCaseError(code);
  }
}

const READABLE_BY_OTHERS = 0o004;

async function whatItIs(folder: OpenFolder, relativePath: string): Promise<string> {
  if (/\.mrxs$/i.test(relativePath)) return 'An .mrxs needs the folder of the same name beside it.';
  try {
    await using file = await folder.openFile(relativePath);
    const { mode, size } = await file.stat();
    if (process.getuid?.() === 0 && (mode & READABLE_BY_OTHERS) === 0)
      return 'The reader runs without the rights of root: allow others to read the file (chmod o+r).';
    if (size === 0) return 'It is empty.';
    const start = Buffer.alloc(MAGIC_BYTES);
    await file.read(start, 0, start.length, 0);
    const format = formatOf(start);
    return format === undefined || format === 'TIFF' ? '' : `It is a ${format} by its first bytes.`;
  } catch {
    return 'It cannot be opened.';
  }
}

function reasonIn({ reason }: Finding): { readonly reason?: string } {
  return reason === undefined ? {} : { reason };
}

function rounded(value: number): number {
  return Number(value.toPrecision(4));
}
