/** What every format says of an image before a pixel is decoded, in the same words for all. */
import type { IssueKind } from '../issues.ts';
import type { ByteRange } from './jpeg-markers.ts';

export type ImageFormat = 'JPEG' | 'PNG' | 'WEBP' | 'TIFF' | 'BMP';

/** An image that is not imported, or something about one that is: which kind of issue, and why in one sentence. */
export interface Finding {
  readonly issue: IssueKind;
  /** Undefined: what the kind means says it all. */
  readonly reason?: string | undefined;
}

/** What the numbers of one pixel mean, in the order in which the file holds them. */
export interface SampleLayout {
  readonly colour: 'GREY' | 'RGB' | 'CMYK';
  /** Of one sample, as it is decoded; 1 to 7 bits come as 8. */
  readonly depth: 'UINT8' | 'UINT16' | 'FLOAT';
  /** Samples of the file that follow the colour, which are alpha or are left out. */
  readonly extraCount: number;
  /** Which of the extra samples is alpha, from 0; null: none. */
  readonly alphaIndex: number | null;
  /** The value of white, black being 0, where it is stated; null: the greatest of the depth, of FLOAT 1. */
  readonly white: number | null;
  /** True: the file holds white as 0. Of integers the decoder gives the greatest of the depth minus its values. */
  readonly isWhiteZero: boolean;
}

export interface JpegStructure {
  /** Bytes before the first scan that belong to no segment: every viewer passes them over. */
  readonly strayRanges: readonly ByteRange[];
  /** True: the one scan holds all of the image, so that it is complete when the scan is. */
  readonly hasOneScan: boolean;
}

export interface ImageHeader {
  readonly format: ImageFormat;
  /** As stored; an orientation may turn it. */
  readonly width: number;
  readonly height: number;
  /**
   * True: any reader gets the same pixels from these bytes, a colour profile aside: 8-bit grey or RGB, opaque, upright,
   * still, and sound down to the checksums.
   */
  readonly isPlain: boolean;
  readonly hasProfile: boolean;
  /** False where the file may say that it is to be turned before it is shown. */
  readonly isUpright: boolean;
  readonly samples: SampleLayout;
  /** Which directory of a TIFF; of any other format the first. */
  readonly page: number;
  /** Which SubIFD of that directory; null: itself. */
  readonly subIfd: number | null;
  /** Of a JPEG alone. */
  readonly jpeg?: JpegStructure;
  /** Notes on a file that is imported nevertheless. */
  readonly notes: readonly Finding[];
}

export const UINT16_MAX = 0xffff;

export const GREY_8: SampleLayout = {
  ...{ colour: 'GREY', depth: 'UINT8', extraCount: 0, alphaIndex: null, white: null, isWhiteZero: false },
};
export const RGB_8: SampleLayout = { ...GREY_8, colour: 'RGB' };

/** With one sample of alpha after the colour, not multiplied into it: what PNG and WebP have. */
export function withAlpha(samples: SampleLayout): SampleLayout {
  return { ...samples, extraCount: 1, alphaIndex: 0 };
}

/** "1 page" or "3 pages". */
export function counted(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? '' : 's'}`;
}
