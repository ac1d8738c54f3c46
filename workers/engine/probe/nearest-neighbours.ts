/**
 * k nearest neighbours by cosine similarity of the unscaled embeddings; each neighbour has one vote. k is chosen by
 * folds within each training part.
 */
import { classificationMeasure } from '../../../src/statistics/classification-score.ts';
import { scoped, tf } from '../tensorflow.ts';
import type { Classifier } from './classification.ts';
import { assignInnerFolds, INNER_FOLD_COUNT, type LabelledImages } from './folds.ts';
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
    classify: async (train, test, tell) => {
      const neighbourCount = Math.min(train.length, await chooseNeighbourCount(embedded, images, train, seed, tell));
      const nearest = nearestLabels(embedded, images, train, test, neighbourCount);
      return {
        probabilities: voteShares(nearest, neighbourCount, neighbourCount, images.labelNames.length),
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
  const inner = assignInnerFolds(images, train, seed);
  if (inner === null) return NEIGHBOUR_COUNT_DEFAULT;
  const labelCount = images.labelNames.length;
  const folds = Array.from({ length: INNER_FOLD_COUNT }, (_, fold) => ({
    learned: train.filter((_image, row) => inner[row] !== fold),
    held: train.filter((_image, row) => inner[row] === fold),
  }));
  const smallest = Math.min(...folds.map(({ learned }) => learned.length));
  const candidates = NEIGHBOUR_COUNTS.filter((count) => count <= smallest);
  const largest = Math.max(1, ...candidates);
  const nearest: Int32Array[] = [];
  for (const [fold, { learned, held }] of folds.entries()) {
    nearest.push(nearestLabels(embedded, images, learned, held, largest));
    await onProgress((fold + 1) / (INNER_FOLD_COUNT + 1));
  }
  const truth = Int32Array.from(folds.flatMap(({ held }) => Array.from(held, (image) => images.labels[image] ?? 0)));
  const scores = candidates.map((count) => {
    const probabilities = Float64Array.from(
      nearest.flatMap((labels) => [...voteShares(labels, largest, count, labelCount)]),
    );
    return classificationMeasure({ truth, probabilities, groups: [], labelNames: images.labelNames }).values.macroF1;
  });
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
function voteShares(nearest: Int32Array, width: number, count: number, labelCount: number): Float64Array {
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
