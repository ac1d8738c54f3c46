/**
 * torchvision's colour operations over a batch, each image with its own factor: images `[N, H, W, 3]` float32 in 0..1,
 * clipped to 0..1 after every operation as torchvision does. Each operation is a composition of a few TensorFlow ops.
 */
import { asRank4, runOp, scoped, T_FLOAT, tf, type Tensor4D } from '../tensorflow.ts';
import { COLOUR_OPS, type ColourOp, type ViewColour } from './parameters.ts';

/** ITU-R 601-2 luma, as torchvision rounds it. */
const LUMA = [0.2989, 0.587, 0.114] as const;

/** Applies the operations in the given order. Operations that would change no image are skipped. */
export function jitterColours(
  images: Tensor4D,
  colours: readonly ViewColour[],
  order: readonly ColourOp[] = COLOUR_OPS,
): Tensor4D {
  return scoped(() =>
    order.reduce((current, op) => {
      const factors = colours.map((colour) => colour[op]);
      const neutral = op === 'hue' ? 0 : 1;
      return factors.every((factor) => factor === neutral) ? current : adjust(current, op, factors);
    }, images.clone()),
  );
}

/** Turns the chosen images grey (three equal channels) and leaves the others unchanged. */
export function greyOut(images: Tensor4D, greys: readonly boolean[]): Tensor4D {
  return scoped(() =>
    greys.some(Boolean)
      ? adjustSaturation(
          images,
          greys.map((grey) => (grey ? 0 : 1)),
        )
      : images.clone(),
  );
}

/** torchvision's threshold of 128, in 0..1. */
const SOLARISED_FROM = 128 / 255;

/** Inverts the values from 128 of 255 on in the chosen images, and leaves the others unchanged. */
export function solarise(images: Tensor4D, solarised: readonly boolean[]): Tensor4D {
  if (!solarised.some(Boolean)) return images.clone();
  return scoped(() => {
    const chosen = tf.cast(perImage(solarised.map(Number)), 'bool');
    const inverted = tf.logicalAnd(tf.greaterEqual(images, SOLARISED_FROM), chosen);
    return asRank4(tf.where(inverted, tf.sub(1, images), images));
  });
}

function adjust(images: Tensor4D, op: ColourOp, factors: readonly number[]): Tensor4D {
  switch (op) {
    case 'brightness':
      return clipToUnit(tf.mul(images, perImage(factors)));
    case 'contrast':
      return adjustContrast(images, factors);
    case 'saturation':
      return adjustSaturation(images, factors);
    case 'hue':
      return adjustHue(images, factors);
  }
}

/** Blends with the mean luma of the image. */
function adjustContrast(images: Tensor4D, factors: readonly number[]): Tensor4D {
  const meanLuma = tf.sum(tf.mul(tf.mean(images, [1, 2], true), tf.tensor1d([...LUMA])), -1, true);
  const factor = perImage(factors);
  return clipToUnit(tf.add(tf.mul(images, factor), tf.mul(meanLuma, tf.sub(1, factor))));
}

/** Blends every pixel with its luma: one 3x3 matrix for each image. */
function adjustSaturation(images: Tensor4D, factors: readonly number[]): Tensor4D {
  const [imageCount, height, width] = images.shape;
  const matrices = factors.flatMap((factor) =>
    LUMA.flatMap((luma, from) => [0, 1, 2].map((to) => (1 - factor) * luma + (from === to ? factor : 0))),
  );
  const pixels = tf.reshape(images, [imageCount, height * width, 3]);
  return clipToUnit(tf.reshape(tf.matMul(pixels, tf.tensor3d(matrices, [factors.length, 3, 3])), images.shape));
}

/** Rotates the hue of HSV. */
function adjustHue(images: Tensor4D, turns: readonly number[]): Tensor4D {
  const hsv = asRank4(runOp('RGBToHSV', [T_FLOAT], [images]));
  const offsets = tf.tensor4d(
    turns.flatMap((turn) => [turn, 0, 0]),
    [turns.length, 1, 1, 3],
  );
  const turned = tf.add(hsv, offsets);
  // Only the hue may leave 0..1; saturation and value of 1 must not wrap to 0.
  const wraps = tf.mul(tf.floor(turned), tf.tensor1d([1, 0, 0]));
  return clipToUnit(runOp('HSVToRGB', [T_FLOAT], [tf.sub(turned, wraps)]));
}

function perImage(values: readonly number[]): Tensor4D {
  return tf.tensor4d([...values], [values.length, 1, 1, 1]);
}

function clipToUnit(images: tf.Tensor): Tensor4D {
  return asRank4(tf.clipByValue(images, 0, 1));
}
