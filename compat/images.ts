/** The images that every side embeds, written once as bytes so that no side's decoder has a part in the comparison. */
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { goldenPixels } from '../workers/engine/golden-image.ts';
import type { ExportInputContract } from '../src/formats/encoder-export.ts';

/** 224 is the paper's; 64 keeps TF.js's plain JavaScript backend to seconds. */
export const LARGE_SIZE_PX = 224;
export const SMALL_SIZE_PX = 64;
export const IMAGE_COUNT = 3;

/** Mean and standard deviation differ by channel, so that a mixed-up order of channels is seen. */
export const COMPAT_CONTRACT: ExportInputContract = {
  imageSizePx: LARGE_SIZE_PX,
  resizeRule: 'SHORT_SIDE_THEN_CENTRE_CROP',
  channelOrder: 'RGB',
  valueRange: [0, 1],
  channelMean: [0.7, 0.5, 0.65],
  channelStd: [0.2, 0.25, 0.15],
  embeddingLayer: 'avgpool',
  micronsPerPixelMin: null,
  micronsPerPixelMax: null,
};

/** uint8 `[3, S, S, 3]`: the golden image, the same inside out, and noise. */
function sharedPixels(sizePx: number): Uint8Array {
  const golden = goldenPixels(sizePx);
  let state = 1;
  const noise = golden.map(() => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state >>> 24;
  });
  return Uint8Array.from([...golden, ...golden.map((value) => 255 - value).reverse(), ...noise]);
}

/** Writes `images.json` and `images-<size>.u8` into the folder. */
export async function writeSharedImages(workDir: string): Promise<void> {
  const sizesPx = [LARGE_SIZE_PX, SMALL_SIZE_PX];
  const { channelMean, channelStd } = COMPAT_CONTRACT;
  await writeFile(path.join(workDir, 'images.json'), JSON.stringify({ sizesPx, channelMean, channelStd }));
  for (const sizePx of sizesPx) await writeFile(path.join(workDir, `images-${sizePx}.u8`), sharedPixels(sizePx));
}
