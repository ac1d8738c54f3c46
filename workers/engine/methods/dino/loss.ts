import { asRank2, scoped, tf } from '../../tensorflow.ts';
import type { Tensor, Tensor2D } from '../../tensorflow.ts';

/** The teacher sees only these. */
export const GLOBAL_VIEWS = 2;

export interface DinoTemperatures {
  readonly studentTemperature: number;
  readonly teacherTemperature: number;
}

export interface DinoLoss {
  /** Scalar. */
  readonly loss: Tensor;
  /** [V * N, K], the gradient of the loss with respect to the student's outputs. */
  readonly gradient: Tensor2D;
  /** [1, K], the mean of the teacher's outputs, which the centre follows. */
  readonly teacherMean: Tensor2D;
  /** Scalars to watch, by the name of their metric. */
  readonly series: Readonly<Record<'teacherEntropy' | 'teacherDivergence', Tensor>>;
}

/**
 * DINO's loss (Caron et al. 2021, arXiv:2104.14294, equation 3): the cross-entropy between the teacher's distribution
 * over prototypes for each global view, centred and sharpened, and the student's for every other view of the image; the
 * mean over these pairs and over images.
 *
 * Its series, as in section 5.3: `teacherEntropy`, the mean entropy of the teacher's distributions as a share of the
 * greatest possible one, ln K, and `teacherDivergence`, their Kullback-Leibler divergence from the student's. A
 * divergence of 0 is a collapse, at an entropy of 1 to the uniform distribution, at 0 to one prototype.
 *
 * @param student [V * N, K], rows by view, the two global ones first.
 * @param teacher [2N, K], of the global views.
 * @param centre [1, K]
 */
export function dinoLoss(
  student: Tensor2D,
  teacher: Tensor2D,
  centre: Tensor2D,
  { studentTemperature, teacherTemperature }: DinoTemperatures,
): DinoLoss {
  const [rowCount, prototypeCount] = student.shape;
  const imageCount = teacher.shape[0] / GLOBAL_VIEWS;
  const viewCount = rowCount / imageCount;
  const outputs = scoped(() => {
    const logTargets = tf.logSoftmax(tf.div(tf.sub(teacher, centre), teacherTemperature));
    const targets = tf.exp(logTargets);
    const [first, second] = tf.split(targets, GLOBAL_VIEWS, 0);
    if (first === undefined || second === undefined) throw new Error('Splitting rows in two gave too few parts.');
    const both = tf.add(first, second);
    // What each view of the student is compared with: a global one with the other's target, a local one with both.
    const wanted = tf.concat([second, first, ...Array.from({ length: viewCount - GLOBAL_VIEWS }, () => both)], 0);
    const targetCounts = tf.tensor2d(
      Array.from({ length: rowCount }, (_, row) => (row < GLOBAL_VIEWS * imageCount ? 1 : GLOBAL_VIEWS)),
      [rowCount, 1],
    );
    const termCount = GLOBAL_VIEWS * (viewCount - 1) * imageCount;
    const logits = tf.logSoftmax(tf.div(student, studentTemperature));
    const loss = tf.div(tf.neg(tf.sum(tf.mul(wanted, logits))), termCount);
    const entropy = tf.div(tf.neg(tf.sum(tf.mul(targets, logTargets))), GLOBAL_VIEWS * imageCount);
    return {
      loss,
      gradient: tf.div(tf.sub(tf.mul(tf.exp(logits), targetCounts), wanted), studentTemperature * termCount),
      teacherMean: tf.mean(teacher, 0, true),
      teacherEntropy: tf.div(entropy, Math.log(prototypeCount)),
      // Each target is in as many pairs as every other, so that the loss is their entropy plus the divergence.
      teacherDivergence: tf.sub(loss, entropy),
    };
  });
  const { loss, gradient, teacherMean, ...series } = outputs;
  return { loss, gradient: asRank2(gradient), teacherMean: asRank2(teacherMean), series };
}
