/**
 * NT-Xent, the normalised temperature-scaled cross entropy of SimCLR (Chen et al. 2020, arXiv:2002.05709, equation 1).
 *
 * Each of the 2N projections must identify its partner (the other view of its image) among the other 2N - 1 by cosine
 * similarity. The decoupled form (DCL, Yeh et al. 2022, arXiv:2110.06848, equation 6) leaves the partner out of the
 * denominator, so that an image whose views already agree still learns from its negatives, also in small batches.
 */
import { asRank2, scoped, tf } from '../tensorflow.ts';
import type { Tensor, Tensor2D } from '../tensorflow.ts';
import { multiplyMatrices } from '../kernels/elementwise.ts';

/**
 * A projection shorter than this is divided by it instead of by its own length, so that a zero row gives no infinity.
 */
const MIN_LENGTH = 1e-12;
/**
 * Added to the similarity of a row to itself, so that its exponential is 0 in float32. It is finite, because minus
 * infinity would give NaN where it is multiplied by 0.
 */
const EXCLUDED = -1e30;

export interface NtXent {
  /**
   * Scalar: the mean over all 2N rows. It is log(2N - 1) when all projections are equal, and half of the reference
   * code's sum over two directions. Decoupled, it is log(2N - 2) then, and may be negative.
   */
  readonly loss: Tensor;
  /** [2N, P], the gradient of the loss with respect to the projections. */
  readonly gradient: Tensor2D;
  /** Scalar: the mean cosine similarity of partners, in -1..1. */
  readonly positiveSimilarity: Tensor;
}

/**
 * Number of similarities computed at once: 64 MB in float32 for each of about five matrices that are alive. A batch of
 * 2048 fits in one block; a batch of 8192, which would take 1 GB for each matrix, takes sixteen.
 */
const MAX_BLOCK_CELLS = 2 ** 24;

export interface NtXentOptions {
  /** Whether the partner is left out of the denominator [false]. */
  readonly decoupled?: boolean | undefined;
  /** Similarities of one block, at least one row of them; the result depends on it only through rounding. */
  readonly maxBlockCells?: number | undefined;
}

/**
 * The matrix of similarities is worked through in blocks of rows, so that memory grows with the batch and not with its
 * square.
 *
 * @param projections [2N, P]; rows 0..N-1 are the first views, rows N..2N-1 the second views of the same images. They
 * need not have unit length.
 * @param temperature above 0; smaller is sharper.
 * @throws RangeError for an odd number of rows, fewer than 4 (one image has no negatives), or a temperature that is not
 * positive.
 */
export function ntXent(
  projections: Tensor2D,
  temperature: number,
  { decoupled = false, maxBlockCells = MAX_BLOCK_CELLS }: NtXentOptions = {},
): NtXent {
  const [viewCount] = projections.shape;
  if (viewCount % 2 !== 0 || viewCount < 4)
    throw new RangeError(`NT-Xent takes two views of at least 2 images, not ${viewCount} rows.`);
  if (!(temperature > 0 && Number.isFinite(temperature)))
    throw new RangeError(`The temperature must be a positive number, not ${temperature}.`);
  const outputs = scoped(() => {
    const lengths = tf.maximum(tf.norm(projections, 2, 1, true), MIN_LENGTH);
    const units = tf.div(projections, lengths);
    const partners = swapHalves(units);
    const similarities = tf.sum(tf.mul(units, partners), 1, true);

    const blockRows = Math.max(1, Math.floor(maxBlockCells / viewCount));
    const logSums: Tensor[] = [];
    const rowGradients: Tensor[] = [];
    let columnGradients: Tensor | undefined;
    for (let start = 0; start < viewCount; start += blockRows) {
      const block = gradientsOfRows(units, start, Math.min(blockRows, viewCount - start), temperature, decoupled);
      logSums.push(block.logSums);
      rowGradients.push(block.rowGradients);
      const before = columnGradients;
      columnGradients = before === undefined ? block.columnGradients : tf.add(before, block.columnGradients);
      if (before !== undefined) tf.dispose([before, block.columnGradients]);
    }
    if (columnGradients === undefined) throw new Error('A batch without rows.');
    // log-sum-exp minus the partner's logit.
    const rowLosses = tf.sub(concatRows(logSums), tf.div(similarities, temperature));

    // d loss / d logit = (softmax - partner) / 2N. Each unit vector is once the row and once the column of a
    // similarity, so both gradients count, and its partner counts twice.
    const gradients = tf.add(concatRows(rowGradients), columnGradients);
    const toUnits = tf.div(tf.sub(gradients, tf.mul(partners, 2)), temperature * viewCount);
    // The gradient of the division by length keeps only the component orthogonal to the unit vector.
    const along = tf.sum(tf.mul(toUnits, units), 1, true);
    const gradient = tf.div(tf.sub(toUnits, tf.mul(units, along)), lengths);
    return { loss: tf.mean(rowLosses), gradient, positiveSimilarity: tf.mean(similarities) };
  });
  return { ...outputs, gradient: asRank2(outputs.gradient) };
}

interface BlockGradients {
  /** [rows, 1]: the log of the sum of exponentials of each row's logits, without those that are excluded. */
  readonly logSums: Tensor;
  /**
   * [rows, P]: softmax times unit vectors, the contribution of all other rows to the gradient of each of these rows.
   */
  readonly rowGradients: Tensor;
  /** [2N, P]: the contribution of these rows to the gradient of all others. */
  readonly columnGradients: Tensor;
}

/** Compares one block of rows with all rows; its matrices are freed before the next block begins. */
function gradientsOfRows(
  units: Tensor,
  start: number,
  rowCount: number,
  temperature: number,
  decoupled: boolean,
): BlockGradients {
  const [viewCount = 0, width = 0] = units.shape;
  return scoped(() => {
    const rows = tf.slice(units, [start, 0], [rowCount, width]);
    const numbers = tf.range(start, start + rowCount, 1, 'int32');
    const excluding = (logits: Tensor, columns: Tensor): Tensor =>
      tf.add(logits, tf.oneHot(columns, viewCount, EXCLUDED, 0, 'float32'));
    const others = excluding(tf.div(multiplyMatrices(rows, units, { transposeRight: true }), temperature), numbers);
    const partners = (): Tensor =>
      tf.mod(tf.add(numbers, tf.scalar(viewCount / 2, 'int32')), tf.scalar(viewCount, 'int32'));
    const logits = decoupled ? excluding(others, partners()) : others;
    const largest = tf.max(logits, 1, true);
    const exponentials = tf.exp(tf.sub(logits, largest));
    const sums = tf.sum(exponentials, 1, true);
    const softmax = tf.div(exponentials, sums);
    return {
      logSums: tf.add(tf.log(sums), largest),
      rowGradients: multiplyMatrices(softmax, units),
      columnGradients: multiplyMatrices(softmax, rows, { transposeLeft: true }),
    };
  });
}

function concatRows(blocks: readonly Tensor[]): Tensor {
  const [first] = blocks;
  return blocks.length === 1 && first !== undefined ? first : tf.concat([...blocks], 0);
}

/** Puts rows N..2N-1 before rows 0..N-1, so that each row is aligned with its partner. */
function swapHalves(rows: Tensor): Tensor {
  const [first, second] = tf.split(rows, 2, 0);
  if (first === undefined || second === undefined) throw new Error('Splitting rows in two gave too few parts.');
  return tf.concat([second, first], 0);
}
