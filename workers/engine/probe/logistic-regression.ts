/**
 * Multinomial logistic regression with an L2 penalty, the same model as scikit-learn's LogisticRegression: it minimises
 * C x sum of cross-entropies + |weights|^2 / 2, intercepts free. With many embeddings the two products and the
 * preconditioner run in TensorFlow as float32, all else in float64. A few long rows are fitted in the space that they
 * span.
 */
import { minimise, type LbfgsResult } from './lbfgs.ts';
import { probeMatrix, type ProbeMatrix } from './probe-matrix.ts';
import { rowSpaceOf, type RowSpace } from './row-space.ts';

export interface LogisticRegressionOptions {
  /** C: the inverse of the penalty's strength; larger fits closer. */
  readonly inverseRegularisation: number;
  /** Tolerance for the mean loss's gradient; default 1e-4, as in scikit-learn. */
  readonly gradientTolerance?: number;
  readonly maxIterations?: number;
  /** An earlier model to start from. */
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

/** Dispose it when done. */
export interface ProbeInputs {
  readonly rowCount: number;
  readonly embeddingDim: number;
  readonly matrix: ProbeMatrix;
  dispose(): void;
}

/**
 * The training rows. `matrix` is `[N, r + 1]`, in coordinates of the space that the rows span, or `[N, D + 1]` if that
 * space would need as many coordinates.
 */
export interface TrainingInputs extends ProbeInputs {
  readonly space: RowSpace | null;
}

/**
 * Limits on the number of rows, and on their number relative to their length, for fitting in their span. A probe of 250
 * images of 2,048 entries took 3.7 s in it instead of 13.3, and of 124 images of 512 entries 1.6 s instead of 4.3. The
 * cost of the span grows with the square of the rows: 800 images of 2,048 entries took 19 s in it and 13 s without.
 */
const SPANNED_ROWS_MAX = 384;
const ENTRIES_PER_ROW = 2;

/** Training rows `[N, D]` of K labels. */
export function trainingInputs(rows: Float32Array, embeddingDim: number, labelCount: number): TrainingInputs {
  const rowCount = rows.length / embeddingDim;
  const space =
    rowCount <= SPANNED_ROWS_MAX && rowCount * ENTRIES_PER_ROW <= embeddingDim ? rowSpaceOf(rows, embeddingDim) : null;
  const matrix =
    space === null
      ? probeMatrix(rows, rowCount, embeddingDim, labelCount)
      : probeMatrix(space.coordinates, rowCount, space.dim, labelCount);
  return { rowCount, embeddingDim, space, matrix, dispose: () => matrix.dispose() };
}

/** Rows `[N, D]` to be classified into K labels. */
export function probeInputs(rows: Float32Array, embeddingDim: number, labelCount: number): ProbeInputs {
  const rowCount = rows.length / embeddingDim;
  const matrix = probeMatrix(rows, rowCount, embeddingDim, labelCount);
  return { rowCount, embeddingDim, matrix, dispose: () => matrix.dispose() };
}

/** Fits labels `[N]` in 0..labelCount-1, each of which must occur. Deterministic. */
export function fitLogisticRegression(
  inputs: TrainingInputs,
  labels: Int32Array,
  labelCount: number,
  options: LogisticRegressionOptions,
): LogisticRegression {
  const { rowCount, embeddingDim, space } = inputs;
  const dim = space?.dim ?? embeddingDim;
  // With two labels scikit-learn fits one vector of weights; two opposite vectors of half its length pay half the
  // penalty, so C is halved.
  const strength = labelCount === 2 ? options.inverseRegularisation / 2 : options.inverseRegularisation;
  const penalty = 1 / (strength * rowCount);
  const penalisedCount = dim * labelCount;
  const evaluate = (weights: Float64Array): { value: number; gradient: Float64Array } => {
    const probabilities = softmaxRows(inputs.matrix.times(weights, labelCount), labelCount);
    const residuals = new Float64Array(probabilities.length);
    let loss = 0;
    for (let row = 0; row < rowCount; row += 1) {
      for (let label = 0; label < labelCount; label += 1) {
        const cell = row * labelCount + label;
        const probability = probabilities[cell] ?? 0;
        const isTrue = labels[row] === label;
        // Without the lower bound of 1e-300, a true label's probability could make the loss infinite and end the line
        // search.
        if (isTrue) loss -= Math.log(Math.max(probability, 1e-300));
        residuals[cell] = probability - (isTrue ? 1 : 0);
      }
    }
    const gradient = new Float64Array(inputs.matrix.transposedTimes(residuals, labelCount));
    for (let index = 0; index < gradient.length; index += 1) gradient[index] = (gradient[index] ?? 0) / rowCount;
    let squares = 0;
    for (let index = 0; index < penalisedCount; index += 1) {
      const weight = weights[index] ?? 0;
      squares += weight * weight;
      gradient[index] = (gradient[index] ?? 0) + penalty * weight;
    }
    return { value: loss / rowCount + (penalty * squares) / 2, gradient };
  };
  const minimiseFrom = (start: Float64Array): LbfgsResult => {
    const settings = {
      gradientTolerance: options.gradientTolerance ?? 1e-4,
      maxIterations: options.maxIterations ?? 300,
    };
    // The exact Hessian where all labels are equally probable (Boehning 1992 bounds it by a multiple of the same).
    const estimate = inputs.matrix.inverseHessian({ scale: 1 / (labelCount * rowCount), penalty });
    if (estimate === null) return minimise(evaluate, start, settings);
    try {
      const precondition = (vector: Float64Array): Float64Array => estimate.times(vector, labelCount);
      return minimise(evaluate, start, { ...settings, precondition });
    } finally {
      estimate.dispose();
    }
  };
  const start =
    options.startFrom === undefined
      ? new Float64Array((dim + 1) * labelCount)
      : transformWeights(options.startFrom.weights, labelCount, space?.projectOntoBasis);
  const result = minimiseFrom(start);
  return {
    embeddingDim,
    labelCount,
    weights: transformWeights(result.point, labelCount, space?.expandFromBasis),
    converged: result.converged,
    iterationCount: result.iterationCount,
  };
}

/** `[N, K]`, rows summing to 1. */
export function predictProbabilities(model: LogisticRegression, inputs: ProbeInputs): Float64Array {
  return softmaxRows(inputs.matrix.times(model.weights, model.labelCount), model.labelCount);
}

/** Converts weights into the span or back; the intercepts, in the last row, are not converted. */
function transformWeights(
  weights: Float64Array,
  labelCount: number,
  transform: ((columns: Float64Array, columnCount: number) => Float64Array) | undefined,
): Float64Array {
  if (transform === undefined) return weights;
  const penalised = transform(weights.subarray(0, weights.length - labelCount), labelCount);
  const whole = new Float64Array(penalised.length + labelCount);
  whole.set(penalised);
  whole.set(weights.subarray(weights.length - labelCount), penalised.length);
  return whole;
}

function softmaxRows(logits: Float64Array | Float32Array, labelCount: number): Float64Array {
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
