/** The embeddings of a probe with a column of ones for the intercepts, `[N, D + 1]`, and the two products that a fit asks of them. */
import { readFloats, scoped, tf } from '../tensorflow.ts';

export interface ProbeMatrix {
  /** This x right, `[D + 1, K]`: `[N, K]`. */
  times(right: Float64Array, columnCount: number): Float64Array | Float32Array;
  /** This, transposed, x right, `[N, K]`: `[D + 1, K]`. */
  transposedTimes(right: Float64Array, columnCount: number): Float64Array | Float32Array;
  dispose(): void;
}

/** Up to so many entries a product is done before TensorFlow has been told of it (about a quarter of a millisecond). */
const HOST_ENTRIES_MAX = 16_384;

/** @param rows `[N, D]`. */
export function probeMatrix(rows: Float32Array, rowCount: number, dim: number): ProbeMatrix {
  return rowCount * (dim + 1) <= HOST_ENTRIES_MAX ? hostMatrix(rows, rowCount, dim) : deviceMatrix(rows, rowCount, dim);
}

function hostMatrix(rows: Float32Array, rowCount: number, dim: number): ProbeMatrix {
  return {
    times: (right, columnCount) => {
      const result = new Float64Array(rowCount * columnCount);
      for (let row = 0; row < rowCount; row += 1) {
        for (let column = 0; column < columnCount; column += 1) {
          let sum = right[dim * columnCount + column] ?? 0;
          for (let entry = 0; entry < dim; entry += 1) sum += (rows[row * dim + entry] ?? 0) * (right[entry * columnCount + column] ?? 0);
          result[row * columnCount + column] = sum;
        }
      }
      return result;
    },
    transposedTimes: (right, columnCount) => {
      const result = new Float64Array((dim + 1) * columnCount);
      for (let row = 0; row < rowCount; row += 1) {
        for (let column = 0; column < columnCount; column += 1) {
          const weight = right[row * columnCount + column] ?? 0;
          for (let entry = 0; entry < dim; entry += 1) {
            const cell = entry * columnCount + column;
            result[cell] = (result[cell] ?? 0) + weight * (rows[row * dim + entry] ?? 0);
          }
          const last = dim * columnCount + column;
          result[last] = (result[last] ?? 0) + weight;
        }
      }
      return result;
    },
    dispose: () => undefined,
  };
}

/** Products in float32. */
function deviceMatrix(rows: Float32Array, rowCount: number, dim: number): ProbeMatrix {
  const matrix = scoped(() => tf.concat2d([tf.tensor2d(rows, [rowCount, dim]), tf.ones([rowCount, 1])], 1));
  // Disposes by hand: a scope would walk the numbers that it returns one by one.
  const product = (right: Float64Array, columnCount: number, isTransposed: boolean): Float32Array => {
    const onDevice = tf.tensor2d(new Float32Array(right), [right.length / columnCount, columnCount]);
    const result = tf.matMul(matrix, onDevice, isTransposed);
    try {
      return readFloats(result);
    } finally {
      tf.dispose([onDevice, result]);
    }
  };
  return {
    times: (right, columnCount) => product(right, columnCount, false),
    transposedTimes: (right, columnCount) => product(right, columnCount, true),
    dispose: () => matrix.dispose(),
  };
}
