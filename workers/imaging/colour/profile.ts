/**
 * ICC profiles (ICC.1). They are applied once, at import, to pixels that are already 8-bit, so that one rule holds for
 * every format and depth and every reader gets the same colours from the stored bytes.
 */
import { createHash } from 'node:crypto';
import sharp from 'sharp';
import type { Pixels } from '../pixels.ts';

/** The effect of a profile on this image. */
export interface ProfileEffect {
  /** Lower-case hex. */
  readonly sha256: string;
  /**
   * False if the profile is sRGB, or so close to it that no level changes by more than one; the pixels are left
   * unchanged.
   */
  readonly changesPixels: boolean;
}

/** As the profile's header names it. */
const COLOUR_SPACES = { GREY: 'GRAY', RGB: 'RGB ', CMYK: 'CMYK' } as const;
type ProfileColour = keyof typeof COLOUR_SPACES;
const CHANNEL_COUNTS = { GREY: 1, RGB: 3, CMYK: 4 } as const;

const HEADER_BYTES = 128;
const SIGNATURE = 'acsp';
/** Levels of each channel in the lattice of test colours: 17 x 17 x 17. */
const PROBE_LEVELS = 17;
/** Rounding alone moves a level by one. */
const NO_CHANGE_MAX = 1;
/** A dataset comes from a few scanners. The limit keeps a dataset with one profile per image from filling memory. */
const REMEMBERED_MAX = 64;

/** @returns why the profile cannot be applied to this colour, or null if it can. */
export function profileFault(profile: Buffer, colour: ProfileColour): string | null {
  if (profile.length < HEADER_BYTES || profile.toString('latin1', 36, 40) !== SIGNATURE)
    return 'the profile is not an ICC profile';
  if (profile.readUInt32BE(0) > profile.length) return 'the profile is cut off';
  const space = profile.toString('latin1', 16, 20);
  if (space !== COLOUR_SPACES[colour]) return `the profile is for ${space.trim()} and the image is ${colour}`;
  return null;
}

const effects = new Map<string, Promise<ProfileEffect>>();

/** Evaluated once for each profile: its effect on a lattice of colours shows its effect on any image. */
export function effectOf(profile: Buffer, colour: ProfileColour): Promise<ProfileEffect> {
  const sha256 = createHash('sha256').update(profile).digest('hex');
  const name = `${colour} ${sha256}`;
  const known = effects.get(name);
  if (known !== undefined) return known;
  if (effects.size >= REMEMBERED_MAX) effects.clear();
  // CMYK is never close to sRGB, so it is always converted.
  const effect = (colour === 'CMYK' ? Promise.resolve(true) : probe(profile, colour)).then((changesPixels) => ({
    sha256,
    changesPixels,
  }));
  effects.set(name, effect);
  return effect;
}

async function probe(profile: Buffer, colour: 'GREY' | 'RGB'): Promise<boolean> {
  const lattice = colour === 'GREY' ? Buffer.from(Array.from({ length: 256 }, (_, level) => level)) : rgbLattice();
  const width = lattice.length / CHANNEL_COUNTS[colour];
  const { data } = await convert({ data: lattice, width, height: 1 }, profile, colour);
  return data.some((level, index) => {
    const before = colour === 'GREY' ? lattice[Math.floor(index / 3)] : lattice[index];
    return Math.abs(level - (before ?? 0)) > NO_CHANGE_MAX;
  });
}

function rgbLattice(): Buffer {
  const level = (index: number): number => Math.round((index * 255) / (PROBE_LEVELS - 1));
  const lattice = Buffer.alloc(PROBE_LEVELS ** 3 * 3);
  for (let colour = 0; colour < PROBE_LEVELS ** 3; colour += 1) {
    lattice[colour * 3] = level(colour % PROBE_LEVELS);
    lattice[colour * 3 + 1] = level(Math.floor(colour / PROBE_LEVELS) % PROBE_LEVELS);
    lattice[colour * 3 + 2] = level(Math.floor(colour / PROBE_LEVELS ** 2));
  }
  return lattice;
}

/**
 * Converts through the profile to sRGB, with the perceptual intent.
 * @param image uint8 `[height, width, 1 | 3 | 4]` by `colour`; CMYK with 255 = full ink.
 */
export async function convert(
  image: { readonly data: Uint8Array; readonly width: number; readonly height: number },
  profile: Buffer,
  colour: ProfileColour,
): Promise<Pixels> {
  const { data, info } = await sharp(tiffWith(image, profile, colour), {
    limitInputPixels: false,
    sequentialRead: true,
  })
    .toColourspace('srgb')
    .raw({ depth: 'uchar' })
    .toBuffer({ resolveWithObject: true });
  if (info.channels !== 3) throw new Error(`The converted image has ${info.channels} channels.`);
  return { data, width: info.width, height: info.height };
}

/**
 * libvips reads a profile only as part of an image file, so it gets the simplest one: an uncompressed TIFF of one
 * strip.
 */
function tiffWith(
  { data, width, height }: { readonly data: Uint8Array; readonly width: number; readonly height: number },
  profile: Buffer,
  colour: ProfileColour,
): Buffer {
  const channelCount = CHANNEL_COUNTS[colour];
  const photometric = { GREY: 1, RGB: 2, CMYK: 5 }[colour];
  const [SHORT, LONG, UNDEFINED] = [3, 4, 7];
  const entryCount = 11;
  const directoryAt = 8;
  const bitsAt = directoryAt + 2 + entryCount * 12 + 4;
  const profileAt = bitsAt + channelCount * 2;
  const pixelsAt = profileAt + profile.length + (profile.length % 2);
  const head = Buffer.alloc(pixelsAt);
  head.write('II*\0', 0, 'latin1');
  head.writeUInt32LE(directoryAt, 4);
  head.writeUInt16LE(entryCount, directoryAt);
  // Up to two 16-bit values are stored in the entry itself.
  const bits = channelCount === 1 ? 8 : bitsAt;
  const entries: readonly (readonly [number, number, number, number])[] = [
    [256, LONG, 1, width],
    [257, LONG, 1, height],
    [258, SHORT, channelCount, bits],
    [259, SHORT, 1, 1],
    [262, SHORT, 1, photometric],
    [273, LONG, 1, pixelsAt],
    [277, SHORT, 1, channelCount],
    [278, LONG, 1, height],
    [279, LONG, 1, data.length],
    [284, SHORT, 1, 1],
    [34675, UNDEFINED, profile.length, profileAt],
  ];
  for (const [index, [tag, type, count, value]] of entries.entries()) {
    const at = directoryAt + 2 + index * 12;
    head.writeUInt16LE(tag, at);
    head.writeUInt16LE(type, at + 2);
    head.writeUInt32LE(count, at + 4);
    head.writeUInt32LE(value, at + 8);
  }
  for (let channel = 0; channel < channelCount; channel += 1) head.writeUInt16LE(8, bitsAt + channel * 2);
  profile.copy(head, profileAt);
  return Buffer.concat([head, data]);
}
