/** Locates the issues of an import in their CSV. Pure. */
import type { ImportIssueRecord } from './datasets.records.ts';

/** Part of the CSV, in bytes. */
export interface ListRange {
  readonly firstByte: number;
  /** Exclusive. */
  readonly endByte: number;
  readonly entryCount: number;
}

/** The byte range of the entries of one kind, or of all; undefined if none are listed. */
export function listRangeOf(issues: readonly ImportIssueRecord[], kind: string | null): ListRange | undefined {
  const ranges = issues.flatMap((issue) =>
    issue.entries === null || (kind !== null && issue.kind !== kind) ? [] : [issue.entries],
  );
  if (ranges.length === 0) return undefined;
  return {
    firstByte: Math.min(...ranges.map((range) => range.firstByte)),
    endByte: Math.max(...ranges.map((range) => range.firstByte + range.byteSize)),
    entryCount: ranges.reduce((sum, range) => sum + range.count, 0),
  };
}
