/** Symmetric padding as in PyTorch, converted to the forms for which TensorFlow has fast kernels. */
import { asRank4, runOp, tf, typeAttr, typeOf } from '../tensorflow.ts';
import type { Tensor4D } from '../tensorflow.ts';

/** A square sliding window: side and stride in pixels, and how many pixels are added on every side of the image. */
export interface Window {
  readonly size: number;
  readonly stride: number;
  readonly padding: number;
}

/** The output side for an input side, as PyTorch computes it. Throws RangeError if the window does not fit at all. */
export function outputSide(window: Window, inputSide: number): number {
  const side = Math.floor((inputSide + 2 * window.padding - window.size) / window.stride) + 1;
  if (side < 1)
    throw new RangeError(`A ${window.size}x${window.size} window does not fit an image side of ${inputSide} px.`);
  return side;
}

/** How many padding pixels are actually read before the first and after the last row (or column). */
function sidePadding(window: Window, inputSide: number): readonly [number, number] {
  const reach = (outputSide(window, inputSide) - 1) * window.stride + window.size;
  return [window.padding, Math.max(0, reach - inputSide - window.padding)];
}

/** TensorFlow's SAME splits the missing pixels evenly and puts an odd one at the end. */
function samePadding(window: Window, inputSide: number): readonly [number, number] {
  const missing = Math.max(0, (Math.ceil(inputSide / window.stride) - 1) * window.stride + window.size - inputSide);
  return [Math.floor(missing / 2), Math.ceil(missing / 2)];
}

/** Rows and columns to add: [[top, bottom], [left, right]] in pixels. */
export type SpatialPadding = readonly [readonly [number, number], readonly [number, number]];

/**
 * How to run a window over an image of `height` x `width` px: with one of TensorFlow's named paddings, or by padding
 * first and then using VALID.
 *
 * TensorFlow's own `EXPLICIT` is not a third way: its gradients have no oneDNN kernel and were seen up to forty times
 * slower.
 */
export type PaddingPlan =
  | { readonly kind: 'NAMED'; readonly name: 'SAME' | 'VALID' }
  | { readonly kind: 'PAD_FIRST'; readonly pixels: SpatialPadding };

export function planPadding(window: Window, height: number, width: number): PaddingPlan {
  const rows = sidePadding(window, height);
  const columns = sidePadding(window, width);
  const equal = (left: readonly [number, number], right: readonly [number, number]): boolean =>
    left[0] === right[0] && left[1] === right[1];
  if ([...rows, ...columns].every((pixels) => pixels === 0)) return { kind: 'NAMED', name: 'VALID' };
  if (equal(rows, samePadding(window, height)) && equal(columns, samePadding(window, width)))
    return { kind: 'NAMED', name: 'SAME' };
  return { kind: 'PAD_FIRST', pixels: [rows, columns] };
}

/** Adds zeros around images [N, H, W, C]. */
export function padImages(images: Tensor4D, pixels: SpatialPadding): Tensor4D {
  const paddings = tf.tensor2d([[0, 0], [...pixels[0]], [...pixels[1]], [0, 0]], [4, 2], 'int32');
  const padded = runOp('Pad', [typeOf(images), typeAttr('Tpaddings', 'int32')], [images, paddings]);
  paddings.dispose();
  return asRank4(padded);
}

/** The gradient of `padImages`: cuts the added pixels off again, back to `shape`. */
export function unpadImages(
  padded: Tensor4D,
  pixels: SpatialPadding,
  shape: readonly [number, number, number, number],
): Tensor4D {
  const begin = tf.tensor1d([0, pixels[0][0], pixels[1][0], 0], 'int32');
  const size = tf.tensor1d([...shape], 'int32');
  const cut = runOp('Slice', [typeOf(padded), typeAttr('Index', 'int32')], [padded, begin, size]);
  tf.dispose([begin, size]);
  return asRank4(cut);
}
