/** Decoded pixels, in the form that all parts of an import share. */

/** RGB, uint8, sRGB, `[height, width, 3]`. */
export interface Pixels {
  readonly data: Buffer;
  readonly width: number;
  readonly height: number;
}
