/** Validation of the content of a sealed version. Pure. */
import { z } from 'zod';
import type { ImportedSlide } from '../../protocol/imported-slide.ts';
import type { DatasetVersionRecord, ImportIssueRecord, LabelCountRecord, ShardRecord } from './datasets.records.ts';

export const labelCountsSchema = z.array(z.object({ label: z.string(), count: z.number().int().min(0) }));
export const importIssuesSchema = z.array(
  z.object({
    kind: z.string().min(1),
    count: z.number().int().min(0),
    kept: z.boolean(),
    examples: z.array(z.string()),
    // Versions that were sealed before every issue was listed have neither `meaning` nor `entries`.
    meaning: z.string().nullable().default(null),
    entries: z
      .object({
        count: z.number().int().min(0),
        firstByte: z.number().int().min(0),
        byteSize: z.number().int().min(0),
      })
      .nullable()
      .default(null),
  }),
);

/** An import states all fields; `meaning` and `entries` may be missing if no CSV lists the issues. */
export type SealedIssue = Omit<ImportIssueRecord, 'meaning' | 'entries'> &
  Partial<Pick<ImportIssueRecord, 'meaning' | 'entries'>>;

export interface SealedContent {
  /** Under the rule PIXELS, 64 hex digits. */
  readonly digest: string;
  /** sha256 of the manifest's artifact. */
  readonly manifestSha256: string;
  /** sha256 of the artifact that lists every issue; absent in a version without issues. */
  readonly issueListSha256?: string;
  readonly imageCount: number;
  readonly byteSize: number;
  readonly labelNames: readonly string[];
  readonly labelCounts: readonly LabelCountRecord[];
  /** Known groups. */
  readonly groupCount: number;
  /** Images whose patient or slide is unknown. */
  readonly ungroupedImageCount: number;
  readonly hasSplit: boolean;
  readonly issues: readonly SealedIssue[];
  /** In reading order. */
  readonly shards: readonly ShardRecord[];
  readonly thumbnails: readonly { readonly sha256: string; readonly label: string | null }[];
  /** Those of the imported folder, by their paths; absent in a version that was not cut from slides. */
  readonly slides?: readonly ImportedSlide[];
  /** Every artifact named above, including the manifest. Existing rows are not changed. */
  readonly artifacts: readonly { readonly sha256: string; readonly byteSize: number; readonly mediaType: string }[];
}

/** Issues that make scores on a version too high, or less certain than their intervals state. */
const CAVEAT_KINDS: ReadonlySet<string> = new Set([
  'NO_GROUPS',
  'GROUPS_LOOK_ALIKE',
  'GROUP_ACROSS_SPLITS',
  'LABEL_CONFLICT',
  'SPLIT_CONFLICT',
  'GROUP_CONFLICT',
]);

/** The warnings about a version that must be shown with every score on it. */
export function caveatsOf({
  issues,
  ungroupedImageCount,
}: Pick<DatasetVersionRecord, 'issues' | 'ungroupedImageCount'>): ImportIssueRecord[] {
  const caveats = issues.filter(({ kind, kept }) => kept && CAVEAT_KINDS.has(kind));
  if (ungroupedImageCount === null || ungroupedImageCount === 0) return caveats;
  if (caveats.some(({ kind }) => kind === 'NO_GROUPS')) return caveats;
  const meaning =
    'The patient or slide of the images is not known, so that images of one patient may be in training and test, which makes scores too high and their intervals too narrow.';
  return [
    { kind: 'NO_GROUPS', count: ungroupedImageCount, kept: true, meaning, examples: [], entries: null },
    ...caveats,
  ];
}

/** Of a manifest that is a Parquet file. */
export const MANIFEST_MEDIA_TYPE = 'application/vnd.apache.parquet';

const SHA256_PATTERN = /^[0-9a-f]{64}$/;

/**
 * Faults in the content of a version that is about to be sealed. They detect a bug in the import before the version
 * becomes immutable.
 * @returns one sentence per fault; empty if the version may be sealed.
 */
export function faultsOfContent(content: SealedContent): string[] {
  const { slides = [] } = content;
  const patchCount = slides.reduce((sum, slide) => sum + slide.patchCount, 0);
  const shardImageCount = content.shards.reduce((sum, shard) => sum + shard.imageCount, 0);
  const labelledCount = content.labelCounts.reduce((sum, each) => sum + each.count, 0);
  const recorded = new Set(content.artifacts.map((artifact) => artifact.sha256));
  const named = [
    content.manifestSha256,
    ...(content.issueListSha256 === undefined ? [] : [content.issueListSha256]),
    ...content.shards.map((shard) => shard.sha256),
    ...content.thumbnails.map((thumbnail) => thumbnail.sha256),
    ...slides.flatMap(({ tissue }) => (tissue === null ? [] : [tissue.thumbnail.sha256, tissue.mask.sha256])),
  ];
  return [
    ...(content.imageCount > 0 ? [] : ['A version must contain at least one image.']),
    ...(shardImageCount === content.imageCount
      ? []
      : [`Its shards hold ${shardImageCount} images, not ${content.imageCount}.`]),
    ...(labelledCount <= content.imageCount
      ? []
      : [`Its labels count ${labelledCount} images of ${content.imageCount}.`]),
    ...(content.groupCount + content.ungroupedImageCount <= content.imageCount
      ? []
      : [
          `Its ${content.groupCount} groups and ${content.ungroupedImageCount} images without one are more than its ${content.imageCount} images.`,
        ]),
    ...(slides.length === 0 || patchCount === content.imageCount
      ? []
      : [`Its slides give ${patchCount} images, not ${content.imageCount}.`]),
    ...(slides.every(({ status, patchCount: own }) => (status === 'IMPORTED') === own > 0)
      ? []
      : ['A slide is left out and gives images, or is imported and gives none.']),
    ...(content.labelCounts.every((each) => content.labelNames.includes(each.label))
      ? []
      : ['labelCounts names a label that is not in labelNames.']),
    ...([content.digest, ...named].every((sha256) => SHA256_PATTERN.test(sha256))
      ? []
      : ['A digest is not 64 hex digits.']),
    ...(named.every((sha256) => recorded.has(sha256)) ? [] : ['An artifact is named but not recorded.']),
  ];
}
