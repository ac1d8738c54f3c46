/**
 * Our own decoder (native/decoder), which makes the pixels that sharp makes, at three to four times its speed. It
 * decodes what nearly every shard holds: baseline JPEGs of three components and PNGs of 8-bit RGB without a profile. Of
 * anything else, damaged images among it, it decodes nothing, and sharp decides what the image is worth.
 */
import { createRequire } from 'node:module';

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

function isNativeDecoder(loaded: unknown): loaded is NativeDecoder {
  return typeof loaded === 'object' && loaded !== null && 'decodeSquare' in loaded && 'decodeJpeg' in loaded;
}
