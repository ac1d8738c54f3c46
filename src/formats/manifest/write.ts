/** Writes manifest 2: a Parquet file, one row group after another, so that memory does not grow with the images. */
import { ByteWriter, ParquetWriter } from 'hyparquet-writer';
import {
  columnNames,
  FORMAT_KEY,
  FORMAT_VERSION,
  MANIFEST_SCHEMA,
  schemaElementOf,
  type ColumnName,
} from './schema.ts';

/** One image. The columns are described in schema.ts. */
export interface ManifestRow {
  readonly key: string;
  readonly pixelDigest: Uint8Array;
  readonly perceptualHash: Uint8Array;
  readonly label: string | null;
  readonly group: string | null;
  readonly split: string | null;
  readonly width: number;
  readonly height: number;
  readonly mediaType: string;
  readonly shard: number;
  readonly byteOffset: number;
  readonly byteLength: number;
  readonly sourcePath: string | null;
  readonly tissueFraction?: number | null;
  readonly slide?: string | null;
  readonly x?: number | null;
  readonly y?: number | null;
  readonly level0Width?: number | null;
  readonly level0Height?: number | null;
  readonly micronsPerPixel?: number | null;
  readonly maskOffset?: number | null;
  readonly maskLength?: number | null;
  readonly sourceWidth?: number | null;
  readonly sourceHeight?: number | null;
  readonly sourceProfileSha256?: string | null;
  readonly profileChangedPixels?: boolean | null;
}

export interface ManifestWriter {
  /** Rows come in the order of the version: by key, shard and offset. */
  write(row: ManifestRow): Promise<void>;
  /** Writes the last row group and the footer. */
  finish(): Promise<void>;
}

/** Small enough that a reader of a few columns holds megabytes, large enough that ten million rows have 153 groups. */
const ROW_GROUP_ROWS = 65_536;
const PAGE_BYTES = 1024 * 1024;
/** Hashes do not compress, and their minima say nothing. */
const IS_HASH: ReadonlySet<ColumnName> = new Set(['pixelDigest', 'perceptualHash']);

/** @param sink takes the bytes of the file, in order; the next ones wait for it. */
export function createManifestWriter(sink: (bytes: Uint8Array) => Promise<void>): ManifestWriter {
  const names = columnNames();
  const bytes = new ByteWriter();
  const parquet = new ParquetWriter({
    writer: bytes,
    schema: [{ name: 'manifest', num_children: names.length }, ...names.map(schemaElementOf)],
    kvMetadata: [{ key: FORMAT_KEY, value: FORMAT_VERSION }],
    createdBy: 'paraffin',
  });
  let rows: ManifestRow[] = [];

  const drain = async (): Promise<void> => {
    const written = bytes.buffer.slice(0, bytes.index);
    bytes.index = 0;
    await sink(new Uint8Array(written));
  };
  const writeGroup = async (): Promise<void> => {
    const group = rows;
    rows = [];
    await parquet.write({
      columnData: names.map((name) => ({
        name,
        data: group.map((row) => storedValueOf(name, row)),
        ...(IS_HASH.has(name) ? { codec: 'UNCOMPRESSED', statistics: false, encoding: 'PLAIN' } : {}),
        offsetIndex: false,
      })),
      rowGroupSize: group.length,
      pageSize: PAGE_BYTES,
      dictionarySize: PAGE_BYTES,
    });
    await drain();
  };

  return {
    write: async (row) => {
      rows.push(row);
      if (rows.length === ROW_GROUP_ROWS) await writeGroup();
    },
    finish: async () => {
      if (rows.length > 0) await writeGroup();
      await parquet.finish();
      await drain();
    },
  };
}

/** The library takes a bigint for INT64. */
function storedValueOf(name: ColumnName, row: ManifestRow): string | number | bigint | boolean | Uint8Array | null {
  const value = row[name] ?? null;
  return typeof value === 'number' && MANIFEST_SCHEMA[name].element.type === 'INT64' ? BigInt(value) : value;
}
