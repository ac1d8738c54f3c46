/** The space of a few rows: coordinates preserve lengths and angles, and a fit in them gives the same result. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { probeMatrix } from '../../workers/engine/probe/probe-matrix.ts';
import {
  fitLogisticRegression,
  predictProbabilities,
  probeInputs,
  trainingInputs,
} from '../../workers/engine/probe/logistic-regression.ts';
import { rowSpaceOf } from '../../workers/engine/probe/row-space.ts';
import { createRandom } from '../../workers/engine/rng.ts';
import { liveTensorCount } from '../../workers/engine/tensorflow.ts';

const random = createRandom(23);
const normals = (count: number): Float32Array => Float32Array.from({ length: count }, () => random.normal());
const product = (left: ArrayLike<number>, right: ArrayLike<number>): number =>
  Array.from(left).reduce((sum, value, index) => sum + value * (right[index] ?? 0), 0);
const rowOf = (rows: Float32Array, row: number, dim: number): Float32Array => rows.subarray(row * dim, (row + 1) * dim);

describe('rowSpaceOf', () => {
  test('keeps every product of two rows', () => {
    const rows = normals(9 * 40);
    const { dim, coordinates } = rowSpaceOf(rows, 40);
    assert.equal(dim, 9);
    for (let left = 0; left < 9; left += 1) {
      for (let right = 0; right <= left; right += 1) {
        const difference =
          product(rowOf(coordinates, left, dim), rowOf(coordinates, right, dim)) -
          product(rowOf(rows, left, 40), rowOf(rows, right, 40));
        assert.ok(Math.abs(difference) < 1e-4, `rows ${left} and ${right}: ${difference}`);
      }
    }
  });

  test('excludes rows that are sums of others, and zero rows', () => {
    const rows = new Float32Array(5 * 20);
    rows.set(normals(40));
    for (let entry = 0; entry < 20; entry += 1) rows[40 + entry] = (rows[entry] ?? 0) - 2 * (rows[20 + entry] ?? 0);
    rows.set(rows.subarray(0, 20), 60);
    assert.equal(rowSpaceOf(rows, 20).dim, 2);
    assert.equal(rowSpaceOf(new Float32Array(3 * 20), 20).dim, 0);
  });

  test('has one dimension less for standardised rows, whose sum is zero, and keeps their products', () => {
    const [rowCount, rowDim] = [60, 150];
    const rows = normals(rowCount * rowDim);
    for (let entry = 0; entry < rowDim; entry += 1) {
      const mean =
        Array.from({ length: rowCount }, (_, row) => rows[row * rowDim + entry] ?? NaN).reduce(
          (sum, value) => sum + value,
          0,
        ) / rowCount;
      for (let row = 0; row < rowCount; row += 1)
        rows[row * rowDim + entry] = (rows[row * rowDim + entry] ?? NaN) - mean;
    }
    const { dim, coordinates } = rowSpaceOf(rows, rowDim);
    assert.equal(dim, rowCount - 1);
    for (let left = 0; left < rowCount; left += 1) {
      for (let right = 0; right <= left; right += 1) {
        const difference =
          product(rowOf(coordinates, left, dim), rowOf(coordinates, right, dim)) -
          product(rowOf(rows, left, rowDim), rowOf(rows, right, rowDim));
        assert.ok(Math.abs(difference) < 1e-3, `rows ${left} and ${right}: ${difference}`);
      }
    }
  });

  test('stays a basis if two rows differ only by a thousandth of a per cent', () => {
    const rows = normals(20 * 100);
    const noise = normals(100);
    for (let entry = 0; entry < 100; entry += 1)
      rows[19 * 100 + entry] = (rows[entry] ?? NaN) + 1e-5 * (noise[entry] ?? NaN);
    const { dim, projectOntoBasis, expandFromBasis } = rowSpaceOf(rows, 100);
    assert.equal(dim, 20);
    const inside = Float64Array.from(normals(dim * 2));
    for (const [index, value] of projectOntoBasis(expandFromBasis(inside, 2), 2).entries())
      assert.ok(Math.abs(value - (inside[index] ?? NaN)) < 1e-4, `${index}: ${value}, not ${inside[index]}`);
  });

  test('reproduces vectors within the space, and drops orthogonal ones', () => {
    const { dim, projectOntoBasis, expandFromBasis } = rowSpaceOf(normals(4 * 30), 30);
    const inside = Float64Array.from(normals(dim * 2));
    const again = projectOntoBasis(expandFromBasis(inside, 2), 2);
    for (const [index, value] of again.entries()) assert.ok(Math.abs(value - (inside[index] ?? NaN)) < 1e-9);
    const across = Float64Array.from(normals(30 * 2));
    const within = expandFromBasis(projectOntoBasis(across, 2), 2);
    const rest = projectOntoBasis(
      across.map((value, index) => value - (within[index] ?? 0)),
      2,
    );
    assert.ok(rest.every((value) => Math.abs(value) < 1e-9));
  });
});

describe('probeMatrix', () => {
  for (const [where, rowCount] of [
    ['here', 20],
    ['on the device', 400],
  ] as const) {
    test(`multiplies ${where}`, () => {
      const before = liveTensorCount();
      const rows = normals(rowCount * 100);
      const matrix = probeMatrix(rows, rowCount, 100, 2);
      const [weights, residuals] = [Float64Array.from(normals(101 * 2)), Float64Array.from(normals(rowCount * 2))];
      const entryOf = (row: number, entry: number): number => (entry === 100 ? 1 : (rows[row * 100 + entry] ?? NaN));
      const sumOver = (count: number, term: (index: number) => number): number =>
        Array.from({ length: count }, (_, index) => term(index)).reduce((sum, value) => sum + value, 0);
      for (const [cell, value] of matrix.times(weights, 2).entries()) {
        const [row, column] = [cell >> 1, cell & 1];
        assert.ok(
          Math.abs(value - sumOver(101, (entry) => entryOf(row, entry) * (weights[entry * 2 + column] ?? NaN))) < 1e-3,
        );
      }
      for (const [cell, value] of matrix.transposedTimes(residuals, 2).entries()) {
        const [entry, column] = [cell >> 1, cell & 1];
        assert.ok(
          Math.abs(value - sumOver(rowCount, (row) => entryOf(row, entry) * (residuals[row * 2 + column] ?? NaN))) <
            1e-3,
        );
      }
      assert.equal(liveTensorCount(), before + (where === 'here' ? 0 : 1));
      matrix.dispose();
      assert.equal(liveTensorCount(), before);
    });
  }
});

describe('a fit in the space of its rows', () => {
  const fit = (rows: Float32Array, dim: number, labels: Int32Array) => {
    const inputs = trainingInputs(rows, dim, 3);
    const model = fitLogisticRegression(inputs, labels, 3, {
      inverseRegularisation: 0.1,
      gradientTolerance: 1e-7,
      maxIterations: 2000,
    });
    inputs.dispose();
    return { model, isSpanned: inputs.space !== null };
  };
  const probabilitiesOf = (model: ReturnType<typeof fit>['model'], rows: Float32Array): Float64Array => {
    const inputs = probeInputs(rows, model.embeddingDim, model.labelCount);
    try {
      return predictProbabilities(model, inputs);
    } finally {
      inputs.dispose();
    }
  };

  test('predicts the same for new rows as a fit of all entries', () => {
    const before = liveTensorCount();
    const labels = Int32Array.from({ length: 15 }, (_, row) => row % 3);
    const rows = normals(15 * 60);
    const spanned = fit(rows, 60, labels);
    assert.ok(spanned.isSpanned && spanned.model.converged);
    // Every row twenty times is the same problem with a twentieth of C, and so large that it is computed on the device.
    const many = new Float32Array(rows.length * 20);
    for (let copy = 0; copy < 20; copy += 1) many.set(rows, copy * rows.length);
    const whole = trainingInputs(many, 60, 3);
    assert.equal(whole.space, null);
    const model = fitLogisticRegression(
      whole,
      Int32Array.from({ length: 300 }, (_, row) => row % 3),
      3,
      { inverseRegularisation: 0.005, gradientTolerance: 1e-6, maxIterations: 2000 },
    );
    whole.dispose();
    const fresh = normals(10 * 60);
    const [ours, theirs] = [probabilitiesOf(spanned.model, fresh), probabilitiesOf(model, fresh)];
    for (const [index, value] of ours.entries())
      assert.ok(Math.abs(value - (theirs[index] ?? NaN)) < 1e-4, `${value} and ${theirs[index]}`);
    assert.equal(liveTensorCount(), before);
  });

  test('of identical rows predicts the label frequencies', () => {
    const { model, isSpanned } = fit(new Float32Array(10 * 60), 60, Int32Array.from([0, 0, 0, 0, 0, 1, 1, 1, 2, 2]));
    assert.ok(isSpanned);
    const [first = NaN, second = NaN, third = NaN] = probabilitiesOf(model, normals(60));
    assert.ok(
      Math.abs(first - 0.5) < 1e-4 && Math.abs(second - 0.3) < 1e-4 && Math.abs(third - 0.2) < 1e-4,
      `${first} ${second} ${third}`,
    );
  });
});
