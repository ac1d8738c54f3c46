/** Checks what a row claims against the shards of the version and against the row before it. */
import type { ManifestColumns } from './columns.ts';
import { ManifestError } from './errors.ts';
import type { ColumnName } from './schema.ts';

/** Checks rows in the order of the file; `columns` holds them from `start` to `end`. */
export type CheckRows = (columns: ManifestColumns, start: number, end: number, firstRow: number) => void;

/**
 * Offsets are checked where shard, byteOffset and byteLength are all read; the order of rows where shard or key is.
 * @throws ManifestError MANIFEST_ROW_INVALID from the function that it returns.
 */
export function createRowCheck(wanted: ReadonlySet<ColumnName>, shardByteSizes: readonly number[]): CheckRows {
  const hasShard = wanted.has('shard');
  const hasPlace = hasShard && wanted.has('byteOffset') && wanted.has('byteLength');
  let lastKey: string | null = null;
  let lastShard = 0;
  let lastEnd = 0;
  return (columns, start, end, firstRow) => {
    const invalid = (row: number, what: string): ManifestError =>
      new ManifestError('MANIFEST_ROW_INVALID', `Row ${firstRow + row - start} of the manifest: ${what}.`);
    for (let row = start; hasShard && row < end; row += 1) {
      const shard = columns.shard[row] ?? 0;
      const byteSize = shardByteSizes[shard];
      if (byteSize === undefined)
        throw invalid(row, `it lies in shard ${shard}, and the version has ${shardByteSizes.length}`);
      if (shard < lastShard)
        throw invalid(row, `shard ${shard} follows shard ${lastShard}, so the rows are out of order`);
      if (shard > lastShard) lastEnd = 0;
      lastShard = shard;
      if (!hasPlace) continue;
      const offset = columns.byteOffset[row] ?? 0;
      const length = columns.byteLength[row] ?? 0;
      if (length === 0) throw invalid(row, 'its image has no bytes');
      if (offset + length > byteSize)
        throw invalid(row, `bytes ${offset} to ${offset + length} lie outside shard ${shard} of ${byteSize} bytes`);
      if (offset < lastEnd)
        throw invalid(row, `it begins at byte ${offset}, and the image before it ends at ${lastEnd} of the same shard`);
      lastEnd = offset + length;
    }
    for (let row = start; wanted.has('key') && row < end; row += 1) {
      const key = columns.key.at(row);
      if (key !== null && lastKey !== null && key <= lastKey)
        throw invalid(
          row,
          `key ${JSON.stringify(key)} follows ${JSON.stringify(lastKey)}, so the rows are out of order`,
        );
      lastKey = key;
    }
  };
}
