/**
 * Our own decoder (native/decoder), which makes the pixels that sharp makes, at three to four times its speed. It
 * decodes what nearly every shard holds: baseline JPEGs of three components and PNGs of 8-bit RGB without a profile. Of
 * anything else, damaged images among it, it decodes nothing, and sharp decides what the image is worth. It also
 * holds the loops over the pixels of a slide's patches, which make what workers/imaging/slides makes without it.
 */
import { createRequire } from 'node:module';
import type { Pixels } from '../pixels.ts';

export interface NativeDecoder {
  /**
   * Reads an encoded image from one open file and writes its square, see `decodeSquare`, into another, in a thread.
   * @returns false if it does not decode this image; nothing usable was written then.
   */
  decodeSquare(
    encodedFile: number,
    byteOffset: number,
    byteSize: number,
    pixelFile: number,
    position: number,
    sizePx: number,
    isFast: boolean,
    isStretched: boolean,
  ): Promise<boolean>;
  /**
   * Fills `target` with all pixels of a JPEG, RGB, uint8, `[height, width, 3]`, in this thread.
   * @param target of `width * height * 3` bytes.
   * @returns false if it does not decode this image, or the image has another size; `target` is undefined then.
   */
  decodeJpeg(bytes: Buffer, width: number, height: number, target: Buffer): boolean;
  /**
   * Fills `target` with all pixels of a JPEG that is a tile of a TIFF (TIFF technical note 2), as OpenSlide decodes it:
   * RGB, uint8, `[height, width, 3]`, in this thread.
   * @param tables JPEGTables; empty if the TIFF has none. @param isYcbcr by PhotometricInterpretation; otherwise RGB.
   * @returns false if it does not decode this tile, or the tile has another size; `target` is undefined then.
   * @throws TypeError for a target of another size.
   */
  decodeJpegTile(
    tables: Buffer,
    bytes: Buffer,
    isYcbcr: boolean,
    width: number,
    height: number,
    target: Buffer,
  ): boolean;
  /** See `onBackgroundInScript`. @param target of three bytes for each four of `bgra`. */
  onBackground(bgra: Buffer, red: number, green: number, blue: number, target: Buffer): void;
  /** See `mixInScript`. @throws TypeError for weights beyond the source, or a target of another size. */
  mix(
    source: Buffer,
    width: number,
    height: number,
    columns: Int32Array,
    columnWeights: Int32Array,
    rows: Int32Array,
    rowWeights: Int32Array,
    target: Buffer,
  ): void;
  /** See `measureInScript`. @returns pixels of ink, and the sum and the sum of squares of the Laplacian. */
  measure(rgb: Buffer, width: number, height: number): readonly [number, number, number];
  /** See `FilterRows`. @throws TypeError for rows that the picture does not have. */
  filterRows(rgb: Buffer, width: number, firstRow: number, target: Buffer): void;
  /** See `DeflateBlock`. @throws TypeError for no bytes, and for less room than it may need. */
  deflateBlock(bytes: Buffer, isLast: boolean, target: Buffer): number;
  /** See `Adler32`. */
  adler32(checksum: number, bytes: Buffer): number;
}

export interface JpegDecoder {
  /**
   * All pixels of a JPEG of this size, decoded in this thread. They are valid until the next call.
   * @returns null if it does not decode this image.
   */
  pixelsOf(bytes: Buffer, width: number, height: number): Pixels | null;
}

/** 1024 x 1024 pixels, and more than most images have. */
const KEPT_BYTES = 3 * 1024 * 1024;

/**
 * A decoder that puts the pixels of every image of up to a megapixel into the same memory, because the kernel takes
 * longer to clear new pages than some images take to decode.
 */
export function createJpegDecoder(native: NativeDecoder): JpegDecoder {
  let kept: Buffer | undefined;
  const memoryOf = (byteSize: number): Buffer => {
    if (byteSize > KEPT_BYTES) return Buffer.allocUnsafeSlow(byteSize);
    kept ??= Buffer.allocUnsafeSlow(KEPT_BYTES);
    return kept.subarray(0, byteSize);
  };
  return {
    pixelsOf: (bytes, width, height) => {
      const data = memoryOf(width * height * 3);
      return native.decodeJpeg(bytes, width, height, data) ? { data, width, height } : null;
    },
  };
}

/** @returns null without an addon, or if it cannot be loaded because one of its libraries was removed. */
export function loadNativeDecoder(addon: string | null): NativeDecoder | null {
  if (addon === null) return null;
  try {
    const loaded: unknown = createRequire(import.meta.url)(addon);
    return isNativeDecoder(loaded) ? loaded : null;
  } catch {
    return null;
  }
}

const FUNCTIONS = [
  'decodeSquare',
  'decodeJpeg',
  'decodeJpegTile',
  'onBackground',
  'mix',
  'measure',
  'filterRows',
  'deflateBlock',
  'adler32',
] as const satisfies (keyof NativeDecoder)[];

function isNativeDecoder(loaded: unknown): loaded is NativeDecoder {
  return typeof loaded === 'object' && loaded !== null && FUNCTIONS.every((name) => name in loaded);
}
