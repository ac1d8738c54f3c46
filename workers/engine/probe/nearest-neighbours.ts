/**
 * k nearest neighbours by cosine similarity of the unscaled embeddings; each neighbour has one vote. k is chosen by
 * folds within each training part.
 */
import { scoped, tf } from '../tensorflow.ts';
import type { Classifier } from './classification.ts';
import type { LabelledImages } from './folds.ts';
import { innerParts, innerScores } from './inner-choice.ts';
import type { EmbeddedImages } from './scaling.ts';

export interface NeighbourFacts {
  /** The chosen k. */
  readonly neighbourCount: number;
}

const NEIGHBOUR_COUNTS = [1, 3, 5, 11, 21, 51] as const;
/** Used where a training part cannot be divided again. */
const NEIGHBOUR_COUNT_DEFAULT = 5;
/** Test images per block: with 100,000 training images the similarities take 200 MB. */
const ROWS_AT_ONCE = 512;

export function nearestNeighbours(
  embedded: EmbeddedImages,
  images: LabelledImages,
  seed: number,
): Classifier<NeighbourFacts> {
  return {
    classify: async (train, test, reportProgress) => {
      const neighbourCount = Math.min(
        train.length,
        await chooseNeighbourCount(embedded, images, train, seed, reportProgress),
      );
      const nearest = nearestLabels(embedded, images, train, test, neighbourCount);
      return {
        probabilities: voteFractions(nearest, neighbourCount, neighbourCount, images.labelNames.length),
        facts: { neighbourCount },
      };
    },
  };
}

/** The k with the highest macro F1 over inner folds by group; of equal ones the smallest. */
async function chooseNeighbourCount(
  embedded: EmbeddedImages,
  images: LabelledImages,
  train: Int32Array,
  seed: number,
  onProgress: (done: number) => Promise<void>,
): Promise<number> {
  const parts = innerParts(images, train, seed);
  if (parts === null) return NEIGHBOUR_COUNT_DEFAULT;
  const smallest = Math.min(...parts.map(({ fitted }) => fitted.length));
  const candidates = NEIGHBOUR_COUNTS.filter((count) => count <= smallest);
  const largest = Math.max(1, ...candidates);
  const scores = (
    await innerScores(
      parts,
      images,
      ({ fitted, heldOut }) => {
        const nearest = nearestLabels(embedded, images, fitted, heldOut, largest);
        return candidates.map((count) => voteFractions(nearest, largest, count, images.labelNames.length));
      },
      onProgress,
    )
  ).map(({ macroF1 }) => macroF1);
  return candidates[scores.indexOf(Math.max(...scores))] ?? NEIGHBOUR_COUNT_DEFAULT;
}

/** `[test, neighbourCount]`: the labels of the nearest training images, nearest first. */
function nearestLabels(
  { embeddings, embeddingDim }: EmbeddedImages,
  { labels }: LabelledImages,
  train: Int32Array,
  test: Int32Array,
  neighbourCount: number,
): Int32Array {
  const unitRows = (rows: Int32Array) =>
    scoped(() => {
      const picked = new Float32Array(rows.length * embeddingDim);
      for (const [place, image] of rows.entries())
        picked.set(embeddings.subarray(image * embeddingDim, (image + 1) * embeddingDim), place * embeddingDim);
      const matrix = tf.tensor2d(picked, [rows.length, embeddingDim]);
      return tf.div(matrix, tf.maximum(tf.norm(matrix, 2, 1, true), 1e-12));
    });
  const nearest = new Int32Array(test.length * neighbourCount);
  const trainRows = unitRows(train);
  for (let start = 0; start < test.length; start += ROWS_AT_ONCE) {
    const testRows = unitRows(test.subarray(start, start + ROWS_AT_ONCE));
    const indices = scoped(() => tf.topk(tf.matMul(testRows, trainRows, false, true), neighbourCount).indices);
    for (const [place, row] of indices.dataSync().entries())
      nearest[start * neighbourCount + place] = labels[train[row] ?? 0] ?? 0;
    tf.dispose([testRows, indices]);
  }
  trainRows.dispose();
  return nearest;
}

/** `[rows, K]`: the share of the first `count` of each row's `width` neighbours that has each label. */
function voteFractions(nearest: Int32Array, width: number, count: number, labelCount: number): Float64Array {
  const rowCount = nearest.length / width;
  const shares = new Float64Array(rowCount * labelCount);
  for (let row = 0; row < rowCount; row += 1) {
    for (let place = 0; place < count; place += 1) {
      const cell = row * labelCount + (nearest[row * width + place] ?? 0);
      shares[cell] = (shares[cell] ?? 0) + 1 / count;
    }
  }
  return shares;
}
