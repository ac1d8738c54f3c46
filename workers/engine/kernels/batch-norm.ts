/**
 * Batch normalisation over N, H, W of NHWC images (Ioffe and Szegedy 2015, arXiv:1502.03167), as PyTorch's BatchNorm2d.
 * Images may be bfloat16; scale, offset and statistics are float32.
 */
import { asRank4, tf } from '../tensorflow.ts';
import type { Tensor, Tensor4D } from '../tensorflow.ts';
import { reluGradient } from './elementwise.ts';
import { fusedBatchNorm, fusedBatchNormGradient } from './fused-batch-norm.ts';
import type { Activation, BatchNormState } from './fused-batch-norm.ts';
import { hasOwnBatchNorm, ownBatchNorm, ownBatchNormGradient } from './own-batch-norm.ts';
import { areOwnOpsFaster } from './own-ops.ts';

export type { Activation, BatchNormState };

export interface BatchNormTrace {
  readonly output: Tensor4D;
  readonly batchMean: Tensor;
  readonly batchVariance: Tensor;
  /** Additional tensors that TensorFlow's gradient needs; our own gradient needs none. */
  readonly reserve: Tensor | undefined;
  /** The running statistics after this batch; the variance is the unbiased one. */
  readonly nextRunningMean: Tensor;
  readonly nextRunningVariance: Tensor;
}

/**
 * Normalises by the batch's own statistics, then applies a ReLU when asked: images [N, H, W, C] to the same shape. The
 * state is not changed.
 */
export function batchNormTraining(images: Tensor4D, state: BatchNormState, activation: Activation): BatchNormTrace {
  const outputs =
    areOwnOpsFaster() && hasOwnBatchNorm(images)
      ? ownBatchNorm(images, state, activation)
      : fusedBatchNorm(images, state, activation, true);
  const [output, nextRunningMean, nextRunningVariance, batchMean, batchVariance, reserve] = outputs;
  if (!output || !nextRunningMean || !nextRunningVariance || !batchMean || !batchVariance)
    throw new Error('Batch norm gave too few outputs.');
  return { output: asRank4(output), nextRunningMean, nextRunningVariance, batchMean, batchVariance, reserve };
}

/** Normalises by the running statistics without keeping anything for a gradient, then applies a ReLU when asked. */
export function batchNormInference(images: Tensor4D, state: BatchNormState, activation: Activation): Tensor4D {
  const [output, ...others] = fusedBatchNorm(images, state, activation, false);
  if (!output) throw new Error('Batch norm gave no output.');
  tf.dispose(others);
  return asRank4(output);
}

export interface BatchNormGradients {
  readonly images: Tensor4D;
  readonly scale: Tensor;
  readonly offset: Tensor;
}

/**
 * The gradients of `batchNormTraining`; `outputGradient` is the gradient of its output, after the ReLU if there is one.
 */
export function batchNormGradient(
  images: Tensor4D,
  scale: Tensor,
  trace: BatchNormTrace,
  activation: Activation,
  outputGradient: Tensor4D,
): BatchNormGradients {
  const [imagesGradient, scaleGradient, offsetGradient, ...others] = runGradient(
    images,
    scale,
    trace,
    activation,
    outputGradient,
  );
  if (!imagesGradient || !scaleGradient || !offsetGradient)
    throw new Error('The gradient of batch norm gave too few outputs.');
  tf.dispose(others);
  return { images: asRank4(imagesGradient), scale: scaleGradient, offset: offsetGradient };
}

function runGradient(
  images: Tensor4D,
  scale: Tensor,
  { output, batchMean, batchVariance, reserve }: BatchNormTrace,
  activation: Activation,
  outputGradient: Tensor4D,
): Tensor[] {
  if (reserve === undefined)
    return ownBatchNormGradient(images, output, scale, batchMean, batchVariance, outputGradient, activation);
  if (activation === 'NONE')
    return fusedBatchNormGradient(images, scale, batchMean, batchVariance, reserve, outputGradient);
  const beforeRelu = reluGradient(outputGradient, output);
  const gradients = fusedBatchNormGradient(images, scale, batchMean, batchVariance, reserve, beforeRelu);
  beforeRelu.dispose();
  return gradients;
}

/** Frees the tensors kept for the gradient; the caller owns the next running statistics. */
export function disposeBatchNorm({ output, batchMean, batchVariance, reserve }: BatchNormTrace): void {
  tf.dispose([output, batchMean, batchVariance, ...(reserve === undefined ? [] : [reserve])]);
}
