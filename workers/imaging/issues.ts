/**
 * Issues of an import. For each kind: the count, whether the images were kept, what the kind means, and a few examples.
 * In full: a CSV of every issue with its reason, sorted by kind, so that one page of a kind is one read.
 */
import { appendFileSync, createReadStream } from 'node:fs';
import path from 'node:path';
import { FOREIGN_KINDS } from './formats/foreign-formats.ts';
import { csvField } from '../../src/formats/csv.ts';
import type { ArtifactStore, StoredBytes } from '../../src/platform/artifact-store/index.ts';

interface KindOfIssue {
  /** True if the images are in the version nonetheless. */
  readonly kept: boolean;
  /** What it is and what to do, for a reader who sees it for the first time. */
  readonly meaning: string;
}

/** In the order in which they are listed. */
export const ISSUE_KINDS = {
  NOT_AN_IMAGE: {
    kept: false,
    meaning: 'Not an image by its first bytes. Remove it, or export it as PNG, JPEG, TIFF, WebP or BMP.',
  },
  ...FOREIGN_KINDS,
  NOT_A_REGULAR_FILE: {
    kept: false,
    meaning: 'A symbolic link, a device or a socket, which is never followed. Copy the file itself into the folder.',
  },
  NAME_NOT_UTF8: {
    kept: false,
    meaning: 'A file whose name is not UTF-8, so that it cannot be opened by its name. Rename it.',
  },
  MASK: {
    kept: false,
    meaning: 'An annotation of another image, by its name or by its pixels. Only images are imported.',
  },
  MASKS_AMONG_IMAGES: {
    kept: true,
    meaning:
      'Files that look like annotations, without the images that they annotate. Move them out of the folder, or accept them if they are the images.',
  },
  NO_LABEL: {
    kept: false,
    meaning:
      'An image outside every label folder, or in one whose name is a missing value. Move it into the folder of its label.',
  },
  LABEL_MISSING: {
    kept: true,
    meaning: 'The labels CSV gives no label, or a missing value such as NA. Evaluations leave the image out.',
  },
  EMPTY_LABEL_FOLDER: {
    kept: false,
    meaning: 'A folder beside the label folders that contains no image.',
  },
  UNREADABLE: {
    kept: false,
    meaning: 'Damaged: it does not decode without an error. Copy or download it again.',
  },
  TRUNCATED: {
    kept: false,
    meaning: 'The file ends before the image does. Copy or download it again.',
  },
  TOO_LARGE: {
    kept: false,
    meaning: 'More pixels or bytes than an import reads. Cut it into patches (patchSizePx) or smaller files.',
  },
  DECODER_FAILED: {
    kept: false,
    meaning:
      'The process that decodes images crashed on it, or took too long. Convert it to PNG with a program that opens it.',
  },
  COMPRESSION_NOT_READ: {
    kept: false,
    meaning: 'An image whose compression is not read. Save it uncompressed or with LZW, Deflate or JPEG.',
  },
  SAMPLE_FORMAT_NOT_READ: {
    kept: false,
    meaning: 'Samples of a size or kind that is not read. Convert them to 8 bits, or to 16 unsigned.',
  },
  COLOUR_SPACE_NOT_READ: {
    kept: false,
    meaning: 'Colours in a space that is not read. Convert the image to RGB.',
  },
  RANGE_NOT_STATED: {
    kept: false,
    meaning:
      'Samples whose value for white is not stated in the file. Convert them to 8 bits, or import 16-bit samples with sampleBits.',
  },
  SEPARATE_CHANNELS: {
    kept: false,
    meaning: 'Channels of one picture that are stored as separate grey pages. Merge them to RGB first.',
  },
  NOT_A_SLIDE: {
    kept: false,
    meaning:
      'Not a whole slide that OpenSlide reads: another format, a slide without its companion files, or a damaged file.',
  },
  FEATURES_FILE: {
    kept: false,
    meaning:
      'Coordinates or features of another tool, such as CLAM or TRIDENT. They state pixels of a level or a magnification but no um/px, so they are not used: patches are cut anew from the slides.',
  },
  SLIDE_UNREADABLE: {
    kept: false,
    meaning: 'A slide that cannot be read: truncated, damaged, or without the coarser levels of a pyramid.',
  },
  SLIDE_READER_FAILED: {
    kept: false,
    meaning: 'The process that reads the slide crashed on it twice, or took too long. Convert it to a pyramidal TIFF.',
  },
  MICRONS_PER_PIXEL_UNKNOWN: {
    kept: false,
    meaning:
      'A slide whose microns per pixel are not stated, or make no sense. They are never guessed: give them in the column micronsPerPixel of the CSV.',
  },
  SLIDE_TOO_COARSE: {
    kept: false,
    meaning: 'A slide whose finest level is coarser than the patches that were asked for. Ask for more um/px.',
  },
  NO_TISSUE: {
    kept: false,
    meaning: 'A slide on which no patch has enough tissue. If it has, lower tissueShareMin, or look for pen marks.',
  },
  ANNOTATIONS_UNREADABLE: {
    kept: true,
    meaning: 'A file of annotations that cannot be read, so that the patches of its slide have no label.',
  },
  ANNOTATION_LEFT_OUT: {
    kept: true,
    meaning: 'An annotation that gives no patch a label: not a polygon, without a class, or outside of the slide.',
  },
  ANNOTATION_CROSSES_ITSELF: {
    kept: true,
    meaning:
      'A polygon whose outline crosses itself. What it encloses twice counts as outside; correct it if that matters.',
  },
  ANNOTATIONS_DISAGREE: {
    kept: false,
    meaning: 'Patches of which annotations of two classes cover enough. Raise the share, or correct the annotations.',
  },
  STAIN_NOT_FOUND: {
    kept: false,
    meaning: 'A slide whose stain cannot be estimated. Import it without stain normalisation.',
  },
  SLIDE_NOT_FOUND: {
    kept: false,
    meaning: 'A line of the CSV whose slide is not in the folder.',
  },
  SLIDE_NOT_IN_CSV: {
    kept: false,
    meaning: 'A slide in the folder that the CSV does not name.',
  },
  SLIDE_NAME_AMBIGUOUS: {
    kept: false,
    meaning: 'Slides of one name, of which the CSV may mean any. Write their paths in the CSV.',
  },
  REGION_UNREADABLE: {
    kept: false,
    meaning: 'Patches that cannot be read, because a part of the slide is damaged; the rest of the slide is used.',
  },
  PEN_MARK: {
    kept: false,
    meaning: 'Patches with pen on them. Raise penShareMax if it is a stain, such as methyl green.',
  },
  OUT_OF_FOCUS: {
    kept: false,
    meaning: 'Patches without fine detail. Lower sharpnessMin if they are sharp.',
  },
  OBJECTIVE_DISAGREES: {
    kept: true,
    meaning:
      'A slide whose microns per pixel are not those that its objective usually has. Check them; the CSV can override them.',
  },
  SMALLER_THAN_PATCH: {
    kept: false,
    meaning: 'A side is shorter than patchSizePx, so no patch can be cut from the image.',
  },
  DUPLICATE: {
    kept: false,
    meaning: 'The same pixels as an earlier image, which is kept.',
  },
  LABEL_WITHOUT_IMAGES: {
    kept: false,
    meaning: "None of the label's files could be imported, so the version does not have it.",
  },
  PAGES_LEFT_OUT: {
    kept: true,
    meaning: 'Files of several pages or frames, of which one is imported.',
  },
  CHANNELS_LEFT_OUT: {
    kept: true,
    meaning: 'Images with further channels that are not alpha, of which the colour is imported.',
  },
  HALF_RANGE_UNUSED: {
    kept: true,
    meaning:
      '16-bit samples that never pass the middle of their range, taken as 16 bits, as the file states. If they hold 15 bits, import them with sampleBits.',
  },
  PROFILE_NOT_APPLIED: {
    kept: true,
    meaning: 'A colour profile that is damaged or made for other colours: the values are taken as sRGB.',
  },
  REPAIRED: {
    kept: true,
    meaning: 'Files with a fault that every viewer tolerates; they are stored without it.',
  },
  LABEL_CONFLICT: {
    kept: false,
    meaning:
      'The same pixels under two labels. Both images are left out: remove the wrong one, or keep both with keepConflicts.',
  },
  SPLIT_CONFLICT: {
    kept: false,
    meaning: 'The same pixels in two splits. Both images are left out: remove one, or keep both with keepConflicts.',
  },
  GROUP_CONFLICT: {
    kept: false,
    meaning:
      'The same pixels under two patients or slides. Both images are left out: remove the wrong one, or keep both with keepConflicts.',
  },
  BLANK_DUPLICATE: {
    kept: true,
    meaning: 'The same pixels as an earlier image, with hardly any tissue: empty glass looks alike under every label.',
  },
  NEARLY_BLANK: {
    kept: true,
    meaning: 'Hardly any tissue. Whole images are kept, because they may be a background class.',
  },
  NO_GROUPS: {
    kept: true,
    meaning:
      'The patient or slide of the image is not known, so that images of one patient may be in training and test, which makes scores too high and their intervals too narrow. Give a group column or groupLevel.',
  },
  GROUPS_LOOK_ALIKE: {
    kept: true,
    meaning: 'Groups that differ only in case, spaces or how a number is written: one patient may count as two.',
  },
  LABELS_LOOK_ALIKE: {
    kept: true,
    meaning:
      'Labels that differ only in case, accents, spaces, look-alike letters or how a number is written. Give them one spelling if they mean the same.',
  },
  LABEL_LISTS: {
    kept: true,
    meaning:
      'A label that is a list with another label in it, and counts as a separate label. Give each image one label.',
  },
  LABELS_MAY_BE_DEEPER: {
    kept: true,
    meaning:
      'No image lies directly in a label folder, only in folders within them. If those are the labels, set labelLevel to 2; if they are patients or slides, set groupLevel to 2.',
  },
  SPLITS_AMONG_LABELS: {
    kept: true,
    meaning:
      'A label folder with the name of a split, beside others without one. Put the label folders into train, validation and test folders.',
  },
  NOT_EVALUABLE: {
    kept: true,
    meaning: 'No protocol can evaluate an encoder on these labels and groups.',
  },
  FEWER_THAN_BEFORE: {
    kept: true,
    meaning: 'The previous version had labels, groups or images that this one lacks.',
  },
  GROUP_ACROSS_SPLITS: {
    kept: true,
    meaning: 'A group (patient, slide) with images in more than one split, which makes scores too high.',
  },
} as const satisfies Readonly<Record<string, KindOfIssue>>;
export type IssueKind = keyof typeof ISSUE_KINDS;

