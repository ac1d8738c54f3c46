/** The views of one step, which the trainer reads in parts, so that only one part has to be on the device at a time. */
import { asRank4, scoped, tf } from '../tensorflow.ts';
import type { Tensor4D } from '../tensorflow.ts';

export interface StepViews {
  /** N */
  readonly imageCount: number;
  /**
   * Both views of images `start`..`start + count - 1`: [2 * count, H, W, 3] float32, normalised, first views before
   * second views. Repeated calls for the same images give the same views. The caller disposes them.
   */
  make(start: number, count: number): Tensor4D;
}

/**
 * Divides views that are already on the device into parts. The caller keeps ownership of the tensor.
 *
 * @param views [2N, H, W, 3]; rows 0..N-1 the first views, rows N..2N-1 the second ones of the same images.
 * @throws RangeError for an odd number of views.
 */
export function viewsFrom(views: Tensor4D): StepViews {
  const [viewCount] = views.shape;
  if (viewCount % 2 !== 0) throw new RangeError(`Views come in pairs, not ${viewCount} of them.`);
  const imageCount = viewCount / 2;
  return {
    imageCount,
    make: (start, count) => {
      if (count === imageCount) return views.clone();
      return scoped(() => asRank4(tf.concat([start, imageCount + start].map((row) => tf.slice(views, row, count)))));
    },
  };
}
