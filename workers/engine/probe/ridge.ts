/**
 * Ridge regression on frozen, standardised embeddings: |targets - rows x weights - intercept|^2 + alpha |weights|^2,
 * the same model as scikit-learn's Ridge.
 */
import { scoped, tf } from '../tensorflow.ts';

export interface Ridge {
  /** `[D]`. */
  readonly weights: Float64Array;
  readonly intercept: number;
}

/** Rows whose float32 products are summed in one op; sums over blocks are in float64. */
const ROWS_AT_ONCE = 4096;

/**
 * One model for each alpha, or null if rounding made the system singular. Rows are `[N, D]` with columns of mean 0. The
 * smaller of the two equal systems is solved: D by D, or, for fewer rows than entries, N by N.
 */
export function fitRidge(
  rows: Float32Array,
  embeddingDim: number,
  targets: Float64Array,
  alphas: readonly number[],
): (Ridge | null)[] {
  const rowCount = targets.length;
  const intercept = targets.reduce((sum, value) => sum + value, 0) / rowCount;
  const centred = targets.map((value) => value - intercept);
  const isDual = rowCount < embeddingDim;
  const side = isDual ? rowCount : embeddingDim;
  const gram = isDual ? outerProduct(rows, rowCount, embeddingDim) : innerProduct(rows, rowCount, embeddingDim);
  const right = isDual ? centred : transposedTimes(rows, embeddingDim, centred);
  return alphas.map((alpha) => {
    const factor = choleskyFactor(gram, side, alpha);
    if (factor === null) return null;
    const solution = solveFactored(factor, side, right);
    return { weights: isDual ? transposedTimes(rows, embeddingDim, solution) : solution, intercept };
  });
}

/** `[rows]`. */
export function predictRidge({ weights, intercept }: Ridge, rows: Float32Array): Float64Array {
  const embeddingDim = weights.length;
  return Float64Array.from({ length: rows.length / embeddingDim }, (_, row) => {
    let sum = intercept;
    for (let entry = 0; entry < embeddingDim; entry += 1)
      sum += (rows[row * embeddingDim + entry] ?? 0) * (weights[entry] ?? 0);
    return sum;
  });
}

/** rows^T x rows, `[D, D]`. */
function innerProduct(rows: Float32Array, rowCount: number, embeddingDim: number): Float64Array {
  const sums = new Float64Array(embeddingDim * embeddingDim);
  for (let start = 0; start < rowCount; start += ROWS_AT_ONCE) {
    const count = Math.min(ROWS_AT_ONCE, rowCount - start);
    const products = productOf(
      rows.subarray(start * embeddingDim, (start + count) * embeddingDim),
      [count, embeddingDim],
      true,
    );
    for (let index = 0; index < sums.length; index += 1) sums[index] = (sums[index] ?? 0) + (products[index] ?? 0);
  }
  return sums;
}

/** rows x rows^T, `[N, N]`. */
function outerProduct(rows: Float32Array, rowCount: number, embeddingDim: number): Float64Array {
  return Float64Array.from(productOf(rows, [rowCount, embeddingDim], false));
}

function productOf(
  rows: Float32Array,
  shape: [number, number],
  isInner: boolean,
): Float32Array | Int32Array | Uint8Array {
  const product = scoped(() => {
    const matrix = tf.tensor2d(rows.slice(), shape);
    return tf.matMul(matrix, matrix, isInner, !isInner);
  });
  const values = product.dataSync();
  product.dispose();
  return values;
}

/** rows^T x values, `[D]`. */
function transposedTimes(rows: Float32Array, embeddingDim: number, values: Float64Array): Float64Array {
  const sums = new Float64Array(embeddingDim);
  for (const [row, value] of values.entries()) {
    for (let entry = 0; entry < embeddingDim; entry += 1)
      sums[entry] = (sums[entry] ?? 0) + (rows[row * embeddingDim + entry] ?? 0) * value;
  }
  return sums;
}

/** The lower triangle L of L L^T = gram + alpha x identity, or null if a pivot is not positive. */
function choleskyFactor(gram: Float64Array, side: number, alpha: number): Float64Array | null {
  const factor = new Float64Array(side * side);
  for (let row = 0; row < side; row += 1) {
    const rowStart = row * side;
    for (let column = 0; column <= row; column += 1) {
      const columnStart = column * side;
      let sum = (gram[rowStart + column] ?? 0) + (row === column ? alpha : 0);
      for (let inner = 0; inner < column; inner += 1)
        sum -= (factor[rowStart + inner] ?? 0) * (factor[columnStart + inner] ?? 0);
      if (row !== column) factor[rowStart + column] = sum / (factor[columnStart + column] ?? 1);
      else if (sum > 0) factor[rowStart + row] = Math.sqrt(sum);
      else return null;
    }
  }
  return factor;
}

function solveFactored(factor: Float64Array, side: number, right: Float64Array): Float64Array {
  const solution = right.slice();
  for (let row = 0; row < side; row += 1) {
    let sum = solution[row] ?? 0;
    for (let column = 0; column < row; column += 1) sum -= (factor[row * side + column] ?? 0) * (solution[column] ?? 0);
    solution[row] = sum / (factor[row * side + row] ?? 1);
  }
  for (let row = side - 1; row >= 0; row -= 1) {
    let sum = solution[row] ?? 0;
    for (let below = row + 1; below < side; below += 1)
      sum -= (factor[below * side + row] ?? 0) * (solution[below] ?? 0);
    solution[row] = sum / (factor[row * side + row] ?? 1);
  }
  return solution;
}
