/** The views of one step, which the trainer reads in parts, so that only one part has to be on the device at a time. */
import { asRank4, scoped, tf } from '../tensorflow.ts';
import type { Tensor4D } from '../tensorflow.ts';

export interface StepViews {
  /** N */
  readonly imageCount: number;
  /** Number of views of each image in each group: those of a group have one size and pass an encoder together. */
  readonly viewCounts: readonly number[];
  /**
   * The V views of a group of images `start`..`start + count - 1`: [V * count, H, W, 3] float32, normalised, first
   * views before second views. Repeated calls for the same images give the same views. The caller disposes them.
   */
  make(start: number, count: number, group: number): Tensor4D;
}

/**
 * Divides pairs of views that are already on the device into parts. The caller keeps ownership of the tensor.
 *
 * @param views [2N, H, W, 3]; rows 0..N-1 the first views, rows N..2N-1 the second ones of the same images.
 * @throws RangeError for an odd number of views.
 */
export function viewsFrom(views: Tensor4D): StepViews {
  const [viewCount] = views.shape;
  if (viewCount % 2 !== 0) throw new RangeError(`Views come in pairs, not ${viewCount} of them.`);
  return viewGroupsFrom(viewCount / 2, [views]);
}

/**
 * Like `viewsFrom`, for any number of views in groups of one size each.
 *
 * @param groups each [V * imageCount, H, W, 3], first views before second views.
 * @throws RangeError for a group whose rows are not whole views of all images.
 */
export function viewGroupsFrom(imageCount: number, groups: readonly Tensor4D[]): StepViews {
  const viewCounts = groups.map(({ shape: [rowCount] }) => {
    if (rowCount % imageCount !== 0)
      throw new RangeError(`${rowCount} views are not whole views of ${imageCount} images.`);
    return rowCount / imageCount;
  });
  return {
    imageCount,
    viewCounts,
    make: (start, count, group) => {
      const views = groups[group];
      if (views === undefined) throw new RangeError(`There is no group ${group} of views.`);
      if (count === imageCount) return views.clone();
      const starts = Array.from({ length: viewCounts[group] ?? 0 }, (_, view) => view * imageCount + start);
      return scoped(() => asRank4(tf.concat(starts.map((row) => tf.slice(views, row, count)))));
    },
  };
}
