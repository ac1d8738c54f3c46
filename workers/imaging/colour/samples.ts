/**
 * Converts the samples of a file to 8-bit RGB, by one rule for every format. Pure.
 * A sample becomes `round(255 * value / white)`, or the same of `white - value` if 0 is white. Straight alpha is
 * composited over white, the colour of empty slide: `colour * alpha + white * (1 - alpha)`; premultiplied colour is not
 * multiplied again. CMYK without a profile becomes `255 * (1 - ink) * (1 - black)`, as in Pillow.
 */
import { UnreachableCaseError } from '../../../src/errors.ts';
import { UINT16_MAX, type Finding, type SampleLayout } from '../formats/image-header.ts';
import type { Pixels } from '../pixels.ts';

/** As decoded, pixel by pixel: `[height, width, channelCount]`; grey has three equal channels, except for FLOAT. */
export interface Samples {
  readonly data: Uint8Array | Uint16Array | Float32Array;
  readonly width: number;
  readonly height: number;
  readonly channelCount: number;
}

/**
 * Cameras and scanners store 10, 12 or 14 bits in 16, and most files do not say so. A picture without a value above
 * these has either fewer bits or is very dark; the wrong assumption would make it black or overexposed.
 */
const FEWER_BITS_GREATEST = 2 ** 14 - 1;
const UINT16_MIDDLE = 2 ** 15;

export interface Rgb {
  readonly pixels: Pixels;
  /** Notes for the import report. */
  readonly notes: readonly Finding[];
}

/** @returns RGB, or why the meaning of the file's numbers is unknown. */
export function rgbOf(samples: Samples, layout: SampleLayout): Rgb | Finding {
  const scale = scaleOf(samples, layout);
  if ('issue' in scale) return scale;
  const { notes = [] } = scale;
  const { data, width, height, channelCount } = samples;
  if (layout.depth === 'UINT8' && layout.alphaIndex === null && channelCount === 3 && data instanceof Uint8Array)
    return { pixels: { data: Buffer.from(data.buffer, data.byteOffset, data.byteLength), width, height }, notes };
  // A file may announce alpha and have none: WebP by a flag, PNG by a chunk that does not match its colour type.
  const hasAlpha = layout.alphaIndex !== null && channelCount > 3 + layout.alphaIndex;
  return { pixels: hasAlpha ? overWhite(samples, layout, scale) : opaqueOf(samples, scale), notes };
}

/** CMYK, uint8, 255 = full ink. */
export function rgbOfCmyk({ data, width, height, channelCount }: Samples): Pixels {
  const pixels = Buffer.allocUnsafe(width * height * 3);
  for (let source = 0, target = 0; target < pixels.length; source += channelCount) {
    const light = 255 - (data[source + 3] ?? 0);
    for (let channel = 0; channel < 3; channel += 1, target += 1) {
      const product = (data[source + channel] ?? 0) * light + 128;
      pixels[target] = Math.max(0, light - (((product >> 8) + product) >> 8));
    }
  }
  return { data: pixels, width, height };
}

interface Scale {
  /** As the decoder returns it. */
  readonly black: number;
  /** The value of one 8-bit level. */
  readonly step: number;
  readonly notes?: readonly Finding[];
}

function scaleOf(samples: Samples, layout: SampleLayout): Scale | Finding {
  switch (layout.depth) {
    case 'UINT8':
      return integerScale(255, layout, 255);
    case 'UINT16': {
      const found = extremesOf(samples);
      const greatest = layout.isWhiteZero ? UINT16_MAX - found.least : found.greatest;
      if (layout.white === null) return scaleOfUnstated(greatest, layout);
      return greatest <= layout.white
        ? integerScale(layout.white, layout, UINT16_MAX)
        : rangeFinding(`16-bit samples reach ${greatest}, above the ${layout.white} that is stated to be white.`);
    }
    case 'FLOAT': {
      const white = layout.white ?? 1;
      const { least, greatest } = extremesOf(samples);
      if (least >= 0 && greatest <= white)
        return layout.isWhiteZero ? { black: white, step: -white / 255 } : { black: 0, step: white / 255 };
      return rangeFinding(
        `Floating-point samples from ${rounded(least)} to ${rounded(greatest)}, outside 0..${white}: the file does not say which value is white. Convert them to 8 bits.`,
      );
    }
    default:
      throw new UnreachableCaseError(layout.depth);
  }
}

