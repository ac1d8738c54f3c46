/** The properties of an image that its header gives before a pixel is decoded, in the same terms for every format. */
import type { IssueKind } from '../issues.ts';
import type { ByteRange } from './jpeg-markers.ts';

export type ImageFormat = 'JPEG' | 'PNG' | 'WEBP' | 'TIFF' | 'BMP';

/** The reason why an image is not imported, or a remark on one that is: the kind of issue, and one sentence. */
export interface Finding {
  readonly issue: IssueKind;
  /** Undefined if the meaning of the kind is enough. */
  readonly reason?: string | undefined;
}

/** The meaning of the samples of a pixel, in their order in the file. */
export interface SampleLayout {
  readonly colour: 'GREY' | 'RGB' | 'CMYK';
  /** Bits of a sample as it is decoded; 1 to 7 bits become 8. */
  readonly depth: 'UINT8' | 'UINT16' | 'FLOAT';
  /** The number of samples after the colour; they are alpha, or are left out. */
  readonly extraCount: number;
  /** The index of the alpha sample among them, from 0; null: there is none. */
  readonly alphaIndex: number | null;
  /** The value of white (black is 0), if the file states it; null: the greatest value of the depth, and 1 for FLOAT. */
  readonly white: number | null;
  /** True if the file stores white as 0. For integers the decoder returns the greatest value minus the stored one. */
  readonly isWhiteZero: boolean;
}

export interface JpegStructure {
  /** Ranges of bytes before the first scan that belong to no segment; every viewer skips them. */
  readonly strayRanges: readonly ByteRange[];
  /** True if there is one scan with the whole image, so that a complete scan is a complete image. */
  readonly hasOneScan: boolean;
}

export interface ImageHeader {
  readonly format: ImageFormat;
  /** As stored; the orientation may swap width and height. */
  readonly width: number;
  readonly height: number;
  /**
   * True if every reader decodes the same pixels from these bytes, apart from a colour profile: 8-bit grey or RGB,
   * opaque, upright, not animated, and with correct checksums.
   */
  readonly isPlain: boolean;
  readonly hasProfile: boolean;
  /** False if the file may say that it must be turned before it is shown. */
  readonly isUpright: boolean;
  readonly samples: SampleLayout;
  /** The index of the directory in a TIFF; 0 for any other format. */
  readonly page: number;
  /** The index of the SubIFD in that directory; null: the directory itself. */
  readonly subIfd: number | null;
  /** Only for a JPEG. */
  readonly jpeg?: JpegStructure;
  /** Notes on a file that is imported nonetheless. */
  readonly notes: readonly Finding[];
}

export const UINT16_MAX = 0xffff;

export const GREY_8: SampleLayout = {
  ...{ colour: 'GREY', depth: 'UINT8', extraCount: 0, alphaIndex: null, white: null, isWhiteZero: false },
};
export const RGB_8: SampleLayout = { ...GREY_8, colour: 'RGB' };

/** One sample of straight (not premultiplied) alpha after the colour, as in PNG and WebP. */
export function withAlpha(samples: SampleLayout): SampleLayout {
  return { ...samples, extraCount: 1, alphaIndex: 0 };
}

/** "1 page" or "3 pages". */
export function counted(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? '' : 's'}`;
}
