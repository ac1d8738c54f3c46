/** The two views of SimCLR (Chen et al. 2020), made on the device from parameters drawn on the host. */
import type { Random } from '../rng.ts';
import { asRank4, scoped, tf, type Tensor4D } from '../tensorflow.ts';
import { blurKernelSizePx, gaussianBlur } from './blur.ts';
import { greyOut, jitterColours } from './colour.ts';
import type { AugmentationConfig } from './config.ts';
import { resampleViews } from './geometry.ts';
import { jitterStains } from './stain.ts';
import { COLOUR_OPS, drawView, type ColourOp, type ViewParameters } from './parameters.ts';

export interface Augmenter {
  /**
   * Two views of every image, normalised to -1..1 (mean and standard deviation 0.5): `[2N, imageSizePx, imageSizePx,
   * 3]` float32, all first views come first, then all second views. Images are `[N, S, S, 3]`, 0..255, int32 or
   * float32. The same state of `random` gives the same views. The caller disposes the result. Throws RangeError for
   * images that are not square or not RGB.
   */
  views(images: Tensor4D, random: Random): Tensor4D;
  /**
   * Draws the random parameters of those views for `imageCount` images of `sourceSizePx` px once, so that the views can
   * be made in parts.
   */
  draw(imageCount: number, sourceSizePx: number, random: Random): DrawnViews;
}

/** The parameters of a batch's views, drawn before any pixel is read. */
export interface DrawnViews {
  /**
   * The views of consecutive images from index `start` on, equal to those that `Augmenter.views` makes for the whole
   * batch.
   */
  make(images: Tensor4D, start: number): Tensor4D;
}

/** Throws RangeError when imageSizePx is not an integer from 8. */
export function createAugmenter(config: AugmentationConfig, imageSizePx: number): Augmenter {
  if (!Number.isSafeInteger(imageSizePx) || imageSizePx < 8)
    throw new RangeError(`imageSizePx must be an integer from 8, not ${imageSizePx}.`);
  const draw: Augmenter['draw'] = (imageCount, sourceSizePx, random) => {
    const parameters = Array.from({ length: 2 * imageCount }, () =>
      drawView(config, sourceSizePx, imageSizePx, random),
    );
    // The batch shares one order of operations, where torchvision draws one for each image, so that every operation is
    // one op over the whole batch.
    const order = random.shuffled(COLOUR_OPS);
    return {
      make: (images, start) => {
        const [count, height, width, channelCount] = images.shape;
        if (height !== sourceSizePx || width !== sourceSizePx || channelCount !== 3) {
          throw new RangeError(
            `Images must be [N, S, S, 3] with S = ${sourceSizePx}, not [${images.shape.join(', ')}].`,
          );
        }
        const part = [start, imageCount + start].flatMap((first) => parameters.slice(first, first + count));
        return renderViews(images, part, order, imageSizePx);
      },
    };
  };
  return { draw, views: (images, random) => draw(images.shape[0], images.shape[1], random).make(images, 0) };
}

/**
 * Makes views from parameters that are already drawn: the first N are for the first views, the next N for the second.
 */
export function renderViews(
  images: Tensor4D,
  parameters: readonly ViewParameters[],
  order: readonly ColourOp[],
  imageSizePx: number,
): Tensor4D {
  return scoped(() => {
    const imageCount = images.shape[0];
    const source = tf.cast(images, 'float32');
    const geometries = parameters.map((view) => view.geometry);
    const cropped = tf.concat([
      resampleViews(source, geometries.slice(0, imageCount), imageSizePx),
      resampleViews(source, geometries.slice(imageCount), imageSizePx),
    ]);
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
      blurKernelSizePx(imageSizePx),
    );
    return asRank4(tf.sub(tf.mul(blurred, 2), 1));
  });
}
