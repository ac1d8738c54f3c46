/**
 * Draws a million small images in minutes: crops of some large drawings of tissue, mirrored and turned, each with noise
 * of its own. The same options give the same pixels.
 */
import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import sharp from 'sharp';
import { createDraw, drawStain } from '../src/synthetic/tissue-canvas.ts';
import { drawImage, TISSUE_LABELS } from '../src/synthetic/tissue.ts';
import { IMAGE_SIZE_PX, IMAGES_PER_GROUP } from './plan.ts';

const SHEETS_PER_LABEL = 10;
const SHEET_SIZE_PX = 256;
/** Of the noise, in 8-bit steps: so much that two images are never equal, so little that tissue stays visible. */
const NOISE_STD = 5;
const NOISE_LENGTH = 1 << 20;
const JPEG_QUALITY = 85;
/** Images that are encoded or written at one time: libvips encodes in threads, while this one draws. */
const IN_FLIGHT = 32;
const LABEL_COUNT = TISSUE_LABELS.length;

export interface TissueImages {
  /** JPEG of the image with this number; the same number is the same image. */
  encode(index: number): Promise<Buffer>;
}

export function createTissueImages(seed: number): TissueImages {
  const sheets = TISSUE_LABELS.map((label, labelIndex) =>
    Array.from({ length: SHEETS_PER_LABEL }, (_, sheet) => {
      const draw = createDraw(seed * 7919 + labelIndex * 104_729 + sheet);
      return drawImage(label, SHEET_SIZE_PX, drawStain(draw), draw);
    }),
  );
  const noise = createNoiseTable(seed);
  return {
    encode: (index) => {
      const draw = createDraw(seed * 1_000_003 + index);
      const sheet = sheets[index % LABEL_COUNT]?.[Math.floor(draw() * SHEETS_PER_LABEL)];
      if (sheet === undefined) throw new RangeError(`There is no image ${index}.`);
      return sharp(noisyCrop(sheet, noise, draw), {
        raw: { width: IMAGE_SIZE_PX, height: IMAGE_SIZE_PX, channels: 3 },
      })
        .jpeg({ quality: JPEG_QUALITY })
        .toBuffer();
    },
  };
}

/** Normally distributed, in 8-bit steps. */
function createNoiseTable(seed: number): Int8Array {
  const draw = createDraw(seed);
  return Int8Array.from({ length: NOISE_LENGTH }, () => {
    const radius = Math.sqrt(-2 * Math.log(1 - draw()));
    return Math.round(NOISE_STD * radius * Math.cos(2 * Math.PI * draw()));
  });
}

/** A crop in one of its eight orientations, `[64, 64, 3]`. */
function noisyCrop(sheet: Buffer, noise: Int8Array, draw: () => number): Buffer {
  const room = SHEET_SIZE_PX - IMAGE_SIZE_PX + 1;
  const left = Math.floor(draw() * room);
  const top = Math.floor(draw() * room);
  const orientation = Math.floor(draw() * 8);
  const [isMirrored, isFlipped, isTransposed] = [(orientation & 1) > 0, (orientation & 2) > 0, (orientation & 4) > 0];
  let place = Math.floor(draw() * NOISE_LENGTH);
  const last = IMAGE_SIZE_PX - 1;
  const pixels = Buffer.allocUnsafe(IMAGE_SIZE_PX * IMAGE_SIZE_PX * 3);
  let offset = 0;
  for (let y = 0; y < IMAGE_SIZE_PX; y += 1) {
    for (let x = 0; x < IMAGE_SIZE_PX; x += 1) {
      const across = isMirrored ? last - x : x;
      const down = isFlipped ? last - y : y;
      const from = ((top + (isTransposed ? across : down)) * SHEET_SIZE_PX + left + (isTransposed ? down : across)) * 3;
      for (let channel = 0; channel < 3; channel += 1) {
        const level = (sheet[from + channel] ?? 0) + (noise[place] ?? 0);
        pixels[offset] = level < 0 ? 0 : level > 255 ? 255 : level;
        offset += 1;
        place = (place + 1) & (NOISE_LENGTH - 1);
      }
    }
  }
  return pixels;
}

/** Relative path of an image: label, patient, number. Every patient has images of every label. */
export function pathOfImage(place: number): string {
  const group = `patient-${String(Math.floor(place / IMAGES_PER_GROUP)).padStart(6, '0')}`;
  return `${TISSUE_LABELS[place % LABEL_COUNT] ?? ''}/${group}/${String(place).padStart(8, '0')}.jpg`;
}

/** Some of the images of a folder. */
export interface DrawnPart {
  /** Created if it is missing. */
  readonly folder: string;
  readonly firstPlace: number;
  /** The place behind the last one. */
  readonly endPlace: number;
  /** The image at a place has its number, and from this place on a number that is `shift` higher. */
  readonly shiftFrom: number;
  /** A multiple of the number of labels. */
  readonly shift: number;
}

export interface Drawing extends DrawnPart {
  readonly images: TissueImages;
  /** Of this part, 0..1. */
  readonly onProgress: (fraction: number) => void;
}

/** Writes the images. @returns the bytes of all files. */
export async function drawImages(drawing: Drawing): Promise<number> {
  const { images, folder, firstPlace, endPlace, shiftFrom, shift, onProgress } = drawing;
  let byteSize = 0;
  let doneCount = 0;
  let next = firstPlace;
  const madeFolders = new Set<string>();
  const work = async (): Promise<void> => {
    while (next < endPlace) {
      const place = next;
      next += 1;
      const bytes = await images.encode(place < shiftFrom ? place : place + shift);
      const file = path.join(folder, pathOfImage(place));
      const parent = path.dirname(file);
      if (!madeFolders.has(parent)) {
        await mkdir(parent, { recursive: true });
        madeFolders.add(parent);
      }
      await writeFile(file, bytes);
      byteSize += bytes.length;
      doneCount += 1;
      onProgress(doneCount / (endPlace - firstPlace));
    }
  };
  await Promise.all(Array.from({ length: IN_FLIGHT }, work));
  return byteSize;
}
