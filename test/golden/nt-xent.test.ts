import { test, describe } from 'node:test';
import assert from 'node:assert/strict';
import { ntXent } from '../../workers/engine/losses/nt-xent.ts';
import { asRank2, liveTensorCount, readFloat, readFloats, tf } from '../../workers/engine/tensorflow.ts';
import { noise } from './formula.ts';

type Rows = readonly (readonly number[])[];

/** The definition, word for word, in doubles: for every row the partner's share among all other rows. */
function slowNtXent(rows: Rows, temperature: number): number {
  const cosine = (left: readonly number[], right: readonly number[]): number => {
    let product = 0;
    for (let axis = 0; axis < left.length; axis += 1) product += (left[axis] ?? 0) * (right[axis] ?? 0);
    return product / (Math.hypot(...left) * Math.hypot(...right));
  };
  let sum = 0;
  rows.forEach((row, index) => {
    const partner = rows[(index + rows.length / 2) % rows.length] ?? [];
    let others = 0;
    rows.forEach((other, otherIndex) => {
      if (otherIndex !== index) others += Math.exp(cosine(row, other) / temperature);
    });
    sum -= Math.log(Math.exp(cosine(row, partner) / temperature) / others);
  });
  return sum / rows.length;
}

function run(
  rows: Rows,
  temperature: number,
  maxBlockCells?: number,
): { loss: number; similarity: number; gradient: Float32Array } {
  const projections = asRank2(tf.tensor2d(rows.map((row) => [...row])));
  const { loss, gradient, positiveSimilarity } = ntXent(projections, temperature, { maxBlockCells });
  const result = { loss: readFloat(loss), similarity: readFloat(positiveSimilarity), gradient: readFloats(gradient) };
  tf.dispose([projections, loss, gradient, positiveSimilarity]);
  return result;
}

function randomRows(rowCount: number, width: number, name: string): number[][] {
  const values = noise(name, rowCount * width);
  return Array.from({ length: rowCount }, (_, row) => Array.from(values.subarray(row * width, (row + 1) * width)));
}

const near = (actual: number, wanted: number, tolerance: number): void =>
  assert.ok(Math.abs(actual - wanted) <= tolerance, `${actual}, expected ${wanted}`);

