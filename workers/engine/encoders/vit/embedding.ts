/**
 * From images to the first tokens: each patch by one linear map, with the class token and the registers in front of the
 * patches, plus position embeddings, which are brought to the grid of the images.
 */
import { positionMatrix } from '../../../../src/formats/encoders/vit/positions.ts';
import {
  prefixCountOf,
  prefixPositionsOf,
  type VitSpecification,
} from '../../../../src/formats/encoders/vit/specification.ts';
import { multiplyMatrices } from '../../kernels/elementwise.ts';
import { setGradient, type Parameter } from '../../models/parameter.ts';
import { asRank2, asRank3, scoped, tf, type Tensor, type Tensor2D, type Tensor4D } from '../../tensorflow.ts';
import type { TokenShape } from './layers.ts';

export interface EmbeddingParameters {
  /** HWIO on the device. */
  readonly filter: Parameter;
  readonly bias: Parameter | undefined;
  readonly classToken: Parameter | undefined;
  readonly registers: Parameter | undefined;
  readonly positions: Parameter;
}

interface Grid {
  readonly rows: number;
  readonly columns: number;
}

export class TokenEmbedding {
  readonly #specification: VitSpecification;
  readonly #parameters: EmbeddingParameters;
  /** `[rows x columns, gridSize x gridSize]` for the grid of the last images; undefined where that is `pos_embed`'s. */
  #resampling: (Grid & { readonly matrix: Tensor2D | undefined }) | undefined;
  #trace: (Grid & { readonly patches: Tensor2D }) | undefined;

  constructor(specification: VitSpecification, parameters: EmbeddingParameters) {
    this.#specification = specification;
    this.#parameters = parameters;
  }

