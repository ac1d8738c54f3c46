/**
 * The views of one step, as the trainer takes them: in parts, so that no more than a part need be on the device at
 * once.
 */
import { asRank4, scoped, tf } from '../tensorflow.ts';
import type { Tensor4D } from '../tensorflow.ts';

export interface StepViews {
  /** N */
  readonly imageCount: number;
  /**
   * Both views of images `start`..`start + count - 1`: [2 * count, H, W, 3] float32, normalised, first their first
   * views, then their second ones. Asked for the same images twice it gives the same views. The caller disposes them.
   */
  make(start: number, count: number): Tensor4D;
}

/**
 * Views that are on the device already, cut into parts. The tensor stays its maker's.
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
