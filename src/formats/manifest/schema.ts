/**
 * The columns of manifest 2. Parquet holds them flat, one row for each image, so that any Parquet reader opens the file
 * as a table.
 */
import type { SchemaElement } from 'hyparquet';

/** How a column is held in memory; `ManifestColumns` has the types. */
export type ColumnKind = 'TEXT' | 'CODED' | 'UINT32' | 'OFFSET' | 'NUMBER' | 'BYTES';

interface ColumnSpecification {
  readonly kind: ColumnKind;
  readonly element: Omit<SchemaElement, 'name' | 'repetition_type'>;
  readonly nullable: boolean;
}

const TEXT = { type: 'BYTE_ARRAY', converted_type: 'UTF8' } as const;
const INT32 = { type: 'INT32' } as const;
const INT64 = { type: 'INT64' } as const;
const DOUBLE = { type: 'DOUBLE' } as const;

/** sha256 of the decoded pixels: RGB, 8 bits, row by row. */
export const PIXEL_DIGEST_BYTES = 32;
export const PERCEPTUAL_HASH_BYTES = 8;

/** In the order of the file. Null means unknown, or not applicable. */
export const MANIFEST_SCHEMA = {
  /** Name of the image within the version, ascending. */
  key: { kind: 'TEXT', element: TEXT, nullable: false },
  pixelDigest: {
    kind: 'BYTES',
    element: { type: 'FIXED_LEN_BYTE_ARRAY', type_length: PIXEL_DIGEST_BYTES },
    nullable: false,
  },
  perceptualHash: {
    kind: 'BYTES',
    element: { type: 'FIXED_LEN_BYTE_ARRAY', type_length: PERCEPTUAL_HASH_BYTES },
    nullable: false,
  },
  label: { kind: 'CODED', element: TEXT, nullable: true },
  /** Patient or slide. */
  group: { kind: 'CODED', element: TEXT, nullable: true },
  split: { kind: 'CODED', element: TEXT, nullable: true },
  /** Of the stored image, in pixels. */
  width: { kind: 'UINT32', element: INT32, nullable: false },
  height: { kind: 'UINT32', element: INT32, nullable: false },
  mediaType: { kind: 'CODED', element: TEXT, nullable: false },
  /** Index into the shards of the version. */
  shard: { kind: 'UINT32', element: INT32, nullable: false },
  /** Of the encoded image within its shard. */
  byteOffset: { kind: 'OFFSET', element: INT64, nullable: false },
  byteLength: { kind: 'UINT32', element: INT32, nullable: false },
  /** Relative to the imported folder, with `/` between its parts. */
  sourcePath: { kind: 'TEXT', element: TEXT, nullable: true },
  /** Share of the image that is tissue, 0..1. */
  tissueFraction: { kind: 'NUMBER', element: DOUBLE, nullable: true },
  slide: { kind: 'CODED', element: TEXT, nullable: true },
  /** Top left corner of a patch, in pixels of its upright source image or of level 0 of its slide. */
  x: { kind: 'NUMBER', element: INT32, nullable: true },
  y: { kind: 'NUMBER', element: INT32, nullable: true },
  /** Size of a patch in pixels of level 0 of its slide. */
  level0Width: { kind: 'NUMBER', element: INT32, nullable: true },
  level0Height: { kind: 'NUMBER', element: INT32, nullable: true },
  micronsPerPixel: { kind: 'NUMBER', element: DOUBLE, nullable: true },
  /** Of the encoded mask within the shard of the image. */
  maskOffset: { kind: 'NUMBER', element: INT64, nullable: true },
  maskLength: { kind: 'NUMBER', element: INT32, nullable: true },
  /** Size of the image that a patch was cut from, in pixels. */
  sourceWidth: { kind: 'NUMBER', element: INT32, nullable: true },
  sourceHeight: { kind: 'NUMBER', element: INT32, nullable: true },
  /** sha256 in hex of the colour profile that was applied to the pixels. */
  sourceProfileSha256: { kind: 'CODED', element: TEXT, nullable: true },
  profileChangedPixels: { kind: 'NUMBER', element: { type: 'BOOLEAN' }, nullable: true },
} as const satisfies Readonly<Record<string, ColumnSpecification>>;

export type ColumnName = keyof typeof MANIFEST_SCHEMA;

/** Key and value in the footer by which a Parquet file says that it is a manifest. */
export const FORMAT_KEY = 'paraffin.manifest';
export const FORMAT_VERSION = '2';

/** In the order of the file. */
export function columnNames(): ColumnName[] {
  return COLUMN_NAMES;
}

function isColumnName(name: string): name is ColumnName {
  return Object.hasOwn(MANIFEST_SCHEMA, name);
}
const COLUMN_NAMES = Object.keys(MANIFEST_SCHEMA).filter(isColumnName);

/** The leaf of a column in the Parquet schema. */
export function schemaElementOf(name: ColumnName): SchemaElement {
  const { element, nullable } = MANIFEST_SCHEMA[name];
  return { name, ...element, repetition_type: nullable ? 'OPTIONAL' : 'REQUIRED' };
}
