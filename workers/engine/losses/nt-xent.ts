/**
 * NT-Xent, the normalised temperature-scaled cross entropy of SimCLR (Chen et al. 2020, arXiv:2002.05709, equation 1).
 *
 * Each of the 2N projections must find its partner (the other view of its image) among the 2N - 1 others by cosine
 * similarity.
 */
import { asRank2, scoped, tf } from '../tensorflow.ts';
import type { Tensor, Tensor2D } from '../tensorflow.ts';
import { multiplyMatrices } from '../kernels/elementwise.ts';

/** Below this length a projection is divided by it instead, so that a zero row gives no infinity. */
const MIN_LENGTH = 1e-12;
/** Stands in for minus infinity on the diagonal: its exponential is 0 in float32, and no infinity meets a zero. */
const EXCLUDED = -1e30;

export interface NtXent {
  /**
   * Scalar: the mean over all 2N rows. Log(2N - 1) when all projections are equal; twice less than the reference code's
   * sum of two directions.
   */
  readonly loss: Tensor;
  /** [2N, P], the gradient of the loss with respect to the projections. */
  readonly gradient: Tensor2D;
  /** Scalar: the mean cosine similarity of partners, in -1..1. */
  readonly positiveSimilarity: Tensor;
}

/**
 * @param projections [2N, P]; rows 0..N-1 are the first views, rows N..2N-1 the second views of the same images. They
 * need no unit length.
 * @param temperature above 0; smaller is sharper.
 * @throws RangeError for an odd number of rows, fewer than 4 (one image has no negatives), or a temperature that is not
 * positive.
 */
export function ntXent(projections: Tensor2D, temperature: number): NtXent {
  const [viewCount] = projections.shape;
  if (viewCount % 2 !== 0 || viewCount < 4)
    throw new RangeError(`NT-Xent takes two views of at least 2 images, not ${viewCount} rows.`);
  if (!(temperature > 0 && Number.isFinite(temperature)))
    throw new RangeError(`The temperature must be a positive number, not ${temperature}.`);
  const outputs = scoped(() => {
    const lengths = tf.maximum(tf.norm(projections, 2, 1, true), MIN_LENGTH);
    const units = tf.div(projections, lengths);
    const excludedDiagonal = tf.mul(tf.eye(viewCount), EXCLUDED);
    const logits = tf.add(
      tf.div(multiplyMatrices(units, units, { transposeRight: true }), temperature),
      excludedDiagonal,
    );
    const shifted = tf.sub(logits, tf.max(logits, 1, true));
    const exponentials = tf.exp(shifted);
    const sums = tf.sum(exponentials, 1, true);

    const partners = swapHalves(units);
    const similarities = tf.sum(tf.mul(units, partners), 1, true);
    // log-sum-exp minus the partner's logit, both less the row's largest logit.
    const rowLosses = tf.sub(tf.log(sums), tf.sub(tf.div(similarities, temperature), tf.max(logits, 1, true)));

    // d loss / d logit = (softmax - partner) / 2N. A logit feels its row's and, the matrix being symmetric, its
    // column's pull.
    const pulls = tf.div(exponentials, sums);
    const symmetric = tf.add(pulls, tf.transpose(pulls));
    const toUnits = tf.div(tf.sub(multiplyMatrices(symmetric, units), tf.mul(partners, 2)), temperature * viewCount);
    // Through the division by length: only what is across the unit vector remains.
    const along = tf.sum(tf.mul(toUnits, units), 1, true);
    const gradient = tf.div(tf.sub(toUnits, tf.mul(units, along)), lengths);
    return { loss: tf.mean(rowLosses), gradient, positiveSimilarity: tf.mean(similarities) };
  });
  return { ...outputs, gradient: asRank2(outputs.gradient) };
}

/** Rows N..2N-1 before rows 0..N-1, so that each row meets its partner. */
function swapHalves(rows: Tensor): Tensor {
  const [first, second] = tf.split(rows, 2, 0);
  if (first === undefined || second === undefined) throw new Error('Splitting rows in two gave too few parts.');
  return tf.concat([second, first], 0);
}
