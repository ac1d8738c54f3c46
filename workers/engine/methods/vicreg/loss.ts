import { multiplyMatrices } from '../../kernels/elementwise.ts';
import { viewsOf } from '../../models/mlp.ts';
import { asRank2, scoped, tf } from '../../tensorflow.ts';
import type { Tensor, Tensor2D } from '../../tensorflow.ts';
import type { ProjectionLoss } from '../head-learner.ts';

/** Weights of the three terms; the paper's are in brackets. */
export interface VicregWeights {
  /** lambda [25]. */
  readonly invarianceWeight: number;
  /** mu [25]. */
  readonly varianceWeight: number;
  /** nu [1]. */
  readonly covarianceWeight: number;
}

/** Added to each variance, as in the paper's code, so that its root has a gradient at zero. */
const EPSILON = 1e-4;

/**
 * The loss of VICReg (Bardes et al. 2022, arXiv:2105.04906, equation 6, as its code weighs it): the mean squared
 * difference of the two views' projections; a hinge that keeps each dimension's standard deviation over the batch at 1
 * or more; and the squared covariances of different dimensions. The hinge is the mean of both views, the covariances
 * their sum.
 *
 * Its series: `invariance`, `varianceHinge` (1 means that all projections are equal, 0 that none is short of variance)
 * and `covariance`, the three terms without their weights.
 *
 * @param projections [2N, P], first views first.
 * @throws RangeError for an odd number of rows, or fewer than 4.
 */
export function vicregLoss(projections: Tensor2D, weights: VicregWeights): ProjectionLoss {
  const [rowCount, width] = projections.shape;
  if (rowCount % 2 !== 0 || rowCount < 4)
    throw new RangeError(`VICReg takes two views of at least 2 images, not ${rowCount} rows.`);
  const imageCount = rowCount / 2;
  const outputs = scoped(() => {
    const values = viewsOf(projections);
    const [first, second] = tf.split(projections, 2, 0);
    if (first === undefined || second === undefined) throw new Error('Splitting rows in two gave too few parts.');
    const difference = tf.sub(first, second);
    const invariance = tf.mean(tf.square(difference));
    const toFirst = tf.mul(difference, 2 / (imageCount * width));
    const ofInvariance = tf.concat([toFirst, tf.neg(toFirst)], 0);

    const centred = tf.sub(values, tf.mean(values, 1, true));
    const std = tf.sqrt(tf.add(tf.div(tf.sum(tf.square(centred), 1, true), imageCount - 1), EPSILON));
    const shortfall = tf.relu(tf.sub(1, std));
    const varianceHinge = tf.mean(shortfall);
    const slopes = tf.div(tf.cast(tf.greater(shortfall, 0), 'float32'), tf.mul(std, -2 * width * (imageCount - 1)));
    const ofVariance = tf.mul(centred, slopes);

    const covariances = tf.split(tf.reshape(centred, projections.shape), 2, 0).map((rows) => covarianceOf(rows));
    const covariance = tf.addN(covariances.map(({ term }) => term));
    const ofCovariance = tf.concat(
      covariances.map(({ gradient }) => gradient),
      0,
    );
    const { invarianceWeight, varianceWeight, covarianceWeight } = weights;
    return {
      loss: tf.addN([
        tf.mul(invariance, invarianceWeight),
        tf.mul(varianceHinge, varianceWeight),
        tf.mul(covariance, covarianceWeight),
      ]),
      gradient: tf.addN([
        tf.mul(ofInvariance, invarianceWeight),
        tf.mul(tf.reshape(ofVariance, projections.shape), varianceWeight),
        tf.mul(ofCovariance, covarianceWeight),
      ]),
      invariance,
      varianceHinge,
      covariance,
    };
  });
  const { loss, gradient, ...series } = outputs;
  return { loss, gradient: asRank2(gradient), series };
}

/** Of centred rows [N, P]: the sum of squared covariances of different dimensions over P, and its gradient [N, P]. */
function covarianceOf(rows: Tensor): { readonly term: Tensor; readonly gradient: Tensor } {
  const [imageCount = 0, width = 0] = rows.shape;
  const matrix = tf.div(multiplyMatrices(rows, rows, { transposeLeft: true }), imageCount - 1);
  const others = tf.sub(matrix, tf.mul(matrix, tf.eye(width)));
  return {
    term: tf.div(tf.sum(tf.square(others)), width),
    gradient: tf.mul(multiplyMatrices(rows, others), 4 / (width * (imageCount - 1))),
  };
}