describe('NT-Xent', () => {
  for (const [imageCount, temperature] of [
    [2, 0.5],
    [5, 0.5],
    [16, 0.1],
    [16, 5],
  ] as const) {
    test(`equals the slow definition for ${imageCount} images at temperature ${temperature}`, () => {
      const rows = randomRows(2 * imageCount, 7, `rows ${imageCount}`);
      near(run(rows, temperature).loss, slowNtXent(rows, temperature), 2e-5);
    });
  }

  test('its gradient is that of the slow definition, by central differences', () => {
    const rows = randomRows(8, 5, 'gradient rows');
    const { gradient } = run(rows, 0.3);
    const h = 1e-5;
    rows.forEach((row, rowIndex) => {
      row.forEach((_, axis) => {
        const moved = (by: number): number =>
          slowNtXent(
            rows.map((other, index) =>
              index === rowIndex ? other.map((value, at) => (at === axis ? value + by : value)) : other,
            ),
            0.3,
          );
        near(gradient[rowIndex * 5 + axis] ?? Number.NaN, (moved(h) - moved(-h)) / (2 * h), 1e-5);
      });
    });
  });

  test('closed forms: all equal, all orthogonal, partners equal and all else orthogonal', () => {
    const imageCount = 4;
    const axis = (index: number): number[] => Array.from({ length: 8 }, (_, at) => (at === index ? 3 : 0));
    const equal = run(
      Array.from({ length: 2 * imageCount }, () => [1, 2, 3]),
      0.5,
    );
    near(equal.loss, Math.log(2 * imageCount - 1), 1e-6);
    near(equal.similarity, 1, 1e-6);
    assert.ok(equal.gradient.every((value) => Math.abs(value) < 1e-6));
    const orthogonal = run(
      Array.from({ length: 2 * imageCount }, (_, index) => axis(index)),
      0.5,
    );
    near(orthogonal.loss, Math.log(2 * imageCount - 1), 1e-6);
    near(orthogonal.similarity, 0, 1e-6);
    const found = run(
      Array.from({ length: 2 * imageCount }, (_, index) => axis(index % imageCount)),
      0.5,
    );
    near(found.loss, Math.log(Math.exp(2) + 2 * imageCount - 2) - 2, 1e-6);
  });

  test('the length of a projection does not matter, and a gradient never points along it', () => {
    const rows = randomRows(8, 6, 'lengths');
    const scaled = rows.map((row, index) => row.map((value) => value * (index + 1) * 10));
    const { loss, gradient } = run(rows, 0.5);
    near(run(scaled, 0.5).loss, loss, 1e-5);
    rows.forEach((row, index) =>
      near(
        row.reduce((sum, value, axis) => sum + value * (gradient[index * 6 + axis] ?? 0), 0),
        0,
        1e-6,
      ),
    );
  });

  test('stays finite where the plain exponential would not: temperature 0.001, and rows of zeros', () => {
    const sharp = run(randomRows(8, 6, 'sharp'), 0.001);
    assert.ok(Number.isFinite(sharp.loss) && sharp.gradient.every(Number.isFinite));
    const zeros = run(
      Array.from({ length: 4 }, () => [0, 0, 0]),
      0.5,
    );
    near(zeros.loss, Math.log(3), 1e-6);
    assert.ok(zeros.gradient.every(Number.isFinite));
  });

  test('refuses an odd number of rows, one image, and a temperature that is not positive', () => {
    for (const [rowCount, temperature] of [
      [5, 0.5],
      [2, 0.5],
      [4, 0],
      [4, -1],
      [4, Number.NaN],
      [4, Number.POSITIVE_INFINITY],
    ] as const) {
      assert.throws(() => run(randomRows(rowCount, 3, 'bad'), temperature), RangeError);
    }
  });

  for (const blockRows of [1, 3, 8, 31]) {
    test(`is the same in blocks of ${blockRows} of 32 rows: loss by the slow definition, gradient as in one piece`, () => {
      const rows = randomRows(32, 7, 'rows in blocks');
      const whole = run(rows, 0.2);
      const inBlocks = run(rows, 0.2, blockRows * rows.length);
      near(inBlocks.loss, slowNtXent(rows, 0.2), 2e-5);
      near(inBlocks.similarity, whole.similarity, 1e-6);
      inBlocks.gradient.forEach((value, index) => near(value, whole.gradient[index] ?? Number.NaN, 1e-6));
    });
  }

  test('no matrix of a large batch is larger than a block of it, whatever its size', async () => {
    const projections = asRank2(tf.randomNormal([512, 8], 0, 1, 'float32', 1));
    const maxBlockCells = 16 * 512;
    const { kernels } = await tf.profile(() => Object.values(ntXent(projections, 0.5, { maxBlockCells })));
    const cellCounts = kernels.flatMap(({ outputShapes }) =>
      outputShapes.map((shape) => shape.reduce((product, side) => product * side, 1)),
    );
    assert.equal(Math.max(...cellCounts), maxBlockCells);
    projections.dispose();
  });

  test('leaves no tensor but its three, in one block or several', () => {
    const projections = asRank2(tf.tensor2d(randomRows(6, 4, 'leak')));
    for (const maxBlockCells of [undefined, 12]) {
      const before = liveTensorCount();
      const outputs = ntXent(projections, 0.5, { maxBlockCells });
      assert.equal(liveTensorCount(), before + 3);
      tf.dispose([outputs.loss, outputs.gradient, outputs.positiveSimilarity]);
    }
    projections.dispose();
  });
});
