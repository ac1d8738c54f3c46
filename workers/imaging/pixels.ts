/** Decoded pixels, as every part of an import hands them on. */

/** RGB, uint8, sRGB, `[height, width, 3]`. */
export interface Pixels {
  readonly data: Buffer;
  readonly width: number;
  readonly height: number;
}
