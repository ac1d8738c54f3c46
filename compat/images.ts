/**
 * The images that every side embeds, written once as raw pixels so that the comparison does not depend on any decoder.
 */
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { CHECK_IMAGE_COUNT, checkPixels } from '../workers/exports/check-images.ts';
import type { ExportInputContract } from '../src/formats/encoder-export.ts';

/** 224 is the paper's size; at 64, TF.js's plain JavaScript backend takes only seconds. */
export const LARGE_SIZE_PX = 224;
export const SMALL_SIZE_PX = 64;
export const IMAGE_COUNT = CHECK_IMAGE_COUNT;

/** Mean and standard deviation differ by channel, so that a wrong order of channels is detected. */
export const COMPAT_CONTRACT: ExportInputContract = {
  imageSizePx: LARGE_SIZE_PX,
  resizeRule: 'SHORT_SIDE_THEN_CENTRE_CROP',
  channelOrder: 'RGB',
  valueRange: [0, 1],
  channelMean: [0.7, 0.5, 0.65],
  channelStd: [0.2, 0.25, 0.15],
  embeddingLayer: 'avgpool',
  pooling: 'AVGPOOL',
  interpolation: 'BILINEAR',
  weightsDtype: 'FLOAT32',
  micronsPerPixelMin: null,
  micronsPerPixelMax: null,
};

/** Writes `images.json` and `images-<size>.u8` into the folder. */
export async function writeSharedImages(workDir: string): Promise<void> {
  const sizesPx = [LARGE_SIZE_PX, SMALL_SIZE_PX];
  const { channelMean, channelStd } = COMPAT_CONTRACT;
  await writeFile(path.join(workDir, 'images.json'), JSON.stringify({ sizesPx, channelMean, channelStd }));
  for (const sizePx of sizesPx) await writeFile(path.join(workDir, `images-${sizePx}.u8`), checkPixels(sizePx));
}
