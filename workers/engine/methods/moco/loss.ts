import { multiplyMatrices } from '../../kernels/elementwise.ts';
import { asRank2, scoped, tf } from '../../tensorflow.ts';
import type { Tensor, Tensor2D } from '../../tensorflow.ts';

export interface ContrastLoss {
  /** Scalar. */
  readonly loss: Tensor;
  /** [2N, P], the gradient of the loss with respect to the projections. */
  readonly gradient: Tensor2D;
  /** Scalar: the mean cosine similarity of a projection and the key of the other view of its image. */
  readonly positiveSimilarity: Tensor;
}

/**
 * InfoNCE with a queue (He et al. 2020, arXiv:1911.05722, equation 1): each projection should be near the key of the
 * other view of its image, and far from every key of the queue. The mean over both views.
 *
 * @param projections [2N, P], first views first.
 * @param keys [2N, P] of unit length, in the same order.
 * @param queue [Q, P] of unit length.
 */
export function queueContrast(
  projections: Tensor2D,
  keys: Tensor2D,
  queue: Tensor2D,
  temperature: number,
): ContrastLoss {
  return contrast(projections, keys, (queries, positives) => {
    const [rowCount] = queries.shape;
    const positive = tf.sum(tf.mul(queries, positives), 1, true);
    const negatives = multiplyMatrices(queries, queue, { transposeRight: true });
    const logits = tf.logSoftmax(tf.div(tf.concat([positive, negatives], 1), temperature));
    const scale = 1 / (temperature * rowCount);
    const ofPositive = tf.mul(tf.sub(tf.exp(tf.slice(logits, [0, 0], [-1, 1])), 1), scale);
    const ofNegatives = tf.mul(tf.exp(tf.slice(logits, [0, 1], [-1, -1])), scale);
    return {
      loss: tf.neg(tf.mean(tf.slice(logits, [0, 0], [-1, 1]))),
      ofQueries: tf.add(tf.mul(positives, ofPositive), multiplyMatrices(ofNegatives, queue)),
    };
  });
}

/**
 * The symmetric loss of MoCo v3 (Chen, Xie and He 2021, arXiv:2104.02057, algorithm 1): each projection should be near
 * the key of the other view of its image, and far from those of the other images of the batch; the sum over both views,
 * times twice the temperature.
 */
export function batchContrast(projections: Tensor2D, keys: Tensor2D, temperature: number): ContrastLoss {
  return contrast(projections, keys, (queries, positives) => {
    const imageCount = queries.shape[0] / 2;
    const identity = tf.eye(imageCount);
    const positivesOfView = tf.split(positives, 2, 0);
    const terms = tf.split(queries, 2, 0).map((ofView, view) => {
      const others = positivesOfView[view];
      if (others === undefined) throw new Error('Splitting rows in two gave too few parts.');
      const similarities = multiplyMatrices(ofView, others, { transposeRight: true });
      const logits = tf.logSoftmax(tf.div(similarities, temperature));
      const term = tf.div(tf.neg(tf.sum(tf.mul(logits, identity))), imageCount);
      const slopes = tf.mul(tf.sub(tf.exp(logits), identity), 2 / imageCount);
      return { term, gradient: multiplyMatrices(slopes, others) };
    });
    return {
      loss: tf.mul(tf.addN(terms.map(({ term }) => term)), 2 * temperature),
      ofQueries: tf.concat(terms.map(({ gradient }) => gradient)),
    };
  });
}

/** A loss of unit-length queries and the key of each one's other view, as a loss of the projections. */
function contrast(
  projections: Tensor2D,
  keys: Tensor2D,
  lossOf: (queries: Tensor2D, positives: Tensor2D) => { readonly loss: Tensor; readonly ofQueries: Tensor },
): ContrastLoss {
  const outputs = scoped(() => {
    const lengths = tf.maximum(tf.norm(projections, 2, 1, true), 1e-12);
    const queries = asRank2(tf.div(projections, lengths));
    const [first, second] = tf.split(keys, 2, 0);
    if (first === undefined || second === undefined) throw new Error('Splitting rows in two gave too few parts.');
    const positives = asRank2(tf.concat([second, first]));
    const { loss, ofQueries } = lossOf(queries, positives);
    const along = tf.sum(tf.mul(ofQueries, queries), 1, true);
    return {
      loss,
      gradient: tf.div(tf.sub(ofQueries, tf.mul(queries, along)), lengths),
      positiveSimilarity: tf.mean(tf.sum(tf.mul(queries, positives), 1)),
    };
  });
  return { ...outputs, gradient: asRank2(outputs.gradient) };
}
