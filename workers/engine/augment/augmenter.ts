/**
 * The views of a method, made on the device from parameters drawn on the host: by default the two of SimCLR (Chen et
 * al. 2020).
 */
import type { Random } from '../rng.ts';
import { asRank4, scoped, tf, type Tensor4D } from '../tensorflow.ts';
import { blurKernelSizePx, gaussianBlur } from './blur.ts';
import { greyOut, jitterColours, solarise } from './colour.ts';
import type { ViewGroup } from './config.ts';
import { resampleViews } from './geometry.ts';
import { jitterStains } from './stain.ts';
import { COLOUR_OPS, drawView, type ColourOp, type ViewParameters } from './parameters.ts';

export interface Augmenter {
  /** Number of views of each image in each group, as in `StepViews`. */
  readonly viewCounts: readonly number[];
  /**
   * The first group of the views of every image, normalised to -1..1 (mean and standard deviation 0.5): `[V * N,
   * sizePx, sizePx, 3]` float32, all first views come first, then all second views. Images are `[N, S, S, 3]`, 0..255,
   * int32 or float32. The same state of `random` gives the same views. The caller disposes the result. Throws
   * RangeError for images that are not square or not RGB.
   */
  views(images: Tensor4D, random: Random): Tensor4D;
  /**
   * Draws the random parameters of all views for `imageCount` images of `sourceSizePx` px once, so that the views can
   * be made in parts.
   */
  draw(imageCount: number, sourceSizePx: number, random: Random): DrawnViews;
}

/** The parameters of a batch's views, drawn before any pixel is read. */
export interface DrawnViews {
  /**
   * The views of a group [the first] of consecutive images from index `start` on, equal to those that `Augmenter.views`
   * makes for the whole batch.
   */
  make(images: Tensor4D, start: number, group?: number): Tensor4D;
}

/** @throws RangeError when a size is not an integer from 8. */
export function createAugmenter(groups: readonly ViewGroup[]): Augmenter {
  for (const { sizePx } of groups)
    if (!Number.isSafeInteger(sizePx) || sizePx < 8)
      throw new RangeError(`The size of a view must be an integer from 8, not ${sizePx}.`);
  const draw: Augmenter['draw'] = (imageCount, sourceSizePx, random) => {
    const drawn = groups.map(({ sizePx, augmentations }) => ({
      sizePx,
      parameters: augmentations.map((augmentation) =>
        Array.from({ length: imageCount }, () => drawView(augmentation, sourceSizePx, sizePx, random)),
      ),
    }));
    // The batch shares one order of operations, where torchvision draws one for each image, so that every operation is
    // one op over the whole batch.
    const order = random.shuffled(COLOUR_OPS);
    return {
      make: (images, start, group = 0) => {
        const [count, height, width, channelCount] = images.shape;
        if (height !== sourceSizePx || width !== sourceSizePx || channelCount !== 3) {
          throw new RangeError(
            `Images must be [N, S, S, 3] with S = ${sourceSizePx}, not [${images.shape.join(', ')}].`,
          );
        }
        const wanted = drawn[group];
        if (wanted === undefined) throw new RangeError(`There is no group ${group} of views.`);
        const part = wanted.parameters.flatMap((ofView) => ofView.slice(start, start + count));
        return renderViews(images, part, order, wanted.sizePx);
      },
    };
  };
  return {
    viewCounts: groups.map(({ augmentations }) => augmentations.length),
    draw,
    views: (images, random) => draw(images.shape[0], images.shape[1], random).make(images, 0),
  };
}

/**
 * Makes views from parameters that are already drawn: the first N are for the first views, the next N for the second,
 * and so on.
 */
export function renderViews(
  images: Tensor4D,
  parameters: readonly ViewParameters[],
  order: readonly ColourOp[],
  sizePx: number,
): Tensor4D {
  return scoped(() => {
    const imageCount = images.shape[0];
    const source = tf.cast(images, 'float32');
    const geometries = parameters.map((view) => view.geometry);
    const cropped = tf.concat(
      Array.from({ length: parameters.length / imageCount }, (_, view) =>
        resampleViews(source, geometries.slice(view * imageCount, (view + 1) * imageCount), sizePx),
      ),
    );
    const stained = jitterStains(
      asRank4(tf.mul(cropped, 1 / 255)),
      parameters.map((view) => view.stain),
    );
    const jittered = jitterColours(
      stained,
      parameters.map((view) => view.colour),
      order,
    );
    const greyed = greyOut(
      jittered,
      parameters.map((view) => view.grey),
    );
    const blurred = gaussianBlur(
      greyed,
      parameters.map((view) => view.blurSigmaPx),
      blurKernelSizePx(sizePx),
    );
    const solarised = solarise(
      blurred,
      parameters.map((view) => view.solarised),
    );
    return asRank4(tf.sub(tf.mul(solarised, 2), 1));
  });
}
