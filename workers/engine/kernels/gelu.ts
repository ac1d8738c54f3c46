/**
 * The activations of a transformer's MLP and their gradients: GELU (Hendrycks and Gimpel 2016, arXiv:1606.08415) with
 * the exact normal distribution, and the gated SiLU of SwiGLU (Shazeer 2020, arXiv:2002.05202).
 */
import { asRank2, scoped, tf } from '../tensorflow.ts';
import type { Tensor, Tensor2D } from '../tensorflow.ts';
import { hasOwnTransformerOps, ownGelu, ownGeluGradient } from './own-transformer.ts';

/** Φ(x), the normal distribution's cumulative function. */
function normalCdf(x: Tensor): Tensor {
  return tf.mul(tf.add(tf.erf(tf.mul(x, Math.SQRT1_2)), 1), 0.5);
}

/** x · Φ(x) */
export function gelu(x: Tensor2D): Tensor2D {
  return hasOwnTransformerOps() ? ownGelu(x) : geluByTensorflow(x);
}

/** `gelu` on devices without our own ops. */
export function geluByTensorflow(x: Tensor2D): Tensor2D {
  return asRank2(scoped(() => tf.mul(x, normalCdf(x))));
}

/** The derivative is Φ(x) + x · φ(x). */
export function geluGradient(x: Tensor2D, outputGradient: Tensor2D): Tensor2D {
  return hasOwnTransformerOps() ? ownGeluGradient(x, outputGradient) : geluGradientByTensorflow(x, outputGradient);
}

/** `geluGradient` on devices without our own ops. */
export function geluGradientByTensorflow(x: Tensor2D, outputGradient: Tensor2D): Tensor2D {
  return asRank2(
    scoped(() => {
      const density = tf.mul(tf.exp(tf.mul(tf.square(x), -0.5)), 1 / Math.sqrt(2 * Math.PI));
      return tf.mul(outputGradient, tf.add(normalCdf(x), tf.mul(x, density)));
    }),
  );
}

/** `[R, 2M]`, gate first, to SiLU(gate) · value `[R, M]`. */
export function gatedSilu(x: Tensor2D): Tensor2D {
  return asRank2(
    scoped(() => {
      const [gate, value] = halves(x);
      return tf.mul(tf.mul(gate, tf.sigmoid(gate)), value);
    }),
  );
}

export function gatedSiluGradient(x: Tensor2D, outputGradient: Tensor2D): Tensor2D {
  return asRank2(
    scoped(() => {
      const [gate, value] = halves(x);
      const sigmoid = tf.sigmoid(gate);
      const slope = tf.mul(sigmoid, tf.add(tf.mul(gate, tf.sub(1, sigmoid)), 1));
      const gateGradient = tf.mul(tf.mul(outputGradient, value), slope);
      return tf.concat([gateGradient, tf.mul(outputGradient, tf.mul(gate, sigmoid))], 1);
    }),
  );
}

function halves(x: Tensor2D): readonly [gate: Tensor, value: Tensor] {
  const [gate, value] = tf.split(x, 2, 1);
  if (gate === undefined || value === undefined) throw new Error('split gave fewer than 2 parts');
  return [gate, value];
}
