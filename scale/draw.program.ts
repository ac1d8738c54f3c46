/** Draws some of the images of a folder in a process of its own. */
import sharp from 'sharp';
import { z } from 'zod';
import { createTissueImages, drawImages } from './images.ts';
import { answerParent } from './measured-program.ts';

const requestSchema = z.object({
  seed: z.int(),
  folder: z.string(),
  firstPlace: z.int(),
  endPlace: z.int(),
  shiftFrom: z.int(),
  shift: z.int(),
});
export type DrawRequest = z.infer<typeof requestSchema>;

if (import.meta.main) {
  // An image of 64 px is too small to be encoded by several threads.
  sharp.concurrency(1);
  await answerParent(requestSchema, ({ seed, ...drawing }, onProgress) =>
    drawImages({ images: createTissueImages(seed), ...drawing, onProgress }),
  );
}
