/**
 * The manifest of a sealed dataset version: one row for each image, in the order of the version. `openManifest` reads
 * both kinds: manifest 2 is a Parquet file, and manifest 1, of versions that were sealed before, is JSON lines.
 */
import type { RandomAccess } from '../random-access.ts';
import { createColumns, type ManifestColumns } from './columns.ts';
import { ManifestError } from './errors.ts';
import { openJsonLinesManifest, type OldVersion } from './json-lines.ts';
import { openParquetManifest, PARQUET_MAGIC } from './parquet.ts';
import { createRowCheck } from './row-check.ts';
import type { ColumnName } from './schema.ts';

export type { CodedColumn, ManifestColumns, TextColumn } from './columns.ts';
export { ManifestError, type ManifestErrorCode } from './errors.ts';
export { PERCEPTUAL_HASH_BYTES, PIXEL_DIGEST_BYTES, type ColumnName } from './schema.ts';
export { walkShard, type ShardImage } from './shard-walk.ts';
export { createManifestWriter, type ManifestRow, type ManifestWriter } from './write.ts';

/** The columns with these names. */
export type Columns<Name extends ColumnName> = Pick<ManifestColumns, Name>;

/** Consecutive rows. */
export interface ManifestRows<Name extends ColumnName> {
  /** The number of the first of them in the version. */
  readonly firstRow: number;
  readonly rowCount: number;
  /** Arrays of these rows alone; codes of texts are those of these rows. */
  readonly columns: Columns<Name>;
}

export interface Manifest {
  readonly format: 'PARQUET' | 'JSON_LINES';
  /** Images of the version. */
  readonly rowCount: number;
  /** False for a version that was sealed before images were hashed: pixelDigest and perceptualHash cannot be read. */
  readonly hasImageHashes: boolean;
  /** The named columns of all rows. Throws ManifestError. */
  read<Name extends ColumnName>(names: readonly Name[]): Promise<Columns<Name>>;
  /**
   * The same in blocks of rows, so that memory does not grow with the version. Throws ManifestError.
   * @param fromRow the first block is the one that holds this row [0]; a Parquet file is not read before it.
   */
  rows<Name extends ColumnName>(names: readonly Name[], fromRow?: number): AsyncGenerator<ManifestRows<Name>, void>;
}

export interface ManifestOfVersion {
  readonly imageCount: number;
  /** Of each shard, in the order of the version. */
  readonly shardByteSizes: readonly number[];
  /** The rest of what a manifest of JSON lines needs. */
  readonly old?: OldVersion;
}

/**
 * Reads the footer alone. Only the row group that is being decoded is in memory beside the columns that are returned.
 * @param source stays open until the last read.
 * @throws ManifestError
 */
export async function openManifest(source: RandomAccess, version: ManifestOfVersion): Promise<Manifest> {
  const { imageCount, shardByteSizes } = version;
  const start = await source.read(0, Math.min(PARQUET_MAGIC.length, source.byteSize));
  const isParquet = Buffer.from(start).toString('latin1') === PARQUET_MAGIC;
  const raw = isParquet ? await openParquetManifest(source) : openJsonLinesManifest(source, version);
  // The count of the version bounds what is allocated, whatever the file says.
  if (raw.rowCount !== imageCount) throw countMismatch(imageCount, raw.rowCount);
  return {
    format: isParquet ? 'PARQUET' : 'JSON_LINES',
    rowCount: imageCount,
    hasImageHashes: raw.hasImageHashes,
    read: async (names) => {
      const wanted = new Set<ColumnName>(names);
      const builders = createColumns(wanted, imageCount);
      const check = createRowCheck(wanted, shardByteSizes);
      let row = 0;
      for await (const { rowCount, values } of raw.blocks([...wanted], 0)) {
        if (row + rowCount > imageCount) throw countMismatch(imageCount, row + rowCount);
        fill(builders, values, row, row);
        check(builders.columns, row, row + rowCount, row);
        row += rowCount;
      }
      if (row !== imageCount) throw countMismatch(imageCount, row);
      return builders.columns;
    },
    async *rows(names, fromRow = 0) {
      const wanted = new Set<ColumnName>(names);
      const check = createRowCheck(wanted, shardByteSizes);
      let endRow = 0;
      for await (const { firstRow, rowCount, values } of raw.blocks([...wanted], fromRow)) {
        endRow = firstRow + rowCount;
        if (endRow > imageCount) throw countMismatch(imageCount, endRow);
        if (endRow <= fromRow) continue;
        const builders = createColumns(wanted, rowCount);
        fill(builders, values, 0, firstRow);
        check(builders.columns, 0, rowCount, firstRow);
        yield { firstRow, rowCount, columns: builders.columns };
      }
      if (endRow !== imageCount) throw countMismatch(imageCount, endRow);
    },
  };
}

function fill(
  { of }: ReturnType<typeof createColumns>,
  values: ReadonlyMap<ColumnName, readonly ArrayLike<unknown>[]>,
  row: number,
  firstRow: number,
): void {
  for (const [name, parts] of values) {
    let done = 0;
    for (const part of parts) {
      of[name].fill(row + done, part, firstRow + done);
      done += part.length;
    }
  }
}

function countMismatch(imageCount: number, found: number): ManifestError {
  return new ManifestError(
    'MANIFEST_COUNT_MISMATCH',
    `The version has ${imageCount} images, and its manifest lists ${found}.`,
  );
}