/** Issues about one picture under two labels, splits or groups. */
const CONFLICTS: ReadonlySet<IssueKind> = new Set(['LABEL_CONFLICT', 'SPLIT_CONFLICT', 'GROUP_CONFLICT']);
const KEPT_CONFLICT_MEANING =
  'The same pixels under two labels, splits or groups, kept under both as keepConflicts asks.';
const BLANK_PATCHES_MEANING = 'Patches with hardly any tissue, which are left out.';

export interface ImportIssue {
  readonly kind: IssueKind;
  /** The number of files or, if images are cut, patches; of groups for GROUP_ACROSS_SPLITS. */
  readonly count: number;
  /** True if the images are in the version nonetheless. */
  readonly kept: boolean;
  readonly meaning: string;
  /** Up to five paths relative to the imported folder (names of groups for GROUP_ACROSS_SPLITS). */
  readonly examples: readonly string[];
  /** The range of this kind's entries in the complete CSV. */
  readonly entries: EntryRange;
}

/** The lines of one kind in the CSV. */
export interface EntryRange {
  readonly count: number;
  readonly firstByte: number;
  readonly byteSize: number;
}

/** Details of one file (or group). */
export interface IssueDetails {
  /** The number of patches of the file; default 1. */
  readonly count?: number;
  /** The fault of this file; default: the meaning of its kind. */
  readonly reason?: string;
  /** The other file that the issue concerns, such as the original of a duplicate. */
  readonly relatedPath?: string;
}

