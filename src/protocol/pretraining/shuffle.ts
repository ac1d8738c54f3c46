/** How a training mixes the images of its shards. */
import { z } from 'zod';

export const shuffleSchema = z.object({
  /** Images of this many shards are mixed, divided among the datasets by their shares of a batch. */
  windowShards: z.number().int(),
  /**
   * In the first epoch the first window holds only so many shards, and each one after it twice as many as the one
   * before, until they have their full size: the first batch waits for few shards. Null, as in configs frozen before
   * there was such a start: every window has its full size.
   */
  firstWindowShards: z.number().int().nullable().default(null),
  /**
   * The first step whose images follow from the seed in this order: 0, but for a run that began under an earlier order
   * of images and was continued.
   */
  sinceStep: z.number().int(),
});

export type ShuffleConfig = z.infer<typeof shuffleSchema>;

/**
 * 64 shards hold up to 640,000 images, and datasets of up to 127 shards are shuffled as a whole. On a larger dataset
 * that is sorted by label, two images of a batch have the same label with a probability of at most 1/64 more than in a
 * shuffle of all images; a wider window would have to wait for more shards before its first batch. Datasets from 48
 * shards on begin with a window of 16: with the 160,000 images that these hold.
 */
export const DEFAULT_SHUFFLE: ShuffleConfig = { windowShards: 64, firstWindowShards: 16, sinceStep: 0 };
