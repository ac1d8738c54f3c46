/**
 * TIFF: chooses the directory of the image, interprets its samples, and refuses what is not read. A TIFF can hold
 * nearly anything. Anything that is not listed here as supported is refused by name, because a decoder's guess could
 * give a wrong picture without an error.
 */
import { counted, GREY_8, type Finding, type ImageHeader, type SampleLayout } from './image-header.ts';
import { jpegFrameOf } from './jpeg.ts';
import { readTiffDirectories, type TiffDirectory } from './tiff-directory.ts';

/** Flags of NewSubfileType: a smaller copy of another directory, and a mask for one. */
const REDUCED_OR_MASK = 1 | 4;

const COMPRESSION_NAMES: Readonly<Record<number, string>> = {
  ...{ 6: 'JPEG of TIFF 6.0, which is obsolete', 9: 'JBIG', 10: 'JBIG', 32766: 'NeXT', 32809: 'ThunderScan' },
  ...{ 32908: 'Pixar', 32909: 'Pixar', 33003: 'JPEG 2000 of Aperio', 33005: 'JPEG 2000 of Aperio', 34661: 'JBIG' },
  ...{ 34676: 'SGI LogLuv', 34677: 'SGI LogLuv', 34712: 'JPEG 2000', 34887: 'LERC', 34892: 'lossy JPEG of DNG' },
  ...{ 34925: 'LZMA', 34933: 'PNG', 34934: 'JPEG XR', 22610: 'JPEG XR', 50000: 'Zstandard', 50002: 'JPEG XL' },
  ...{ 52546: 'JPEG XL of DNG', 65000: 'EER', 65001: 'EER', 65002: 'EER' },
};
/** None, CCITT (three kinds), LZW, JPEG, Deflate (two numbers), PackBits, WebP. */
const READ_COMPRESSIONS: readonly number[] = [1, 2, 3, 4, 5, 7, 8, 32773, 32946, 50001];
const CCITT: readonly number[] = [2, 3, 4];
const JPEG = 7;

const PHOTOMETRIC_NAMES: Readonly<Record<number, string>> = {
  ...{ 4: 'a transparency mask', 8: 'CIE L*a*b*', 9: 'ICC L*a*b*', 10: 'ITU L*a*b*', 32844: 'LogL', 32845: 'LogLuv' },
  ...{ 32803: 'the raw colour filter of a camera', 34892: 'raw values of a camera', 52527: 'depths' },
};
const WHITE_IS_ZERO = 0;
const BLACK_IS_ZERO = 1;
const RGB = 2;
const PALETTE = 3;
const SEPARATED = 5;
const YCBCR = 6;
const CMYK_INKS = 1;
const PLANES_APART = 2;

const UNSIGNED = 1;
const SIGNED = 2;
const FLOAT = 3;
/** "Undefined": integers without a stated sign, which every reader takes as unsigned. */
const UNDEFINED = 4;

const LOSSLESS_REASON =
  'A TIFF with lossless JPEG inside, which is not read. Save it uncompressed or with LZW or Deflate.';
const TILED_PLANES_REASON =
  'A TIFF of tiles whose colours are stored in separate planes. Save it with the samples of a pixel together, or in strips.';

/** @returns null if nothing parses, and a finding for an unsupported kind. */
export function readTiffHeader(bytes: Buffer): ImageHeader | Finding | null {
  const directories = readTiffDirectories(bytes);
  if (directories === 'TRUNCATED') return { issue: 'TRUNCATED' };
  if (directories === null) return null;
  const full = directories.filter((each) => (each.newSubfileType & REDUCED_OR_MASK) === 0);
  const [first, ...rest] = full.length === 0 ? directories : full;
  if (first === undefined) return null;
  // A thumbnail may come first, and may not be marked as one.
  const chosen = rest.reduce((best, each) => (areaOf(each) > areaOf(best) ? each : best), first);
  const others = [first, ...rest].filter((each) => each !== chosen);

  const samples = samplesOf(chosen);
  if ('issue' in samples) return samples;
  if (chosen.dataEnd > bytes.length) return { issue: 'TRUNCATED' };
  if (chosen.compression === JPEG) {
    const frame = jpegFrameOf(bytes.subarray(chosen.dataStart));
    if (frame !== null && frame.isLossless) return { issue: 'COMPRESSION_NOT_READ', reason: LOSSLESS_REASON };
  }
  const planes = planesFinding(chosen, others);
  if (planes !== null && planes.issue !== 'PAGES_LEFT_OUT') return planes;
  return {
    format: 'TIFF',
    width: chosen.imageWidth,
    height: chosen.imageLength,
    // Readers of shards do not support TIFF.
    isPlain: false,
    hasProfile: chosen.hasProfile,
    isUpright: chosen.orientation === 1,
    samples,
    ...{ page: chosen.page, subIfd: chosen.subIfd },
    notes: [...(planes === null ? [] : [planes]), ...leftOutChannels(samples)],
  };
}

