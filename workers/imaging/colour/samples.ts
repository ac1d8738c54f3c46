/**
 * The numbers of a file to 8-bit RGB, by one rule for every format. Pure.
 *
 * A sample becomes `round(255 * (value - black) / (white - black))`. Straight alpha lays the colour over white, as the
 * empty slide is: `colour * alpha + white * (1 - alpha)`; colour that is multiplied by alpha already is not multiplied
 * again. CMYK without a profile becomes `255 * (1 - ink) * (1 - black)`, as Pillow has it.
 */
import type { Finding, SampleLayout } from '../formats/image-header.ts';
import type { Pixels } from '../pixels.ts';

/** As decoded, pixel by pixel: `[height, width, channelCount]`; grey comes as three equal channels but for FLOAT. */
export interface Samples {
  readonly data: Uint8Array | Uint16Array | Float32Array;
  readonly width: number;
  readonly height: number;
  readonly channelCount: number;
}

/**
 * 16-bit images that never pass the middle of the range hold 10 to 15 bits, or labels: taken as they are, they would be
 * black, or half as bright.
 */
const UINT16_BRIGHTEST_MIN = 0x8001;
const UINT16_MAX = 0xffff;

/** @returns RGB, or why the file does not say what its numbers mean. */
export function rgbOf(samples: Samples, layout: SampleLayout): Pixels | Finding {
  const scale = scaleOf(samples, layout);
  if ('issue' in scale) return scale;
  const { data, width, height, channelCount } = samples;
  if (layout.depth === 'UINT8' && layout.alphaIndex === null && channelCount === 3 && data instanceof Uint8Array)
    return { data: Buffer.from(data.buffer, data.byteOffset, data.byteLength), width, height };
  // A file may announce alpha and have none: WebP by a flag, PNG by a chunk that does not fit its colours.
  const hasAlpha = layout.alphaIndex !== null && channelCount > 3 + layout.alphaIndex;
  return hasAlpha ? overWhite(samples, layout, scale) : opaqueOf(samples, scale);
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
  readonly black: number;
  /** Value of one 8-bit level. */
  readonly step: number;
}

function scaleOf({ data, channelCount }: Samples, { depth, range }: SampleLayout): Scale | Finding {
  const colourCount = channelCount === 1 ? 1 : 3;
  switch (depth) {
    case 'UINT8':
      return scaleOver(range ?? [0, 255]);
    case 'UINT16': {
      if (range !== null) return scaleOver(range);
      const greatest = extremesOf(data, channelCount, colourCount)[1];
      if (greatest >= UINT16_BRIGHTEST_MIN) return scaleOver([0, UINT16_MAX]);
      return {
        issue: 'RANGE_NOT_STATED',
        reason: `16-bit samples that reach only ${greatest} of 65535: they hold fewer bits (10 to 15) or labels, and the file does not say so. Rescale them to the whole range, or state SMaxSampleValue (tag 341) in a TIFF.`,
      };
    }
    case 'FLOAT': {
      const [least, greatest] = extremesOf(data, channelCount, colourCount);
      const [black, white] = range ?? [0, 1];
      if (least >= black && greatest <= white) return scaleOver([black, white]);
      return {
        issue: 'RANGE_NOT_STATED',
        reason: `Floating-point samples from ${rounded(least)} to ${rounded(greatest)}, outside ${black}..${white}: nobody says which value is white. Convert them to 8 bits.`,
      };
    }
  }
}

function scaleOver([black, white]: readonly [number, number]): Scale {
  return { black, step: (white - black) / 255 };
}

/** Least and greatest of the colour; NaN is neither, and fails every comparison of the caller. */
function extremesOf(data: Samples['data'], channelCount: number, colourCount: number): [number, number] {
  let least = Infinity;
  let greatest = -Infinity;
  for (let pixel = 0; pixel < data.length; pixel += channelCount) {
    for (let channel = 0; channel < colourCount; channel += 1) {
      const value = data[pixel + channel] ?? 0;
      if (Number.isNaN(value)) return [value, value];
      if (value < least) least = value;
      if (value > greatest) greatest = value;
    }
  }
  return [least, greatest];
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
