import { multiplyMatrices } from '../../kernels/elementwise.ts';
import { normalise, normaliseGradient, viewsOf } from '../../models/mlp.ts';
import { asRank2, scoped, tf } from '../../tensorflow.ts';
import type { Tensor, Tensor2D } from '../../tensorflow.ts';
import type { ProjectionLoss } from '../head-learner.ts';

/**
 * The loss of Barlow Twins (Zbontar et al. 2021, arXiv:2103.03230, equation 1): the cross-correlation matrix of the two
 * views' projections, over the batch, should be the identity.
 *
 * Its series: `matchingCorrelation`, the mean of the diagonal, should rise to 1; `redundancy`, the root mean square of
 * all other entries, should fall, and is near 1 where all dimensions say the same.
 *
 * @param projections [2N, P], first views first.
 * @param redundancyWeight lambda, the weight of the entries beside the diagonal.
 * @throws RangeError for an odd number of rows, or fewer than 4.
 */
export function barlowTwinsLoss(projections: Tensor2D, redundancyWeight: number): ProjectionLoss {
  const [rowCount, width] = projections.shape;
  if (rowCount % 2 !== 0 || rowCount < 4)
    throw new RangeError(`Barlow Twins takes two views of at least 2 images, not ${rowCount} rows.`);
  const imageCount = rowCount / 2;
  const outputs = scoped(() => {
    const normalised = normalise(viewsOf(projections));
    const [first, second] = tf.split(tf.reshape(normalised.units, projections.shape), 2, 0);
    if (first === undefined || second === undefined) throw new Error('Splitting rows in two gave too few parts.');
    const correlations = tf.div(multiplyMatrices(first, second, { transposeLeft: true }), imageCount);
    const identity = tf.eye(width);
    const diagonal = tf.sum(tf.mul(correlations, identity), 0);
    const others = tf.sub(correlations, tf.mul(correlations, identity));
    const otherSquares = tf.sum(tf.square(others));
    const loss = tf.add(tf.sum(tf.square(tf.sub(diagonal, 1))), tf.mul(otherSquares, redundancyWeight));

    // d loss / d correlation: 2 (c - 1) on the diagonal, 2 lambda c beside it.
    const gradients: Tensor = tf.add(
      tf.mul(others, 2 * redundancyWeight),
      tf.mul(identity, tf.mul(tf.sub(diagonal, 1), 2)),
    );
    const toFirst = multiplyMatrices(second, gradients, { transposeRight: true });
    const toSecond = multiplyMatrices(first, gradients);
    const toUnits = viewsOf(asRank2(tf.div(tf.concat([toFirst, toSecond], 0), imageCount)));
    return {
      loss,
      gradient: tf.reshape(normaliseGradient(toUnits, normalised), projections.shape),
      matchingCorrelation: tf.mean(diagonal),
      redundancy: tf.sqrt(tf.div(otherSquares, Math.max(1, width * (width - 1)))),
    };
  });
  const { loss, gradient, ...series } = outputs;
  return { loss, gradient: asRank2(gradient), series };
}
