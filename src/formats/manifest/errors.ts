/** What may be wrong with a manifest. */

export type ManifestErrorCode =
  /** The file is cut short, or its structure is damaged. */
  | 'MANIFEST_UNREADABLE'
  /** A sound Parquet file, but not a manifest. */
  | 'MANIFEST_SCHEMA_UNKNOWN'
  /** It would take more memory than any manifest of ours. */
  | 'MANIFEST_TOO_LARGE'
  /** A row that cannot be true: an offset outside its shard, a negative size, rows out of order. */
  | 'MANIFEST_ROW_INVALID'
  /** It lists another number of images than the version has. */
  | 'MANIFEST_COUNT_MISMATCH'
  /** A shard that a manifest without offsets refers to is not a sound tar file, or lacks a listed image. */
  | 'MANIFEST_SHARD_INVALID';

export class ManifestError extends Error {
  readonly code: ManifestErrorCode;

  constructor(code: ManifestErrorCode, message: string, cause?: unknown) {
    super(message, { cause });
    this.name = 'ManifestError';
    this.code = code;
  }
}
