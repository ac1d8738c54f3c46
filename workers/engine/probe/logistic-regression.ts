/**
 * Multinomial logistic regression with an L2 penalty, the same model as scikit-learn's LogisticRegression: it minimises
 * C x sum of cross-entropies + |weights|^2 / 2, intercepts free. The two products with the embeddings run in TensorFlow as float32, all
 * sums in float64.
 */
import { readFloats, scoped, tf, type Tensor2D } from '../tensorflow.ts';
import { minimise } from './lbfgs.ts';

export interface LogisticRegressionOptions {
  /** C: the inverse of the penalty's strength; larger fits closer. */
  readonly inverseRegularisation: number;
  /** Of the mean loss's gradient; default 1e-4, scikit-learn's. */
  readonly gradientTolerance?: number;
  readonly maxIterations?: number;
  /** A model fitted before, to begin from. */
  readonly startFrom?: LogisticRegression;
}

export interface LogisticRegression {
  readonly embeddingDim: number;
  /** K. */
  readonly labelCount: number;
  /** `[D + 1, K]`, the intercepts in the last row. */
  readonly weights: Float64Array;
  readonly converged: boolean;
  readonly iterationCount: number;
}

/** Embeddings on the device with a column of ones for the intercepts: `[N, D + 1]` float32. Dispose it when done. */
export interface ProbeInputs {
  readonly rowCount: number;
  readonly embeddingDim: number;
  readonly matrix: Tensor2D;
  dispose(): void;
}

/** Copies rows `[N, D]` to the device. */
export function probeInputs(rows: Float32Array, embeddingDim: number): ProbeInputs {
  const rowCount = rows.length / embeddingDim;
  const matrix = scoped(() => tf.concat2d([tf.tensor2d(rows, [rowCount, embeddingDim]), tf.ones([rowCount, 1])], 1));
  return {
    rowCount,
    embeddingDim,
    matrix,
    dispose: () => {
      matrix.dispose();
    },
  };
}

/** Fits labels `[N]` in 0..labelCount-1, each of which must occur. Deterministic. */
export function fitLogisticRegression(
  inputs: ProbeInputs,
  labels: Int32Array,
  labelCount: number,
  options: LogisticRegressionOptions,
): LogisticRegression {
  const { rowCount, embeddingDim } = inputs;
  // With two labels scikit-learn fits one vector of weights; two opposite vectors of half its length pay half the penalty, so C is halved.
  const strength = labelCount === 2 ? options.inverseRegularisation / 2 : options.inverseRegularisation;
  const penalty = 1 / (strength * rowCount);
  const penalisedCount = embeddingDim * labelCount;
  const evaluate = (weights: Float64Array): { value: number; gradient: Float64Array } => {
    const probabilities = softmaxRows(multiply(inputs, weights, labelCount), labelCount);
    const residuals = new Float32Array(probabilities.length);
    let loss = 0;
    for (let row = 0; row < rowCount; row += 1) {
      for (let label = 0; label < labelCount; label += 1) {
        const cell = row * labelCount + label;
        const probability = probabilities[cell] ?? 0;
        const isTrue = labels[row] === label;
        // A true label's probability under 1e-300 would make the loss infinite and end the line search.
        if (isTrue) loss -= Math.log(Math.max(probability, 1e-300));
        residuals[cell] = probability - (isTrue ? 1 : 0);
      }
    }
    const products = product(inputs.matrix, residuals, [rowCount, labelCount], true);
    const gradient = Float64Array.from(products, (entry) => entry / rowCount);
    let squares = 0;
    for (let index = 0; index < penalisedCount; index += 1) {
      const weight = weights[index] ?? 0;
      squares += weight * weight;
      gradient[index] = (gradient[index] ?? 0) + penalty * weight;
    }
    return { value: loss / rowCount + (penalty * squares) / 2, gradient };
  };
  const start = options.startFrom?.weights ?? new Float64Array((embeddingDim + 1) * labelCount);
  const result = minimise(evaluate, start, { gradientTolerance: options.gradientTolerance ?? 1e-4, maxIterations: options.maxIterations ?? 300 });
  return { embeddingDim, labelCount, weights: result.point, converged: result.converged, iterationCount: result.iterationCount };
}

/** `[N, K]`, rows summing to 1. */
export function predictProbabilities(model: LogisticRegression, inputs: ProbeInputs): Float64Array {
  return softmaxRows(multiply(inputs, model.weights, model.labelCount), model.labelCount);
}

function multiply(inputs: ProbeInputs, weights: Float64Array, labelCount: number): Float32Array {
  return product(inputs.matrix, Float32Array.from(weights), [inputs.embeddingDim + 1, labelCount], false);
}

/** matrix x right, or its transpose x right. Disposes by hand: a scope would walk the numbers that it returns one by one. */
function product(matrix: Tensor2D, right: Float32Array, rightShape: [number, number], transposed: boolean): Float32Array {
  const onDevice = tf.tensor2d(right, rightShape);
  const result = tf.matMul(matrix, onDevice, transposed);
  try {
    return readFloats(result);
  } finally {
    tf.dispose([onDevice, result]);
  }
}

function softmaxRows(logits: Float32Array, labelCount: number): Float64Array {
  const probabilities = new Float64Array(logits.length);
  for (let start = 0; start < logits.length; start += labelCount) {
    let highest = -Infinity;
    for (let cell = start; cell < start + labelCount; cell += 1) highest = Math.max(highest, logits[cell] ?? 0);
    let sum = 0;
    for (let cell = start; cell < start + labelCount; cell += 1) {
      const term = Math.exp((logits[cell] ?? 0) - highest);
      probabilities[cell] = term;
      sum += term;
    }
    for (let cell = start; cell < start + labelCount; cell += 1) probabilities[cell] = (probabilities[cell] ?? 0) / sum;
  }
  return probabilities;
}
