/** Draws the images of both versions in as many processes as there are cores, because one uses little more than one. */
import { rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import type { DrawRequest } from './draw.program.ts';
import { runMeasured } from './measured-program.ts';
import { copyCountOf, IMAGES_PER_GROUP } from './plan.ts';
import { foldersOf, type DrawingContext, type StageOutcome } from './stages.ts';

const PROGRAM = path.join(import.meta.dirname, 'draw.program.ts');

/** @throws the reason of the signal, and Error if a process fails. */
export async function draw({ size, folder, signal, onProgress }: DrawingContext): Promise<StageOutcome> {
  const { imageCount, testImageCount, seed } = size;
  const { whole, tested } = foldersOf(folder);
  const startMs = performance.now();
  await rm(folder, { recursive: true, force: true });
  const total = imageCount + testImageCount;
  let processorMs = 0;
  let storedBytes = 0;
  let finished = 0;
  for (const version of [
    { folder: whole, count: imageCount, shiftFrom: imageCount, shift: 0 },
    // Behind the copies of images of the first version come images with numbers that it does not have.
    { folder: tested, count: testImageCount, shiftFrom: copyCountOf(size), shift: imageCount },
  ]) {
    const { count, ...drawn } = version;
    const shares = sharesOf(count, os.availableParallelism());
    const doneCounts = shares.map(() => 0);
    const failed = new AbortController();
    // Settled, so that no process writes any more when the caller removes the folder.
    const settled = await Promise.allSettled(
      shares.map((share, place) =>
        runMeasured({
          ...{ name: 'draw', file: PROGRAM, signal: AbortSignal.any([signal, failed.signal]) },
          request: { ...drawn, ...share, seed } satisfies DrawRequest,
          onProgress: (fraction) => {
            doneCounts[place] = Math.round(fraction * (share.endPlace - share.firstPlace));
            const done = finished + doneCounts.reduce((sum, each) => sum + each, 0);
            onProgress(done / total, `${done} of ${total} images`);
          },
        }).catch((error: unknown) => {
          failed.abort(error);
          throw error;
        }),
      ),
    );
    failed.signal.throwIfAborted();
    const measures = settled.flatMap((each) => (each.status === 'fulfilled' ? [each.value] : []));
    for (const measure of measures) {
      processorMs += measure.processorMs;
      storedBytes += measure.storedBytes;
    }
    finished += count;
  }
  const durationMs = performance.now() - startMs;
  const part = { name: 'draw', imageCount: total, durationMs, processorMs, peakBytes: {}, storedBytes };
  return { parts: [part], ids: {} };
}

/** Of similar size; two processes never write into the folder of one group. */
function sharesOf(imageCount: number, shareCount: number): { firstPlace: number; endPlace: number }[] {
  const groupCount = Math.ceil(imageCount / IMAGES_PER_GROUP);
  const placeOf = (share: number): number =>
    Math.min(imageCount, Math.floor((share * groupCount) / shareCount) * IMAGES_PER_GROUP);
  return Array.from({ length: shareCount }, (_, share) => ({
    firstPlace: placeOf(share),
    endPlace: share + 1 === shareCount ? imageCount : placeOf(share + 1),
  })).filter(({ firstPlace, endPlace }) => endPlace > firstPlace);
}