/** 16 bits, as the file states, unless the samples may have fewer bits that were not scaled up. */
function scaleOfUnstated(greatest: number, layout: SampleLayout): Scale | Finding {
  if (greatest <= FEWER_BITS_GREATEST)
    return rangeFinding(
      `16-bit samples that reach only ${greatest} of 65535: a very dark picture, or one of ${[10, 12, 14].find((bits) => greatest < 2 ** bits)} bits, and the file does not say which. Import it with sampleBits (--sample-bits 16 where it is dark).`,
    );
  const scale = integerScale(UINT16_MAX, layout, UINT16_MAX);
  if (greatest > UINT16_MIDDLE) return scale;
  const reason = `Its 16-bit samples reach only ${greatest} of 65535 and are taken as 16 bits, as the file states. If they hold 15, import it with sampleBits (--sample-bits 15).`;
  return { ...scale, notes: [{ issue: 'HALF_RANGE_UNUSED', reason }] };
}

function integerScale(white: number, { isWhiteZero }: SampleLayout, greatestOfDepth: number): Scale {
  return { black: isWhiteZero ? greatestOfDepth - white : 0, step: white / 255 };
}

function rangeFinding(reason: string): Finding {
  return { issue: 'RANGE_NOT_STATED', reason };
}

/** The least and greatest value of the colour. If any value is NaN both are NaN, and fail every comparison. */
function extremesOf({ data, channelCount }: Samples): { readonly least: number; readonly greatest: number } {
  const colourCount = channelCount === 1 ? 1 : 3;
  let least = Infinity;
  let greatest = -Infinity;
  for (let pixel = 0; pixel < data.length; pixel += channelCount) {
    for (let channel = 0; channel < colourCount; channel += 1) {
      const value = data[pixel + channel] ?? 0;
      if (Number.isNaN(value)) return { least: value, greatest: value };
      if (value < least) least = value;
      if (value > greatest) greatest = value;
    }
  }
  return { least, greatest };
}

function opaqueOf({ data, width, height, channelCount }: Samples, { black, step }: Scale): Pixels {
  const pixels = Buffer.allocUnsafe(width * height * 3);
  const isGrey = channelCount === 1;
  for (let source = 0, target = 0; target < pixels.length; source += channelCount) {
    for (let channel = 0; channel < 3; channel += 1, target += 1)
      pixels[target] = level((data[isGrey ? source : source + channel] ?? 0) - black, step);
  }
  return { data: pixels, width, height };
}

function overWhite(
  { data, width, height, channelCount }: Samples,
  { alphaIndex, depth }: SampleLayout,
  { black, step }: Scale,
): Pixels {
  const pixels = Buffer.allocUnsafe(width * height * 3);
  const opaque = depth === 'UINT8' ? 255 : UINT16_MAX;
  const alphaAt = 3 + (alphaIndex ?? 0);
  for (let source = 0, target = 0; target < pixels.length; source += channelCount) {
    const alpha = (data[source + alphaAt] ?? 0) / opaque;
    for (let channel = 0; channel < 3; channel += 1, target += 1) {
      const colour = ((data[source + channel] ?? 0) - black) / step;
      pixels[target] = level(colour * alpha + 255 * (1 - alpha), 1);
    }
  }
  return { data: pixels, width, height };
}

function level(value: number, step: number): number {
  return Math.min(255, Math.max(0, Math.round(value / step)));
}

function rounded(value: number): string {
  return Number.isNaN(value) ? 'NaN' : String(Number(value.toPrecision(4)));
}
