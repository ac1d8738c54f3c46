/** Batch norm by TensorFlow's own ops. */
import { boolAttr, floatAttr, intAttr, runOps, stringAttr, typeAttr, typeOf } from '../tensorflow.ts';
import type { OpAttr, Tensor, Tensor4D } from '../tensorflow.ts';
import { relu } from './elementwise.ts';
import { hasOneDnn, ONEDNN_KERNEL } from './onednn.ts';

export const BATCH_NORM_EPSILON = 1e-5;
/** The weight of the batch's statistics in each update of the running ones. */
export const BATCH_NORM_MOMENTUM = 0.1;

/** The activation that directly follows. */
export type Activation = 'NONE' | 'RELU';

/** Scale (gamma), offset (beta) and running statistics, each [C]. */
export interface BatchNormState {
  readonly scale: Tensor;
  readonly offset: Tensor;
  readonly runningMean: Tensor;
  readonly runningVariance: Tensor;
}

function batchNormAttrs(images: Tensor4D, isTraining: boolean): OpAttr[] {
  return [
    typeOf(images),
    typeAttr('U', 'float32'),
    floatAttr('epsilon', BATCH_NORM_EPSILON),
    stringAttr('data_format', 'NHWC'),
    boolAttr('is_training', isTraining),
  ];
}

/**
 * Returns six tensors: the output, the running mean and variance after this batch, the mean and variance of the batch,
 * and a tensor that the gradient needs.
 */
export function fusedBatchNorm(
  images: Tensor4D,
  state: BatchNormState,
  activation: Activation,
  isTraining: boolean,
): Tensor[] {
  const attrs = [
    ...batchNormAttrs(images, isTraining),
    floatAttr('exponential_avg_factor', isTraining ? BATCH_NORM_MOMENTUM : 1),
  ];
  const inputs = [images, state.scale, state.offset, state.runningMean, state.runningVariance];
  if (activation === 'RELU' && hasOneDnn()) {
    const fused = [...attrs, intAttr('num_side_inputs', 0), stringAttr('activation_mode', 'Relu'), ONEDNN_KERNEL];
    return runOps('_MklNativeFusedBatchNormEx', fused, inputs, 6);
  }
  const outputs = runOps('FusedBatchNormV3', attrs, inputs, 6);
  const [normalised, ...others] = outputs;
  if (activation === 'NONE' || normalised === undefined) return outputs;
  const rectified = relu(normalised);
  normalised.dispose();
  return [rectified, ...others];
}

/**
 * The gradients of the images, the scale and the offset, and two more tensors; `outputGradient` is the gradient of the
 * normalised images, before any ReLU.
 */
export function fusedBatchNormGradient(
  images: Tensor4D,
  scale: Tensor,
  mean: Tensor,
  variance: Tensor,
  reserve: Tensor,
  outputGradient: Tensor,
): Tensor[] {
  return runOps(
    'FusedBatchNormGradV3',
    batchNormAttrs(images, true),
    [outputGradient, images, scale, mean, variance, reserve],
    5,
  );
}
