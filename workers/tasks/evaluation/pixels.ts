/**
 * Stores decoded images in one file of the run for repeated reads in any order, so that memory does not grow with their
 * number.
 */
import { closeSync, openSync, readSync } from 'node:fs';
import { open } from 'node:fs/promises';
import path from 'node:path';
import type { SealedVersion } from '../../../src/protocol/dataset-version.ts';
import { openEvaluationImages } from '../../engine/data/batches.ts';
import type { ManifestImages } from '../../engine/data/manifest.ts';
import { embeddingBatchSize } from '../../engine/embed.ts';
import { openShardSources } from '../shard-sources.ts';
import { storedDecoderOf } from '../stored-decoder.ts';
import type { TaskContext } from '../task.ts';
import type { InputContract } from '../../../src/protocol/checkpoint.ts';

export interface Pixels {
  /** uint8 RGB `[places.length, S, S, 3]` of the images at these indexes of the list. */
  readonly read: (places: Int32Array) => Uint8Array;
  close(): Promise<void>;
}

export interface PixelRequest {
  readonly inputContract: Pick<InputContract, 'imageSizePx' | 'resizeRule' | 'interpolation'>;
  readonly version: SealedVersion;
  readonly images: ManifestImages;
  readonly onProgress: (done: number, message: string) => Promise<void>;
}

/**
 * Decodes every image once, as the input contract specifies, into a file in the run's own folder, which is deleted at
 * the end.
 */
export async function openPixels(
  context: TaskContext,
  { inputContract, version, images, onProgress }: PixelRequest,
): Promise<Pixels> {
  const { imageSizePx, resizeRule, interpolation } = inputContract;
  const imageBytes = imageSizePx * imageSizePx * 3;
  const filePath = path.join(context.workDir, 'pixels.u8');
  await using sources = openShardSources(context, version);
  const { shards } = sources;
  const file = await open(filePath, 'wx');
  try {
    let done = 0;
    for await (const batch of openEvaluationImages({
      shards,
      images,
      batchSize: embeddingBatchSize(imageSizePx),
      imageSizePx,
      resizeRule,
      interpolation,
      openDecoder: storedDecoderOf(context),
    })) {
      await file.appendFile(batch.images);
      done += batch.imageCount;
      await onProgress(done / images.length, `Decoded ${done} of ${images.length} images.`);
    }
  } finally {
    await file.close();
  }
  const descriptor = openSync(filePath, 'r');
  return {
    read: (places) => {
      const pixels = new Uint8Array(places.length * imageBytes);
      for (const [index, place] of places.entries()) {
        const count = readSync(descriptor, pixels, index * imageBytes, imageBytes, place * imageBytes);
        if (count !== imageBytes) throw new Error(`Image ${place} is incomplete in the file of decoded pixels.`);
      }
      return pixels;
    },
    close: () => {
      closeSync(descriptor);
      return Promise.resolve();
    },
  };
}
