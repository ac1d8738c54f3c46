/**
 * The decoder as the readers of batches use it. Its implementation is not in the engine: stored bytes are untrusted,
 * and only a sandboxed process may decode them (workers/imaging/decoder/stored-decoder.ts).
 */

/**
 * FAST may let the JPEG decoder shrink as far as it can while it decodes (views are cropped and blurred anyway). EXACT
 * resizes by an antialiased bilinear filter, as the input contract says, and lets the decoder shrink only images of at
 * least four times the target size (256 px for 64), so that a factor of at least two is left for that filter. An image
 * that already has the target size is not resized.
 */
export type DecodeQuality = 'FAST' | 'EXACT';

/**
 * SHORT_SIDE_THEN_CENTRE_CROP resizes the short side to the target size and crops the centre square. STRETCH resizes
 * both sides to it.
 */
export type ResizeRule = 'SHORT_SIDE_THEN_CENTRE_CROP' | 'STRETCH';

/** How pixels are interpolated when an image is resized; always antialiased. */
export type Interpolation = 'BILINEAR' | 'BICUBIC';

/** How an image becomes a square of pixels. */
export interface SquareRule {
  /** Side of the decoded square. */
  readonly sizePx: number;
  readonly quality: DecodeQuality;
  readonly resizeRule: ResizeRule;
  /** Default BILINEAR. */
  readonly interpolation?: Interpolation | undefined;
}

/** An image of a batch. */
export interface StoredImage {
  readonly byteSize: number;
  /** Index of the image in its batch. */
  readonly place: number;
  /**
   * Fills `target`, of `byteSize` bytes, with the stored bytes.
   * @returns the name of the image, for messages.
   */
  readonly read: (target: Uint8Array) => Promise<string>;
}

export interface StoredDecoder {
  /**
   * Decodes images of one batch: each into its place in `target`, uint8 RGB `[batchSize, sizePx, sizePx, 3]`.
   * @throws ImageDataError IMAGE_UNREADABLE, with the key of the image, or READER_DIED; and what `read` throws.
   */
  decode(images: readonly StoredImage[], target: Uint8Array): Promise<void>;
  /** Kills every process of the decoder and waits until they have ended; pending calls of `decode` are rejected. */
  close(): Promise<void>;
}

export interface StoredDecoderOptions extends SquareRule {
  /** Maximum number of images of one call of `decode`. */
  readonly batchSize: number;
  /** Maximum number of concurrent calls of `decode`. */
  readonly batchesAtOnce: number;
}

/** Rejects with ImageDataError READER_DIED if no decoder process starts. */
export type OpenStoredDecoder = (options: StoredDecoderOptions) => Promise<StoredDecoder>;
