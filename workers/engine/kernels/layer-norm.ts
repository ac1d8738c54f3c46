/** Layer norm (Ba et al. 2016, arXiv:1607.06450) of each row, and its gradient. */
import { asRank2, scoped, tf } from '../tensorflow.ts';
import type { Tensor, Tensor2D } from '../tensorflow.ts';
import { hasOwnTransformerOps, ownLayerNorm, ownLayerNormGradient } from './own-transformer.ts';

export interface LayerNormState {
  /** `[W]` */
  readonly scale: Tensor;
  /** `[W]` */
  readonly offset: Tensor;
  /** Added to the variance. */
  readonly epsilon: number;
}

export interface LayerNormResult {
  /** `[R, W]` */
  readonly output: Tensor2D;
  /** `[R, 1]` */
  readonly mean: Tensor;
  /** `[R, 1]`: 1 / sqrt(variance + epsilon) */
  readonly inverseStd: Tensor;
}

/** `[R, W]` to its normalised rows, times scale plus offset. */
export function layerNorm(rows: Tensor2D, state: LayerNormState): LayerNormResult {
  if (!hasOwnTransformerOps()) return layerNormByTensorflow(rows, state);
  const [output, mean, inverseStd] = ownLayerNorm(rows, state.scale, state.offset, state.epsilon);
  if (!output || !mean || !inverseStd) throw new Error('Layer norm gave too few outputs.');
  return { output: asRank2(output), mean, inverseStd };
}

/** `layerNorm` on devices without our own ops. */
export function layerNormByTensorflow(rows: Tensor2D, { scale, offset, epsilon }: LayerNormState): LayerNormResult {
  return scoped(() => {
    const mean = tf.mean(rows, 1, true);
    const centred = tf.sub(rows, mean);
    const inverseStd = tf.rsqrt(tf.add(tf.mean(tf.square(centred), 1, true), epsilon));
    const output = asRank2(tf.add(tf.mul(tf.mul(centred, inverseStd), scale), offset));
    return { output, mean, inverseStd };
  });
}

export interface LayerNormGradients {
  readonly rows: Tensor2D;
  readonly scale: Tensor;
  readonly offset: Tensor;
}

type LayerNormStatistics = Pick<LayerNormResult, 'mean' | 'inverseStd'>;

/** The gradients of the rows, the scale and the offset, from that of the output. */
export function layerNormGradient(
  rows: Tensor2D,
  scale: Tensor,
  statistics: LayerNormStatistics,
  outputGradient: Tensor2D,
): LayerNormGradients {
  if (!hasOwnTransformerOps()) return layerNormGradientByTensorflow(rows, scale, statistics, outputGradient);
  const gradients = ownLayerNormGradient(rows, scale, statistics.mean, statistics.inverseStd, outputGradient);
  const [rowsGradient, scaleGradient, offsetGradient] = gradients;
  if (!rowsGradient || !scaleGradient || !offsetGradient)
    throw new Error('The gradient of layer norm gave too few outputs.');
  return { rows: asRank2(rowsGradient), scale: scaleGradient, offset: offsetGradient };
}

/** `layerNormGradient` on devices without our own ops. */
export function layerNormGradientByTensorflow(
  rows: Tensor2D,
  scale: Tensor,
  { mean, inverseStd }: LayerNormStatistics,
  outputGradient: Tensor2D,
): LayerNormGradients {
  return scoped(() => {
    const normalised = tf.mul(tf.sub(rows, mean), inverseStd);
    const scaled = tf.mul(outputGradient, scale);
    const alongNormalised = tf.mul(normalised, tf.mean(tf.mul(scaled, normalised), 1, true));
    const centred = tf.sub(tf.sub(scaled, tf.mean(scaled, 1, true)), alongNormalised);
    return {
      rows: asRank2(tf.mul(centred, inverseStd)),
      scale: tf.sum(tf.mul(outputGradient, normalised), 0),
      offset: tf.sum(outputGradient, 0),
    };
  });
}