/** The columns of the CSV. */
export const ISSUE_COLUMNS = ['kind', 'path', 'count', 'kept', 'reason', 'relatedPath'] as const;

const EXAMPLES_MAX = 5;
/** Lines of one kind are buffered up to this many characters before they are written. */
const WAITING_LENGTH_MAX = 64 * 1024;

export interface IssueLog {
  /** @param subject the path relative to the imported folder, or the name of the group. */
  add(kind: IssueKind, subject: string, details?: IssueDetails): void;
  countOf(kind: IssueKind): number;
  /** In the order of ISSUE_KINDS, only those that occurred. */
  list(): ImportIssue[];
  /** The CSV of all entries (RFC 4180, UTF-8, with a header); null where nothing was found. */
  store(artifacts: Pick<ArtifactStore, 'put'>): Promise<StoredBytes | null>;
}

export type IssueSink = Pick<IssueLog, 'add'>;

/** Issues that are known before the first image is read. */
export interface RecordedIssues extends IssueSink {
  replay(sink: IssueSink): void;
}

export function recordIssues(): RecordedIssues {
  const recorded: Parameters<IssueSink['add']>[] = [];
  return {
    add: (...issue) => void recorded.push(issue),
    replay: (sink) => {
      for (const issue of recorded) sink.add(...issue);
    },
  };
}

