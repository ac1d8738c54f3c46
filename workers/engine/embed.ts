/** Turns decoded pixels into embeddings, exactly as an input contract specifies. */
import type { InferenceEncoder } from './encoders/index.ts';
import { asRank4, readFloats, scoped, tf, type Tensor, type Tensor4D } from './tensorflow.ts';

/** How pixels become the numbers that the encoder was trained on. */
export interface Normalisation {
  /** Subtracted per channel, in the order of `channelOrder` and in units of `valueRange`. */
  readonly channelMean: readonly [number, number, number];
  /** Divisor per channel, applied after the subtraction. */
  readonly channelStd: readonly [number, number, number];
  /** Range to which the bytes 0..255 are scaled first; default 0..1. */
  readonly valueRange?: readonly [number, number];
  /** Default RGB. */
  readonly channelOrder?: 'RGB' | 'BGR';
}

/** Mean and standard deviation 0.5, as used by the paper's encoders and ours. */
export const HALF_NORMALISATION: Normalisation = { channelMean: [0.5, 0.5, 0.5], channelStd: [0.5, 0.5, 0.5] };

/**
 * Embeds uint8 RGB images.
 *
 * @param pixels `[N, S, S, 3]`, row by row.
 * @returns `[N, D]`, row by row.
 */
export function embedPixels(
  encoder: Pick<InferenceEncoder, 'embed'>,
  pixels: Uint8Array,
  imageCount: number,
  imageSizePx: number,
  normalisation: Normalisation,
): Float32Array {
  const shape: [number, number, number, number] = [imageCount, imageSizePx, imageSizePx, 3];
  return readFloatsOf(() => encoder.embed(tf.tensor4d(normalisePixels(pixels, normalisation), shape)));
}

/** The values of the tensor that `make` returns; every tensor is disposed. */
function readFloatsOf(make: () => Tensor): Float32Array {
  const made = scoped(make);
  try {
    return readFloats(made);
  } finally {
    made.dispose();
  }
}

/** Normalises float32 RGB images `[N, H, W, 3]` with values 0..1 for the encoder. */
export function normaliseImages(
  images: Tensor4D,
  { channelMean, channelStd, valueRange: [low, high] = [0, 1], channelOrder = 'RGB' }: Normalisation,
): Tensor4D {
  return asRank4(
    scoped(() => {
      const ordered = channelOrder === 'BGR' ? tf.reverse(images, 3) : images;
      const ranged = low === 0 && high === 1 ? ordered : tf.add(tf.mul(ordered, high - low), low);
      return tf.div(tf.sub(ranged, tf.tensor1d([...channelMean])), tf.tensor1d([...channelStd]));
    }),
  );
}

/**
 * Normalises consecutive uint8 RGB pixels to the same numbers, bit for bit, as `normaliseImages` gives for the pixels
 * divided by 255. Each of the 256 values of a byte is normalised once and then looked up, which takes less than half
 * the time of five ops over whole images.
 */
export function normalisePixels(pixels: Uint8Array, normalisation: Normalisation): Float32Array {
  const table = readFloatsOf(() => {
    const bytes = tf.reshape(tf.range(0, 256, 1, 'float32'), [1, 256, 1, 1]);
    return normaliseImages(asRank4(tf.div(tf.tile(bytes, [1, 1, 1, 3]), 255)), normalisation);
  });
  const [first, last] = normalisation.channelOrder === 'BGR' ? [2, 0] : [0, 2];
  const values = new Float32Array(pixels.length);
  for (let place = 0; place < pixels.length; place += 3) {
    values[place] = table[3 * (pixels[place + first] ?? 0)] ?? Number.NaN;
    values[place + 1] = table[3 * (pixels[place + 1] ?? 0) + 1] ?? Number.NaN;
    values[place + 2] = table[3 * (pixels[place + last] ?? 0) + 2] ?? Number.NaN;
  }
  return values;
}

/** Images embedded at once: enough to fill the device, few enough that a 224 px batch stays under a gigabyte. */
export function embeddingBatchSize(imageSizePx: number): number {
  return Math.max(4, Math.min(256, Math.floor((64 * 112 * 112) / (imageSizePx * imageSizePx))));
}
