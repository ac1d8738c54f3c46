/**
 * The space that a few long rows span. The weights of a linear model with an L2 penalty lie in the span of its training
 * rows (the representer theorem), so that 100 images with embeddings of 2,048 entries can be fitted in 100 coordinates:
 * the same minimum for a fraction of the work.
 */
import { addTimes, dotBetween } from './vectors.ts';

export interface RowSpace {
  /** r, at most the number of rows. */
  readonly dim: number;
  /** `[N, r]`: each row in the coordinates of the basis. */
  readonly coordinates: Float32Array;
  /** Converts `[D, K]` to `[r, K]`: the projection of each column onto the space. */
  projectOntoBasis(columns: Float64Array, columnCount: number): Float64Array;
  /** Converts `[r, K]` to `[D, K]`. */
  expandFromBasis(coordinates: Float64Array, columnCount: number): Float64Array;
}

/** Tolerance relative to a row's length: a smaller component outside the span of the earlier rows is rounding error. */
const RANK_TOLERANCE = 1e-6;

/**
 * Uses the Cholesky factor L of the rows' products, X X' = L L', in float64: the basis is L^-1 X, which is never
 * computed, and L holds the coordinates in it. Rows that are linear combinations of others add nothing. Takes about N^2
 * D / 2 multiplications, an eighth of the cost of orthonormalising the rows themselves; the basis is as orthogonal as
 * the rows are independent (to 1e-4 for a row that lies almost in the span of the others).
 */
export function rowSpaceOf(rows: Float32Array, embeddingDim: number): RowSpace {
  const rowCount = rows.length / embeddingDim;
  const products = rowProducts(rows, rowCount, embeddingDim);
  /** The linearly independent rows, and the row of L for each. */
  const spanning: { readonly index: number; readonly factor: Float64Array }[] = [];
  const factors: Float64Array[] = [];
  for (let index = 0; index < rowCount; index += 1) {
    const factor = new Float64Array(spanning.length + 1);
    const square = products[index * rowCount + index] ?? Number.NaN;
    let outside = square;
    for (const [place, other] of spanning.entries()) {
      let rest = products[index * rowCount + other.index] ?? Number.NaN;
      for (let earlier = 0; earlier < place; earlier += 1)
        rest -= (factor[earlier] ?? 0) * (other.factor[earlier] ?? 0);
      const along = rest / (other.factor[place] ?? Number.NaN);
      factor[place] = along;
      outside -= along * along;
    }
    factors.push(factor);
    if (outside <= RANK_TOLERANCE ** 2 * square) continue;
    factor[spanning.length] = Math.sqrt(outside);
    spanning.push({ index, factor });
  }
  const dim = spanning.length;
  const coordinates = new Float32Array(rowCount * dim);
  for (const [row, factor] of factors.entries()) coordinates.set(factor.subarray(0, dim), row * dim);
  return {
    dim,
    coordinates,
    projectOntoBasis: (columns, columnCount) => {
      const inside = new Float64Array(dim * columnCount);
      for (const [place, { index, factor }] of spanning.entries()) {
        const start = place * columnCount;
        for (let entry = 0; entry < embeddingDim; entry += 1)
          addTimes(inside, start, columns, entry * columnCount, columnCount, rows[index * embeddingDim + entry] ?? 0);
        for (let earlier = 0; earlier < place; earlier += 1)
          addTimes(inside, start, inside, earlier * columnCount, columnCount, -(factor[earlier] ?? 0));
        divide(inside, start, columnCount, factor[place] ?? Number.NaN);
      }
      return inside;
    },
    expandFromBasis: (inside, columnCount) => {
      const weights = inside.slice();
      const columns = new Float64Array(embeddingDim * columnCount);
      for (const [place, { index, factor }] of [...spanning.entries()].reverse()) {
        const start = place * columnCount;
        divide(weights, start, columnCount, factor[place] ?? Number.NaN);
        for (let earlier = 0; earlier < place; earlier += 1)
          addTimes(weights, earlier * columnCount, weights, start, columnCount, -(factor[earlier] ?? 0));
        for (let entry = 0; entry < embeddingDim; entry += 1)
          addTimes(columns, entry * columnCount, weights, start, columnCount, rows[index * embeddingDim + entry] ?? 0);
      }
      return columns;
    },
  };
}

/** X X' of rows `[N, D]`, its lower half: `[N, N]`. */
function rowProducts(rows: Float32Array, rowCount: number, embeddingDim: number): Float64Array {
  const exact = new Float64Array(rows);
  const products = new Float64Array(rowCount * rowCount);
  for (let left = 0; left < rowCount; left += 1) {
    for (let right = 0; right <= left; right += 1)
      products[left * rowCount + right] = dotBetween(
        exact,
        left * embeddingDim,
        exact,
        right * embeddingDim,
        embeddingDim,
      );
  }
  return products;
}

function divide(target: Float64Array, start: number, count: number, by: number): void {
  for (let index = start; index < start + count; index += 1) target[index] = (target[index] ?? 0) / by;
}
