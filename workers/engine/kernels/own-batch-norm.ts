/** Batch norm in training, the ReLU that follows it, and their gradient, by our own ops. */
import { boolAttr, floatAttr, floatDtypeOf, runOps } from '../tensorflow.ts';
import type { OpAttr, Tensor, Tensor4D } from '../tensorflow.ts';
import { BATCH_NORM_EPSILON, BATCH_NORM_MOMENTUM } from './fused-batch-norm.ts';
import type { Activation, BatchNormState } from './fused-batch-norm.ts';
import { hasOwnOps } from './own-ops.ts';

const CHANNELS_MULTIPLE = 8;

/** Whether the ops support these images [N, H, W, C]. */
export function hasOwnBatchNorm(images: Tensor4D): boolean {
  return (
    images.shape[3] % CHANNELS_MULTIPLE === 0 && images.size > 0 && floatDtypeOf(images) === 'float32' && hasOwnOps()
  );
}

function attrs(activation: Activation): OpAttr[] {
  return [boolAttr('is_rectified', activation === 'RELU'), floatAttr('epsilon', BATCH_NORM_EPSILON)];
}

/**
 * Five tensors: the output, the running mean and variance after this batch, and the mean and (biased) variance of the
 * batch.
 */
export function ownBatchNorm(images: Tensor4D, state: BatchNormState, activation: Activation): Tensor[] {
  return runOps(
    'ParaffinBatchNorm',
    [...attrs(activation), floatAttr('momentum', BATCH_NORM_MOMENTUM)],
    [images, state.scale, state.offset, state.runningMean, state.runningVariance],
    5,
  );
}

/**
 * Three tensors: the gradients of the images, the scale and the offset. `output` is used only if a ReLU produced it.
 */
export function ownBatchNormGradient(
  images: Tensor4D,
  output: Tensor,
  scale: Tensor,
  mean: Tensor,
  variance: Tensor,
  outputGradient: Tensor,
  activation: Activation,
): Tensor[] {
  return runOps(
    'ParaffinBatchNormGradient',
    attrs(activation),
    [outputGradient, images, activation === 'RELU' ? output : outputGradient, scale, mean, variance],
    3,
  );
}