export interface IssueLogOptions {
  /** Whether nearly blank images are left out. */
  readonly cutsPatches: boolean;
  /** Whether an image under two labels, splits or groups stays under both. */
  readonly keepConflicts: boolean;
  /** A private folder, because a million entries do not fit in memory. */
  readonly workDir: string;
}

interface Found {
  count: number;
  readonly examples: string[];
  entryCount: number;
  byteSize: number;
  waiting: string;
  isOnDisk: boolean;
}

export function createIssueLog({ cutsPatches, keepConflicts, workDir }: IssueLogOptions): IssueLog {
  const found = new Map<IssueKind, Found>();
  const traitsOf = (kind: IssueKind): KindOfIssue => {
    if (kind === 'NEARLY_BLANK' && cutsPatches) return { kept: false, meaning: BLANK_PATCHES_MEANING };
    return keepConflicts && CONFLICTS.has(kind) ? { kept: true, meaning: KEPT_CONFLICT_MEANING } : ISSUE_KINDS[kind];
  };
  const fileOf = (kind: IssueKind): string => path.join(workDir, `issues-${kind}.csv`);
  const entryOf = (kind: IssueKind): Found => {
    const known = found.get(kind);
    if (known !== undefined) return known;
    const newEntry = { count: 0, examples: [], entryCount: 0, byteSize: 0, waiting: '', isOnDisk: false };
    found.set(kind, newEntry);
    return newEntry;
  };
  const inOrder = (): [IssueKind, Found][] => {
    const kinds: readonly IssueKind[] = typedKeys(ISSUE_KINDS);
    return kinds.flatMap((kind) => {
      const entry = found.get(kind);
      return entry === undefined ? [] : [[kind, entry]];
    });
  };

  return {
    add: (kind, subject, { count = 1, reason, relatedPath } = {}) => {
      const { kept, meaning } = traitsOf(kind);
      const entry = entryOf(kind);
      entry.count += count;
      entry.entryCount += 1;
      if (entry.examples.length < EXAMPLES_MAX && !entry.examples.includes(subject)) entry.examples.push(subject);
      const line = csvLine([kind, subject, String(count), String(kept), reason ?? meaning, relatedPath ?? '']);
      entry.byteSize += Buffer.byteLength(line);
      entry.waiting += line;
      if (entry.waiting.length < WAITING_LENGTH_MAX) return;
      appendFileSync(fileOf(kind), entry.waiting);
      entry.waiting = '';
      entry.isOnDisk = true;
    },
    countOf: (kind) => found.get(kind)?.count ?? 0,
    list: () => {
      let firstByte = Buffer.byteLength(csvLine(ISSUE_COLUMNS));
      return inOrder().map(([kind, { count, examples, entryCount, byteSize }]) => {
        const entries = { count: entryCount, firstByte, byteSize };
        firstByte += byteSize;
        return { kind, count, ...traitsOf(kind), examples: [...examples], entries };
      });
    },
    store: async (artifacts) => {
      if (found.size === 0) return null;
      async function* lines(): AsyncGenerator<Buffer> {
        yield Buffer.from(csvLine(ISSUE_COLUMNS));
        for (const [kind, { waiting, isOnDisk }] of inOrder()) {
          if (isOnDisk) yield* createReadStream(fileOf(kind));
          yield Buffer.from(waiting);
        }
      }
      return artifacts.put(lines());
    },
  };
}

function typedKeys<Key extends string>(record: Readonly<Record<Key, unknown>>): Key[] {
  const keys: Key[] = [];
  for (const key in record) keys.push(key);
  return keys;
}

function csvLine(fields: readonly string[]): string {
  return `${fields.map(csvField).join(',')}\r\n`;
}
