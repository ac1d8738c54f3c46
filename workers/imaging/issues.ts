/** What an import found wrong, by kind, with counts and a few examples. */

export const ISSUE_KINDS = [
  /** Not a picture by its first bytes, and not a well-known side file. */
  'NOT_AN_IMAGE',
  /** A symbolic link, a device, a socket. */
  'NOT_A_REGULAR_FILE',
  /** An image outside every label's folder. */
  'NO_LABEL',
  /** Damaged, or a variant that is not read. */
  'UNREADABLE',
  /** The file ends before the image does. */
  'TRUNCATED',
  /** More pixels or bytes than an import reads. */
  'TOO_LARGE',
  /** A side below 32 px. */
  'SMALLER_THAN_MINIMUM',
  /** A side below patchSizePx. */
  'SMALLER_THAN_PATCH',
  /** The same pixels as an earlier image. */
  'DUPLICATE',
  /** Hardly any tissue. Cut patches are left out; whole images are kept, as a class of background may be meant. */
  'NEARLY_BLANK',
  /** A group (patient, slide) with images in more than one split: results on that split would flatter. */
  'GROUP_ACROSS_SPLITS',
] as const;
export type IssueKind = (typeof ISSUE_KINDS)[number];

export interface ImportIssue {
  readonly kind: IssueKind;
  /** Files or, where images are cut, patches; groups for GROUP_ACROSS_SPLITS. */
  readonly count: number;
  /** True: the images are in the version all the same. */
  readonly kept: boolean;
  /** Up to five paths relative to the imported folder (names of groups for GROUP_ACROSS_SPLITS). */
  readonly examples: readonly string[];
}

const EXAMPLES_MAX = 5;

export interface IssueLog {
  add(kind: IssueKind, example: string, count?: number): void;
  countOf(kind: IssueKind): number;
  /** In the order of ISSUE_KINDS, only those that occurred. */
  list(): ImportIssue[];
}

/** @param cutsPatches whether nearly blank images are left out. */
export function createIssueLog(cutsPatches: boolean): IssueLog {
  const found = new Map<IssueKind, { count: number; examples: string[] }>();
  const isKept = (kind: IssueKind): boolean =>
    kind === 'GROUP_ACROSS_SPLITS' || (kind === 'NEARLY_BLANK' && !cutsPatches);
  return {
    add: (kind, example, count = 1) => {
      const entry = found.get(kind) ?? { count: 0, examples: [] };
      entry.count += count;
      if (entry.examples.length < EXAMPLES_MAX && !entry.examples.includes(example)) entry.examples.push(example);
      found.set(kind, entry);
    },
    countOf: (kind) => found.get(kind)?.count ?? 0,
    list: () =>
      ISSUE_KINDS.flatMap((kind) => {
        const entry = found.get(kind);
        return entry === undefined ? [] : [{ kind, count: entry.count, kept: isKept(kind), examples: entry.examples }];
      }),
  };
}
