/**
 * The embeddings of a probe with a column of ones for the intercepts, `[N, D + 1]`, the two products that a fit needs,
 * and an estimate of its inverse Hessian.
 */
import { asRank2, boolAttr, readFloats, runOp, scoped, T_FLOAT, tf, type Tensor2D } from '../tensorflow.ts';
import { dotBetween } from './vectors.ts';

export interface ProbeMatrix {
  /** The product of this matrix and `right`, `[D + 1, K]`: `[N, K]`. */
  times(right: Float64Array, columnCount: number): Float64Array | Float32Array;
  /** The product of this matrix, transposed, and `right`, `[N, K]`: `[D + 1, K]`. */
  transposedTimes(right: Float64Array, columnCount: number): Float64Array | Float32Array;
  /** Null for a matrix so small that an estimate costs more than it saves. Dispose it when done. */
  inverseHessian(curvature: Curvature): InverseHessian | null;
  dispose(): void;
}

/** The Hessian of a loss for each column of weights, as a multiple of X' X plus a penalty. */
export interface Curvature {
  readonly scale: number;
  /** Added to the diagonal, except for the intercept. */
  readonly penalty: number;
}

export interface InverseHessian {
  /** Times `right`, `[D + 1, K]`, column by column. */
  times(right: Float64Array, columnCount: number): Float64Array;
  dispose(): void;
}

/**
 * Share of the trace that is added to the diagonal: the float32 factorisation fails if the largest and the smallest
 * eigenvalue are seven orders of magnitude apart, as those of redundant embeddings are.
 */
const RIDGE_SHARE = 1e-5;

/**
 * Up to this many multiplications a product in JavaScript is faster than a call of TensorFlow: 35,000 took 0.10 ms
 * against 0.12 to 0.14 ms, 70,000 took 0.20 ms against 0.12 ms.
 */
const HOST_MULTIPLICATIONS_MAX = 40_000;

/**
 * @param rows `[N, D]`.
 * @param labelCount K, which decides where the products are computed.
 */
export function probeMatrix(rows: Float32Array, rowCount: number, dim: number, labelCount: number): ProbeMatrix {
  return rowCount * (dim + 1) * labelCount <= HOST_MULTIPLICATIONS_MAX
    ? hostMatrix(rows, rowCount, dim)
    : deviceMatrix(rows, rowCount, dim);
}

/** Products in float64; each entry is the dot product of two contiguous vectors. */
function hostMatrix(rows: Float32Array, rowCount: number, dim: number): ProbeMatrix {
  const width = dim + 1;
  const matrix = new Float64Array(rowCount * width).fill(1);
  for (let row = 0; row < rowCount; row += 1) matrix.set(rows.subarray(row * dim, (row + 1) * dim), row * width);
  const matrixTransposed = transposed(matrix, rowCount, width);
  const product = (left: Float64Array, leftCount: number, right: Float64Array, columnCount: number): Float64Array => {
    const length = left.length / leftCount;
    const columns = transposed(right, length, columnCount);
    const result = new Float64Array(leftCount * columnCount);
    for (let row = 0; row < leftCount; row += 1) {
      for (let column = 0; column < columnCount; column += 1)
        result[row * columnCount + column] = dotBetween(left, row * length, columns, column * length, length);
    }
    return result;
  };
  return {
    times: (right, columnCount) => product(matrix, rowCount, right, columnCount),
    transposedTimes: (right, columnCount) => product(matrixTransposed, width, right, columnCount),
    inverseHessian: () => null,
    dispose: () => undefined,
  };
}

function transposed(matrix: Float64Array, rowCount: number, columnCount: number): Float64Array {
  const result = new Float64Array(matrix.length);
  for (let row = 0; row < rowCount; row += 1) {
    for (let column = 0; column < columnCount; column += 1)
      result[column * rowCount + row] = matrix[row * columnCount + column] ?? 0;
  }
  return result;
}

/** Products in float32. */
function deviceMatrix(rows: Float32Array, rowCount: number, dim: number): ProbeMatrix {
  const matrix = scoped(() => tf.concat2d([tf.tensor2d(rows, [rowCount, dim]), tf.ones([rowCount, 1])], 1));
  let gram: Tensor2D | undefined;
  return {
    times: (right, columnCount) => onDevice(right, columnCount, (columns) => tf.matMul(matrix, columns)),
    transposedTimes: (right, columnCount) =>
      onDevice(right, columnCount, (columns) => tf.matMul(matrix, columns, true)),
    inverseHessian: (curvature) => {
      gram ??= scoped(() => asRank2(tf.matMul(matrix, matrix, true)));
      return inverseHessianOf(gram, curvature);
    },
    dispose: () => {
      matrix.dispose();
      gram?.dispose();
    },
  };
}

/** By Cholesky factorisation. @param gram X' X, `[D + 1, D + 1]`. */
function inverseHessianOf(gram: Tensor2D, { scale, penalty }: Curvature): InverseHessian {
  const [width] = gram.shape;
  const factor = scoped(() => {
    const penalties = new Float32Array(width).fill(penalty);
    penalties[width - 1] = 0;
    const hessian = tf.mul(gram, scale);
    const ridge = tf.mul(tf.sum(tf.mul(hessian, tf.eye(width))), RIDGE_SHARE);
    const penalised = tf.add(hessian, tf.mul(tf.eye(width), tf.add(tf.tensor1d(penalties), ridge)));
    return runOp('Cholesky', [T_FLOAT], [penalised]);
  });
  const solve = (isTransposed: boolean, right: Tensor2D): Tensor2D =>
    asRank2(
      runOp(
        'MatrixTriangularSolve',
        [T_FLOAT, boolAttr('lower', true), boolAttr('adjoint', isTransposed)],
        [factor, right],
      ),
    );
  return {
    times: (right, columnCount) => {
      const product = onDevice(right, columnCount, (columns) => {
        const half = solve(false, columns);
        try {
          return solve(true, half);
        } finally {
          half.dispose();
        }
      });
      return new Float64Array(product);
    },
    dispose: () => factor.dispose(),
  };
}

/** Disposes tensors explicitly, because `scoped` would visit each of the returned numbers. */
function onDevice(right: Float64Array, columnCount: number, work: (columns: Tensor2D) => Tensor2D): Float32Array {
  const columns = tf.tensor2d(new Float32Array(right), [right.length / columnCount, columnCount]);
  try {
    const result = work(columns);
    try {
      return readFloats(result);
    } finally {
      result.dispose();
    }
  } finally {
    columns.dispose();
  }
}
