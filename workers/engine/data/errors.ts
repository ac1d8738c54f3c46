/** Errors of reading the images of a dataset version. */

export type ImageDataErrorCode =
  | 'SHARD_UNREADABLE'
  | 'SHARD_TRUNCATED'
  | 'MANIFEST_INVALID'
  | 'IMAGE_COUNT_MISMATCH'
  | 'IMAGE_MISSING'
  | 'IMAGE_UNREADABLE'
  | 'TOO_FEW_IMAGES'
  | 'BAD_OPTION'
  | 'READER_CLOSED'
  | 'READER_DIED';

/** Where the error is, as far as this is known. */
export interface ImageDataErrorPlace {
  readonly shardPath?: string | undefined;
  readonly key?: string | undefined;
  readonly option?: string | undefined;
}

export class ImageDataError extends Error {
  readonly code: ImageDataErrorCode;
  readonly place: ImageDataErrorPlace;

  constructor(code: ImageDataErrorCode, message: string, place: ImageDataErrorPlace = {}, options?: ErrorOptions) {
    super(message, options);
    this.name = 'ImageDataError';
    this.code = code;
    this.place = place;
  }
}