/** The meaning of the samples, or the name of the kind that is not supported. */
function samplesOf(directory: TiffDirectory): SampleLayout | Finding {
  const { compression, photometricInterpretation: photometric, samplesPerPixel } = directory;
  if (!READ_COMPRESSIONS.includes(compression)) {
    const name = COMPRESSION_NAMES[compression];
    return {
      issue: 'COMPRESSION_NOT_READ',
      reason: `A TIFF with compression ${compression}${name === undefined ? '' : ` (${name})`}, which is not read. Save it uncompressed or with LZW, Deflate or JPEG.`,
    };
  }
  const colour = colourOf(directory);
  if (typeof colour !== 'string') return colour;
  const depth = depthOf(directory);
  if (typeof depth !== 'string') return depth;
  const [bits = 0] = directory.bitsPerSample;
  const isGrey = photometric === BLACK_IS_ZERO || photometric === WHITE_IS_ZERO;
  if (bits < 8 && !isGrey && photometric !== PALETTE) return formatFinding(`${bits}-bit samples of colour`);
  if (depth !== 'UINT8' && !isGrey && photometric !== RGB)
    return formatFinding(`${bits}-bit samples of a palette, CMYK or YCbCr`);
  // libvips supports only zeros in these.
  if (depth === 'FLOAT' && bits === 16 && (isGrey || directory.planarConfiguration === PLANES_APART))
    return formatFinding('floating-point numbers of 16 bits, grey or with planes apart');
  if (directory.isTiled && directory.planarConfiguration === PLANES_APART && samplesPerPixel > 1)
    return { issue: 'SAMPLE_FORMAT_NOT_READ', reason: TILED_PLANES_REASON };
  const extraCount = samplesPerPixel - { GREY: 1, RGB: photometric === PALETTE ? 1 : 3, CMYK: 4 }[colour];
  if (extraCount < 0) return formatFinding(`${counted(samplesPerPixel, 'sample')} a pixel where the colour needs more`);
  if (extraCount > 0 && (depth === 'FLOAT' || photometric === PALETTE || colour === 'CMYK'))
    return formatFinding(`${counted(extraCount, 'extra sample')} beside floating-point, palette or CMYK colour`);
  const alphaIndex = directory.extraSamples.findIndex((kind) => kind === 1 || kind === 2);
  return {
    ...GREY_8,
    ...{ colour, depth, extraCount },
    white: whiteValueOf(directory, depth),
    isWhiteZero: photometric === WHITE_IS_ZERO,
    alphaIndex: alphaIndex >= 0 && alphaIndex < extraCount ? alphaIndex : null,
  };
}

function colourOf(directory: TiffDirectory): SampleLayout['colour'] | Finding {
  const { photometricInterpretation: photometric, compression } = directory;
  switch (photometric) {
    case WHITE_IS_ZERO:
    case BLACK_IS_ZERO:
      return 'GREY';
    case RGB:
    case PALETTE:
      return 'RGB';
    case YCBCR:
      if (compression === JPEG) return 'RGB';
      return colourFinding('YCbCr without JPEG compression');
    case SEPARATED:
      if (directory.inkSet === CMYK_INKS && directory.samplesPerPixel >= 4) return 'CMYK';
      return colourFinding('inks that are not CMYK');
    case null:
      return colourFinding('no photometric interpretation, so that it is unknown which value is black');
    default:
      return colourFinding(PHOTOMETRIC_NAMES[photometric] ?? `photometric interpretation ${photometric}`);
  }
}

function depthOf({ bitsPerSample, sampleFormat, compression }: TiffDirectory): SampleLayout['depth'] | Finding {
  const [bits = 0] = bitsPerSample;
  const [format = UNSIGNED] = sampleFormat;
  if (bitsPerSample.some((each) => each !== bits) || sampleFormat.some((each) => each !== format))
    return formatFinding(`samples of different kinds (${bitsPerSample.join(', ')} bits)`);
  if (CCITT.includes(compression) && bits !== 1) return formatFinding(`${bits}-bit samples in a fax compression`);
  switch (format) {
    case UNSIGNED:
    case UNDEFINED:
      if ([1, 2, 4, 8].includes(bits)) return 'UINT8';
      if (bits === 16) return 'UINT16';
      return formatFinding(`unsigned integers of ${bits} bits`);
    case FLOAT:
      if (bits === 16 || bits === 32) return 'FLOAT';
      return formatFinding(`floating-point numbers of ${bits} bits`);
    case SIGNED:
      return formatFinding(`signed integers of ${bits} bits, without a value for white`);
    default:
      return formatFinding(`complex numbers or sample format ${format}`);
  }
}

