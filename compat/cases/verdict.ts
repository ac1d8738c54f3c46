/** Compares the result for one file with the truth. Pure. */

/** uint8 `[height, width, 3]`. */
export interface RgbImage {
  readonly width: number;
  readonly height: number;
  readonly data: Uint8Array;
}

/** An import's issue for one file. */
export interface FileIssue {
  readonly kind: string;
  readonly kept: boolean;
  readonly reason: string;
  readonly relatedPath: string | null;
}

export interface FileOutcome {
  /** The stored bytes as decoded by an independent reader; null if the file was left out. */
  readonly image: RgbImage | null;
  /** False: the decoded pixels of the stored bytes do not have the digest that the import recorded. */
  readonly matchesDigest: boolean;
  readonly issues: readonly FileIssue[];
  /** True for codecs that change pixels. */
  readonly isLossy: boolean;
}

export type Verdict = 'equal' | "within the codec's error" | 'refused' | 'no truth' | 'wrong';

export interface ComparedFile {
  readonly verdict: Verdict;
  readonly detail: string;
}

/** Tolerance for the rounding of 16 bits, of alpha, and of a colour profile. */
const ROUNDING_MAX = 2;
/** Tolerance for a lossy codec, relative to the original picture. */
const LOSSY_MAX = 32;
const LOSSY_MEAN_MAX = 2;

export function compareWithTruth(
  { image, matchesDigest, issues, isLossy }: FileOutcome,
  truth: RgbImage | undefined,
): ComparedFile {
  const issuesText = issues.map(({ kind, reason }) => `${kind}: ${reason}`).join(' ');
  if (image === null) {
    if (issues.length === 0) return { verdict: 'wrong', detail: 'left out, and no issue says why' };
    return { verdict: 'refused', detail: issuesText };
  }
  const withReports = (detail: string): string => [detail, issuesText].filter((part) => part !== '').join('; ');
  if (!matchesDigest)
    return { verdict: 'wrong', detail: withReports('the stored bytes decode to other pixels than the digest') };
  if (truth === undefined) return { verdict: 'no truth', detail: issuesText };
  if (truth.width !== image.width || truth.height !== image.height) {
    const sizes = `${image.width} x ${image.height} px instead of ${truth.width} x ${truth.height}`;
    return { verdict: 'wrong', detail: withReports(sizes) };
  }
  const { greatest, mean } = differenceOf(image.data, truth.data);
  if (greatest === 0) return { verdict: 'equal', detail: issuesText };
  const isWithin = greatest <= ROUNDING_MAX || (isLossy && greatest <= LOSSY_MAX && mean <= LOSSY_MEAN_MAX);
  return {
    verdict: isWithin ? "within the codec's error" : 'wrong',
    detail: withReports(`differs by ${greatest} at most, ${mean.toFixed(3)} on average`),
  };
}

function differenceOf(a: Uint8Array, b: Uint8Array): { readonly greatest: number; readonly mean: number } {
  let greatest = 0;
  let sum = 0;
  for (let index = 0; index < a.length; index += 1) {
    const difference = Math.abs((a[index] ?? 0) - (b[index] ?? 0));
    if (difference > greatest) greatest = difference;
    sum += difference;
  }
  return { greatest, mean: sum / Math.max(1, a.length) };
}
