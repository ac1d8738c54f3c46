/** From decoded pixels to embeddings, exactly as an input contract says. */
import type { Encoder } from './models/resnet.ts';
import { asRank4, readFloats, scoped, tf, type Tensor4D } from './tensorflow.ts';

/** How pixels become the numbers that the encoder was trained on. */
export interface Normalisation {
  /** Subtracted per channel, in the order of `channelOrder` and in units of `valueRange`. */
  readonly channelMean: readonly [number, number, number];
  /** Divided by, per channel, afterwards. */
  readonly channelStd: readonly [number, number, number];
  /** What the bytes 0..255 are scaled to first; default 0..1. */
  readonly valueRange?: readonly [number, number];
  /** Default RGB. */
  readonly channelOrder?: 'RGB' | 'BGR';
}

/** Mean and standard deviation 0.5: what the paper's encoders take, and ours. */
export const HALF_NORMALISATION: Normalisation = { channelMean: [0.5, 0.5, 0.5], channelStd: [0.5, 0.5, 0.5] };

/**
 * Embeds uint8 RGB images.
 *
 * @param pixels `[N, S, S, 3]`, row by row.
 * @returns `[N, D]`, row by row.
 */
export function embedPixels(
  encoder: Encoder,
  pixels: Uint8Array,
  imageCount: number,
  imageSizePx: number,
  normalisation: Normalisation,
): Float32Array {
  const embeddings = scoped(() => {
    const images = tf.tensor4d(pixels, [imageCount, imageSizePx, imageSizePx, 3], 'int32');
    return encoder.embed(normaliseImages(tf.div(tf.cast(images, 'float32'), 255), normalisation));
  });
  try {
    return readFloats(embeddings);
  } finally {
    embeddings.dispose();
  }
}

/** float32 RGB images `[N, H, W, 3]` with values 0..1 as the encoder takes them. */
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

/** Images embedded at once: enough to fill the device, few enough that a 224 px batch stays under a gigabyte. */
export function embeddingBatchSize(imageSizePx: number): number {
  return Math.max(4, Math.min(256, Math.floor((64 * 112 * 112) / (imageSizePx * imageSizePx))));
}
