/** From decoded pixels to embeddings, exactly as an input contract says. */
import type { Encoder } from './models/resnet.ts';
import { asRank4, readFloats, scoped, tf } from './tensorflow.ts';

/** How pixels become the numbers that the encoder was trained on. */
export interface Normalisation {
  /** Per channel R, G, B, on values in 0..1. */
  readonly channelMean: readonly [number, number, number];
  readonly channelStd: readonly [number, number, number];
}

/** Mean and standard deviation 0.5: what the paper's encoders take, and ours. */
export const HALF_NORMALISATION: Normalisation = { channelMean: [0.5, 0.5, 0.5], channelStd: [0.5, 0.5, 0.5] };

/**
 * Embeds uint8 RGB images.
 *
 * @param pixels `[N, S, S, 3]`, row by row.
 * @returns `[N, D]`, row by row.
 */
export function embedPixels(encoder: Encoder, pixels: Uint8Array, imageCount: number, imageSizePx: number, normalisation: Normalisation): Float32Array {
  const embeddings = scoped(() => {
    const images = tf.tensor4d(pixels, [imageCount, imageSizePx, imageSizePx, 3], 'int32');
    const scaled = tf.div(tf.cast(images, 'float32'), 255);
    const normalised = tf.div(tf.sub(scaled, tf.tensor1d([...normalisation.channelMean])), tf.tensor1d([...normalisation.channelStd]));
    return encoder.embed(asRank4(normalised));
  });
  try {
    return readFloats(embeddings);
  } finally {
    embeddings.dispose();
  }
}

/** Images embedded at once: enough to fill the device, few enough that a 224 px batch stays under a gigabyte. */
export function embeddingBatchSize(imageSizePx: number): number {
  return Math.max(4, Math.min(128, Math.floor((64 * 112 * 112) / (imageSizePx * imageSizePx))));
}