  /** @throws RangeError unless images are `[N, H, W, 3]` with sides of whole patches. */
  shapeOf(images: Tensor4D): TokenShape & Grid {
    const { patchSizePx } = this.#specification;
    const [imageCount, height, width, channels] = images.shape;
    if (channels !== 3 || height % patchSizePx !== 0 || width % patchSizePx !== 0 || height * width === 0)
      throw new RangeError(
        `Images must be [N, H, W, 3] with sides of a multiple of ${patchSizePx} px, not [${images.shape.join(', ')}].`,
      );
    const [rows, columns] = [height / patchSizePx, width / patchSizePx];
    return { imageCount, tokenCount: prefixCountOf(this.#specification) + rows * columns, rows, columns };
  }

  /** `[N, H, W, 3]` to tokens `[N x T, W]`. */
  infer(images: Tensor4D): Tensor2D {
    return this.#embed(images, false);
  }

  forward(images: Tensor4D): Tensor2D {
    this.discard();
    return this.#embed(images, true);
  }

  #embed(images: Tensor4D, keepsPatches: boolean): Tensor2D {
    const { imageCount, rows, columns } = this.shapeOf(images);
    const { width } = this.#specification;
    const { filter, bias } = this.#parameters;
    const patches = this.#patchesOf(images);
    const tokens = scoped(() => {
      const product = multiplyMatrices(patches, tf.reshape(filter.value, [-1, width]));
      const listed = asRank3(
        tf.reshape(bias === undefined ? product : tf.add(product, bias.value), [imageCount, rows * columns, width]),
      );
      const padded = tf.pad3d(listed, [
        [0, 0],
        [prefixCountOf(this.#specification), 0],
        [0, 0],
      ]);
      return asRank2(tf.reshape(tf.add(padded, this.#offsets({ rows, columns })), [-1, width]));
    });
    if (keepsPatches) this.#trace = { patches, rows, columns };
    else patches.dispose();
    return tokens;
  }

  /** The pixels of each patch, `[N x rows x columns, patch x patch x 3]`. */
  #patchesOf(images: Tensor4D): Tensor2D {
    const { patchSizePx: side } = this.#specification;
    const { imageCount, rows, columns } = this.shapeOf(images);
    return scoped(() => {
      const divided = tf.reshape(images, [imageCount, rows, side, columns, side * 3]);
      return asRank2(tf.reshape(tf.transpose(divided, [0, 1, 3, 2, 4]), [-1, side * side * 3]));
    });
  }

  /** What is added to the tokens of every image, `[T, W]`. Call it in a scope. */
  #offsets(grid: Grid): Tensor {
    const { classToken, registers, positions } = this.#parameters;
    const { width } = this.#specification;
    const prefixPositions = prefixPositionsOf(this.#specification);
    const listed = tf.reshape(positions.value, [-1, width]);
    const prefixes = [classToken, registers].flatMap((token) =>
      token === undefined ? [] : [tf.reshape(token.value, [-1, width])],
    );
    const own = tf.slice(listed, [prefixPositions, 0], [-1, width]);
    const matrix = this.#matrixFor(grid);
    const onGrid = matrix === undefined ? own : multiplyMatrices(matrix, own);
    if (prefixes.length === 0) return onGrid;
    const prefix = tf.concat(prefixes, 0);
    const placed = tf.pad(tf.slice(listed, [0, 0], [prefixPositions, width]), [
      [0, prefixCountOf(this.#specification) - prefixPositions],
      [0, 0],
    ]);
    return tf.concat([tf.add(prefix, placed), onGrid], 0);
  }

  #matrixFor({ rows, columns }: Grid): Tensor2D | undefined {
    const { gridSize } = this.#specification;
    if (this.#resampling?.rows === rows && this.#resampling.columns === columns) return this.#resampling.matrix;
    this.#resampling?.matrix?.dispose();
    const matrix =
      rows === gridSize && columns === gridSize
        ? undefined
        : // Kept, because it is used again after the caller's scope has ended.
          tf.keep(
            tf.tensor2d(positionMatrix(this.#specification, rows, columns), [rows * columns, gridSize * gridSize]),
          );
    this.#resampling = { rows, columns, matrix };
    return matrix;
  }

  /** Sets the gradients of the parameters from that of the tokens `[N x T, W]`. */
  backward(tokenGradient: Tensor2D): void {
    if (this.#trace === undefined) throw new Error('Vision transformer: backward before forward.');
    const { patches, ...grid } = this.#trace;
    const { filter, bias, classToken, registers, positions } = this.#parameters;
    const { width, hasClassToken, registerCount } = this.#specification;
    const prefixCount = prefixCountOf(this.#specification);
    const tokenCount = prefixCount + grid.rows * grid.columns;
    const images = asRank3(scoped(() => tf.reshape(tokenGradient, [-1, tokenCount, width])));
    const offsets = tf.sum(images, 0);
    const ofPatches = asRank2(
      scoped(() => tf.reshape(tf.slice(images, [0, prefixCount, 0], [-1, -1, width]), [-1, width])),
    );
    setGradient(
      filter,
      scoped(() => tf.reshape(multiplyMatrices(patches, ofPatches, { transposeLeft: true }), [...filter.value.shape])),
    );
    if (bias !== undefined) setGradient(bias, tf.sum(ofPatches, 0));
    const rowsOf = (start: number, count: number, shape: readonly number[]): Tensor =>
      scoped(() => tf.reshape(tf.slice(offsets, [start, 0], [count, width]), [...shape]));
    if (classToken !== undefined) setGradient(classToken, rowsOf(0, 1, classToken.value.shape));
    if (registers !== undefined)
      setGradient(registers, rowsOf(hasClassToken ? 1 : 0, registerCount, registers.value.shape));
    setGradient(
      positions,
      scoped(() => {
        const matrix = this.#matrixFor(grid);
        const onGrid = tf.slice(offsets, [prefixCount, 0], [-1, width]);
        const own = matrix === undefined ? onGrid : multiplyMatrices(matrix, onGrid, { transposeLeft: true });
        const prefix = tf.slice(offsets, [0, 0], [prefixPositionsOf(this.#specification), width]);
        return tf.reshape(tf.concat([prefix, own], 0), [...positions.value.shape]);
      }),
    );
    tf.dispose([images, offsets, ofPatches]);
    this.discard();
  }

  discard(): void {
    this.#trace?.patches.dispose();
    this.#trace = undefined;
  }

  /** Frees everything but the parameters. */
  dispose(): void {
    this.discard();
    this.#resampling?.matrix?.dispose();
    this.#resampling = undefined;
  }
}