/**
 * SMaxSampleValue, with an SMinSampleValue of 0 or none, if it states the end of a scale: 1, or a number of bits that
 * are all ones. Other values were measured in this one picture, and would change its contrast. Otherwise, for 16 bits,
 * the SignificantBits of OME-XML.
 */
function whiteValueOf(
  { sMinSampleValue, sMaxSampleValue, imageDescription }: TiffDirectory,
  depth: SampleLayout['depth'],
): number | null {
  if (depth === 'UINT8') return null;
  const greatest = Math.max(...sMaxSampleValue);
  const isScale = greatest === 1 || (greatest >= 255 && Number.isInteger(Math.log2(greatest + 1)));
  if (isScale && sMinSampleValue.every((value) => value === 0)) return greatest;
  const significantBits = Number(omePixelsOf(imageDescription)?.('SignificantBits') ?? 0);
  const isStated = depth === 'UINT16' && significantBits >= 8 && significantBits <= 16;
  return isStated ? 2 ** significantBits - 1 : null;
}

/** Planes of one picture that are stored as pages, or pages of which one is imported. */
function planesFinding(chosen: TiffDirectory, others: readonly TiffDirectory[]): Finding | null {
  const stack = imageJStackOf(chosen.imageDescription) ?? omeStackOf(chosen.imageDescription);
  const isGrey = chosen.samplesPerPixel === 1 && chosen.photometricInterpretation !== PALETTE;
  if (isGrey && stack !== null && stack.channelCount > 1)
    return channelsFinding(`${counted(stack.channelCount, 'channel')} (${stack.writer})`);
  const likeIt = others.filter(
    ({ imageWidth, imageLength }) => imageWidth === chosen.imageWidth && imageLength === chosen.imageLength,
  );
  if (isGrey && likeIt.length > 0) return channelsFinding(`${likeIt.length + 1} grey pages of one size`);
  const leftOutCount = Math.max(others.length, (stack?.planeCount ?? 1) - 1);
  if (leftOutCount === 0) return null;
  return {
    issue: 'PAGES_LEFT_OUT',
    reason: `${counted(leftOutCount, 'page')} left out: page ${chosen.page + 1} (${chosen.imageWidth} x ${chosen.imageLength} px) is imported. Save the others as files of their own.`,
  };
}

interface Stack {
  readonly writer: string;
  readonly channelCount: number;
  readonly planeCount: number;
}

/** ImageJ describes a stack in lines such as `channels=3`; its planes may have no directories. */
function imageJStackOf(description: string): Stack | null {
  if (!description.startsWith('ImageJ=')) return null;
  const numberOf = (name: string): number => Number(new RegExp(`^${name}=(\\d+)`, 'm').exec(description)?.[1] ?? 1);
  return { writer: 'ImageJ', channelCount: numberOf('channels'), planeCount: numberOf('images') };
}

/** OME-XML; its planes may be in other files. */
function omeStackOf(description: string): Stack | null {
  const attributeOf = omePixelsOf(description);
  if (attributeOf === null) return null;
  const numberOf = (name: string): number => Number(attributeOf(name) ?? 1);
  const [channelCount, depth, times] = [numberOf('SizeC'), numberOf('SizeZ'), numberOf('SizeT')];
  return { writer: 'OME', channelCount, planeCount: depth * times };
}

/** The whole numbers in the attributes of Pixels in OME-XML, by name; null if there are none. */
function omePixelsOf(description: string): ((name: string) => string | undefined) | null {
  const [pixels] = /<(?:\w+:)?Pixels\s[^>]*>/.exec(description) ?? [];
  return pixels === undefined ? null : (name) => new RegExp(`\\b${name}="(\\d+)"`).exec(pixels)?.[1];
}

function areaOf({ imageWidth, imageLength }: TiffDirectory): number {
  return imageWidth * imageLength;
}

function leftOutChannels({ extraCount, alphaIndex }: SampleLayout): Finding[] {
  const count = extraCount - (alphaIndex === null ? 0 : 1);
  if (count < 1) return [];
  return [
    {
      issue: 'CHANNELS_LEFT_OUT',
      reason: `${counted(count, 'extra channel')} left out: the file does not say that it is alpha. Only its colour is imported.`,
    },
  ];
}

function channelsFinding(what: string): Finding {
  return {
    issue: 'SEPARATE_CHANNELS',
    reason: `A TIFF of ${what}: one of them alone would be a grey picture. Merge them to RGB first (ImageJ: Image > Type > RGB Color).`,
  };
}

function colourFinding(what: string): Finding {
  return { issue: 'COLOUR_SPACE_NOT_READ', reason: `A TIFF with ${what}. Convert it to RGB.` };
}

function formatFinding(what: string): Finding {
  return { issue: 'SAMPLE_FORMAT_NOT_READ', reason: `A TIFF with ${what}. Convert it to 8 bits, or to 16 unsigned.` };
}
