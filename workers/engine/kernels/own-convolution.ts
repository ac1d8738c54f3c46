/**
 * Convolution and its gradients by our own ops: by Winograd tiles for 3x3 windows at stride 1, by patches otherwise.
 */
import { asRank4, boolAttr, floatAttr, floatDtypeOf, intAttr, runOp, tf } from '../tensorflow.ts';
import type { OpAttr, Tensor, Tensor4D } from '../tensorflow.ts';
import { BATCH_NORM_EPSILON } from './fused-batch-norm.ts';
import type { Activation, BatchNormState } from './fused-batch-norm.ts';
import { hasOwnOps } from './own-ops.ts';
import type { Window } from './padding.ts';

const CHANNELS_MULTIPLE = 16;

function windowAttrs({ stride, padding }: Window): OpAttr[] {
  return [intAttr('stride', stride), intAttr('padding', padding)];
}

/** Whether the ops support this convolution of images, or the gradient of its filter [k, k, I, O]. */
export function hasOwnConvolution(images: Tensor4D, filterShape: readonly number[]): boolean {
  return (filterShape[3] ?? 0) % CHANNELS_MULTIPLE === 0 && floatDtypeOf(images) === 'float32' && hasOwnOps();
}

/** Whether they also support the gradient with respect to the images. */
export function hasOwnInputGradient(outputGradient: Tensor4D, filterShape: readonly number[]): boolean {
  return (filterShape[2] ?? 0) % CHANNELS_MULTIPLE === 0 && hasOwnConvolution(outputGradient, filterShape);
}

/** [N, H, W, I] with filter [k, k, I, O] to [N, H', W', O]. */
export function ownConvolution(images: Tensor4D, filter: Tensor, window: Window): Tensor4D {
  return asRank4(runOp('ParaffinConvolution', windowAttrs(window), [images, filter]));
}

/**
 * The convolution normalised by the running statistics, plus `addend` (of the output's shape), then rectified if the
 * activation is a ReLU: one pass over the output instead of four.
 */
export function ownNormalisedConvolution(
  images: Tensor4D,
  filter: Tensor,
  window: Window,
  { scale, offset, runningMean, runningVariance }: BatchNormState,
  activation: Activation,
  addend?: Tensor4D,
): Tensor4D {
  const attrs = [
    ...windowAttrs(window),
    boolAttr('is_rectified', activation === 'RELU'),
    floatAttr('epsilon', BATCH_NORM_EPSILON),
  ];
  // An op's inputs are not optional: an empty vector means that nothing is added.
  const added: Tensor = addend ?? tf.tensor1d([]);
  const inputs = [images, filter, scale, offset, runningMean, runningVariance, added];
  const output = runOp('ParaffinNormalisedConvolution', attrs, inputs);
  if (addend === undefined) added.dispose();
  return asRank4(output);
}

/** The gradient with respect to the images, of shape `imagesShape`. */
export function ownInputGradient(
  imagesShape: Tensor4D['shape'],
  filter: Tensor,
  outputGradient: Tensor4D,
  window: Window,
): Tensor4D {
  const [, height, width] = imagesShape;
  return asRank4(
    runOp(
      'ParaffinConvolutionInputGradient',
      [...windowAttrs(window), intAttr('height', height), intAttr('width', width)],
      [filter, outputGradient],
    ),
  );
}

/** The gradient with respect to the filter, [k, k, I, O]. */
export function ownFilterGradient(images: Tensor4D, outputGradient: Tensor4D, window: Window): Tensor4D {
  return asRank4(
    runOp(
      'ParaffinConvolutionFilterGradient',
      [...windowAttrs(window), intAttr('side', window.size)],
      [images, outputGradient],
    ),
  );
}
