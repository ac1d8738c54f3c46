/**
 * Classification by ridge regression on standardised embeddings: one regression for each label, of +1 for an image with
 * the label and -1 for any other, as scikit-learn's RidgeClassifier. All labels share one factorisation, which makes it
 * the cheapest linear probe; it is solved on the device in float32, which the penalties below keep well conditioned.
 */
import { asRank2, boolAttr, readFloats, runOp, scoped, T_FLOAT, tf } from '../tensorflow.ts';
import type { Tensor, Tensor2D } from '../tensorflow.ts';
import type { Classifier } from './classification.ts';
import type { LabelledImages } from './folds.ts';
import { innerParts, innerScores } from './inner-choice.ts';
import { measureScaling, standardise, type EmbeddedImages } from './scaling.ts';

export interface RidgeClassifierFacts {
  /** The chosen penalty. */
  readonly alpha: number;
}

/**
 * Penalties as multiples of the number of training images, which is what is added to the diagonal of the entries'
 * correlation matrix. They are few and far apart: colour statistics score best with the smallest, the 512 entries of an
 * untrained encoder with the largest.
 */
const RELATIVE_ALPHAS = [0.003, 0.03, 0.3, 3] as const;
/** Used where a training part cannot be divided again. */
const RELATIVE_ALPHA_DEFAULT = 0.3;

/**
 * The penalty is chosen inside each training part, by macro F1 over folds of its groups; of equal ones the smallest.
 * Probabilities are the softmax of the regressions: their order is meaningful, but they are not calibrated.
 */
export function ridgeClassifier(
  embedded: EmbeddedImages,
  images: LabelledImages,
  seed: number,
): Classifier<RidgeClassifierFacts> {
  return {
    classify: async (train, test, reportProgress) => {
      const share = await chooseRelativeAlpha(embedded, images, train, seed, reportProgress);
      const [scores = new Float32Array()] = regress(embedded, images, train, test, [share]);
      return { probabilities: softmaxRows(scores, images.labelNames.length), facts: { alpha: share * train.length } };
    },
  };
}

async function chooseRelativeAlpha(
  embedded: EmbeddedImages,
  images: LabelledImages,
  train: Int32Array,
  seed: number,
  reportProgress: (done: number) => Promise<void>,
): Promise<number> {
  const parts = innerParts(images, train, seed);
  if (parts === null) return RELATIVE_ALPHA_DEFAULT;
  const scores = (
    await innerScores(
      parts,
      images,
      ({ fitted, heldOut }) => regress(embedded, images, fitted, heldOut, RELATIVE_ALPHAS),
      reportProgress,
    )
  ).map(({ macroF1 }) => macroF1);
  return RELATIVE_ALPHAS[scores.indexOf(Math.max(...scores))] ?? RELATIVE_ALPHA_DEFAULT;
}

/**
 * For each penalty, the predictions of the regressions for the images of `test`, `[test, K]`. The smaller of the two
 * equal systems is solved: D by D, or, for fewer training images than entries, N by N.
 */
function regress(
  embedded: EmbeddedImages,
  { labels, labelNames }: LabelledImages,
  train: Int32Array,
  test: Int32Array,
  relativeAlphas: readonly number[],
): Float32Array[] {
  const { embeddingDim } = embedded;
  const scaling = measureScaling(embedded, train);
  const targets = Float32Array.from({ length: train.length * labelNames.length }, (_, cell) =>
    labels[train[Math.floor(cell / labelNames.length)] ?? 0] === cell % labelNames.length ? 1 : -1,
  );
  const predictions = scoped((): Tensor[] => {
    const rows = tf.tensor2d(standardise(embedded, train, scaling), [train.length, embeddingDim]);
    const testRows = tf.tensor2d(standardise(embedded, test, scaling), [test.length, embeddingDim]);
    const truth = tf.tensor2d(targets, [train.length, labelNames.length]);
    const intercepts = tf.mean(truth, 0, true);
    const centred = asRank2(tf.sub(truth, intercepts));
    const isDual = train.length < embeddingDim;
    const gram = asRank2(isDual ? tf.matMul(rows, rows, false, true) : tf.matMul(rows, rows, true));
    const right = isDual ? centred : asRank2(tf.matMul(rows, centred, true));
    return relativeAlphas.map((share) => {
      const solution = solvePositive(gram, share * train.length, right);
      const weights = isDual ? tf.matMul(rows, solution, true) : solution;
      return tf.add(tf.matMul(testRows, weights), intercepts);
    });
  });
  try {
    return predictions.map(readFloats);
  } finally {
    tf.dispose(predictions);
  }
}

/** (gram + alpha x identity)^-1 x right, by Cholesky factorisation. */
function solvePositive(gram: Tensor2D, alpha: number, right: Tensor2D): Tensor2D {
  const penalised = tf.add(gram, tf.mul(tf.eye(gram.shape[0]), alpha));
  const factor = runOp('Cholesky', [T_FLOAT], [penalised]);
  const solveTriangle = (isTransposed: boolean, side: Tensor): Tensor =>
    runOp(
      'MatrixTriangularSolve',
      [T_FLOAT, boolAttr('lower', true), boolAttr('adjoint', isTransposed)],
      [factor, side],
    );
  return asRank2(solveTriangle(true, solveTriangle(false, right)));
}

/** `[rows, K]`. */
function softmaxRows(scores: Float32Array, labelCount: number): Float64Array {
  const probabilities = new Float64Array(scores.length);
  for (let start = 0; start < scores.length; start += labelCount) {
    const row = scores.subarray(start, start + labelCount);
    // Scores above 709 overflow. They occur for an image in which an entry that hardly varies in training is active.
    const highest = Math.max(...row);
    const powers = Array.from(row, (score) => Math.exp(score - highest));
    const sum = powers.reduce((total, power) => total + power, 0);
    probabilities.set(
      powers.map((power) => power / sum),
      start,
    );
  }
  return probabilities;
}
